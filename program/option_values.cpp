/* See option_values.h. */
#include "program/option_values.h"

#include <charconv>
#include <stdexcept>

namespace siphon {

/* Number and unit of "10s". */
static uint64_t
parse_number(const std::string &text, std::string *unit)
{
	uint64_t number;
	auto result = std::from_chars(text.data(), text.data() + text.size(), number);

	if (result.ec != std::errc())
		throw std::invalid_argument("\"" + text + "\" is not a number, with or without a unit");
	*unit = std::string(result.ptr, static_cast<size_t>(text.data() + text.size() - result.ptr));
	return number;
}

static uint64_t
scaled(const std::string &text, uint64_t number, uint64_t factor)
{
	if (number > static_cast<uint64_t>(INT64_MAX) / factor)
		throw std::invalid_argument("\"" + text + "\" is too large");
	return number * factor;
}

std::chrono::milliseconds
parse_duration(const std::string &text)
{
	static const std::pair<const char *, uint64_t> units[] = {
		{"ms", 1}, {"s", 1000}, {"", 1000}, {"min", 60000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
	};
	/* JetStream counts in nanoseconds, which must fit too. */
	constexpr uint64_t limit = INT64_MAX / 1000000;
	std::string unit;
	uint64_t number = parse_number(text, &unit);

	for (const auto &[name, factor] : units)
	{
		if (unit == name)
		{
			uint64_t result = scaled(text, number, factor);

			if (result > limit)
				throw std::invalid_argument("\"" + text + "\" is too large");
			return std::chrono::milliseconds(result);
		}
	}
	throw std::invalid_argument("\"" + text + "\" has no unit of time: ms, s, min, h, d");
}

uint64_t
parse_bytes(const std::string &text)
{
	static const std::pair<const char *, int> units[] = {
		{"", 0},     {"B", 0},   {"kB", 10},  {"KB", 10}, {"KiB", 10}, {"MB", 20},
		{"MiB", 20}, {"GB", 30}, {"GiB", 30}, {"TB", 40}, {"TiB", 40},
	};
	std::string unit;
	uint64_t number = parse_number(text, &unit);

	for (const auto &[name, shift] : units)
	{
		if (unit == name)
			return scaled(text, number, uint64_t{1} << shift);
	}
	throw std::invalid_argument("\"" + text + "\" has no unit of size: B, kB, MB, GB, TB");
}

void
split_listen(const std::string &text, std::string *host, int *port)
{
	size_t colon = text.rfind(':');
	unsigned number = 0;
	const char *end = text.data() + text.size();

	if (colon == std::string::npos || colon == 0)
		throw std::invalid_argument("\"" + text + "\" is not of the form host:port");

	auto result = std::from_chars(text.data() + colon + 1, end, number);

	if (result.ec != std::errc() || result.ptr != end || number > 65535)
		throw std::invalid_argument("\"" + text + "\" has no valid port");
	*host = text.substr(0, colon);
	if (host->size() > 2 && host->front() == '[' && host->back() == ']')
		*host = host->substr(1, host->size() - 2);
	*port = static_cast<int>(number);
}

int64_t
parse_integer(const std::string &text, int64_t low, int64_t high)
{
	int64_t number;
	auto result = std::from_chars(text.data(), text.data() + text.size(), number);

	if (result.ec != std::errc() || result.ptr != text.data() + text.size() || number < low || number > high)
		throw std::invalid_argument("\"" + text + "\" is not a number from " + std::to_string(low) + " to " +
									std::to_string(high));
	return number;
}

std::string
parse_choice(const std::string &text, std::initializer_list<const char *> choices)
{
	std::string list;

	for (const char *choice : choices)
	{
		if (text == choice)
			return text;
		list += (list.empty() ? "" : ", ") + std::string(choice);
	}
	throw std::invalid_argument("\"" + text + "\" is none of " + list);
}

} // namespace siphon
