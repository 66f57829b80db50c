/* zstd there and back, and the cases where it is left out. */
#include "compression.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

using namespace siphon;

namespace {

TEST(Compression, RoundTrip)
{
	uint64_t seed = std::random_device()();
	std::mt19937_64 random(seed);
	Compressor compressor(1);
	Decompressor decompressor;

	SCOPED_TRACE("seed " + std::to_string(seed));
	for (int i = 0; i < 200; i++)
	{
		std::string input(random() % 100000, '\0');
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
