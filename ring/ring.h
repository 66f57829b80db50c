/*
 * The ring: a single-producer, single-consumer log in shared memory between one worker inside
 * PostgreSQL and the publisher outside. Both compile this one definition, so it includes nothing of
 * PostgreSQL, throws nothing and allocates nothing.
 *
 * Positions are 64-bit byte counts that only grow; the place in the data area is the position modulo
 * the capacity, a power of two. There are three cursors:
 *
 *   acked <= read <= written <= acked + capacity
 *
 * written belongs to the worker; read and acked to the publisher. Space is freed at acked only: what the
 * publisher has read but JetStream has not acknowledged stays, so a publisher that dies and comes back
 * goes on at acked and loses nothing.
 *
 * A frame never wraps around the end of the data area. Where it would, the worker writes a padding frame
 * up to the end; where not even a header fits there, both sides skip the rest by rule.
 *
 * A record (a package, a watermark) larger than a frame may be is written as several frames, in order and
 * with nothing between them. Each carries the record's route and its place in the record, so each can be
 * published, acknowledged and freed by itself and a record may be larger than the ring.
 *
 * An acknowledgement is acked with the checkpoint that goes with it, a number that grows, and a check word over all of
 * that. There is room for two, and the older one gives way: a publisher that dies while it writes, and a worker that
 * looks meanwhile, find the last good one in place.
 *
 * Trust: the worker never reads back what it wrote, and checks what the publisher writes: acked must grow and stay at
 * or below written, and an acknowledgement counts only if its check word fits, so that a stray write is not taken for
 * one; the publisher's next one replaces it. The reader checks every frame's bounds, place and checksum. Where one
 * fails, it refuses the ring, and the worker makes another.
 *
 * The shape follows Aeron's C ring buffers: positions, padding, peer cursors cached on either side,
 * magic published last.
 */
#ifndef SIPHON_RING_H
#define SIPHON_RING_H

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "checkpoint.h"
#include "ring_metrics.h"

