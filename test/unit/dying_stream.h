/*
 * A stream of any backend whose publisher dies in the middle of what it asks, whose answers take longer at times, and whose
 * messages are small, so that large records go in parts. What the backend itself does when its process dies is up to who
 * makes it anew. (MemoryStream has trouble of its own, and more of it.)
 */
#ifndef SIPHON_TEST_DYING_STREAM_H
#define SIPHON_TEST_DYING_STREAM_H

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "publisher/stream/memory/memory_stream.h"
#include "publisher/stream/stream.h"

namespace siphon {

/* When there is trouble, and what goes on meanwhile. */
struct Fate
{
	Dice &dice;
	std::function<void()> notify;       /* something may have changed */
	std::function<void()> live = [] {}; /* called while the publisher waits */
	uint32_t crash_percent = 0;         /* how often the publisher dies when it asks for something */
	uint32_t delay_percent = 30;        /* how often an answer takes longer */
	uint32_t limit = 300;               /* of a body */

	/* The publisher may die here. */
	void trouble()
	{
		if (dice.percent(crash_percent))
			throw Crash();
	}
	/* False: the answer takes longer. */
	bool answers(std::string *why)
	{
		why->clear();
		if (dice.percent(delay_percent))
		{
			notify();
			return false;
		}
		trouble();
		return true;
	}
	/* It has happened, and the publisher may not live to see the answer. */
	template <typename Result> Result done(Result result)
	{
		trouble();
		return result;
	}
};

class DyingLog : public Spill
{
public:
	/* main: the world goes on when answers are collected from it. */
	DyingLog(Fate *fate, Spill *log, bool main) : fate_(*fate), log_(*log), main_(main) {}

	std::string describe() const override { return log_.describe(); }
	std::string name() const override { return log_.name(); }
	std::optional<LogEnd> look(std::string *why) override
	{
		return fate_.answers(why) ? fate_.done(log_.look(why)) : std::nullopt;
	}
	std::optional<bool> holds(Place place, uint64_t message, bool *gone, std::string *why) override
	{
		return fate_.answers(why) ? log_.holds(place, message, gone, why) : std::nullopt;
	}
	bool fence(size_t in_flight, const std::string &cursors, LogEnd *end, std::string *why) override
	{
		return fate_.answers(why) && fate_.done(log_.fence(in_flight, cursors, end, why));
	}
	uint32_t body_limit() const override { return std::min(log_.body_limit(), fate_.limit); }
	bool append(const Message &message, uint64_t token) override
	{
		if (fate_.dice.percent(fate_.crash_percent / 5))
			throw Crash();
		return log_.append(message, token);
	}
	void collect(std::vector<PublishAck> *answers) override
	{
		if (main_)
			fate_.live();
		if (fate_.dice.percent(50))
			log_.collect(answers);
		else
			fate_.notify();
	}
	std::unique_ptr<LogReader> read(const std::string &subjects, Place behind, bool headers, std::string *why) override
	{
		return fate_.answers(why) ? log_.read(subjects, behind, headers, why) : nullptr;
	}
	std::optional<Place> last(const std::string &subjects, std::string *why) override
	{
		return fate_.answers(why) ? log_.last(subjects, why) : std::nullopt;
	}
	bool find_up_to(const std::string &subject, const Position &position, Place behind,
					std::optional<StoredMessage> *found, std::string *why) override
	{
		return fate_.answers(why) && log_.find_up_to(subject, position, behind, found, why);
	}
	bool purge(const std::string &subjects, Place in_front_of, std::string *why) override
	{
		return fate_.answers(why) && fate_.done(log_.purge(subjects, in_front_of, why));
	}
	std::optional<LogHealth> health(std::string *why) override { return log_.health(why); }
	bool drop(Place in_front_of, std::string *why) override
	{
		return fate_.answers(why) && fate_.done(log_.drop(in_front_of, why));
	}

private:
	Fate &fate_;
	Spill &log_;
	const bool main_;
};

class DyingStates : public StateStore
{
public:
	DyingStates(Fate *fate, StateStore *states) : fate_(*fate), states_(*states) {}

	std::optional<std::map<std::string, std::string>> load(std::string *why) override
	{
		return fate_.answers(why) ? states_.load(why) : std::nullopt;
	}
	bool get(const std::string &key, bool adopt, std::optional<std::string> *value, std::string *why) override
	{
		return fate_.answers(why) && states_.get(key, adopt, value, why);
	}
	bool put(const std::string &key, const std::string &value, std::string *why) override
	{
		return fate_.answers(why) && fate_.done(states_.put(key, value, why));
	}
	bool renew(const std::string &key, const std::string &value, std::string *why) override
	{
		return fate_.answers(why) && fate_.done(states_.renew(key, value, why));
	}
	bool erase(const std::string &key, std::string *why) override
	{
		return fate_.answers(why) && fate_.done(states_.erase(key, why));
	}
	bool erase_tables(std::string *why) override
	{
		return fate_.answers(why) && fate_.done(states_.erase_tables(why));
	}
	uint64_t answers() const override { return ++answers_; }

private:
	Fate &fate_;
	StateStore &states_;
	mutable uint64_t answers_ = 0;
};

class DyingStream : public Stream
{
public:
	/* `log` is a Spill too, as those of all backends are. */
	DyingStream(Fate *fate, Stream *stream, Spill *log)
		: fate_(*fate), stream_(*stream), log_(fate, log, true), spill_(fate, &stream->spill(), false),
		  states_(fate, &stream->states())
	{
	}

	bool ready() override
	{
		fate_.live();
		return stream_.ready();
	}
	uint64_t interruptions() const override { return stream_.interruptions(); }
	std::string describe() const override { return stream_.describe(); }
	DyingLog &log() override { return log_; }
	DyingLog &spill() override { return spill_; }
	DyingStates &states() override { return states_; }

private:
	Fate &fate_;
	Stream &stream_;
	DyingLog log_;
	DyingLog spill_;
	DyingStates states_;
};

} // namespace siphon

#endif
