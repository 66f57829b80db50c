/* The public key of an NKey's seed; what is none is refused. */
#include "reader/nkey.h"

#include <gtest/gtest.h>

using namespace siphon;

namespace {

TEST(Nkey, PublicKeyOfSeed)
{
	/* The pair that NATS' documentation shows. */
	EXPECT_EQ(nkey_of_seed("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"),
			  "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4");
}

TEST(Nkey, WhatIsNoUsersSeed)
{
	for (const char *bad : {"", "SU", "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VA", /* the checksum */
							"SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3V",            /* the length */
							"suacssl3uahudxkfsnvuzrf5uhpmwz6bfdtj7m6usdxiednppqyyycu3vy",
							"UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"})
		EXPECT_EQ(nkey_of_seed(bad), "") << bad;
}

} // namespace
