/*
 * The outlet: see outlet.h.
 */
#include "outlet.h"

#include "decoder.h"
#include "ring_fault.h"
#include "ring_file.h"

#include <cstring>

using siphon::RingWriter;

/* "Everything up to `lsn` is confirmed once the ring is acked up to `ring`." */
struct Milestone
{
	uint64 ring;
	XLogRecPtr lsn;
};

static constexpr int kMilestones = 4096;
static constexpr int64 kConfirmInterval = USECS_PER_SEC / 4;
static constexpr int64 kHeartbeatInterval = USECS_PER_SEC / 2;

static App *app;
static RingWriter ring;
static siphon::RingMapping mapping;
static int decoder_bell = -1;
static int publisher_bell = -1;
static Milestone milestones[kMilestones]; /* a circle; when full, the newest takes the place of the one before */
static int first_milestone;
static int nmilestones;
static XLogRecPtr confirmable; /* acknowledged, but not yet confirmed */
static XLogRecPtr confirmed;
static TimestampTz last_confirm;
static TimestampTz last_heartbeat;
static siphon::WireBuffer watermark;

static void
ring_error(int error, const char *what)
{
	errno = error;
	if (error == EWOULDBLOCK)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("the rings of application \"%s\" in \"%s\" are in use by another server", app->name,
							   siphon_ring_directory),
						errhint("Give each server a directory of its own: ALTER SYSTEM SET siphon.ring_directory, then "
								"restart.")));
	if (error == EPERM)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("ring directory \"%s\" belongs to somebody else, or others may write to it",
						siphon_ring_directory),
				 errhint("It must belong to the server's user and have mode 0700: chmod 700 \"%s\".",
						 siphon_ring_directory)));
	ereport(ERROR, (errcode_for_file_access(),
					errmsg("could not %s in ring directory \"%s\": %m", what, siphon_ring_directory),
					error == ENOSPC
						? errhint("Make the file system larger, or siphon.ring_size (now %d kB) smaller with ALTER SYSTEM.",
								  siphon_ring_size_kb)
						: 0));
}

void
outlet_open(App *for_app)
{
	uint64 capacity = static_cast<uint64>(siphon_ring_size_kb) * 1024;
	uint64 epoch;
	int lock;
	int error;

	app = for_app;
	error = siphon::ring_lock(siphon_ring_directory, app->name, "decoder.lock", &lock);
	if (error)
		ring_error(error, "take the decoder's lock");
	error = siphon::bell_open(siphon_ring_directory, app->name, "decoder.bell", &decoder_bell);
	if (error == 0)
		error = siphon::bell_open(siphon_ring_directory, app->name, "publisher.bell", &publisher_bell);
	if (error)
		ring_error(error, "open the bells");
	error = siphon::ring_file_create(siphon_ring_directory, app->name, siphon::ring_file_size(capacity), &mapping);
	if (error)
		ring_error(error, "create a ring");
	siphon::ring_fault_guard(mapping.memory, mapping.size);
	if (!pg_strong_random(&epoch, sizeof(epoch)))
		elog(ERROR, "could not generate a random ring epoch");
	ring.create(mapping.memory, capacity, epoch, app->name, static_cast<uint32>(MyProcPid));
	error = siphon::ring_file_publish(siphon_ring_directory, app->name);
	if (error)
		ring_error(error, "publish a ring");
	siphon::bell_ring(publisher_bell);

	first_milestone = nmilestones = 0;
	confirmable = confirmed = MyReplicationSlot->data.confirmed_flush;
	last_confirm = last_heartbeat = 0;
	watermark.data = static_cast<char *>(MemoryContextAlloc(TopMemoryContext, kApplicationLength + 64));
	watermark.capacity = kApplicationLength + 64;
	figure_set(app, Figure::RingSize, capacity);
	figure_set(app, Figure::RingUsed, 0);
	figure_set(app, Figure::Confirmed, confirmed);
}

int
outlet_bell(void)
{
	return decoder_bell;
}

/* The other side may do as it likes; what it did to the ring ends this decoder, and its next start makes a new one. */
static void
check_ring(void)
{
	if (siphon::ring_fault_seen())
		ereport(ERROR, (errcode(ERRCODE_IO_ERROR),
						errmsg("the ring of application \"%s\" was truncated by another process", app->name),
						errhint("See who writes to \"%s\"; the decoder starts again with a new ring.",
								siphon_ring_directory)));
	if (ring.violations() > 0)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("an impossible position was written into the ring of application \"%s\"", app->name),
						errhint("See who writes to \"%s\"; the decoder starts again with a new ring.",
								siphon_ring_directory)));
}

