/*
 * The hand-off from a table's snapshot to its changes: which phase each table is in, what that means for a frame, and
 * the catch-up of held changes. The rules, for a table's generation g, by its HandOffPhase:
 *
 *   Snapshot   from the first frame of g on. SnapshotBegin goes to all partitions, then what is left of earlier
 *              generations is purged, unless some of it is of another table, which has another name now. Changes are
 *              held, also those that come before SnapshotBegin.
 *   CatchUp    SnapshotEnd has gone to all partitions. A CatchUpSource publishes held changes behind it, others are still
 *              held. When few are left, the table's next changes wait in the ring, so that it catches up.
 *   Streaming  nothing is held any more; changes go directly. One that was decoded so late that the rows may show it
 *              sends the table back to CatchUp, where such changes are sorted out.
 *   Removed    the table is published no more, or has another name. What was held is purged, and so are its rows, if they
 *              are not complete; what is left of g is dropped. A table that was dropped comes to be removed behind its
 *              DROP if it streamed, otherwise in front of it, as the DROP follows what its catch-up has to publish.
 *
 * A new phase is durable before anything follows from it. Frames of generations before g are dropped. Where a table's
 * changes go - directly, or held - changes only when all of its messages that are under way are stored: so a publisher that
 * reads the ring's frames again sends each to the log that it was sent to before, whose cursor tells whether it is there.
 *
 * All that holds for the table that has a name. It gets it with its first frame behind the place at which the one before
 * it lost it, whatever their generations are; what is decoded once more, of a table that had the name before that, is
 * dropped.
 */
#ifndef SIPHON_HAND_OFF_H
#define SIPHON_HAND_OFF_H

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "program/log.h"
#include "publisher/messages/ledger.h"
#include "publisher/stream/stream.h"
#include "publisher/table/catch_up_source.h"
#include "publisher/table/table_state.h"
#include "ring/ring.h"

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

	HandOff(const std::string &subject_root, int compression_level, Stream *stream, const Ledger *ledger)
		: root_(subject_root), compression_level_(compression_level), stream_(*stream), ledger_(*ledger)
	{
	}

	/* What the state store holds, when it is read first. Fatal if a publisher of a former release has held changes. */
	void load(const std::map<std::string, std::string> &entries);
	/*
	 * The logs were read up to their ends; the log has these cursors. Forgets what was under way. False with *why: not
	 * yet.
	 */
	bool resume(const Cursors &cursors, std::string *why);
	/* What resume() has found out in part is too old. */
	void discard_partial_answers();
	/* A new history has begun: what was kept of tables before counts no more. */
	void forget();

	enum class Route {
		Events,
		Held,
		Drop, /* of a generation that is over */
		Wait  /* ask again later */
	};
	/*
	 * Where to a frame of kind Changes, Held, Dropped or Snapshot goes, and the events in it from `first` on. may_wait:
	 * nothing of its record is in a log, nor may be. calm: all that was read of its ring before is acknowledged.
	 */
	Route route(const TableFrame &table, bool may_wait, const Position &first, bool calm, Clock::time_point now);
	/* A message of the decoder for this table is under way to a log. */
	void on_sent(const TableFrame &table, Target target, uint64_t token);
	/* A frame of the table was read that one of the logs has already. */
	void note_skipped(const TableFrame &table);
	/* A message in the spill is stored. */
	void held_stored(uint64_t token, Place place);
	/* The table's changes are held, and those behind this place are still to be moved. nullopt: they are not held. */
	std::optional<Place> held_behind(const TableFrame &table) const;
	/* What comes under the table's name, of whichever table, is held. */
	bool holds(const TableFrame &table) const;
	/* The frame is of a generation that is over, or of a table that does not have the name any more. */
	bool is_stale(const TableFrame &table) const;

	/* These three are repeated until they are true. Before SnapshotBegin is published: */
	bool begin(const TableFrame &table, Clock::time_point now);
	/* When it is stored on all partitions, the first at this place (kNoPlace: not known). */
	bool on_snapshot_begin_stored(const TableFrame &table, Place first, Clock::time_point now);
	/* When SnapshotEnd is stored on all partitions. True when all that was held is moved. */
	bool on_snapshot_end_stored(const TableFrame &table, const Visibility &snapshot, Clock::time_point now);

	/* The table is not published any more; or not under this name, as it has another one. Repeated until they are true. */
	bool on_table_removed(const TableFrame &table, Clock::time_point now);
	bool on_table_renamed(const TableFrame &table, Clock::time_point now);
	/* Its DROP is stored. Likewise. */
	bool on_table_dropped(const TableFrame &table, Clock::time_point now);

	/*
	 * Moves on. holding: a message to a held subject is prepared, or the rest of a record on one is to come; or the decoder's
	 * ring is not read yet up to where it was read before.
	 */
	void step(bool holding, Clock::time_point now);
	/* Appends the sources of what is being moved; good until the next step() or resume(). */
	void append_catch_up_sources(std::vector<MessageSource *> *sources);
	/* When to step() again at the latest. */
	Clock::time_point step_at(Clock::time_point latest) const;

	/* How many tables catch up. */
	size_t catching_up() const { return catch_ups_; }

	/* A table whose changes are held, and since when this publisher knows that they are. */
	struct Holding
	{
		std::string schema;
		std::string table;
		bool catching_up;
		uint64_t pending; /* messages still to be moved, as far as it is known */
		Clock::time_point since;
	};
	std::vector<Holding> holding() const;
	/* Nothing behind this place of the spill may be missing. nullopt: nothing is held. */
	std::optional<Place> lowest_held() const;

