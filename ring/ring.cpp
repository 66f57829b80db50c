/*
 * Both ends of the ring: laying it out, writing frames and reading them. ring.h says what the rules are.
 *
 * Order of memory: a frame's bytes are stored before `written` is released, and loaded after `written`
 * was acquired; the same goes for `acked` the other way round, so that the worker overwrites only what
 * the publisher has done with. The asleep flags need more, see notify().
 */
#include "ring.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <type_traits>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace siphon {

/* PostgreSQL's longjmp may pass over one of these. */
static_assert(std::is_trivially_default_constructible_v<RingWriter>);
static_assert(std::is_trivially_destructible_v<RingWriter>);

static constexpr uint64_t
align_frame(uint64_t size)
{
	return (size + kFrameAlignment - 1) & ~uint64_t{kFrameAlignment - 1};
}

/*
 * A quarter of the ring, so that a frame and the padding in front of it fit into half of an empty ring
 * and the two sides can work at the same time.
 */
static constexpr uint32_t
frame_payload_limit(uint64_t capacity)
{
	uint64_t quarter = capacity / 4 - sizeof(FrameHeader);

	return static_cast<uint32_t>(std::min<uint64_t>(kFramePayloadLimit, quarter & ~uint64_t{kFrameAlignment - 1}));
}
static_assert(frame_payload_limit(kRingMinimum) > 2 * kRouteMax);

/*
 * The header and the route behind it, which lie together, as the seed for the payload: two hashes
 * instead of a streaming one, because only the payload can be long.
 */
static uint64_t
compute_seed(const char *frame, uint16_t route_length)
{
	constexpr size_t skip = offsetof(FrameHeader, position);

	return XXH3_64bits(frame + skip, sizeof(FrameHeader) - skip + route_length);
}

/*
 * The asleep flags. The one who waits stores its flag and then loads the cursor; the one who notifies
 * stores the cursor and then loads the flag. Of two such pairs at least one must see the other's store,
 * which only sequentially consistent fences between store and load promise.
 */
static void
store_asleep(std::atomic<uint32_t> &asleep, bool value)
{
	asleep.store(value ? 1 : 0, std::memory_order_relaxed);
	if (value)
		std::atomic_thread_fence(std::memory_order_seq_cst);
}

static bool
clear_asleep(std::atomic<uint32_t> &asleep)
{
	std::atomic_thread_fence(std::memory_order_seq_cst);
	/* Look first: a busy pair then shares the flag's cache line without writing to it. */
	if (asleep.load(std::memory_order_relaxed) == 0)
		return false;
	return asleep.exchange(0, std::memory_order_acq_rel) != 0;
}

/* Whatever is in the ring, there is one that is newer. */
static bool
is_newer(uint64_t number, uint64_t than)
{
	return static_cast<int64_t>(number - than) > 0;
}

static void
store_acknowledgement(SharedAcknowledgement &shared, const Acknowledgement &said, uint64_t ring_id)
{
	uint64_t words[kCheckpointWords];

	memcpy(words, &said.checkpoint, sizeof(words));
	shared.number.store(said.number, std::memory_order_relaxed);
	shared.acked.store(said.acked, std::memory_order_relaxed);
	for (uint32_t i = 0; i < kCheckpointWords; i++)
		shared.checkpoint[i].store(words[i], std::memory_order_relaxed);
	shared.check.store(compute_check_word(said, ring_id), std::memory_order_release);
}

/* False if the check word does not fit: it is being written, or never was. */
static bool
load_acknowledgement(const SharedAcknowledgement &shared, Acknowledgement *said, uint64_t ring_id)
{
	uint64_t check = shared.check.load(std::memory_order_acquire);
	uint64_t words[kCheckpointWords];

	said->number = shared.number.load(std::memory_order_relaxed);
	said->acked = shared.acked.load(std::memory_order_relaxed);
	for (uint32_t i = 0; i < kCheckpointWords; i++)
		words[i] = shared.checkpoint[i].load(std::memory_order_relaxed);
	memcpy(&said->checkpoint, words, sizeof(words));
	return check == compute_check_word(*said, ring_id);
}

