/*
 * Whose snapshot's turn it is: the part of the launcher that starts snapshots, a few at a time, and writes into the
 * registry what became of those that failed. Also what others need of running snapshots.
 */
#include <initializer_list>

#include "snapshot.h"

#include "ring_file.h"

SnapshotJob *siphon_snapshots;

static constexpr long kRetryFirstMs = 1000;
static constexpr long kLookAgainMs = 1000;

Size
snapshots_size(void)
{
	return mul_size(siphon_max_snapshots, sizeof(SnapshotJob));
}

void
snapshots_startup(void)
{
	memset(static_cast<void *>(siphon_snapshots), 0, snapshots_size());
	for (int i = 0; i < siphon_max_snapshots; i++)
	{
		SnapshotJob *snapshot = &siphon_snapshots[i];

		ConditionVariableInit(&snapshot->changed);
		for (auto *figure : {&snapshot->blocks_total, &snapshot->next_block, &snapshot->blocks_done, &snapshot->rows,
							 &snapshot->bytes, &snapshot->held_events})
			pg_atomic_init_u64(figure, 0);
		for (auto &count : snapshot->row_counts)
			pg_atomic_init_u64(&count, 0);
	}
}

const char *
snapshot_phase_name(SnapshotPhase phase)
{
	static const char *const names[] = {"preparing", "scanning", "moving held changes", "done", "failed"};

	return names[static_cast<int>(phase)];
}

SnapshotJob *
snapshot_find(const App *app, Oid relid)
{
	for (int i = 0; i < siphon_max_snapshots; i++)
	{
		SnapshotJob *snapshot = &siphon_snapshots[i];

		if (snapshot->in_use && snapshot->app == app && (snapshot->relid == relid || relid == InvalidOid))
			return snapshot;
	}
	return nullptr;
}

void
snapshot_count_held(const App *app, Oid relid, uint64 events)
{
	SnapshotJob *snapshot;

	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	snapshot = snapshot_find(app, relid);
	if (snapshot)
		pg_atomic_fetch_add_u64(&snapshot->held_events, static_cast<int64>(events));
	LWLockRelease(siphon_shared->lock);
}

void
snapshot_cancel(const char *application, Oid relid)
{
	for (;;)
	{
		App *app;
		SnapshotJob *snapshot;

		LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
		app = shared_find(application);
		snapshot = app ? snapshot_find(app, relid) : nullptr;
		if (snapshot)
			snapshot->cancel = true;
		LWLockRelease(siphon_shared->lock);
		if (snapshot == nullptr)
			return;
		shared_wake_launcher();
		ConditionVariableTimedSleep(&snapshot->changed, 100, PG_WAIT_EXTENSION);
		ConditionVariableCancelSleep();
	}
}

bool
snapshot_register_process(SnapshotJob *snapshot, int number)
{
	BackgroundWorker worker;
	int index = static_cast<int>(snapshot - siphon_snapshots) * kMaxSnapshotWorkers + number;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(index);
	strlcpy(worker.bgw_library_name, "siphon", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "siphon_snapshot_main", sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "siphon snapshot %s %u worker %d", snapshot->app->name,
			 snapshot->relid, number);
	strlcpy(worker.bgw_type, "siphon snapshot", sizeof(worker.bgw_type));
	return RegisterDynamicBackgroundWorker(&worker, nullptr);
}

/* Takes away the rings that processes of a failed snapshot left behind. */
static void
remove_rings(const SnapshotJob *snapshot)
{
	char ring[NAMEDATALEN];

	for (int i = 0; i < snapshot->workers; i++)
	{
		snprintf(ring, sizeof(ring), "snapshot-%u-%d", snapshot->relid, i);
		siphon::ring_file_remove(siphon_ring_directory, snapshot->app->name, ring);
	}
}

