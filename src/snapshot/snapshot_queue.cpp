/*
 * Whose snapshot's turn it is: the part of the launcher that starts snapshots, a few at a time, and writes into the
 * registry what became of those that failed. Also what others need of running snapshots.
 */
#include <initializer_list>

#include "snapshot.h"

#include "registry/table_list.h"
#include "ring/ring_file.h"
#include "server/bgworker.h"

#include <csignal>

SnapshotJob *siphon_snapshots;

static BackgroundWorkerHandle **leaders; /* the launcher's: of each snapshot; NULL if an earlier launcher started it */
static char last_served[kApplicationLength]; /* the application that got a place last */

static constexpr long kRetryFirstMs = 1000;
static constexpr long kCheckAgainMs = 1000;
static constexpr int kCancelPatienceMs = 1000;
static const char *const kNoWorker = "no background worker is free for its snapshot";

void
snapshots_request_shmem(void)
{
	RequestAddinShmemSpace(mul_size(siphon_max_snapshots, sizeof(SnapshotJob)));
}

void
snapshots_init_shmem(void)
{
	Size size = mul_size(siphon_max_snapshots, sizeof(SnapshotJob));
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	siphon_snapshots = static_cast<SnapshotJob *>(ShmemInitStruct("siphon snapshots", size, &found));
	if (!found)
		memset(static_cast<void *>(siphon_snapshots), 0, size);
	for (int i = 0; i < siphon_max_snapshots && !found; i++)
	{
		SnapshotJob *snapshot = &siphon_snapshots[i];

		ConditionVariableInit(&snapshot->changed);
		for (auto *metric : {&snapshot->blocks_total, &snapshot->next_block, &snapshot->blocks_done, &snapshot->rows,
							 &snapshot->bytes, &snapshot->held_events, &snapshot->busy_until})
			pg_atomic_init_u64(metric, 0);
		for (auto &count : snapshot->row_counts)
			pg_atomic_init_u64(&count, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

const char *
snapshot_phase_name(SnapshotPhase phase)
{
	static const char *const names[] = {"preparing", "scanning", "moving held changes", "done", "failed"};

	return names[static_cast<int>(phase)];
}

void
snapshot_job_set_phase(SnapshotJob *snapshot, SnapshotPhase phase)
{
	bool allowed = siphon::is_transition(kSnapshotPhaseTransitions, {snapshot->phase}, phase);

	Assert(allowed);
	if (allowed)
		snapshot->phase = phase;
}

SnapshotJob *
snapshot_find(const SharedApplication *app, Oid relid)
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
snapshot_count_held(const SharedApplication *app, Oid relid, uint64 events)
{
	SnapshotJob *snapshot;

	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	snapshot = snapshot_find(app, relid);
	if (snapshot)
		pg_atomic_fetch_add_u64(&snapshot->held_events, static_cast<int64>(events));
	LWLockRelease(siphon_shared->lock);
}

/* It is asked first, and told when it is in the middle of something that keeps it from listening, such as a lock. */
SnapshotJob *
snapshot_request_cancel(const char *application, Oid relid, TimestampTz asked)
{
	SharedApplication *app;
	SnapshotJob *snapshot;

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app = shmem_find_application(application);
	snapshot = app ? snapshot_find(app, relid) : nullptr;
	if (snapshot)
		snapshot->cancel = true;
	if (snapshot && snapshot->leader_pid && TimestampDifferenceExceeds(asked, GetCurrentTimestamp(), kCancelPatienceMs))
		kill(snapshot->leader_pid, SIGTERM);
	LWLockRelease(siphon_shared->lock);
	return snapshot;
}

void
snapshot_cancel(const char *application, Oid relid)
{
	TimestampTz asked = GetCurrentTimestamp();
	SnapshotJob *snapshot;

	while ((snapshot = snapshot_request_cancel(application, relid, asked)) != nullptr)
	{
		wake_launcher();
		ConditionVariableTimedSleep(&snapshot->changed, 100, PG_WAIT_EXTENSION);
		ConditionVariableCancelSleep();
	}
}

BackgroundWorkerHandle *
snapshot_start_process(const SnapshotJob *snapshot, int number)
{
	int index = static_cast<int>(snapshot - siphon_snapshots) * kMaxSnapshotWorkers + number;
	char name[BGW_MAXLEN];

	snprintf(name, sizeof(name), "%s %u worker %d", snapshot->app->name, snapshot->relid, number);
	return bgworker_start("snapshot", name, index);
}

/*
 * Takes away the rings that processes of a failed snapshot left behind; how many they were, nobody knows after a restart.
 */
static void
remove_rings(const SnapshotJob *snapshot)
{
	char ring[NAMEDATALEN];

	for (int i = 0; i < kMaxSnapshotWorkers; i++)
	{
		snprintf(ring, sizeof(ring), "snapshot-%u-%d", snapshot->relid, i);
		siphon::ring_file_remove(siphon_ring_directory, snapshot->app->name, ring);
	}
}

/* Writes into the registry that a snapshot failed. */
static void
record_failure(const SnapshotJob *snapshot)
{
	Registry *registry = registry_begin_change(snapshot->app->name);
	RegistryTable *table = registry ? registry_find_table(registry, snapshot->relid) : nullptr;

	if (table && (table->phase == TablePhase::Waiting || table->phase == TablePhase::Scanning))
	{
		long delay = kRetryFirstMs << Min(table->failures, 16);
		bool lasts;

		delay = Min(delay, siphon_max_restart_delay_s * 1000L);
		table_set_phase(table, TablePhase::Waiting);
		table->failures++;
		lasts = !snapshot->table_gone && snapshot->attempts > 0 && table->failures >= snapshot->attempts;
		table->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay);
		copy_text(table->reason, snapshot->error[0] ? snapshot->error : "the snapshot was interrupted, for example by a server restart",
				  sizeof(table->reason));
		/* A table that was dropped has no next snapshot, but stays listed. */
		if (snapshot->table_gone)
		{
			table_set_phase(table, TablePhase::Streaming);
			registry_forget_name(registry, table);
		}
		ereport(LOG, (errmsg("siphon: snapshot %u of table \"%s.%s\" failed: %s", snapshot->generation, table->schema,
							 table->name, table->reason),
					  lasts                   ? 0
					  : !snapshot->table_gone ? errdetail("The snapshot is taken again in %ld ms.", delay)
					  : table->followed
						  ? errdetail("The table leaves application \"%s\" as it left the publication.",
									  registry->application)
						  : errhint("SELECT siphon_remove_table(%u, '%s');", table->relid, registry->application)));
		if (lasts)
			table_list_stop_table(registry, table, psprintf("its rows cannot be published: %s", table->reason));
	}
	if (registry)
		registry_end_change(registry);
	if (table)
		pg_atomic_fetch_add_u64(&snapshot->app->registry_wanted, 1);
}

/* Says in siphon_tables why a snapshot does not begin. */
static void
record_no_worker(const SnapshotJob *snapshot)
{
	Registry *registry = registry_begin_change(snapshot->app->name);
	RegistryTable *table = registry ? registry_find_table(registry, snapshot->relid) : nullptr;

	if (table)
	{
		strlcpy(table->reason, kNoWorker, sizeof(table->reason));
		ereport(LOG,
				(errmsg("siphon: the snapshot of table \"%s.%s\" waits: %s", table->schema, table->name, kNoWorker),
				 errhint("ALTER SYSTEM SET max_worker_processes, then restart the server.")));
	}
	if (registry)
		registry_end_change(registry);
}

/*
 * Makes a note in the registry. Where that can't be done, as when the file is damaged, the launcher goes on: it has
 * other applications to manage.
 */
static void
try_or_log(void (*note)(const SnapshotJob *), const SnapshotJob *snapshot)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		note(snapshot);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		LWLockReleaseAll();
		EmitErrorReport();
		FlushErrorState();
	}
	PG_END_TRY();
}

