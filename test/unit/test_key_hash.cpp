/*
 * Test vectors of the key hash: they are part of the wire contract (proto/siphon.proto repeats them), because
 * consumers in other languages compute the same. Made with libxxhash's own XXH3_64bits.
 */
#include "key_hash.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace {

std::string
number(int32_t value)
{
	return std::string(reinterpret_cast<const char *>(&value), sizeof(value));
}

std::string
key(const std::string &value)
{
	uint32_t length = static_cast<uint32_t>(value.size());

	return std::string(reinterpret_cast<const char *>(&length), siphon::kKeyLengthSize) + value;
}

std::string
key(int64_t value)
{
	return key(std::string(reinterpret_cast<const char *>(&value), sizeof(value)));
}

/* A list: its dimensions as length and lower bound, then its elements, as keys. */
std::string
list(const std::vector<std::pair<int32_t, int32_t>> &dimensions, const std::string &elements)
{
	std::string text = number(static_cast<int32_t>(dimensions.size()));

	for (const auto &[length, lower_bound] : dimensions)
		text += number(length) + number(lower_bound);
	return key(text + elements);
}

uint64_t
hash(const std::string &input)
{
	return XXH3_64bits(input.data(), input.size());
}

TEST(KeyHash, Vectors)
{
	EXPECT_EQ(hash(key(1)), 0xACD7D91ED0DEE413U);
	EXPECT_EQ(hash(key(-1)), 0x0C4E8605C55716F7U);
	EXPECT_EQ(hash(key(42)), 0xA804C76489AF3EAAU);
	EXPECT_EQ(hash(key("abc")), 0x565CF3688C6EBE4CU);
	EXPECT_EQ(hash(key("")), 0x48B2C92616FC193DU);
	EXPECT_EQ(hash(key(7) + key("bug")), 0x4FE58D52925F17B6U);
	EXPECT_EQ(hash(list({}, "")), 0xCA22290AD95E7178U);
	EXPECT_EQ(hash(list({{2, 1}}, key(1) + number(-1))), 0x61F6054279D41DB5U);
	EXPECT_EQ(hash(list({{1, 0}}, key("a"))), 0xDDDEF7D4EC9CD921U);
	EXPECT_EQ(hash(list({{2, 1}, {1, 1}}, key(1) + key(2))), 0x1853A8BB848E1F08U);
	EXPECT_EQ(hash(key("\xc3\xbcn\xc3\xaf")), 0x7A50D902D2AF9B6DU);
}

TEST(KeyHash, Partition)
{
	std::string input = key(1);

	EXPECT_EQ(siphon::key_hash_partition(input.data(), input.size(), 4), 0xACD7D91ED0DEE413U % 4);
	EXPECT_EQ(siphon::key_hash_partition(input.data(), input.size(), 1000), 0xACD7D91ED0DEE413U % 1000);
	EXPECT_EQ(siphon::key_hash_partition(input.data(), input.size(), 1), 0U);
}

/* Without lengths, ("ab", "c") and ("a", "bc") would always share a partition. */
TEST(KeyHash, ColumnsDoNotRunIntoEachOther)
{
	EXPECT_NE(hash(key("ab") + key("c")), hash(key("a") + key("bc")));
}

} // namespace
