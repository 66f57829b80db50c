/*
 * The ring in memory, both sides honest: layout, wrapping, fullness, records larger than a frame, the
 * cursors, and two threads at full speed.
 */
#include "ring_fixture.h"

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace {

TEST(RingLayout, IsAContract)
{
	EXPECT_EQ(offsetof(RingHeader, magic), 0u);
	EXPECT_EQ(offsetof(RingHeader, version), 8u);
	EXPECT_EQ(offsetof(RingHeader, header_size), 12u);
	EXPECT_EQ(offsetof(RingHeader, ring_id), 16u);
	EXPECT_EQ(offsetof(RingHeader, history), 24u);
	EXPECT_EQ(offsetof(RingHeader, capacity), 32u);
	EXPECT_EQ(offsetof(RingHeader, max_frame_payload), 40u);
	EXPECT_EQ(offsetof(RingHeader, worker_pid), 44u);
	EXPECT_EQ(offsetof(RingHeader, application), 48u);
	EXPECT_EQ(offsetof(RingHeader, written), 128u);
	EXPECT_EQ(offsetof(RingHeader, worker_asleep), 192u);
	EXPECT_EQ(offsetof(RingHeader, closed), 196u);
	EXPECT_EQ(offsetof(RingHeader, worker_heartbeat), 200u);
	EXPECT_EQ(offsetof(RingHeader, read), 4096u);
	EXPECT_EQ(offsetof(RingHeader, acknowledgements), 4160u);
	EXPECT_EQ(offsetof(SharedAcknowledgement, acked), 8u);
	EXPECT_EQ(offsetof(SharedAcknowledgement, checkpoint), 16u);
	EXPECT_EQ(offsetof(SharedAcknowledgement, check), 64u);
	EXPECT_EQ(offsetof(RingHeader, refused), 4304u);
	EXPECT_EQ(offsetof(RingHeader, publisher_asleep), 4352u);
	EXPECT_EQ(offsetof(FrameHeader, route_length), 22u);
	EXPECT_EQ(offsetof(FrameHeader, first), 40u);
	EXPECT_EQ(offsetof(FrameHeader, generation), 76u);
}

TEST(RingLayout, Capacity)
{
	EXPECT_FALSE(is_valid_ring_capacity(0));
	EXPECT_FALSE(is_valid_ring_capacity(kRingMinimum / 2));
	EXPECT_TRUE(is_valid_ring_capacity(kRingMinimum));
	EXPECT_FALSE(is_valid_ring_capacity(kRingMinimum + 16));
	EXPECT_FALSE(is_valid_ring_capacity(kRingMinimum * 3));
	EXPECT_TRUE(is_valid_ring_capacity(kRingMaximum));
	EXPECT_FALSE(is_valid_ring_capacity(kRingMaximum * 2));
}

TEST_F(Ring, HeaderOnceCreated)
{
	EXPECT_EQ(memcmp(memory.start(), "\0sipring", 8), 0);
	EXPECT_EQ(reader.ring_id(), 4711u);
	EXPECT_EQ(reader.capacity(), kCapacity);
	EXPECT_STREQ(reader.application(), "prd.cell1");
	EXPECT_EQ(memory.header()->worker_pid, 99u);
	EXPECT_EQ(writer.max_frame_payload(), kCapacity / 4 - kHeader);
	EXPECT_EQ(reader.max_frame_payload(), writer.max_frame_payload());
	EXPECT_EQ(writer.written(), 0u);

	std::string longest(kApplicationMax + 10, 'a');

	writer.create(memory.start(), kCapacity, 1, longest.c_str(), 1);
	attach();
	EXPECT_EQ(std::string(reader.application()), longest.substr(0, kApplicationMax - 1));
}

TEST(RingLayout, LargeRingIsBoundByTheMessageLimit)
{
	Memory memory(ring_file_size(8 * 1024 * 1024));
	RingWriter writer;

	writer.create(memory.start(), 8 * 1024 * 1024, 1, "main", 1);
	EXPECT_EQ(writer.max_frame_payload(), kFramePayloadLimit);
}

TEST_F(Ring, CarriesAFrame)
{
	std::string route("public\0issues", 13);
	std::string payload = pattern(1001, 1);
	Frame frame;

	EXPECT_EQ(reader.next(&frame), ReadResult::Empty);
	ASSERT_EQ(writer.write(changes(route), payload.data(), 1001, 0), 1001);
	EXPECT_EQ(writer.written(), RingWriter::frame_size(13, 1001));
	EXPECT_EQ(writer.written(), 112u + 13 + 1001 + 10);

	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	EXPECT_EQ(frame.header.position, 0u);
	EXPECT_EQ(frame.header.kind, static_cast<uint16_t>(FrameKind::Changes));
	EXPECT_EQ(frame.header.table, 16384u);
	EXPECT_EQ(frame.header.partition, 3u);
	EXPECT_EQ(frame.header.generation, 2u);
	EXPECT_EQ(frame.header.events, 7u);
	EXPECT_EQ(frame.header.first.lsn, 0x1000u);
	EXPECT_EQ(frame.header.first.ordinal, 1u);
	EXPECT_EQ(frame.header.last.lsn, 0x2000u);
	EXPECT_EQ(frame.header.last.ordinal, 9u);
	EXPECT_EQ(std::string(frame.route, frame.header.route_length), route);
	EXPECT_EQ(std::string(frame.payload, frame.header.payload_length), payload);
	EXPECT_EQ(frame.end, writer.written());
	EXPECT_TRUE(frame.first_of_record() && frame.last_of_record());
	EXPECT_EQ(frame.header.checksum, checksum(memory.data()));
	EXPECT_EQ(std::string(frame.payload + 1001, 10), std::string(10, '\0'));

	EXPECT_EQ(memory.header()->read.load(), writer.written());
	EXPECT_EQ(newest().acked.load(), 0u);
	EXPECT_EQ(reader.next(&frame), ReadResult::Empty);
}

TEST_F(Ring, CarriesAnEmptyRecord)
{
	Frame frame;

	ASSERT_EQ(writer.write(no_route, nullptr, 0, 0), 0);
	EXPECT_EQ(writer.written(), kHeader);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	EXPECT_EQ(frame.header.payload_length, 0u);
	EXPECT_TRUE(frame.first_of_record() && frame.last_of_record());
}

/* What is for people travels, and is not looked at. */
TEST_F(Ring, CarriesFigures)
{
	RecordInfo info = changes("");
	Frame frame;

	info.operations[1] = 5;
	info.first_commit = 1000;
	info.last_commit = 2000;
	ASSERT_EQ(writer.write(info, "x", 1, 0), 1);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	EXPECT_EQ(frame.header.operations[0], 0u);
	EXPECT_EQ(frame.header.operations[1], 5u);
	EXPECT_EQ(frame.header.first_commit, 1000);
	EXPECT_EQ(frame.header.last_commit, 2000);

	writer.set_metric(RingMetric::Tables, 7);
	EXPECT_EQ(reader.metric(RingMetric::Tables), 7u);
	for (uint64_t ns : {uint64_t{0}, uint64_t{255}, uint64_t{256}, UINT64_MAX / 2})
		writer.add_duration(RingDuration::Encode, ns);

	DurationCounts durations = reader.durations(RingDuration::Encode);

	EXPECT_EQ(durations.counts[0], 2u);
	EXPECT_EQ(durations.counts[1], 1u);
	EXPECT_EQ(durations.counts[kDurationBuckets - 1], 1u);
	EXPECT_EQ(durations.sum_ns, 511 + UINT64_MAX / 2);
	EXPECT_EQ(reader.durations(RingDuration::Decode).sum_ns, 0u);

	/* Somebody else's scribbling does not come back into the worker's own counts. */
	memory.header()->metrics.durations[static_cast<int>(RingDuration::Encode)].counts[0] = 4711;
	writer.add_duration(RingDuration::Encode, 1);
	EXPECT_EQ(reader.durations(RingDuration::Encode).counts[0], 3u);
}

/* Payloads around the point where hashing goes from one call to steps: both must give the same. */
TEST_F(Ring, ChecksumAtEveryLength)
{
	Frame frame;

	for (uint32_t length : {1u, 15u, 16u, 17u, 240u, 241u, 1023u, 2047u, 2048u, 2049u, 3071u, 3072u, 3073u, 16272u})
	{
		std::string payload = pattern(length, length);

		ASSERT_EQ(write(payload), length);
		ASSERT_EQ(reader.next(&frame), ReadResult::Frame) << length;
		EXPECT_EQ(frame.header.checksum, checksum(at(frame.header.position))) << length;
		EXPECT_EQ(std::string(frame.payload, length), payload);
		reader.ack(frame.end);
	}
}

TEST_F(Ring, WrapsAtEveryAlignment)
{
	for (uint64_t remaining = 0; remaining <= 480; remaining += kFrameAlignment)
	{
		for (uint32_t length : {0u, 1u, 15u, 16u, 17u, 100u, 320u})
		{
			SCOPED_TRACE(testing::Message() << "remaining " << remaining << " length " << length);
			move_to(remaining);
			if (HasFatalFailure())
				return;

			uint64_t size = RingWriter::frame_size(0, length);
			uint64_t before = writer.written();
			bool fits = remaining == 0 || size <= remaining;
			uint64_t expected = fits ? before : before + remaining;
			std::string tail(at(before), remaining);
			std::string payload = pattern(length, length);
			Frame frame;

			ASSERT_EQ(write(payload), length);
			ASSERT_EQ(writer.written(), expected + size);
			ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
			EXPECT_EQ(frame.header.position, expected);
			EXPECT_EQ(std::string(frame.payload, length), payload);
			EXPECT_EQ(frame.end, writer.written());

			if (!fits && remaining >= kHeader)
			{
				FrameHeader padding;

				memcpy(&padding, at(before), sizeof(padding));
				EXPECT_EQ(padding.kind, static_cast<uint16_t>(FrameKind::Padding));
				EXPECT_EQ(padding.position, before);
				EXPECT_EQ(padding.payload_length, remaining - kHeader);
				EXPECT_EQ(padding.checksum, checksum(at(before)));
			}
			else if (!fits)
			{
				/* Not even a header fits: the rest is skipped by rule, and left alone. */
				EXPECT_EQ(tail, std::string(at(before), remaining));
			}
			reader.ack(frame.end);
		}
	}
}

TEST_F(Ring, FullToTheLastByteAndFreedAtAckedOnly)
{
	std::string payload(4096 - kHeader, 'f');
	std::vector<uint64_t> ends;
	Frame frame;

	for (uint64_t i = 0; i < kCapacity / 4096; i++)
		ASSERT_EQ(write(payload), static_cast<int64_t>(payload.size()));
	EXPECT_EQ(writer.written(), kCapacity);

	std::string content(memory.start(), memory.size());

	EXPECT_EQ(write(""), -1);
	EXPECT_EQ(writer.written(), kCapacity);
	EXPECT_EQ(content, std::string(memory.start(), memory.size()));

	/* To have read is not to have acknowledged. */
	while (reader.next(&frame) == ReadResult::Frame)
		ends.push_back(frame.end);
	ASSERT_EQ(ends.size(), kCapacity / 4096);
	EXPECT_EQ(write(""), -1);

	reader.ack(ends[0]);
	EXPECT_EQ(write(payload + "x"), -1);
	EXPECT_EQ(write(payload), static_cast<int64_t>(payload.size()));
	EXPECT_EQ(write(""), -1);
	EXPECT_EQ(writer.acked(), ends[0]);
	EXPECT_EQ(writer.violations(), 0u);
}

TEST_F(Ring, PaddingNeedsRoomToo)
{
	/* Outstanding is all from 2048 bytes behind the area's start up to 1024 bytes before its end. */
	move_to(kCapacity - 2048);
	for (uint64_t left = kCapacity - 2048 - 1024; left > 0;)
	{
		uint64_t step = std::min<uint64_t>(left, 8192);

		ASSERT_GE(write(std::string(step - kHeader, 'a')), 0);
		left -= step;
	}
	uint64_t before = writer.written();
	std::string content(memory.start(), memory.size());

	EXPECT_EQ(write(std::string(2048 + 16 - kHeader, 'b')), -1);
	EXPECT_EQ(writer.written(), before);
	EXPECT_EQ(content, std::string(memory.start(), memory.size()));

	EXPECT_EQ(write(std::string(2048 - kHeader, 'c')), static_cast<int64_t>(2048 - kHeader));
	EXPECT_EQ(writer.written(), before + 1024 + 2048);
	EXPECT_EQ(writer.written() - writer.acked(), kCapacity);
}

/* A record of several frames: same size each, nothing lost, even where the record is larger than the ring. */
TEST_F(Ring, SplitsRecords)
{
	std::string route("s\0t", 3);
	RecordInfo info = changes(route);

	for (size_t length : {size_t{16301}, size_t{16302}, size_t{40000}, size_t{200000}})
	{
		std::string record = pattern(length, static_cast<unsigned>(length));
		std::string got;
		uint32_t offset = 0;
		uint32_t part = 0;
		Frame frame;

		while (offset < length || got.size() < length)
		{
			int64_t written =
				offset < length ? writer.write(info, record.data(), static_cast<uint32_t>(length), offset) : -1;

			if (written >= 0)
			{
				offset += static_cast<uint32_t>(written);
				continue;
			}
			ASSERT_EQ(written, -1);
			ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
			ASSERT_EQ(frame.header.record_length, length);
			ASSERT_EQ(frame.header.record_offset, got.size());
			ASSERT_EQ(std::string(frame.route, frame.header.route_length), route);
			ASSERT_EQ(frame.first_of_record(), got.empty());
			if (got.empty())
				part = frame.header.payload_length;
			got.append(frame.payload, frame.header.payload_length);
			ASSERT_EQ(frame.last_of_record(), got.size() == length);
			ASSERT_TRUE(frame.last_of_record() || frame.header.payload_length == part);
			reader.ack(frame.end);
		}
		EXPECT_EQ(got, record);
		EXPECT_EQ(part, std::min<size_t>(length, writer.max_frame_payload() - route.size()));
	}
}

TEST_F(Ring, RefusesMistakesOfTheCaller)
{
	RecordInfo padding = no_route;
	std::string route(kRouteMax + 1, 'r');

	padding.kind = FrameKind::Padding;
	EXPECT_EQ(writer.write(padding, "x", 1, 0), -2);
	EXPECT_EQ(writer.write(changes(route), "x", 1, 0), -2);
	EXPECT_EQ(writer.write(no_route, "x", 1, 1), -2);
	EXPECT_EQ(writer.write(no_route, "x", 1, 2), -2);
	EXPECT_EQ(writer.written(), 0u);
	route.pop_back();
	EXPECT_EQ(writer.write(changes(route), "x", 1, 0), 1);
}

TEST_F(Ring, ReaderThatComesBackGoesOnAtAcked)
{
	Frame frame;
	uint64_t second = 0;

	for (int i = 0; i < 5; i++)
		ASSERT_EQ(write(std::string(1, static_cast<char>('a' + i))), 1);
	for (int i = 0; i < 4; i++)
	{
		ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
		if (i == 1)
			second = frame.end;
	}
	reader.ack(second);

	attach();
	EXPECT_EQ(reader.acked(), second);
	EXPECT_EQ(memory.header()->read.load(), second);
	for (int i = 2; i < 5; i++)
	{
		ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
		EXPECT_EQ(*frame.payload, 'a' + i);
	}
	EXPECT_EQ(reader.next(&frame), ReadResult::Empty);

	reader.rewind();
	EXPECT_EQ(reader.read_position(), second);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	EXPECT_EQ(*frame.payload, 'c');
}

TEST_F(Ring, AckStaysBetweenAckedAndRead)
{
	Frame frame;

	ASSERT_EQ(write("a"), 1);
	ASSERT_EQ(write("b"), 1);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	reader.ack(writer.written());
	EXPECT_EQ(reader.acked(), 0u);
	reader.ack(frame.end);
	EXPECT_EQ(reader.acked(), frame.end);
	reader.ack(0);
	EXPECT_EQ(reader.acked(), frame.end);
	EXPECT_EQ(newest().acked.load(), frame.end);
}

TEST_F(Ring, CheckpointGoesWithTheAcknowledgement)
{
	const Checkpoint none = {};
	const Checkpoint first = {{1, 2, 3}, {4, 5, 6}};
	const Checkpoint second = {{1, 12, 3}, {4, 5, 16}};
	Frame frame;

	EXPECT_EQ(writer.checkpoint(), none);
	EXPECT_EQ(reader.checkpoint(), none);
	ASSERT_EQ(write("a"), 1);
	ASSERT_EQ(write("b"), 1);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	reader.set_checkpoint(first);
	writer.acked();
	EXPECT_EQ(writer.checkpoint(), none);
	reader.ack(frame.end);
	EXPECT_EQ(writer.checkpoint(), none);
	EXPECT_EQ(writer.acked(), frame.end);
	EXPECT_EQ(writer.checkpoint(), first);

	/* Nothing new was acknowledged, but what is in the stream is. */
	reader.set_checkpoint(second);
	reader.heartbeat(1);
	EXPECT_EQ(writer.acked(), frame.end);
	EXPECT_EQ(writer.checkpoint(), second);

	/* The next publisher goes on with it until it knows better. */
	attach();
	EXPECT_EQ(reader.checkpoint(), second);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	reader.ack(frame.end);
	EXPECT_EQ(writer.acked(), frame.end);
	EXPECT_EQ(writer.checkpoint(), second);
	EXPECT_EQ(writer.violations(), 0u);

	/* Another ring has none. */
	writer.create(memory.start(), kCapacity, 4712, "prd.cell1", 99);
	attach();
	EXPECT_EQ(reader.checkpoint(), none);
	EXPECT_EQ(writer.checkpoint(), none);
}

/* One that was stopped, and whose place another has taken, takes nothing back. */
TEST_F(Ring, FormerReaderTakesNothingBack)
{
	const Checkpoint mine = {{1, 2, 3}, {}};
	const Checkpoint theirs = {{1, 12, 13}, {}};
	Frame frame;

	ASSERT_EQ(write("a"), 1);
	ASSERT_EQ(write("b"), 1);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	reader.set_checkpoint(mine);
	reader.ack(frame.end);

	RingReader former = reader;

	attach();
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	reader.set_checkpoint(theirs);
	reader.ack(frame.end);
	former.heartbeat(1);
	EXPECT_EQ(writer.acked(), frame.end);
	EXPECT_EQ(writer.checkpoint(), theirs);
	EXPECT_EQ(writer.violations(), 0u);
}

TEST_F(Ring, SleepIsNoticedOnce)
{
	EXPECT_FALSE(writer.clear_publisher_asleep());
	reader.set_asleep(true);
	EXPECT_TRUE(writer.clear_publisher_asleep());
	EXPECT_FALSE(writer.clear_publisher_asleep());
	reader.set_asleep(true);
	reader.set_asleep(false);
	EXPECT_FALSE(writer.clear_publisher_asleep());

	EXPECT_FALSE(reader.clear_worker_asleep());
	writer.set_asleep(true);
	EXPECT_TRUE(reader.clear_worker_asleep());
	EXPECT_FALSE(reader.clear_worker_asleep());
	writer.set_asleep(true);
	writer.set_asleep(false);
	EXPECT_FALSE(reader.clear_worker_asleep());
}

TEST_F(Ring, StatementsOfEitherSide)
{
	EXPECT_FALSE(reader.closed());
	writer.heartbeat(12);
	writer.close();
	EXPECT_TRUE(reader.closed());
	EXPECT_EQ(reader.worker_heartbeat(), 12u);

	reader.set_publisher(34);
	reader.heartbeat(56);
	EXPECT_EQ(writer.publisher_pid(), 34u);
	EXPECT_EQ(writer.publisher_heartbeat(), 56u);
}

/* Two threads that meet again and again, to run what follows at the same moment. */
class Meeting
{
public:
	void wait()
	{
		uint32_t round = round_.load();

		if (arrived_.fetch_add(1) == 1)
		{
			arrived_.store(0);
			round_.store(round + 1);
			return;
		}
		for (int spins = 0; round_.load() == round; spins++)
			if (spins > 1000)
				std::this_thread::yield();
	}

private:
	std::atomic<uint32_t> arrived_{0};
	std::atomic<uint32_t> round_{0};
};

/* Lets the other thread have a little start, a different one each time. */
void
dither(uint32_t steps)
{
	for (uint32_t i = 0; i < steps; i++)
		std::atomic_signal_fence(std::memory_order_seq_cst);
}

/*
 * What the asleep flags rest upon: one stores its cursor and then looks at the flag, the other stores its
 * flag and then looks at the cursor, and never do both of them miss the other's store.
 */
TEST_F(Ring, CursorOrFlagIsSeen)
{
	constexpr uint32_t kRounds = 30000;
	Meeting meeting;
	bool worker_saw[2] = {};
	uint32_t missed[2] = {};

	std::thread worker([&] {
		for (uint32_t i = 0; i < kRounds; i++)
		{
			/* A frame is published while the publisher lies down. */
			meeting.wait();
			dither(i % 61);
			write("x");
			worker_saw[0] = writer.clear_publisher_asleep();
			meeting.wait();
			/* The worker lies down while the frame is acknowledged. */
			meeting.wait();
			dither(i % 61);
			writer.set_asleep(true);
			worker_saw[1] = writer.acked() == writer.written();
			meeting.wait();
			writer.set_asleep(false);
		}
	});

	for (uint32_t i = 0; i < kRounds; i++)
	{
		Frame frame;

		meeting.wait();
		dither(i % 53);
		reader.set_asleep(true);
		bool found = reader.next(&frame) == ReadResult::Frame;

		meeting.wait();
		missed[0] += !found && !worker_saw[0];
		reader.set_asleep(false);
		if (!found)
			reader.next(&frame);

		meeting.wait();
		dither(i % 53);
		reader.ack(frame.end);
		bool noticed = reader.clear_worker_asleep();

		meeting.wait();
		missed[1] += !noticed && !worker_saw[1];
	}
	worker.join();
	EXPECT_EQ(missed[0], 0u);
	EXPECT_EQ(missed[1], 0u);
	EXPECT_EQ(reader.acked(), writer.written());
}

/* Two threads at full speed. Under ThreadSanitizer this shows whether the cursors hand the bytes over. */
TEST_F(Ring, ProducerAndConsumer)
{
	constexpr uint32_t kRecords = 50000;

	std::thread producer([&] {
		std::minstd_rand random(1);

		for (uint32_t i = 0; i < kRecords; i++)
		{
			uint32_t length = i % 1000 == 0 ? 40000 : static_cast<uint32_t>(random() % 400);
			std::string payload = pattern(length, i);
			RecordInfo info = no_route;
			uint32_t offset = 0;

			info.first = info.last = {i, 0};
			do
			{
				int64_t written;

				while ((written = writer.write(info, payload.data(), length, offset)) < 0)
					std::this_thread::yield();
				offset += static_cast<uint32_t>(written);
			} while (offset < length);
		}
		writer.close();
	});

	std::minstd_rand random(2);
	std::string record;
	std::vector<uint64_t> ends;
	uint64_t next = 0;
	bool good = true;

	for (;;)
	{
		bool closed = reader.closed();
		Frame frame;
		ReadResult result = reader.next(&frame);

		if (result == ReadResult::Frame && good)
		{
			good = frame.header.first.lsn == next && frame.header.record_offset == record.size();
			record.append(frame.payload, frame.header.payload_length);
			if (frame.last_of_record())
			{
				good = good && record == pattern(record.size(), static_cast<unsigned>(next));
				next++;
				record.clear();
			}
		}
		good = good && result != ReadResult::Corrupt;
		if (result == ReadResult::Corrupt)
			reader.rewind();
		if (result == ReadResult::Frame)
			ends.push_back(frame.end);
		/* Acknowledge late and in steps, so that the producer runs into a full ring. */
		if (!ends.empty() && (result != ReadResult::Frame || random() % 64 == 0))
		{
			reader.ack(ends[random() % ends.size()]);
			std::erase_if(ends, [&](uint64_t end) { return end <= reader.acked(); });
		}
		if (result == ReadResult::Empty && ends.empty())
		{
			if (closed)
				break;
			std::this_thread::yield();
		}
	}
	producer.join();
	EXPECT_TRUE(good);
	EXPECT_EQ(next, kRecords);
	EXPECT_EQ(reader.acked(), writer.written());
	EXPECT_EQ(writer.violations(), 0u);
}

} // namespace
