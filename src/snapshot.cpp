/*
 * The processes of a snapshot, leader and workers: see snapshot.h.
 */
#include "snapshot.h"

#include "application.h"
#include "encoder.h"
#include "leaf_scan.h"
#include "leaves.h"
#include "package.h"
#include "ring_output.h"
#include "session.h"
#include "table.h"

extern "C" {
#include "access/transam.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"
}

static constexpr long kPauseMs = 200;
/* A scan waits for nobody but the publisher: a longer queue would only take memory from the processors' caches. */
static constexpr uint64 kLargestRing = 16 * 1024 * 1024;

static SnapshotJob *job;
static int worker_number; /* 0: the leader */

/* The leader's: its workers. */
static BackgroundWorkerHandle *workers[kMaxSnapshotWorkers];
static int nworkers;

static void
serve(TimestampTz now)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		int rate = siphon_snapshot_rate_kb;

		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		if (rate != siphon_snapshot_rate_kb)
			pg_atomic_write_u64(&job->busy_until, 0);
	}
	ring_output_heartbeat(now);
	if (*const_cast<volatile bool *>(&job->cancel))
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the snapshot was ended by a command")));
	if (*const_cast<volatile SnapshotPhase *>(&job->phase) == SnapshotPhase::Failed)
		ereport(ERROR, (errmsg("a worker failed: %s", job->error)));
}

/*
 * Books bytes on the time that siphon.snapshot_rate has them take, for all workers together. Time that passes without
 * any, as in a pause, is not made up for.
 */
static void
use_rate(size_t bytes)
{
	uint64 now = static_cast<uint64>(GetCurrentTimestamp());
	uint64 until = pg_atomic_read_u64(&job->busy_until);
	uint64 takes;

	if (siphon_snapshot_rate_kb == 0)
		return;
	takes = bytes * USECS_PER_SEC / 1024 / static_cast<uint64>(siphon_snapshot_rate_kb);
	while (!pg_atomic_compare_exchange_u64(&job->busy_until, &until, Max(until, now) + takes))
		;
}

/* How long to wait now, to keep within siphon.snapshot_rate or as the snapshot is paused, in ms. */
static long
time_to_wait(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;

	serve(now);
	if (*const_cast<volatile bool *>(&job->paused))
		return kPauseMs;
	until = static_cast<TimestampTz>(pg_atomic_read_u64(&job->busy_until));
	if (siphon_snapshot_rate_kb == 0 || until <= now)
		return 0;
	return Min(kPauseMs, static_cast<long>((until - now) / 1000 + 1));
}

static void
throttle(void)
{
	long wait;

	while ((wait = time_to_wait()) > 0)
		worker_wait(Wait::Snapshot, wait);
}

static void
write_record(const siphon::RecordInfo &info, const siphon::WireBuffer *payload, TimestampTz)
{
	ring_output_write(info, payload);
	pg_atomic_fetch_add_u64(&job->bytes, static_cast<int64>(payload->size));
	use_rate(payload->size);
}

static void
set_phase(SnapshotPhase phase)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	job->phase = phase;
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&job->changed);
}

/* ---- both: scanning ---- */

static uint64 row_counts[kMaxPartitions]; /* of the range of blocks */

/* What was done becomes known range by range, so that processes do not fight for a cache line with each row. */
static void
count_range(int partitions, uint64 rows, BlockNumber blocks)
{
	for (int i = 0; i < partitions; i++)
		if (row_counts[i] > 0)
		{
			pg_atomic_fetch_add_u64(&job->row_counts[i], static_cast<int64>(row_counts[i]));
			row_counts[i] = 0;
		}
	pg_atomic_fetch_add_u64(&job->rows, static_cast<int64>(rows));
	pg_atomic_fetch_add_u64(&job->blocks_done, blocks);
}

/* Reads one range of blocks. It begins without a page, as throttle() has just returned. */
static void
scan_blocks(LeafScan *scan, Table *table, MemoryContext row_context, BlockNumber count)
{
	TupleTableSlot *slot;
	uint64 rows = 0;
	bool waited = true;

	while ((slot = leaf_scan_row(scan)) != nullptr)
	{
		MemoryContext old;
		int partition;

		if (scan->new_page && !waited && time_to_wait() > 0)
		{
			leaf_scan_give_back(scan);
			throttle();
			waited = true;
			continue;
		}
		waited = false;
		old = MemoryContextSwitchTo(row_context);
		slot_getallattrs(slot);
		partition = encode_row(table, slot->tts_values, slot->tts_isnull, job->lsn);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
		row_counts[partition]++;
		rows++;
	}
	count_range(table->partitions, rows, count);
}

