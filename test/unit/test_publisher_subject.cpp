/* Names in NATS: encoding, coverage of subjects, positions and message identities. */
#include "reader/subject.h"

#include <gtest/gtest.h>

using namespace siphon;

namespace {

TEST(Subject, EncodesWhatATokenCannotHold)
{
	EXPECT_EQ(encode_token("issues"), "issues");
	EXPECT_EQ(encode_token("a.b"), "a%2Eb");
	EXPECT_EQ(encode_token("a*b>c%d"), "a%2Ab%3Ec%25d");
	EXPECT_EQ(encode_token(" \t\n\r\x7f"), "%20%09%0A%0D%7F");
	EXPECT_EQ(encode_token(std::string_view("\0", 1)), "%00");
	/* Beyond ASCII, names stay readable. */
	EXPECT_EQ(encode_token("größe_表"), "größe_表");
	EXPECT_EQ(encode_token("Weird$Name-1"), "Weird$Name-1");
}

TEST(Subject, EncodingIsUnambiguous)
{
	EXPECT_NE(encode_token("a.b"), encode_token("a%2Eb"));
	for (int byte = 0; byte < 256; byte++)
	{
		std::string token = encode_token(std::string(1, static_cast<char>(byte)));

		EXPECT_TRUE(token.size() == 1 || token.size() == 3) << byte;
		EXPECT_EQ(token.find_first_of(". \t\r\n*>"), std::string::npos) << byte;
	}
}

TEST(Subject, Subjects)
{
	std::string root = subject_root("siphon", "prd.cell1.main.1");

	EXPECT_EQ(root, "siphon.prd.cell1.main.1");
	EXPECT_EQ(events_subject(root, "public", "a.b", 7), "siphon.prd.cell1.main.1.events.public.a%2Eb.7");
	EXPECT_EQ(events_subject(root, "public", "issues", std::nullopt), "siphon.prd.cell1.main.1.events.public.issues.*");
	EXPECT_EQ(message_subject(root, "siphon.a"), "siphon.prd.cell1.main.1.messages.siphon%2Ea");
	EXPECT_EQ(watermark_subject(root), "siphon.prd.cell1.main.1.watermark");
	EXPECT_EQ(stream_name("prd.cell1.main.1"), "siphon_prd_cell1_main_1");
}

TEST(Subject, Covers)
{
	EXPECT_TRUE(subject_covers("a.b", "a.b"));
	EXPECT_TRUE(subject_covers("a.>", "a.b.c"));
	EXPECT_TRUE(subject_covers("a.*.c", "a.b.c"));
	EXPECT_TRUE(subject_covers(">", "a"));
	EXPECT_TRUE(subject_covers("a.>", "a.b.>"));
	EXPECT_TRUE(subject_covers("a.*", "a.*"));
	EXPECT_FALSE(subject_covers("a.>", "a"));
	EXPECT_FALSE(subject_covers("a.*", "a.b.c"));
	EXPECT_FALSE(subject_covers("a.*", "a.>"));
	EXPECT_FALSE(subject_covers("a.b.>", "a.>"));
	EXPECT_FALSE(subject_covers("a.b", "a.*"));
	EXPECT_FALSE(subject_covers("a.b", "a"));
	EXPECT_FALSE(subject_covers("", "a"));
}

TEST(Subject, DottedNames)
{
	for (const char *good : {"main", "prd.cell1.main.1", "A_b-9"})
		EXPECT_TRUE(dotted_name_valid(good, 63)) << good;
	for (const char *bad : {"", ".", "a.", ".a", "a..b", "a b", "a/b", "a*", "ä", ">"})
		EXPECT_FALSE(dotted_name_valid(bad, 63)) << bad;
	EXPECT_TRUE(dotted_name_valid(std::string(63, 'a'), 63));
	EXPECT_FALSE(dotted_name_valid(std::string(64, 'a'), 63));
}

TEST(Subject, Positions)
{
	EXPECT_EQ(format_position(0, 0), "0000000000000000/0");
	EXPECT_EQ(format_position(0x16B3748, 12), "00000000016B3748/12");
	EXPECT_EQ(format_position(UINT64_MAX, UINT64_MAX), "FFFFFFFFFFFFFFFF/18446744073709551615");
}

TEST(MessageIdentity, RoundTrip)
{
	for (const MessageId &id : {MessageId{0, 0, 1}, MessageId{0x1234, 0xabcdef, 7},
								MessageId{UINT64_MAX, UINT64_MAX, UINT32_MAX}})
	{
		std::optional<MessageId> parsed = MessageId::parse(id.format());

		ASSERT_TRUE(parsed) << id.format();
		EXPECT_EQ(parsed->epoch, id.epoch);
		EXPECT_EQ(parsed->position, id.position);
		EXPECT_EQ(parsed->part, id.part);
	}
	EXPECT_EQ((MessageId{0x1234, 0xabc, 2}.format()), "0000000000001234-abc-2");
}

TEST(MessageIdentity, ForeignIdsAreNotTaken)
{
	for (const char *foreign :
		 {"", "hello", "1234-0-1", "0000000000001234", "0000000000001234-", "0000000000001234-0",
		  "0000000000001234-0-", "0000000000001234-0-x", "0000000000001234-0-1x", "0000000000001234-0-0",
		  "0000000000001234--1", "00000000000012340-0-1", "0000000000001234-0-4294967296"})
		EXPECT_FALSE(MessageId::parse(foreign)) << foreign;
}

} // namespace
