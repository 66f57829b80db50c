/*
 * The whole publisher, without servers: rings in files, a stream in memory, and a world that writes frames as the
 * extension does while a table with rows is added. The publisher dies again and again, also in the middle of what it
 * asks of the stream, and in the end every subject must have begin, rows, end and exactly the changes that the rows
 * don't show, in order.
 *
 *   HAND_OFF_RUNS=20 build/unit-tests --gtest_filter='HandOff*'   twenty times as many random runs
 *   HAND_OFF_SEED=4711 ...                                        one run again, nearly: time counts too
 *   HAND_OFF_LOG=1 ...                                            with the publisher's log
 */
#include "exit_codes.h"
#include "publisher.h"
#include "siphon.pb.h"
#include "stream/memory/memory_stream.h"
#include "subject.h"
#include "table_state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

using namespace siphon;

namespace {

/* A worker's end of a ring. */
class Worker
{
public:
	Worker(const std::string &directory, const std::string &name, uint64_t epoch, uint64_t history)
		: directory_(directory), name_(name)
	{
		EXPECT_EQ(ring_file_create(directory.c_str(), "main", name.c_str(), ring_file_size(kRingMinimum), &mapping_),
				  0);
		writer_.create(mapping_.memory, kRingMinimum, epoch, "main", 1, history);
		EXPECT_EQ(ring_file_publish(directory.c_str(), "main", name.c_str()), 0);
		EXPECT_EQ(bell_open(directory.c_str(), "main", "publisher.bell", &bell_), 0);
		bell_ring(bell_);
	}
	~Worker()
	{
		bell_ring(bell_);
		close(bell_);
		ring_file_close(&mapping_);
	}

	struct Record
	{
		FrameKind kind;
		uint32_t partition;
		uint32_t generation;
		uint32_t events;
		Position first;
		Position last;
		std::string payload;
		uint32_t mark = 0; /* what confirmed() returns when the record is acknowledged */
	};
	void add(Record record) { records_.push_back(std::move(record)); }

	/* Writes a frame, if there is one and room for it. True: all is written. */
	bool step()
	{
		static const std::string table("public\0t", 8);
		static const std::string prefix("\0siphon", 7);

		if (next_ == records_.size())
			return true;

		const Record &record = records_[next_];
		bool routed = record.kind != FrameKind::Watermark && record.kind != FrameKind::Origin;
		const std::string &route = record.kind == FrameKind::Message ? prefix : table;
		RecordInfo info{record.kind,       routed ? 16384u : 0u, record.partition,
						record.generation, record.events,        record.first,
						record.last,       route.data(),         static_cast<uint16_t>(routed ? route.size() : 0)};
		int64_t written =
			writer_.write(info, record.payload.data(), static_cast<uint32_t>(record.payload.size()), offset_);

		EXPECT_NE(written, -2);
		if (written < 0)
			return false;
		offset_ += static_cast<uint32_t>(written);
		if (offset_ == record.payload.size())
		{
			offset_ = 0;
			next_++;
			if (record.mark != 0)
				marks_.push_back({writer_.written(), record.mark});
		}
		if (writer_.publisher_sleeps())
			bell_ring(bell_);
		return next_ == records_.size();
	}

	bool attached() const { return writer_.publisher_pid() != 0; }
	bool acked() { return next_ == records_.size() && writer_.acked() == writer_.written(); }
	/* The greatest mark of a record that is acknowledged. */
	uint32_t confirmed()
	{
		for (; !marks_.empty() && marks_.front().first <= writer_.acked(); marks_.pop_front())
			confirmed_ = marks_.front().second;
		return confirmed_;
	}
	/* What came with the last acknowledgement. */
	Checkpoint checkpoint()
	{
		writer_.acked();
		return writer_.checkpoint();
	}
	void remove() { EXPECT_EQ(ring_file_remove(directory_.c_str(), "main", name_.c_str()), 0); }

private:
	std::string directory_;
	std::string name_;
	RingMapping mapping_{nullptr, 0, -1};
	RingWriter writer_;
	int bell_ = -1;
	std::vector<Record> records_;
	size_t next_ = 0;
	uint32_t offset_ = 0;
	std::deque<std::pair<uint64_t, uint32_t>> marks_;
	uint32_t confirmed_ = 0;
};

struct Change
{
	uint32_t partition;
	uint64_t lsn;
	uint64_t ordinal;
	uint32_t xid;

