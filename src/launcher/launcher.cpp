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
struct Charge
{
	SharedApplication *app;
	uint64 incarnation;
	BackgroundWorkerHandle *handle; /* of the last decoder, or NULL */
	TimestampTz started;
	TimestampTz next_start;
	int failures;
	bool complained;      /* of a damaged file or a missing worker, so as to log it once */
	uint64 registry_seen; /* version in which snapshots were looked for last, */
	bool snapshots_open;  /* and whether there were any to look after */
	Follower follower;
	WalRetention retention;
	bool file_seen; /* on a standby, and that it is */
	bool failover;  /* an application with failover */
};

static Charge *charges;
static MemoryContext scan_context;
static constexpr long kScanIntervalMs = 10 * 1000;
static constexpr long kPromotionWaitMs = 1000; /* on a standby: a promotion is noticed after this long */

/* The postmaster tells with SIGUSR1 that a decoder ended; PostgreSQL ignores it in workers without a database. */
static void
wake(SIGNAL_ARGS)
{
	SetLatch(MyLatch);
}

static void
launcher_exit(int, Datum)
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
decoder_alive(Charge *charge, TimestampTz now)
{
	long delay;

	if (charge->handle == nullptr)
		return false;
	if (bgworker_is_running(charge->handle))
		return true;
	pfree(charge->handle);
	charge->handle = nullptr;

	if (TimestampDifferenceExceeds(charge->started, now, siphon_max_restart_delay_s * 1000))
		charge->failures = 0;
	charge->failures++;
	delay = 1000L << Min(charge->failures - 1, 16);
	delay = Min(delay, siphon_max_restart_delay_s * 1000L);
	charge->next_start = TimestampTzPlusMilliseconds(now, delay);
	return false;
}

/* Sets the state, which is the decoder's own while one runs, and logs it, once for each time that it begins. */
static void
complain(Charge *charge, AppState state, const char *reason, const char *hint)
{
	if (charge->handle == nullptr)
		set_application_state(charge->app, state, reason, hint);
	if (charge->complained)
		return;
	charge->complained = true;
	ereport(LOG, (errmsg("siphon: application \"%s\": %s", charge->app->name, reason), hint ? errhint("%s", hint) : 0));
}

/* Forgets an application whose file is gone. */
static void
forget(SharedApplication *app)
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
read_or_complain(Charge *charge, const char *name)
{
	const Registry *volatile registry = nullptr;
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		registry = registry_look(name);
		if (registry == nullptr)
			forget(charge->app);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		complain(charge, AppState::Failed, error->message, error->hint);
	}
	PG_END_TRY();
	return registry;
}

/*
 * Looks after what there is beside a decoder that runs. Reads the application's file only where something may have to be
 * done.
 */
static long
look_after_streaming(Charge *charge, const char *name)
{
	uint64 version = pg_atomic_read_u64(&charge->app->registry_wanted);
	long wait = kScanIntervalMs;

	/* Min() is a macro, and asks twice. */
	if (charge->snapshots_open || charge->registry_seen != version)
	{
		const Registry *registry = read_or_complain(charge, name);
		long snapshots;

		if (registry == nullptr)
			return kScanIntervalMs;
		charge->complained = false;
		charge->registry_seen = version;
		charge->follower.wanted = registry->publication[0] != '\0';
		snapshots = snapshots_look_after(charge->app, registry, &charge->snapshots_open);
		wait = Min(wait, snapshots);
	}

	long follower = publication_follower_manage(&charge->follower, charge->app);

	return Min(wait, follower);
}

/*
 * True if the application rests because the primary publishes it; that ends when this server becomes the primary.
 * Nobody changes its file meanwhile.
 */
static bool
at_rest(Charge *charge, const char *name)
{
	char slot[NAMEDATALEN];
	const char *reason;
	const char *hint;

	if (!RecoveryInProgress())
		return false;
	if (!charge->file_seen)
	{
		const Registry *registry = read_or_complain(charge, name);

		if (registry == nullptr)
			return false;
		charge->file_seen = true;
		charge->failover = registry->failover;
	}
	registry_slot_name(slot, name);
	if (!registry_mirror_is_standby(slot, charge->failover, &reason, &hint))
		return false;
	complain(charge, AppState::Standby, reason, hint);
	return true;
}

/*
 * True if the application was given up, or can't be looked after; then no decoder is to run. *wait becomes smaller if
 * it wants to be looked at again before.
 */
