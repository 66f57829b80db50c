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

#include <ctime>

extern "C" {
#include "access/transam.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"
}

static constexpr long kPauseMs = 200;

static SnapshotJob *job;
static int worker_number; /* 0: the leader */
static TimestampTz scan_started;

static void
serve(TimestampTz now)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	ring_output_heartbeat(now);
	if (*const_cast<volatile bool *>(&job->cancel))
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the snapshot was ended by a command")));
	if (*const_cast<volatile SnapshotPhase *>(&job->phase) == SnapshotPhase::Failed)
		ereport(ERROR, (errmsg("a worker failed: %s", job->error)));
}

/* Keeps within siphon.snapshot_rate, all workers together, and waits while the snapshot is paused. */
static void
throttle(void)
{
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		int64 allowed = int64{siphon_snapshot_rate_kb} * 1024 / 1000 * ((now - scan_started) / 1000);

		serve(now);
		if (!*const_cast<volatile bool *>(&job->paused) &&
			(siphon_snapshot_rate_kb == 0 || static_cast<int64>(pg_atomic_read_u64(&job->bytes)) <= allowed))
			return;
		worker_wait(Wait::Snapshot, kPauseMs);
	}
}

static void
write_record(const siphon::RecordInfo &info, const siphon::WireBuffer *payload, TimestampTz)
{
	ring_output_write(info, payload);
	pg_atomic_fetch_add_u64(&job->bytes, payload->size);
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

/* Reads one range of blocks. */
static void
scan_blocks(LeafScan *scan, Table *table, MemoryContext row_context, BlockNumber count)
{
	TupleTableSlot *slot;
	uint64 rows = 0;

	while ((slot = leaf_scan_row(scan)) != nullptr)
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);
		int partition;

		slot_getallattrs(slot);
		partition = encode_row(table, slot->tts_values, slot->tts_isnull, job->lsn);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
		pg_atomic_fetch_add_u64(&job->row_counts[partition], 1);
		if ((++rows & 255) == 0)
			throttle();
	}
	pg_atomic_fetch_add_u64(&job->rows, rows);
	pg_atomic_fetch_add_u64(&job->blocks_done, count);
}