/* Which of the two is the newest good one; -1: none is good. */
static int
load_newest_acknowledgement(const RingHeader *header, Acknowledgement *newest, uint64_t ring_id)
{
	int found = -1;

	for (int i = 0; i < 2; i++)
	{
		Acknowledgement said;

		if (!load_acknowledgement(header->acknowledgements[i], &said, ring_id))
			continue;
		if (found < 0 || is_newer(said.number, newest->number))
		{
			*newest = said;
			found = i;
		}
	}
	return found;
}

bool
is_valid_ring_capacity(uint64_t capacity)
{
	return capacity >= kRingMinimum && capacity <= kRingMaximum && (capacity & (capacity - 1)) == 0;
}

void
RingWriter::create(void *memory, uint64_t capacity, uint64_t ring_id, const char *application, uint32_t pid,
				   uint64_t history)
{
	header_ = new (memory) RingHeader;
	data_ = static_cast<char *>(memory) + kRingHeaderSize;
	capacity_ = capacity;
	ring_id_ = ring_id;
	written_ = 0;
	acked_ = 0;
	acknowledgement_ = 0;
	checkpoint_ = {};
	violations_ = 0;
	max_frame_payload_ = frame_payload_limit(capacity);
	memset(durations_, 0, sizeof(durations_));

	header_->version = kRingVersion;
	header_->header_size = kRingHeaderSize;
	header_->ring_id = ring_id;
	header_->history = history;
	header_->capacity = capacity;
	header_->max_frame_payload = max_frame_payload_;
	header_->worker_pid = pid;

	size_t length = strnlen(application, kApplicationMax - 1);

	memcpy(header_->application, application, length);
	memset(header_->application + length, 0, kApplicationMax - length);

	for (SharedAcknowledgement &nothing : header_->acknowledgements)
		store_acknowledgement(nothing, {}, ring_id);
	header_->magic.store(kRingMagic, std::memory_order_release);
}

uint64_t
RingWriter::frame_size(uint32_t route_length, uint32_t payload_length)
{
	return align_frame(sizeof(FrameHeader) + uint64_t{route_length} + payload_length);
}

int64_t
RingWriter::write(const RecordInfo &info, const void *payload, uint32_t length, uint32_t offset)
{
	if (info.kind == FrameKind::Padding || info.route_length > kRouteMax)
		return -2;
	if (offset > length || (offset == length && length > 0))
		return -2;

	uint32_t part = std::min(max_frame_payload_ - info.route_length, length - offset);
	uint64_t size = frame_size(info.route_length, part);
	uint64_t to_end = capacity_ - (written_ & (capacity_ - 1));
	uint64_t padding = size <= to_end ? 0 : to_end;

	if (padding + size > capacity_ - (written_ - acked_) && padding + size > capacity_ - (written_ - acked()))
		return -1;

	/* Header and route are put together here, to be hashed where nobody else can change them. */
	char front[sizeof(FrameHeader) + kRouteMax];
	FrameHeader header = {};

	if (padding >= sizeof(FrameHeader))
	{
		header.position = written_;
		header.payload_length = static_cast<uint32_t>(padding - sizeof(FrameHeader));
		header.kind = static_cast<uint16_t>(FrameKind::Padding);
		memcpy(front, &header, sizeof(header));
		/* What is padded over is not part of the hash. */
		header.checksum = XXH3_64bits_withSeed(front, 0, compute_seed(front, 0));
		memcpy(data_ + (written_ & (capacity_ - 1)), &header, sizeof(header));
	}

	uint64_t position = written_ + padding;
	char *frame = data_ + (position & (capacity_ - 1));
	char *frame_payload = frame + sizeof(FrameHeader) + info.route_length;

	header.position = position;
	header.payload_length = part;
	header.kind = static_cast<uint16_t>(info.kind);
	header.route_length = info.route_length;
	header.record_length = length;
	header.record_offset = offset;
	header.table = info.table;
	header.partition = info.partition;
	header.first = info.first;
	header.last = info.last;
	header.events = info.events;
	header.generation = info.generation;
	memcpy(header.operations, info.operations, sizeof(header.operations));
	header.first_commit = info.first_commit;
	header.last_commit = info.last_commit;
	memcpy(front, &header, sizeof(header));
	if (info.route_length > 0)
		memcpy(front + sizeof(header), info.route, info.route_length);

	const char *source = static_cast<const char *>(payload) + offset;

	/*
	 * Copied as a whole and then hashed: measured, that takes half the time of both step by step. The copy is never
	 * read, as another process may write to it.
	 */
	if (part > 0)
		memcpy(frame_payload, source, part);
	header.checksum = XXH3_64bits_withSeed(source, part, compute_seed(front, info.route_length));
	memcpy(front, &header.checksum, sizeof(header.checksum));
	memcpy(frame, front, sizeof(header) + info.route_length);
	memset(frame_payload + part, 0, size - sizeof(header) - info.route_length - part);

	written_ = position + size;
	header_->written.store(written_, std::memory_order_release);
	return part;
}

