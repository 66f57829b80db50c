/*
 * The whole publisher, without servers: rings in files, a stream in memory or in a directory, and a world that writes
 * frames as the extension does while a table with rows is added. The publisher dies again and again, also in the middle of
 * what it asks of the stream, and in the end every subject must have begin, rows, end and exactly the changes that the rows
 * don't show, in order.
 *
 *   HAND_OFF_RUNS=20 build/unit-tests --gtest_filter='*HandOff*'   twenty times as many random runs
 *   HAND_OFF_SEED=4711 ...                                         one run again, nearly: time counts too
 *   HAND_OFF_LOG=1 ...                                             with the publisher's log
 */
#include "program/exit_codes.h"
#include "publisher/core/publisher.h"
#include "publisher/stream/file/file_stream.h"
#include "publisher/stream/memory/memory_stream.h"
#include "publisher/table/table_state.h"
#include "reader/subject.h"
#include "siphon.pb.h"

#include "dying_stream.h"
#include "hand_off_world.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

using namespace siphon;
namespace fs = std::filesystem;

namespace {

/* What goes wrong in a run. */
struct Trouble
{
	uint32_t crash_percent = 0; /* the publisher dies when it asks for something */
	uint32_t breaks = 0;        /* of the connection */
	uint32_t failures = 0;      /* of snapshots */
	uint32_t restarts = 0;      /* of the decoder */
	uint32_t before = 0;        /* steps in which the decoder's ring is of a history that is over */
	bool drop = false;          /* of the table */
	bool slow_ends = false;     /* of other tables; in memory alone */
};

/* A stream with its trouble, whatever it is made of. */
class Backend
{
public:
	virtual ~Backend() = default;

	virtual Stream &stream() = 0;
	/* The publisher died; another may come. */
	virtual void begin_anew() = 0;
	virtual std::map<std::string, std::string> states() = 0;
	/* All of the log. */
	virtual std::vector<StoredMessage> messages() = 0;
	/* Nothing is left of what was held, but for the last message. */
	virtual bool all_moved() = 0;
	/* What is wanted no more is taken out of the log. */
	virtual bool purges() const = 0;
};

class MemoryBackend : public Backend
{
public:
	MemoryBackend(Dice *dice, const Trouble &trouble, std::function<void()> notify, std::function<void()> live)
		: stream_(dice, std::move(notify), dice->percent(50))
	{
		stream_.crash_percent = trouble.crash_percent;
		stream_.breaks_left = trouble.breaks;
		stream_.slow_keys = trouble.slow_ends ? "public.gone" : "";
		stream_.live = std::move(live);
	}

	Stream &stream() override { return stream_; }
	void begin_anew() override { stream_.begin_anew(); }
	std::map<std::string, std::string> states() override { return stream_.states().values(); }
	std::vector<StoredMessage> messages() override
	{
		std::vector<StoredMessage> all;

		for (const auto &[place, message] : stream_.log().messages)
			all.push_back(message.stored());
		return all;
	}
	bool all_moved() override { return stream_.spill().messages.size() <= 1; }
	bool purges() const override { return true; }

private:
	MemoryStream stream_;
};

std::atomic<uint32_t> syncs_that_fail;

/* In another thread than the dice. */
int
sync_or_fail(int)
{
	if (syncs_that_fail == 0 || rand() % 50 != 0)
		return 0;
	syncs_that_fail--;
	errno = EIO;
	return -1;
}

/* Where a connection would break, a sync fails. */
class FileBackend : public Backend
{
public:
	FileBackend(const std::string &directory, Dice *dice, const Trouble &trouble, std::function<void()> notify,
				std::function<void()> live, Wakeup *wakeup)
		: directory_(directory), wakeup_(*wakeup), fate_{*dice, std::move(notify), std::move(live), trouble.crash_percent}
	{
		fs::create_directory(directory_);
		fs::permissions(directory_, fs::perms::owner_all);
		options_.segment_size = 32768;
		options_.sync_file = sync_or_fail;
		syncs_that_fail = trouble.breaks / 3;
		begin_anew();
	}

