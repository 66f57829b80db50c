/*
 * Names that go from one table to another: what the publisher makes of frames of several tables under one name, in the
 * order in which their places in the WAL come, and of what is decoded once more.
 */
#include "publisher/stream/memory/memory_stream.h"
#include "publisher/table/hand_off.h"

#include <gtest/gtest.h>

using namespace siphon;

namespace {

class NamesTest : public testing::Test
{
protected:
	NamesTest() { stream.delay_percent = 0; }

	static constexpr uint32_t kOld = 16384; /* the table that has the name at first */
	static constexpr uint32_t kNew = 16390;

	static TableFrame frame(uint32_t oid, uint32_t generation, FrameKind kind, uint64_t lsn)
	{
		return {"public", "t", oid, generation, kind, lsn};
	}

	HandOff::Route route(uint32_t oid, uint32_t generation, FrameKind kind, uint64_t lsn)
	{
		return hand_off.route(frame(oid, generation, kind, lsn), true, {lsn, 1}, true, now);
	}

	void begin(uint32_t oid, uint32_t generation, uint64_t lsn)
	{
		TableFrame marker = frame(oid, generation, FrameKind::SnapshotBegin, lsn);

		ASSERT_FALSE(hand_off.is_stale(marker));
		ASSERT_TRUE(hand_off.begin(marker, now));
		ASSERT_TRUE(hand_off.on_snapshot_begin_stored(marker, kNoPlace, now));
	}

	/* A message that stays, so that there is something to purge. */
	void publish(const std::string &subject)
	{
		MemoryLog &log = subject.find(".held.") != std::string::npos ? stream.spill() : stream.log();

		log.put({kNoPlace, subject, "", "", {{"Siphon-Kind", "changes"}}, ""});
		ledger.reset_to({stream.log().end, 1}, {stream.spill().end, 1});
	}

	/* What waited in the spill and is wanted no more goes with the next step; its last message is a fence then. */
	size_t count_held()
	{
		publish("siphon.main.held.fence");
		hand_off.step(false, now);
		return count("siphon.main.held.public.t.0");
	}

	size_t count(const std::string &subject)
	{
		size_t found = 0;

		for (const MemoryLog *log : {&stream.log(), &stream.spill()})
		{
			for (const auto &[place, message] : log->messages)
				found += message.subject == subject;
		}
		return found;
	}

