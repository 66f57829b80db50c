/*
 * The hand-off from a table's snapshot to its changes: which phase each table is in, what that means for a frame, and
 * the moving of held changes. The rules, for a table's generation g:
 *
 *   snapshot   from the first frame of g on. SnapshotBegin goes to all partitions, then what is left of earlier
 *              generations is purged, unless some of it is of another table, which has another name now. Changes are held, also those that come before SnapshotBegin.
 *   moving     SnapshotEnd has gone to all partitions. A mover puts held changes behind it, others are still held. When
 *              little is left to move, the table's next changes wait in the ring, so that the mover catches up.
 *   streaming  nothing is held any more; changes go directly. One that was decoded so late that the rows may show it
 *              sends the table back to moving, where such changes are sorted out.
 *
 *   removed    the table is published no more, or has another name. What was held is purged, and so are its rows, if they
 *              are not complete; what is left of g is dropped. A table that was dropped comes to be removed in front of
 *              its DROP, which follows what its moving has to move.
 *
 * A new phase is durable before anything follows from it. Frames of generations before g are dropped.
 *
 * All that holds for the table that has a name. It gets it with its first frame behind the place at which the one before
 * it lost it, whatever their generations are; what is decoded once more, of a table that had the name before that, is
 * dropped.
 */
#ifndef SIPHON_HAND_OFF_H
#define SIPHON_HAND_OFF_H

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../src/ring.h"
#include "ledger.h"
#include "log.h"
#include "mover.h"
#include "queue.h"
#include "table_state.h"

namespace siphon {

/* What a frame is, and of which table. */
struct TableFrame
{
	std::string_view schema;
	std::string_view table;
	uint32_t oid;
	uint32_t generation;
	FrameKind kind;
	uint64_t lsn; /* of its first event, or where in the WAL its worker was */
};

class HandOff
{
public:
	using Clock = std::chrono::steady_clock;

	HandOff(const std::string &subject_root, int compression_level, Queue *queue, const Ledger *ledger)
		: root_(subject_root), compression_level_(compression_level), queue_(*queue), ledger_(*ledger)
	{
	}

	/*
	 * The log was read up to its end: its history begins behind `since`, these are its cursors, and the last message on
	 * each subject. Forgets what was under way. False with *why: not now.
	 */
	bool settle(const Cursors &cursors, uint64_t since, const std::vector<StoredMessage> &messages, std::string *why);
	/* A new history has begun behind this place: what was kept of tables before counts no more. */
	void forget(uint64_t since);

	enum class Route {
		Events,
		Held,
		Drop, /* of a generation that is over */
		Wait  /* ask again later */
	};
	/* Where to a frame of kind Changes, Held, Dropped or Snapshot goes, and the events in it from `first` on. */
	Route route(const TableFrame &table, bool first_of_record, const Position &first, Clock::time_point now);
	/* A message on the table's held subject is under way to this place. */
	void held_sent(const TableFrame &table, uint64_t sequence);
	/* The table's changes are held, and those from this place on are still to be moved. nullopt: they are not held. */
	std::optional<uint64_t> held_from(const TableFrame &table) const;
	/* The frame is of a generation that is over, or of a table that does not have the name any more. */
	bool stale(const TableFrame &table) const;

	/* These three are repeated until they are true. Before SnapshotBegin is published: */
	bool begin(const TableFrame &table, Clock::time_point now);
	/* When it is stored on all partitions, the first at this place (0: not known). */
	bool begun(const TableFrame &table, uint64_t sequence, Clock::time_point now);
	/* When SnapshotEnd is stored on all partitions. True when all that was held is moved. */
	bool ended(const TableFrame &table, const Visibility &snapshot, Clock::time_point now);

	/* The table is not published any more; or not under this name, as it has another one. Repeated until they are true. */
	bool removed(const TableFrame &table, Clock::time_point now);
	bool left(const TableFrame &table, Clock::time_point now);

	/* Moves on. holding: a message to a held subject is prepared, or the rest of a record on one is to come. */
	void step(bool holding, Clock::time_point now);
	/* Appends the sources of what is being moved; good until the next step() or settle(). */
	void append_movers(std::vector<Source *> *sources);
	/* When to step() again at the latest. */
	Clock::time_point step_at(Clock::time_point latest) const;

	/* As schema.table: those whose changes are held. */
	std::vector<std::string> held_tables() const;

private:
	struct Entry
	{
		TableState state;
		uint64_t last_held = 0; /* sequence of the last held message, perhaps still under way; 0: none */
		bool closing = false;   /* changes wait, so that the mover catches up */
		uint64_t leftover = 0; /* it was removed when this message, which may be of it, was the stream's last; 0: done with */
		bool leftover_rows = false; /* and its rows were not complete */
		uint64_t ends_at = 0;   /* it is being removed, and no message of it takes this place or a later one; 0: it is not */
		std::unique_ptr<Mover> mover;
	};
	using Entries = std::map<std::string, Entry, std::less<>>;

	Entry *find(const TableFrame &table);
	const Entry *find(const TableFrame &table) const;
	bool load(std::string *why);
	bool find_late(const std::vector<StoredMessage> &messages, std::string *why);
	bool save(Entry *entry, const TableState &state, Clock::time_point now);
	bool take_name(const TableFrame &table, Clock::time_point now);
	bool begin_generation(const TableFrame &table, Clock::time_point now);
	bool begin_without_snapshot(Entry *entry, const TableFrame &table, Clock::time_point now);
	Route route_drop(const TableFrame &table, Clock::time_point now);
	bool end(Entry *entry, const TableFrame &table, Clock::time_point now, bool lives_on);
	bool purge_events(const TableState &state, uint64_t before, std::string *why);
	bool remove(Entry *entry, const TableFrame &table, uint64_t since, Clock::time_point now, bool lives_on);
	bool begin_moving(Entry *entry, TableState state, Clock::time_point now);
	void finish_moving(Entry *entry, Clock::time_point now);
	void purge_leftover(Entry *entry, Clock::time_point now);
	void retire(Entry *entry);
	bool not_now(const std::string &why, Clock::time_point now);
	std::string held(const TableState &state) const;
	/* No message that will be published takes an earlier place. */
	uint64_t next_possible() const { return ledger_.stored_sequence() + 1; }

	const std::string root_;
	const int compression_level_;
	Queue &queue_;
	const Ledger &ledger_;
	bool loaded_ = false;
	uint64_t since_ = 0; /* the stream's history begins behind it */
	WaitNotice notice_;
	Entries entries_;                             /* by schema, NUL, table */
	std::vector<std::unique_ptr<Mover>> retired_; /* that append_movers() may have named since the last step() */
	Clock::time_point retry_at_;                  /* nothing is asked of the queue before */
	bool begun_moving_ = false;                   /* since the last step() */
};

} // namespace siphon

#endif
