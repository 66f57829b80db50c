/*
 * The launcher: one background worker that keeps a decoder running for each application in the registry, on a
 * primary and on a hot standby, and starts it again after failures, later each time.
 */
#include "registry/notify.h"
#include "publication_follower.h"
#include "left_slots.h"
#include "decode/registry_mirror.h"
#include "wal_retention.h"
#include "server/bgworker.h"
#include "snapshot/snapshot.h"

/* What the launcher remembers of an application, beyond what shared memory says. */
struct ManagedApplication
{
	SharedApplication *app;
	uint64 incarnation;
	BackgroundWorkerHandle *handle; /* of the last decoder, or NULL */
	TimestampTz started;
	TimestampTz next_start;
	int failures;
	bool state_logged;    /* of a damaged file or a missing worker, so as to log it once */
	uint64 registry_seen; /* registry version for which snapshots were managed last, */
	bool snapshots_open;  /* and whether any ran or waited then */
	Follower follower;
	WalRetention retention;
	bool file_seen; /* on a standby, and that it is */
	bool failover;  /* an application with failover */
};

static ManagedApplication *managed_applications;
static MemoryContext manage_context;
static constexpr long kManageIntervalMs = 10 * 1000;
static constexpr long kPromotionWaitMs = 1000; /* on a standby: a promotion is noticed after this long */

/* The postmaster sends SIGUSR1 when a decoder ended; PostgreSQL ignores it in workers without a database. */
static void
handle_sigusr1(SIGNAL_ARGS)
{
	SetLatch(MyLatch);
}

static void
on_launcher_exit(int, Datum)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	siphon_shared->launcher_latch = nullptr;
	/* The registry says what was begun; a backend that waits for it need not. */
	for (int i = 0; i < siphon_max_applications; i++)
		siphon_shared->apps[i].giving_up = false;
	LWLockRelease(siphon_shared->lock);
}

/* True while the last decoder runs or is about to; counts its end as a failure, once. */
static bool
is_decoder_running(ManagedApplication *managed, TimestampTz now)
{
	long delay;

	if (managed->handle == nullptr)
		return false;
	if (bgworker_is_running(managed->handle))
		return true;
	pfree(managed->handle);
	managed->handle = nullptr;

	if (TimestampDifferenceExceeds(managed->started, now, siphon_max_restart_delay_s * 1000))
		managed->failures = 0;
	managed->failures++;
	delay = 1000L << Min(managed->failures - 1, 16);
	delay = Min(delay, siphon_max_restart_delay_s * 1000L);
	managed->next_start = TimestampTzPlusMilliseconds(now, delay);
	return false;
}

/* Sets the state, which is the decoder's own while one runs, and logs it, once for each time that it begins. */
static void
set_state_and_log_once(ManagedApplication *managed, AppState state, const char *reason, const char *hint)
{
	if (managed->handle == nullptr)
		set_application_state(managed->app, state, reason, hint);
	if (managed->state_logged)
		return;
	managed->state_logged = true;
	ereport(LOG,
			(errmsg("siphon: application \"%s\": %s", managed->app->name, reason), hint ? errhint("%s", hint) : 0));
}

/* Removes an application whose file is gone from shared memory. */
static void
forget_application(SharedApplication *app)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	if (app->decoder_pid == 0)
		shmem_remove_application(app);
	LWLockRelease(siphon_shared->lock);
}

/*
 * Reads an application's file. NULL if there is nothing to start: a damaged file puts the application into the state
 * "failed", and one that was removed meanwhile ends it.
 */
static const Registry *
read_registry_or_log(ManagedApplication *managed, const char *name)
{
	const Registry *volatile registry = nullptr;
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		registry = registry_get(name);
		if (registry == nullptr)
			forget_application(managed->app);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		set_state_and_log_once(managed, AppState::Failed, error->message, error->hint);
	}
	PG_END_TRY();
	return registry;
}

/*
 * Manages an application whose decoder runs: its snapshots and its follower. Reads the application's file only where
 * something may have to be done. Returns when to be called again, in ms.
 */
static long
manage_streaming_application(ManagedApplication *managed, const char *name)
{
	uint64 version = pg_atomic_read_u64(&managed->app->registry_wanted);
	long wait = kManageIntervalMs;

	/* Min() is a macro, and asks twice. */
	if (managed->snapshots_open || managed->registry_seen != version)
	{
		const Registry *registry = read_registry_or_log(managed, name);
		long snapshots;

		if (registry == nullptr)
			return kManageIntervalMs;
		managed->state_logged = false;
		managed->registry_seen = version;
		managed->follower.wanted = registry->publication[0] != '\0';
		snapshots = snapshots_manage(managed->app, registry, &managed->snapshots_open);
		wait = Min(wait, snapshots);
	}

	long follower = publication_follower_manage(&managed->follower, managed->app);

	return Min(wait, follower);
}

/*
 * Returns true if this server is a standby whose primary publishes the application, until it is promoted. Nobody
 * changes the application's file meanwhile.
 */
static bool
is_awaiting_promotion(ManagedApplication *managed, const char *name)
{
	char slot[NAMEDATALEN];
	const char *reason;
	const char *hint;

	if (!RecoveryInProgress())
		return false;
	if (!managed->file_seen)
	{
		const Registry *registry = read_registry_or_log(managed, name);

		if (registry == nullptr)
			return false;
		managed->file_seen = true;
		managed->failover = registry->failover;
	}
	registry_get_slot_name(slot, name);
	if (!registry_mirror_is_standby(slot, managed->failover, &reason, &hint))
		return false;
	set_state_and_log_once(managed, AppState::Standby, reason, hint);
	return true;
}

