/*
 * A queue in memory that keeps JetStream's rules, with messages and answers under way, and with trouble: the publisher
 * dies in the middle of what it asks, the connection breaks, answers are lost. Dice decide, so that a seed repeats it
 * all.
 */
#ifndef SIPHON_MEMORY_QUEUE_H
#define SIPHON_MEMORY_QUEUE_H

#include "cursor.h"
#include "queue.h"
#include "subject.h"
#include "table_state.h"
#include "wakeup.h"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace siphon {

inline constexpr uint32_t kBodyLimit = 300;

/* The death of the publisher. */
struct Crash
{
};

struct Dice
{
	explicit Dice(uint64_t seed) : random(seed) {}
	/* 0 to below n */
	uint32_t below(uint32_t n) { return static_cast<uint32_t>(random() % n); }
	bool percent(uint32_t n) { return below(100) < n; }

	std::mt19937_64 random;
};

struct Logged
{
	uint64_t sequence;
	std::string subject;
	std::string id;
	std::string previous_id;
	std::map<std::string, std::string> headers;
	std::string body;
};

/* A log that keeps the rules of JetStream, with messages and answers under way. */
class MemoryQueue : public Queue
{
public:
	MemoryQueue(Dice *for_dice, Wakeup *for_wakeup) : dice(*for_dice), wakeup(*for_wakeup) {}

	bool ready() override { return true; }
	uint64_t interruptions() const override { return interruptions_; }
	std::string describe() const override { return "the log"; }
	uint32_t body_limit() const override { return kBodyLimit; }

	std::optional<LogEnd> read_end(std::string *) override
	{
		trouble();

		LogEnd end;

		end.sequence = last;
		if (!log.empty())
		{
			EXPECT_EQ(log.rbegin()->first, end.sequence) << "the log's last message was purged";
			end.id = log.rbegin()->second.id;
			end.cursors = log.rbegin()->second.headers.at(kCursorsHeader);
		}
		return end;
	}

	std::optional<uint64_t> read_first(std::string *) override { return log.empty() ? last + 1 : log.begin()->first; }

	bool publish(const Message &message, uint64_t token) override
	{
		if (dice.percent(crash_percent / 5))
			throw Crash();

		Logged logged{message.sequence, message.subject, message.id, message.previous_id, {},
					  std::string(message.body)};

		for (const Header &header : message.headers)
			logged.headers[header.name] = header.value;
		under_way.push_back({token, std::move(logged)});
		return true;
	}

	void collect(std::vector<Answer> *answers) override
	{
		live();
		stray();
		if (breaks_left > 0 && dice.percent(1))
		{
			breaks_left--;
			interruptions_++;
			lose_answers();
			return;
		}
		if (dice.percent(50))
			arrive(dice.below(static_cast<uint32_t>(under_way.size()) + 1), answers);
	}

	bool purge(const std::string &subjects, uint64_t below, std::string *) override
	{
		trouble();
		std::erase_if(log, [&](const auto &entry) {
			return entry.first < below && subject_covers(subjects, entry.second.subject);
		});
		trouble();
		return true;
	}

	std::optional<uint64_t> last_sequence(const std::string &subjects, std::string *) override
	{
		uint64_t found = 0;

		trouble();
		for (const auto &[sequence, message] : log)
			found = subject_covers(subjects, message.subject) ? sequence : found;
		return found;
	}

	std::unique_ptr<QueueReader> read_from(const std::string &subjects, uint64_t sequence, std::string *) override;

	std::optional<std::vector<StoredMessage>> last_of_each(const std::string &subjects, uint64_t,
														   std::string *) override
	{
		std::map<uint64_t, StoredMessage> last_ones;
		std::map<std::string, uint64_t> places;
		std::vector<StoredMessage> found;

		trouble();
		for (const auto &[sequence, message] : log)
		{
			if (!subject_covers(subjects, message.subject))
				continue;
			last_ones.erase(places[message.subject]);
			places[message.subject] = sequence;
			last_ones[sequence] = stored(sequence, message);
			last_ones[sequence].body.clear();
		}
		for (auto &[sequence, message] : last_ones)
			found.push_back(std::move(message));
		return found;
	}

	static StoredMessage stored(uint64_t sequence, const Logged &message)
	{
		auto header = [&](const char *name) {
			auto value = message.headers.find(name);

			return value == message.headers.end() ? std::string() : value->second;
		};
		std::string generation = header("Siphon-Generation");

		return {sequence,
				message.subject,
				header("Siphon-Kind"),
				generation.empty() ? 0 : static_cast<uint32_t>(std::stoul(generation)),
				header("Siphon-First"),
				header("Siphon-Last"),
				header("Siphon-Events"),
				header("Siphon-Encoding"),
				header("Siphon-Part"),
				message.body};
	}

