/* See stored_message.h. */
#include "reader/stored_message.h"

#include <charconv>

#include "reader/cursor.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace siphon {

StoredMessage
from_headers(const std::function<std::string(const char *name)> &header)
{
	StoredMessage message{};
	std::string generation = header("Siphon-Generation");

	message.kind = header("Siphon-Kind");
	std::from_chars(generation.data(), generation.data() + generation.size(), message.generation);
	message.first = header("Siphon-First");
	message.last = header("Siphon-Last");
	message.events = header("Siphon-Events");
	message.encoding = header("Siphon-Encoding");
	message.part = header("Siphon-Part");
	message.id = header("Nats-Msg-Id");
	message.cursors = header(kCursorsHeader);
	message.held = header("Siphon-Held");
	message.behind = header("Siphon-Behind");
	return message;
}

uint64_t
message_hash(std::string_view id)
{
	uint64_t hash = XXH3_64bits(id.data(), id.size());

	return hash != 0 ? hash : 1;
}

} // namespace siphon