	bool operator==(const Change &) const = default;
};

/* The extension, and the table. */
class World
{
public:
	static constexpr uint32_t kPartitions = 2;
	static constexpr uint32_t kTransactions = 60;
	static constexpr uint32_t kSnapshotBefore = 30; /* the transaction */
	static constexpr uint32_t kRows = 40;
	static constexpr uint64_t kHistory = 4711;
	static constexpr uint32_t kFirstXid = UINT32_MAX - 12;

	/*
	 * `before`: so many steps after the snapshot's ring was found, the decoder's is of a history that is over. `drop`: at
	 * some moment the table is dropped.
	 */
	World(const std::string &directory, Dice *dice, uint32_t failures, uint32_t restarts, uint32_t before, bool drop)
		: directory_(directory), dice_(*dice), failures_left_(failures), restarts_left_(restarts), before_left_(before),
		  drop_(drop)
	{
		static constexpr uint32_t paces[] = {1, 5, 20, 60};

		pace_ = paces[dice_.below(4)];
		if (before_left_ > 0)
		{
			epochs_.push_back(1);
			write_origin(kHistory - 1, epochs_.back());
		}
		else
		{
			start_decoder();
			begin();
		}
	}

	/* One small step of everybody. */
	void step()
	{
		if (before_left_ > 0)
		{
			step_before();
			return;
		}
		if (restarts_left_ > 0 && dice_.percent(2))
		{
			restarts_left_--;
			start_decoder();
		}
		decode();
		drop_perhaps();
		switch (phase_)
		{
			case Phase::Begin:
				leader_->step();
				if (leader_->acked())
					scan();
				break;
			case Phase::Rows:
				fail_perhaps();
				for (auto &scanner : scanners_)
					scanner->step();
				if (phase_ == Phase::Rows &&
					std::all_of(scanners_.begin(), scanners_.end(), [](auto &scanner) { return scanner->acked(); }))
					end();
				break;
			case Phase::End:
				fail_perhaps();
				if (phase_ == Phase::End)
					leader_->step();
				if (phase_ == Phase::End && leader_->acked())
				{
					leader_->remove();
					leader_.reset();
					phase_ = Phase::Streaming;
				}
				break;
			case Phase::Streaming:
			case Phase::Dropped:
				break;
		}
	}

	bool done()
	{
		return before_left_ == 0 && (phase_ == Phase::Streaming || phase_ == Phase::Dropped) && next_ == end_ &&
			decoder_->acked() && (!drop_ || dropped_);
	}
	/* How the publisher must see the table in the end. */
	TablePhase phase_at_end() const { return dropped_ ? TablePhase::Removed : TablePhase::Streaming; }
	bool dropped() const { return dropped_; }
	/* Its rows never became complete. */
	bool cut_short() const { return phase_ == Phase::Dropped; }

	uint32_t generation() const { return generation_; }
	static uint64_t lsn(uint32_t transaction) { return 0x1000 * (transaction + 1); }
	const Visibility &snapshot() const { return snapshot_; }
	/* All that was decoded since the table's changes are held, of the last generation. */
	const std::vector<Change> &changes() const { return changes_; }
	/* All logical messages, as positions and contents. */
	std::vector<std::string> messages() const
	{
		std::vector<std::string> all;

		for (const auto &[transaction, messages] : messages_)
			for (const auto &[position, text] : messages)
				all.push_back(format_position(position.lsn, position.ordinal) + " " + text);
		return all;
	}

private:
	enum class Phase { Begin, Rows, End, Streaming, Dropped };

