/*
 * Where messages come from: a ring, or the held messages of a table that are moved behind its snapshot. Each
 * has a cursor in the log, and the decoder's ring, whose changes may be held, one in the spill as well: by these it goes on
 * after whatever happened.
 */
#ifndef SIPHON_SOURCE_H
#define SIPHON_SOURCE_H

#include <cstdint>
#include <string>

#include "publisher/messages/ledger.h"
#include "publisher/messages/traffic.h"
#include "publisher/stream/log.h"
#include "reader/cursor.h"

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
	/* What was published last to a log, for Siphon-Cursors. nullptr: nothing, or it is known to be stored. */
	virtual const Cursor *cursor(Target target) const = 0;
	/* The last messages of the logs list these cursors, or none (nullptr): go on behind them. */
	virtual void resume(const Cursor *log, const Cursor *spill) = 0;

	/* True if there is a message to publish; only then the following may be called. */
	virtual bool prepare() = 0;
	/* Payload before compression. */
	virtual size_t next_size() const = 0;
	virtual const std::string &next_subject() const = 0;
	virtual Target next_target() const { return Target::Log; }
	virtual uint32_t next_generation() const = 0;

	struct Built
	{
		uint64_t ack = 0;    /* the ring may be acknowledged up to here when the message is stored; 0: no further */
		uint64_t events = 0; /* of the record, if the message completes one */
		bool none = false;   /* there is no message: what it was made of turned out to be damaged */
		Load load;           /* for the figures */
	};
	/* Fills in all but Siphon-Cursors, and goes on to the next message. */
	virtual Built build(Message *message) = 0;
	/* The message that was built last is under way; answers bear this token. */
	virtual void sent(uint64_t /* token */) {}

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
