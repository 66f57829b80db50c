/*
 * What continues a stream and what does not, and which events it has already.
 */
#include "program/exit_codes.h"
#include "publisher/history/stream_history.h"
#include "publisher/history/published_positions.h"
#include "publisher/history/stream_guard.h"
#include "publisher/stream/memory/memory_stream.h"
#include "reader/subject.h"

#include <gtest/gtest.h>

using namespace siphon;

namespace {

class StreamHistoryTest : public testing::Test
{
protected:
	StreamHistoryTest() { stream.delay_percent = 0; }

	static HistoryRecord origin(uint64_t history, bool acknowledged, std::vector<uint64_t> epochs, uint64_t system = 1)
	{
		HistoryRecord made{};

		made.system_identifier = system;
		made.database = 5;

		made.history = history;
		made.acknowledged = acknowledged ? 1 : 0;
		for (uint64_t epoch : epochs)
			made.ring_ids[made.ring_id_count++] = epoch;
		made.timelines[made.timeline_count++] = {0, 1, 0};
		return made;
	}

	/* What it throws, "" if nothing. */
	template <typename Call> static std::string refusal(Call call, ExitCode code = ExitCode::StreamRefused)
	{
		try
		{
			call();
		}
		catch (const Fatal &fatal)
		{
			EXPECT_EQ(fatal.code, code);
			return fatal.what();
		}
		return "";
	}

	void settle(StreamHistory *history)
	{
		ASSERT_TRUE(history->refresh(&why)) << why;
		ASSERT_TRUE(history->claim(&why)) << why;
	}

