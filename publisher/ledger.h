/*
 * The ledger of messages under way. Answers come in any order; what it says may be acknowledged to a
 * ring only grows over messages that are stored without a gap, and only to the ends of frames of which
 * every message is. Messages of all sources stand in one chain; each source is acknowledged by itself.
 * Pure logic: no queue, no ring, no clock of its own.
 */
#ifndef SIPHON_LEDGER_H
#define SIPHON_LEDGER_H

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace siphon {

class Ledger
{
public:
	using Clock = std::chrono::steady_clock;

	/* A source's ring may be acknowledged up to the position. */
	struct Ack
	{
		uint32_t source;
		uint64_t position;

		bool operator==(const Ack &) const = default;
	};

	Ledger(size_t max_messages, size_t max_bytes) : max_messages_(max_messages), max_bytes_(max_bytes) {}

	/*
	 * Forgets all that is under way, and the acks not taken: the log ends at `last_sequence`. Later answers to
	 * what was forgotten are ignored.
	 */
	void settle(uint64_t last_sequence);

	/*
	 * May a message of up to this many bytes be sent? One message always may, whatever its size. Bulk has only a
	 * part of the room, so that other messages never wait behind much of it.
	 */
	bool room(size_t bytes, bool bulk) const;

	/* Token and sequence of the message that add() enters next. */
	uint64_t next_token() const { return first_token_ + messages_.size(); }
	uint64_t next_sequence() const { return first_sequence_ + messages_.size(); }
	/* frame_end: ring position behind the frame if this is its last message, otherwise 0. */
	void add(size_t bytes, uint32_t source, uint64_t frame_end, bool bulk, Clock::time_point now);
	/* A frame of which no message is published: it counts as stored with the source's messages before it. */
	void skip(uint32_t source, uint64_t frame_end);

	/* The queue says that the message stands at this sequence. Any but the expected one breaks the chain. */
	void stored(uint64_t token, uint64_t sequence);
	/* The queue had it before, at a place that may be gone. The chain is broken, as it took no place now. */
	void duplicate(uint64_t token);
	/* The queue did not take it. */
	void refused(uint64_t token);

	/* A message was refused: nothing that follows it counts until the next settle(). */
	bool broken() const { return broken_; }
	/* What may be acknowledged since the last call; a source may come more than once, growing. */
	void take_acks(std::vector<Ack> *acks);
	/* The log is known to hold our messages up to this sequence. */
	uint64_t stored_sequence() const { return first_sequence_ - 1; }
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
		uint32_t source;
		bool bulk;
		bool answered;
		bool stored;
		bool placed; /* at the place that was meant for it */
	};

	Entry *answer(uint64_t token);
	void advance();

	size_t max_messages_;
	size_t max_bytes_;
	std::deque<Entry> messages_;
	std::vector<Ack> acks_;
	uint64_t first_token_ = 1;
	uint64_t first_sequence_ = 1;
	size_t bytes_ = 0;
	size_t bulk_messages_ = 0;
	size_t bulk_bytes_ = 0;
	size_t unanswered_ = 0;
	bool broken_ = false;
};

} // namespace siphon

#endif
