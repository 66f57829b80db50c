/*
 * What the publisher needs of a queue: a log that keeps messages in order, says which message is its last,
 * and refuses a message that does not follow the one before it. JetStream is the one there is.
 *
 * One thread calls; answers may be produced by others and are handed over by collect().
 */
#ifndef SIPHON_QUEUE_H
#define SIPHON_QUEUE_H

#include <cstdint>
#include <map>
#include <memory>
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
	uint64_t compression_ns = 0; /* that making the body took */
};

enum class Verdict {
	Stored,
	Duplicate,  /* the queue has, or had, this very message, and did not store it again */
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
	/* The last message that was, if it still exists: its id and its Siphon-Cursors. */
	std::string id;
	std::string cursors;
};

/* A message that is in the log, read back. */
struct StoredMessage
{
	uint64_t sequence;
	std::string subject;
	std::string kind;
	uint32_t generation;
	std::string first; /* values of Siphon-First and so on */
	std::string last;
	std::string events;
	std::string encoding;
	std::string part;
	std::string body;
};

/* Reads messages back, a few at a time, without waiting for them. The wakeup is notified when some have come. */
class QueueReader
{
public:
	virtual ~QueueReader() = default;

	/* Asks for the next few, unless they are under way. */
	virtual void pull() = 0;
	virtual bool pulling() const = 0;
	/* Takes what has come, in order. False: the reading has broken off, begin another. */
	virtual bool take(std::vector<StoredMessage> *messages) = 0;
	/* How many there were still behind the last that came. */
	virtual uint64_t pending() const = 0;
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
	/*
	 * Sequence of the first message that still exists, or that will. 0: the log's settings take messages away. nullopt:
	 * not now.
	 */
	virtual std::optional<uint64_t> read_first(std::string *why) = 0;
	/* Bytes that a message's body may have; known after read_end(). */
	virtual uint32_t body_limit() const = 0;

	/* Sends; the answer carries the token. False: not sent, and there will be no answer. */
	virtual bool publish(const Message &message, uint64_t token) = 0;
	/* Appends the answers that came since the last call. */
	virtual void collect(std::vector<Answer> *answers) = 0;

	/* What follows asks and waits for the answer: for rare moments. "Not now" has its reason in *why. */

	/* Removes the messages below a sequence whose subjects match. False: not now. */
	virtual bool purge(const std::string &subjects, uint64_t below, std::string *why) = 0;
	/* Sequence of the last message whose subject matches, 0 if there is none. nullopt: not now. */
	virtual std::optional<uint64_t> last_sequence(const std::string &subjects, std::string *why) = 0;
	/* Reads messages whose subjects match, from a sequence on. nullptr: not now. */
	virtual std::unique_ptr<QueueReader> read_from(const std::string &subjects, uint64_t sequence,
												   std::string *why) = 0;

	/*
	 * The last message on each subject that matches, without the bodies, of a log that ends at `end`. nullopt: not now.
	 */
	virtual std::optional<std::vector<StoredMessage>> last_of_each(const std::string &subjects, uint64_t end,
																   std::string *why) = 0;

	/* A small durable map beside the log, for consumers and for the next publisher. After read_end(). */
	virtual std::optional<std::map<std::string, std::string>> read_states(std::string *why) = 0;
	/* Of one key; *value is nullopt if there is none. False: not now. */
	virtual bool read_state(const std::string &key, std::optional<std::string> *value, std::string *why) = 0;
	virtual bool write_state(const std::string &key, const std::string &value, std::string *why) = 0;
	virtual bool erase_state(const std::string &key, std::string *why) = 0;
	/* Erases all that is kept of tables, see is_table_key(). */
	virtual bool erase_tables(std::string *why) = 0;
};

} // namespace siphon

#endif