	Dice dice{1};
	MemoryStream stream{&dice};
	std::string why;
};

TEST_F(StreamHistoryTest, BeginsAndGoesOn)
{
	StreamHistory first("main", false, 16, &stream);

	settle(&first);
	EXPECT_TRUE(first.is_new(origin(7, false, {1}), 0));
	ASSERT_TRUE(first.record_ring(origin(7, false, {1}), 1, 1, false, &why));
	EXPECT_TRUE(first.is_current(7));
	EXPECT_EQ(first.since(), 1u);

	/* Another process, a decoder that was started again. */
	StreamHistory second("main", false, 16, &stream);

	settle(&second);
	EXPECT_FALSE(second.is_new(origin(7, true, {1, 2}), 50));
	ASSERT_TRUE(second.record_ring(origin(7, true, {1, 2}), 2, 50, false, &why));
	EXPECT_EQ(second.since(), 1u);
	EXPECT_FALSE(second.is_new(origin(7, true, {2, 3}), 50));

	/* Whom the second replaced. */
	EXPECT_NE(refusal([&] { first.refresh(&why); }, ExitCode::Replaced)
				  .find("another publisher has taken over application main"),
			  std::string::npos);
}

TEST_F(StreamHistoryTest, RefusesWhatIsNoContinuation)
{
	StreamHistory history("main", false, 16, &stream);

	settle(&history);
	EXPECT_NE(refusal([&] { history.is_new(origin(7, true, {1}), 0); }).find("has lost what it had acknowledged"),
			  std::string::npos);
	ASSERT_TRUE(history.record_ring(origin(7, false, {1}), 1, 10, false, &why));
	EXPECT_NE(refusal([&] { history.is_new(origin(7, true, {1}), 9); }).find("has lost what it had acknowledged"),
			  std::string::npos);
	EXPECT_NE(refusal([&] {
				  history.is_new(origin(7, true, {4, 5}), 20);
			  }).find("perhaps a copy of this one"),
			  std::string::npos);
	EXPECT_NE(refusal([&] { history.is_new(origin(8, true, {1}), 20); }).find("another server, or a new application"),
			  std::string::npos);
	EXPECT_TRUE(history.is_new(origin(8, false, {1}), 20));
	/* A ring that was published from before somebody else went on. */
	EXPECT_EQ(refusal([&] { history.check_continued(7, 1, 20); }), "");
	EXPECT_NE(refusal([&] { history.check_continued(7, 2, 20); }).find("perhaps a copy of this one"),
			  std::string::npos);

	for (const std::string &text : {refusal([&] { history.check_continued(7, 1, 9); }),
									refusal([&] { history.check_continued(8, 1, 20); })})
		EXPECT_NE(text.find("SELECT siphon_resync_application('main')"), std::string::npos) << text;
}

/* The stream is whose it is, until somebody says otherwise; a new application of the same database may follow. */
TEST_F(StreamHistoryTest, AnotherDatabaseNeedsAWish)
{
	StreamHistory owner("main", false, 16, &stream);
	StreamHistory newcomer("main", false, 16, &stream);
	StreamHistory successor("main", true, 16, &stream);
	HistoryRecord wish = origin(8, false, {1}, 2);

	settle(&owner);
	ASSERT_TRUE(owner.record_ring(origin(7, false, {1}), 1, 10, false, &why));

	std::map<std::string, std::string> before = stream.states().values();

	ASSERT_TRUE(newcomer.refresh(&why));
	EXPECT_NE(refusal([&] { newcomer.is_new(origin(8, false, {1}, 2), 20); }).find("belongs to another database"),
			  std::string::npos);
	EXPECT_EQ(stream.states().values(), before);
	EXPECT_TRUE(newcomer.is_new(origin(8, false, {1}), 20));
	wish.take_over = 1;
	EXPECT_TRUE(newcomer.is_new(wish, 20));
	settle(&successor);
	EXPECT_TRUE(successor.is_new(origin(8, false, {1}, 2), 20));
	/* From then on the former owner is the stranger. */
	ASSERT_TRUE(successor.record_ring(origin(8, false, {1}, 2), 1, 20, false, &why));
	EXPECT_NE(refusal([&] { owner.refresh(&why); }, ExitCode::Replaced), "");
}

/* As long as the ring may bring what the stream has, the next publisher must know where that stands. */
TEST_F(StreamHistoryTest, RemembersWhereWhatComesAgainStands)
{
	StreamHistory first("main", false, 16, &stream);
	StreamHistory second("main", false, 300, &stream);

	settle(&first);
	ASSERT_TRUE(first.record_ring(origin(7, false, {1}), 1, 10, false, &why));
	EXPECT_FALSE(first.repeat_places());
	first.note_repeat_places({40, 3});
	ASSERT_TRUE(first.record_ring(origin(7, true, {1, 2}), 2, 50, true, &why));
	ASSERT_TRUE(second.refresh(&why));
	EXPECT_EQ(second.in_flight(), 300u);
	ASSERT_TRUE(second.repeat_places());
	EXPECT_EQ(second.repeat_places()->log, 40u);
	EXPECT_EQ(second.repeat_places()->spill, 3u);
	ASSERT_TRUE(second.claim(&why));
	ASSERT_TRUE(second.record_caught_up(&why));
	EXPECT_FALSE(second.repeat_places());

	StreamHistory third("main", false, 16, &stream);

	ASSERT_TRUE(third.refresh(&why));
	EXPECT_FALSE(third.repeat_places());
	EXPECT_EQ(third.in_flight(), 300u) << "the one before may have had more under way";
}

TEST_F(StreamHistoryTest, FollowsTimelinesThatHoldWhatWasPublished)
{
	StreamHistory history("main", false, 16, &stream);
	HistoryRecord next = origin(7, true, {1});

	settle(&history);
	ASSERT_TRUE(history.record_ring(origin(7, false, {1}), 1, 1, false, &why)); /* timeline 1 */
	next.timelines[0] = {0x9000, 3, 0};
	next.timelines[1] = {0x5000, 2, 0};
	next.timelines[2] = {0, 1, 0};
	next.timeline_count = 3;
	/* What counts is where the timeline that was published from ends. */
	EXPECT_EQ(refusal([&] { history.check_timeline(next, {0x4fff, 3}); }), "");
	EXPECT_NE(refusal([&] {
				  history.check_timeline(next, {0x5000, 1});
			  }).find("has lost them in a failover"),
			  std::string::npos);
	next.timelines[2].id = 4;
	EXPECT_NE(refusal([&] { history.check_timeline(next, {0, 0}); }).find("does not descend"), std::string::npos);
}

TEST_F(StreamHistoryTest, RefusesAnEntryThatIsNone)
{
	StreamHistory history("main", false, 16, &stream);

	for (const char *text :
		 {"", "{}", "no JSON", R"({"history": 7, "since": 1, "epoch": "1", "timeline": 1, "drops": false})",
		  R"({"history": "xyz", "since": 1, "epoch": "1", "timeline": 1, "drops": false})"})
	{
		stream.states().write("origin", text);
		EXPECT_NE(refusal([&] { history.refresh(&why); }).find("cannot be read"), std::string::npos) << text;
	}
}

/* One that is slow, and answers a write to whoever asks again for the same. */
class SlowStream : public Stream
{
public:
	explicit SlowStream(MemoryStream *stream) : stream_(*stream), states_(&stream->states()) {}

