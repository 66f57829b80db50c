/*
 * Answers that come one by one. What several questions need is done when the last answer is there, however they come: one
 * that has come is not asked for again, or each would find the other missing, again and again.
 */
#include "publisher/history/stream_history.h"
#include "publisher/table/hand_off.h"
#include "publisher/table/table_state.h"

#include "dying_stream.h"
#include "publisher/stream/state_keys.h"

#include <gtest/gtest.h>

#include <map>

using namespace siphon;

namespace {

/* As a broker: an answer comes a while after its question, is given once, and then the question is a new one. */
class Patience
{
public:
	/* The answer to the n-th question is there when it is asked for so many times. */
	bool there(const std::string &question)
	{
		auto [asked, first] = asked_.try_emplace(question, 0);

		if (first)
			takes_[question] = 2 + takes_.size() % 2;
		if (++asked->second < takes_[question])
			return false;
		asked->second = 0;
		answers++;
		return true;
	}

	int answers = 0;

private:
	std::map<std::string, size_t> asked_;
	std::map<std::string, size_t> takes_;
};

class SlowStates : public DyingStates
{
public:
	SlowStates(Fate *fate, StateStore *states, Patience *patience) : DyingStates(fate, states), patience_(*patience) {}

	bool get(const std::string &key, bool adopt, std::optional<std::string> *value, std::string *why) override
	{
		return patience_.there(key) && DyingStates::get(key, adopt, value, why);
	}

private:
	Patience &patience_;
};

class SlowSpill : public DyingLog
{
public:
	SlowSpill(Fate *fate, Spill *log, Patience *patience) : DyingLog(fate, log, false), patience_(*patience) {}

	std::optional<Place> last(const std::string &subjects, std::string *why) override
	{
		return patience_.there(subjects) ? DyingLog::last(subjects, why) : std::nullopt;
	}

private:
	Patience &patience_;
};

class SlowStream : public Stream
{
public:
	explicit SlowStream(Dice *dice)
		: stream_(dice), fate_{*dice, [] {}}, states_(&fate_, &stream_.states(), &patience),
		  spill_(&fate_, &stream_.spill(), &patience)
	{
		stream_.delay_percent = 0;
		fate_.delay_percent = 0;
	}

	bool ready() override { return true; }
	uint64_t interruptions() const override { return 0; }
	std::string describe() const override { return "the stream"; }
	MemoryLog &log() override { return stream_.log(); }
	SlowSpill &spill() override { return spill_; }
	SlowStates &states() override { return states_; }

	Patience patience;

private:
	MemoryStream stream_;
	Fate fate_;
	SlowStates states_;
	SlowSpill spill_;
};

class SlowAnswersTest : public testing::Test
{
protected:
	Dice dice{1};
	SlowStream stream{&dice};
	std::string why;
};

TEST_F(SlowAnswersTest, OwnerAndOrigin)
{
	StreamHistory history("main", false, 16, &stream);

	EXPECT_FALSE(history.refresh(&why));
	EXPECT_FALSE(history.refresh(&why));
	EXPECT_TRUE(history.refresh(&why));
	EXPECT_EQ(stream.patience.answers, 2);

	/* The next time they are asked for anew. */
	EXPECT_FALSE(history.refresh(&why));
	/* And what is too old counts no more. */
	EXPECT_FALSE(history.refresh(&why));
	history.discard_partial_answers();
	EXPECT_FALSE(history.refresh(&why));
	EXPECT_TRUE(history.refresh(&why));
}

TEST_F(SlowAnswersTest, WhatIsHeldOfManyTables)
{
	Ledger ledger{100, 1000000};
	HandOff hand_off("siphon.main", 0, &stream, &ledger);
	std::map<std::string, std::string> states;

	for (uint32_t number = 0; number < 100; number++)
	{
		TableState state;

		state.schema = "public";
		state.table = "t" + std::to_string(number);
		state.oid = 20000 + number;
		state.generation = 1;
		states[state_key(state.schema, state.table)] = state.to_json();
	}
	hand_off.load(states);
	EXPECT_FALSE(hand_off.resume({}, &why));
	EXPECT_FALSE(hand_off.resume({}, &why));
	EXPECT_TRUE(hand_off.resume({}, &why));
	EXPECT_EQ(stream.patience.answers, 100);
}

} // namespace
