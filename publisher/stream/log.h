/*
 * What the publisher needs of the place where messages go. A backend (JetStream, a directory of files, memory) gives
 * three small things, each in a header of its own:
 *
 *   Log         log.h          the application's stream: append in order behind a fence, its end, its tail
 *   Spill       spill.h        a log too, of changes that are held while their table's snapshot runs
 *   StateStore  state_store.h  a small durable map with compare-and-set
 *
 * None of their calls waits. A call that needs an answer from elsewhere is repeated until it has it: it returns
 * "not yet" with an empty *why while the answer is under way, and with the reason in *why if it has failed and is to be
 * tried again later. The wakeup given to the backend is notified when something may have changed. Fatal is thrown for
 * what no waiting mends. One thread calls.
 */
#ifndef SIPHON_STREAM_LOG_H
#define SIPHON_STREAM_LOG_H

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reader/stored_message.h"
#include "ring/ring.h"

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
	std::vector<Header> headers;
	std::string_view body;
	uint64_t compression_ns = 0; /* that making the body took */
};

enum class PublishResult {
	Stored,
	Duplicate,  /* it was stored before, in a log that takes messages away; and the order is broken */
	OutOfOrder, /* it did not come to its place: what the log has must be looked at */
	Refused     /* by the log's state or limits: to be tried again later */
};

/* What became of one appended message. */
struct PublishAck
{
	uint64_t token;
	PublishResult verdict;
	Place place;      /* Stored */
	std::string text; /* otherwise: the backend's own words */
};

/* The end of a log, as look() finds it. */
struct LogEnd
{
	uint64_t identity = 0;  /* another value is another log, whatever its name; 0: not known */
	Place place = kNoPlace; /* of the last message that there ever was */
	Place first = kNoPlace; /* nothing is left in front of it; kNoPlace: nothing is left, or nothing was there */
	uint64_t message = 0;   /* hash of the last message's id; 0: it is gone, or not a publisher's */
	std::string cursors;    /* its Siphon-Cursors */
	bool lossy = false;     /* the log's settings take messages away */
	std::string refused;    /* by fence(): the backend's own words, where the log's state or limits refuse it */
	std::string disorder;   /* not empty: a message stands where it can't, and this says which */
};

/* What a log's settings and state are, for those who watch, and to notice what others did to it. */
struct LogHealth
{
	Place first = kNoPlace; /* as in LogEnd */
	Place last = kNoPlace;
	uint64_t messages = 0;
	uint64_t bytes = 0;
	uint64_t bytes_limit = 0;    /* 0: none */
	double first_age = -1;       /* seconds; negative: not known */
	double last_age = -1;        /* of the last message that there ever was */
	uint64_t messages_limit = 0; /* 0: none */
	uint64_t subject_limit = 0;  /* messages on a subject; 0: none */
	double age_limit = 0;        /* seconds; 0: none */
	bool lossy = false;          /* as in LogEnd */
	bool consumed = false;       /* what consumers have acknowledged is taken away */
	uint64_t removed = 0;        /* messages taken away one by one, between first and last */
	bool discards_new = false;   /* at a limit, rather than the oldest */
	uint64_t replicas = 1;       /* that are asked for */
	std::string leader;          /* of them; empty: there is none, or they are none */
	struct Follower
	{
		std::string name;
		bool current;
		bool offline;
		uint64_t lag;
	};
	std::vector<Follower> followers;
};

class Log
{
public:
	virtual ~Log() = default;

	/* For messages to people: what it is, and where. */
	virtual std::string describe() const = 0;
	/* For people who know where. */
	virtual std::string name() const = 0;

	/*
	 * Finds the end, and changes nothing. What was appended before gets no answer any more, but for those
	 * that collect() gives next: of messages that were found there. nullopt: not yet.
	 */
	virtual std::optional<LogEnd> look(std::string *why) = 0;
	/*
	 * Is the message at the place the one with this hash? nullopt: not yet. False: it is another. True also if it
	 * is not there any more, *gone then.
	 */
	virtual std::optional<bool> holds(Place place, uint64_t message, bool *gone, std::string *why) = 0;
	/*
	 * Behind a look(): makes the log, if there is none, and what it needs; from here on nothing is stored but what is
	 * appended from now on, whoever sent it and however late it arrives. `in_flight`: how many messages a former publisher
	 * may have had under way; `cursors`: what the last message's were. False: not yet; with a reason: look() again. *end:
	 * the last message's place and hash, or, in `refused`, why it was not taken.
	 */
	virtual bool fence(size_t in_flight, const std::string &cursors, LogEnd *end, std::string *why) = 0;

	/* Bytes that a message's body may have; known after look(). */
	virtual uint32_t body_limit() const = 0;
	/* Sends behind all that was appended since fence(); the answer carries the token. False: not sent. */
	virtual bool append(const Message &message, uint64_t token) = 0;
	/* Adds the answers that came since the last call, in the order of the messages. */
	virtual void collect(std::vector<PublishAck> *answers) = 0;

	/*
	 * Reads the messages whose subjects match behind a place; `headers` alone, without bodies and of all subjects.
	 * nullptr: not yet.
	 */
	virtual std::unique_ptr<LogReader> read(const std::string &subjects, Place behind, bool headers,
											std::string *why) = 0;
	/* Place of the last message whose subject matches, kNoPlace if there is none. nullopt: not yet. */
	virtual std::optional<Place> last(const std::string &subjects, std::string *why) = 0;
	/*
	 * A message on a subject, without its body, whose Siphon-Last is not greater than a position, as late a one as is easy
	 * to find: on the subject these positions only grow. *found is nullopt if there is none behind `behind`. False: not
	 * yet.
	 */
	virtual bool find_up_to(const std::string &subject, const Position &position, Place behind,
							std::optional<StoredMessage> *found, std::string *why) = 0;
	/* Removes the messages in front of a place whose subjects match. Costs nothing where there are none. False: not yet. */
	virtual bool purge(const std::string &subjects, Place in_front_of, std::string *why) = 0;
	/* nullopt: not yet. */
	virtual std::optional<LogHealth> health(std::string *why) = 0;
};

} // namespace siphon

#endif
