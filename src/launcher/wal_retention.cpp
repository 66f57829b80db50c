/*
 * WAL that slots keep: see wal_retention.h.
 */
#include "wal_retention.h"

#include "snapshot/snapshot.h"

#include <csignal>

extern "C" {
#include "access/xlog_internal.h"
}

static constexpr long kCheckIntervalMs = 1000;
static constexpr long kIdleIntervalMs = 10 * 1000;
static constexpr long kEndingIntervalMs = 100;
static constexpr int kEndPatienceMs = 1000;

void
wal_retention_init(WalRetention *retention, const Registry *registry)
{
	memset(retention, 0, sizeof(*retention));
	strlcpy(retention->slot, registry->slot, sizeof(retention->slot));
	retention->database = registry->database;
	retention->given_up = registry->given_up[0] != '\0';
	strlcpy(retention->reason, registry->given_up, sizeof(retention->reason));
}

static void
warn_if_above_limit(WalRetention *retention, const SharedApplication *app, const RetainedWal *retained)
{
	if (!retention->warned && retained_wal_exceeds(retained, siphon_warn_retained_wal_mb))
	{
		retention->warned = true;
		ereport(LOG, (errmsg("siphon: application \"%s\": %s", app->name, retained_wal_warning(retained)),
					  errhint("%s", kRetentionHint)));
	}
	/* Not at every turn of an application that is about there. */
	else if (retention->warned && retained->bytes <= static_cast<uint64>(siphon_warn_retained_wal_mb) * 1024 * 768)
	{
		retention->warned = false;
		ereport(LOG, (errmsg("siphon: application \"%s\": its slot keeps " UINT64_FORMAT
							 " bytes of WAL, fewer than siphon.warn_retained_wal (%s) again",
							 app->name, retained->bytes,
							 GetConfigOptionByName("siphon.warn_retained_wal", nullptr, false))));
	}
}

/* Warns if it is time; true if it is time to give up, and then why. */
static bool
check_limits(WalRetention *retention, const SharedApplication *app)
{
	RetainedWal retained;
	TimestampTz now = GetCurrentTimestamp();

	if (siphon_warn_retained_wal_mb == 0)
		retention->warned = false;
	if (siphon_max_retained_wal_mb == 0 && siphon_warn_retained_wal_mb == 0)
		retention->confirmed = InvalidXLogRecPtr;
	else if (read_retained_wal(retention->slot, retention->database, &retained))
	{
		if (retention->confirmed != retained.confirmed)
		{
			retention->confirmed_moved = retention->confirmed != InvalidXLogRecPtr;
			retention->confirmed = retained.confirmed;
			retention->confirmed_at = now;
		}
		if (siphon_warn_retained_wal_mb > 0)
			warn_if_above_limit(retention, app, &retained);
		if (!retained_wal_exceeds(&retained, siphon_max_retained_wal_mb))
			return false;
		snprintf(retention->reason, sizeof(retention->reason),
				 "its slot kept " UINT64_FORMAT " bytes of WAL, more than siphon.max_retained_wal (%s): from %X/%X on, "
				 "acknowledged up to %X/%X, where it has stood since%s %s",
				 retained.bytes, GetConfigOptionByName("siphon.max_retained_wal", nullptr, false),
				 LSN_FORMAT_ARGS(retained.restart), LSN_FORMAT_ARGS(retained.confirmed),
				 retention->confirmed_moved ? "" : " before", timestamptz_to_str(retention->confirmed_at));
		return true;
	}
	return false;
}

/* Keeps others from the application. False: a backend drops or resynchronizes it, or it is another one by now. */
static bool
claim_application(SharedApplication *app, uint64 incarnation)
{
	bool ours;

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	ours = app->in_use && app->incarnation == incarnation && (app->giving_up || !app->stop);
	if (ours)
		app->giving_up = true;
	LWLockRelease(siphon_shared->lock);
	return ours;
}

static void
release_application(SharedApplication *app)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app->giving_up = false;
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&app->changed);
}

static void
record_given_up(const WalRetention *retention, const SharedApplication *app)
{
	Registry *registry = registry_begin_change(app->name);

	if (registry == nullptr)
		return;
	strlcpy(registry->given_up, retention->reason, sizeof(registry->given_up));
	registry_end_change(registry);
}

static void
drop_slot(const WalRetention *retention, const SharedApplication *)
{
	RetainedWal retained;

	if (read_retained_wal(retention->slot, retention->database, &retained))
		ReplicationSlotDrop(retention->slot, true);
}

/* False, with the error in the log, if it can't be done. The launcher goes on: it has other applications, too. */
static bool
try_or_log(void (*act)(const WalRetention *, const SharedApplication *), WalRetention *retention,
		   const SharedApplication *app)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool well = true;

	PG_TRY();
	{
		act(retention, app);
	}
	PG_CATCH();
	{
		well = false;
		MemoryContextSwitchTo(context);
		LWLockReleaseAll();
		ConditionVariableCancelSleep();
		if (MyReplicationSlot)
			ReplicationSlotRelease();
		if (!retention->failure_logged)
			EmitErrorReport();
		retention->failure_logged = true;
		FlushErrorState();
	}
	PG_END_TRY();
	return well;
}

/* Asks the decoder and the snapshots to end. True: none runs. */
static bool
have_workers_ended(const WalRetention *retention, SharedApplication *app)
{
	pid_t pid;

	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	pid = app->decoder_pid;
	if (app->decoder_latch)
		SetLatch(app->decoder_latch);
	LWLockRelease(siphon_shared->lock);
	if (pid != 0 && TimestampDifferenceExceeds(retention->asked_at, GetCurrentTimestamp(), kEndPatienceMs))
		kill(pid, SIGTERM);
	return snapshot_request_cancel(app->name, InvalidOid, retention->asked_at) == nullptr && pid == 0;
}

long
wal_retention_manage(WalRetention *retention, SharedApplication *app, uint64 incarnation, bool *given_up)
{
	bool beyond = !retention->given_up && check_limits(retention, app);

	*given_up = retention->given_up || beyond;
	/* It was claimed, could not be noted, and is checked again. */
	if (!*given_up && app->giving_up)
		release_application(app);
	if (!*given_up)
		return siphon_max_retained_wal_mb > 0 || siphon_warn_retained_wal_mb > 0 ? kCheckIntervalMs : kIdleIntervalMs;
	if (retention->done)
		return kIdleIntervalMs;
	if (!claim_application(app, incarnation))
		return kCheckIntervalMs;
	if (beyond)
	{
		ereport(LOG, (errmsg("siphon: application \"%s\" is given up: %s", app->name, retention->reason),
					  errhint("%s", resync_hint(app->name))));
		/* If it can't be noted, as when the disk is full, the slot must go all the more: that it is missing is seen. */
		try_or_log(record_given_up, retention, app);
		retention->given_up = true;
		retention->failure_logged = false;
	}
	if (retention->asked_at == 0)
		retention->asked_at = GetCurrentTimestamp();
	if (!have_workers_ended(retention, app))
		return kEndingIntervalMs;
	if (!try_or_log(drop_slot, retention, app))
	{
		release_application(app);
		return kCheckIntervalMs;
	}
	set_application_state(app, AppState::GivenUp, retention->reason, resync_hint(app->name));
	retention->done = true;
	release_application(app);
	return kIdleIntervalMs;
}