uint64_t
RingWriter::acked()
{
	Acknowledgement said;

	/* While we looked at one and then at the other, the one that we know may have become the newest that is whole. */
	if (load_newest_acknowledgement(header_, &said, ring_id_) < 0 || !is_newer(said.number, acknowledgement_))
		return acked_;
	if (said.acked >= acked_ && said.acked <= written_ && said.acked % kFrameAlignment == 0)
	{
		acked_ = said.acked;
		acknowledgement_ = said.number;
		checkpoint_ = said.checkpoint;
	}
	else
		violations_++;
	return acked_;
}

bool
RingWriter::refused() const
{
	return header_->refused.load(std::memory_order_relaxed) != 0;
}

bool
RingWriter::clear_publisher_asleep()
{
	return clear_asleep(header_->publisher_asleep);
}

void
RingWriter::set_asleep(bool asleep)
{
	store_asleep(header_->worker_asleep, asleep);
}

void
RingWriter::heartbeat(uint64_t now_us)
{
	header_->worker_heartbeat.store(now_us, std::memory_order_relaxed);
}

void
RingWriter::set_metric(RingMetric metric, uint64_t value)
{
	header_->metrics.values[static_cast<uint32_t>(metric)].store(value, std::memory_order_relaxed);
}

void
RingWriter::add_duration(RingDuration duration, uint64_t ns)
{
	auto i = static_cast<uint32_t>(duration);
	uint32_t bucket = DurationCounts::bucket(ns);

	durations_[i].add(ns);
	header_->metrics.durations[i].counts[bucket].store(durations_[i].counts[bucket], std::memory_order_relaxed);
	header_->metrics.durations[i].sum_ns.store(durations_[i].sum_ns, std::memory_order_relaxed);
}

void
RingWriter::close()
{
	header_->closed.store(1, std::memory_order_release);
}

uint32_t
RingWriter::publisher_pid() const
{
	return header_->publisher_pid.load(std::memory_order_relaxed);
}

uint64_t
RingWriter::publisher_heartbeat() const
{
	return header_->publisher_heartbeat.load(std::memory_order_relaxed);
}

uint64_t
RingWriter::publisher_metric(PublisherMetric metric) const
{
	return header_->publisher_metrics[static_cast<uint32_t>(metric)].load(std::memory_order_relaxed);
}

/* What the worker may have written, given what the publisher has freed. */
static bool
is_valid_written(uint64_t written, uint64_t read, uint64_t acked, uint64_t capacity)
{
	return written >= read && written - acked <= capacity && written % kFrameAlignment == 0;
}

static bool
is_valid_kind(uint16_t kind)
{
	return kind >= static_cast<uint16_t>(FrameKind::Changes) && kind <= static_cast<uint16_t>(FrameKind::Dropped);
}

