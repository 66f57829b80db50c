/*
 * Fuzzes the trust boundary of the ring (libFuzzer). The input is a list of operations: the writer writes,
 * the reader attaches, reads and acknowledges, and somebody scribbles - over the publisher's words, over
 * frames, anywhere, or with a right checksum under a header that lies.
 *
 * Guard pages lie around the mapping. Whatever is scribbled, the writer's books must stay coherent and
 * the frames that the reader accepts must lie inside and agree with themselves. As long as nobody
 * scribbled, what is read must be what was written.
 */
#include "fuzz.h"
#include "ring/ring.h"

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <sys/mman.h>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

using namespace siphon;

namespace {

/* Twice the minimum, so that a smaller capacity in the header can pass for one. */
constexpr uint64_t kCapacity = 2 * kRingMinimum;
constexpr size_t kSize = ring_file_size(kCapacity);
constexpr uint32_t kLargestRecord = 3 * kCapacity;

char *
mapping()
{
	static char *memory = [] {
		char *base =
			static_cast<char *>(mmap(nullptr, kSize + 2 * kRingPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

		REQUIRE(base != MAP_FAILED);
		REQUIRE(mprotect(base + kRingPage, kSize, PROT_READ | PROT_WRITE) == 0);
		return base + kRingPage;
	}();

	return memory;
}

/* What an honest reader finds next. */
struct Expected
{
	FrameKind kind;
	std::string route;
	std::string payload;
	uint32_t record_length;
	uint32_t record_offset;
	uint64_t end;
};

class Session
{
public:
	Session(const uint8_t *input, size_t size) : input_(input, size)
	{
		memset(memory_, 0, kSize);
		writer_.create(memory_, kCapacity, 1, "fuzz", 1);
		attach(kSize);
	}

	void run()
	{
		if (input_.ConsumeBool())
			move_near_end(16 * input_.ConsumeIntegralInRange<uint32_t>(0, 255));
		while (input_.remaining_bytes() > 0)
		{
			switch (input_.ConsumeIntegralInRange(0, 11))
			{
				case 0:
				case 1:
					write_record();
					break;
				case 2:
				case 3:
					read();
					break;
				case 4:
					acknowledge();
					break;
				case 5:
					rewind();
					break;
				case 6:
					attach(input_.ConsumeBool() ? kSize : input_.ConsumeIntegralInRange<size_t>(0, kSize));
					break;
				case 7:
					scribble_cursor();
					break;
				case 8:
					scribble(input_.ConsumeIntegralInRange<size_t>(0, kSize - 1));
					break;
				case 9:
					scribble_near();
					break;
				case 10:
					forge();
					break;
				default:
					small_talk();
			}
		}
	}

private:
	/* The end of the area is where mistakes are made: begin so many bytes in front of it. */
	void move_near_end(uint32_t remaining)
	{
		uint32_t largest = writer_.max_frame_payload();
		std::vector<char> payload(largest);
		RecordInfo info = {};
		Frame frame;

		info.kind = FrameKind::Changes;
		for (uint32_t length : {largest, largest, largest, largest - remaining})
		{
			REQUIRE(writer_.write(info, payload.data(), length, 0) == length);
			REQUIRE(reader_.next(&frame) == ReadResult::Frame);
			reader_.ack(frame.end);
		}
		REQUIRE(writer_.written() == kCapacity - remaining);
		check_writer();
	}

	/* A record, or what of it fits, with the writer's books kept a second time. */
	void write_record()
	{
		RecordInfo info = {};
		std::string route(input_.ConsumeIntegralInRange<uint16_t>(0, input_.ConsumeBool() ? 40 : kRouteMax + 1), 'r');
		uint32_t length = input_.ConsumeIntegralInRange<uint32_t>(0, input_.ConsumeBool() ? 3000 : kLargestRecord);
		/* Exactly as large as needed, for AddressSanitizer. */
		std::vector<char> payload(length);
		uint32_t offset = 0;

		info.kind = static_cast<FrameKind>(input_.ConsumeIntegralInRange(0, static_cast<int>(FrameKind::Dropped)));
		info.route = route.data();
		info.route_length = static_cast<uint16_t>(route.size());
		for (uint32_t i = 0; i < length; i++)
			payload[i] = static_cast<char>(i * 7 + length);

		do
		{
			uint64_t before = writer_.written();
			int64_t written = writer_.write(info, payload.data(), length, offset);

			if (info.kind == FrameKind::Padding || route.size() > kRouteMax)
				REQUIRE(written == -2);
			if (written < 0)
			{
				REQUIRE(writer_.written() == before);
				REQUIRE(written != -1 || honest_is_full(route.size(), length - offset));
				return;
			}

			uint32_t part = static_cast<uint32_t>(written);
			uint64_t size = RingWriter::frame_size(info.route_length, part);
			uint64_t to_end = kCapacity - before % kCapacity;

			REQUIRE(part == std::min<uint32_t>(length - offset, writer_.max_frame_payload() - info.route_length));
			REQUIRE(writer_.written() == before + size + (size > to_end ? to_end : 0));
			if (!tampered_)
				expected_.push_back(
					{info.kind, route, std::string(payload.data() + offset, part), length, offset, writer_.written()});
			offset += part;
			check_writer();
		} while (offset < length);
	}

	/* Nobody lied: a ring that calls itself full must have less room than the frame and its padding need. */
	bool honest_is_full(size_t route_length, uint32_t rest)
	{
		uint32_t limit = writer_.max_frame_payload() - static_cast<uint32_t>(route_length);
		uint64_t size = RingWriter::frame_size(static_cast<uint32_t>(route_length), std::min(rest, limit));
		uint64_t to_end = kCapacity - writer_.written() % kCapacity;
		uint64_t room = kCapacity - (writer_.written() - (tampered_ ? believed_ : reader_.acked()));

		return tampered_ || size + (size > to_end ? to_end : 0) > room;
	}

	void check_writer()
	{
		uint64_t acked = writer_.acked();

		REQUIRE(acked >= believed_ && acked <= writer_.written());
		REQUIRE(writer_.written() - acked <= kCapacity);
		REQUIRE(writer_.written() % kFrameAlignment == 0);
		REQUIRE(tampered_ || writer_.violations() == 0);
		REQUIRE(writer_.capacity() == kCapacity);
		REQUIRE(tampered_ || writer_.checkpoint() == checkpoint_);
		believed_ = acked;
	}

	void attach(size_t size)
	{
		uint32_t version;
		RingReader reader;
		AttachResult result = reader.attach(memory_, size, &version);

		REQUIRE(tampered_ || size < kSize || result == AttachResult::Ok);
		if (result != AttachResult::Ok)
			return;
		REQUIRE(ring_file_size(reader.capacity()) <= size);
		REQUIRE(is_valid_ring_capacity(reader.capacity()));
		REQUIRE(strnlen(reader.application(), kApplicationMax) < kApplicationMax);
		REQUIRE(tampered_ || reader.checkpoint() == checkpoint_);
		reader_ = reader;
		next_ = 0;
	}

	void read()
	{
		Frame frame;
		uint64_t before = reader_.read_position();
		ReadResult result = reader_.next(&frame);

		if (result != ReadResult::Frame)
		{
			REQUIRE(reader_.read_position() == before);
			REQUIRE(tampered_ || (result == ReadResult::Empty && next_ == expected_.size()));
			return;
		}

		const FrameHeader &header = frame.header;
		const char *data = memory_ + kRingHeaderSize;

		REQUIRE(frame.route >= data && frame.payload == frame.route + header.route_length);
		REQUIRE(frame.payload + header.payload_length <= data + reader_.capacity());
		REQUIRE(header.position >= before && header.position % kFrameAlignment == 0);
		REQUIRE(frame.end == header.position + RingWriter::frame_size(header.route_length, header.payload_length));
		REQUIRE(frame.end == reader_.read_position() && frame.end - reader_.acked() <= reader_.capacity());
		REQUIRE(header.kind >= 1 && header.kind <= static_cast<uint16_t>(FrameKind::Dropped));
		REQUIRE(uint64_t{header.record_offset} + header.payload_length <= header.record_length);
		REQUIRE(header.checksum == checksum(header, frame.route, frame.payload));

		if (!tampered_)
		{
			REQUIRE(next_ < expected_.size());
			const Expected &expected = expected_[next_++];

			REQUIRE(header.kind == static_cast<uint16_t>(expected.kind));
			REQUIRE(std::string(frame.route, header.route_length) == expected.route);
			REQUIRE(std::string(frame.payload, header.payload_length) == expected.payload);
			REQUIRE(header.record_length == expected.record_length && header.record_offset == expected.record_offset);
			REQUIRE(frame.end == expected.end);
		}
	}

	void acknowledge()
	{
		uint64_t before = reader_.acked();
		uint64_t position = reader_.read_position();

		if (tampered_ && input_.ConsumeBool())
			position = input_.ConsumeIntegral<uint64_t>();
		else if (next_ > 0 && !tampered_)
			position = expected_[input_.ConsumeIntegralInRange<size_t>(0, next_ - 1)].end;

		Checkpoint checkpoint = {{1, position, before}, {2, input_.ConsumeIntegral<uint8_t>(), 0}};

		reader_.set_checkpoint(checkpoint);
		reader_.ack(position);
		if (reader_.acked() > before)
			checkpoint_ = checkpoint;
		REQUIRE(reader_.acked() >= before && reader_.acked() <= reader_.read_position());
		while (!tampered_ && next_ > 0 && expected_.front().end <= reader_.acked())
		{
			expected_.pop_front();
			next_--;
		}
		check_writer();
	}

	void rewind()
	{
		reader_.rewind();
		REQUIRE(reader_.read_position() == reader_.acked());
		next_ = 0;
	}

	void tamper()
	{
		tampered_ = true;
		expected_.clear();
		next_ = 0;
	}

	/* A value for a cursor: anything, or something that could be one. */
	uint64_t cursor()
	{
		uint64_t base = input_.ConsumeBool() ? writer_.written() : reader_.read_position();

		if (input_.ConsumeBool())
			return input_.ConsumeIntegral<uint64_t>();
		return base + 16 * static_cast<uint64_t>(input_.ConsumeIntegralInRange<int64_t>(-8192, 8192));
	}

	/* Mostly with a right check word. */
	void forge_acknowledgement(SharedAcknowledgement &shared, uint64_t acked)
	{
		Checkpoint checkpoint = {{acked, 1, 2}, {3, 4, 5}};
		uint64_t number = input_.ConsumeBool() ? shared.number + 2 : input_.ConsumeIntegral<uint64_t>();
		uint64_t words[kCheckpointWords];

		memcpy(words, &checkpoint, sizeof(words));
		shared.number = number;
		shared.acked = acked;
		std::copy(std::begin(words), std::end(words), std::begin(shared.checkpoint));
		if (acked % 3 != 0)
			shared.check = compute_check_word({number, acked, checkpoint}, 1);
	}

	void scribble_cursor()
	{
		RingHeader *header = reinterpret_cast<RingHeader *>(memory_);
		uint64_t value = cursor();

		tamper();
		switch (input_.ConsumeIntegralInRange(0, 3))
		{
			case 0:
				forge_acknowledgement(header->acknowledgements[value / 16 % 2], value);
				break;
			case 1:
				header->read = value;
				break;
			case 2:
				header->written = value;
				break;
			default:
				header->capacity = input_.ConsumeBool() ? kRingMinimum : value;
		}
		check_writer();
	}

	void scribble(size_t offset)
	{
		std::string bytes = input_.ConsumeBytesAsString(input_.ConsumeIntegralInRange<size_t>(1, 96));

		tamper();
		memcpy(memory_ + offset, bytes.data(), std::min(bytes.size(), kSize - offset));
		check_writer();
	}

	char *frame_at(uint64_t position) { return memory_ + kRingHeaderSize + position % reader_.capacity(); }
	size_t room_at(uint64_t position)
	{
		return static_cast<size_t>(reader_.capacity() - position % reader_.capacity());
	}

	/* Where the reader looks next. */
	void scribble_near()
	{
		size_t offset = static_cast<size_t>(frame_at(reader_.read_position()) - memory_);

		scribble(std::min(kSize - 1, offset + input_.ConsumeIntegralInRange<size_t>(0, sizeof(FrameHeader) + 64)));
	}

	/* A header that lies, where the reader looks next, under a right checksum if what it claims lies inside. */
	void forge()
	{
		FrameHeader header;
		char *frame = frame_at(reader_.read_position());
		size_t room = room_at(reader_.read_position());

		if (room < sizeof(header))
			return;
		tamper();
		memcpy(&header, frame, sizeof(header));
		header.position = input_.ConsumeBool() ? reader_.read_position() : cursor();
		header.kind = input_.ConsumeIntegralInRange<uint16_t>(0, static_cast<uint16_t>(FrameKind::Dropped) + 2);
		header.route_length = input_.ConsumeIntegralInRange<uint16_t>(0, input_.ConsumeBool() ? 64 : UINT16_MAX);
		header.payload_length = input_.ConsumeIntegralInRange<uint32_t>(0, input_.ConsumeBool() ? 4096 : UINT32_MAX);
		/* Up to the end of the area, or a little across. */
		if (input_.ConsumeBool())
			header.payload_length = static_cast<uint32_t>(room - sizeof(header) + input_.ConsumeIntegralInRange(0, 32));
		header.record_offset = input_.ConsumeBool() ? 0 : input_.ConsumeIntegral<uint32_t>();
		header.record_length = input_.ConsumeBool() ? header.payload_length : input_.ConsumeIntegral<uint32_t>();
		if (header.kind == 0)
		{
			header.route_length = 0;
			header.checksum = checksum(header, frame, frame);
		}
		else if (sizeof(header) + header.route_length + header.payload_length <= room)
			header.checksum = checksum(header, frame + sizeof(header), frame + sizeof(header) + header.route_length);
		memcpy(frame, &header, sizeof(header));
	}

	/* The contract's checksum, in words of its own. */
	static uint64_t checksum(const FrameHeader &header, const char *route, const char *payload)
	{
		std::vector<char> front(sizeof(header) - 8 + header.route_length);

		memcpy(front.data(), reinterpret_cast<const char *>(&header) + 8, sizeof(header) - 8);
		memcpy(front.data() + sizeof(header) - 8, route, header.route_length);
		return XXH3_64bits_withSeed(payload, header.kind == 0 ? 0 : header.payload_length,
									XXH3_64bits(front.data(), front.size()));
	}

	void small_talk()
	{
		writer_.set_asleep(input_.ConsumeBool());
		reader_.set_asleep(input_.ConsumeBool());
		writer_.clear_publisher_asleep();
		REQUIRE(!writer_.clear_publisher_asleep());
		reader_.clear_worker_asleep();
		REQUIRE(!reader_.clear_worker_asleep());
		writer_.heartbeat(1);
		reader_.heartbeat(1);
		checkpoint_ = reader_.checkpoint();
		if (input_.ConsumeBool())
			writer_.close();
	}

	FuzzedDataProvider input_;
	char *memory_ = mapping();
	RingWriter writer_;
	RingReader reader_;
	uint64_t believed_ = 0;         /* acked, as the writer believed it last */
	Checkpoint checkpoint_ = {};    /* that which went with the last acknowledgement */
	std::deque<Expected> expected_; /* written and not acknowledged, until somebody scribbled */
	size_t next_ = 0;               /* of these, the one that the reader finds next */
	bool tampered_ = false;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

extern "C" int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	Session(input, size).run();
	return 0;
}