static bool
given_up(Charge *charge, const char *name, long *wait)
{
	bool ended;
	long again;

	if (charge->retention.slot[0] == '\0')
	{
		const Registry *registry = read_or_complain(charge, name);

		if (registry == nullptr)
			return true;
		wal_retention_init(&charge->retention, registry);
	}
	again = wal_retention_manage(&charge->retention, charge->app, charge->incarnation, &ended);
	*wait = Min(*wait, again);
	return ended;
}

/* Looks after one application; returns when it wants to be looked at again, in milliseconds. */
static long
look_after(Charge *charge, const char *name)
{
	TimestampTz now = GetCurrentTimestamp();
	SharedApplication *app = charge->app;
	const Registry *registry;
	bool running;
	bool skip;

	if (decoder_alive(charge, now))
		return look_after_streaming(charge, name);
	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	running = app->decoder_pid != 0 && !app->stop;
	/* A failed application waits for somebody to act; a damaged file is looked at again, as that may be mended. */
	skip = app->stop || app->state == AppState::Stopped || (app->state == AppState::Failed && !charge->complained);
	LWLockRelease(siphon_shared->lock);
	/* It was started by an earlier launcher, or before somebody changed his mind. */
	if (running)
		return look_after_streaming(charge, name);
	if (skip)
		return kScanIntervalMs;
	if (charge->next_start > now)
		return TimestampDifferenceMilliseconds(now, charge->next_start) + 1;

	registry = read_or_complain(charge, name);
	if (registry == nullptr)
		return kScanIntervalMs;
	if (registry->stopped)
	{
		complain(charge, AppState::Stopped, kStoppedReason, application_start_hint(name));
		return kScanIntervalMs;
	}
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app->database = registry->database;
	LWLockRelease(siphon_shared->lock);
	charge->handle = bgworker_start("decoder", name, static_cast<int>(app - siphon_shared->apps));
	if (charge->handle == nullptr)
	{
		complain(
			charge, AppState::NoWorker, "no background worker is free for its decoder",
			psprintf("ALTER SYSTEM SET max_worker_processes = %d, then restart the server.", max_worker_processes + 1));
		charge->next_start = TimestampTzPlusMilliseconds(now, siphon_max_restart_delay_s * 1000L);
		return kScanIntervalMs;
	}
	if (charge->failures > 0)
		app_metric_add(charge->app, AppMetric::Restarts, 1);
	charge->started = now;
	charge->complained = false;
	return kScanIntervalMs;
}

static Charge *
charge_of(const char *name)
{
	SharedApplication *app;
	Charge *charge;

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app = shmem_find_or_add_application(name, InvalidOid);
	LWLockRelease(siphon_shared->lock);
	if (app == nullptr)
		return nullptr;
	charge = &charges[app - siphon_shared->apps];
	if (charge->incarnation != app->incarnation)
	{
		if (charge->handle)
			pfree(charge->handle);
		if (charge->follower.handle)
			pfree(charge->follower.handle);
		memset(charge, 0, sizeof(*charge));
		charge->app = app;
		charge->incarnation = app->incarnation;
	}
	return charge;
}

static long
scan(void)
{
	static bool complained = false;
	long wait = kScanIntervalMs;
	List *names = snapshots_take_turns(registry_list());
	ListCell *lc;

	snapshots_conclude();
	foreach (lc, names)
	{
		const char *name = static_cast<char *>(lfirst(lc));
		Charge *charge = charge_of(name);

		if (charge && at_rest(charge, name))
			wait = Min(wait, kPromotionWaitMs);
		else if (charge && given_up(charge, name, &wait))
			continue;
		else if (charge)
		{
			long again = look_after(charge, name);

			wait = Min(wait, again);
		}
		else if (!complained)
		{
			complained = true;
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
	pqsignal(SIGUSR1, wake);
	BackgroundWorkerUnblockSignals();

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	siphon_shared->launcher_latch = MyLatch;
	LWLockRelease(siphon_shared->lock);
	before_shmem_exit(launcher_exit, 0);
	charges = static_cast<Charge *>(
		MemoryContextAllocZero(TopMemoryContext, sizeof(Charge) * static_cast<size_t>(siphon_max_applications)));
	scan_context = AllocSetContextCreate(TopMemoryContext, "siphon launcher scan", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(scan_context);
		long wait = scan();

		MemoryContextSwitchTo(old);
		MemoryContextReset(scan_context);
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