	Dice dice{1};
	MemoryStream stream{&dice};
	Ledger ledger{100, 1000000};
	HandOff hand_off{"siphon.main", 0, &stream, &ledger};
	HandOff::Clock::time_point now = HandOff::Clock::now();
};

/* Whoever comes behind the DROP has the name, even of an earlier generation; whoever had it before does not. */
TEST_F(NamesTest, DroppedTablesNameIsTaken)
{
	begin(kOld, 30, 0x1000);
	EXPECT_EQ(route(kOld, 30, FrameKind::Dropped, 0x2000), HandOff::Route::Events);
	EXPECT_EQ(route(kNew, 20, FrameKind::Changes, 0x1800), HandOff::Route::Drop);
	EXPECT_FALSE(hand_off.is_stale(frame(kNew, 20, FrameKind::Schema, 0x2001)));
	EXPECT_EQ(route(kNew, 20, FrameKind::Changes, 0x2100), HandOff::Route::Events);
	/* The decoder has started again. */
	EXPECT_EQ(route(kOld, 30, FrameKind::Changes, 0x1900), HandOff::Route::Drop);
	EXPECT_EQ(route(kOld, 30, FrameKind::Dropped, 0x2000), HandOff::Route::Drop);
	EXPECT_EQ(route(kNew, 20, FrameKind::Changes, 0x2200), HandOff::Route::Events);
	EXPECT_EQ(route(kNew, 20, FrameKind::Dropped, 0x2300), HandOff::Route::Events);
}

/*
 * What streams ends behind its DROP, for which nothing has to be made durable before. What was published of a table that is
 * gone nobody needs once the next one begins; what was published of one that lives on, its readers do.
 */
TEST_F(NamesTest, StreamingTableEndsBehindItsDrop)
{
	begin(kNew, 20, 0x500);
	ASSERT_TRUE(hand_off.on_table_removed(frame(kNew, 20, FrameKind::Removed, 0x600), now));
	for (bool lives_on : {false, true})
	{
		uint64_t lsn = lives_on ? 0x8000 : 0x1000;

		EXPECT_EQ(route(kOld, 30, FrameKind::Changes, lsn), HandOff::Route::Events);
		publish("siphon.main.events.public.t.0");
		publish("siphon.main.watermark");
		stream.delay_percent = 100;
		EXPECT_EQ(route(kOld, 30, FrameKind::Dropped, lsn + 0x1000), HandOff::Route::Events);
		EXPECT_FALSE(hand_off.on_table_dropped(frame(kOld, 30, FrameKind::Schema, lsn + 0x1000), now));
		stream.delay_percent = 0;
		EXPECT_TRUE(lives_on ? hand_off.on_table_renamed(frame(kOld, 30, FrameKind::Schema, lsn + 0x1000), now)
							 : hand_off.on_table_dropped(frame(kOld, 30, FrameKind::Schema, lsn + 0x1000), now));
		EXPECT_TRUE(hand_off.is_stale(frame(kOld, 30, FrameKind::Changes, lsn + 0x900)));
		begin(kNew, 40, lsn + 0x2000);
		EXPECT_EQ(count("siphon.main.events.public.t.0"), lives_on ? 1u : 0u);
		ASSERT_TRUE(hand_off.on_table_removed(frame(kNew, 40, FrameKind::Removed, lsn + 0x3000), now));
	}
}

/* What ends a table ends nothing of the one that has its name by then. */
TEST_F(NamesTest, EndsConcernTheirTableAlone)
{
	ASSERT_TRUE(hand_off.on_table_renamed(frame(kOld, 30, FrameKind::Schema, 0x2000), now));
	begin(kNew, 40, 0x2100);
	EXPECT_TRUE(hand_off.on_table_removed(frame(kOld, 30, FrameKind::Removed, 0x3000), now));
	EXPECT_TRUE(hand_off.on_table_renamed(frame(kOld, 30, FrameKind::Schema, 0x2000), now));
	EXPECT_EQ(route(kNew, 40, FrameKind::Held, 0x3100), HandOff::Route::Held);
	EXPECT_EQ(route(kOld, 30, FrameKind::Snapshot, 0x3200), HandOff::Route::Drop);
	EXPECT_TRUE(hand_off.is_stale(frame(kOld, 30, FrameKind::SnapshotEnd, 0x3200)));
}

/* The same generation, and another table between. */
TEST_F(NamesTest, TableGetsItsNameBack)
{
	EXPECT_EQ(route(kOld, 30, FrameKind::Changes, 0x1000), HandOff::Route::Events);
	ASSERT_TRUE(hand_off.on_table_renamed(frame(kOld, 30, FrameKind::Schema, 0x2000), now));
	EXPECT_EQ(route(kOld, 30, FrameKind::Changes, 0x1900), HandOff::Route::Drop);
	EXPECT_EQ(route(kNew, 40, FrameKind::Changes, 0x2100), HandOff::Route::Events);
	ASSERT_TRUE(hand_off.on_table_renamed(frame(kNew, 40, FrameKind::Schema, 0x3000), now));
	EXPECT_EQ(route(kOld, 30, FrameKind::Changes, 0x3100), HandOff::Route::Events);
	EXPECT_EQ(route(kNew, 40, FrameKind::Changes, 0x2200), HandOff::Route::Drop);
	ASSERT_TRUE(hand_off.on_table_renamed(frame(kOld, 30, FrameKind::Schema, 0x4000), now));
	EXPECT_EQ(route(kOld, 30, FrameKind::Changes, 0x4100), HandOff::Route::Events);
}

/* The end of a table that had no state was under way when the publisher lost its stream: it reads the table's changes again. */
TEST_F(NamesTest, EndOfTableWithoutStateIsUnderWay)
{
	std::string why;

	stream.delay_percent = 100;
	EXPECT_FALSE(hand_off.on_table_renamed(frame(kOld, 30, FrameKind::Schema, 0x2000), now));
	stream.delay_percent = 0;
	while (!hand_off.resume({}, &why))
		ASSERT_EQ(why, "");
	EXPECT_EQ(route(kOld, 30, FrameKind::Changes, 0x1000), HandOff::Route::Events);
	EXPECT_FALSE(stream.states().values().contains("."));
	ASSERT_TRUE(hand_off.on_table_renamed(frame(kOld, 30, FrameKind::Schema, 0x2000), now));
	EXPECT_TRUE(hand_off.is_stale(frame(kOld, 30, FrameKind::Changes, 0x1000)));
}

/* Rows that were cut short leave the stream, unless what another table left behind is among them. */
TEST_F(NamesTest, RenameCutsSnapshotShort)
{
	begin(kOld, 30, 0x1000);
	publish("siphon.main.events.public.t.0");
	publish("siphon.main.held.public.t.0");
	publish("siphon.main.watermark");
	ASSERT_TRUE(hand_off.on_table_renamed(frame(kOld, 30, FrameKind::Schema, 0x2000), now));
	EXPECT_EQ(count("siphon.main.events.public.t.0"), 0u);
	EXPECT_EQ(count_held(), 0u);

	EXPECT_EQ(route(kNew, 20, FrameKind::Changes, 0x2100), HandOff::Route::Events);
	publish("siphon.main.events.public.t.0");
	ASSERT_TRUE(hand_off.on_table_renamed(frame(kNew, 20, FrameKind::Schema, 0x3000), now));
	begin(kOld, 50, 0x3100);
	publish("siphon.main.held.public.t.0");
	publish("siphon.main.watermark");
	EXPECT_EQ(count("siphon.main.events.public.t.0"), 1u);
	ASSERT_TRUE(hand_off.on_table_renamed(frame(kOld, 50, FrameKind::Schema, 0x4000), now));
	EXPECT_EQ(count("siphon.main.events.public.t.0"), 1u);
	EXPECT_EQ(count_held(), 0u);
}

/* The stream's last message is left, as it tells where to go on, until there is another. */
TEST_F(NamesTest, LastMessageOfCutSnapshotGoesLater)
{
	const char *last = "siphon.main.events.public.t.0";
	uint32_t generation = static_cast<uint32_t>(30 + stream.log().end);
	uint64_t lsn = 0x1000 + 0x1000 * stream.log().end;

	begin(kOld, generation, lsn);
	publish("siphon.main.events.public.t.0");
	publish("siphon.main.held.public.t.0");
	publish(last);
	ASSERT_TRUE(hand_off.on_table_removed(frame(kOld, generation, FrameKind::Removed, lsn + 0x800), now));
	hand_off.step(false, now);
	EXPECT_EQ(count(last), 1u);
	publish("siphon.main.watermark");
	hand_off.step(false, now);
	EXPECT_EQ(count("siphon.main.events.public.t.0"), 0u);
	EXPECT_LE(count_held(), 1u);
}

/* Nobody said that the table lost its name, but another comes under it: what was held for the first is gone. */
TEST_F(NamesTest, NameIsTakenWithoutAWord)
{
	begin(kOld, 30, 0x1000);
	publish("siphon.main.held.public.t.0");
	publish("siphon.main.watermark");
	EXPECT_EQ(route(kNew, 20, FrameKind::Changes, 0x2100), HandOff::Route::Events);
	EXPECT_EQ(count_held(), 0u);
	EXPECT_TRUE(hand_off.holding().empty());

	/* The next publisher knows it too. */
	HandOff next{"siphon.main", 0, &stream, &ledger};
	std::string why;

	next.load(stream.states().values());
	ASSERT_TRUE(next.resume({}, &why)) << why;
	EXPECT_TRUE(next.is_stale(frame(kOld, 30, FrameKind::Held, 0x1100)));
	EXPECT_FALSE(next.is_stale(frame(kNew, 20, FrameKind::Changes, 0x2200)));
}

} // namespace