static void
scan_table(LeafScan *scan, Table *table)
{
	MemoryContext row_context = AllocSetContextCreate(TopMemoryContext, "siphon row", ALLOCSET_DEFAULT_SIZES);
	BlockNumber count;

	while ((count = leaf_scan_take(scan, &job->next_block)) > 0)
	{
		throttle();
		scan_blocks(scan, table, row_context, count);
	}
	leaf_scan_end(scan);
	packages_write_all();
	ring_output_flush();
}

/* ---- the leader ---- */

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
await_old_commits(void)
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
		worker_wait(Wait::Snapshot, 1);

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
			worker_wait(Wait::Snapshot, 10);
			serve(GetCurrentTimestamp());
		}
	pfree(running);
}

static void
begin_transaction(void)
{
	StartTransactionCommand();
	XactIsoLevel = XACT_REPEATABLE_READ;
	XactReadOnly = true;
}

[[noreturn]] static void
give_up(void)
{
	job->table_gone = true;
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the table does not exist any more")));
}

/* The table's present name. No generation begins, or goes on, for one that was dropped. */
static void
find_names(char *schema, char *name)
{
	const char *found = get_rel_name(job->relid);
	const char *found_schema = found ? get_namespace_name(get_rel_namespace(job->relid)) : nullptr;

	if (found_schema == nullptr)
		give_up();
	strlcpy(schema, found_schema, NAMEDATALEN);
	strlcpy(name, found, NAMEDATALEN);
}

static void
read_names(char *schema, char *name)
{
	begin_transaction();
	find_names(schema, name);
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
}

/* A table that is renamed meanwhile has its rows on one subject and its changes on another. */
static void
check_names(const RegistryTable *listed)
{
	char schema[NAMEDATALEN];
	char name[NAMEDATALEN];

	find_names(schema, name);
	if (strcmp(listed->schema, schema) != 0 || strcmp(listed->name, name) != 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the table was renamed to \"%s.%s\"", schema, name)));
}

/*
 * Makes it durable that the table's next generation is being brought out, under its present name, and lets the decoder
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
	registry = registry_begin_change(job->app->name);
	table = registry ? registry_find(registry, job->relid) : nullptr;
	if (table == nullptr)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the table is not published any more")));
	if (strcmp(table->schema, schema) != 0 || strcmp(table->name, name) != 0)
	{
		registry_forget_name(registry, table);
		strlcpy(table->schema, schema, sizeof(table->schema));
		strlcpy(table->name, name, sizeof(table->name));
	}
	table->phase = Phase::Scanning;
	table->generation = registry_next_generation(registry);
	table->start = RecoveryInProgress() ? GetXLogReplayRecPtr(nullptr) : GetXLogInsertRecPtr();
	/* siphon_pause() may have come before there was this job. */
	job->paused = table->paused;
	registry_end_change(registry);
	job->generation = table->generation;
	if (!application_notify(job->app->name, reason))
		ereport(ERROR, (errmsg("the decoder of application \"%s\" does not run: %s", job->app->name, reason)));
	return table;
}

static void
end_generation(void)
{
	char reason[kReasonLength];
	Registry *registry;
	RegistryTable *table;

	registry = registry_begin_change(job->app->name);
	table = registry ? registry_find(registry, job->relid) : nullptr;
	if (table == nullptr || table->generation != job->generation)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the table is not published any more")));
	/* Unless it is to be brought out anew already. */
	if (table->phase == Phase::Scanning)
		table->phase = Phase::Streaming;
	table->paused = false;
	table->failures = 0;
	table->reason[0] = '\0';
	registry_end_change(registry);
	application_notify(job->app->name, reason);
}