/* Moves past the milestones that are acknowledged. Returns the ring's acked position. */
static uint64
take_acks(void)
{
	uint64 acked = ring.acked();

	check_ring();
	while (nmilestones > 0 && milestones[first_milestone].ring <= acked)
	{
		confirmable = milestones[first_milestone].lsn;
		first_milestone = (first_milestone + 1) % kMilestones;
		nmilestones--;
	}
	return acked;
}

static void
heartbeat(TimestampTz now, uint64 acked)
{
	ring.heartbeat(static_cast<uint64>(unix_microseconds(now)));
	figure_set(app, Figure::RingUsed, ring.written() - acked);
	figure_set(app, Figure::PublisherPid, ring.publisher_pid());
	figure_set(app, Figure::PublisherSeen, ring.publisher_heartbeat());
	last_heartbeat = now;
}

void
outlet_serve(TimestampTz now, bool idle, XLogRecPtr decoded)
{
	uint64 acked = take_acks();

	if (now - last_heartbeat >= kHeartbeatInterval)
		heartbeat(now, acked);
	if (now - last_confirm < kConfirmInterval)
		return;
	if (idle && nmilestones == 0 && acked == ring.written() && decoded > confirmable)
		confirmable = decoded;
	figure_set(app, Figure::Decoded, decoded);
	/* It may fsync, and on 15 and 16 it would take a position that goes back. */
	if (confirmable > confirmed)
	{
		LogicalConfirmReceivedLocation(confirmable);
		confirmed = confirmable;
		figure_set(app, Figure::Confirmed, confirmed);
	}
	last_confirm = now;
}

static int64
write_waiting(const siphon::RecordInfo &info, const siphon::WireBuffer *payload, uint32 offset)
{
	uint32 length = static_cast<uint32>(payload->size);
	int64 written;

	while ((written = ring.write(info, payload->data, length, offset)) < 0)
	{
		if (written < -1)
			elog(ERROR, "a record does not keep the ring's rules");
		/* Say that we sleep, look once more, and only then sleep: an ack in between rings the bell. */
		ring.set_asleep(true);
		written = ring.write(info, payload->data, length, offset);
		if (written < 0)
			decoder_wait(Wait::RingSpace, 500);
		ring.set_asleep(false);
		if (written >= 0)
			break;
		decoder_serve(GetCurrentTimestamp());
	}
	if (ring.publisher_sleeps())
		siphon::bell_ring(publisher_bell);
	return written;
}

void
outlet_write(const siphon::RecordInfo &info, const siphon::WireBuffer *payload, TimestampTz commit_time)
{
	size_t offset = 0;

	do
		offset += static_cast<size_t>(write_waiting(info, payload, static_cast<uint32>(offset)));
	while (offset < payload->size);
	check_ring();
	if (info.kind == siphon::FrameKind::Changes)
	{
		figure_add(app, Figure::Packages, 1);
		figure_add(app, Figure::Events, info.events);
		figure_add(app, Figure::Bytes, payload->size);
		figure_set(app, Figure::LastEvent, static_cast<uint64>(commit_time));
	}
}

void
outlet_watermark(XLogRecPtr commit_lsn, TimestampTz commit_time, XLogRecPtr decoded)
{
	siphon::RecordInfo info = {};
	int last;

	watermark.size = 0;
	siphon::Wire wire(&watermark);
	wire.string_field(siphon::field::kWatermarkApplication, app->name);
	wire.fixed64_field(siphon::field::kWatermarkLsn, commit_lsn);
	wire.sint_field(siphon::field::kWatermarkTimestamp, unix_microseconds(commit_time));
	wire.commit();
	info.kind = siphon::FrameKind::Watermark;
	info.first = info.last = siphon::Position{commit_lsn, 0};
	outlet_write(info, &watermark, commit_time);

	take_acks();
	if (nmilestones < kMilestones)
		nmilestones++;
	last = (first_milestone + nmilestones - 1) % kMilestones;
	milestones[last] = Milestone{ring.written(), decoded};
}
