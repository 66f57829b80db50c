/*
 * What the tests of the ring in memory share: a mapping between guard pages, so that a step outside of it
 * is fatal, with a writer and a reader on it.
 */
#ifndef SIPHON_RING_FIXTURE_H
#define SIPHON_RING_FIXTURE_H

#include "ring/ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

using namespace siphon;

inline constexpr uint64_t kCapacity = kRingMinimum;
inline constexpr uint64_t kHeader = sizeof(FrameHeader);

/* The mapping of a ring, with a page that can't be touched on either side. */
class Memory
{
public:
	explicit Memory(size_t size) : size_(size)
	{
		base_ = static_cast<char *>(mmap(nullptr, size + 2 * kRingPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		EXPECT_NE(base_, MAP_FAILED);
		EXPECT_EQ(mprotect(start(), size, PROT_READ | PROT_WRITE), 0);
	}
	~Memory() { munmap(base_, size_ + 2 * kRingPage); }
	Memory(const Memory &) = delete;
	Memory &operator=(const Memory &) = delete;

	char *start() { return base_ + kRingPage; }
	char *data() { return start() + kRingHeaderSize; }
	RingHeader *header() { return reinterpret_cast<RingHeader *>(start()); }
	size_t size() const { return size_; }

private:
	char *base_;
	size_t size_;
};

inline RecordInfo
changes(std::string_view route = std::string_view("public\0issues", 13))
{
	return {FrameKind::Changes,
			16384,
			3,
			2,
			7,
			{0x1000, 1},
			{0x2000, 9},
			route.data(),
			static_cast<uint16_t>(route.size())};
}

inline std::string
pattern(size_t length, unsigned seed)
{
	std::string out(length, '\0');
	std::minstd_rand random(seed + 1);

	for (char &c : out)
		c = static_cast<char>(random());
	return out;
}

/* The contract's checksum, in words of its own. */
inline uint64_t
checksum(const char *frame)
{
	FrameHeader header;

	memcpy(&header, frame, sizeof(header));
	uint64_t seed = XXH3_64bits(frame + 8, sizeof(header) - 8 + header.route_length);

	return XXH3_64bits_withSeed(frame + sizeof(header) + header.route_length,
								header.kind == 0 ? 0 : header.payload_length, seed);
}

class Ring : public testing::Test
{
protected:
	Ring()
	{
		writer.create(memory.start(), kCapacity, 4711, "prd.cell1", 99);
		attach();
	}

	void attach()
	{
		uint32_t version;

		reader = RingReader();
		ASSERT_EQ(reader.attach(memory.start(), memory.size(), &version), AttachResult::Ok);
	}

	int64_t write(const std::string &payload, uint32_t offset = 0)
	{
		return writer.write(no_route, payload.data(), static_cast<uint32_t>(payload.size()), offset);
	}

	/* Moves an empty ring's position forward to one that is `remaining` bytes before the end of the area. */
	void move_to(uint64_t remaining)
	{
		uint64_t largest = RingWriter::frame_size(0, writer.max_frame_payload());
		uint64_t target = kCapacity - remaining;
		uint64_t offset;

		while ((offset = writer.written() & (kCapacity - 1)) != target % kCapacity)
		{
			/* Straight to the target, or to the end of the area and once more round. */
			uint64_t distance = (offset < target ? target : kCapacity) - offset;
			uint64_t step = std::clamp(distance, kHeader, largest);

			/* Leave room for another frame, or nothing. */
			if (distance > step && distance - step < kHeader)
				step -= kHeader;
			ASSERT_GE(write(std::string(step - kHeader, 'm')), 0);
			drain();
		}
	}

	void drain()
	{
		Frame frame;

		while (reader.next(&frame) == ReadResult::Frame)
			reader.ack(frame.end);
		ASSERT_EQ(reader.acked(), writer.written());
	}

	/* The acknowledgement with the greatest number, be its check word right or not. */
	SharedAcknowledgement &newest()
	{
		auto &both = memory.header()->acknowledgements;

		return both[1].number > both[0].number ? both[1] : both[0];
	}
	SharedAcknowledgement &older()
	{
		auto &both = memory.header()->acknowledgements;

		return &newest() == &both[0] ? both[1] : both[0];
	}

	/* As a publisher does. */
	void store_acked(uint64_t acked, uint64_t number, const Checkpoint &checkpoint = {})
	{
		SharedAcknowledgement &shared = older();
		uint64_t words[kCheckpointWords];

		memcpy(words, &checkpoint, sizeof(words));
		shared.number = number;
		shared.acked = acked;
		std::copy(std::begin(words), std::end(words), std::begin(shared.checkpoint));
		shared.check = compute_check_word({number, acked, checkpoint}, 4711);
	}
	void store_acked(uint64_t acked) { store_acked(acked, newest().number + 1); }

	char *at(uint64_t position) { return memory.data() + (position & (kCapacity - 1)); }

	Memory memory{ring_file_size(kCapacity)};
	RecordInfo no_route = changes("");
	RingWriter writer;
	RingReader reader;
};

#endif
