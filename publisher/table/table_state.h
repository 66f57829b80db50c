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

namespace siphon {

enum class TablePhase {
	Snapshot,  /* rows are published, changes held */
	Moving,    /* the rows are complete; held changes are moved behind them, new ones still held */
	Streaming, /* changes are published as they come */
	Removed    /* nothing of this generation is published under the name any more */
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
	TablePhase phase = TablePhase::Snapshot;
	/* The held messages of the generation that are still to be moved stand behind this place of the spill. */
	Place behind = kNoPlace;
	/* The generation's rows stand behind this place of the log. */
	Place rows_behind = kNoPlace;
	/* Its changes are held in the stream itself, by a publisher of a release before 1.3. */
	bool former_layout = false;
	/* From the phase Moving on, and in Streaming too: changes that were decoded late may be shown by the rows. */
	Visibility snapshot;

	/* Changes are held. */
	bool holds() const { return phase == TablePhase::Snapshot || phase == TablePhase::Moving; }
	bool has_snapshot() const { return phase == TablePhase::Moving || phase == TablePhase::Streaming; }

	std::string to_json() const;
	/* nullopt: not written by a publisher. */
	static std::optional<TableState> parse(std::string_view json);

	bool operator==(const TableState &) const = default;
};

} // namespace siphon

#endif