	template <typename Message> void name(Message *message)
	{
		message->set_application_identifier("main");
		message->set_schema("public");
		message->set_table("t");
		message->set_generation(generation_);
	}

	void step_before()
	{
		if (!decoder_->step() || !decoder_->acked())
			return;
		if (!leader_)
			begin();
		leader_->step();
		if (leader_->attached() && --before_left_ == 0)
		{
			epochs_.clear();
			start_decoder();
		}
	}

	void begin()
	{
		v1::SnapshotBegin marker;

		generation_++;
		if (before_left_ == 0)
			write_schema();
		changes_.clear();
		generation_starts_ = transaction_;
		name(&marker);
		marker.set_partitions(kPartitions);
		for (int i = 0; i < 30; i++)
			marker.add_columns()->set_name("column " + std::to_string(dice_.below(1000000)));
		leader_ = std::make_unique<Worker>(directory_, "snapshot-16384-0", generation_ * 100, kHistory);
		leader_->add({FrameKind::SnapshotBegin, kPartitions, generation_, 0, {}, {}, marker.SerializeAsString()});
		phase_ = Phase::Begin;
	}

	void scan()
	{
		for (uint32_t i = 1; i <= 2; i++)
		{
			scanners_.push_back(std::make_unique<Worker>(directory_, "snapshot-16384-" + std::to_string(i),
														 generation_ * 100 + i, kHistory));
			for (uint32_t row = i - 1; row < kRows; row += 2)
			{
				v1::Package package;

				name(&package);
				package.set_partition(row % 4 / 2);
				v1::Event *event = package.add_events();
				event->set_operation(v1::SNAPSHOT);
				event->set_ordinal(row);
				/* Of a large one there are several frames. */
				event->add_values()->set_string(noise(dice_.percent(4) ? 30000 : dice_.below(700)));
				scanners_.back()->add(
					{FrameKind::Snapshot, package.partition(), generation_, 1, {}, {}, package.SerializeAsString()});
			}
		}
		phase_ = Phase::Rows;
	}

	void end()
	{
		v1::SnapshotEnd marker;

		for (auto &scanner : scanners_)
			scanner->remove();
		scanners_.clear();

		/* Some that had written their commit were still running, and some began after the snapshot's xmax. */
		uint32_t before = std::max(kSnapshotBefore, transaction_ / 2 * 2 / 3);

		snapshot_.lsn = lsn(before);
		snapshot_.xmin = kFirstXid;
		snapshot_.xmax = kFirstXid + before - 2;
		snapshot_.in_progress = {kFirstXid + before - 5, kFirstXid + before - 9, kFirstXid + before + 7};
		name(&marker);
		marker.set_partitions(kPartitions);
		marker.set_snapshot_lsn(snapshot_.lsn);
		marker.set_xmin(snapshot_.xmin);
		marker.set_xmax(snapshot_.xmax);
		for (uint32_t xid : snapshot_.in_progress)
			marker.add_in_progress(xid);
		marker.add_row_counts(kRows / 2);
		marker.add_row_counts(kRows / 2);
		snapshot_.sort();
		leader_->add({FrameKind::SnapshotEnd, kPartitions, generation_, 0, {}, {}, marker.SerializeAsString()});
		phase_ = Phase::End;
	}

	/* The snapshot fails: its processes are gone, some of their rings stay. The next one begins. */
	void fail_perhaps()
	{
		/* The decoder must have most of its work before it, or nothing is left to be held. */
		if (failures_left_ == 0 || transaction_ > 15 || !dice_.percent(3))
			return;
		failures_left_--;
		if (dice_.percent(50))
			leader_->remove();
		for (auto &scanner : scanners_)
		{
			if (dice_.percent(50))
				scanner->remove();
		}
		scanners_.clear();
		leader_.reset();
		begin();
	}