/* Notes what became of a snapshot that ended, and frees its place. What could not be noted, later counts as cut off. */
static void
reap_snapshot(SnapshotJob *snapshot)
{
	if (snapshot->phase != SnapshotPhase::Done)
	{
		remove_rings(snapshot);
		try_or_log(record_failure, snapshot);
	}
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	snapshot->in_use = false;
	if (snapshot->app->decoder_latch)
		SetLatch(snapshot->app->decoder_latch);
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&snapshot->changed);
}

/* True if the snapshot is over: its leader has gone, or could not be started in the end. */
static bool
is_snapshot_over(int index)
{
	SnapshotJob *snapshot = &siphon_snapshots[index];
	bool over;

	/* Looked at first: once the process is gone, the rest does not change any more. */
	if (leaders[index] && bgworker_is_running(leaders[index]))
		return false;
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	over = snapshot->in_use && snapshot->leader_pid == 0;
	if (over && snapshot->phase != SnapshotPhase::Done && snapshot->phase != SnapshotPhase::Failed)
	{
		snapshot_job_set_phase(snapshot, SnapshotPhase::Failed);
		strlcpy(snapshot->error, "its process could not be started; see the server's log", sizeof(snapshot->error));
	}
	LWLockRelease(siphon_shared->lock);
	return over;
}

void
snapshots_reap(void)
{
	if (leaders == nullptr)
		leaders = static_cast<BackgroundWorkerHandle **>(MemoryContextAllocZero(
			TopMemoryContext, sizeof(BackgroundWorkerHandle *) * static_cast<size_t>(siphon_max_snapshots)));
	for (int i = 0; i < siphon_max_snapshots; i++)
	{
		if (!is_snapshot_over(i))
			continue;
		if (leaders[i])
			pfree(leaders[i]);
		leaders[i] = nullptr;
		reap_snapshot(&siphon_snapshots[i]);
	}
}

