/* See log.h. */
#include "stream/log.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace siphon {

uint64_t
message_hash(std::string_view id)
{
	uint64_t hash = XXH3_64bits(id.data(), id.size());

	return hash != 0 ? hash : 1;
}

} // namespace siphon
