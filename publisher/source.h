/*
 * Where messages come from: a ring, or the held messages of a table that are moved behind its snapshot. All
 * sources publish to one stream, in one chain of sequences. Each has a cursor in it, by which it goes on after
 * whatever happened.
 */
#ifndef SIPHON_SOURCE_H
#define SIPHON_SOURCE_H

#include <cstdint>
#include <string>

#include "cursor.h"
#include "queue.h"
#include "traffic.h"

namespace siphon {

class Source
{
public:
	/* Number: in the ledger; never used again by another source. */
	Source(std::string name, uint32_t number, bool bulk) : name_(std::move(name)), number_(number), bulk_(bulk) {}
	virtual ~Source() = default;
	Source(const Source &) = delete;
	Source &operator=(const Source &) = delete;

	const std::string &name() const { return name_; }
	uint32_t number() const { return number_; }
	/* Nobody waits for a single message of it. */
	bool bulk() const { return bulk_; }

	/* In the ids of its messages. */
	virtual uint64_t epoch() const = 0;
	/* What was published last, for Siphon-Cursors. nullptr: nothing, or it is known to be stored. */
	virtual const Cursor *cursor() const = 0;
	/* The last message of the stream, at end_sequence, lists this cursor, or none: go on behind it. */
	virtual void resume(const Cursor *cursor, uint64_t end_sequence) = 0;

	/* True if there is a message to publish; only then the following may be called. */
	virtual bool prepare() = 0;
	/* Payload before compression. */
	virtual size_t next_size() const = 0;
	virtual const std::string &next_subject() const = 0;
	virtual uint32_t next_generation() const = 0;

	struct Built
	{
		uint64_t ack = 0;    /* the ring may be acknowledged up to here when the message is stored; 0: no further */
		uint64_t events = 0; /* of the record, if the message completes one */
		bool none = false;   /* there is no message: what it was made of turned out to be damaged */
		Load load;           /* for the figures */
	};
	/* Fills in all but sequence, previous_id and Siphon-Cursors, and goes on to the next message. */
	virtual Built build(Message *message) = 0;
	/* The message that was built last is under way to this place. */
	virtual void sent(uint64_t /* sequence */) {}
	/* Messages are stored up to what build() said. */
	virtual void acked(uint64_t /* position */) {}

	/* A part of a record was published, and not the last: no other part may come between on its subject. */
	bool open() const { return open_; }
	const std::string &open_subject() const { return open_subject_; }
	uint32_t open_generation() const { return open_generation_; }

protected:
	void set_open(const std::string &subject, uint32_t generation)
	{
		open_ = true;
		open_subject_ = subject;
		open_generation_ = generation;
	}
	void set_closed() { open_ = false; }

private:
	std::string name_;
	uint32_t number_;
	bool bulk_;
	bool open_ = false;
	std::string open_subject_;
	uint32_t open_generation_ = 0;
};

} // namespace siphon

#endif
