/* See table_state.h. */
#include "publisher/table/table_state.h"

#include <charconv>
#include <limits>

#include <nlohmann/json.hpp>

#include "reader/subject.h"

namespace siphon {

using nlohmann::json;

/* As the state store has them; a catch-up was called so before. */
static constexpr const char *kPhaseNames[] = {"snapshot", "moving", "streaming", "removed"};
static constexpr int kPhases = 4;

std::string
TableState::to_json() const
{
	json value = {{"schema", schema},
				  {"table", table},
				  {"oid", oid},
				  {"generation", generation},
				  {"since", format_lsn(since)},
				  {"shared", shared},
				  {"phase", kPhaseNames[static_cast<int>(phase)]},
				  {"behind", behind},
				  {"rows_behind", rows_behind}};

	if (has_snapshot())
	{
		value["snapshot_lsn"] = format_lsn(snapshot.lsn);
		value["xmin"] = snapshot.xmin;
		value["xmax"] = snapshot.xmax;
		value["in_progress"] = snapshot.in_progress;
	}
	/* A name that isn't UTF-8, in a database of encoding SQL_ASCII, is for people only. */
	return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

/* The library would cut a number to size, or take one with a fraction. False: it is none that we write. */
template <typename Number>
static bool
take_number(const json &value, Number *number)
{
	if (!value.is_number_unsigned() || value.get<uint64_t>() > std::numeric_limits<Number>::max())
		return false;
	*number = value.get<Number>();
	return true;
}

static bool
take_numbers(const json &values, std::vector<uint32_t> *numbers)
{
	for (const json &value : values)
	{
		if (!take_number(value, &numbers->emplace_back()))
			return false;
	}
	return values.is_array();
}

static bool
take_lsn(const std::string &text, uint64_t *lsn)
{
	const char *end = text.data() + text.size();
	auto result = std::from_chars(text.data(), end, *lsn, 16);

	return result.ec == std::errc() && result.ptr == end;
}

std::optional<TableState>
TableState::parse(std::string_view text)
{
	try
	{
		json value = json::parse(text);
		TableState state;
		std::string phase = value.at("phase");
		int number = 0;

		while (number < kPhases && phase != kPhaseNames[number])
			number++;
		if (number == kPhases)
			return std::nullopt;
		state.phase = static_cast<HandOffPhase>(number);
		state.schema = value.at("schema");
		state.table = value.at("table");
		state.shared = value.at("shared");
		if (!take_number(value.at("oid"), &state.oid) || !take_number(value.at("generation"), &state.generation) ||
			!take_lsn(value.at("since"), &state.since))
			return std::nullopt;
		/* Former releases wrote a place in the stream, as "from". */
		state.former_layout = !value.contains("behind") && state.holds();
		if (value.contains("behind") ? !take_number(value.at("behind"), &state.behind) ||
										   !take_number(value.at("rows_behind"), &state.rows_behind)
									 : !value.at("from").is_number_unsigned())
			return std::nullopt;
		if (!state.has_snapshot())
			return state;
		if (!take_lsn(value.at("snapshot_lsn"), &state.snapshot.lsn) ||
			!take_number(value.at("xmin"), &state.snapshot.xmin) ||
			!take_number(value.at("xmax"), &state.snapshot.xmax) ||
			!take_numbers(value.at("in_progress"), &state.snapshot.in_progress))
			return std::nullopt;
		state.snapshot.sort();
		return state;
	}
	catch (const json::exception &)
	{
		return std::nullopt;
	}
}

} // namespace siphon
