/*
 * The ledger of messages under way. Answers come in any order; what it says may be acknowledged to a ring only grows over
 * messages that are stored without a gap, and only to the ends of frames of which every message is. Messages of all
 * sources, and to both logs, stand in one order, that of their tokens; each source is acknowledged by itself. Pure logic:
 * no log, no ring, no clock of its own.
 */
#ifndef SIPHON_LEDGER_H
#define SIPHON_LEDGER_H

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "reader/stored_message.h"

namespace siphon {

/* Which of the two logs a message goes to. */
enum class Target { Log, Spill };

class Ledger
{
public:
	using Clock = std::chrono::steady_clock;

	/* A message is stored, or (token 0) a frame was skipped; in the order of the messages. */
	struct Ack
	{
		uint32_t source;
		uint64_t token;
		Target target;
		Place place;
		uint64_t frame_end; /* the source's ring may be acknowledged up to here; 0: no further */

		bool operator==(const Ack &) const = default;
	};
	/* The last message of a log that is known to be stored. */
	struct End
	{
		Place place = kNoPlace;
		uint64_t message = 0; /* hash of its id */

		bool operator==(const End &) const = default;
	};

	Ledger(size_t max_messages, size_t max_bytes) : max_messages_(max_messages), max_bytes_(max_bytes) {}

	/*
	 * Forgets all that is under way, and the acks not taken: the logs end so. Later answers to what was forgotten are
	 * ignored.
	 */
	void reset_to(const End &log, const End &spill);

	/*
	 * May a message of up to this many bytes be sent? One message always may, whatever its size. Bulk has only a
	 * part of the room, so that other messages never wait behind much of it.
	 */
	bool room(size_t bytes, bool bulk) const;

	/* Token of the message that add() enters next. They only grow, and 0 is none. */
	uint64_t next_token() const { return first_token_ + messages_.size(); }
	/* frame_end: ring position behind the frame if this is its last message, otherwise 0. `message`: hash of its id. */
	void add(size_t bytes, uint32_t source, uint64_t frame_end, bool bulk, Target target, uint64_t message,
			 Clock::time_point now);
	/* A frame of which no message is published: it counts as stored with the source's messages before it. */
	void skip(uint32_t source, uint64_t frame_end);

	/* The log has stored the message at this place. */
	void stored(uint64_t token, Place place);
	/* The log had it before, at a place that is not its own. The chain is broken. */
	void duplicate(uint64_t token);
	/* The log did not take it. */
	void refused(uint64_t token);

	/* A message was refused: nothing that follows it counts until the next reset_to(). */
	bool broken() const { return broken_; }
	/* What was stored or skipped since the last call. */
	void take_acks(std::vector<Ack> *acks);
	/* All messages up to and with this token are stored. */
	uint64_t stored_token() const { return first_token_ - 1; }
	/* The last message of a log that is known to be stored, all in front of it too. */
	const End &end(Target target) const { return ends_[static_cast<int>(target)]; }
	bool empty() const { return messages_.empty(); }
	size_t messages() const { return messages_.size(); }
	size_t bytes() const { return bytes_; }
	/* Messages without any answer. */
	size_t unanswered() const { return unanswered_; }
	/* When the oldest message was sent; only if not empty(). */
	Clock::time_point oldest() const { return messages_.front().sent; }

private:
	/* The part of the room that bulk may take. */
	static constexpr size_t kBulkShare = 16;

	struct Entry
	{
		uint64_t frame_end;
		Clock::time_point sent;
		size_t bytes;
		uint64_t message;
		Place place; /* kNoPlace: not known, or not its own */
		uint32_t source;
		Target target;
		bool bulk;
		bool answered;
		bool stored;
	};

	Entry *answer(uint64_t token);
	void advance();

	size_t max_messages_;
	size_t max_bytes_;
	std::deque<Entry> messages_;
	std::vector<Ack> acks_;
	uint64_t first_token_ = 1;
	End ends_[2];
	size_t bytes_ = 0;
	size_t bulk_messages_ = 0;
	size_t bulk_bytes_ = 0;
	size_t unanswered_ = 0;
	bool broken_ = false;
};

} // namespace siphon

#endif
