/*
 * The decoder's output: see decoder_output.h.
 */
#include "decoder_output.h"

#include "decoder_stats.h"
#include "server/ring_producer.h"
#include "registry/slot_place.h"
#include "snapshot/snapshot.h"

extern "C" {
#include "replication/walreceiver.h"
}

/* "Everything up to `lsn` is confirmed once the ring is acked up to `ring`." */
struct FlushPosition
{
	uint64 ring;
	XLogRecPtr lsn;
	TimestampTz commit_time;
};

static constexpr int kFlushPositions = 4096;
static constexpr int64 kConfirmInterval = USECS_PER_SEC / 4;
/* A disk that is slow to sync is not to take more than one in so many parts of the decoder's time. */
static constexpr int64 kSyncShare = 20;
static constexpr int64 kLongestConfirmInterval = 5 * USECS_PER_SEC;
static constexpr int64 kHeartbeatInterval = USECS_PER_SEC / 2;

/* The one of this process. */
struct DecoderOutput
{
	SharedApplication *app;
	/* A circle; when full, the newest takes the place of the one before. */
	FlushPosition flush_positions[kFlushPositions];
	int first_flush_position;
	int nflush_positions;
	XLogRecPtr confirmable_lsn; /* acknowledged, but the slot is not confirmed up to there yet */
	XLogRecPtr confirmed_lsn;
	TimestampTz next_confirm;
	SavedCheckpoint durable; /* the newest checkpoint that is */
	TimestampTz last_heartbeat;
	TimestampTz caught_up_at; /* when there was no WAL left to decode, last */
	TimestampTz acked_until;  /* commit time of what was acknowledged last */
	siphon::WireBuffer watermark;
	uint64 history_begin; /* ring offsets of the last history record */
	uint64 history_end;
	/* On a standby, the end of the received WAL that is not all replayed yet, and when it was there; 0: no such. */
	XLogRecPtr received_lsn;
	TimestampTz received_at;
};

static DecoderOutput output;

void
decoder_output_open(SharedApplication *for_app, uint64 history)
{
	output.app = for_app;
	checkpoint_load(output.app->name, history, &output.durable);
	/* From here on it is noticed when another session moves the slot. */
	slot_place_save(output.app->name, history, MyReplicationSlot->data.confirmed_flush);
	output.durable.history = history;
	ring_producer_open(output.app->name, "decoder", static_cast<uint64>(siphon_ring_size_kb) * 1024, history);
	output.first_flush_position = output.nflush_positions = 0;
	output.confirmable_lsn = output.confirmed_lsn = MyReplicationSlot->data.confirmed_flush;
	output.next_confirm = output.last_heartbeat = 0;
	output.watermark.data = static_cast<char *>(MemoryContextAlloc(TopMemoryContext, kApplicationLength + 64));
	output.watermark.capacity = kApplicationLength + 64;
	app_metric_set(output.app, AppMetric::RingSize, static_cast<uint64>(siphon_ring_size_kb) * 1024);
	app_metric_set(output.app, AppMetric::RingUsed, 0);
	app_metric_set(output.app, AppMetric::Confirmed, output.confirmed_lsn);
}

const SavedCheckpoint *
decoder_output_get_checkpoint(void)
{
	return &output.durable;
}

bool
decoder_output_has_unacked(void)
{
	return ring_producer_get_acked() < ring_producer_get_written();
}

/* Moves past the flush positions that are acknowledged. Returns the ring's acked position. */
static uint64
advance_flush_positions(void)
{
	uint64 acked = ring_producer_get_acked();

	while (output.nflush_positions > 0 && output.flush_positions[output.first_flush_position].ring <= acked)
	{
		output.confirmable_lsn = output.flush_positions[output.first_flush_position].lsn;
		output.acked_until = output.flush_positions[output.first_flush_position].commit_time;
		output.first_flush_position = (output.first_flush_position + 1) % kFlushPositions;
		output.nflush_positions--;
	}
	return acked;
}

/*
 * On a standby WAL can be there that is not replayed, for any time. What was received by a moment is
 * decoded by that moment's metrics once all of it is replayed; what was not received nobody knows here.
 */
void
decoder_output_note_caught_up(TimestampTz now, XLogRecPtr available)
{
	if (!RecoveryInProgress())
	{
		output.caught_up_at = now;
		return;
	}
	if (!WalRcvStreaming())
	{
		output.received_lsn = InvalidXLogRecPtr;
		output.caught_up_at = Max(output.caught_up_at, GetLatestXTime());
		return;
	}
	if (output.received_lsn != InvalidXLogRecPtr && output.received_lsn > available)
		return;
	if (output.received_lsn != InvalidXLogRecPtr)
		output.caught_up_at = Max(output.caught_up_at, output.received_at);
	output.received_lsn = get_received_wal();
	output.received_at = now;
	if (output.received_lsn <= available)
	{
		output.received_lsn = InvalidXLogRecPtr;
		output.caught_up_at = now;
	}
}

/* How old the oldest transaction is, or may be, that is not acknowledged: microseconds, or kMetricUnknown. */
static uint64
get_lag(TimestampTz now)
{
	TimestampTz since = output.nflush_positions > 0 ? output.flush_positions[output.first_flush_position].commit_time
													: Max(output.caught_up_at, output.acked_until);

	if (since == 0)
		return siphon::kMetricUnknown;
	return now > since ? static_cast<uint64>(now - since) : 0;
}

