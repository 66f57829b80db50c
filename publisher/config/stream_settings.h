/*
 * What a user asked of the stream. What was not asked for is the server's default when the stream is
 * made, and nobody's concern when it is checked.
 */
#ifndef SIPHON_STREAM_SETTINGS_H
#define SIPHON_STREAM_SETTINGS_H

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace siphon {

struct StreamSettings
{
	std::optional<int> replicas;
	std::optional<std::string> storage;               /* file, memory */
	std::optional<std::chrono::milliseconds> max_age; /* 0: for ever */
	std::optional<uint64_t> max_bytes;                /* 0: no limit */
	std::optional<std::string> discard;               /* old, new */
};

} // namespace siphon

#endif
