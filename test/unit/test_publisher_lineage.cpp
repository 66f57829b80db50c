/*
 * What continues a stream and what does not, and which events it has already.
 */
#include "exit_codes.h"
#include "lineage.h"
#include "memory_queue.h"
#include "published.h"

using namespace siphon;

namespace {

class LineageTest : public testing::Test
{
protected:
	static Origin origin(uint64_t history, bool acknowledged, std::vector<uint64_t> epochs)
	{
		Origin made{};

		made.history = history;
		made.acknowledged = acknowledged ? 1 : 0;
		for (uint64_t epoch : epochs)
			made.epochs[made.epoch_count++] = epoch;
		made.timelines[made.timeline_count++] = {0, 1, 0};
		return made;
	}

	/* What it throws, "" if nothing. */
	template <typename Call> static std::string refusal(Call call)
	{
		try
		{
			call();
		}
		catch (const Fatal &fatal)
		{
			EXPECT_EQ(fatal.code, ExitCode::StreamRefused);
			return fatal.what();
		}
		return "";
	}

	void settle(Lineage *lineage) { ASSERT_TRUE(lineage->settle(&why)) << why; }

	Dice dice{1};
	Wakeup wakeup;
	MemoryQueue queue{&dice, &wakeup};
	std::string why;
};

TEST_F(LineageTest, BeginsAndGoesOn)
{
	Lineage first("main", &queue);

	settle(&first);
	EXPECT_TRUE(first.begins(origin(7, false, {1}), 0));
	ASSERT_TRUE(first.enter(origin(7, false, {1}), 1, 1, &why));
	EXPECT_TRUE(first.current(7));
	EXPECT_EQ(first.since(), 1u);

	/* Another process, a decoder that was started again. */
	Lineage second("main", &queue);

	settle(&second);
	EXPECT_FALSE(second.begins(origin(7, true, {1, 2}), 50));
	ASSERT_TRUE(second.enter(origin(7, true, {1, 2}), 2, 50, &why));
	EXPECT_EQ(second.since(), 1u);
	EXPECT_FALSE(second.begins(origin(7, true, {2, 3}), 50));

	/* Whom the second replaced. */
	EXPECT_NE(refusal([&] { first.settle(&why); }).find("another publisher has taken over application main"),
			  std::string::npos);
}

TEST_F(LineageTest, RefusesWhatIsNoContinuation)
{
	Lineage lineage("main", &queue);

	settle(&lineage);
	EXPECT_NE(refusal([&] { lineage.begins(origin(7, true, {1}), 0); }).find("has lost what it had acknowledged"),
			  std::string::npos);
	ASSERT_TRUE(lineage.enter(origin(7, false, {1}), 1, 10, &why));
	EXPECT_NE(refusal([&] { lineage.begins(origin(7, true, {1}), 9); }).find("has lost what it had acknowledged"),
			  std::string::npos);
	EXPECT_NE(refusal([&] {
				  lineage.begins(origin(7, true, {4, 5}), 20);
			  }).find("perhaps a copy of this one"),
			  std::string::npos);
	EXPECT_NE(refusal([&] { lineage.begins(origin(8, true, {1}), 20); }).find("another server, or a new application"),
			  std::string::npos);
	EXPECT_TRUE(lineage.begins(origin(8, false, {1}), 20));
	/* A ring that was published from before somebody else went on. */
	EXPECT_EQ(refusal([&] { lineage.check_continued(7, 1, 20); }), "");
	EXPECT_NE(refusal([&] { lineage.check_continued(7, 2, 20); }).find("perhaps a copy of this one"),
			  std::string::npos);

	EXPECT_EQ(refusal([&] { lineage.check_first(10); }), "");
	EXPECT_NE(refusal([&] { lineage.check_first(11); }).find("was emptied by somebody"), std::string::npos);
	for (const std::string &text :
		 {refusal([&] { lineage.check_first(11); }), refusal([&] { lineage.check_continued(7, 1, 9); }),
		  refusal([&] { lineage.check_continued(8, 1, 20); })})
		EXPECT_NE(text.find("SELECT siphon_resync_application('main')"), std::string::npos) << text;
}

/* What the settings took away, nobody has to answer for, also when they are changed later. */
TEST_F(LineageTest, RemembersThatMessagesWereDropped)
{
	Lineage lineage("main", &queue);

	settle(&lineage);
	ASSERT_TRUE(lineage.enter(origin(7, false, {1}), 1, 10, &why));
	EXPECT_EQ(refusal([&] { lineage.check_first(0); }), "");
	settle(&lineage);
	EXPECT_EQ(refusal([&] { lineage.check_first(11); }), "");
	ASSERT_TRUE(lineage.enter(origin(7, true, {1, 2}), 2, 20, &why));
	EXPECT_EQ(refusal([&] { lineage.check_first(11); }), "");
	ASSERT_TRUE(lineage.enter(origin(8, false, {3}), 3, 30, &why));
	EXPECT_NE(refusal([&] { lineage.check_first(31); }).find("was emptied"), std::string::npos);
}

TEST_F(LineageTest, FollowsTimelinesThatHoldWhatWasPublished)
{
	Lineage lineage("main", &queue);
	Origin next = origin(7, true, {1});

	settle(&lineage);
	ASSERT_TRUE(lineage.enter(origin(7, false, {1}), 1, 1, &why)); /* timeline 1 */
	next.timelines[0] = {0x9000, 3, 0};
	next.timelines[1] = {0x5000, 2, 0};
	next.timelines[2] = {0, 1, 0};
	next.timeline_count = 3;
	/* What counts is where the timeline that was published from ends. */
	EXPECT_EQ(refusal([&] { lineage.check_timeline(next, {0x4fff, 3}); }), "");
	EXPECT_NE(refusal([&] {
				  lineage.check_timeline(next, {0x5000, 1});
			  }).find("has lost them in a failover"),
			  std::string::npos);
	next.timelines[2].id = 4;
	EXPECT_NE(refusal([&] { lineage.check_timeline(next, {0, 0}); }).find("does not descend"), std::string::npos);
}

TEST_F(LineageTest, RefusesAnEntryThatIsNone)
{
	Lineage lineage("main", &queue);

	for (const char *text :
		 {"", "{}", "no JSON", R"({"history": 7, "since": 1, "epoch": "1", "timeline": 1, "drops": false})",
		  R"({"history": "xyz", "since": 1, "epoch": "1", "timeline": 1, "drops": false})"})
	{
		queue.states["origin"] = text;
		EXPECT_NE(refusal([&] { lineage.settle(&why); }).find("can't be read"), std::string::npos) << text;
	}
}

class PublishedTest : public LineageTest
{
protected:
	void add(const std::string &subject, const std::string &kind, uint32_t generation, const std::string &first,
			 const std::string &last, const std::string &part = "")
	{
		queue.log[++queue.last] = {
			queue.last, subject, "", "", {{"Siphon-Kind", kind}, {"Siphon-First", first}, {"Siphon-Last", last}}, ""};
		if (generation != 0)
			queue.log[queue.last].headers["Siphon-Generation"] = std::to_string(generation);
		if (!part.empty())
			queue.log[queue.last].headers["Siphon-Part"] = part;
	}