	bool ready() override { return stream_.ready(); }
	uint64_t interruptions() const override { return stream_.interruptions(); }
	std::string describe() const override { return stream_.describe(); }
	MemoryLog &log() override { return stream_.log(); }
	MemoryLog &spill() override { return stream_.spill(); }
	StateStore &states() override { return states_; }

private:
	class States : public StateStore
	{
	public:
		explicit States(MemoryStates *states) : states_(*states) {}

		std::optional<std::map<std::string, std::string>> load(std::string *why) override { return states_.load(why); }
		bool get(const std::string &key, bool adopt, std::optional<std::string> *value, std::string *why) override
		{
			return states_.get(key, adopt, value, why);
		}
		bool put(const std::string &key, const std::string &value, std::string *why) override
		{
			std::string &under_way = under_way_[key];

			EXPECT_TRUE(under_way.empty() || under_way == value) << "another write is under way";
			if (under_way.empty())
			{
				under_way = value;
				return false;
			}
			under_way.clear();
			return states_.put(key, value, why);
		}
		bool renew(const std::string &key, const std::string &value, std::string *why) override { return put(key, value, why); }
		bool erase(const std::string &key, std::string *why) override { return states_.erase(key, why); }
		bool erase_tables(std::string *why) override { return states_.erase_tables(why); }
		uint64_t answers() const override { return states_.answers(); }

	private:
		MemoryStates &states_;
		std::map<std::string, std::string> under_way_;
	};

	MemoryStream &stream_;
	States states_;
};

/* Watermarks come meanwhile, and a limit that was lifted is known all the same. */
TEST_F(StreamHistoryTest, NotesLiftedLimitsUnderLoad)
{
	SlowStream slow(&stream);
	StreamHistory history("main", false, 16, &slow);
	LogHealth health;
	Place last = 20;
	auto noted = [&] {
		for (int i = 0; i < 5; i++)
		{
			stream.log().messages[++last].subject = "watermark";
			if (history.note_limits(&health, "watermark", &why))
				return true;
		}
		return false;
	};

	ASSERT_TRUE(history.refresh(&why)) << why;
	while (!history.claim(&why))
		;
	while (!history.record_ring(origin(7, false, {1}), 1, 10, false, &why))
		;
	health.lossy = true;
	ASSERT_TRUE(noted());
	health.lossy = false;
	ASSERT_TRUE(noted());
	EXPECT_FALSE(health.lossy);
	/* Where the first of them stood that was asked for. */
	EXPECT_EQ(history.kept_from(), 23u);
}

/* Who finds another write under way waits for that, and makes his own of it. */
TEST_F(StreamHistoryTest, WritesOneAfterTheOther)
{
	SlowStream slow(&stream);
	StreamHistory history("main", false, 16, &slow);
	LogHealth health;
	int turns = 0;

	ASSERT_TRUE(history.refresh(&why)) << why;
	while (!history.claim(&why))
		;
	while (!history.record_ring(origin(7, false, {1}), 1, 10, false, &why))
		;
	history.note_repeat_places({40, 3});
	while (!history.record_ring(origin(7, true, {1, 2}), 2, 50, true, &why))
		;
	health.lossy = true;
	for (bool limits = false, caught_up = false; !limits || !caught_up; turns++)
	{
		ASSERT_LT(turns, 10);
		limits = limits || history.note_limits(&health, "watermark", &why);
		caught_up = caught_up || history.record_caught_up(&why);
	}
	EXPECT_FALSE(history.repeat_places());

	std::string text = stream.states().values().at("origin");

	EXPECT_NE(text.find("\"lossy\":true"), std::string::npos) << text;
	EXPECT_EQ(text.find("again"), std::string::npos) << text;
}

class StreamGuardTest : public StreamHistoryTest
{
protected:
	std::string log(LogHealth health, double seconds, Place since = 10)
	{
		now += std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
		return guard.look("the log", health, since, now);
	}

