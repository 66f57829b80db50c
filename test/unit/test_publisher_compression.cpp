/* zstd there and back, and the cases where it is left out. */
#include "reader/compression.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

using namespace siphon;

namespace {

TEST(Compression, RoundTrip)
{
	uint64_t seed = std::random_device()();
	std::mt19937_64 random(seed);
	Decompressor decompressor;

	SCOPED_TRACE("seed " + std::to_string(seed));
	for (int i = 0; i < 200; i++)
	{
		Compressor compressor(static_cast<int>(random() % 11) + Compressor::kFastestLevel);
		std::string input(random() % (i % 10 == 0 ? 1000000 : 100000), '\0');
		uint64_t spread = 1 + random() % 256;
		std::string output = "before";

		for (char &c : input)
			c = static_cast<char>(random() % spread);

		Compressor::Result result = compressor.compress(input);

		ASSERT_LE(result.body.size(), input.size());
		ASSERT_TRUE(decompressor.decompress(result.body, result.encoding, &output));
		ASSERT_EQ(output, "before" + input);
	}
}

TEST(Compression, OnlyWhereItHelps)
{
	std::mt19937_64 random(1);
	std::string same(10000, 'x');
	std::string noise(10000, '\0');
	Compressor off(0);
	Compressor on(1);

	for (char &c : noise)
		c = static_cast<char>(random());
	EXPECT_STREQ(on.compress(same).encoding, kEncodingZstd);
	EXPECT_LT(on.compress(same).body.size(), 100u);
	EXPECT_STREQ(on.compress(noise).encoding, kEncodingNone);
	EXPECT_EQ(on.compress(noise).body, noise);
	EXPECT_STREQ(on.compress(std::string(127, 'x')).encoding, kEncodingNone);
	EXPECT_STREQ(on.compress(std::string(128, 'x')).encoding, kEncodingZstd);
	EXPECT_STREQ(on.compress("").encoding, kEncodingNone);
	EXPECT_STREQ(off.compress(same).encoding, kEncodingNone);
}

/* What comes of an input does not depend on those before it, which may have had another table. */
TEST(Compression, LargeAndSmall)
{
	std::mt19937_64 random(1);
	std::string large(500000, '\0');

	for (char &c : large)
		c = "0123456789abcdef"[random() % 16];
	for (size_t i = 1000; i + 2000 < large.size(); i += 1000 + random() % 3000)
		large.replace(i, 100, large, random() % i / 2, 100);

	std::string small = large.substr(0, 50000);
	Compressor both(1);
	Compressor one(1);
	Compressor other(1);
	std::string large_body(both.compress(large).body);

	EXPECT_EQ(both.compress(small).body, one.compress(small).body);
	EXPECT_EQ(both.compress(large).body, large_body);
	EXPECT_EQ(other.compress(large).body, large_body);
}

/* Of what has no matches, a level below 0 compresses the literals all the same. */
TEST(Compression, FastLevels)
{
	std::mt19937_64 random(1);
	std::string digits(100000, '\0');
	std::string text;

	for (char &c : digits)
		c = "0123456789abcdef"[random() % 16];
	for (int i = 0; i < 10000; i++)
		text += "the number " + std::to_string(random() % 1000) + ", ";

	size_t before = Compressor(1).compress(text).body.size();

	for (int level = -1; level >= Compressor::kFastestLevel; level--)
		EXPECT_LT(Compressor(level).compress(digits).body.size(), digits.size() * 52 / 100) << level;
	EXPECT_GT(Compressor(Compressor::kFastestLevel).compress(text).body.size(), before);
}

TEST(Compression, RefusesWhatIsNotZstd)
{
	Compressor compressor(1);
	Decompressor decompressor;
	std::string body(compressor.compress(std::string(1000, 'x')).body);
	std::string output;

	EXPECT_FALSE(decompressor.decompress("", kEncodingZstd, &output));
	EXPECT_FALSE(decompressor.decompress("garbage", kEncodingZstd, &output));
	EXPECT_FALSE(decompressor.decompress(body.substr(0, body.size() - 1), kEncodingZstd, &output));
	EXPECT_FALSE(decompressor.decompress(body, "gzip", &output));
	/* A frame that claims a size that no message can have: magic, descriptor with 8 bytes of size. */
	std::string huge("\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\x7f", 13);
	EXPECT_FALSE(decompressor.decompress(huge, kEncodingZstd, &output));
}

} // namespace
