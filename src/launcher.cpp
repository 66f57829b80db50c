/*
 * The launcher: one background worker that keeps a decoder running for each application in the registry, on a
 * primary and on a hot standby, and starts it again after failures, later each time.
 */
#include "snapshot.h"

/* What the launcher remembers of an application, beyond what shared memory says. */
struct Charge
{
	App *app;
	uint64 incarnation;
	BackgroundWorkerHandle *handle; /* of the last decoder, or NULL */
	TimestampTz started;
	TimestampTz next_start;
	int failures;
	bool complained; /* of a damaged file or a missing worker, so as to log it once */
};

static Charge *charges;
static MemoryContext scan_context;
static constexpr long kScanIntervalMs = 10 * 1000;

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
	LWLockRelease(siphon_shared->lock);
}

static bool
register_decoder(Charge *charge)
{
	BackgroundWorker worker;
	int index = static_cast<int>(charge->app - siphon_shared->apps);
	MemoryContext old;
	bool registered;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(index);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "siphon", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "siphon_decoder_main", sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "siphon decoder %s", charge->app->name);
	strlcpy(worker.bgw_type, "siphon decoder", sizeof(worker.bgw_type));
	if (charge->handle)
		pfree(charge->handle);
	charge->handle = nullptr;
	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &charge->handle);
	MemoryContextSwitchTo(old);
	return registered;
}

/* True while the last decoder runs or is about to; counts its end as a failure, once. */
static bool
decoder_alive(Charge *charge, TimestampTz now)
{
	pid_t pid;
	BgwHandleStatus status;
	long delay;

	if (charge->handle == nullptr)
		return false;
	status = GetBackgroundWorkerPid(charge->handle, &pid);
	if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
		return true;
	pfree(charge->handle);
	charge->handle = nullptr;

	if (TimestampDifferenceExceeds(charge->started, now, siphon_max_restart_delay_s * 1000))
		charge->failures = 0;
	charge->failures++;
	delay = 1000L << Min(charge->failures - 1, 16);
	delay = Min(delay, siphon_max_restart_delay_s * 1000L);
	charge->next_start = TimestampTzPlusMilliseconds(now, delay);
	figure_add(charge->app, Figure::Restarts, 1);
	return false;
}

/* Sets the state and logs it, once for each time that it begins. */
static void
complain(Charge *charge, AppState state, const char *reason, const char *hint)
{
	shared_set_state(charge->app, state, reason, hint);
	if (charge->complained)
		return;
	charge->complained = true;
	ereport(LOG, (errmsg("siphon: application \"%s\": %s", charge->app->name, reason), hint ? errhint("%s", hint) : 0));
}

/* Forgets an application whose file is gone. */
static void
forget(App *app)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	if (app->decoder_pid == 0)
		shared_forget(app);
	LWLockRelease(siphon_shared->lock);
}

/*
 * Reads an application's file. NULL if there is nothing to start: a damaged file puts the application into the state
 * "failed", and one that was removed meanwhile ends it.
 */
static Registry *
read_or_complain(Charge *charge, const char *name)
{
	Registry *volatile registry = nullptr;
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		registry = registry_read(name);
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

/* Looks after one application; returns when it wants to be looked at again, in milliseconds. */
static long
look_after(Charge *charge, const char *name)
{
	TimestampTz now = GetCurrentTimestamp();
	App *app = charge->app;
	Registry *registry;
	bool skip;

	if (decoder_alive(charge, now))
	{
		registry = read_or_complain(charge, name);
		return registry ? Min(kScanIntervalMs, snapshots_look_after(app, registry)) : kScanIntervalMs;
	}
	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	/* A failed application waits for somebody to act; a damaged file is looked at again, as that may be mended. */
	skip = app->stop || app->decoder_pid != 0 || (app->state == AppState::Failed && !charge->complained);
	LWLockRelease(siphon_shared->lock);
	if (skip)
		return kScanIntervalMs;
	if (charge->next_start > now)
		return TimestampDifferenceMilliseconds(now, charge->next_start) + 1;

	registry = read_or_complain(charge, name);
	if (registry == nullptr)
		return kScanIntervalMs;
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app->database = registry->database;
	LWLockRelease(siphon_shared->lock);
	if (!register_decoder(charge))
	{
		complain(
			charge, AppState::NoWorker, "no background worker is free for its decoder",
			psprintf("ALTER SYSTEM SET max_worker_processes = %d, then restart the server.", max_worker_processes + 1));
		charge->next_start = TimestampTzPlusMilliseconds(now, siphon_max_restart_delay_s * 1000L);
		return kScanIntervalMs;
	}
	charge->started = now;
	charge->complained = false;
	return kScanIntervalMs;
}

static Charge *
charge_of(const char *name)
{
	App *app;
	Charge *charge;

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app = shared_find_or_add(name, InvalidOid);
	LWLockRelease(siphon_shared->lock);
	if (app == nullptr)
		return nullptr;
	charge = &charges[app - siphon_shared->apps];
	if (charge->incarnation != app->incarnation)
	{
		if (charge->handle)
			pfree(charge->handle);
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
	List *names = registry_list();
	ListCell *lc;

	snapshots_conclude();
	foreach (lc, names)
	{
		const char *name = static_cast<char *>(lfirst(lc));
		Charge *charge = charge_of(name);

		if (charge)
			wait = Min(wait, look_after(charge, name));
		else if (!complained)
		{
			complained = true;
			ereport(LOG, (errmsg("siphon: application \"%s\" is not started: siphon.max_applications (%d) are in use",
								 name, siphon_max_applications),
						  errhint("ALTER SYSTEM SET siphon.max_applications, then restart the server.")));
		}
	}
	return wait;
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