	/* Of a log that takes the oldest away. */
	static LogHealth lossy(Place first, Place last)
	{
		LogHealth health;

		health.first = first;
		health.last = last;
		health.messages = first == kNoPlace ? 0 : last - first + 1;
		health.lossy = true;
		return health;
	}

	StreamGuard guard{"main"};
	StreamGuard::Clock::time_point now{};
};

/* The message that begins the history is never removed by a publisher. */
TEST_F(StreamGuardTest, NoticesAnEmptiedLog)
{
	LogHealth health;

	health.first = 10;
	health.last = 100;
	EXPECT_EQ(log(health, 5), "");
	health.first = 11;
	EXPECT_NE(log(health, 5).find("was emptied"), std::string::npos);
	health.first = kNoPlace;
	EXPECT_NE(log(health, 5).find("SELECT siphon_resync_application('main')"), std::string::npos);
}

/* Limits take the oldest, and not all that was there a moment ago. */
TEST_F(StreamGuardTest, TellsALimitFromAHand)
{
	LogHealth health = lossy(500, 1000);

	health.bytes_limit = 1000;
	health.bytes = 900;
	EXPECT_EQ(log(health, 5), "");
	health = lossy(900, 1400);
	health.bytes_limit = 1000;
	health.bytes = 950;
	EXPECT_EQ(log(health, 5), "");
	/* Much was published, and there is as much in its place. */
	health = lossy(2000, 2500);
	health.bytes_limit = 1000;
	health.bytes = 950;
	EXPECT_EQ(log(health, 5), "");
	health.first = 2499;
	health.bytes = 20;
	EXPECT_EQ(log(health, 5), "") << "of what was there something is left";
	health = lossy(kNoPlace, 2500);
	health.bytes_limit = 1000;
	EXPECT_NE(log(health, 5), "");
	guard.forget();
	health = lossy(2500, 2500);
	EXPECT_EQ(log(health, 5), "");
	health = lossy(3000, 3001);
	health.subject_limit = 1;
	EXPECT_EQ(log(health, 5), "") << "the last of each subject is there";
	health = lossy(kNoPlace, 3001);
	health.subject_limit = 1;
	EXPECT_NE(log(health, 5), "");
}

TEST_F(StreamGuardTest, BelievesAnAgeThatWasReached)
{
	LogHealth health = lossy(500, 1000);

	health.age_limit = 60;
	EXPECT_EQ(log(health, 5), "");
	health.first = kNoPlace;
	EXPECT_NE(log(health, 5), "");
	guard.forget();
	EXPECT_EQ(log(health, 5), "") << "nobody saw what was there before";
	health = lossy(500, 1000);
	health.age_limit = 3;
	EXPECT_EQ(log(health, 5), "");
	health.first = kNoPlace;
	EXPECT_EQ(log(health, 5), "");
}

TEST_F(StreamGuardTest, LooksBackAtAStart)
{
	LogHealth health = lossy(kNoPlace, 1000);
	auto look_back = [&] { return guard.look_back("the log", health, 1000); };

	health.bytes_limit = 1000;
	EXPECT_NE(look_back().find("was emptied"), std::string::npos);
	health.bytes = 900;
	EXPECT_EQ(look_back(), "");
	health.bytes = health.bytes_limit = 0;
	health.age_limit = 60;
	health.last_age = 30;
	EXPECT_NE(look_back(), "");
	health.last_age = 90;
	EXPECT_EQ(look_back(), "");
	health.last_age = 30;
	health.last = 1001;
	EXPECT_EQ(look_back(), "") << "nobody knows how old it was";
	health = lossy(1000, 1000);
	EXPECT_EQ(look_back(), "");
}

TEST_F(StreamGuardTest, MissesNothingThatIsHeld)
{
	LogHealth health;
	auto spill = [&](std::optional<Place> lowest) {
		return refusal([&] { guard.check_spill("the spill", health, lowest); });
	};

	health.first = 7;
	health.last = 20;
	EXPECT_EQ(spill(std::nullopt), "");
	EXPECT_EQ(spill(7), "");
	EXPECT_NE(spill(6).find("has lost held changes"), std::string::npos);
	health.removed = 1;
	EXPECT_NE(spill(7), "");
	EXPECT_EQ(spill(std::nullopt), "");
	health.first = kNoPlace;
	health.removed = 0;
	EXPECT_NE(spill(7), "");
}

class PublishedTest : public StreamHistoryTest
{
protected:
	void add(const std::string &subject, const std::string &kind, uint32_t generation, const std::string &first,
			 const std::string &last, const std::string &part = "")
	{
		StoredMessage message{};

		message.place = ++place;
		message.subject = subject;
		message.kind = kind;
		message.generation = generation;
		message.first = first;
		message.last = last;
		message.part = part;
		published.add({message}, "the log");
	}