/*
 * Gives the application up where its slot retains too much WAL. Returns true if no decoder is to run: it is given up,
 * or its file can't be read. *wait becomes smaller if this is to be called again before.
 */
static bool
enforce_wal_limit(ManagedApplication *managed, const char *name, long *wait)
{
	bool ended;
	long again;

	if (managed->retention.slot[0] == '\0')
	{
		const Registry *registry = read_registry_or_log(managed, name);

		if (registry == nullptr)
			return true;
		wal_retention_init(&managed->retention, registry);
	}
	again = wal_retention_manage(&managed->retention, managed->app, managed->incarnation, &ended);
	*wait = Min(*wait, again);
	return ended;
}

/* Manages one application; returns when to be called again, in milliseconds. */
static long
manage_application(ManagedApplication *managed, const char *name)
{
	TimestampTz now = GetCurrentTimestamp();
	SharedApplication *app = managed->app;
	const Registry *registry;
	bool running;
	bool skip;

	if (is_decoder_running(managed, now))
		return manage_streaming_application(managed, name);
	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	running = app->decoder_pid != 0 && !app->stop;
	/* A failed application waits for an operator; a damaged file is read again, as that may be fixed. */
	skip = app->stop || app->state == AppState::Stopped || (app->state == AppState::Failed && !managed->state_logged);
	LWLockRelease(siphon_shared->lock);
	/* It was started by an earlier launcher, or an operator stopped it and started it again. */
	if (running)
		return manage_streaming_application(managed, name);
	if (skip)
		return kManageIntervalMs;
	if (managed->next_start > now)
		return TimestampDifferenceMilliseconds(now, managed->next_start) + 1;

	registry = read_registry_or_log(managed, name);
	if (registry == nullptr)
		return kManageIntervalMs;
	if (registry->stopped)
	{
		set_state_and_log_once(managed, AppState::Stopped, kStoppedReason, application_start_hint(name));
		return kManageIntervalMs;
	}
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app->database = registry->database;
	LWLockRelease(siphon_shared->lock);
	managed->handle = bgworker_start("decoder", name, static_cast<int>(app - siphon_shared->apps));
	if (managed->handle == nullptr)
	{
		set_state_and_log_once(
			managed, AppState::NoWorker, "no background worker is free for its decoder",
			psprintf("ALTER SYSTEM SET max_worker_processes = %d, then restart the server.", max_worker_processes + 1));
		managed->next_start = TimestampTzPlusMilliseconds(now, siphon_max_restart_delay_s * 1000L);
		return kManageIntervalMs;
	}
	if (managed->failures > 0)
		app_metric_add(managed->app, AppMetric::Restarts, 1);
	managed->started = now;
	managed->state_logged = false;
	return kManageIntervalMs;
}

static ManagedApplication *
get_managed_application(const char *name)
{
	SharedApplication *app;
	ManagedApplication *managed;

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app = shmem_find_or_add_application(name, InvalidOid);
	LWLockRelease(siphon_shared->lock);
	if (app == nullptr)
		return nullptr;
	managed = &managed_applications[app - siphon_shared->apps];
	if (managed->incarnation != app->incarnation)
	{
		if (managed->handle)
			pfree(managed->handle);
		if (managed->follower.handle)
			pfree(managed->follower.handle);
		memset(managed, 0, sizeof(*managed));
		managed->app = app;
		managed->incarnation = app->incarnation;
	}
	return managed;
}

static long
manage_applications(void)
{
	static bool limit_logged = false;
	long wait = kManageIntervalMs;
	List *names = snapshots_order_by_turn(registry_list_applications());
	ListCell *lc;

	snapshots_reap();
	foreach (lc, names)
	{
		const char *name = static_cast<char *>(lfirst(lc));
		ManagedApplication *managed = get_managed_application(name);

		if (managed && is_awaiting_promotion(managed, name))
			wait = Min(wait, kPromotionWaitMs);
		else if (managed && enforce_wal_limit(managed, name, &wait))
			continue;
		else if (managed)
		{
			long again = manage_application(managed, name);

			wait = Min(wait, again);
		}
		else if (!limit_logged)
		{
			limit_logged = true;
			ereport(LOG, (errmsg("siphon: application \"%s\" is not started: siphon.max_applications (%d) are in use",
								 name, siphon_max_applications),
						  errhint("ALTER SYSTEM SET siphon.max_applications, then restart the server.")));
		}
	}
	return log_left_slots(names, registry_mirror_restore_synced(names, wait));
}

void
siphon_launcher_main(Datum)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGUSR1, handle_sigusr1);
	BackgroundWorkerUnblockSignals();

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	siphon_shared->launcher_latch = MyLatch;
	LWLockRelease(siphon_shared->lock);
	before_shmem_exit(on_launcher_exit, 0);
	managed_applications = static_cast<ManagedApplication *>(MemoryContextAllocZero(
		TopMemoryContext, sizeof(ManagedApplication) * static_cast<size_t>(siphon_max_applications)));
	manage_context = AllocSetContextCreate(TopMemoryContext, "siphon launcher scan", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(manage_context);
		long wait = manage_applications();

		MemoryContextSwitchTo(old);
		MemoryContextReset(manage_context);
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		/* Not 0: then the postmaster would never start it again, should this not be a shutdown. */
		if (ShutdownRequestPending)
			proc_exit(1);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
