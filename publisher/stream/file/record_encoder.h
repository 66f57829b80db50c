/* Writes what segments consist of; reader/file/segment.h has the format, and reads it. */
#ifndef SIPHON_STREAM_RECORD_ENCODER_H
#define SIPHON_STREAM_RECORD_ENCODER_H

#include <cstdint>
#include <string>

#include "publisher/stream/log.h"

namespace siphon {

/* Returns the first bytes of a segment. */
std::string encode_segment_head(uint64_t identity, Place first);
/* Returns everything in front of the message's body. Fatal if a part of it is too long. */
std::string encode_record_head(const Message &message, Place place, int64_t time_us, Place durable);

} // namespace siphon

#endif
