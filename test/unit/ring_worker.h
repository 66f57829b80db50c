/* A worker's end of a ring, as the extension has it: what the publisher's tests write frames with. */
#ifndef SIPHON_TEST_RING_WORKER_H
#define SIPHON_TEST_RING_WORKER_H

#include <deque>
#include <string>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "ring/ring.h"
#include "ring/ring_file.h"

namespace siphon {

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
		EXPECT_EQ(doorbell_open(directory.c_str(), "main", "publisher.bell", &bell_), 0);
		doorbell_ring(bell_);
	}
	~Worker()
	{
		doorbell_ring(bell_);
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
		uint32_t oid = 16384;
		std::string name = "t"; /* of the table, in schema public */
	};
	void add(Record record) { records_.push_back(std::move(record)); }

	/* Writes a frame, if there is one and room for it. True: all is written. */
	bool step()
	{
		static const std::string schema("public\0", 7);
		static const std::string prefix("\0siphon", 7);

		if (next_ == records_.size())
			return true;

		const Record &record = records_[next_];
		bool routed = record.kind != FrameKind::Watermark && record.kind != FrameKind::History;
		std::string route = record.kind == FrameKind::Message ? prefix : schema + record.name;
		RecordInfo info{record.kind,       routed ? record.oid : 0u, record.partition,
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
		if (writer_.clear_publisher_asleep())
			doorbell_ring(bell_);
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

} // namespace siphon

#endif
