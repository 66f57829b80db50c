/* The small parts of snapshots: cursors, turns, visibility, table states. */
#include "publisher/messages/source_scheduler.h"
#include "publisher/stream/state_keys.h"
#include "publisher/table/table_state.h"
#include "publisher/table/visibility.h"
#include "reader/cursor.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

using namespace siphon;

namespace {

TEST(CursorTest, ComesBackAsItWasWritten)
{
	std::string text;
	Cursors cursors = {{"decoder", {0xabc, 0x1f40, 1, 1}},
					   {"moved-16384", {7, 812, 2, 3}},
					   {"snapshot-4294967295-31", {UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX}}};

	for (const auto &[name, cursor] : cursors)
	{
		size_t before = text.size();

		append_cursor(&text, name, cursor);
		EXPECT_LE(text.size() - before, kCursorSizeMax);
	}
	EXPECT_EQ(text.substr(0, text.find(';')), "decoder=0000000000000abc:1f40:1/1");
	EXPECT_EQ(parse_cursors(text), cursors);
	EXPECT_TRUE(parse_cursors("").empty());
}

TEST(CursorTest, LeavesOutWhatIsDamaged)
{
	for (const char *bad : {"decoder", "=1:2:1/1", "decoder=", "decoder=1:2", "decoder=1:2:1", "decoder=1:2:0/1",
							"decoder=1:2:2/1", "decoder=x:2:1/1", "decoder=1:2:1/1x", "decoder=1:2:1/", ";;"})
		EXPECT_TRUE(parse_cursors(bad).empty()) << bad;
	EXPECT_EQ(parse_cursors("bad;decoder=1:2:1/1;=").size(), 1u);
}

TEST(TurnsTest, FirstGoesFirstButNotForEver)
{
	SourceScheduler turns;
	std::vector<int> counts(3);

	for (int i = 0; i < 90; i++)
		counts[*turns.next(3, false, [](size_t) { return true; })]++;
	EXPECT_EQ(counts, (std::vector<int>{80, 5, 5}));
}

TEST(TurnsTest, HeldChangesAreMovedAsFastAsChangesCome)
{
	SourceScheduler turns;
	std::vector<int> counts(3);

	for (int i = 0; i < 80; i++)
		counts[*turns.next(3, true, [](size_t) { return true; })]++;
	EXPECT_EQ(counts, (std::vector<int>{40, 20, 20}));
}

TEST(TurnsTest, OnlyTheReady)
{
	SourceScheduler turns;
	std::vector<size_t> order;

	EXPECT_FALSE(turns.next(3, false, [](size_t) { return false; }));
	EXPECT_FALSE(turns.next(0, false, [](size_t) { return true; }));
	for (int i = 0; i < 4; i++)
		order.push_back(*turns.next(4, false, [](size_t source) { return source >= 2; }));
	EXPECT_EQ(order, (std::vector<size_t>{2, 3, 2, 3}));
	/* Alone it goes on, however long. */
	for (int i = 0; i < 100; i++)
		ASSERT_EQ(turns.next(2, false, [](size_t source) { return source == 0; }), 0u);
	/* A source that is gone meanwhile. */
	EXPECT_EQ(turns.next(2, false, [](size_t source) { return source == 1; }), 1u);
}

TEST(VisibilityTest, WhatTheRowsShow)
{
	Visibility snapshot{1000, 500, 510, {507, 503}};

	snapshot.sort();
	EXPECT_TRUE(snapshot.shows(999, 499));
	EXPECT_TRUE(snapshot.shows(999, 500));
	EXPECT_TRUE(snapshot.shows(999, 509));
	EXPECT_FALSE(snapshot.shows(999, 503));
	EXPECT_FALSE(snapshot.shows(999, 507));
	EXPECT_FALSE(snapshot.shows(999, 510));
	/* It had not committed yet, whatever its number. */
	EXPECT_FALSE(snapshot.shows(1000, 499));
	EXPECT_FALSE(snapshot.shows(2000, 500));
}

TEST(VisibilityTest, TransactionIdsWrapAround)
{
	Visibility snapshot{1000, UINT32_MAX - 5, 10, {UINT32_MAX - 2, 4}};

	snapshot.sort();
	EXPECT_TRUE(snapshot.shows(1, UINT32_MAX - 100));
	EXPECT_TRUE(snapshot.shows(1, UINT32_MAX));
	EXPECT_TRUE(snapshot.shows(1, 3));
	EXPECT_TRUE(snapshot.shows(1, 9));
	EXPECT_FALSE(snapshot.shows(1, UINT32_MAX - 2));
	EXPECT_FALSE(snapshot.shows(1, 4));
	EXPECT_FALSE(snapshot.shows(1, 10));
	EXPECT_FALSE(snapshot.shows(1, 1000));

	Visibility before{1000, UINT32_MAX - 9, UINT32_MAX - 3, {}};

	EXPECT_TRUE(before.shows(1, UINT32_MAX - 4));
	EXPECT_FALSE(before.shows(1, UINT32_MAX - 3));
	EXPECT_FALSE(before.shows(1, 5)); /* after the wraparound */
}

TEST(TableStateTest, ComesBackAsItWasWritten)
{
	TableState state;

	state.schema = "public";
	state.table = "iss\"ues\xc3\xbc";
	state.oid = UINT32_MAX;
	state.generation = 3;
	state.since = 0x1570A28;
	state.shared = true;
	state.behind = 812;
	state.rows_behind = 4000;
	EXPECT_EQ(TableState::parse(state.to_json()), state);
	state.phase = HandOffPhase::CatchUp;
	state.snapshot = {0x16B3748, 740, 745, {741, 743}};
	EXPECT_EQ(TableState::parse(state.to_json()), state);
	state.phase = HandOffPhase::Streaming;
	EXPECT_EQ(TableState::parse(state.to_json()), state);
	EXPECT_NE(state.to_json().find("\"phase\":\"streaming\""), std::string::npos);
}

TEST(TableStateTest, RefusesWhatIsNoState)
{
	for (const char *bad : {"", "{", "[]", "null", "{}", "{\"generation\":1,\"phase\":\"snapshot\"}",
							"{\"schema\":\"a\",\"table\":\"b\",\"oid\":1,\"generation\":1,\"since\":\"0\",\"shared\":false,\"behind\":1,\"rows_behind\":0,\"phase\":\"x\"}",
							"{\"schema\":\"a\",\"table\":\"b\",\"oid\":1,\"generation\":1,\"since\":\"0\",\"shared\":false,\"behind\":1,\"rows_behind\":0,\"phase\":\"moving\"}",
							"{\"schema\":\"a\",\"table\":\"b\",\"oid\":\"1\",\"generation\":1,\"since\":\"0\",\"shared\":false,\"behind\":1,\"rows_behind\":0,\"phase\":"
							"\"snapshot\"}"})
		EXPECT_FALSE(TableState::parse(bad)) << bad;

	std::string good = TableState{"s", "t", 1, 2, 0x1570A28, true, HandOffPhase::CatchUp, 3, 2, false, {0x16B3748, 740, 745, {741}}}.to_json();

	EXPECT_TRUE(TableState::parse(good));
	for (auto [is, becomes] : {std::pair{"\"oid\":1", "\"oid\":1e300"},
							   {"\"generation\":2", "\"generation\":4294967298"},
							   {"\"behind\":3", "\"behind\":-3"},
							   {"\"rows_behind\":2", "\"rows_behind\":\"2\""},
							   {"1570A28\"", "1570A28/0\""},
							   {"\"xmin\":740", "\"xmin\":740.5"},
							   {"[741]", "[741,1e300]"},
							   {"[741]", "741"},
							   {"16B3748\"", "16B3748 \""}})
	{
		std::string bad = good;

		ASSERT_NE(bad.find(is), std::string::npos) << is;
		bad.replace(bad.find(is), std::string_view(is).size(), becomes);
		EXPECT_FALSE(TableState::parse(bad)) << bad;
	}
}

/* What a publisher wrote that held changes in the stream itself. */
TEST(TableStateTest, KnowsTheFormerLayout)
{
	std::string former = "{\"schema\":\"a\",\"table\":\"b\",\"oid\":1,\"generation\":1,\"since\":\"0\",\"shared\":false,\"from\":7,"
						 "\"phase\":\"snapshot\"}";
	std::string done = former;

	ASSERT_TRUE(TableState::parse(former));
	EXPECT_TRUE(TableState::parse(former)->former_layout);
	done.replace(done.find("snapshot"), 8, "removed");
	ASSERT_TRUE(TableState::parse(done));
	EXPECT_FALSE(TableState::parse(done)->former_layout);
}

TEST(TableStateTest, KeysHoldWhatABucketTakes)
{
	EXPECT_EQ(state_key("public", "issues_2-x"), "public.issues_2-x");
	EXPECT_EQ(state_key("a.b", "c d=\xc3\xbc%"), "a=2Eb.c=20d=3D=C3=BC=25");
}

} // namespace
