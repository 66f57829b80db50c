/*
 * Telling those who serve an application of its registry's changes: see notify.h.
 */
#include "notify.h"

extern "C" {
#include "common/hashfn.h"
#include "storage/lock.h"
}

static constexpr int kLauncherPatienceMs = 15 * 1000;

static bool
lock_application(const char *application, bool wait)
{
	LOCKTAG tag;
	uint32 hash = DatumGetUInt32(
		hash_any(reinterpret_cast<const unsigned char *>(application), static_cast<int>(strlen(application))));

	/* An advisory lock, of a kind that SQL's advisory lock functions do not make. */
	SET_LOCKTAG_ADVISORY(tag, InvalidOid, 0x73697068, hash, 3);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

void
application_lock(const char *application)
{
	lock_application(application, true);
}

bool
application_try_lock(const char *application)
{
	return lock_application(application, false);
}

bool
is_launcher_missing(TimestampTz since)
{
	bool running;

	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	running = siphon_shared->launcher_latch != nullptr;
	LWLockRelease(siphon_shared->lock);
	return !running && TimestampDifferenceExceeds(since, GetCurrentTimestamp(), kLauncherPatienceMs);
}

/* Caller holds siphon_shared->lock. Returns the version of the registry that it is to load. */
static uint64
set_decoder_latch(SharedApplication *app)
{
	uint64 wanted = pg_atomic_add_fetch_u64(&app->registry_wanted, 1);

	if (app->decoder_latch)
		SetLatch(app->decoder_latch);
	return wanted;
}

void
application_wake_decoder(SharedApplication *app)
{
	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	set_decoder_latch(app);
	LWLockRelease(siphon_shared->lock);
}

bool
application_notify(const char *application, char *reason)
{
	TimestampTz since = GetCurrentTimestamp();
	SharedApplication *app;
	uint64 wanted = 0;
	bool gone = false;
	bool loaded = false;

	reason[0] = '\0';
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app = shmem_find_or_add_application(application, MyDatabaseId);
	if (app)
		wanted = set_decoder_latch(app);
	LWLockRelease(siphon_shared->lock);
	if (app == nullptr)
	{
		strlcpy(reason, "siphon.max_applications are in use", kReasonLength);
		return false;
	}

	ConditionVariablePrepareToSleep(&app->changed);
	for (;;)
	{
		LWLockAcquire(siphon_shared->lock, LW_SHARED);
		loaded = app->registry_loaded >= wanted;
		gone = app->state != AppState::Streaming && app->state != AppState::Starting;
		strlcpy(reason, app->reason, kReasonLength);
		LWLockRelease(siphon_shared->lock);
		if (loaded || gone)
			break;
		if (is_launcher_missing(since))
		{
			strlcpy(reason, "siphon's launcher does not run; see the server's log", kReasonLength);
			break;
		}
		ConditionVariableTimedSleep(&app->changed, 1000, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return loaded;
}

void
application_notify_or_warn(const char *application)
{
	char reason[kReasonLength];

	if (!application_notify(application, reason))
		ereport(WARNING,
				(errmsg("the decoder of application \"%s\" does not run: %s", application, reason),
				 errdetail("The change takes effect when it does."), errhint("SELECT * FROM siphon_applications;")));
}

const char *
application_start_hint(const char *application)
{
	return psprintf("SELECT siphon_start_application(%s);", quote_literal_cstr(application));
}
