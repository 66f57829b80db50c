/*
 * The history record: says which unbroken sequence of events a decoder's ring continues. It is the first record of each
 * such ring, and comes once more when the server goes over to another timeline. By it the publisher decides, before it
 * publishes anything, whether the stream is continued or begun, and refuses what would be neither: another database, a
 * copy of the server, a server that has lost what was published, a stream that has lost it.
 *
 * Like ring.h this is the definition of both sides and includes nothing of PostgreSQL. A ring stays on its machine, so
 * the record is the struct as it lies in memory.
 */
#ifndef SIPHON_HISTORY_H
#define SIPHON_HISTORY_H

#include <cstdint>

#include "checkpoint.h"

namespace siphon {

constexpr uint32_t kHistoryRings = 32;
constexpr uint32_t kHistoryTimelines = 32;

struct HistoryRecord
{
	/* The owner: PostgreSQL's system identifier, which a copy of a server has as well, and the database's OID there. */
	uint64_t system_identifier;
	uint32_t database;
	/* Not 0: an operator wished that this history takes the stream over from another owner. Until it is acknowledged. */
	uint32_t take_over;
	/*
	 * What the stream must hold: the newest checkpoint that is durable on the server, of an acknowledgement in this
	 * history. The slot was never confirmed past an acknowledgement whose checkpoint was not made durable before. All
	 * zero: nothing was acknowledged yet, by a publisher that gives checkpoints.
	 */
	Checkpoint checkpoint;
	/*
	 * Where the slot stood when this decoder began: transactions that commit before come no more. Some of those that
	 * come again can stand in front of the checkpoint's places as well as behind them: an acknowledgement reaches
	 * further than the last watermark that it covers, and the slot follows watermarks. What was published of them
	 * stands behind a watermark of a place up to here.
	 */
	uint64_t confirmed;
	/* The ID of the unbroken sequence of events, as the registry has it: resyncing the application starts a new one. */
	uint64_t history;
	/* JetStream has acknowledged something of it. */
	uint32_t acknowledged;
	/* Of the rings that came before this one in it, the oldest that may have been published from first. */
	uint32_t ring_id_count;
	uint64_t ring_ids[kHistoryRings];
	/* The server's timelines, the present one first, and where in the WAL each begins. */
	uint32_t timeline_count;
	uint32_t reserved;
	struct Timeline
	{
		uint64_t begin;
		uint32_t id;
		uint32_t reserved;
	} timelines[kHistoryTimelines];
};

} // namespace siphon

#endif