static void
send_heartbeat(TimestampTz now, uint64 acked, XLogRecPtr decoded_lsn)
{
	ring_producer_send_heartbeat(now);
	app_metric_set(output.app, AppMetric::RingUsed, ring_producer_get_written() - acked);
	app_metric_set(output.app, AppMetric::PublisherPid, ring_producer_get_publisher_pid());
	app_metric_set(output.app, AppMetric::PublisherSeen, ring_producer_get_publisher_heartbeat());
	decoder_stats_publish(output.app, decoded_lsn, output.confirmed_lsn, get_lag(now));
	output.last_heartbeat = now;
}

/*
 * Nothing of value is in the ring: a history record holds no events, and may wait for a publisher for as long as it
 * likes.
 */
static bool
holds_no_events(uint64 acked)
{
	uint64 written = ring_producer_get_written();

	return acked == written || (written == output.history_end && acked >= output.history_begin);
}

/*
 * Also while the slot has nothing to be confirmed to: rows of snapshots are acknowledged then, and may be lost.
 * Where nothing was acknowledged in this ring yet, what is durable still holds.
 */
static void
save_checkpoint(void)
{
	const siphon::Checkpoint *checkpoint = ring_producer_get_checkpoint();

	if (*checkpoint == output.durable.checkpoint || *checkpoint == siphon::Checkpoint{})
		return;
	output.durable.checkpoint = *checkpoint;
	checkpoint_save(output.app->name, &output.durable);
}

void
decoder_output_confirm(TimestampTz now, bool idle, XLogRecPtr decoded_lsn)
{
	uint64 acked = advance_flush_positions();
	uint64 began;
	int64 took;

	if (now - output.last_heartbeat >= kHeartbeatInterval)
		send_heartbeat(now, acked, decoded_lsn);
	if (now < output.next_confirm)
		return;
	if (idle && output.nflush_positions == 0 && holds_no_events(acked) && decoded_lsn > output.confirmable_lsn)
		output.confirmable_lsn = decoded_lsn;
	app_metric_set(output.app, AppMetric::Decoded, decoded_lsn);
	began = monotonic_nanoseconds();
	save_checkpoint();
	/* It may fsync, and on 15 and 16 it would take a position that goes back. */
	if (output.confirmable_lsn > output.confirmed_lsn)
	{
		slot_place_save(output.app->name, output.durable.history, output.confirmable_lsn);
		LogicalConfirmReceivedLocation(output.confirmable_lsn);
		output.confirmed_lsn = output.confirmable_lsn;
		app_metric_set(output.app, AppMetric::Confirmed, output.confirmed_lsn);
	}
	took = static_cast<int64>(monotonic_nanoseconds() - began) / 1000;
	output.next_confirm = now + Min(Max(kConfirmInterval, kSyncShare * took), kLongestConfirmInterval);
}

void
decoder_output_write(const siphon::RecordInfo &info, const siphon::WireBuffer *payload, TimestampTz commit_time)
{
	ring_producer_write(info, payload);
	if (info.events == 0)
		return;
	if (info.kind == siphon::FrameKind::Held)
		snapshot_count_held(output.app, info.table, info.events);
	app_metric_add(output.app, AppMetric::Packages, 1);
	app_metric_add(output.app, AppMetric::Events, info.events);
	app_metric_add(output.app, AppMetric::Bytes, payload->size);
	for (int i = 0; i < siphon::kCountedOperations; i++)
		app_metric_add(output.app, AppMetric::Operations + i, info.operations[i]);
	app_metric_set(output.app, AppMetric::LastEvent, static_cast<uint64>(commit_time));
}

void
decoder_output_write_history(const siphon::HistoryRecord *record)
{
	siphon::RecordInfo info = {};
	siphon::WireBuffer payload = {};

	payload.data = const_cast<char *>(reinterpret_cast<const char *>(record));
	payload.size = payload.capacity = sizeof(*record);
	info.kind = siphon::FrameKind::History;
	output.history_begin = ring_producer_get_written();
	ring_producer_write(info, &payload);
	output.history_end = ring_producer_get_written();
}

void
decoder_output_write_watermark(XLogRecPtr commit_lsn, TimestampTz commit_time, XLogRecPtr decoded_lsn)
{
	siphon::RecordInfo info = {};
	int last;

	output.watermark.size = 0;
	siphon::Wire wire(&output.watermark);
	wire.string_field(siphon::field::kWatermarkApplication, output.app->name);
	wire.fixed64_field(siphon::field::kWatermarkLsn, commit_lsn);
	if (commit_time != 0)
		wire.sint_field(siphon::field::kWatermarkTimestamp, unix_microseconds(commit_time));
	wire.commit();
	info.kind = siphon::FrameKind::Watermark;
	info.first = info.last = siphon::Position{commit_lsn, 0};
	decoder_output_write(info, &output.watermark, commit_time);

	advance_flush_positions();
	if (output.nflush_positions < kFlushPositions)
		output.nflush_positions++;
	last = (output.first_flush_position + output.nflush_positions - 1) % kFlushPositions;
	output.flush_positions[last] =
		FlushPosition{ring_producer_get_written(), decoded_lsn, commit_time ? commit_time : GetCurrentTimestamp()};
}