	/* While its rows are complete, or after the processes that would have brought them have died, maybe unnoticed. */
	void drop_perhaps()
	{
		if (!drop_ || dropped_ || phase_ == Phase::End || !dice_.percent(1))
			return;
		dropped_ = true;
		end_ = ++transaction_;
		if (phase_ == Phase::Streaming)
			return;
		if (dice_.percent(50))
			leader_->remove();
		for (auto &scanner : scanners_)
		{
			if (dice_.percent(50))
				scanner->remove();
		}
		scanners_.clear();
		leader_.reset();
		phase_ = Phase::Dropped;
	}

	/* On every partition's subject. With luck the table is also taken off the list, as by siphon_remove_table(). */
	void write_drop()
	{
		Position position{lsn(next_), 1};

		for (uint32_t partition = 0; partition < kPartitions; partition++)
		{
			v1::Package package;
			v1::Event *event = package.add_events();

			name(&package);
			package.set_partition(partition);
			event->set_operation(v1::DROP);
			event->set_commit_lsn(position.lsn);
			event->set_ordinal(position.ordinal);
			decoder_->add(
				{FrameKind::Dropped, partition, generation_, 1, position, position, package.SerializeAsString()});
		}
		decoder_->add({FrameKind::Schema, 0, generation_, 0, {}, {}, ""});
		if (dice_.percent(50))
			decoder_->add({FrameKind::Removed, 0, generation_, 0, {}, {}, ""});
	}

	/* The decoder, with a ring of its own: what was not confirmed is decoded again, and packed in other packages. */
	void start_decoder()
	{
		if (decoder_)
		{
			next_ = std::max(next_confirmed_, decoder_->confirmed());
			if (!(decoder_->checkpoint() == Checkpoint{}))
				checkpoint_ = decoder_->checkpoint();
		}
		next_confirmed_ = next_;
		packages_.clear();
		epochs_.push_back(0x1000 + epochs_.size());
		write_origin(kHistory, epochs_.back());
		if (generation_ > 0)
			write_schema();
	}

	/* As every decoder does when it comes to a table, or to a generation of it, for the first time. */
	void write_schema()
	{
		v1::TableSchema schema;

		schema.set_oid(16384);
		schema.set_generation(generation_);
		decoder_->add({FrameKind::Schema, 0, generation_, 0, {}, {}, schema.SerializeAsString()});
	}

	void write_origin(uint64_t history, uint64_t epoch)
	{
		Origin origin{};

		decoder_ = std::make_unique<Worker>(directory_, kDecoderRing, epoch, history);
		origin.history = history;
		origin.acknowledged = next_ > 0 ? 1 : 0;
		origin.system_identifier = 1;
		origin.database = 5;
		if (history == kHistory)
			origin.checkpoint = checkpoint_;
		origin.confirmed = next_ > 0 ? lsn(next_ - 1) : 0;
		for (uint64_t before : epochs_)
			origin.epochs[origin.epoch_count++] = before;
		origin.timelines[origin.timeline_count++] = {0, 1, 0};
		decoder_->add(
			{FrameKind::Origin, 0, 0, 0, {}, {}, std::string(reinterpret_cast<const char *>(&origin), sizeof(origin))});
	}

	/* A transaction that is committed. */
	void commit()
	{
		std::vector<std::pair<Change, std::string>> &events = history_[transaction_];
		uint64_t ordinal = 0;

		for (uint32_t i = dice_.below(6); i > 0; i--)
		{
			Change change{dice_.below(kPartitions), lsn(transaction_), ++ordinal, kFirstXid + transaction_};

			events.push_back({change, noise(dice_.percent(5) ? 20000 : dice_.below(400))});
			changes_.push_back(change);
		}
		/* One outside of a transaction, which is a bit older, and one in it; large ones go in parts. */
		for (Position position : {Position{lsn(transaction_) - 1, 0}, Position{lsn(transaction_), ++ordinal}})
		{
			if (dice_.percent(20))
				messages_[transaction_].push_back({position, noise(dice_.percent(10) ? 20000 : dice_.below(500))});
		}
		transaction_++;
	}