bool
ring_refuse(void *memory, size_t size)
{
	RingHeader *header = static_cast<RingHeader *>(memory);

	if (size < kRingHeaderSize || header->magic.load(std::memory_order_acquire) != kRingMagic ||
		header->version != kRingVersion)
		return false;
	header->refused.store(1, std::memory_order_release);
	return true;
}

AttachResult
RingReader::attach(void *memory, size_t size, uint32_t *version)
{
	RingHeader *header = static_cast<RingHeader *>(memory);

	*version = 0;
	if (size < kRingHeaderSize)
		return AttachResult::Corrupt;

	uint64_t magic = header->magic.load(std::memory_order_acquire);

	if (magic == 0)
		return AttachResult::NotReady;
	if (magic != kRingMagic)
		return AttachResult::Corrupt;
	*version = header->version;
	if (*version != kRingVersion)
		return AttachResult::WrongVersion;

	uint64_t capacity = header->capacity;
	uint32_t max_frame_payload = header->max_frame_payload;

	/* From here on only the copies count. */
	std::atomic_signal_fence(std::memory_order_seq_cst);
	if (header->header_size != kRingHeaderSize || !is_valid_ring_capacity(capacity) ||
		size < ring_file_size(capacity) || max_frame_payload <= kRouteMax ||
		max_frame_payload > frame_payload_limit(capacity))
		return AttachResult::Corrupt;

	uint64_t ring_id = header->ring_id;
	uint64_t written = header->written.load(std::memory_order_acquire);
	Acknowledgement said;

	if (load_newest_acknowledgement(header, &said, ring_id) < 0 || said.acked % kFrameAlignment != 0 ||
		!is_valid_written(written, said.acked, said.acked, capacity))
		return AttachResult::Corrupt;

	header_ = header;
	data_ = static_cast<const char *>(memory) + kRingHeaderSize;
	capacity_ = capacity;
	ring_id_ = ring_id;
	history_ = header->history;
	written_ = written;
	acked_ = said.acked;
	acknowledgement_ = said.number;
	checkpoint_ = said.checkpoint;
	max_frame_payload_ = max_frame_payload;
	memcpy(application_, header->application, kApplicationMax);
	application_[kApplicationMax - 1] = '\0';
	write_acknowledgement();
	rewind();
	return AttachResult::Ok;
}

ReadResult
RingReader::next(Frame *frame)
{
	uint64_t position = read_;

	for (;;)
	{
		if (position == written_)
		{
			uint64_t now = written();

			if (!is_valid_written(now, written_, acked_, capacity_))
				return ReadResult::Corrupt;
			if (now == position)
				return ReadResult::Empty;
			written_ = now;
		}

		uint64_t offset = position & (capacity_ - 1);
		uint64_t to_end = capacity_ - offset;
		uint64_t available = written_ - position;
		const char *start = data_ + offset;

		if (to_end < sizeof(FrameHeader))
		{
			if (available < to_end)
				return ReadResult::Corrupt;
			position += to_end;
			continue;
		}

		/*
		 * What is checked must be what is used, so header and route are looked at in a copy, which the
		 * fence keeps the compiler from loading anew. (For a payload that changes later there is intact().)
		 */
		char front[sizeof(FrameHeader) + kRouteMax];
		FrameHeader &header = frame->header;

		memcpy(front, start, sizeof(header));
		memcpy(&header, front, sizeof(header));
		std::atomic_signal_fence(std::memory_order_seq_cst);

		uint64_t size = RingWriter::frame_size(header.route_length, header.payload_length);

		if (header.position != position || size > to_end || size > available)
			return ReadResult::Corrupt;

		if (header.kind == static_cast<uint16_t>(FrameKind::Padding))
		{
			if (size != to_end || header.route_length != 0)
				return ReadResult::Corrupt;
			if (header.checksum != XXH3_64bits_withSeed(front, 0, compute_seed(front, 0)))
				return ReadResult::Corrupt;
			position += size;
			continue;
		}

		if (!is_valid_kind(header.kind) || header.route_length > kRouteMax)
			return ReadResult::Corrupt;
		if (uint64_t{header.route_length} + header.payload_length > max_frame_payload_ ||
			uint64_t{header.record_offset} + header.payload_length > header.record_length)
			return ReadResult::Corrupt;

		frame->route = start + sizeof(header);
		frame->payload = frame->route + header.route_length;
		frame->end = position + size;

		memcpy(front + sizeof(header), frame->route, header.route_length);
		uint64_t seed = compute_seed(front, header.route_length);

		if (header.checksum != XXH3_64bits_withSeed(frame->payload, header.payload_length, seed))
			return ReadResult::Corrupt;

		read_ = frame->end;
		header_->read.store(read_, std::memory_order_relaxed);
		return ReadResult::Frame;
	}
}