/* Writes into the registry what became of a snapshot that ended, and frees its place. */
static void
conclude(SnapshotJob *snapshot)
{
	Registry *registry;
	RegistryTable *table;

	if (snapshot->phase != SnapshotPhase::Done)
		remove_rings(snapshot);
	registry = registry_begin_change(snapshot->app->name);
	table = registry ? registry_find(registry, snapshot->relid) : nullptr;
	if (table && table->phase != Phase::Streaming &&
		(table->phase == Phase::Scanning || snapshot->phase == SnapshotPhase::Failed))
	{
		long delay = kRetryFirstMs << Min(table->failures, 16);

		delay = Min(delay, siphon_max_restart_delay_s * 1000L);
		table->phase = Phase::Waiting;
		table->failures++;
		table->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay);
		strlcpy(table->reason, snapshot->error[0] ? snapshot->error : "the server was restarted",
				sizeof(table->reason));
		ereport(LOG, (errmsg("siphon: snapshot %u of table \"%s.%s\" failed: %s", snapshot->generation, table->schema,
							 table->name, table->reason),
					  errdetail("It starts over in %ld ms.", delay)));
	}
	if (registry)
		registry_end_change(registry);
	if (table)
		pg_atomic_fetch_add_u64(&snapshot->app->registry_wanted, 1);

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	snapshot->in_use = false;
	if (snapshot->app->decoder_latch)
		SetLatch(snapshot->app->decoder_latch);
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&snapshot->changed);
}

static bool
ended(const SnapshotJob *snapshot)
{
	return snapshot->in_use && snapshot->leader_pid == 0 && snapshot->running == 0 &&
		   (snapshot->phase == SnapshotPhase::Done || snapshot->phase == SnapshotPhase::Failed);
}

void
snapshots_conclude(void)
{
	for (int i = 0; i < siphon_max_snapshots; i++)
		if (ended(&siphon_snapshots[i]))
			conclude(&siphon_snapshots[i]);
}

/* A free place for a snapshot, taken; NULL: all are in use. */
static SnapshotJob *
take_place(App *app, const RegistryTable *table)
{
	SnapshotJob *free = nullptr;

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < siphon_max_snapshots && free == nullptr; i++)
		if (!siphon_snapshots[i].in_use)
			free = &siphon_snapshots[i];
	if (free)
	{
		free->in_use = true;
		free->app = app;
		free->relid = table->relid;
		free->generation = table->generation + 1;
		free->phase = SnapshotPhase::Preparing;
		free->leader_pid = 0;
		free->workers = 1;
		free->running = 0;
		free->cancel = free->paused = false;
		free->error[0] = free->export_name[0] = '\0';
		free->started = GetCurrentTimestamp();
		for (auto *figure : {&free->blocks_total, &free->next_block, &free->blocks_done, &free->rows, &free->bytes,
							 &free->held_events})
			pg_atomic_write_u64(figure, 0);
		for (auto &count : free->row_counts)
			pg_atomic_write_u64(&count, 0);
	}
	LWLockRelease(siphon_shared->lock);
	return free;
}

long
snapshots_look_after(App *app, const Registry *registry)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell *lc;
	long wait = 10 * kLookAgainMs;

	foreach (lc, registry->tables)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));
		SnapshotJob *snapshot;

		LWLockAcquire(siphon_shared->lock, LW_SHARED);
		snapshot = snapshot_find(app, table->relid);
		LWLockRelease(siphon_shared->lock);
		if (snapshot || table->phase == Phase::Streaming || table->paused)
			continue;
		if (table->phase == Phase::Waiting && table->retry_at > now)
		{
			wait = Min(wait, TimestampDifferenceMilliseconds(now, table->retry_at) + 1);
			continue;
		}
		snapshot = take_place(app, table);
		if (snapshot == nullptr)
			return Min(wait, kLookAgainMs);
		if (table->phase == Phase::Scanning)
		{
			/* Cut off by a restart of the server. */
			conclude(snapshot);
			wait = Min(wait, kLookAgainMs);
			continue;
		}
		if (!snapshot_register_process(snapshot, 0))
		{
			LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
			snapshot->in_use = false;
			LWLockRelease(siphon_shared->lock);
			return Min(wait, kLookAgainMs);
		}
	}
	return wait;
}