	Stream &stream() override { return *dying_; }
	void begin_anew() override
	{
		dying_.reset();
		files_.reset();
		files_ = std::make_unique<FileStream>(directory_, options_, "main", "siphon.main", &wakeup_);
		dying_ = std::make_unique<DyingStream>(&fate_, files_.get(), &files_->log());
	}
	std::map<std::string, std::string> states() override
	{
		std::string why;
		std::optional<std::map<std::string, std::string>> all = files_->states().load(&why);

		return all ? *all : std::map<std::string, std::string>();
	}
	std::vector<StoredMessage> messages() override
	{
		std::vector<StoredMessage> all;
		std::string why;

		/* The publisher's last life may have ended before it knew. */
		EXPECT_TRUE(files_->log().look(&why)) << why;

		std::unique_ptr<LogReader> reader = files_->log().read(">", kNoPlace, false, &why);

		do
		{
			reader->pull();
			while (reader->pulling())
				EXPECT_TRUE(reader->take(&all));
		} while (reader->pending() > 0);
		return all;
	}
	/* Whole segments go, and the last never. */
	bool all_moved() override { return true; }
	bool purges() const override { return false; }

private:
	const std::string directory_;
	Wakeup &wakeup_;
	Fate fate_;
	FileOptions options_;
	std::unique_ptr<FileStream> files_;
	std::unique_ptr<DyingStream> dying_;
};

/* Reads a subject as a consumer does. */
struct Copy
{
	std::vector<std::string> markers;
	std::set<uint64_t> rows;
	std::vector<Change> changes;
	uint32_t messages = 0; /* but for the drop */
	uint32_t drops = 0;
};

Copy
read_subject(const std::vector<StoredMessage> &messages, uint32_t partition, uint32_t generation, bool cut_short = false)
{
	Copy copy;
	PackageAssembler assembler;
	std::string subject = "siphon.main.events.public.t." + std::to_string(partition);

	for (const StoredMessage &message : messages)
	{
		std::string_view payload;

		if (message.kind == "history")
			copy = Copy();
		if (message.subject != subject || message.generation != generation)
			continue;
		EXPECT_EQ(copy.drops, 0u) << "something follows the drop";
		copy.messages++;
		if (assembler.add(subject, message.part, message.encoding, message.body, &payload) !=
			PackageAssembler::Result::Complete)
			continue;
		if (message.kind == "snapshot-begin" || message.kind == "snapshot-end")
		{
			copy.markers.push_back(message.kind);
			continue;
		}

		v1::Package package;

		EXPECT_TRUE(package.ParseFromArray(payload.data(), static_cast<int>(payload.size())));
		EXPECT_EQ(message.events, std::to_string(package.events_size()));
		for (const v1::Event &event : package.events())
		{
			if (event.operation() == v1::SNAPSHOT)
			{
				EXPECT_TRUE(cut_short || copy.markers.size() == 1) << "a row is not between the markers";
				EXPECT_TRUE(copy.rows.insert(event.ordinal()).second) << "row " << event.ordinal() << " came twice";
				continue;
			}
			if (event.operation() == v1::DROP)
			{
				copy.drops++;
				copy.messages--;
				continue;
			}
			EXPECT_TRUE(cut_short || copy.markers.size() == 2) << "a change is not behind the rows";
			copy.changes.push_back({package.partition(), event.commit_lsn(), event.ordinal(), event.xid()});
		}
	}
	return copy;
}

/* The logical messages, as positions and contents. */
std::vector<std::string>
read_messages(const std::vector<StoredMessage> &messages)
{
	std::vector<std::string> texts;
	PackageAssembler assembler;

	for (const StoredMessage &message : messages)
	{
		std::string_view payload;
		v1::Message logical;

		if (message.kind == "history")
			texts.clear();
		if (message.subject != "siphon.main.messages.siphon" ||
			assembler.add(message.subject, message.part, message.encoding, message.body, &payload) !=
				PackageAssembler::Result::Complete)
			continue;
		EXPECT_TRUE(logical.ParseFromArray(payload.data(), static_cast<int>(payload.size())));
		texts.push_back(format_position(logical.commit_lsn(), logical.ordinal()) + " " + logical.content());
	}
	return texts;
}

HandOffPhase
phase(const std::map<std::string, std::string> &states)
{
	return TableState::parse(states.at("public.t"))->phase;
}

/* The end of a table whose rows were never complete: nothing else, but for what was the stream's last then. */
void
check_cut_short(const std::vector<StoredMessage> &messages, const World &world, bool purged)
{
	uint32_t left = 0;

	for (uint32_t partition = 0; partition < World::kPartitions; partition++)
	{
		Copy copy = read_subject(messages, partition, world.generation(), true);

		ASSERT_EQ(copy.drops, 1u);
		left += copy.messages;
	}
	ASSERT_TRUE(left <= 1 || !purged);
}

void
check(Backend *backend, const World &world)
{
	std::vector<StoredMessage> messages = backend->messages();

	ASSERT_TRUE(read_messages(messages) == world.messages());
	ASSERT_EQ(backend->states().contains("public.t.schema"), !world.dropped());
	/* What follows a schema in a snapshot's ring must not be taken up before that is in the store. */
	if (!world.dropped())
	{
		ASSERT_NE(backend->states().at("public.t.schema").find("\"generation\":" + std::to_string(world.generation())),
				  std::string::npos)
			<< backend->states().at("public.t.schema") << ", generation " << world.generation();
	}
	for (const auto &[name, oid] : world.ended())
	{
		std::optional<TableState> state = TableState::parse(backend->states().at("public." + name));

		ASSERT_EQ(state->phase, HandOffPhase::Removed);
		ASSERT_EQ(state->oid, oid);
		ASSERT_FALSE(backend->states().contains("public." + name + ".schema"));
	}
	if (world.cut_short())
	{
		check_cut_short(messages, world, backend->purges());
		return;
	}
	for (uint32_t partition = 0; partition < World::kPartitions; partition++)
	{
		Copy copy = read_subject(messages, partition, world.generation());
		std::vector<Change> expected;

		for (const Change &change : world.changes())
		{
			if (change.partition == partition && !world.snapshot().shows(change.lsn, change.xid))
				expected.push_back(change);
		}
		ASSERT_EQ(copy.markers, (std::vector<std::string>{"snapshot-begin", "snapshot-end"}));
		ASSERT_EQ(copy.rows.size(), World::kRows / 2);
		for (const Change &change : expected)
		{
			if (std::find(copy.changes.begin(), copy.changes.end(), change) == copy.changes.end())
				ADD_FAILURE() << "missing: " << format_position(change.lsn, change.ordinal) << " in partition " << partition;
		}
		ASSERT_EQ(copy.changes.size(), expected.size());
		ASSERT_TRUE(copy.changes == expected);
		ASSERT_EQ(copy.drops, world.dropped() ? 1u : 0u);
	}
}

class HandOffTest : public testing::TestWithParam<const char *>
{
protected:
	void run(uint64_t seed, const Trouble &trouble);
	void run_some(int count, const Trouble &trouble);
};

void
HandOffTest::run(uint64_t seed, const Trouble &trouble)
{
	SCOPED_TRACE("seed " + std::to_string(seed));
	spdlog::set_level(getenv("HAND_OFF_LOG") == nullptr ? spdlog::level::off : spdlog::level::debug);

	std::string directory = fs::temp_directory_path() / ("siphon-unit-" + std::to_string(getpid()));
	fs::remove_all(directory);
	fs::remove_all(directory + "-stream");

	Dice dice(seed);
	Wakeup wakeup;
	World world(directory, &dice, trouble.failures, trouble.restarts, trouble.before, trouble.drop);
	std::unique_ptr<Backend> backend;
	std::atomic<int> stop{0};
	Config config;
	int lives = 0;
	/* Something is waited for that never comes. Slow machines, with sanitizers, take a tenth of it. */
	auto patience = std::chrono::steady_clock::now() + std::chrono::minutes(5);
	auto notify = [&] { wakeup.notify(); };
	auto live = [&] {
		/* While the publisher stops, the world stands still. */
		if (stop.load() == 0)
			world.step();
		if (std::chrono::steady_clock::now() > patience)
			stop.store(2);
		if (world.done() && phase(backend->states()) == world.phase_at_end() && backend->all_moved())
			stop.store(1);
		wakeup.notify();
	};

	config.max_in_flight = 16;
	config.drain_timeout = std::chrono::milliseconds(0);
	if (GetParam() == std::string("Memory"))
		backend = std::make_unique<MemoryBackend>(&dice, trouble, notify, live);
	else
		backend = std::make_unique<FileBackend>(directory + "-stream", &dice, trouble, notify, live, &wakeup);
	while (stop.load() == 0 && lives++ < 5000)
	{
		try
		{
			RingDirectory rings(directory, "main");
			Publisher(config, &rings, &backend->stream(), &wakeup, &stop).run();
		}
		catch (const Crash &)
		{
			backend->begin_anew();
		}
		catch (const Fatal &fatal)
		{
			/* What one that is dead wrote last came so late that it seems to be alive. The unit starts it again. */
			if (fatal.code != ExitCode::Replaced)
				throw;
			backend->begin_anew();
		}
	}
	ASSERT_TRUE(world.done()) << "after " << lives << " lives";
	check(backend.get(), world);
	fs::remove_all(directory);
	fs::remove_all(directory + "-stream");
}

void
HandOffTest::run_some(int count, const Trouble &trouble)
{
	const char *more = getenv("HAND_OFF_RUNS");
	const char *given = getenv("HAND_OFF_SEED");
	uint64_t seed = given == nullptr ? std::random_device()() : strtoull(given, nullptr, 10);

	if (given != nullptr)
		count = 1;
	else if (more != nullptr)
		count *= atoi(more);
	for (int i = 0; i < count && !HasFailure(); i++)
		ASSERT_NO_THROW(run(seed + static_cast<uint64_t>(i), trouble));
}

TEST_P(HandOffTest, WithoutTrouble)
{
	run_some(3, {});
}

TEST_P(HandOffTest, PublisherDies)
{
	run_some(3, {.crash_percent = 6});
}

TEST_P(HandOffTest, SnapshotsFail)
{
	run_some(3, {.failures = 3});
}

TEST_P(HandOffTest, ConnectionBreaks)
{
	run_some(3, {.breaks = 6});
}

TEST_P(HandOffTest, DecoderRestarts)
{
	run_some(3, {.restarts = 6});
}

TEST_P(HandOffTest, DecoderRestartsAndPublisherDies)
{
	run_some(2, {.crash_percent = 6, .restarts = 6});
}

/* The new history's snapshot is there before the new history's decoder is. */
TEST_P(HandOffTest, HistoryBeginsBehindSnapshot)
{
	run_some(3, {.before = 50});
}

TEST_P(HandOffTest, HistoryBeginsBehindSnapshotAndPublisherDies)
{
	run_some(2, {.crash_percent = 6, .breaks = 3, .failures = 2, .restarts = 4, .before = 50});
}

TEST_P(HandOffTest, AllTogether)
{
	run_some(3, {.crash_percent = 6, .breaks = 3, .failures = 2, .restarts = 4});
}

/* What is published meanwhile is not acknowledged, and read again. */
TEST_P(HandOffTest, EndsTakeLongAndPublisherDies)
{
	run_some(3, {.crash_percent = 6, .slow_ends = true});
}

TEST_P(HandOffTest, EndsTakeLongAndAllElse)
{
	run_some(3, {.crash_percent = 6, .breaks = 3, .failures = 2, .restarts = 4, .slow_ends = true});
}

TEST_P(HandOffTest, TableIsDropped)
{
	run_some(5, {.drop = true});
}

TEST_P(HandOffTest, TableIsDroppedAndAllElse)
{
	run_some(3, {.crash_percent = 6, .breaks = 3, .failures = 2, .restarts = 4, .drop = true});
}

INSTANTIATE_TEST_SUITE_P(Stream, HandOffTest, testing::Values("Memory", "Files"),
						 [](const testing::TestParamInfo<const char *> &backend) { return std::string(backend.param); });

} // namespace
