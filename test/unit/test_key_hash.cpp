/*
 * Test vectors of the key hash: they are part of the wire contract (proto/siphon.proto repeats them), because
 * consumers in other languages compute the same. Made with libxxhash's own XXH3_64bits.
 */
#include "catalogs/key_hash.h"

#include <gtest/gtest.h>

#include <string>

namespace {

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
	EXPECT_EQ(hash(key("\xc3\xbcn\xc3\xaf")), 0x7A50D902D2AF9B6DU);
}

template <typename Number>
std::string
bytes_of(Number value)
{
	return std::string(reinterpret_cast<const char *>(&value), sizeof(value));
}

std::string
numeric(const std::string &text)
{
	return key(std::string(siphon::key_of_numeric(text)));
}

template <typename Float>
std::string
number(Float value)
{
	return key(bytes_of(siphon::key_of_float(value)));
}

TEST(KeyHash, VectorsOfOtherTypes)
{
	EXPECT_EQ(hash(numeric("1.5")), 0x3CE470615AD7708DU);
	EXPECT_EQ(hash(numeric("100")), 0x8BA81D7251D9B8E3U);
	EXPECT_EQ(hash(numeric("0.00")), 0x76B41070E6586767U);
	EXPECT_EQ(hash(number(0.0)), 0x3C91D14CC3CC3974U);
	EXPECT_EQ(hash(number(1.5)), 0x7E5914099D2B4513U);
	EXPECT_EQ(hash(number(std::nan(""))), 0x584E1397B17A7052U);
	EXPECT_EQ(hash(number(1.5F)), 0x4A38BE8ACD52DE81U);
	EXPECT_EQ(hash(key(std::string(siphon::key_of_character("ab   ")))), 0x8BF5FB1DB6F873D4U);
	EXPECT_EQ(hash(key("\1")), 0x8CD045B8EFCEF9BDU);
	EXPECT_EQ(hash(key(std::string("\0\xff", 2))), 0xF76770B357946DBDU);
	EXPECT_EQ(hash(key(19782)), 0x0AFCC70EC4857B08U);
	EXPECT_EQ(hash(key(43200000000)), 0x1F4FD6885335E291U);
	EXPECT_EQ(hash(key(1709208000000000)), 0x9F37CDD98D1B9DDCU);
	EXPECT_EQ(hash(key("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")), 0x52ACDC87B1E0B24FU);
	EXPECT_EQ(hash(bytes_of(siphon::kNullLength)), 0xCD6B1C920D3F662CU);
}

TEST(KeyHash, EqualValuesAreOneKey)
{
	EXPECT_EQ(siphon::key_of_numeric("1.50"), "1.5");
	EXPECT_EQ(siphon::key_of_numeric("-1.00"), "-1");
	EXPECT_EQ(siphon::key_of_numeric("100.0"), "100");
	EXPECT_EQ(siphon::key_of_numeric("0.000"), "0");
	EXPECT_EQ(siphon::key_of_numeric("0.001"), "0.001");
	for (const char *text : {"0", "100", "-7000", "NaN", "Infinity", "-Infinity", "10.01"})
		EXPECT_EQ(siphon::key_of_numeric(text), text);

	EXPECT_EQ(number(-0.0), number(0.0));
	EXPECT_EQ(number(-0.0F), number(0.0F));
	EXPECT_EQ(number(-std::nan("")), number(std::nan("7")));
	EXPECT_EQ(number(-std::nanf("")), number(std::nanf("7")));
	EXPECT_EQ(bytes_of(siphon::key_of_float(-std::nan(""))), bytes_of(uint64_t{0x7FF8000000000000}));
	EXPECT_EQ(bytes_of(siphon::key_of_float(-std::nanf(""))), bytes_of(uint32_t{0x7FC00000}));
	EXPECT_NE(number(-1.5), number(1.5));

	EXPECT_EQ(siphon::key_of_character("a b  "), "a b");
	EXPECT_EQ(siphon::key_of_character("   "), "");
	EXPECT_EQ(siphon::key_of_character("\t "), "\t");
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
