/*
 * Making and taking away applications: see application.h.
 */
#include <initializer_list>

#include "application.h"

#include "registry/checkpoint_file.h"
#include "registry/checks.h"
#include "registry/table_list.h"
#include "launcher/open_transactions.h"
#include "ring/ring_file.h"
#include "registry/slot_place.h"
#include "snapshot/snapshot.h"

#include <csignal>

extern "C" {
#include "catalog/pg_authid.h"
}

static constexpr int kStopPatienceMs = 1000;

/*
 * Creates the slot with PostgreSQL's own function, as the superuser that the caller need not be: to be allowed
 * to call siphon's functions is enough.
 */
static void
create_slot(const char *slot, bool failover)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(slot)};
	const char *create = failover
							 ? "SELECT pg_catalog.pg_create_logical_replication_slot($1, 'siphon', failover => true)"
							 : "SELECT pg_catalog.pg_create_logical_replication_slot($1, 'siphon')";
	Oid user;
	int context;

	if (RecoveryInProgress())
		ereport(NOTICE,
				(errmsg("creating replication slot \"%s\" waits for the primary to log its running transactions", slot),
				 errhint("If the primary is idle, run there: SELECT pg_log_standby_snapshot().")));
	wait_for_open_transactions(psprintf("creating replication slot \"%s\"", slot));
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(create, 1, types, values, nullptr, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not create replication slot \"%s\"", slot);
	SPI_finish();
	SetUserIdAndSecContext(user, context);
}

/*
 * Stops the application's decoder and follower, if they run, and waits for their end. They are asked first, and told
 * when they are in the middle of something that keeps them from listening.
 */
