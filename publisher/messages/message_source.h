/*
 * Where messages come from: a ring, or the held messages of a table that are moved behind its snapshot. Each
 * has a cursor in the log, and the decoder's ring, whose changes may be held, one in the spill as well: by these it goes on
 * after whatever happened.
 */
#ifndef SIPHON_MESSAGE_SOURCE_H
#define SIPHON_MESSAGE_SOURCE_H

#include <cstdint>
#include <string>

#include "publisher/messages/ledger.h"
#include "publisher/messages/publish_stats.h"
#include "publisher/stream/log.h"
#include "reader/cursor.h"

namespace siphon {

class MessageSource
{
public:
	/* Number: in the ledger; never used again by another source. */
	MessageSource(std::string name, uint32_t number, bool bulk) : name_(std::move(name)), number_(number), bulk_(bulk)
	{
	}
	virtual ~MessageSource() = default;
	MessageSource(const MessageSource &) = delete;
	MessageSource &operator=(const MessageSource &) = delete;

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
		MessageStats load;   /* for the figures */
	};
	/* Fills in all but Siphon-Cursors, and goes on to the next message. */
	virtual Built build(Message *message) = 0;
	/* The message that was built last is under way; answers bear this token. */
	virtual void on_sent(uint64_t /* token */) {}

	/* A part of a record was published, and not the last: no other part may come between on its subject. */
	bool has_partial_record() const { return partial_; }
	const std::string &partial_subject() const { return partial_subject_; }
	uint32_t partial_generation() const { return partial_generation_; }

protected:
	void begin_partial_record(const std::string &subject, uint32_t generation)
	{
		partial_ = true;
		partial_subject_ = subject;
		partial_generation_ = generation;
	}
	void end_partial_record() { partial_ = false; }

private:
	std::string name_;
	uint32_t number_;
	bool bulk_;
	bool partial_ = false;
	std::string partial_subject_;
	uint32_t partial_generation_ = 0;
};

} // namespace siphon

#endif