static void
write_marker(siphon::FrameKind kind, const Table *table, siphon::WireBuffer *payload)
{
	siphon::RecordInfo info = {};

	info.kind = kind;
	info.table = table->relid;
	info.partition = static_cast<uint32>(table->partitions);
	info.generation = job->generation;
	info.first = info.last = siphon::Position{job->lsn, 0};
	info.route = table->route;
	info.route_length = static_cast<uint16>(table->route_length);
	ring_output_write(info, payload);
	ring_output_flush();
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

static Relation
open_table(const RegistryTable *listed, Table **table)
{
	Relation relation = try_table_open(job->relid, AccessShareLock);

	if (relation == nullptr)
		give_up();
	check_names(listed);
	*table = table_for_snapshot(relation);
	return relation;
}

/* As the planner sees it; -1 if a table was never analyzed. */
static int64
estimated_rows(Relation relation)
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
announce(const RegistryTable *listed)
{
	siphon::WireBuffer payload;
	Relation relation;
	Table *table;
	int64 estimate;

	begin_transaction();
	relation = open_table(listed, &table);
	estimate = estimated_rows(relation);
	table_close(relation, NoLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);

	job->lsn = RecoveryInProgress() ? GetXLogReplayRecPtr(nullptr) : GetXLogInsertRecPtr();
	init_marker(&payload, table, 16);
	siphon::Wire wire(&payload);
	wire.sint_field(siphon::field::kBeginEstimatedRows, estimate);
	wire.commit();
	write_marker(siphon::FrameKind::SnapshotBegin, table, &payload);
	pfree(payload.data);
}

static void
write_end(const Table *table, const Visibility *visibility)
{
	siphon::WireBuffer payload;

	init_marker(&payload, table, 64 + static_cast<size_t>(table->partitions) * 11 + visibility->count * 6);
	siphon::Wire wire(&payload);
	for (int i = 0; i < table->partitions; i++)
		wire.varint_field(siphon::field::kEndRowCounts, pg_atomic_read_u64(&job->row_counts[i]));
	wire.fixed64_field(siphon::field::kEndLsn, job->lsn);
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
		BackgroundWorkerHandle *worker = snapshot_start_process(job, nworkers + 1);

		if (worker == nullptr)
		{
			ereport(LOG, (errmsg("siphon: the snapshot of table \"%s\" runs with %d of %d workers",
								 get_rel_name(job->relid), nworkers + 1, wanted),
						  errdetail("No background worker is free."),
						  errhint("ALTER SYSTEM SET max_worker_processes, then restart the server.")));
			return;
		}
		workers[nworkers++] = worker;
		LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
		job->workers++;
		LWLockRelease(siphon_shared->lock);
	}
}

static void
await_workers(void)
{
	for (int i = 0; i < nworkers; i++)
		while (worker_alive(workers[i]))
		{
			serve(GetCurrentTimestamp());
			worker_wait(Wait::Snapshot, kPauseMs);
		}
	serve(GetCurrentTimestamp());
}

/* The leader ends last, so that whoever sees its end knows of all. */
static void
stop_workers(int, Datum)
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
	/*
	 * Whatever the snapshot shows was committed before this. In recovery a transaction becomes visible while its
	 * commit record is being replayed, so the end of that record counts.
	 */
	job->lsn = RecoveryInProgress() ? GetCurrentReplayRecPtr(nullptr) : GetXLogInsertRecPtr();

	visibility->xmin = snapshot->xmin;
	visibility->xmax = snapshot->xmax;
	visibility->count = recovery ? static_cast<size_t>(snapshot->subxcnt) : snapshot->xcnt;
	visibility->in_progress = static_cast<TransactionId *>(
		MemoryContextAlloc(TopMemoryContext, sizeof(TransactionId) * (visibility->count + 1)));
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
	job->segment = dsm_segment_handle(segment);
	return segment;
}

static double
seconds(TimestampTz from, TimestampTz to)
{
	return static_cast<double>(to - from) / USECS_PER_SEC;
}

/*
 * Ends the transaction of the scan, and with it the snapshot, but keeps the table's lock in another one: were the table
 * renamed before its changes stream, the publisher would hold those under the new name for ever.
 */
static void
keep_lock(Relation relation)
{
	LockRelId id = relation->rd_lockInfo.lockRelId;

	table_close(relation, NoLock);
	PopActiveSnapshot();
	LockRelationIdForSession(&id, AccessShareLock);
	CommitTransactionCommand();
	StartTransactionCommand();
	LockRelationOid(job->relid, AccessShareLock);
	UnlockRelationIdForSession(&id, AccessShareLock);
	MemoryContextSwitchTo(TopMemoryContext);
}

