/*
 * The hash that decides a key's partition, and its exact input, which proto/siphon.proto documents for people
 * who compute it in other languages. Includes nothing of PostgreSQL.
 */
#ifndef SIPHON_KEY_HASH_H
#define SIPHON_KEY_HASH_H

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdint>

namespace siphon {

constexpr uint32_t kNullLength = 0xFFFFFFFF;

/* Bytes in front of each key column's value: its length, little-endian. */
constexpr size_t kKeyLengthSize = 4;

inline uint32_t
key_hash_partition(const void *input, size_t length, uint32_t partitions)
{
	return static_cast<uint32_t>(XXH3_64bits(input, length) % partitions);
}

} // namespace siphon

#endif
