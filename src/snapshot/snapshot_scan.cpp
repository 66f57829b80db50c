/*
 * Scanning for a snapshot: see snapshot_process.h.
 */
#include "snapshot_process.h"

#include "encode/encoder.h"
#include "encode/package.h"
#include "server/ring_producer.h"
#include "server/worker.h"

/*
 * Books bytes on the time that siphon.snapshot_rate has them take, for all workers together. Time that passes without
 * any, as in a pause, is not made up for.
 */
static void
use_rate(size_t bytes)
{
	uint64 now = static_cast<uint64>(GetCurrentTimestamp());
	uint64 until = pg_atomic_read_u64(&snapshot_job->busy_until);
	uint64 takes;

	if (siphon_snapshot_rate_kb == 0)
		return;
	takes = bytes * USECS_PER_SEC / 1024 / static_cast<uint64>(siphon_snapshot_rate_kb);
	while (!pg_atomic_compare_exchange_u64(&snapshot_job->busy_until, &until, Max(until, now) + takes))
		;
}

/* How long to wait now, to keep within siphon.snapshot_rate or as the snapshot is paused, in ms. */
static long
time_to_wait(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;

	snapshot_poll(now);
	if (*const_cast<volatile bool *>(&snapshot_job->paused))
		return kSnapshotPauseMs;
	until = static_cast<TimestampTz>(pg_atomic_read_u64(&snapshot_job->busy_until));
	if (siphon_snapshot_rate_kb == 0 || until <= now)
		return 0;
	return Min(kSnapshotPauseMs, static_cast<long>((until - now) / 1000 + 1));
}

/* Returns when there is no time to wait and room for what comes. Nobody is to wait for the caller meanwhile. */
static void
wait_for_rate_and_room(void)
{
	long wait;

	do
	{
		ring_producer_wait_for_room();
		wait = time_to_wait();
		if (wait > 0)
			worker_wait(WaitReason::Snapshot, wait);
	} while (wait > 0);
}

void
snapshot_write_record(const siphon::RecordInfo &info, const siphon::WireBuffer *payload, TimestampTz)
{
	ring_producer_write(info, payload);
	pg_atomic_fetch_add_u64(&snapshot_job->bytes, static_cast<int64>(payload->size));
	use_rate(payload->size);
}

static uint64 row_counts[kMaxPartitions]; /* of the range of blocks */

/* What was done becomes known range by range, so that processes do not fight for a cache line with each row. */
static void
count_range(int partitions, uint64 rows, BlockNumber blocks)
{
	for (int i = 0; i < partitions; i++)
		if (row_counts[i] > 0)
		{
			pg_atomic_fetch_add_u64(&snapshot_job->row_counts[i], static_cast<int64>(row_counts[i]));
			row_counts[i] = 0;
		}
	pg_atomic_fetch_add_u64(&snapshot_job->rows, static_cast<int64>(rows));
	pg_atomic_fetch_add_u64(&snapshot_job->blocks_done, blocks);
}

/* Reads one range of blocks. It begins without a page, as throttle() has just returned. */
static void
scan_blocks(LeafScan *scan, Table *table, MemoryContext row_context, BlockNumber count)
{
	TupleTableSlot *slot;
	uint64 rows = 0;
	bool waited = true;

	while ((slot = leaf_scan_next_row(scan)) != nullptr)
	{
		MemoryContext old;
		int partition;

		if (scan->new_page && !waited && (time_to_wait() > 0 || !ring_producer_has_room()))
		{
			leaf_scan_give_row_back(scan);
			wait_for_rate_and_room();
			waited = true;
			continue;
		}
		waited = false;
		old = MemoryContextSwitchTo(row_context);
		slot_getallattrs(slot);
		partition = encode_row(table, slot->tts_values, slot->tts_isnull, snapshot_job->lsn);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
		row_counts[partition]++;
		rows++;
	}
	count_range(table->partitions, rows, count);
}

void
snapshot_scan(LeafScan *scan, Table *table)
{
	MemoryContext row_context = AllocSetContextCreate(TopMemoryContext, "siphon row", ALLOCSET_DEFAULT_SIZES);
	BlockNumber count;

	while ((count = leaf_scan_take_range(scan, &snapshot_job->next_block)) > 0)
	{
		wait_for_rate_and_room();
		scan_blocks(scan, table, row_context, count);
	}
	leaf_scan_end(scan);
	MemoryContextDelete(row_context);
	packages_write_all();
	ring_producer_wait_for_acks();
}
