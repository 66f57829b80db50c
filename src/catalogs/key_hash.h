/*
 * The hash that decides a key's partition, and its exact input, which proto/siphon.proto documents for people
 * who compute it in other languages. Includes nothing of PostgreSQL.
 */
#ifndef SIPHON_KEY_HASH_H
#define SIPHON_KEY_HASH_H

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

namespace siphon {

constexpr uint32_t kNullLength = 0xFFFFFFFF;

/* Bytes in front of each key column's value: its length, little-endian. */
constexpr size_t kKeyLengthSize = 4;

/*
 * What PostgreSQL holds for equal must be one key: 1.50 and 1.5, -0 and 0, any NaN and another, 'a ' and 'a' of type
 * character. Of types where more than this may be equal, no table is divided; see check_key_types().
 */
inline std::string_view
key_of_numeric(std::string_view text)
{
	if (text.find('.') == std::string_view::npos)
		return text;
	text = text.substr(0, text.find_last_not_of('0') + 1);
	return text.substr(0, text.find_last_not_of('.') + 1);
}

template <typename Float>
Float
key_of_float(Float value)
{
	return std::isnan(value) ? std::numeric_limits<Float>::quiet_NaN() : value + Float{0};
}

inline std::string_view
key_of_character(std::string_view text)
{
	return text.substr(0, text.find_last_not_of(' ') + 1);
}

inline uint32_t
key_hash_partition(const void *input, size_t length, uint32_t partitions)
{
	return static_cast<uint32_t>(XXH3_64bits(input, length) % partitions);
}

} // namespace siphon

#endif
