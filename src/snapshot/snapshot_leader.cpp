/*
 * The leader of a snapshot: see snapshot.h and snapshot_process.h.
 */
#include "snapshot_process.h"

#include "registry/notify.h"
#include "catalogs/partition_tree.h"
#include "server/ring_producer.h"
#include "server/bgworker.h"
#include "encode/table_settings.h"
#include "server/worker.h"

extern "C" {
#include "access/transam.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"
}

static BackgroundWorkerHandle *workers[kMaxSnapshotWorkers];
static int nworkers;

static constexpr long kMirrorWaitMs = 50;

/* Which transactions the snapshot shows. */
struct Visibility
{
	TransactionId xmin;
	TransactionId xmax;
	TransactionId *in_progress;
	size_t count;
};

/*
 * Waits until transactions that had written a commit record before now, but still count as running, are over. First
 * for those between writing it and marking it in pg_xact, which delay checkpoints for as long; then for those
 * that are marked and not yet gone, such as commits that wait for a synchronous standby.
 */
static void
wait_for_old_commits(void)
{
	int count;
	VirtualTransactionId *delaying;
	TransactionId *running;
	int nrunning = 0;
	SnapshotData *snapshot;

	if (RecoveryInProgress())
		return;
	delaying = GetVirtualXIDsDelayingChkpt(&count, DELAY_CHKPT_START);
	while (count > 0 && HaveVirtualXIDsDelayingChkpt(delaying, count, DELAY_CHKPT_START))
		worker_wait(WaitReason::Snapshot, 1);

	/* All that run now: those in the snapshot, and those that began too late to be in it. */
	StartTransactionCommand();
	snapshot = GetLatestSnapshot();
	TransactionId next = XidFromFullTransactionId(ReadNextFullTransactionId());
	int64 beyond = static_cast<int32>(next - snapshot->xmax);
	running = static_cast<TransactionId *>(MemoryContextAllocHuge(
		TopMemoryContext, sizeof(TransactionId) * (snapshot->xcnt + static_cast<size_t>(Max(beyond, 0)) + 1)));
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		running[nrunning++] = snapshot->xip[i];
	for (TransactionId xid = snapshot->xmax; beyond-- > 0;)
	{
		running[nrunning++] = xid;
		TransactionIdAdvance(xid);
	}
	CommitTransactionCommand();

	for (int i = 0; i < nrunning; i++)
		while (TransactionIdDidCommit(running[i]) && TransactionIdIsInProgress(running[i]))
		{
			worker_wait(WaitReason::Snapshot, 10);
			snapshot_poll(GetCurrentTimestamp());
		}
	pfree(running);
}

static void
read_names(char *schema, char *name)
{
	snapshot_begin_transaction();
	snapshot_find_names(schema, name);
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
}

/*
 * Makes it durable that the snapshot of the table's next generation runs, under its present name, and lets the decoder
 * hold its changes.
 */
static RegistryTable *
begin_generation(void)
{
	char reason[kReasonLength];
	char schema[NAMEDATALEN];
	char name[NAMEDATALEN];
	Registry *registry;
	RegistryTable *table;

	read_names(schema, name);
	MemoryContextSwitchTo(snapshot_context);
	registry = registry_begin_change_of(snapshot_job->app->name, snapshot_job->relid);
	table = registry ? registry_find_table(registry, snapshot_job->relid) : nullptr;
	if (table && table->dropped)
		snapshot_job->table_gone = true;
	if (table == nullptr || table->end_lsn != InvalidXLogRecPtr)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the table is not published any more")));
	/* The launcher may have read of it before another leader was done with it. */
	if (table->phase != TablePhase::Waiting)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("a snapshot of the table was completed meanwhile")));
	registry_forget_former_names(registry, table);
	if (strcmp(table->schema, schema) != 0 || strcmp(table->name, name) != 0)
	{
		registry_forget_name(registry, table);
		strlcpy(table->schema, schema, sizeof(table->schema));
		strlcpy(table->name, name, sizeof(table->name));
	}
	table_set_phase(table, TablePhase::Scanning);
	/* What is said of it from here on may be about what the snapshot does not show. */
	table->reason[0] = '\0';
	table->generation = registry_next_generation(registry);
	table->kept_values = NIL;
	table->start_lsn = siphon_newest_wal();
	/* siphon_pause() may have come before there was this job. */
	snapshot_job->paused = table->paused;
	registry_end_change(registry);
	snapshot_job->generation = table->generation;
	if (!application_notify(snapshot_job->app->name, reason))
		ereport(ERROR, (errmsg("the decoder of application \"%s\" does not run: %s", snapshot_job->app->name, reason)));
	/* Later it would be told to end by the function that does this. */
	if (snapshot_get_registry()->history != snapshot_job->history)
		ereport(ERROR, (errmsg("application \"%s\" was resynced meanwhile", snapshot_job->app->name)));
	/* A generation that was published must not be unknown to a server that takes over. */
	while (pg_atomic_read_u64(&snapshot_job->app->mirrored) < registry->version)
	{
		worker_wait(WaitReason::Snapshot, kMirrorWaitMs);
		snapshot_poll(GetCurrentTimestamp());
	}
	return table;
}