	bool read_state(const std::string &key, std::optional<std::string> *value, std::string *) override
	{
		trouble();
		value->reset();
		if (states.contains(key))
			*value = states[key];
		return true;
	}

	std::optional<std::map<std::string, std::string>> read_states(std::string *) override
	{
		trouble();
		return states;
	}

	bool write_state(const std::string &key, const std::string &value, std::string *) override
	{
		trouble();
		states[key] = value;
		trouble();
		return true;
	}

	bool erase_state(const std::string &key, std::string *) override
	{
		trouble();
		states.erase(key);
		trouble();
		return true;
	}

	bool erase_tables(std::string *) override
	{
		trouble();
		std::erase_if(states, [](const auto &entry) { return is_table_key(entry.first); });
		trouble();
		return true;
	}

	/* What was under way arrives, up to some message, and nobody hears of it. The rest may still come, much later. */
	void lose_answers()
	{
		arrive(dice.below(static_cast<uint32_t>(under_way.size()) + 1), nullptr);
		strays.clear();
		if (dice.percent(50))
		{
			for (auto &[token, message] : under_way)
				strays.push_back(std::move(message));
		}
		under_way.clear();
	}

	Dice &dice;
	Wakeup &wakeup;
	std::function<void()> live = [] {};
	uint32_t crash_percent = 0;
	uint32_t breaks_left = 0; /* of the connection */
	std::map<uint64_t, Logged> log;
	uint64_t last = 0;
	std::map<std::string, std::string> states;

private:
	/* A message that was under way when its publisher, or the connection, was lost. */
	void stray()
	{
		if (strays.empty() || !dice.percent(20))
			return;
		if (fits(strays.front()))
			log[++last] = std::move(strays.front());
		strays.pop_front();
	}

	void trouble()
	{
		stray();
		if (dice.percent(crash_percent))
			throw Crash();
	}

	bool fits(const Logged &message) const
	{
		return message.sequence == last + 1 &&
			   (message.previous_id.empty() || (!log.empty() && log.rbegin()->second.id == message.previous_id));
	}

	void arrive(size_t count, std::vector<Answer> *answers)
	{
		for (size_t i = 0; i < count; i++)
		{
			auto &[token, message] = under_way[i];
			bool stored = fits(message);

			if (answers != nullptr)
				answers->push_back({token, stored ? Verdict::Stored : Verdict::OutOfOrder, message.sequence, ""});
			if (stored)
				log[++last] = std::move(message);
		}
		under_way.erase(under_way.begin(), under_way.begin() + static_cast<std::ptrdiff_t>(count));
	}

	uint64_t interruptions_ = 0;
	std::vector<std::pair<uint64_t, Logged>> under_way;
	std::deque<Logged> strays;
};

class MemoryReader : public QueueReader
{
public:
	MemoryReader(MemoryQueue *queue, const std::string &subjects, uint64_t sequence)
		: queue_(*queue), subjects_(subjects), next_(sequence)
	{
	}

	void pull() override { pulling_ = true; }
	bool pulling() const override { return pulling_; }
	uint64_t pending() const override { return pending_; }

	bool take(std::vector<StoredMessage> *messages) override
	{
		/* Sometimes later, sometimes never. */
		if (!pulling_ || queue_.dice.percent(50))
			return true;
		if (queue_.dice.percent(1))
			return false;
		pulling_ = false;
		pending_ = 0;
		for (auto entry = queue_.log.lower_bound(next_); entry != queue_.log.end(); ++entry)
		{
			const Logged &message = entry->second;

			if (!subject_covers(subjects_, message.subject))
				continue;
			if (messages->size() >= 5)
			{
				pending_++;
				continue;
			}

			messages->push_back(MemoryQueue::stored(entry->first, message));
			next_ = entry->first + 1;
		}
		return true;
	}

private:
	MemoryQueue &queue_;
	std::string subjects_;
	uint64_t next_;
	bool pulling_ = false;
	uint64_t pending_ = UINT64_MAX;
};

inline std::unique_ptr<QueueReader>
MemoryQueue::read_from(const std::string &subjects, uint64_t sequence, std::string *)
{
	trouble();
	return std::make_unique<MemoryReader>(this, subjects, sequence);
}

} // namespace siphon

#endif