static void
scan_table(LeafScan *scan, Table *table)
{
	MemoryContext row_context = AllocSetContextCreate(TopMemoryContext, "siphon row", ALLOCSET_DEFAULT_SIZES);
	BlockNumber count;

	scan_started = GetCurrentTimestamp();
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

/* Makes it durable that the table's next generation is being brought out, and lets the decoder hold its changes. */
static RegistryTable *
begin_generation(void)
{
	char reason[kReasonLength];
	Registry *registry;
	RegistryTable *table;

	LWLockAcquire(siphon_shared->registry_lock, LW_EXCLUSIVE);
	registry = registry_read(job->app->name);
	table = registry ? registry_find(registry, job->relid) : nullptr;
	if (table == nullptr)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the table is not published any more")));
	table->phase = Phase::Scanning;
	/*
	 * Greater than every one before, also when the table was removed, or the application dropped, and added again
	 * meanwhile: what is in JetStream outlives the registry.
	 */
	table->generation = Max(table->generation + 1, static_cast<uint32>(time(nullptr)));
	table->start = RecoveryInProgress() ? GetXLogReplayRecPtr(nullptr) : GetXLogInsertRecPtr();
	registry_write(registry);
	LWLockRelease(siphon_shared->registry_lock);
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

	LWLockAcquire(siphon_shared->registry_lock, LW_EXCLUSIVE);
	registry = registry_read(job->app->name);
	table = registry ? registry_find(registry, job->relid) : nullptr;
	if (table && table->generation == job->generation && table->phase == Phase::Scanning)
	{
		table->phase = Phase::Streaming;
		table->failures = 0;
		table->reason[0] = '\0';
		registry_write(registry);
	}
	LWLockRelease(siphon_shared->registry_lock);
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
open_table(Table **table)
{
	Relation relation = try_table_open(job->relid, AccessShareLock);

	if (relation == nullptr)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the table does not exist any more")));
	*table = table_for_snapshot(relation);
	return relation;
}

static void
begin_transaction(void)
{
	StartTransactionCommand();
	XactIsoLevel = XACT_REPEATABLE_READ;
	XactReadOnly = true;
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
announce(void)
{
	siphon::WireBuffer payload;
	Relation relation;
	Table *table;
	int64 estimate;

	begin_transaction();
	relation = open_table(&table);
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

static void
start_workers(int wanted)
{
	for (int i = 1; i < wanted; i++)
	{
		LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
		job->workers++;
		job->running++;
		LWLockRelease(siphon_shared->lock);
		if (!snapshot_register_process(job, i))
		{
			LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
			job->workers--;
			job->running--;
			LWLockRelease(siphon_shared->lock);
			ereport(LOG, (errmsg("siphon: the snapshot of table \"%s\" runs with %d of %d workers",
								 get_rel_name(job->relid), i, wanted),
						  errdetail("No background worker is free."),
						  errhint("ALTER SYSTEM SET max_worker_processes, then restart the server.")));
			return;
		}
	}
}

static void
await_workers(void)
{
	for (;;)
	{
		int running;

		LWLockAcquire(siphon_shared->lock, LW_SHARED);
		running = job->running;
		LWLockRelease(siphon_shared->lock);
		if (running == 0)
			return;
		serve(GetCurrentTimestamp());
		ConditionVariableTimedSleep(&job->changed, kPauseMs, PG_WAIT_EXTENSION);
		ConditionVariableCancelSleep();
	}
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
	strlcpy(job->export_name, ExportSnapshot(snapshot), sizeof(job->export_name));

	visibility->xmin = snapshot->xmin;
	visibility->xmax = snapshot->xmax;
	visibility->count = recovery ? static_cast<size_t>(snapshot->subxcnt) : snapshot->xcnt;
	visibility->in_progress = static_cast<TransactionId *>(
		MemoryContextAlloc(TopMemoryContext, sizeof(TransactionId) * (visibility->count + 1)));
	memcpy(visibility->in_progress, xids, sizeof(TransactionId) * visibility->count);
}

static void
lead(void)
{
	RegistryTable *listed = begin_generation();
	Visibility visibility;
	Relation relation;
	Table *table;
	LeafScan scan;

	BecomeLockGroupLeader();
	tables_set_one(listed);
	announce();
	await_old_commits();
	begin_transaction();
	/* First the lock, so that nobody rewrites a table after the moment that the snapshot shows. */
	relation = open_table(&table);
	take_snapshot(&visibility);
	leaf_scan_begin(&scan, relation);
	pg_atomic_write_u64(&job->blocks_total, leaf_scan_lock(&scan));
	set_phase(SnapshotPhase::Scanning);
	start_workers(Min(listed->workers, kMaxSnapshotWorkers));
	scan_table(&scan, table);
	await_workers();
	table_close(relation, NoLock);
	PopActiveSnapshot();
	CommitTransactionCommand();

	set_phase(SnapshotPhase::Moving);
	write_end(table, &visibility);
	end_generation();
	set_phase(SnapshotPhase::Done);
}

/* ---- a worker ---- */

/*
 * Like a parallel query's worker: who waits for a lock that the leader has does not stand in our way, which would be a
 * deadlock, as the leader waits for us.
 */
static void
join_leader(void)
{
	pid_t pid;
	PGPROC *leader;

	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	pid = job->leader_pid;
	LWLockRelease(siphon_shared->lock);
	leader = pid ? BackendPidGetProc(pid) : nullptr;
	if (leader == nullptr || !BecomeLockGroupMember(leader, pid))
		ereport(ERROR, (errmsg("the leader of the snapshot is gone")));
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
	join_leader();
	tables_set_one(listed);
	begin_transaction();
	ImportSnapshot(job->export_name);
	PushActiveSnapshot(GetTransactionSnapshot());
	relation = open_table(&table);
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
	else
		job->running--;
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
	job = &siphon_snapshots[index / kMaxSnapshotWorkers];
	worker_number = index % kMaxSnapshotWorkers;
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	if (!job->in_use || (worker_number == 0 && job->leader_pid != 0))
	{
		LWLockRelease(siphon_shared->lock);
		proc_exit(0);
	}
	if (worker_number == 0)
		job->leader_pid = MyProcPid;
	LWLockRelease(siphon_shared->lock);
	on_shmem_exit(detach, 0);
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

	PG_TRY();
	{
		snprintf(ring, sizeof(ring), "snapshot-%u-%d", job->relid, worker_number);
		tables_init(job->app->name);
		packages_init(write_record);
		encoder_init();
		ring_output_open(job->app->name, ring, serve);
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
			strlcpy(job->error, error->message, sizeof(job->error));
		LWLockRelease(siphon_shared->lock);
		PG_RE_THROW();
	}
	PG_END_TRY();
}
