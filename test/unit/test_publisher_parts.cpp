/* Cutting records into messages and putting them together again. */
#include "publisher/messages/frame_messages.h"
#include "publisher/messages/parts.h"
#include "publisher/messages/record_messages.h"
#include "reader/package_assembler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

using namespace siphon;

namespace {

TEST(Parts, Plans)
{
	/* One frame, one message. */
	PartPlan plan = plan_parts(100, 0, 100, 1000, 1000).value();
	EXPECT_EQ(plan.first, 1u);
	EXPECT_EQ(plan.count, 1u);
	EXPECT_EQ(plan.total, 1u);

	/* An empty record is one message. */
	EXPECT_EQ(plan_parts(0, 0, 0, 1000, 1000).value().total, 1u);

	/* Three fragments of 100, 100 and 50 bytes; messages of 40: 3 + 3 + 2. */
	plan = plan_parts(250, 100, 100, 100, 40).value();
	EXPECT_EQ(plan.first, 4u);
	EXPECT_EQ(plan.count, 3u);
	EXPECT_EQ(plan.total, 8u);
	plan = plan_parts(250, 200, 50, 100, 40).value();
	EXPECT_EQ(plan.first, 7u);
	EXPECT_EQ(plan.last(), 8u);
	EXPECT_EQ(plan.total, 8u);
}

TEST(Parts, RefusesFragmentsThatCannotBe)
{
	EXPECT_FALSE(plan_parts(250, 90, 100, 100, 40));  /* not at a multiple */
	EXPECT_FALSE(plan_parts(250, 100, 90, 100, 40));  /* short, and not the last */
	EXPECT_FALSE(plan_parts(250, 0, 101, 100, 40));   /* long */
	EXPECT_FALSE(plan_parts(250, 200, 60, 100, 40));  /* beyond the end */
	EXPECT_FALSE(plan_parts(250, 300, 0, 100, 40));
	EXPECT_FALSE(plan_parts(200, 200, 0, 100, 40));   /* empty, of a record that is not */
	EXPECT_FALSE(plan_parts(100, 0, 100, 0, 40));
	EXPECT_FALSE(plan_parts(100, 0, 100, 100, 0));
	EXPECT_FALSE(plan_parts(UINT32_MAX, UINT32_MAX, 100, 100, 40));
}

/* Whatever the sizes, all fragments agree on the total, and their parts follow each other without gap. */
TEST(Parts, FragmentsAgree)
{
	uint64_t seed = std::random_device()();
	std::mt19937_64 random(seed);

	SCOPED_TRACE("seed " + std::to_string(seed));
	for (int i = 0; i < 5000; i++)
	{
		uint32_t record = static_cast<uint32_t>(random() % 5000);
		uint32_t fragment = 1 + static_cast<uint32_t>(random() % 700);
		uint32_t body = 1 + static_cast<uint32_t>(random() % 900);
		uint32_t next = 1;
		uint32_t total = 0;
		uint32_t offset = 0;

		do
		{
			uint32_t length = std::min(fragment, record - offset);
			std::optional<PartPlan> plan = plan_parts(record, offset, length, fragment, body);

			ASSERT_TRUE(plan) << record << " " << offset << " " << fragment << " " << body;
			ASSERT_EQ(plan->first, next);
			ASSERT_GE(uint64_t{plan->count} * plan->piece_size, length);
			ASSERT_TRUE(plan->count == 1 || uint64_t{plan->count - 1} * plan->piece_size < length);
			ASSERT_TRUE(total == 0 || plan->total == total);
			total = plan->total;
			next = plan->last() + 1;
			offset += length;
		} while (offset < record);
		ASSERT_EQ(next, total + 1);
	}
}

Frame
make_frame(const std::string &route, const std::string &payload, uint32_t record_length, uint32_t offset)
{
	Frame frame{};

	frame.header.kind = static_cast<uint16_t>(FrameKind::Changes);
	frame.header.position = 4096 + offset;
	frame.header.route_length = static_cast<uint16_t>(route.size());
	frame.header.payload_length = static_cast<uint32_t>(payload.size());
	frame.header.record_length = record_length;
	frame.header.record_offset = offset;
	frame.header.partition = 3;
	frame.header.generation = 2;
	frame.header.events = 5;
	frame.header.first = {0x100, 1};
	frame.header.last = {0x200, 9};
	frame.route = route.data();
	frame.payload = payload.data();
	return frame;
}

std::string
header_of(const Message &message, const std::string &name)
{
	for (const Header &header : message.headers)
	{
		if (name == header.name)
			return header.value;
	}
	return "";
}

/* From frames to messages and back, as the publisher and siphon-tail do it. */
TEST(FrameMessagesTest, RecordsSurvive)
{
	uint64_t seed = std::random_device()();
	std::mt19937_64 random(seed);
	FrameMessages messages("siphon.main", 1);
	PackageAssembler assembler;
	std::string route("public\0iss.ues", 14);

	SCOPED_TRACE("seed " + std::to_string(seed));
	for (int i = 0; i < 300; i++)
	{
		uint32_t fragment_limit = 50 + static_cast<uint32_t>(random() % 2000);
		uint32_t fragment = fragment_limit - static_cast<uint32_t>(route.size());
		uint32_t body_limit = 10 + static_cast<uint32_t>(random() % 3000);
		std::string record(random() % 6000, '\0');
		bool compressible = random() % 2 == 0;
		std::string assembled = "?";
		bool complete = false;

		for (char &c : record)
			c = static_cast<char>(compressible ? 'a' + random() % 2 : random());
		for (uint32_t offset = 0; !complete;)
		{
			std::string payload = record.substr(offset, fragment);
			Frame frame = make_frame(route, payload, static_cast<uint32_t>(record.size()), offset);
			Message message;

			ASSERT_TRUE(messages.start(frame, 0xabc, fragment_limit, body_limit));
			while (!messages.done())
			{
				std::string_view result;
				bool last = messages.last_of_record();

				ASSERT_LE(messages.next_size(), body_limit);
				messages.build(&message);
				ASSERT_LE(message.body.size(), body_limit);
				ASSERT_EQ(message.subject, "siphon.main.events.public.iss%2Eues.3");
				auto added = assembler.add(message.subject, header_of(message, "Siphon-Part"),
										   header_of(message, "Siphon-Encoding"), message.body, &result);

				ASSERT_EQ(added, last ? PackageAssembler::Result::Complete : PackageAssembler::Result::Incomplete);
				complete = last;
				if (last)
					assembled = result;
			}
			offset += static_cast<uint32_t>(payload.size());
		}
		ASSERT_EQ(assembled, record);
	}
}

TEST(FrameMessagesTest, Headers)
{
	FrameMessages messages("siphon.main", 1);
	std::string route("public\0issues", 13);
	std::string payload(100, 'x');
	Message message;

	ASSERT_TRUE(messages.start(make_frame(route, payload, 100, 0), 0xabc, 1000, 1000));
	EXPECT_TRUE(messages.last_of_frame());
	messages.build(&message);
	EXPECT_TRUE(messages.done());
	EXPECT_EQ(message.id, "0000000000000abc-1000-1");
	EXPECT_EQ(header_of(message, "Siphon-Kind"), "changes");
	EXPECT_EQ(header_of(message, "Siphon-First"), "0000000000000100/1");
	EXPECT_EQ(header_of(message, "Siphon-Last"), "0000000000000200/9");
	EXPECT_EQ(header_of(message, "Siphon-Events"), "5");
	EXPECT_EQ(header_of(message, "Siphon-Generation"), "2");
	EXPECT_EQ(header_of(message, "Siphon-Encoding"), "none");
	EXPECT_EQ(header_of(message, "Siphon-Part"), "");

	/* Resumed behind its second of three parts. */
	ASSERT_TRUE(messages.start(make_frame(route, payload, 100, 0), 0xabc, 1000, 40));
	messages.skip_to(2);
	EXPECT_EQ(messages.next_size(), 20u);
	messages.build(&message);
	EXPECT_EQ(header_of(message, "Siphon-Part"), "3/3");
	EXPECT_EQ(message.id, "0000000000000abc-1000-3");
	EXPECT_TRUE(messages.done());

	/* A route that is none. */
	EXPECT_FALSE(messages.start(make_frame("public", payload, 100, 0), 0xabc, 1000, 1000));

	/* Of a table whose changes are held. */
	Frame held = make_frame(route, payload, 100, 0);

	held.header.kind = static_cast<uint16_t>(FrameKind::Held);
	ASSERT_TRUE(messages.start(held, 0xabc, 1000, 1000, true));
	messages.build(&message);
	EXPECT_EQ(message.subject, "siphon.main.held.public.issues.3");
	EXPECT_EQ(header_of(message, "Siphon-Kind"), "changes");

	Frame row = make_frame(route, payload, 100, 0);

	row.header.kind = static_cast<uint16_t>(FrameKind::Snapshot);
	ASSERT_TRUE(messages.start(row, 0xabc, 1000, 1000));
	messages.build(&message);
	EXPECT_EQ(message.subject, "siphon.main.events.public.issues.3");
	EXPECT_EQ(header_of(message, "Siphon-Kind"), "snapshot");
}

TEST(RecordMessagesTest, AllPartsOfOneSubjectThenTheNext)
{
	RecordMessages messages(0);
	Message message;
	std::vector<std::string> seen;

	messages.start("abcde", {"s.0", "s.1"}, {{"Siphon-Kind", "snapshot-begin"}}, 0xabc, 0x40, 2);
	EXPECT_EQ(messages.total(), 6u);
	messages.skip_to(1);
	while (messages.active())
	{
		bool last = messages.next_is_last_part();
		Cursor cursor = messages.build(&message);

		EXPECT_EQ(cursor.total, 6u);
		EXPECT_EQ(last, header_of(message, "Siphon-Part") == "3/3");
		seen.push_back(message.subject + " " + header_of(message, "Siphon-Part") + " " + std::string(message.body));
	}
	EXPECT_EQ(seen, (std::vector<std::string>{"s.0 2/3 cd", "s.0 3/3 e", "s.1 1/3 ab", "s.1 2/3 cd", "s.1 3/3 e"}));
	EXPECT_EQ(message.id, "0000000000000abc-40-6");

	messages.start("", {"s.0"}, {}, 1, 1, 2);
	EXPECT_EQ(messages.total(), 1u);
	messages.build(&message);
	EXPECT_FALSE(messages.active());
	EXPECT_EQ(header_of(message, "Siphon-Part"), "");
}

TEST(Assembler, BrokenOffRecords)
{
	PackageAssembler assembler;
	std::string_view payload;
	using Result = PackageAssembler::Result;

	/* The beginning was missed. */
	EXPECT_EQ(assembler.add("s", "2/3", "none", "b", &payload), Result::Incomplete);
	EXPECT_EQ(assembler.add("s", "3/3", "none", "c", &payload), Result::Incomplete);
	/* A record that breaks off and begins again, in other parts. */
	EXPECT_EQ(assembler.add("s", "1/3", "none", "a", &payload), Result::Incomplete);
	EXPECT_EQ(assembler.add("s", "2/3", "none", "b", &payload), Result::Incomplete);
	EXPECT_EQ(assembler.add("s", "1/2", "none", "A", &payload), Result::Incomplete);
	/* Subjects don't mix. */
	EXPECT_EQ(assembler.add("t", "1/2", "none", "x", &payload), Result::Incomplete);
	EXPECT_EQ(assembler.add("s", "2/2", "none", "B", &payload), Result::Complete);
	EXPECT_EQ(payload, "AB");
	EXPECT_EQ(assembler.add("t", "2/2", "none", "y", &payload), Result::Complete);
	EXPECT_EQ(payload, "xy");
	EXPECT_EQ(assembler.add("s", "", "none", "whole", &payload), Result::Complete);
	EXPECT_EQ(payload, "whole");

	for (const char *bad : {"0/2", "3/2", "1", "1/", "/2", "a/b", "1/2x", "-1/2"})
		EXPECT_EQ(assembler.add("s", bad, "none", "a", &payload), Result::Invalid) << bad;
	EXPECT_EQ(assembler.add("s", "", "lz4", "a", &payload), Result::Invalid);
	EXPECT_EQ(assembler.add("s", "", "zstd", "not zstd", &payload), Result::Invalid);
}

} // namespace
