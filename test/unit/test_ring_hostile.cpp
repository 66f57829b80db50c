/*
 * What either side of the ring does when the other one lies. The writer must stay within the mapping and
 * within its own books, whatever another process scribbles; the reader must refuse what can't be.
 */
#include "ring_fixture.h"

#include <atomic>
#include <functional>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

namespace {

TEST_F(Ring, WriterBelievesNoImpossibleAcked)
{
	while (write(std::string(1000, 'x')) >= 0)
	{
	}
	uint64_t written = writer.written();
	std::string content(memory.data(), kCapacity);
	uint64_t violations = writer.violations();

	EXPECT_EQ(violations, 0u);
	for (uint64_t bad :
		 {written + 16, written + kCapacity, written - 1, uint64_t{8}, UINT64_MAX, UINT64_MAX - 15, uint64_t{1} << 63})
	{
		/* One that somebody wrote over the publisher's does not count at all. */
		newest().acked = bad;
		older().acked = bad;
		EXPECT_EQ(writer.acked(), 0u) << bad;
		EXPECT_EQ(writer.violations(), violations);
		store_acked(bad);
		EXPECT_EQ(writer.acked(), 0u) << bad;
		EXPECT_EQ(writer.violations(), ++violations);
		EXPECT_EQ(write(std::string(1000, 'y')), -1) << bad;
		EXPECT_EQ(writer.violations(), ++violations);
	}
	EXPECT_EQ(content, std::string(memory.data(), kCapacity));

	store_acked(4096);
	EXPECT_EQ(writer.acked(), 4096u);
	store_acked(4080);
	EXPECT_EQ(writer.acked(), 4096u);
	EXPECT_EQ(writer.violations(), violations + 1);
	store_acked(written);
	EXPECT_EQ(writer.acked(), written);
}

/* Whatever lies in the mapping, its own page included, the writer goes on by its own copies. */
TEST_F(Ring, WriterReadsNothingBack)
{
	std::mt19937_64 random(1);
	std::string payload = pattern(3000, 3);

	for (int i = 0; i < 20000; i++)
	{
		uint64_t before = writer.written();
		uint64_t acked = writer.acked();

		for (size_t j = 0; j < kRingHeaderSize; j += 8)
			if (random() % 4 == 0)
			{
				uint64_t value = random() % 3 == 0 ? random() % (before + 64) & ~uint64_t{15} : random();

				memcpy(memory.start() + j, &value, 8);
			}
		if (random() % 2 == 0)
			store_acked(newest().acked);
		size_t length = random() % payload.size();
		int64_t result = writer.write(no_route, payload.data(), static_cast<uint32_t>(length), 0);
		uint64_t now = writer.acked();

		ASSERT_GE(now, acked);
		ASSERT_LE(now, writer.written());
		ASSERT_LE(writer.written() - now, kCapacity);
		if (result < 0)
		{
			ASSERT_EQ(writer.written(), before);
		}
		else
		{
			ASSERT_EQ(result, static_cast<int64_t>(length));
			ASSERT_GE(writer.written(), before + RingWriter::frame_size(0, static_cast<uint32_t>(length)));
			ASSERT_LT(writer.written(),
					  before + 2 * RingWriter::frame_size(0, static_cast<uint32_t>(length)) + kHeader);
		}
		ASSERT_EQ(writer.capacity(), kCapacity);
	}
	EXPECT_GT(writer.violations(), 0u);
	EXPECT_GT(writer.written(), 10 * kCapacity);
}

/* An acknowledgement that somebody wrote over comes back with the publisher's next sign of life. */
TEST_F(Ring, AckedIsMended)
{
	Frame frame;

	ASSERT_EQ(write("a"), 1);
	ASSERT_EQ(write("b"), 1);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	reader.ack(frame.end);
	for (uint64_t scribbled : {writer.written(), uint64_t{0}, UINT64_MAX})
	{
		const Checkpoint checkpoint = {{1, scribbled, 0}, {}};

		EXPECT_EQ(writer.acked(), frame.end);
		for (SharedAcknowledgement &shared : memory.header()->acknowledgements)
			shared.number = shared.acked = shared.check = scribbled;
		EXPECT_EQ(writer.acked(), frame.end);
		reader.set_checkpoint(checkpoint);
		reader.heartbeat(1);
		EXPECT_EQ(writer.acked(), frame.end);
		EXPECT_EQ(writer.checkpoint(), checkpoint);
	}
	EXPECT_EQ(writer.violations(), 0u);
}

/* Any word that changes, and any that is not written yet, leaves the acknowledgement before in place. */
TEST_F(Ring, AcknowledgementIsBelievedAsAWhole)
{
	constexpr size_t kWords = sizeof(SharedAcknowledgement) / 8;
	const Checkpoint first = {{1, 2, 3}, {4, 5, 6}};
	const Checkpoint second = {{1, 12, 13}, {4, 15, 16}};
	const Checkpoint third = {{1, 22, 23}, {4, 25, 26}};
	uint64_t before[kWords];
	uint64_t after[kWords];
	Frame frame;

	for (int i = 0; i < 3; i++)
		ASSERT_EQ(write("a"), 1);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	reader.set_checkpoint(first);
	reader.ack(frame.end);
	EXPECT_EQ(writer.acked(), frame.end);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	reader.set_checkpoint(second);
	reader.ack(frame.end);

	SharedAcknowledgement &shared = older();
	uint64_t acked = frame.end;

	memcpy(before, &shared, sizeof(before));
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	reader.set_checkpoint(third);
	reader.ack(frame.end);
	ASSERT_EQ(&newest(), &shared);
	memcpy(after, &shared, sizeof(after));

	auto put = [&](const uint64_t *words) { memcpy(static_cast<void *>(&shared), words, sizeof(shared)); };
	auto for_each_torn = [&](auto test) {
		for (uint32_t written = 0; written + 1 < 1u << kWords; written++)
		{
			uint64_t words[kWords];

			for (size_t i = 0; i < kWords; i++)
				words[i] = written & 1u << i ? after[i] : before[i];
			if (memcmp(words, after, sizeof(words)) == 0)
				continue;
			put(words);
			test();
		}
	};

	for_each_torn([&] {
		EXPECT_EQ(writer.acked(), acked);
		EXPECT_EQ(writer.checkpoint(), second);
	});
	for (size_t i = 0; i < kWords; i++)
		for (int bit = 0; bit < 64; bit++)
		{
			uint64_t words[kWords];

			memcpy(words, after, sizeof(words));
			words[i] ^= uint64_t{1} << bit;
			put(words);
			EXPECT_EQ(writer.acked(), acked) << i;
		}
	put(after);
	EXPECT_EQ(writer.acked(), frame.end);
	EXPECT_EQ(writer.checkpoint(), third);
	EXPECT_EQ(writer.violations(), 0u);

	/* Nor does the next publisher take what is not whole for one, nor write over the good one. */
	for_each_torn([&] {
		for (int i = 0; i < 2; i++)
		{
			attach();
			EXPECT_EQ(reader.acked(), acked);
			EXPECT_EQ(reader.checkpoint(), second);
		}
	});
}

/* Where only the one before is whole when the worker looks, it has seen a later one. */
TEST_F(Ring, OlderAcknowledgementIsNoViolation)
{
	const Checkpoint checkpoint = {{1, 2, 3}, {}};

	ASSERT_EQ(write(std::string(1000, 'x')), 1000);
	store_acked(0, 7);
	store_acked(16, 8, checkpoint);
	EXPECT_EQ(writer.acked(), 16u);
	newest().check = 0;
	EXPECT_EQ(writer.acked(), 16u);
	EXPECT_EQ(writer.checkpoint(), checkpoint);
	EXPECT_EQ(writer.violations(), 0u);

	/* However far the number is, there is a next one. */
	store_acked(32, UINT64_MAX / 2);
	EXPECT_EQ(writer.acked(), 32u);
	store_acked(48, UINT64_MAX / 2 + 1);
	EXPECT_EQ(writer.acked(), 48u);
	EXPECT_EQ(writer.violations(), 0u);
}

TEST_F(Ring, ReaderAsksForAnother)
{
	EXPECT_FALSE(writer.refused());
	reader.refuse();
	EXPECT_TRUE(writer.refused());
}

/* What changes between the check and its use is found out behind it. */
TEST_F(Ring, PayloadChangesUnderTheReader)
{
	std::string payload = pattern(5000, 1);
	Frame frame;

	ASSERT_EQ(write(payload), 5000);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	EXPECT_TRUE(reader.intact(frame));
	for (size_t i : {size_t{0}, size_t{2500}, size_t{4999}})
	{
		char *byte = const_cast<char *>(frame.payload) + i;

		*byte ^= 1;
		EXPECT_FALSE(reader.intact(frame));
		*byte ^= 1;
		EXPECT_TRUE(reader.intact(frame));
	}
}

TEST_F(Ring, ReaderRefusesEveryChangedByte)
{
	Frame frame;

	move_to(0);
	ASSERT_EQ(write("before"), 6);
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	uint64_t position = writer.written();

	ASSERT_EQ(writer.write(changes(), "payload", 7, 0), 7);
	for (size_t i = 0; i < kHeader + 13 + 7; i++)
	{
		for (int bit = 0; bit < 8; bit++)
		{
			at(position)[i] ^= static_cast<char>(1 << bit);
			ASSERT_EQ(reader.next(&frame), ReadResult::Corrupt) << "byte " << i << " bit " << bit;
			ASSERT_EQ(reader.read_position(), position);
			at(position)[i] ^= static_cast<char>(1 << bit);
		}
	}
	EXPECT_EQ(reader.next(&frame), ReadResult::Frame);
}

/* A header that lies under a right checksum: the bounds must hold by themselves. */
TEST_F(Ring, ReaderRefusesLiesUnderARightChecksum)
{
	using Lie = std::function<void(FrameHeader &)>;
	const std::vector<std::pair<const char *, Lie>> lies = {
		{"position before", [](FrameHeader &h) { h.position -= kCapacity; }},
		{"position behind", [](FrameHeader &h) { h.position += kCapacity; }},
		{"kind", [](FrameHeader &h) { h.kind = static_cast<uint16_t>(FrameKind::Dropped) + 1; }},
		{"padding not up to the end",
		 [](FrameHeader &h) {
			 h.kind = 0;
			 h.route_length = 0;
		 }},
		{"route",
		 [](FrameHeader &h) {
			 h.route_length = kRouteMax + 1;
			 h.payload_length = h.record_length = 2013 - h.route_length;
		 }},
		{"longest route", [](FrameHeader &h) { h.route_length = UINT16_MAX; }},
		{"payload longer than what is written",
		 [](FrameHeader &h) {
			 h.payload_length += 4096;
			 h.record_length += 4096;
		 }},
		{"longest payload", [](FrameHeader &h) { h.payload_length = h.record_length = UINT32_MAX; }},
		{"payload longer than the record", [](FrameHeader &h) { h.record_length = h.payload_length - 1; }},
		{"offset behind the record", [](FrameHeader &h) { h.record_offset = 1; }},
		{"offset that overflows", [](FrameHeader &h) { h.record_offset = UINT32_MAX - h.payload_length + 2; }},
	};
	Frame frame;

	/* Far enough from the end that only the lie itself is at fault. */
	move_to(kCapacity / 2);
	uint64_t position = writer.written();

	ASSERT_EQ(writer.write(changes(), pattern(2000, 5).data(), 2000, 0), 2000);
	std::string honest(at(position), kHeader);

	for (const auto &[name, lie] : lies)
	{
		FrameHeader header;

		memcpy(&header, honest.data(), sizeof(header));
		lie(header);
		memcpy(at(position), &header, sizeof(header));
		if (RingWriter::frame_size(header.route_length, header.payload_length) < kCapacity / 2)
			header.checksum = checksum(at(position));
		memcpy(at(position), &header, sizeof(header));
		EXPECT_EQ(reader.next(&frame), ReadResult::Corrupt) << name;
		EXPECT_EQ(reader.read_position(), position) << name;
	}
	memcpy(at(position), honest.data(), honest.size());
	EXPECT_EQ(reader.next(&frame), ReadResult::Frame);
}

/* Much is written, but behind the end of the area there is nothing of ours. */
TEST_F(Ring, ReaderRefusesAFrameAcrossTheEnd)
{
	Frame frame;
	FrameHeader header;

	move_to(256);
	uint64_t position = writer.written();

	ASSERT_EQ(write(std::string(256 - kHeader, 'x')), static_cast<int64_t>(256 - kHeader));
	ASSERT_EQ(write(std::string(10000, 'y')), 10000);
	memcpy(&header, at(position), sizeof(header));
	header.payload_length = header.record_length = 256 - kHeader + 1;
	memcpy(at(position), &header, sizeof(header));
	EXPECT_EQ(reader.next(&frame), ReadResult::Corrupt);
	header.payload_length = header.record_length = 8192;
	memcpy(at(position), &header, sizeof(header));
	EXPECT_EQ(reader.next(&frame), ReadResult::Corrupt);
}

TEST_F(Ring, ReaderRefusesAFrameAboveTheLimit)
{
	Frame frame;

	/* Two frames one after the other, taken for one that is larger than any may be. */
	ASSERT_GE(write(std::string(writer.max_frame_payload(), 'a')), 0);
	ASSERT_GE(write(std::string(writer.max_frame_payload(), 'b')), 0);
	FrameHeader header;

	memcpy(&header, at(0), sizeof(header));
	header.payload_length = header.record_length = writer.max_frame_payload() + 1;
	memcpy(at(0), &header, sizeof(header));
	header.checksum = checksum(at(0));
	memcpy(at(0), &header, sizeof(header));
	EXPECT_EQ(reader.next(&frame), ReadResult::Corrupt);
}

TEST_F(Ring, ReaderRefusesWrongPadding)
{
	Frame frame;

	move_to(256);
	uint64_t position = writer.written();

	ASSERT_EQ(write(std::string(300, 'x')), 300);
	for (size_t i = 0; i < kHeader; i++)
	{
		at(position)[i] ^= 1;
		ASSERT_EQ(reader.next(&frame), ReadResult::Corrupt) << "byte " << i;
		at(position)[i] ^= 1;
	}
	/* Shorter, under a right checksum: what follows would be read out of the middle of nothing. */
	FrameHeader header;

	memcpy(&header, at(position), sizeof(header));
	header.payload_length -= 16;
	memcpy(at(position), &header, sizeof(header));
	header.checksum = checksum(at(position));
	memcpy(at(position), &header, sizeof(header));
	EXPECT_EQ(reader.next(&frame), ReadResult::Corrupt);
	EXPECT_EQ(reader.read_position(), position);

	/* Of the right size, but with a route. */
	header.route_length = 16;
	memcpy(at(position), &header, sizeof(header));
	header.checksum = XXH3_64bits_withSeed("", 0, XXH3_64bits(at(position) + 8, kHeader - 8));
	memcpy(at(position), &header, sizeof(header));
	EXPECT_EQ(reader.next(&frame), ReadResult::Corrupt);
	EXPECT_EQ(reader.read_position(), position);
}

TEST_F(Ring, ReaderRefusesAnImpossibleWritten)
{
	Frame frame;

	move_to(32);
	uint64_t acked = reader.acked();
	std::atomic<uint64_t> &written = memory.header()->written;

	for (uint64_t bad : {acked - 16, acked + 8, acked + 16, acked + 32 + 64, acked + kCapacity + 16, uint64_t{0},
						 UINT64_MAX & ~uint64_t{15}})
	{
		RingReader fresh = reader;

		written = bad;
		EXPECT_EQ(fresh.next(&frame), ReadResult::Corrupt) << bad - acked;
	}
	written = acked;
	EXPECT_EQ(reader.next(&frame), ReadResult::Empty);

	/* It ends inside of what is skipped in front of a good frame. */
	ASSERT_EQ(write(std::string(100, 'x')), 100);
	written = acked + 16;
	EXPECT_EQ(RingReader(reader).next(&frame), ReadResult::Corrupt);

	/* A frame that reaches beyond what is written. */
	written = writer.written() - 16;
	EXPECT_EQ(RingReader(reader).next(&frame), ReadResult::Corrupt);

	/* It goes back behind what was read, with good frames of old behind it. */
	written = writer.written();
	ASSERT_EQ(reader.next(&frame), ReadResult::Frame);
	ASSERT_EQ(write(std::string(100, 'y')), 100);
	written = acked;
	EXPECT_EQ(reader.next(&frame), ReadResult::Corrupt);
	written = writer.written();
	EXPECT_EQ(reader.next(&frame), ReadResult::Frame);
}

/* With a right check word. */
void
forge(SharedAcknowledgement &shared, uint64_t acked)
{
	shared.number = 1;
	shared.acked = acked;
	shared.check = compute_check_word({1, acked, {}}, 1);
}

TEST_F(Ring, AttachRefuses)
{
	using Lie = std::function<void(RingHeader &)>;
	const std::vector<std::tuple<const char *, AttachResult, Lie>> lies = {
		{"no magic", AttachResult::NotReady, [](RingHeader &h) { h.magic = 0; }},
		{"other magic", AttachResult::Corrupt, [](RingHeader &h) { h.magic = kRingMagic + 1; }},
		{"version", AttachResult::WrongVersion, [](RingHeader &h) { h.version = kRingVersion + 1; }},
		{"header size", AttachResult::Corrupt, [](RingHeader &h) { h.header_size = 4096; }},
		{"capacity of another size", AttachResult::Corrupt, [](RingHeader &h) { h.capacity = 2 * kCapacity; }},
		{"capacity no power of two", AttachResult::Corrupt, [](RingHeader &h) { h.capacity = kCapacity - 16; }},
		{"capacity too small", AttachResult::Corrupt, [](RingHeader &h) { h.capacity = kCapacity / 2; }},
		{"capacity that overflows", AttachResult::Corrupt,
		 [](RingHeader &h) { h.capacity = UINT64_MAX - kRingHeaderSize + 1; }},
		{"frame larger than a quarter", AttachResult::Corrupt, [](RingHeader &h) { h.max_frame_payload += 16; }},
		{"frame too small", AttachResult::Corrupt, [](RingHeader &h) { h.max_frame_payload = kRouteMax; }},
		{"acked beyond written", AttachResult::Corrupt, [](RingHeader &h) { forge(h.acknowledgements[1], 16); }},
		{"acked unaligned", AttachResult::Corrupt,
		 [](RingHeader &h) {
			 forge(h.acknowledgements[0], 8);
			 h.written = 16;
		 }},
		{"acked beyond written, its check word as it was", AttachResult::Ok,
		 [](RingHeader &h) { h.acknowledgements[0].acked = 16; }},
		{"check word of nothing", AttachResult::Ok, [](RingHeader &h) { h.acknowledgements[1].check = 4711; }},
		{"check words of nothing", AttachResult::Corrupt,
		 [](RingHeader &h) { h.acknowledgements[0].check = h.acknowledgements[1].check = 4711; }},
		{"written unaligned", AttachResult::Corrupt, [](RingHeader &h) { h.written = 8; }},
		{"more outstanding than fits", AttachResult::Corrupt, [](RingHeader &h) { h.written = kCapacity + 16; }},
	};

	for (const auto &[name, result, lie] : lies)
	{
		RingReader fresh;
		uint32_t version = 77;

		writer.create(memory.start(), kCapacity, 1, "main", 1);
		lie(*memory.header());
		EXPECT_EQ(fresh.attach(memory.start(), memory.size(), &version), result) << name;
		EXPECT_EQ(version, memory.header()->magic == kRingMagic ? memory.header()->version : 0) << name;
	}

	RingReader fresh;
	uint32_t version;

	writer.create(memory.start(), kCapacity, 1, "main", 1);
	EXPECT_EQ(fresh.attach(memory.start(), memory.size() - 1, &version), AttachResult::Corrupt);
	EXPECT_EQ(fresh.attach(memory.start(), kRingHeaderSize - 1, &version), AttachResult::Corrupt);
	EXPECT_EQ(fresh.attach(memory.start(), memory.size(), &version), AttachResult::Ok);
	EXPECT_EQ(version, kRingVersion);
}

} // namespace