namespace siphon {

constexpr uint64_t kRingMagic = 0x676e697270697300; /* "\0sipring" */
constexpr uint32_t kRingVersion = 7;
constexpr size_t kRingPage = 4096;
constexpr size_t kRingHeaderSize = 2 * kRingPage;
constexpr size_t kFrameAlignment = 16;
constexpr size_t kApplicationMax = 64;
/* Fits, with headers and incompressible, into a NATS message of the default max payload, 1 MiB. */
constexpr uint32_t kFramePayloadLimit = 768 * 1024;
/* Room for two names of any NAMEDATALEN that is in use. */
constexpr uint16_t kRouteMax = 1024;
constexpr uint64_t kRingMinimum = 64 * 1024;
constexpr uint64_t kRingMaximum = uint64_t{64} * 1024 * 1024 * 1024;

enum class FrameKind : uint16_t {
	Padding = 0,
	Changes = 1,       /* payload: (a part of) a siphon.v1.Package */
	Watermark = 2,     /* payload: a siphon.v1.Watermark; first == last == its position */
	Held = 3,          /* as Changes, of a table whose snapshot of that generation is not all published yet */
	Snapshot = 4,      /* payload: (a part of) a siphon.v1.Package of rows */
	SnapshotBegin = 5, /* payload: a siphon.v1.SnapshotBegin; partition: how many there are */
	SnapshotEnd = 6,   /* payload: a siphon.v1.SnapshotEnd; partition: how many there are */
	Removed = 7,       /* no payload: the table is not published any more; generation: its last */
	History = 8,       /* payload: a HistoryRecord, see history.h */
	Message = 9,       /* payload: (a part of) a siphon.v1.Message; route: a NUL, then its prefix */
	Schema = 10,       /* payload: a siphon.v1.TableSchema; before the first package that uses it.
						* Empty: the table comes under this name no more */
	Dropped = 11       /* as Changes: the DROP of a table, whatever phase it was in; nothing of it follows */
};

/* Where an event stands: start of the commit record, and the change's number in the transaction. */
struct Position
{
	uint64_t lsn;
	uint64_t ordinal;
};

/* Operations whose events are counted: INSERT, UPDATE, DELETE, TRUNCATE. Snapshot rows tell by their frame's kind. */
constexpr int kCountedOperations = 4;

/* What the caller says of a record. */
struct RecordInfo
{
	FrameKind kind;
	uint32_t table; /* pg_class oid, 0 for watermarks */
	uint32_t partition;
	uint32_t generation;
	uint32_t events;
	Position first;
	Position last;
	const char *route;     /* schema, a NUL, table (no final NUL); empty for watermarks */
	uint16_t route_length; /* at most kRouteMax */
	/* For metrics alone: */
	uint32_t operations[kCountedOperations] = {}; /* events of each */
	int64_t first_commit = 0; /* when the first event's transaction committed, microseconds since 1970; 0: not known */
	int64_t last_commit = 0;
};

/*
 * In front of every frame. Followed by route_length bytes of route, then payload_length bytes of
 * payload, then zeros up to kFrameAlignment.
 */
struct FrameHeader
{
	uint64_t checksum;       /* XXH3-64 of the payload (padding: of nothing), seeded with XXH3-64 of the rest of
							  * this header and the route */
	uint64_t position;       /* of this frame, so that a stale one is not taken for a new one */
	uint32_t payload_length; /* padding: bytes after the header up to the end of the data area */
	uint16_t kind;
	uint16_t route_length;
	uint32_t record_length; /* payload bytes of the whole record */
	uint32_t record_offset; /* of this frame's payload in the record */
	uint32_t table;
	uint32_t partition;
	Position first;
	Position last;
	uint32_t events;
	uint32_t generation;
	uint32_t operations[kCountedOperations];
	int64_t first_commit;
	int64_t last_commit;
};
static_assert(sizeof(FrameHeader) == 112);
static_assert(sizeof(FrameHeader) % kFrameAlignment == 0);

/* What an acknowledgement says. */
struct Acknowledgement
{
	uint64_t number; /* the next one's is greater */
	uint64_t acked;
	Checkpoint checkpoint; /* of the moment in which it was acknowledged */
};

/* An acknowledgement in the ring's header. */
struct SharedAcknowledgement
{
	std::atomic<uint64_t> number;
	std::atomic<uint64_t> acked;
	std::atomic<uint64_t> checkpoint[kCheckpointWords];
	std::atomic<uint64_t> check; /* compute_check_word(what it says, ring_id); stored last */
};

/* The start of the file. The first page is the worker's, the second the publisher's. */
struct RingHeader
{
	std::atomic<uint64_t> magic; /* stored last, when all else is in place */
	uint32_t version;
	uint32_t header_size;
	uint64_t ring_id;           /* random; names this ring */
	uint64_t history;           /* of the application, see history.h */
	uint64_t capacity;          /* bytes of the data area, a power of two */
	uint32_t max_frame_payload; /* route included */
	uint32_t worker_pid;
	char application[kApplicationMax];

	alignas(64) std::atomic<uint64_t> written;
	alignas(64) std::atomic<uint32_t> worker_asleep;
	std::atomic<uint32_t> closed;           /* 1: the worker is gone, a new ring will replace this one */
	std::atomic<uint64_t> worker_heartbeat; /* microseconds since 1970 */
	alignas(64) RingMetrics metrics;

	alignas(kRingPage) std::atomic<uint64_t> read;
	alignas(64) SharedAcknowledgement acknowledgements[2];
	std::atomic<uint32_t> refused; /* not 0: the publisher found the ring damaged and reads no further */
	alignas(64) std::atomic<uint32_t> publisher_asleep;
	std::atomic<uint32_t> publisher_pid;
	std::atomic<uint64_t> publisher_heartbeat; /* microseconds since 1970 */
	alignas(64) std::atomic<uint64_t> publisher_metrics[static_cast<uint32_t>(PublisherMetric::Count)];
};
static_assert(sizeof(RingHeader) == kRingHeaderSize);
/* One more metric moves what follows it in the header: that is another version of it. */
static_assert(kRingVersion == 7 && static_cast<uint32_t>(RingMetric::Count) == 21 &&
			  static_cast<uint32_t>(RingDuration::Count) == 3 && static_cast<uint32_t>(PublisherMetric::Count) == 14);
static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free);