static void
lead(void)
{
	RegistryTable *listed;
	Visibility visibility;
	Relation relation;
	Table *table;
	LeafScan scan;
	dsm_segment *shared;
	TimestampTz scan_started;
	TimestampTz scan_ended;

	listed = begin_generation();
	tables_set_one(listed);
	announce(listed);
	await_old_commits();
	begin_transaction();
	/* First the lock, so that nobody rewrites a table after the moment that the snapshot shows. */
	relation = open_table(listed, &table);
	take_snapshot(&visibility);
	shared = share_snapshot();
	leaf_scan_begin(&scan, relation);
	pg_atomic_write_u64(&job->blocks_total, leaf_scan_lock(&scan));
	set_phase(SnapshotPhase::Scanning);
	scan_started = GetCurrentTimestamp();
	start_workers(Min(listed->workers, kMaxSnapshotWorkers));
	scan_table(&scan, table);
	await_workers();
	dsm_detach(shared);
	scan_ended = GetCurrentTimestamp();
	keep_lock(relation);

	set_phase(SnapshotPhase::Moving);
	write_end(table, &visibility);
	/* A schema is renamed without the table's lock. */
	AcceptInvalidationMessages();
	check_names(listed);
	end_generation();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	ereport(LOG, (errmsg("siphon: snapshot %u of table \"%s.%s\" is complete", job->generation, listed->schema,
						 listed->name),
				  errdetail("%lu rows, %lu bytes, %d workers; scan: %.3f s, all: %.3f s.",
							pg_atomic_read_u64(&job->rows), pg_atomic_read_u64(&job->bytes), job->workers,
							seconds(scan_started, scan_ended), seconds(job->started, GetCurrentTimestamp()))));
	set_phase(SnapshotPhase::Done);
}

/* ---- a worker ---- */

static void
take_leaders_snapshot(void)
{
	dsm_segment *segment = dsm_attach(job->segment);

	if (segment == nullptr)
		ereport(ERROR, (errmsg("the snapshot's leader has ended")));
	RestoreTransactionSnapshot(RestoreSnapshot(static_cast<char *>(dsm_segment_address(segment))), job->leader);
	dsm_detach(segment);
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
work(void)
{
	Registry *registry = registry_read(job->app->name);
	RegistryTable *listed = registry ? registry_find(registry, job->relid) : nullptr;
	Relation relation;
	Table *table;
	LeafScan scan;

	if (listed == nullptr)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the table is not published any more")));
	tables_set_one(listed);
	begin_transaction();
	take_leaders_snapshot();
	relation = open_table(listed, &table);
	leaf_scan_begin(&scan, relation);
	scan_table(&scan, table);
	table_close(relation, NoLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* ---- start and end ---- */

static bool finished = false;

static void
detach(int, Datum)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	if (worker_number == 0)
		job->leader_pid = 0;
	if (!finished && job->phase != SnapshotPhase::Failed)
	{
		job->phase = SnapshotPhase::Failed;
		if (job->error[0] == '\0')
			strlcpy(job->error, "a process of the snapshot ended; see the server's log", sizeof(job->error));
	}
	if (siphon_shared->launcher_latch)
		SetLatch(siphon_shared->launcher_latch);
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&job->changed);
}

static void
attach(int index)
{
	bool wanted;

	job = &siphon_snapshots[index / kMaxSnapshotWorkers];
	worker_number = index % kMaxSnapshotWorkers;
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	if (worker_number == 0)
		wanted = job->in_use && job->leader_pid == 0 && job->phase == SnapshotPhase::Preparing;
	else
		wanted = job->in_use && job->leader_pid != 0 && job->phase == SnapshotPhase::Scanning;
	if (wanted && worker_number == 0)
	{
		job->leader_pid = MyProcPid;
		job->leader = MyProc;
	}
	LWLockRelease(siphon_shared->lock);
	if (!wanted)
		proc_exit(0);
	on_shmem_exit(detach, 0);
	/* As in a parallel query. Or a worker would wait for its lock behind an ALTER TABLE that waits for the leader's. */
	if (worker_number == 0)
		BecomeLockGroupLeader();
	else if (!BecomeLockGroupMember(job->leader, job->leader_pid))
		proc_exit(0);
}

void
siphon_snapshot_main(Datum arg)
{
	char ring[NAMEDATALEN];

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	attach(DatumGetInt32(arg));
	MemoryContextSwitchTo(TopMemoryContext);
	session_connect(job->app->database, "siphon snapshot");
	if (worker_number == 0)
		before_shmem_exit(stop_workers, 0);

	PG_TRY();
	{
		snprintf(ring, sizeof(ring), "snapshot-%u-%d", job->relid, worker_number);
		tables_init(job->app->name);
		packages_init(write_record);
		encoder_init();
		ring_output_open(job->app->name, ring, Min(static_cast<uint64>(siphon_ring_size_kb) * 1024, kLargestRing),
						 serve);
		if (worker_number == 0)
			lead();
		else
			work();
		ring_output_remove();
		finished = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		LWLockReleaseAll();
		LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
		if (job->phase != SnapshotPhase::Failed)
			snprintf(job->error, sizeof(job->error), error->hint ? "%s (%s)" : "%s", error->message, error->hint);
		LWLockRelease(siphon_shared->lock);
		PG_RE_THROW();
	}
	PG_END_TRY();
}
