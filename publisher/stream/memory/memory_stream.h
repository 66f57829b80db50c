/*
 * A stream in memory that keeps JetStream's rules, with messages and answers under way, and with trouble: the publisher
 * dies in the middle of what it asks, the connection breaks, answers and writes are lost or come late, a message of a dead
 * publisher arrives, limits take messages away, followers are behind when the leader dies, another owner writes. Dice
 * decide, so that a seed repeats it all. For unit tests.
 */
#ifndef SIPHON_STREAM_MEMORY_MEMORY_STREAM_H
#define SIPHON_STREAM_MEMORY_MEMORY_STREAM_H

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "publisher/stream/stream.h"

namespace siphon {

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
	Place place = kNoPlace; /* that it was meant for, or has */
	std::string subject;
	std::string id;
	std::string previous_id;
	std::map<std::string, std::string> headers;
	std::string body;

	std::string header(const std::string &name) const;
	StoredMessage stored() const;
};

class MemoryStream;

class MemoryLog : public Spill
{
public:
	MemoryLog(const std::string &name, const std::string &fence_subject, MemoryStream *stream)
		: name_(name), fence_subject_(fence_subject), stream_(*stream)
	{
	}

	std::string describe() const override { return name_; }
	std::string name() const override { return name_; }
	std::optional<LogEnd> look(std::string *why) override;
	std::optional<bool> holds(Place place, uint64_t message, bool *gone, std::string *why) override;
	bool fence(size_t in_flight, const std::string &cursors, LogEnd *end, std::string *why) override;
	uint32_t body_limit() const override;
	bool append(const Message &message, uint64_t token) override;
	void collect(std::vector<PublishAck> *answers) override;
	std::unique_ptr<LogReader> read(const std::string &subjects, Place behind, bool headers, std::string *why) override;
	std::optional<Place> last(const std::string &subjects, std::string *why) override;
	bool find_up_to(const std::string &subject, const Position &position, Place behind,
					std::optional<StoredMessage> *found, std::string *why) override;
	bool purge(const std::string &subjects, Place in_front_of, std::string *why) override;
	std::optional<LogHealth> health(std::string *why) override;
	bool drop(Place in_front_of, std::string *why) override;

	/* What is there, and the last place that there ever was. */
	std::map<Place, Logged> messages;
	Place end = kNoPlace;
	uint64_t identity = 1;
	/* Settings, as others may make them. */
	size_t max_messages = 0; /* the oldest go; 0: no limit */
	bool full = false;       /* nothing is taken */

	/* Puts a message there, whoever wrote it. */
	void put(Logged message);
	/* The connection breaks, or the publisher dies: some of what is under way arrives, and some of it much later. */
	void lose_answers();
	/* The leader dies, and the one that follows it lacks so many messages of the end. */
	void lose_end(size_t count);
	/* Somebody changed the log behind everybody's back: what is under way, or may come late, is gone. */
	void forget_under_way();

private:
	friend class MemoryStream;

	bool fits(const Logged &message) const;
	void take(Logged message);
	void stray();
	void arrive(size_t count);
	bool asked();
	std::string last_cursors() const;

	const std::string name_;
	const std::string fence_subject_;
	MemoryStream &stream_;
	std::deque<std::pair<uint64_t, Logged>> under_way_;
	std::deque<Logged> strays_; /* of a connection that was lost, or a publisher that died */
	std::deque<PublishAck> answers_;
	Place known_ = kNoPlace;
	Place next_ = kNoPlace;
	std::string previous_id_;
	size_t fences_ = 0;
	bool fencing_ = false;
	bool replicated_ = false; /* ids are not compared, and fences are many */
};

class MemoryStates : public StateStore
{
public:
	explicit MemoryStates(MemoryStream *stream) : stream_(*stream) {}

	std::optional<std::map<std::string, std::string>> load(std::string *why) override;
	bool get(const std::string &key, bool adopt, std::optional<std::string> *value, std::string *why) override;
	bool put(const std::string &key, const std::string &value, std::string *why) override;
	bool renew(const std::string &key, const std::string &value, std::string *why) override;
	bool erase(const std::string &key, std::string *why) override;
	bool erase_tables(std::string *why) override;
	/* It takes one more call, of as many as the dice say. */
	uint64_t answers() const override { return ++answers_; }

	struct Entry
	{
		uint64_t revision = 0;
		std::optional<std::string> value;
	};
	std::map<std::string, Entry> entries;
	uint64_t revision = 0;

	/* The values there are. */
	std::map<std::string, std::string> values() const;
	/* Somebody else writes. */
	void write(const std::string &key, const std::string &value) { entries[key] = {++revision, value}; }
	/* A new publisher has seen nothing. What the one before wrote last may still arrive. */
	void begin_anew();

private:
	bool write_seen(const std::string &key, const std::optional<std::string> &value, bool again, std::string *why);
	bool asked(const std::string &key);

	MemoryStream &stream_;
	std::map<std::string, uint64_t> seen_;
	struct Late
	{
		std::string key;
		uint64_t expected;
		std::optional<std::string> value;
	};
	std::map<std::string, Late> last_writes_; /* by key, of which the answer was not given */
	mutable uint64_t answers_ = 0;
	std::deque<Late> late_;
};

class MemoryStream : public Stream
{
public:
	/* `replicated`: with the rules of several servers in place of those of one. */
	explicit MemoryStream(
		Dice *dice, std::function<void()> notify = [] {}, bool replicated = false);

	bool ready() override
	{
		live();
		return true;
	}
	uint64_t interruptions() const override { return interruptions_; }
	std::string describe() const override { return log_.describe(); }
	MemoryLog &log() override { return log_; }
	MemoryLog &spill() override { return spill_; }
	MemoryStates &states() override { return states_; }

	/* The publisher died; another may come. */
	void begin_anew();

	Dice &dice;
	std::function<void()> notify;       /* something may have changed */
	std::function<void()> live = [] {}; /* called while the publisher waits */
	uint32_t crash_percent = 0;         /* how often the publisher dies when it asks for something */
	uint32_t delay_percent = 50;        /* how often an answer takes longer */
	std::string slow_keys;              /* answers about keys that begin so take much longer; empty: none do */
	uint32_t breaks_left = 0;           /* of the connection */
	uint32_t limit = 300;               /* of a body */

private:
	friend class MemoryLog;
	friend class MemoryStates;

	/* The publisher may die here. */
	void trouble();
	void break_connection();

	uint64_t interruptions_ = 0;
	MemoryLog log_;
	MemoryLog spill_;
	MemoryStates states_;
};

} // namespace siphon

#endif