	std::string upto(uint32_t partition, uint32_t generation, std::optional<uint64_t> held_from = 1, bool held = true)
	{
		std::optional<Position> position = published.upto("public", "t", partition, generation, held_from, held);

		return position ? format_position(position->lsn, position->ordinal) : "none";
	}

	void load(uint64_t since = 0) { ASSERT_TRUE(published.load(&queue, since, queue.last, &why)); }

	Published published{"siphon.main"};
};

TEST_F(PublishedTest, KnowsTheLastPositions)
{
	add("siphon.main.events.public.t.0", "changes", 5, "0000000000001000/1", "0000000000001000/9");
	add("siphon.main.held.public.t.0", "changes", 5, "0000000000002000/1", "0000000000002000/2");
	/* A package that was broken off is not there, but all before it is. */
	add("siphon.main.events.public.t.1", "changes", 5, "0000000000003000/4", "0000000000003000/9", "1/3");
	add("siphon.main.events.public.t.2", "changes", 5, "0000000000003000/4", "0000000000003000/9", "3/3");
	add("siphon.main.events.public.t.3", "snapshot-end", 5, "0000000000009000/0", "0000000000009000/0");
	add("siphon.main.watermark", "watermark", 0, "0000000000002000/0", "0000000000002000/0");
	load();
	EXPECT_TRUE(published.active());
	EXPECT_EQ(upto(0, 5), "0000000000002000/2");
	EXPECT_EQ(upto(0, 6), "none");
	/* What was published directly counts for a later generation that is not held. */
	EXPECT_EQ(upto(0, 6, 1, false), "0000000000001000/9");
	/* What is held counts only if it is still to be moved. */
	EXPECT_EQ(upto(0, 5, 2), "0000000000002000/2");
	EXPECT_EQ(upto(0, 5, 3), "0000000000001000/9");
	EXPECT_EQ(upto(0, 5, std::nullopt), "0000000000001000/9");
	EXPECT_EQ(upto(1, 5), "0000000000003000/3");
	EXPECT_EQ(upto(2, 5), "0000000000003000/9");
	EXPECT_EQ(upto(3, 5), "none");
	EXPECT_TRUE(published.has_watermark(0x2000));
	EXPECT_FALSE(published.has_watermark(0x2001));

	published.passed(0x2fff);
	EXPECT_TRUE(published.active());
	published.passed(0x3000);
	EXPECT_FALSE(published.active());
}

/* A message that was broken off is not there, and where it has the ordinal 0, nothing of its LSN is. */
TEST_F(PublishedTest, KnowsLogicalMessages)
{
	auto messages_upto = [&](std::string_view prefix) {
		std::optional<Position> position = published.messages_upto(prefix);

		return position ? format_position(position->lsn, position->ordinal) : "none";
	};

	add("siphon.main.messages.siphon", "message", 0, "0000000000001000/0", "0000000000001000/0");
	add("siphon.main.messages.siphon%2Ejob", "message", 0, "0000000000002000/0", "0000000000002000/0", "1/2");
	add("siphon.main.messages.siphon%2Ein", "message", 0, "0000000000003000/7", "0000000000003000/7", "2/3");
	load();
	EXPECT_EQ(messages_upto("siphon"), "0000000000001000/0");
	EXPECT_EQ(messages_upto("siphon.job"), "0000000000001FFF/18446744073709551615");
	EXPECT_EQ(messages_upto("siphon.in"), "0000000000003000/6");
	EXPECT_EQ(messages_upto("siphon.other"), "none");
	EXPECT_EQ(published.newest().lsn, 0x3000U);
}

TEST_F(PublishedTest, DoesNotCountAnEarlierHistory)
{
	add("siphon.main.events.public.t.0", "changes", 5, "0000000000001000/1", "0000000000001000/9");
	add("siphon.main.watermark", "history", 0, "", "");
	load(2);
	EXPECT_FALSE(published.active());
	EXPECT_EQ(upto(0, 5), "none");
}

TEST_F(PublishedTest, RefusesAPositionThatIsNone)
{
	add("siphon.main.events.public.t.0", "changes", 5, "1000", "x");
	EXPECT_NE(refusal([&] { published.load(&queue, 0, queue.last, &why); }).find("is not what a publisher writes"),
			  std::string::npos);
}

} // namespace
