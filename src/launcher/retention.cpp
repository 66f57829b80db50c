/*
 * WAL that slots keep: see retention.h.
 */
#include "retention.h"

#include "snapshot/snapshot.h"

#include <csignal>

extern "C" {
#include "access/xlog_internal.h"
}

static constexpr long kLookIntervalMs = 1000;
static constexpr long kIdleIntervalMs = 10 * 1000;
static constexpr long kEndingIntervalMs = 100;
static constexpr int kEndPatienceMs = 1000;

void
retention_init(Retention *retention, const Registry *registry)
{
	memset(retention, 0, sizeof(*retention));
	strlcpy(retention->slot, registry->slot, sizeof(retention->slot));
	retention->database = registry->database;
	retention->given_up = registry->given_up[0] != '\0';
	strlcpy(retention->reason, registry->given_up, sizeof(retention->reason));
}

static void
warn(Retention *retention, const SharedApplication *app, const Retained *retained)
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
							 app->name, retained->bytes, GetConfigOptionByName("siphon.warn_retained_wal", nullptr, false))));
	}
}

/* Warns if it is time; true if it is time to give up, and then why. */
static bool
look(Retention *retention, const SharedApplication *app)
{
	Retained retained;
	TimestampTz now = GetCurrentTimestamp();

	if (siphon_warn_retained_wal_mb == 0)
		retention->warned = false;
	if (siphon_max_retained_wal_mb == 0 && siphon_warn_retained_wal_mb == 0)
		retention->confirmed = InvalidXLogRecPtr;
	else if (retained_wal(retention->slot, retention->database, &retained))
	{
		if (retention->confirmed != retained.confirmed)
		{
			retention->confirmed_moved = retention->confirmed != InvalidXLogRecPtr;
			retention->confirmed = retained.confirmed;
			retention->confirmed_at = now;
		}
		if (siphon_warn_retained_wal_mb > 0)
			warn(retention, app, &retained);
		if (!retained_wal_exceeds(&retained, siphon_max_retained_wal_mb))
			return false;
		snprintf(retention->reason, sizeof(retention->reason),
				 "its slot kept " UINT64_FORMAT " bytes of WAL, more than siphon.max_retained_wal (%s): from %X/%X on, "
				 "acknowledged up to %X/%X, where it has stood since%s %s",
				 retained.bytes, GetConfigOptionByName("siphon.max_retained_wal", nullptr, false), LSN_FORMAT_ARGS(retained.restart),
				 LSN_FORMAT_ARGS(retained.confirmed), retention->confirmed_moved ? "" : " before",
				 timestamptz_to_str(retention->confirmed_at));
		return true;
	}
	return false;
}

/* Keeps others from the application. False: a backend drops or resynchronizes it, or it is another one by now. */
static bool
claim(SharedApplication *app, uint64 incarnation)
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
release(SharedApplication *app)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app->giving_up = false;
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&app->changed);
}

static void
note(const Retention *retention, const SharedApplication *app)
{
	Registry *registry = registry_begin_change(app->name);

	if (registry == nullptr)
		return;
	strlcpy(registry->given_up, retention->reason, sizeof(registry->given_up));
	registry_end_change(registry);
}

static void
drop_slot(const Retention *retention, const SharedApplication *)
{
	Retained retained;

	if (retained_wal(retention->slot, retention->database, &retained))
		ReplicationSlotDrop(retention->slot, true);
}

/* False, with the error in the log, if it can't be done. The launcher goes on: it has other applications, too. */
static bool
try_to(void (*act)(const Retention *, const SharedApplication *), Retention *retention, const SharedApplication *app)
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
		if (!retention->complained)
			EmitErrorReport();
		retention->complained = true;
		FlushErrorState();
	}
	PG_END_TRY();
	return well;
}

/* Asks the decoder and the snapshots to end. True: none runs. */
static bool
all_ended(const Retention *retention, SharedApplication *app)
{
	pid_t pid;

	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	pid = app->decoder_pid;
	if (app->decoder_latch)
		SetLatch(app->decoder_latch);
	LWLockRelease(siphon_shared->lock);
	if (pid != 0 && TimestampDifferenceExceeds(retention->asked, GetCurrentTimestamp(), kEndPatienceMs))
		kill(pid, SIGTERM);
	return snapshot_ask_to_end(app->name, InvalidOid, retention->asked) == nullptr && pid == 0;
}

long
retention_look_after(Retention *retention, SharedApplication *app, uint64 incarnation, bool *given_up)
{
	bool beyond = !retention->given_up && look(retention, app);

	*given_up = retention->given_up || beyond;
	/* It was claimed, could not be noted, and is looked at anew. */
	if (!*given_up && app->giving_up)
		release(app);
	if (!*given_up)
		return siphon_max_retained_wal_mb > 0 || siphon_warn_retained_wal_mb > 0 ? kLookIntervalMs : kIdleIntervalMs;
	if (retention->done)
		return kIdleIntervalMs;
	if (!claim(app, incarnation))
		return kLookIntervalMs;
	if (beyond)
	{
		ereport(LOG, (errmsg("siphon: application \"%s\" is given up: %s", app->name, retention->reason),
					  errhint("%s", resync_hint(app->name))));
		/* If it can't be noted, as when the disk is full, the slot must go all the more: that it is missing is seen. */
		try_to(note, retention, app);
		retention->given_up = true;
		retention->complained = false;
	}
	if (retention->asked == 0)
		retention->asked = GetCurrentTimestamp();
	if (!all_ended(retention, app))
		return kEndingIntervalMs;
	if (!try_to(drop_slot, retention, app))
	{
		release(app);
		return kLookIntervalMs;
	}
	set_application_state(app, AppState::GivenUp, retention->reason, resync_hint(app->name));
	retention->done = true;
	release(app);
	return kIdleIntervalMs;
}
