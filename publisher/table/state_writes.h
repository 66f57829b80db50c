/*
 * What frames of the decoder's ring do to the state store and to nothing else: the schema of a table is entered, or a
 * table, or its name, ends. Each takes some answers, so a few are under way at once, and frames of other tables are
 * taken up meanwhile: a schema of thousands of tables may be renamed. Frames of the same name wait, and a snapshot under
 * it does not begin. The ring is acknowledged up to the first frame whose write is not done, so the next publisher reads
 * that one again, and what follows it, which it finds in the logs.
 */
#ifndef SIPHON_STATE_WRITES_H
#define SIPHON_STATE_WRITES_H

#include <chrono>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "publisher/messages/ledger.h"
#include "publisher/stream/stream.h"
#include "publisher/table/hand_off.h"
#include "publisher/table/table_schema.h"

namespace siphon {

class StateWrites
{
public:
	using Clock = std::chrono::steady_clock;
	/* Ends the table, or its name, in the hand-off. */
	using End = bool (HandOff::*)(const TableFrame &, Clock::time_point);

	StateWrites(HandOff *hand_off, const Ledger *ledger, Stream *stream)
		: hand_off_(*hand_off), ledger_(*ledger), stream_(*stream), schemas_(&stream->states())
	{
	}

	/* Memory has room for one more. Otherwise it has to wait. */
	bool room() const { return bytes_ < kMostBytes; }
	/*
	 * Enters the schema of the table, as JSON; or ends it, once the message of this token is stored. position: up to here
	 * the ring may be acknowledged before that is done. Nothing is added while it is not the frame's turn.
	 */
	void enter_schema(const TableFrame &table, std::string json, uint64_t position);
	void end_table(const TableFrame &table, End end, uint64_t token, uint64_t position);
	enum class Turn {
		Now,
		Later, /* something of its name is not done, and goes in front of the others from now on */
		Never  /* that is its table's end */
	};
	Turn turn(const TableFrame &frame, Clock::time_point now);

	bool empty() const { return writes_.empty(); }
	/* Up to here the ring may be acknowledged; only if not empty(). */
	uint64_t position() const { return writes_.front().position; }
	/* Goes on with what has its answer. Costs next to nothing where there was none. */
	void step(Clock::time_point now);
	/* Forgets all: the ring is read again. */
	void clear();

private:
	/* Under way at once. Each is looked at when answers have come, so there should not be many. */
	static constexpr size_t kUnderWay = 32;
	static constexpr size_t kMostBytes = 16 * 1024 * 1024;

	struct Write
	{
		std::string schema;
		std::string table;
		TableFrame frame; /* its names are those above */
		std::string json;
		End end; /* nullptr: the schema is entered */
		uint64_t token;
		uint64_t position;
		bool looked = false; /* whether the schema in the store is the table's own is known */
		bool own = false;
		bool begun = false;
		bool done = false;
	};

	void add(Write write);
	bool begin(Write *write, Clock::time_point now);
	void go_on(Write *write, Clock::time_point now);
	bool finish(Write *write, Clock::time_point now);
	void drop_done();

	HandOff &hand_off_;
	const Ledger &ledger_;
	Stream &stream_;
	TableSchemas schemas_;
	std::deque<Write> writes_;                          /* in the order of their frames; each stays where it is */
	std::map<std::string, Write *, std::less<>> names_; /* those that are not done, by schema, NUL, table */
	std::vector<Write *> under_way_;
	size_t next_ = 0; /* all in front of this one have begun */
	size_t bytes_ = 0;
	uint64_t answers_ = 0;         /* of the state store, as far as they were looked at */
	Clock::time_point again_at_{}; /* they are looked at without an answer, as it may never come */
};

} // namespace siphon

#endif