/*
 * A place for the table's snapshot: that of a leader of the application which has no table, if there is one, or a free
 * one. NULL: there is none. Caller holds siphon_shared->lock. Of an application that is being dropped, none begins.
 */
static SnapshotJob *
find_job(const SharedApplication *app, bool with_leader)
{
	SnapshotJob *free = nullptr;
	SnapshotJob *idle = nullptr;

	if (app->stop || app->giving_up)
		return nullptr;
	for (int i = siphon_max_snapshots - 1; i >= 0; i--)
	{
		SnapshotJob *snapshot = &siphon_snapshots[i];

		if (!snapshot->in_use)
			free = snapshot;
		else if (snapshot->idle && snapshot->app == app && with_leader)
			return snapshot;
		else if (snapshot->idle)
			idle = snapshot;
	}
	/* It is another application's turn, whose tables that leader can't read. */
	if (free == nullptr && idle)
	{
		idle->idle = false;
		SetLatch(&idle->leader->procLatch);
	}
	return free;
}

/* Takes a place, if there is one; *led: it has a leader. */
static SnapshotJob *
take_job(SharedApplication *app, const RegistryTable *table, bool *led)
{
	SnapshotJob *free;

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	free = find_job(app, table->phase == TablePhase::Waiting);
	*led = free && free->in_use;
	if (free)
	{
		if (!*led)
			free->leader_pid = 0;
		free->idle = false;
		free->in_use = true;
		free->app = app;
		free->relid = table->relid;
		free->generation = table->generation + 1;
		free->phase = SnapshotPhase::Preparing;
		free->workers = 1;
		free->attempts = 0;
		free->cancel = free->paused = free->table_gone = false;
		free->error[0] = '\0';
		free->started = GetCurrentTimestamp();
		for (auto *metric : {&free->blocks_total, &free->next_block, &free->blocks_done, &free->rows, &free->bytes,
							 &free->held_events})
			pg_atomic_write_u64(metric, 0);
		/* What a leader has used of the rate, it has used. */
		if (!*led)
			pg_atomic_write_u64(&free->busy_until, 0);
		for (auto &count : free->row_counts)
			pg_atomic_write_u64(&count, 0);
		if (*led)
			SetLatch(&free->leader->procLatch);
	}
	LWLockRelease(siphon_shared->lock);
	return free;
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(static_cast<char *>(lfirst(a)), static_cast<char *>(lfirst(b)));
}

/* Else the first with thousands of tables would take each place that gets free, and the others wait for all of them. */
List *
snapshots_order_by_turn(List *applications)
{
	List *turns = NIL;
	List *had_theirs = NIL;
	ListCell *lc;

	list_sort(applications, compare_names);
	foreach (lc, applications)
		if (strcmp(static_cast<char *>(lfirst(lc)), last_served) > 0)
			turns = lappend(turns, lfirst(lc));
		else
			had_theirs = lappend(had_theirs, lfirst(lc));
	return list_concat(turns, had_theirs);
}

long
snapshots_manage(SharedApplication *app, const Registry *registry, bool *open)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell *lc;
	long wait = 10 * kCheckAgainMs;

	*open = false;
	foreach (lc, registry->tables)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));
		SnapshotJob *snapshot;
		bool led;

		if (table->phase == TablePhase::Streaming || table->phase == TablePhase::Stopped || is_table_leaving(table))
			continue;
		*open = true;
		LWLockAcquire(siphon_shared->lock, LW_SHARED);
		snapshot = snapshot_find(app, table->relid);
		LWLockRelease(siphon_shared->lock);
		if (snapshot || table->paused)
			continue;
		if (table->phase == TablePhase::Waiting && table->retry_at > now)
		{
			wait = Min(wait, TimestampDifferenceMilliseconds(now, table->retry_at) + 1);
			continue;
		}
		snapshot = take_job(app, table, &led);
		if (snapshot == nullptr)
			return Min(wait, kCheckAgainMs);
		if (table->phase == TablePhase::Scanning)
		{
			/* Cut off by a restart of the server. Behind that, the registry is to be read again. */
			reap_snapshot(snapshot);
			return 0;
		}

		int index = static_cast<int>(snapshot - siphon_snapshots);

		if (!led)
			leaders[index] = snapshot_start_process(snapshot, 0);
		if (!led && leaders[index] == nullptr)
		{
			if (strcmp(table->reason, kNoWorker) != 0)
				try_or_log(record_no_worker, snapshot);
			LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
			snapshot->in_use = false;
			LWLockRelease(siphon_shared->lock);
			return Min(wait, kCheckAgainMs);
		}
		strlcpy(last_served, app->name, sizeof(last_served));
	}
	return wait;
}