	std::string upto(uint32_t partition, uint32_t generation, std::optional<Place> held_behind = kNoPlace, bool held = true)
	{
		std::optional<Position> position = published.last_position("public", "t", partition, generation, held_behind, held);

		return position ? format_position(position->lsn, position->ordinal) : "none";
	}

	PublishedPositions published{"siphon.main"};
	Place place = kNoPlace;
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
	EXPECT_TRUE(published.active());
	EXPECT_EQ(upto(0, 5), "0000000000002000/2");
	EXPECT_EQ(upto(0, 6), "none");
	/* What was published directly counts for a later generation that is not held. */
	EXPECT_EQ(upto(0, 6, kNoPlace, false), "0000000000001000/9");
	/* What is held counts only if it is still to be moved. */
	EXPECT_EQ(upto(0, 5, 1), "0000000000002000/2");
	EXPECT_EQ(upto(0, 5, 2), "0000000000001000/9");
	EXPECT_EQ(upto(0, 5, std::nullopt), "0000000000001000/9");
	EXPECT_EQ(upto(1, 5), "0000000000003000/3");
	EXPECT_EQ(upto(2, 5), "0000000000003000/9");
	EXPECT_EQ(upto(3, 5), "none");
	EXPECT_TRUE(published.has_watermark(0x2000));
	EXPECT_FALSE(published.has_watermark(0x2001));

	EXPECT_FALSE(published.is_beyond(0x2fff));
	EXPECT_TRUE(published.is_beyond(0x3000));
	published.note_watermark();
	EXPECT_FALSE(published.active());
	EXPECT_FALSE(published.is_beyond(0x3000));
}

/* A message that was broken off is not there, and where it has the ordinal 0, nothing of its LSN is. */
TEST_F(PublishedTest, KnowsLogicalMessages)
{
	auto last_message_position = [&](std::string_view prefix) {
		std::optional<Position> position = published.last_message_position(prefix);

		return position ? format_position(position->lsn, position->ordinal) : "none";
	};

	add("siphon.main.messages.siphon", "message", 0, "0000000000001000/0", "0000000000001000/0");
	add("siphon.main.messages.siphon%2Ejob", "message", 0, "0000000000002000/0", "0000000000002000/0", "1/2");
	add("siphon.main.messages.siphon%2Ein", "message", 0, "0000000000003000/7", "0000000000003000/7", "2/3");
	EXPECT_EQ(last_message_position("siphon"), "0000000000001000/0");
	EXPECT_EQ(last_message_position("siphon.job"), "0000000000001FFF/18446744073709551615");
	EXPECT_EQ(last_message_position("siphon.in"), "0000000000003000/6");
	EXPECT_EQ(last_message_position("siphon.other"), "none");
	EXPECT_EQ(published.newest().lsn, 0x3000U);
}

TEST_F(PublishedTest, DoesNotCountAnEarlierHistory)
{
	add("siphon.main.events.public.t.0", "changes", 5, "0000000000001000/1", "0000000000001000/9");
	add("siphon.main.watermark", "history", 0, "", "");
	EXPECT_FALSE(published.active());
	EXPECT_EQ(upto(0, 5), "none");
}

TEST_F(PublishedTest, RefusesAPositionThatIsNone)
{
	EXPECT_NE(refusal([&] { add("siphon.main.events.public.t.0", "changes", 5, "1000", "x"); })
				  .find("is not what a publisher writes"),
			  std::string::npos);
}

} // namespace
