/*
 * The extension and a table, for tests of the whole publisher: what happens while the table with its rows is added, again
 * and again, and is dropped. Each step() does a little of it; the decoder starts again, snapshots fail.
 */
#ifndef SIPHON_TEST_HAND_OFF_WORLD_H
#define SIPHON_TEST_HAND_OFF_WORLD_H

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "publisher/stream/memory/memory_stream.h"
#include "publisher/table/table_state.h"
#include "ring/history.h"
#include "ring_worker.h"
#include "siphon.pb.h"

namespace siphon {

struct Change
{
	uint32_t partition;
	uint64_t lsn;
	uint64_t ordinal;
	uint32_t xid;

	bool operator==(const Change &) const = default;
};

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
	HandOffPhase phase_at_end() const { return dropped_ ? HandOffPhase::Removed : HandOffPhase::Streaming; }
	bool dropped() const { return dropped_; }
	/* Its rows never became complete. */
	bool cut_short() const { return phase_ == Phase::Dropped; }

	uint32_t generation() const { return generation_; }
	static uint64_t lsn(uint32_t transaction) { return 0x1000 * (transaction + 1); }
	const Visibility &snapshot() const { return snapshot_; }
	/* By name, the OID of the last other table that had it and lost it. */
	const std::map<std::string, uint32_t> &ended() const { return ended_; }
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
		/* The decoder comes to it with its first change. */
		if (before_left_ == 0 && dice_.percent(50))
			write_schema(decoder_.get());
		changes_.clear();
		generation_starts_ = transaction_;
		name(&marker);
		marker.set_partitions(kPartitions);
		for (int i = 0; i < 30; i++)
			marker.add_columns()->set_name("column " + std::to_string(dice_.below(1000000)));
		leader_ = std::make_unique<Worker>(directory_, "snapshot-16384-0", generation_ * 100, kHistory);
		write_schema(leader_.get());
		leader_->add({FrameKind::SnapshotBegin, kPartitions, generation_, 0, {}, {}, marker.SerializeAsString()});
		phase_ = Phase::Begin;
	}

	void scan()
	{
		for (uint32_t i = 1; i <= 2; i++)
		{
			scanners_.push_back(std::make_unique<Worker>(directory_, "snapshot-16384-" + std::to_string(i),
														 generation_ * 100 + i, kHistory));
			write_schema(scanners_.back().get());
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

	/* A snapshot's processes are gone, some of their rings stay. */
	void lose_snapshot()
	{
		if (dice_.percent(50))
			leader_->remove();
		for (auto &scanner : scanners_)
		{
			if (dice_.percent(50))
				scanner->remove();
		}
		scanners_.clear();
		leader_.reset();
	}

	/* The snapshot fails, and the next one begins. */
	void fail_perhaps()
	{
		/* The decoder must have most of its work before it, or nothing is left to be held. */
		if (failures_left_ == 0 || transaction_ > 15 || !dice_.percent(3))
			return;
		failures_left_--;
		lose_snapshot();
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
		lose_snapshot();
		phase_ = Phase::Dropped;
	}

	/* Another table, of which nothing is left but that its schema was known, and that it loses its name. */
	void write_end(uint32_t transaction)
	{
		std::string name = "gone" + std::to_string(transaction % 3);
		uint32_t oid = 20000 + transaction;
		Position position{lsn(transaction), 0};
		v1::TableSchema schema;

		schema.set_oid(oid);
		schema.set_generation(1);
		decoder_->add({FrameKind::Schema, 0, 1, 0, position, position, schema.SerializeAsString(), 0, oid, name});
		decoder_->add({FrameKind::Schema, 0, 1, 0, position, position, "", 0, oid, name});
		ended_[name] = oid;
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
			write_schema(decoder_.get());
	}

	/* As every process does when it comes to a table, or to a generation of it, for the first time. */
	void write_schema(Worker *worker)
	{
		v1::TableSchema schema;

		schema.set_oid(16384);
		schema.set_generation(generation_);
		worker->add({FrameKind::Schema, 0, generation_, 0, {}, {}, schema.SerializeAsString()});
	}

	void write_origin(uint64_t history, uint64_t epoch)
	{
		HistoryRecord origin{};

		decoder_ = std::make_unique<Worker>(directory_, kDecoderRing, epoch, history);
		origin.history = history;
		origin.acknowledged = next_ > 0 ? 1 : 0;
		origin.system_identifier = 1;
		origin.database = 5;
		if (history == kHistory)
			origin.checkpoint = checkpoint_;
		origin.confirmed = next_ > 0 ? lsn(next_ - 1) : 0;
		for (uint64_t before : epochs_)
			origin.ring_ids[origin.ring_id_count++] = before;
		origin.timelines[origin.timeline_count++] = {0, 1, 0};
		std::string payload(reinterpret_cast<const char *>(&origin), sizeof(origin));

		decoder_->add({FrameKind::History, 0, 0, 0, {}, {}, payload});
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
		if (dice_.percent(25))
			ends_.insert(transaction_);
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
		if (ends_.contains(next_))
		{
			write_packages();
			write_end(next_);
		}
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
	std::set<uint32_t> ends_; /* transactions in which another table loses its name */
	std::map<std::string, uint32_t> ended_;
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

} // namespace siphon

#endif
