/*
 * How far the snapshot is of the table that has a name, as the key-value bucket has it: durable before the frame that
 * leads to it is acknowledged, so that a publisher that dies in any phase goes on where it was. A table without an entry
 * never had a snapshot.
 */
#ifndef SIPHON_TABLE_STATE_H
#define SIPHON_TABLE_STATE_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "publisher/table/visibility.h"
#include "reader/stored_message.h"
#include "ring/state_machine.h"

namespace siphon {

enum class HandOffPhase {
	Snapshot,  /* rows are published, changes held */
	CatchUp,   /* the rows are complete; held changes are published behind them, new ones still held */
	Streaming, /* changes are published as they come */
	Removed    /* nothing of this generation is published under the name any more */
};

/* Of one generation of a table under a name; HandOff::set_state() holds them to these. */
constexpr Transition<HandOffPhase> kHandOffTransitions[] = {
	{{}, HandOffPhase::Snapshot, "a snapshot begins"},
	{{}, HandOffPhase::Streaming, "a change of a table that was added without its rows, or has got the name"},
	{{}, HandOffPhase::Removed, "a table without a snapshot was dropped, renamed or removed"},
	{HandOffPhase::Snapshot, HandOffPhase::CatchUp, "the end of the snapshot is stored"},
	{HandOffPhase::Snapshot, HandOffPhase::Removed, "the table was dropped, renamed or removed"},
	{HandOffPhase::CatchUp, HandOffPhase::Streaming, "all held changes are published"},
	{HandOffPhase::CatchUp, HandOffPhase::Removed, "the table was removed"},
	{HandOffPhase::Streaming, HandOffPhase::CatchUp, "a change that the rows may show already"},
	{HandOffPhase::Streaming, HandOffPhase::Removed, "the table was dropped, renamed or removed"},
	{HandOffPhase::Removed, HandOffPhase::Streaming, "the table has got its name back"},
};

struct TableState
{
	std::string schema;
	std::string table;
	uint32_t oid = 0;
	uint32_t generation = 0;
	/* The LSN from which on the table has the name that another had before, or has left it; 0: neither. */
	uint64_t since = 0;
	bool shared = false; /* what is on its subjects may be of a table that has another name now */
	HandOffPhase phase = HandOffPhase::Snapshot;
	/* The held messages of the generation that are still to be moved stand behind this place of the spill. */
	Place behind = kNoPlace;
	/* The generation's rows stand behind this place of the log. */
	Place rows_behind = kNoPlace;
	/* Its changes are held in the stream itself, by a publisher of a release before 1.3. */
	bool former_layout = false;
	/* From the phase CatchUp on, and in Streaming too: changes that were decoded late may be shown by the rows. */
	Visibility snapshot;

	/* Changes are held. */
	bool holds() const { return phase == HandOffPhase::Snapshot || phase == HandOffPhase::CatchUp; }
	bool has_snapshot() const { return phase == HandOffPhase::CatchUp || phase == HandOffPhase::Streaming; }

	std::string to_json() const;
	/* nullopt: not written by a publisher. */
	static std::optional<TableState> parse(std::string_view json);

	bool operator==(const TableState &) const = default;
};

} // namespace siphon

#endif