bool
RingReader::intact(const Frame &frame) const
{
	char front[sizeof(FrameHeader) + kRouteMax];

	memcpy(front, &frame.header, sizeof(FrameHeader));
	memcpy(front + sizeof(FrameHeader), frame.route, frame.header.route_length);
	return frame.header.checksum == XXH3_64bits_withSeed(frame.payload, frame.header.payload_length,
														 compute_seed(front, frame.header.route_length));
}

/* In place of the older one, or of what was made of either. */
void
RingReader::write_acknowledgement()
{
	Acknowledgement last = {};
	int newest = load_newest_acknowledgement(header_, &last, ring_id_);

	/* Another publisher has taken our place while we were stopped, and acknowledged more. */
	if (newest >= 0 && last.acked > acked_ && last.acked <= written())
		return;
	/* What the worker has seen may have been written over. */
	acknowledgement_ = (is_newer(last.number, acknowledgement_) ? last.number : acknowledgement_) + 1;
	store_acknowledgement(header_->acknowledgements[newest == 0 ? 1 : 0], {acknowledgement_, acked_, checkpoint_},
						  ring_id_);
}

void
RingReader::ack(uint64_t position)
{
	if (position <= acked_ || position > read_)
		return;
	acked_ = position;
	write_acknowledgement();
}

void
RingReader::refuse()
{
	header_->refused.store(1, std::memory_order_release);
}

void
RingReader::rewind()
{
	read_ = acked_;
	header_->read.store(read_, std::memory_order_relaxed);
}

uint64_t
RingReader::written() const
{
	return header_->written.load(std::memory_order_acquire);
}

bool
RingReader::closed() const
{
	return header_->closed.load(std::memory_order_acquire) != 0;
}

bool
RingReader::clear_worker_asleep()
{
	return clear_asleep(header_->worker_asleep);
}

void
RingReader::set_asleep(bool asleep)
{
	store_asleep(header_->publisher_asleep, asleep);
}

void
RingReader::set_publisher(uint32_t pid)
{
	header_->publisher_pid.store(pid, std::memory_order_relaxed);
}

void
RingReader::heartbeat(uint64_t now_us)
{
	write_acknowledgement();
	header_->publisher_heartbeat.store(now_us, std::memory_order_relaxed);
}

void
RingReader::set_metric(PublisherMetric metric, uint64_t value)
{
	header_->publisher_metrics[static_cast<uint32_t>(metric)].store(value, std::memory_order_relaxed);
}

uint64_t
RingReader::worker_heartbeat() const
{
	return header_->worker_heartbeat.load(std::memory_order_relaxed);
}

uint64_t
RingReader::metric(RingMetric metric) const
{
	return header_->metrics.values[static_cast<uint32_t>(metric)].load(std::memory_order_relaxed);
}

DurationCounts
RingReader::durations(RingDuration duration) const
{
	const auto &shared = header_->metrics.durations[static_cast<uint32_t>(duration)];
	DurationCounts counts = {};

	for (uint32_t i = 0; i < kDurationBuckets; i++)
		counts.counts[i] = shared.counts[i].load(std::memory_order_relaxed);
	counts.sum_ns = shared.sum_ns.load(std::memory_order_relaxed);
	return counts;
}

} // namespace siphon