	void write_messages()
	{
		for (const auto &[position, text] : messages_[next_])
		{
			v1::Message message;

			message.set_content(text);
			message.set_commit_lsn(position.lsn);
			message.set_ordinal(position.ordinal);
			decoder_->add({FrameKind::Message, 0, 0, 1, position, position, message.SerializeAsString()});
		}
	}

	void write_package(uint32_t partition)
	{
		v1::Package &package = packages_[partition];

		if (package.events_size() == 0)
			return;

		const v1::Event &first = package.events(0);
		const v1::Event &last = *package.events().rbegin();

		decoder_->add({packages_kind_,
					   partition,
					   generation_,
					   static_cast<uint32_t>(package.events_size()),
					   {first.commit_lsn(), first.ordinal()},
					   {last.commit_lsn(), last.ordinal()},
					   package.SerializeAsString()});
		package.Clear();
	}

	void write_packages()
	{
		for (uint32_t partition = 0; partition < kPartitions; partition++)
			write_package(partition);
	}

	/* Decodes a transaction, if the ones before are written. At a low pace most come after the snapshot. */
	void decode()
	{
		if (!decoder_->step() || next_ == end_ || !dice_.percent(pace_))
			return;
		if (next_ == transaction_)
			commit();

		FrameKind kind = phase_ == Phase::Streaming ? FrameKind::Changes : FrameKind::Held;

		if (kind != packages_kind_ || generation_ != packages_generation_)
			write_packages();
		packages_kind_ = kind;
		packages_generation_ = generation_;
		write_messages();
		for (const auto &[change, text] : history_[next_])
		{
			v1::Package &package = packages_[change.partition];

			if (next_ < generation_starts_)
				continue;
			/* One of several events is one frame. */
			if (package.events_size() > 0 && (text.size() > 10000 || dice_.percent(30)))
				write_package(change.partition);
			if (package.events_size() == 0)
			{
				name(&package);
				package.set_partition(change.partition);
			}

			v1::Event *event = package.add_events();

			event->set_operation(v1::INSERT);
			event->set_commit_lsn(change.lsn);
			event->set_ordinal(change.ordinal);
			event->set_xid(change.xid);
			event->add_values()->set_string(text);
			if (text.size() > 10000)
				write_package(change.partition);
		}
		if (dropped_ && next_ == end_ - 1)
		{
			write_packages();
			write_drop();
		}
		next_++;
		if (next_ < end_ && dice_.percent(40))
			return;
		write_packages();

		v1::Watermark watermark;
		uint64_t commit = lsn(next_ - 1);

		watermark.set_commit_lsn(commit);
		decoder_->add({FrameKind::Watermark, 0, 0, 0, {commit, 0}, {commit, 0}, watermark.SerializeAsString(), next_});
	}

	std::string noise(size_t length)
	{
		std::string text(length, '\0');

		for (char &c : text)
			c = static_cast<char>(' ' + dice_.below(90));
		return text;
	}