/* The whole file for a data area of this capacity, in bytes. */
constexpr size_t
ring_file_size(uint64_t capacity)
{
	return kRingHeaderSize + capacity;
}

/*
 * The check word of an acknowledgement. Each step takes different values to different ones, so that one changed word is
 * always noticed, and what is left of two acknowledgements does not fit but by a chance of 2^-64.
 */
constexpr uint64_t
compute_check_word(const Acknowledgement &said, uint64_t ring_id)
{
	const Checkpoint &at = said.checkpoint;
	uint64_t check = ring_id ^ 0x9e3779b97f4a7c15;

	for (uint64_t word : {said.number, said.acked, at.log.log, at.log.place, at.log.message, at.spill.log,
						  at.spill.place, at.spill.message})
	{
		check = (check ^ word) * 0xff51afd7ed558ccd;
		check ^= check >> 32;
	}
	return check;
}

/* True if a data area may have this size: a power of two between the limits. */
bool is_valid_ring_capacity(uint64_t capacity);

/*
 * The worker's side. Plain data without a destructor, so that PostgreSQL's longjmp may pass over it.
 */
class RingWriter
{
public:
	/*
	 * Lays a new ring out in `memory`, which is ring_file_size(capacity) zeroed bytes, page-aligned.
	 * Application is cut at kApplicationMax - 1 bytes.
	 */
	void create(void *memory, uint64_t capacity, uint64_t ring_id, const char *application, uint32_t pid,
				uint64_t history = 0);

	/*
	 * Writes one frame of a record: as much of payload[offset..length) as a frame holds. Returns
	 * the number of payload bytes written, or -1 if the ring is full (nothing was written). The
	 * caller repeats with offset + result until offset == length; a record of length 0 takes one frame.
	 * All frames of a record but the last carry the same number of payload bytes. -2 is a mistake of
	 * the caller (kind Padding, route too long, offset not before the end): waiting won't help.
	 * The frame is visible to the reader at return; ring the publisher's doorbell if clear_publisher_asleep() says so.
	 */
	int64_t write(const RecordInfo &info, const void *payload, uint32_t length, uint32_t offset);

	/* Bytes that a frame with this much route and payload takes in the ring, without padding. */
	static uint64_t frame_size(uint32_t route_length, uint32_t payload_length);

	/* Position behind the last frame written. */
	uint64_t written() const { return written_; }

	/*
	 * The publisher's acked cursor, as far as it can be believed: an acknowledgement that does not go with its check
	 * word (the publisher is writing it, or another process wrote) leaves the last good one in place; an impossible one
	 * that does (going back, or beyond written) counts in violations() as well.
	 */
	uint64_t acked();
	/* What came with the cursor that acked() gave last; all zero: nothing did. */
	const Checkpoint &checkpoint() const { return checkpoint_; }
	uint64_t violations() const { return violations_; }
	/* The publisher has found the ring damaged, and waits for another. */
	bool refused() const;

	/* True once after the publisher said it goes to sleep: the caller must ring its doorbell. */
	bool clear_publisher_asleep();

	/* Announce sleep (then check once more before sleeping) and end it. */
	void set_asleep(bool asleep);

	void heartbeat(uint64_t now_us);
	void set_metric(RingMetric metric, uint64_t value);
	void add_duration(RingDuration duration, uint64_t ns);
	const DurationCounts &durations(RingDuration duration) const { return durations_[static_cast<uint32_t>(duration)]; }
	/* Tells the publisher that no frame will follow. */
	void close();

	/* Peer's own statements, for views only. */
	uint32_t publisher_pid() const;
	uint64_t publisher_heartbeat() const;
	uint64_t publisher_metric(PublisherMetric metric) const;
	uint64_t capacity() const { return capacity_; }
	uint64_t ring_id() const { return ring_id_; }
	uint32_t max_frame_payload() const { return max_frame_payload_; }

private:
	RingHeader *header_;
	char *data_;
	uint64_t capacity_;
	uint64_t ring_id_;
	uint64_t written_;
	uint64_t acked_;
	uint64_t acknowledgement_; /* number of the one that said so */
	Checkpoint checkpoint_;
	uint64_t violations_;
	uint32_t max_frame_payload_;
	DurationCounts durations_[static_cast<uint32_t>(RingDuration::Count)];
};

