/*
 * The ledger: cases that have a name, and random histories against a model that is too simple to be wrong.
 */
#include "publisher/messages/ledger.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

using siphon::Ledger;
using siphon::Target;

namespace {

const Ledger::Clock::time_point kNow{};

class LedgerTest : public ::testing::Test
{
protected:
	/* Enters a message; returns its token. */
	uint64_t add(uint64_t frame_end, size_t bytes = 10)
	{
		uint64_t token = ledger.next_token();

		ledger.add(bytes, 1, frame_end, false, Target::Log, 1, kNow);
		return token;
	}

	/* Up to where source 1 may be acknowledged. */
	uint64_t acked()
	{
		std::vector<Ledger::Ack> acks;

		ledger.take_acks(&acks);
		for (const Ledger::Ack &ack : acks)
			acked_ = ack.source == 1 && ack.frame_end != 0 ? ack.frame_end : acked_;
		return acked_;
	}

	Ledger ledger{4, 100};
	uint64_t acked_ = 0;
};

TEST_F(LedgerTest, AcksOnlyWithoutGap)
{
	ledger.reset_to({7, 7}, {});
	uint64_t a = add(100), b = add(200), c = add(300);

	ledger.stored(c, 10);
	ledger.stored(b, 9);
	EXPECT_EQ(acked(), 0u);
	EXPECT_EQ(ledger.end(Target::Log).place, 7u);
	ledger.stored(a, 8);
	EXPECT_EQ(acked(), 300u);
	EXPECT_EQ(ledger.end(Target::Log).place, 10u);
	EXPECT_TRUE(ledger.empty());
	EXPECT_FALSE(ledger.broken());
}

TEST_F(LedgerTest, AcksAFrameOnlyWithAllItsParts)
{
	ledger.reset_to({0, 0}, {});
	uint64_t one = add(0), two = add(0), three = add(100);

	ledger.stored(one, 1);
	ledger.stored(two, 2);
	EXPECT_EQ(acked(), 0u);
	ledger.stored(three, 3);
	EXPECT_EQ(acked(), 100u);
}

TEST_F(LedgerTest, RefusalStopsTheAckThere)
{
	ledger.reset_to({0, 0}, {});
	uint64_t a = add(100), b = add(200), c = add(300);

	ledger.refused(b);
	EXPECT_TRUE(ledger.broken());
	ledger.stored(a, 1);
	ledger.stored(c, 3);
	EXPECT_EQ(acked(), 100u);
	EXPECT_EQ(ledger.messages(), 2u);
	EXPECT_EQ(ledger.unanswered(), 0u);
}

/* The log had it, and gave it no place: it is done with, and what follows has to be put in order. */
TEST_F(LedgerTest, ADuplicateCountsAsStored)
{
	ledger.reset_to({7, 7}, {});
	uint64_t a = add(100), b = add(200);

	ledger.duplicate(a);
	EXPECT_EQ(acked(), 100u);
	EXPECT_EQ(ledger.end(Target::Log).place, 7u);
	EXPECT_TRUE(ledger.broken());
	ledger.refused(b);
	ledger.reset_to({7, 7}, {});
	EXPECT_FALSE(ledger.broken());
}

TEST_F(LedgerTest, SecondAndStrayAnswersAreIgnored)
{
	ledger.reset_to({0, 0}, {});
	uint64_t a = add(100);
	add(200);

	ledger.stored(0, 1);
	ledger.stored(99, 1);
	ledger.refused(99);
	EXPECT_FALSE(ledger.broken());
	ledger.stored(a, 1);
	ledger.refused(a);
	ledger.stored(a, 1);
	EXPECT_FALSE(ledger.broken());
	EXPECT_EQ(acked(), 100u);
	EXPECT_EQ(ledger.unanswered(), 1u);
}

TEST_F(LedgerTest, SettlingForgetsAndKeepsTokensApart)
{
	ledger.reset_to({0, 0}, {});
	uint64_t old = add(100);

	ledger.refused(old);
	ledger.reset_to({1, 1}, {});
	EXPECT_FALSE(ledger.broken());
	EXPECT_TRUE(ledger.empty());
	EXPECT_EQ(acked(), 0u);

	uint64_t fresh = add(200);

	EXPECT_GT(fresh, old);
	/* Acks of before the reset say nothing about what came after it. */
	ledger.stored(old, 2);
	EXPECT_EQ(acked(), 0u);
	ledger.stored(fresh, 2);
	EXPECT_EQ(acked(), 200u);
}

TEST_F(LedgerTest, BoundsMessagesAndBytes)
{
	ledger.reset_to({0, 0}, {});
	/* Larger than the bound, but alone. */
	EXPECT_TRUE(ledger.room(1000, false));
	add(1, 60);
	EXPECT_TRUE(ledger.room(40, false));
	EXPECT_FALSE(ledger.room(41, false));
	add(2, 1), add(3, 1), add(4, 1);
	EXPECT_FALSE(ledger.room(1, false));
	ledger.stored(1, 1);
	EXPECT_TRUE(ledger.room(97, false));
	EXPECT_EQ(ledger.bytes(), 3u);
}

TEST_F(LedgerTest, KnowsItsOldestMessage)
{
	ledger.reset_to({0, 0}, {});
	ledger.add(1, 1, 1, false, Target::Log, 1, kNow + std::chrono::seconds(1));
	ledger.add(1, 1, 2, false, Target::Log, 1, kNow + std::chrono::seconds(2));
	EXPECT_EQ(ledger.oldest(), kNow + std::chrono::seconds(1));
	ledger.stored(2, 2);
	EXPECT_EQ(ledger.oldest(), kNow + std::chrono::seconds(1));
	ledger.stored(1, 1);
	EXPECT_TRUE(ledger.empty());
}

TEST_F(LedgerTest, AcksEachSourceByItself)
{
	std::vector<Ledger::Ack> acks;

	ledger.reset_to({0, 0}, {});
	ledger.add(1, 1, 100, false, Target::Log, 1, kNow);
	ledger.add(1, 2, 70, true, Target::Log, 1, kNow);
	ledger.add(1, 1, 0, false, Target::Log, 1, kNow);
	ledger.stored(2, 2);
	ledger.take_acks(&acks);
	EXPECT_TRUE(acks.empty());
	ledger.stored(1, 1);
	ledger.take_acks(&acks);
	EXPECT_EQ(acks, (std::vector<Ledger::Ack>{{1, 1, Target::Log, 1, 100}, {2, 2, Target::Log, 2, 70}}));
	ledger.take_acks(&acks);
	EXPECT_TRUE(acks.empty());
}

TEST_F(LedgerTest, SkippedFramesWaitForTheirSource)
{
	std::vector<Ledger::Ack> acks;

	ledger.reset_to({0, 0}, {});
	ledger.add(1, 1, 100, false, Target::Log, 1, kNow);
	ledger.add(1, 2, 70, true, Target::Log, 1, kNow);
	ledger.skip(1, 150);
	ledger.skip(3, 10);
	ledger.take_acks(&acks);
	EXPECT_EQ(acks, (std::vector<Ledger::Ack>{{3, 0, Target::Log, siphon::kNoPlace, 10}}));
	ledger.stored(1, 1);
	ledger.take_acks(&acks);
	EXPECT_EQ(acks, (std::vector<Ledger::Ack>{{1, 1, Target::Log, 1, 150}}));
}

/* What waits in one log for an answer holds up what is stored in the other; each log's end is its own. */
TEST_F(LedgerTest, KeepsBothLogsInOneOrder)
{
	ledger.reset_to({7, 70}, {3, 30});
	ledger.add(1, 1, 100, false, Target::Log, 80, kNow);
	ledger.add(1, 1, 200, false, Target::Spill, 40, kNow);
	ledger.stored(2, 4);
	EXPECT_EQ(acked(), 0u);
	EXPECT_EQ(ledger.end(Target::Spill), (Ledger::End{3, 30}));
	ledger.stored(1, 8);
	EXPECT_EQ(acked(), 200u);
	EXPECT_EQ(ledger.end(Target::Log), (Ledger::End{8, 80}));
	EXPECT_EQ(ledger.end(Target::Spill), (Ledger::End{4, 40}));
	EXPECT_EQ(ledger.stored_token(), 2u);
}

TEST(LedgerBulk, HasAPartOfTheRoom)
{
	Ledger ledger(32, 1600);

	ledger.reset_to({0, 0}, {});
	EXPECT_TRUE(ledger.room(1000, true));
	ledger.add(60, 2, 0, true, Target::Log, 1, kNow);
	EXPECT_TRUE(ledger.room(40, true));
	EXPECT_FALSE(ledger.room(41, true));
	EXPECT_TRUE(ledger.room(300, false));
	ledger.add(1, 2, 0, true, Target::Log, 1, kNow);
	EXPECT_FALSE(ledger.room(1, true));
	EXPECT_TRUE(ledger.room(1, false));
	ledger.stored(1, 1);
	EXPECT_TRUE(ledger.room(90, true));
	/* One bulk message always gets its turn between others. */
	ledger.stored(2, 2);
	ledger.add(10, 1, 0, false, Target::Log, 1, kNow);
	EXPECT_TRUE(ledger.room(300, true));
}

/* All that was ever sent, and what is known of it; asked again from the start for every question. */
struct Model
{
	struct Sent
	{
		uint64_t token;
		uint64_t place;
		uint64_t frame_end;
		size_t bytes;
		enum { Open, Stored, Refused } state;
	};

