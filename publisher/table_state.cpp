/* See table_state.h. */
#include "table_state.h"

#include <charconv>

#include <nlohmann/json.hpp>

#include "subject.h"

namespace siphon {

using nlohmann::json;

static constexpr const char *kPhaseNames[] = {"snapshot", "moving", "streaming", "removed"};
static constexpr int kPhases = 4;

std::string
TableState::to_json() const
{
	json value = {{"schema", schema},
				  {"table", table},
				  {"oid", oid},
				  {"generation", generation},
				  {"phase", kPhaseNames[static_cast<int>(phase)]},
				  {"from", from}};

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
		state.phase = static_cast<TablePhase>(number);
		state.schema = value.at("schema");
		state.table = value.at("table");
		state.oid = value.at("oid");
		state.generation = value.at("generation");
		state.from = value.at("from");
		if (!state.has_snapshot())
			return state;

		std::string lsn = value.at("snapshot_lsn");

		if (std::from_chars(lsn.data(), lsn.data() + lsn.size(), state.snapshot.lsn, 16).ec != std::errc())
			return std::nullopt;
		state.snapshot.xmin = value.at("xmin");
		state.snapshot.xmax = value.at("xmax");
		state.snapshot.in_progress = value.at("in_progress").get<std::vector<uint32_t>>();
		state.snapshot.sort();
		return state;
	}
	catch (const json::exception &)
	{
		return std::nullopt;
	}
}

static void
append_key_token(std::string *key, std::string_view name)
{
	static constexpr char digits[] = "0123456789ABCDEF";

	for (char c : name)
	{
		unsigned char byte = static_cast<unsigned char>(c);

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-')
			*key += c;
		else
		{
			*key += '=';
			*key += digits[byte >> 4];
			*key += digits[byte & 15];
		}
	}
}

std::string
state_key(std::string_view schema, std::string_view table)
{
	std::string key;

	append_key_token(&key, schema);
	key += '.';
	append_key_token(&key, table);
	return key;
}

bool
is_state_key(std::string_view key)
{
	return key.find('.') != std::string_view::npos;
}

} // namespace siphon