enum class AttachResult {
	Ok,
	NotReady,     /* no magic yet: the worker is still laying it out */
	WrongVersion, /* another ring version: extension and publisher don't belong together */
	Corrupt       /* sizes or cursors that can't be */
};

enum class ReadResult {
	Empty,
	Frame,
	Corrupt /* the frame at the read position fails a check; nothing was consumed */
};

/* A frame in place: pointers into the ring, good until the frame is acked. */
struct Frame
{
	FrameHeader header;  /* a copy, checked */
	const char *route;   /* header.route_length bytes */
	const char *payload; /* header.payload_length bytes */
	uint64_t end;        /* position behind the frame: ack this */

	bool first_of_record() const { return header.record_offset == 0; }
	bool last_of_record() const { return header.record_offset + header.payload_length == header.record_length; }
};

/* The publisher: asks the worker for another ring in place of one that can't be attached to, if it is a ring at all. */
bool ring_refuse(void *memory, size_t size);

/* The publisher's side. */
class RingReader
{
public:
	/*
	 * Attaches to `size` mapped bytes and starts reading at acked. *version is the ring's, for messages (0: none
	 * was found). Ring the worker's doorbell once after this: a publisher before us may have died between
	 * clear_worker_asleep(), which clears the flag, and the ringing.
	 */
	AttachResult attach(void *memory, size_t size, uint32_t *version);

	/* The next frame, if there is one. Padding is skipped. */
	ReadResult next(Frame *frame);

	/*
	 * Is the payload of a frame that next() gave still what was checked then? To be asked after it was used, as others
	 * may have written to it meanwhile.
	 */
	bool intact(const Frame &frame) const;

	/*
	 * The checkpoint that goes with the acknowledgements that follow, from the next ack() or heartbeat() on. At first
	 * it is the one that is in the ring, of a publisher before us.
	 */
	void set_checkpoint(const Checkpoint &checkpoint) { checkpoint_ = checkpoint; }
	const Checkpoint &checkpoint() const { return checkpoint_; }

	/*
	 * Moves acked to a position that is the end of a frame already read. Ring the worker's doorbell if
	 * clear_worker_asleep().
	 */
	void ack(uint64_t position);
	/* Asks the worker for another ring, as this one is damaged. Ring its doorbell. */
	void refuse();
	/* Goes back to reading at acked. */
	void rewind();

	uint64_t read_position() const { return read_; }
	uint64_t acked() const { return acked_; }
	uint64_t written() const;
	bool closed() const;
	bool clear_worker_asleep();
	void set_asleep(bool asleep);
	void set_publisher(uint32_t pid);
	/*
	 * Also writes the acknowledgement again, should another process have written over it, or the checkpoint be another.
	 */
	void heartbeat(uint64_t now_us);
	void set_metric(PublisherMetric metric, uint64_t value);
	uint64_t worker_heartbeat() const;
	/* What the worker says of itself; each may be anything. */
	uint64_t metric(RingMetric metric) const;
	DurationCounts durations(RingDuration duration) const;
	uint64_t ring_id() const { return ring_id_; }
	uint64_t history() const { return history_; }
	uint64_t capacity() const { return capacity_; }
	uint32_t max_frame_payload() const { return max_frame_payload_; }
	const char *application() const { return application_; }

private:
	RingHeader *header_ = nullptr;
	const char *data_ = nullptr;
	uint64_t capacity_ = 0;
	uint64_t ring_id_ = 0;
	uint64_t history_ = 0;
	uint64_t written_ = 0; /* the worker's, when it was last looked at */
	uint64_t read_ = 0;
	uint64_t acked_ = 0;
	uint64_t acknowledgement_ = 0; /* number of the last one */
	Checkpoint checkpoint_ = {};
	uint32_t max_frame_payload_ = 0;
	char application_[kApplicationMax] = {};

	void write_acknowledgement();
};

} // namespace siphon

#endif