	std::vector<Sent> sent; /* since the last reset */
	uint64_t reset_place = 0;
	uint64_t reset_acked = 0;

	size_t prefix() const
	{
		size_t n = 0;

		while (n < sent.size() && sent[n].state == Sent::Stored)
			n++;
		return n;
	}
	uint64_t acked() const
	{
		uint64_t acked = reset_acked;

		for (size_t i = 0; i < prefix(); i++)
			acked = sent[i].frame_end != 0 ? sent[i].frame_end : acked;
		return acked;
	}
	bool broken() const
	{
		return std::any_of(sent.begin(), sent.end(), [](const Sent &s) { return s.state == Sent::Refused; });
	}
	size_t bytes() const
	{
		size_t bytes = 0;

		for (size_t i = prefix(); i < sent.size(); i++)
			bytes += sent[i].bytes;
		return bytes;
	}
};

TEST(LedgerModel, RandomHistories)
{
	uint64_t seed = std::random_device()();
	std::mt19937_64 random(seed);

	SCOPED_TRACE("seed " + std::to_string(seed));
	for (int history = 0; history < 200; history++)
	{
		constexpr size_t max_messages = 16, max_bytes = 1000;
		Ledger ledger(max_messages, max_bytes);
		std::vector<Ledger::Ack> acks;
		uint64_t ledger_acked = 0;
		Model model;
		std::vector<uint64_t> forgotten; /* tokens of before the last reset */
		uint64_t position = 0;
		uint64_t acked_before = 0;

		ledger.reset_to({0, 0}, {});
		for (int step = 0; step < 300; step++)
		{
			uint64_t dice = random() % 100;

			if (dice < 45)
			{
				size_t bytes = random() % 400;
				size_t in_flight = model.sent.size() - model.prefix();
				bool room = in_flight == 0 || (in_flight < max_messages && model.bytes() + bytes <= max_bytes);

				ASSERT_EQ(ledger.room(bytes, false), room);
				if (!room)
					continue;
				uint64_t end = random() % 3 == 0 ? 0 : (position += 1 + random() % 100);
				model.sent.push_back({ledger.next_token(), model.reset_place + model.sent.size() + 1, end, bytes, Model::Sent::Open});
				ledger.add(bytes, 1, end, false, Target::Log, 1, kNow);
			}
			else if (dice < 95 && !model.sent.empty())
			{
				Model::Sent &sent = model.sent[random() % model.sent.size()];
				bool open = sent.state == Model::Sent::Open;
				uint64_t kind = random() % 20;

				if (kind == 0)
				{
					ledger.refused(sent.token);
					sent.state = open ? Model::Sent::Refused : sent.state;
				}
				else
				{
					ledger.stored(sent.token, sent.place);
					sent.state = open ? Model::Sent::Stored : sent.state;
				}
			}
			else if (dice < 97 && !forgotten.empty())
			{
				ledger.stored(forgotten[random() % forgotten.size()], model.reset_place + 1);
				ledger.refused(forgotten[random() % forgotten.size()]);
			}
			else if (dice == 99)
			{
				/* The log has a part of what was under way, at least what is known to be there. */
				size_t known = model.prefix();
				size_t have = known + random() % (model.sent.size() - known + 1);
				uint64_t acked = model.acked();

				for (size_t i = known; i < have; i++)
					acked = model.sent[i].frame_end != 0 ? model.sent[i].frame_end : acked;
				for (const Model::Sent &sent : model.sent)
					forgotten.push_back(sent.token);
				model.reset_place += have;
				model.reset_acked = acked;
				model.sent.clear();
				position = acked;
				ledger.reset_to({model.reset_place, 1}, {});
				ledger_acked = acked;
			}

			ledger.take_acks(&acks);
			for (const Ledger::Ack &ack : acks)
				ledger_acked = ack.frame_end != 0 ? ack.frame_end : ledger_acked;
			ASSERT_EQ(ledger_acked, model.acked());
			ASSERT_GE(ledger_acked, acked_before);
			acked_before = ledger_acked;
			ASSERT_EQ(ledger.broken(), model.broken());
			ASSERT_EQ(ledger.bytes(), model.bytes());
			ASSERT_EQ(ledger.messages(), model.sent.size() - model.prefix());
			ASSERT_EQ(ledger.end(Target::Log).place, model.reset_place + model.prefix());
			ASSERT_EQ(ledger.unanswered(), static_cast<size_t>(std::count_if(
											   model.sent.begin(), model.sent.end(), [](const Model::Sent &sent) {
												   return sent.state == Model::Sent::Open;
											   })));
		}
	}
}

} // namespace