	std::string directory_;
	Dice &dice_;
	uint32_t failures_left_;
	uint32_t restarts_left_;
	uint32_t before_left_;
	bool drop_;
	bool dropped_ = false;
	uint32_t end_ = kTransactions;
	uint32_t pace_;
	std::unique_ptr<Worker> decoder_;
	std::vector<uint64_t> epochs_;
	std::map<uint32_t, std::vector<std::pair<Change, std::string>>> history_; /* by transaction */
	std::map<uint32_t, std::vector<std::pair<Position, std::string>>> messages_;
	uint32_t next_ = 0;                                                       /* to be decoded */
	uint32_t next_confirmed_ = 0;
	Checkpoint checkpoint_{};
	std::map<uint32_t, v1::Package> packages_; /* open ones, by partition */
	FrameKind packages_kind_ = FrameKind::Held;
	uint32_t packages_generation_ = 0;
	std::unique_ptr<Worker> leader_;
	std::vector<std::unique_ptr<Worker>> scanners_;
	Phase phase_ = Phase::Begin;
	uint32_t generation_ = 0;
	uint32_t transaction_ = 0; /* to be committed */
	uint32_t generation_starts_ = 0;
	Visibility snapshot_;
	std::vector<Change> changes_;
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
read_subject(MemoryStream &stream, uint32_t partition, uint32_t generation, bool cut_short = false)
{
	Copy copy;
	PackageAssembler assembler;
	std::string subject = "siphon.main.events.public.t." + std::to_string(partition);

	for (const auto &[sequence, message] : stream.log().messages)
	{
		std::string_view payload;
		auto part = message.headers.find("Siphon-Part");
		const std::string &kind = message.headers.at("Siphon-Kind");

		if (kind == "history")
			copy = Copy();
		if (message.subject != subject || message.header("Siphon-Generation") != std::to_string(generation))
			continue;
		EXPECT_EQ(copy.drops, 0u) << "something follows the drop";
		copy.messages++;
		if (assembler.add(subject, part == message.headers.end() ? "" : part->second,
						  message.headers.at("Siphon-Encoding"), message.body,
						  &payload) != PackageAssembler::Result::Complete)
			continue;
		if (kind == "snapshot-begin" || kind == "snapshot-end")
		{
			copy.markers.push_back(kind);
			continue;
		}

		v1::Package package;

		EXPECT_TRUE(package.ParseFromArray(payload.data(), static_cast<int>(payload.size())));
		EXPECT_EQ(message.headers.at("Siphon-Events"), std::to_string(package.events_size()));
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
read_messages(MemoryStream &stream)
{
	std::vector<std::string> messages;
	PackageAssembler assembler;

	for (const auto &[sequence, message] : stream.log().messages)
	{
		std::string_view payload;
		auto part = message.headers.find("Siphon-Part");
		v1::Message logical;

		if (message.headers.at("Siphon-Kind") == "history")
			messages.clear();
		if (message.subject != "siphon.main.messages.siphon" ||
			assembler.add(message.subject, part == message.headers.end() ? "" : part->second,
						  message.headers.at("Siphon-Encoding"), message.body,
						  &payload) != PackageAssembler::Result::Complete)
			continue;
		EXPECT_TRUE(logical.ParseFromArray(payload.data(), static_cast<int>(payload.size())));
		messages.push_back(format_position(logical.commit_lsn(), logical.ordinal()) + " " + logical.content());
	}
	return messages;
}

TablePhase
phase(MemoryStream &stream)
{
	return TableState::parse(stream.states().values().at("public.t"))->phase;
}

/* The end of a table whose rows were never complete: nothing else, but for what was the stream's last then. */
void
check_cut_short(MemoryStream &stream, const World &world)
{
	uint32_t left = 0;

	for (uint32_t partition = 0; partition < World::kPartitions; partition++)
	{
		Copy copy = read_subject(stream, partition, world.generation(), true);

		ASSERT_EQ(copy.drops, 1u);
		left += copy.messages;
	}
	ASSERT_LE(left, 1u);
}

void
check(MemoryStream &stream, const World &world)
{
	ASSERT_TRUE(read_messages(stream) == world.messages());
	ASSERT_EQ(stream.states().values().contains("public.t.schema"), !world.dropped());
	if (world.cut_short())
	{
		check_cut_short(stream, world);
		return;
	}
	for (uint32_t partition = 0; partition < World::kPartitions; partition++)
	{
		Copy copy = read_subject(stream, partition, world.generation());
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

void
run(uint64_t seed, uint32_t crash_percent, uint32_t breaks, uint32_t failures, uint32_t restarts, uint32_t before,
	bool drop)
{
	SCOPED_TRACE("seed " + std::to_string(seed));
	spdlog::set_level(getenv("HAND_OFF_LOG") == nullptr ? spdlog::level::off : spdlog::level::debug);

	std::string directory = std::filesystem::temp_directory_path() / ("siphon-unit-" + std::to_string(getpid()));
	std::filesystem::remove_all(directory);

	Dice dice(seed);
	Wakeup wakeup;
	MemoryStream stream(&dice, [&] { wakeup.notify(); }, dice.percent(50));
	World world(directory, &dice, failures, restarts, before, drop);
	std::atomic<int> stop{0};
	Config config;
	int lives = 0;
	auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(60);

	config.max_in_flight = 16;
	config.drain_timeout = std::chrono::milliseconds(0);
	stream.crash_percent = crash_percent;
	stream.breaks_left = breaks;
	stream.live = [&] {
		/* While the publisher stops, the world stands still. */
		if (stop.load() == 0)
			world.step();
		/* Something is waited for that never comes. */
		if (std::chrono::steady_clock::now() > patience)
			stop.store(2);
		if (world.done() && phase(stream) == world.phase_at_end() && stream.spill().messages.size() <= 1)
			stop.store(1);
		wakeup.notify();
	};
	while (stop.load() == 0 && lives++ < 5000)
	{
		try
		{
			RingDirectory rings(directory, "main");
			Publisher(config, &rings, &stream, &wakeup, &stop).run();
		}
		catch (const Crash &)
		{
			stream.begin_anew();
		}
		catch (const Fatal &fatal)
		{
			/* What one that is dead wrote last came so late that it seems to be alive. The unit starts it again. */
			if (fatal.code != ExitCode::Replaced)
				throw;
			stream.begin_anew();
		}
	}
	ASSERT_TRUE(world.done());
	check(stream, world);
	std::filesystem::remove_all(directory);
}

void
run_some(int count, uint32_t crash_percent, uint32_t breaks, uint32_t failures, uint32_t restarts = 0,
		 uint32_t before = 0, bool drop = false)
{
	const char *more = getenv("HAND_OFF_RUNS");
	const char *given = getenv("HAND_OFF_SEED");
	uint64_t seed = given == nullptr ? std::random_device()() : strtoull(given, nullptr, 10);

	if (given != nullptr)
		count = 1;
	else if (more != nullptr)
		count *= atoi(more);
	for (int i = 0; i < count && !testing::Test::HasFailure(); i++)
		ASSERT_NO_THROW(run(seed + static_cast<uint64_t>(i), crash_percent, breaks, failures, restarts, before, drop));
}

TEST(HandOffTest, WithoutTrouble)
{
	run_some(3, 0, 0, 0);
}

TEST(HandOffTest, PublisherDies)
{
	run_some(3, 6, 0, 0);
}

TEST(HandOffTest, SnapshotsFail)
{
	run_some(3, 0, 0, 3);
}

TEST(HandOffTest, ConnectionBreaks)
{
	run_some(3, 0, 6, 0);
}

TEST(HandOffTest, DecoderRestarts)
{
	run_some(3, 0, 0, 0, 6);
}

TEST(HandOffTest, DecoderRestartsAndPublisherDies)
{
	run_some(2, 6, 0, 0, 6);
}

/* The new history's snapshot is there before the new history's decoder is. */
TEST(HandOffTest, HistoryBeginsBehindSnapshot)
{
	run_some(3, 0, 0, 0, 0, 50);
}

TEST(HandOffTest, HistoryBeginsBehindSnapshotAndPublisherDies)
{
	run_some(2, 6, 3, 2, 4, 50);
}

TEST(HandOffTest, AllTogether)
{
	run_some(3, 6, 3, 2, 4);
}

TEST(HandOffTest, TableIsDropped)
{
	run_some(5, 0, 0, 0, 0, 0, true);
}

TEST(HandOffTest, TableIsDroppedAndAllElse)
{
	run_some(3, 6, 3, 2, 4, 0, true);
}

} // namespace