static void
stop_workers(const Registry *registry)
{
	TimestampTz asked = GetCurrentTimestamp();
	SharedApplication *app;

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	/* Just after the server's start the launcher may not know of it, and is not to start it from now on. */
	app = shmem_find_or_add_application(registry->application, registry->database);
	if (app)
		app->stop = true;
	LWLockRelease(siphon_shared->lock);
	if (app == nullptr)
		return;

	ConditionVariablePrepareToSleep(&app->changed);
	for (;;)
	{
		pid_t pids[2];
		bool giving_up;

		LWLockAcquire(siphon_shared->lock, LW_SHARED);
		pids[0] = app->decoder_pid;
		pids[1] = app->follower_pid;
		giving_up = app->giving_up;
		for (Latch *latch : {app->decoder_latch, app->follower_latch})
			if (latch)
				SetLatch(latch);
		LWLockRelease(siphon_shared->lock);
		if (pids[0] == 0 && pids[1] == 0 && !giving_up)
			break;
		if (TimestampDifferenceExceeds(asked, GetCurrentTimestamp(), kStopPatienceMs))
			for (pid_t pid : pids)
				if (pid != 0)
					kill(pid, SIGTERM);
		ConditionVariableTimedSleep(&app->changed, 100, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

/* One of another plugin or database under its name is not ours to drop. */
static void
drop_slot(const Registry *registry)
{
	bool exists;

	registry_get_slot_problem(registry, &exists);
	if (exists)
		ReplicationSlotDrop(registry->slot, true);
}

/* Has the launcher look at an application that has no decoder as if it were new. Caller holds siphon_shared->lock. */
static void
restart_if_idle(SharedApplication *app)
{
	app->stop = false;
	if (app->decoder_pid != 0)
		return;
	app->state = AppState::Starting;
	app->reason[0] = app->hint[0] = '\0';
	app->incarnation = ++siphon_shared->incarnations;
}

/* After an error, or when the backend ends: undoes stop_workers(). */
static void
clear_stop(int, Datum application)
{
	SharedApplication *app;

	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app = shmem_find_application(DatumGetCString(application));
	if (app)
		restart_if_idle(app);
	LWLockRelease(siphon_shared->lock);
	wake_launcher();
}

void
application_drop(const Registry *registry)
{
	SharedApplication *app;
	int error;

	PG_ENSURE_ERROR_CLEANUP(clear_stop, CStringGetDatum(registry->application));
	{
		stop_workers(registry);
		snapshot_cancel(registry->application, InvalidOid);
		/* The slot first: it is what keeps WAL, and what a failure here must not leave without a name. */
		drop_slot(registry);
	}
	PG_END_ENSURE_ERROR_CLEANUP(clear_stop, CStringGetDatum(registry->application));
	LWLockAcquire(registry_lock(registry->application), LW_EXCLUSIVE);
	registry_remove(registry->application);
	checkpoint_remove(registry->application);
	slot_place_remove(registry->application);
	LWLockRelease(registry_lock(registry->application));

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app = shmem_find_application(registry->application);
	if (app)
		shmem_remove_application(app);
	LWLockRelease(siphon_shared->lock);
	error = siphon::ring_directory_remove(siphon_ring_directory, registry->application);
	if (error)
	{
		errno = error;
		ereport(WARNING,
				(errcode_for_file_access(), errmsg("could not remove the rings of application \"%s\" in \"%s\": %m",
												   registry->application, siphon_ring_directory)));
	}
}

/* Notes for good whether the application is to run. */
static void
record_stopped(const char *application, bool stopped)
{
	Registry *registry = registry_begin_change(application);

	if (registry == nullptr)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("application \"%s\" does not exist", application)));
	registry->stopped = stopped;
	registry_end_change(registry);
}

void
application_stop(const Registry *registry)
{
	const char *application = registry->application;
	SharedApplication *app;

	record_stopped(application, true);
	PG_ENSURE_ERROR_CLEANUP(clear_stop, CStringGetDatum(application));
	{
		stop_workers(registry);
		snapshot_cancel(application, InvalidOid);
	}
	PG_END_ENSURE_ERROR_CLEANUP(clear_stop, CStringGetDatum(application));
	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	app = shmem_find_application(application);
	LWLockRelease(siphon_shared->lock);
	if (app == nullptr)
		return;
	/* A decoder or follower that the launcher began to start before still comes, and sees one of the two. */
	set_application_state(app, AppState::Stopped, kStoppedReason, application_start_hint(application));
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app->stop = false;
	LWLockRelease(siphon_shared->lock);
}

/* Waits for the new application's decoder; ERROR with what stopped it if it does not come up. */
static void
await_streaming(const char *application)
{
	TimestampTz since = GetCurrentTimestamp();
	SharedApplication *app;
	AppState state;
	char reason[kReasonLength];
	char hint[kReasonLength];

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app = shmem_find_or_add_application(application, MyDatabaseId);
	/* What is there of before, or of an earlier application of the name, whose file was removed, does not count. */
	if (app)
		restart_if_idle(app);
	LWLockRelease(siphon_shared->lock);
	if (app == nullptr)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("siphon.max_applications (%d) are in use", siphon_max_applications),
						errhint("ALTER SYSTEM SET siphon.max_applications = %d, then restart the server.",
								siphon_max_applications + 1)));
	wake_launcher();

	ConditionVariablePrepareToSleep(&app->changed);
	for (;;)
	{
		LWLockAcquire(siphon_shared->lock, LW_SHARED);
		state = app->state;
		strlcpy(reason, app->reason, sizeof(reason));
		strlcpy(hint, app->hint, sizeof(hint));
		LWLockRelease(siphon_shared->lock);
		if (state != AppState::Starting)
			break;
		if (is_launcher_missing(since))
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("siphon's launcher does not run"),
							errhint("ALTER SYSTEM SET max_worker_processes = %d, then restart the server; its log says "
									"more.",
									max_worker_processes + 2)));
		ConditionVariableTimedSleep(&app->changed, 1000, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	if (state != AppState::Streaming)
		ereport(ERROR, (errcode(state == AppState::NoWorker ? ERRCODE_CONFIGURATION_LIMIT_EXCEEDED
															: ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("application \"%s\" could not be started: %s", application, reason),
						hint[0] ? errhint("%s", hint) : errhint("See the server's log, then try again.")));
}

void
application_start(const Registry *registry)
{
	if (registry->stopped)
		record_stopped(registry->application, false);
	await_streaming(registry->application);
}

void
application_create(const char *application, bool failover, bool take_over)
{
	Registry registry = {};

	strlcpy(registry.application, application, sizeof(registry.application));
	registry.database = MyDatabaseId;
	strlcpy(registry.database_name, get_database_name(MyDatabaseId), sizeof(registry.database_name));
	registry_get_slot_name(registry.slot, application);
	registry.version = registry_choose_first_version();
	registry.failover = failover;
	registry_begin_history(&registry, take_over);
	check_transaction();
	check_server(application, registry.slot, false);
	if (failover)
		check_failover(application);
	create_slot(registry.slot, failover);

	PG_TRY();
	{
		LWLockAcquire(registry_lock(application), LW_EXCLUSIVE);
		registry_write(&registry);
		LWLockRelease(registry_lock(application));
		await_streaming(application);
	}
	PG_CATCH();
	{
		LWLockReleaseAll();
		ConditionVariableCancelSleep();
		application_drop(&registry);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* Until its new history begins, the application is given up: so what dies in between leaves no gap that nobody sees. */
static void
record_resync(const char *application)
{
	Registry *registry = registry_begin_change(application);

	if (registry == nullptr)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("application \"%s\" does not exist", application)));
	if (registry->given_up[0] == '\0')
		strlcpy(registry->given_up, "siphon_resync_application() has not come to its end", sizeof(registry->given_up));
	registry_end_change(registry);
}

/*
 * Requests a resync of all tables, but of those that are about to leave. Returns the names of those without rows: what
 * they miss, nothing brings. One that was dropped meanwhile stays listed, as it does otherwise.
 */
static char *
restart_tables(Registry *registry)
{
	StringInfoData gaps;
	ListCell *lc;

	initStringInfo(&gaps);
	table_list_remove_confirmed(registry, PG_UINT64_MAX);
	foreach (lc, registry->tables)
	{
		RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		table_list_request_snapshot(registry, table);
		if (table->rows || get_rel_name(table->relid) == nullptr)
			continue;
		appendStringInfo(&gaps, "%s%s", gaps.len > 0 ? ", " : "",
						 quote_qualified_identifier(table->schema, table->name));
	}
	return gaps.data;
}

void
application_resync(const Registry *old, bool take_over)
{
	const char *application = old->application;
	Registry *registry;
	char *gaps;
	bool exists;

	registry_get_slot_problem(old, &exists);
	check_transaction();
	check_server(application, old->slot, exists);
	PG_ENSURE_ERROR_CLEANUP(clear_stop, CStringGetDatum(application));
	{
		stop_workers(old);
		record_resync(application);
		snapshot_cancel(application, InvalidOid);
		drop_slot(old);
		create_slot(old->slot, old->failover);
		/* Of the next history it would count for nothing; but it may be what can't be read. */
		checkpoint_remove(application);
		slot_place_remove(application);
		registry = registry_begin_change(application);
		if (registry == nullptr)
		{
			drop_slot(old);
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
							errmsg("the registry file of application \"%s\" was removed", application),
							errhint("Add its tables again with siphon_add_table().")));
		}
		registry_begin_history(registry, take_over);
		registry->stopped = false;
		gaps = restart_tables(registry);
		registry_end_change(registry);
	}
	PG_END_ENSURE_ERROR_CLEANUP(clear_stop, CStringGetDatum(application));
	if (gaps[0])
		ereport(WARNING,
				(errmsg("changes are missing of tables that were added without their rows: %s", gaps),
				 errdetail("What was committed before now and is not in the stream yet will not be. Their next "
						   "generation says so to consumers."),
				 errhint("Run SELECT siphon_resync_table('schema.table', '%s') for each of them to take a new snapshot.", application)));
	await_streaming(application);
}
