/*
 * A message of an application's stream as it is read back, whether from JetStream or from files, so that whoever takes
 * messages need not know where the stream is.
 */
#ifndef SIPHON_STORED_MESSAGE_H
#define SIPHON_STORED_MESSAGE_H

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace siphon {

/*
 * Where a message stands in a log. Opaque: places are compared, and a later message has a greater one; nothing is to be
 * read out of them, and they need not be dense. kNoPlace is in front of all messages.
 */
using Place = uint64_t;
constexpr Place kNoPlace = 0;

/* A message that is in a log, read back. A header that it does not have is "". */
struct StoredMessage
{
	Place place;
	std::string subject;
	std::string kind;
	uint32_t generation;
	std::string first; /* values of Siphon-First and so on */
	std::string last;
	std::string events;
	std::string encoding;
	std::string part;
	std::string id;
	std::string cursors;
	std::string held; /* of Siphon-Held and Siphon-Behind, which watermarks have */
	std::string behind;
	std::string body;
};

/* Reads messages back, a few at a time. */
class LogReader
{
public:
	virtual ~LogReader() = default;

	/* Asks for the next few, unless they are under way. */
	virtual void pull() = 0;
	virtual bool pulling() const = 0;
	/* Takes what has come, in order. False: the reading has broken off, begin another. */
	virtual bool take(std::vector<StoredMessage> *messages) = 0;
	/* How many there were still behind the last that came. */
	virtual uint64_t pending() const = 0;
};

/*
 * Returns a message of which the headers alone are known, as `header` gives their values, "" for one that is not there.
 * Place and subject are the caller's to add.
 */
StoredMessage from_headers(const std::function<std::string(const char *name)> &header);

/* Returns the hash that stands for a message's id in checkpoints; never 0. */
uint64_t message_hash(std::string_view id);

} // namespace siphon

#endif