private:
	struct Entry
	{
		TableState state;
		uint64_t last_token =
			0; /* the decoder's frames of the table that were read are acknowledged with this message */
		Place last_held = kNoPlace; /* the last held message that is known to be stored */
		bool closing = false;       /* changes wait, so that the catch_up catches up */
		Place leftover = kNoPlace;  /* rows that were not complete; this message, which may be one, was the last then */
		uint64_t ends_behind = 0;   /* it is being removed, and no message of it has a greater token; 0: it is not */
		bool ending = false;
		/* Since resuming has begun: */
		bool last_known = false;   /* last_held is what the spill has */
		bool renewed = false;      /* its state is this publisher's */
		Clock::time_point since{}; /* its changes are held */
		std::unique_ptr<CatchUpSource> catch_up;

		bool active() const { return catch_up || leftover != kNoPlace; }
	};
	using Entries = std::map<std::string, Entry, std::less<>>;

	static std::string entry_key(std::string_view schema, std::string_view table);
	Entry *find(const TableFrame &table);
	const Entry *find(const TableFrame &table) const;
	bool store(TableState *state, Clock::time_point now);
	bool save(Entry *entry, TableState state, Clock::time_point now);
	bool take_name(const TableFrame &table, Clock::time_point now);
	bool begin_generation(const TableFrame &table, Clock::time_point now);
	bool begin_without_snapshot(Entry *entry, const TableFrame &table, Clock::time_point now);
	Route route_drop(const TableFrame &table, Clock::time_point now);
	bool end(Entry *entry, const TableFrame &table, Clock::time_point now, bool lives_on);
	bool end_name(const TableFrame &table, Clock::time_point now, bool lives_on);
	bool purge_events(const TableState &state, Place before, std::string *why);
	bool remove(Entry *entry, const TableFrame &table, uint64_t since, Clock::time_point now, bool lives_on);
	bool begin_catch_up(Entry *entry, TableState state, Clock::time_point now);
	void finish_catch_up(Entry *entry, Clock::time_point now);
	void purge_leftover(Entry *entry, Clock::time_point now);
	void retire(Entry *entry);
	bool retry_later(const std::string &why, Clock::time_point now);
	bool find_last_held(Entry *entry, std::string *why);
	bool renew(Entry *entry, std::string *why);
	void set_state(Entry *entry, const TableState &state);
	void enter_state(Entry *entry, const TableState &state);
	void note_activity(Entry *entry);
	bool acknowledged(const Entry &entry) const;
	void drop_published(Clock::time_point now);
	void make_catch_up_source(Entry *entry);
	std::string held(const TableState &state) const;
	const std::string root_;
	const int compression_level_;
	Stream &stream_;
	const Ledger &ledger_;
	WaitNotice notice_;
	std::map<std::string, TableState> wanted_; /* states that are being made durable, by their key */
	Entries entries_;                          /* by schema, NUL, table; an entry stays where it is */
	std::set<Entry *> active_;                 /* those that step() has to look at */
	std::set<Entry *> holding_;                /* those whose changes are held */
	size_t catch_ups_ = 0;
	std::deque<std::pair<uint64_t, Entry *>> held_; /* messages to the spill that are under way, by token */
	bool drop_due_ = false;                         /* what was moved can go */
	Place dropped_ = kNoPlace;                      /* everything in front of it has gone */
	std::vector<std::unique_ptr<CatchUpSource>>
		retired_;                 /* that append_catch_up_sources() may have named since the last step() */
	Clock::time_point retry_at_;  /* nothing is asked of the stream before */
	bool catch_up_begun_ = false; /* since the last step() */
};

} // namespace siphon

#endif
