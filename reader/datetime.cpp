/* See datetime.h. */
#include "reader/datetime.h"

#include <cstdio>

namespace siphon {

static constexpr int64_t kSecond = 1000000;
static constexpr int64_t kDay = 86400 * kSecond;

struct CivilDate
{
	int64_t year; /* 0 is 1 BC */
	int month;
	int day;
};

/*
 * The Gregorian calendar, counted in eras of 400 years that begin on a 1st of March, so that the leap day
 * is the last one of its year.
 */
static CivilDate
civil_date(int64_t days)
{
	constexpr int64_t days_of_era = 146097;
	int64_t from_march_0000 = days + 719468;
	int64_t era = (from_march_0000 >= 0 ? from_march_0000 : from_march_0000 - days_of_era + 1) / days_of_era;
	int64_t day_of_era = from_march_0000 - era * days_of_era;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month_from_march = (5 * day_of_year + 2) / 153;
	int day = static_cast<int>(day_of_year - (153 * month_from_march + 2) / 5 + 1);
	int month = static_cast<int>(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);

	return {era * 400 + year_of_era + (month <= 2 ? 1 : 0), month, day};
}

static std::string
format_days(int64_t days, bool *before_christ)
{
	CivilDate date = civil_date(days);
	char buffer[48];

	*before_christ = date.year <= 0;
	snprintf(buffer, sizeof(buffer), "%04lld-%02d-%02d",
			 static_cast<long long>(*before_christ ? 1 - date.year : date.year), date.month, date.day);
	return buffer;
}

static std::string
format_time_of_day(int64_t microseconds, bool all_digits)
{
	char buffer[48];
	long long seconds = microseconds / kSecond;
	int length = snprintf(buffer, sizeof(buffer), "%02lld:%02lld:%02lld.%06lld", seconds / 3600, seconds / 60 % 60,
						  seconds % 60, static_cast<long long>(microseconds % kSecond));
	std::string text(buffer, static_cast<size_t>(length));

	if (!all_digits)
	{
		text.erase(text.find_last_not_of('0') + 1);
		if (text.back() == '.')
			text.pop_back();
	}
	return text;
}

std::string
format_date(int32_t days)
{
	bool before_christ;

	if (days == INT32_MAX)
		return "infinity";
	if (days == INT32_MIN)
		return "-infinity";

	std::string text = format_days(days, &before_christ);

	return before_christ ? text + " BC" : text;
}

std::string
format_time(int64_t microseconds)
{
	return format_time_of_day(microseconds, false);
}

std::string
format_timestamp(int64_t microseconds, bool utc, bool all_digits)
{
	bool before_christ;

	if (microseconds == INT64_MAX)
		return "infinity";
	if (microseconds == INT64_MIN)
		return "-infinity";

	int64_t days = microseconds / kDay;
	int64_t rest = microseconds % kDay;

	if (rest < 0)
	{
		days--;
		rest += kDay;
	}

	std::string text = format_days(days, &before_christ);

	text += 'T';
	text += format_time_of_day(rest, all_digits);
	if (utc)
		text += 'Z';
	return before_christ ? text + " BC" : text;
}

} // namespace siphon