/*
 * Another table had the name, as far as has been decoded: all that there is of it under the name is to be published first,
 * as it goes on under its next one. The publisher reads our ring and that of the decoder side by side.
 */
static void
wait_for_name(void)
{
	const Registry *registry = snapshot_get_registry();
	const RegistryTable *table = registry_find_table(registry, snapshot_job->relid);
	XLogRecPtr here = siphon_newest_wal();

	if (table == nullptr ||
		!registry_has_namesake(registry, table, app_metric_get(snapshot_job->app, AppMetric::Confirmed)))
		return;
	while (app_metric_get(snapshot_job->app, AppMetric::Confirmed) < here)
	{
		worker_wait(WaitReason::Snapshot, kSnapshotPauseMs);
		snapshot_poll(GetCurrentTimestamp());
	}
}

static void
end_generation(void)
{
	char reason[kReasonLength];
	Registry *registry;
	RegistryTable *table;

	registry = registry_begin_change_of(snapshot_job->app->name, snapshot_job->relid);
	table = registry ? registry_find_table(registry, snapshot_job->relid) : nullptr;
	if (table == nullptr || table->generation != snapshot_job->generation)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the table is not published any more")));
	table->paused = false;
	table->failures = 0;
	/* Unless it has a resync already, or was stopped. */
	if (table->phase == TablePhase::Scanning)
		table_set_phase(table, TablePhase::Streaming);
	registry_end_change(registry);
	application_notify(snapshot_job->app->name, reason);
}

static void
write_marker(siphon::FrameKind kind, const Table *table, siphon::WireBuffer *payload)
{
	siphon::RecordInfo info = {};

	info.kind = kind;
	info.table = table->relid;
	info.partition = static_cast<uint32>(table->partitions);
	info.generation = snapshot_job->generation;
	info.first = info.last = siphon::Position{snapshot_job->lsn, 0};
	info.route = table->route;
	info.route_length = static_cast<uint16>(table->route_length);
	ring_producer_write(info, payload);
	ring_producer_wait_for_acks();
}

/* What both markers begin with. `more` bytes are reserved for what follows. */
static void
init_marker(siphon::WireBuffer *out, const Table *table, size_t more)
{
	buffer_init(out, table->header.size + 16 + more);
	siphon::Wire wire(out);
	wire.raw(table->header.data, table->header.size);
	wire.varint_field(siphon::field::kMarkerPartitions, static_cast<uint64>(table->partitions));
	wire.commit();
}

/* As the planner sees it; -1 if a table was never analyzed. */
static int64
estimate_rows(Relation relation)
{
	int64 rows = 0;
	ListCell *lc;

	foreach (lc, leaves_of(relation, nullptr))
	{
		HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(lfirst_oid(lc)));
		float4 estimate = -1;

		if (HeapTupleIsValid(tuple))
		{
			estimate = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->reltuples;
			ReleaseSysCache(tuple);
		}
		if (estimate < 0)
			return -1;
		rows += static_cast<int64>(estimate);
	}
	return rows;
}

/*
 * Announces the snapshot, and waits until the publisher has taken that. Outside of a transaction, because that may
 * take long where no publisher runs yet, and a snapshot would keep VACUUM from its work meanwhile.
 */
static void
write_begin_marker(const RegistryTable *listed)
{
	siphon::WireBuffer payload;
	Relation relation;
	Table *table;
	int64 estimate;

	/* Before it is looked at: so here the table has its name for certain. */
	snapshot_job->lsn = siphon_newest_wal();
	snapshot_begin_transaction();
	relation = snapshot_open_table(listed, &table);
	estimate = estimate_rows(relation);
	table_close(relation, NoLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);

	init_marker(&payload, table, 16);
	siphon::Wire wire(&payload);
	wire.sint_field(siphon::field::kBeginEstimatedRows, estimate);
	wire.commit();
	write_marker(siphon::FrameKind::SnapshotBegin, table, &payload);
	pfree(payload.data);
}

static void
write_end_marker(const Table *table, const Visibility *visibility)
{
	siphon::WireBuffer payload;

	init_marker(&payload, table, 64 + static_cast<size_t>(table->partitions) * 11 + visibility->count * 6);
	siphon::Wire wire(&payload);
	for (int i = 0; i < table->partitions; i++)
		wire.varint_field(siphon::field::kEndRowCounts, pg_atomic_read_u64(&snapshot_job->row_counts[i]));
	wire.fixed64_field(siphon::field::kEndLsn, snapshot_job->lsn);
	wire.varint_field(siphon::field::kEndXmin, visibility->xmin);
	wire.varint_field(siphon::field::kEndXmax, visibility->xmax);
	for (size_t i = 0; i < visibility->count; i++)
		wire.varint_field(siphon::field::kEndInProgress, visibility->in_progress[i]);
	wire.commit();
	write_marker(siphon::FrameKind::SnapshotEnd, table, &payload);
	pfree(payload.data);
}

