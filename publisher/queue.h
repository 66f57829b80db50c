/*
 * What the publisher needs of a queue: a log that keeps messages in order, says which message is its last,
 * and refuses a message that does not follow the one before it. JetStream is the one there is.
 *
 * One thread calls; answers may be produced by others and are handed over by collect().
 */
#ifndef SIPHON_QUEUE_H
#define SIPHON_QUEUE_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace siphon {

struct Header
{
	const char *name;
	std::string value;
};

struct Message
{
	std::string subject;
	std::string id;
	/* The place in the log that the message must take, and what must stand before it ("": not checked). */
	uint64_t sequence;
	std::string previous_id;
	std::vector<Header> headers;
	std::string_view body;
};

enum class Verdict {
	Stored,
	OutOfOrder, /* another message stands before the place, or at it: read the end of the log */
	Refused     /* by the queue's state or limits: try again later */
};

/* What became of one message. */
struct Answer
{
	uint64_t token;
	Verdict verdict;
	uint64_t sequence; /* Stored: its place */
	std::string text;  /* otherwise: the queue's own words */
};

/* The end of the log. */
struct LogEnd
{
	uint64_t sequence = 0; /* of the last message, 0 if there never was one */
	/* The last message of those that still exist was not written by a publisher. */
	bool foreign = false;
	/* The last message that was, if it still exists: its id and its Siphon-Part. */
	std::string id;
	std::string part;
};

class Queue
{
public:
	virtual ~Queue() = default;

	/* Can be talked to now. Fatal: never again. */
	virtual bool ready() = 0;
	/* Counts breaks after which answers to what is under way may never come. */
	virtual uint64_t interruptions() const = 0;
	/* Where it is, for messages to people. */
	virtual std::string describe() const = 0;

	/*
	 * Reads the end of the log, which the first call creates if need be. nullopt: not now, for the reason
	 * in *why; try again later.
	 */
	virtual std::optional<LogEnd> read_end(std::string *why) = 0;
	/* Bytes that a message's body may have; known after read_end(). */
	virtual uint32_t body_limit() const = 0;

	/* Sends; the answer carries the token. False: not sent, and there will be no answer. */
	virtual bool publish(const Message &message, uint64_t token) = 0;
	/* Appends the answers that came since the last call. */
	virtual void collect(std::vector<Answer> *answers) = 0;
};

} // namespace siphon

#endif
