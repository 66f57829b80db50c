/*
 * Who may publish to the application's stream, and what continues what is in it. Two entries of the key-value bucket
 * keep that:
 *
 *   publisher   the process that publishes; the next one writes itself in, and the one before, should it still live,
 *               finds itself replaced
 *   origin      the history that the stream holds, since which place in the stream, and the decoder's ring and the
 *               timeline that were published from last
 *
 * A decoder's ring says where it comes from (see src/origin.h). A history that is not the stream's may begin there if
 * nothing of it was ever acknowledged; one that is may go on, if its decoder descends from the one that was published
 * from last, and the server has not lost what was published in a failover. Everything else is refused, because it
 * would be a gap, or two servers at a time.
 */
#ifndef SIPHON_LINEAGE_H
#define SIPHON_LINEAGE_H

#include <cstdint>
#include <optional>
#include <string>

#include "../src/origin.h"
#include "../src/ring.h"
#include "queue.h"

namespace siphon {

/* What to do about a stream that does not hold what it should, for messages. */
std::string resync_advice(const std::string &application);

class Lineage
{
public:
	Lineage(const std::string &application, Queue *queue);

	/*
	 * The log was read up to its end: takes the application over, the first time, and finds out whether somebody else
	 * has, later. Fatal if so. False with *why: not now.
	 */
	bool settle(std::string *why);

	/*
	 * The stream begins at this sequence, 0 if its settings take messages away, which is remembered. Fatal if somebody
	 * else has taken away what of the history stood before it.
	 */
	void check_first(uint64_t first);
	/*
	 * A ring whose origin was dealt with before, by a publisher before us perhaps, goes on. Fatal if the stream does
	 * not hold its history any more, or was published to from another ring since.
	 */
	void check_continued(uint64_t history, uint64_t epoch, uint64_t last_sequence) const;
	/* True: a new history begins; false: the stream's goes on. Fatal: neither. */
	bool begins(const Origin &origin, uint64_t last_sequence) const;
	/* `newest`: the greatest position in the stream. Fatal if the server does not have what was published. */
	void check_timeline(const Origin &origin, const Position &newest) const;
	/*
	 * Makes durable that the decoder's ring of this epoch is published from; for a new history, since which place.
	 * False with *why: not now.
	 */
	bool enter(const Origin &origin, uint64_t epoch, uint64_t last_sequence, std::string *why);

	/* The history is the stream's, and was published from another ring than this last. */
	bool left(uint64_t history, uint64_t epoch) const { return current(history) && record_->epoch != epoch; }
	bool current(uint64_t history) const { return record_ && record_->history == history; }
	/* The stream holds the history behind this place. */
	uint64_t since() const { return record_ ? record_->since : 0; }

private:
	struct Record
	{
		uint64_t history;
		uint64_t since;
		uint64_t epoch;
		uint32_t timeline;
		bool drops; /* settings of the stream have taken messages away, or may have */
	};

	bool read_record(std::string *why);
	bool write(const Record &record, std::string *why);
	bool claim(std::string *why);
	void check_history(uint64_t history, uint64_t last_sequence) const;
	[[noreturn]] void refuse_twin() const;

	const std::string application_;
	const std::string instance_; /* of this process */
	Queue &queue_;
	bool claimed_ = false;
	std::optional<Record> record_;
};

} // namespace siphon

#endif