/* Workers that can't be started are no failure: the others scan their blocks. */
static void
start_workers(int wanted)
{
	while (nworkers + 1 < wanted)
	{
		BackgroundWorkerHandle *worker = snapshot_start_process(snapshot_job, nworkers + 1);

		if (worker == nullptr)
		{
			ereport(LOG, (errmsg("siphon: the snapshot of table \"%s\" runs with %d of %d workers",
								 get_rel_name(snapshot_job->relid), nworkers + 1, wanted),
						  errdetail("No background worker is free."),
						  errhint("ALTER SYSTEM SET max_worker_processes, then restart the server.")));
			return;
		}
		workers[nworkers++] = worker;
		LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
		snapshot_job->workers++;
		LWLockRelease(siphon_shared->lock);
	}
}

static void
wait_for_workers(void)
{
	for (int i = 0; i < nworkers; i++)
		while (bgworker_is_running(workers[i]))
		{
			snapshot_poll(GetCurrentTimestamp());
			worker_wait(WaitReason::Snapshot, kSnapshotPauseMs);
		}
	snapshot_poll(GetCurrentTimestamp());
}

/* The leader ends last, so that its end is the end of all. */
void
snapshot_stop_workers(int, Datum)
{
	for (int i = 0; i < nworkers; i++)
		TerminateBackgroundWorker(workers[i]);
	for (int i = 0; i < nworkers; i++)
		WaitForBackgroundWorkerShutdown(workers[i]);
}

static void
take_snapshot(Visibility *visibility)
{
	SnapshotData *snapshot = GetTransactionSnapshot();
	bool recovery = snapshot->takenDuringRecovery;
	const TransactionId *xids = recovery ? snapshot->subxip : snapshot->xip; /* recovery keeps all in subxip */

	PushActiveSnapshot(snapshot);
	snapshot_job->lsn = siphon_visible_wal();

	visibility->xmin = snapshot->xmin;
	visibility->xmax = snapshot->xmax;
	visibility->count = recovery ? static_cast<size_t>(snapshot->subxcnt) : snapshot->xcnt;
	visibility->in_progress = static_cast<TransactionId *>(
		MemoryContextAlloc(snapshot_context, sizeof(TransactionId) * (visibility->count + 1)));
	/* Where there are none, xids may be NULL. */
	if (visibility->count > 0)
		memcpy(visibility->in_progress, xids, sizeof(TransactionId) * visibility->count);
}

/*
 * Lets workers have the snapshot, in the way of parallel queries: until 17.11 and 18.6, one that is exported on a
 * standby lacks all running transactions if their list has overflowed.
 */
static dsm_segment *
share_snapshot(void)
{
	SnapshotData *snapshot = GetActiveSnapshot();
	dsm_segment *segment = dsm_create(EstimateSnapshotSpace(snapshot), 0);

	SerializeSnapshot(snapshot, static_cast<char *>(dsm_segment_address(segment)));
	snapshot_job->segment = dsm_segment_handle(segment);
	return segment;
}

static double
elapsed_seconds(TimestampTz from, TimestampTz to)
{
	return static_cast<double>(to - from) / USECS_PER_SEC;
}

void
snapshot_leader_run(void)
{
	RegistryTable *listed;
	Visibility visibility;
	Relation relation;
	Table *table;
	LeafScan scan;
	uint64 ranges;
	dsm_segment *shared;
	TimestampTz scan_started;
	TimestampTz scan_ended;

	listed = begin_generation();
	tables_load_one(listed);
	wait_for_name();
	write_begin_marker(listed);
	wait_for_old_commits();
	snapshot_begin_transaction();
	/* First the lock, so that nobody rewrites a table after the moment that the snapshot shows. */
	relation = snapshot_open_table(listed, &table);
	take_snapshot(&visibility);
	shared = share_snapshot();
	leaf_scan_begin(&scan, relation);
	pg_atomic_write_u64(&snapshot_job->blocks_total, leaf_scan_lock_leaves(&scan, &ranges));
	snapshot_set_phase(SnapshotPhase::Scanning);
	scan_started = GetCurrentTimestamp();
	/* One for which nothing is left to scan takes longer to start than the scan. */
	start_workers(static_cast<int>(Min(static_cast<uint64>(Min(listed->workers, kMaxSnapshotWorkers)), ranges)));
	snapshot_scan(&scan, table);
	wait_for_workers();
	nworkers = 0;
	dsm_detach(shared);
	scan_ended = GetCurrentTimestamp();
	table_close(relation, NoLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(snapshot_context);

	snapshot_set_phase(SnapshotPhase::CatchUp);
	write_end_marker(table, &visibility);
	end_generation();
	ereport(LOG, (errmsg("siphon: snapshot %u of table \"%s.%s\" is complete", snapshot_job->generation, listed->schema,
						 listed->name),
				  errdetail("%lu rows, %lu bytes, %d workers; scan: %.3f s, all: %.3f s.",
							pg_atomic_read_u64(&snapshot_job->rows), pg_atomic_read_u64(&snapshot_job->bytes),
							snapshot_job->workers, elapsed_seconds(scan_started, scan_ended),
							elapsed_seconds(snapshot_job->started, GetCurrentTimestamp()))));
	snapshot_set_phase(SnapshotPhase::Done);
}
