/*
 * Table states whose writing takes long: what a publisher that is gone has sent arrives when the next one holds changes
 * already, and the answer to one's own comes when the next change does. A state that says "streaming" while changes are
 * held would lose them, as nobody moves them any more.
 */
#include "program/exit_codes.h"
#include "publisher/stream/memory/memory_stream.h"
#include "publisher/table/hand_off.h"

#include <gtest/gtest.h>

using namespace siphon;

namespace {

constexpr const char *kKey = "public.t";

class LateStatesTest : public testing::Test
{
protected:
	LateStatesTest() { stream.delay_percent = 0; }

	static TableFrame frame(FrameKind kind, uint64_t lsn) { return {"public", "t", 16384, 30, kind, lsn}; }

	HandOff::Route route(HandOff *hand_off, uint64_t lsn)
	{
		return hand_off->route(frame(FrameKind::Changes, lsn), true, {lsn, 1}, true, now);
	}

	/* The rows are complete, and nothing was held. */
	void move()
	{
		ASSERT_TRUE(first.begin(frame(FrameKind::SnapshotBegin, 0x1000), now));
		ASSERT_TRUE(first.on_snapshot_begin_stored(frame(FrameKind::SnapshotBegin, 0x1000), kNoPlace, now));
		ASSERT_FALSE(first.on_snapshot_end_stored(frame(FrameKind::SnapshotEnd, 0x1000), Visibility(), now));
	}

	HandOffPhase phase() { return TableState::parse(*stream.states().entries[kKey].value)->phase; }

	Dice dice{1};
	MemoryStream stream{&dice};
	Ledger ledger{100, 1000000};
	HandOff first{"siphon.main", 0, &stream, &ledger};
	HandOff::Clock::time_point now = HandOff::Clock::now();
};

/* From the next publisher's start on, nothing that was sent against what the first one had seen is taken. */
TEST_F(LateStatesTest, NothingOfAPublisherThatIsGone)
{
	HandOff next{"siphon.main", 0, &stream, &ledger};
	std::string why;

	move();

	uint64_t seen = stream.states().entries[kKey].revision;
	std::optional<std::map<std::string, std::string>> states = stream.states().load(&why);

	ASSERT_TRUE(states);
	next.load(*states);
	ASSERT_TRUE(next.resume({}, &why)) << why;
	EXPECT_GT(stream.states().entries[kKey].revision, seen);
	EXPECT_EQ(phase(), HandOffPhase::CatchUp);
	EXPECT_EQ(route(&next, 0x2000), HandOff::Route::Held);
}

/* It came between: then what the next one has read is not so any more. */
TEST_F(LateStatesTest, OneThatCameBetweenIsNoticed)
{
	HandOff next{"siphon.main", 0, &stream, &ledger};
	std::string why;

	move();
	next.load(*stream.states().load(&why));

	TableState late = *TableState::parse(*stream.states().entries[kKey].value);

	late.phase = HandOffPhase::Streaming;
	stream.states().write(kKey, late.to_json());
	try
	{
		next.resume({}, &why);
		FAIL() << "it holds changes that nobody will move";
	}
	catch (const Fatal &fatal)
	{
		EXPECT_EQ(fatal.code, ExitCode::Replaced);
	}
	next.load(*stream.states().load(&why));
	ASSERT_TRUE(next.resume({}, &why)) << why;
	EXPECT_EQ(route(&next, 0x2000), HandOff::Route::Events);
}

/* Whether the table streams is not known until the answer is there, and until then nothing is held. */
TEST_F(LateStatesTest, NothingIsHeldMeanwhile)
{
	move();
	EXPECT_EQ(route(&first, 0x2000), HandOff::Route::Held);
	stream.delay_percent = 100;
	first.step(false, now);
	EXPECT_EQ(route(&first, 0x2000), HandOff::Route::Wait);
	stream.delay_percent = 0;
	first.step(false, now);
	EXPECT_EQ(phase(), HandOffPhase::Streaming);
	EXPECT_EQ(route(&first, 0x2000), HandOff::Route::Events);
}

/*
 * A table without a state ends, and another gets its name. Should the publisher die before the DROP is stored, the next one
 * must publish it, so the state store may not say yet that the name is the other table's.
 */
TEST_F(LateStatesTest, ANameIsTakenBehindTheEventThatEndsItsFormerTable)
{
	TableFrame other{"public", "t", 16400, 31, FrameKind::SnapshotBegin, 0x3000};
	TableFrame drop = frame(FrameKind::Dropped, 0x2000);

	ASSERT_EQ(first.route(drop, true, {0x2000, 1}, true, now), HandOff::Route::Events);

	uint64_t token = ledger.next_token();

	ledger.add(100, 1, 0, false, Target::Log, 1, now);
	first.on_sent(drop, Target::Log, token);
	EXPECT_FALSE(first.begin(other, now));
	other.kind = FrameKind::Changes;
	EXPECT_EQ(first.route(other, true, {0x3000, 1}, true, now), HandOff::Route::Wait);
	EXPECT_EQ(TableState::parse(*stream.states().entries[kKey].value)->oid, 16384u);

	ledger.stored(token, 1);
	other.kind = FrameKind::SnapshotBegin;
	EXPECT_TRUE(first.begin(other, now));
	EXPECT_EQ(TableState::parse(*stream.states().entries[kKey].value)->oid, 16400u);
}

} // namespace
