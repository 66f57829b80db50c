/*
 * Waiting for standbys: see standby_wait.h.
 */
#include "standby_wait.h"

#include "server/worker.h"

static SharedApplication *app;

void
standby_wait_init(SharedApplication *for_app)
{
	app = for_app;
}

#if SIPHON_FAILOVER

static constexpr int64 kQuietly = USECS_PER_SEC;
static constexpr long kPollMs = 500;
static constexpr int64 kLogInterval = 60 * USECS_PER_SEC;

bool
standbys_have_caught_up(XLogRecPtr lsn)
{
	return !MyReplicationSlot->data.failover || StandbySlotsHaveCaughtup(lsn, DEBUG1);
}

static void
report_waiting(XLogRecPtr lsn, TimestampTz now)
{
	static TimestampTz logged;
	char *reason = psprintf("it waits until the standbys of synchronized_standby_slots (%s) have WAL up to %X/%X",
							GetConfigOption("synchronized_standby_slots", false, false), LSN_FORMAT_ARGS(lsn));

	set_application_state(app, AppState::Streaming, reason,
						  "Start the standbys, or take those that are gone out of synchronized_standby_slots.");
	if (logged == 0 || now - logged >= kLogInterval)
	{
		logged = now;
		ereport(LOG, (errmsg("siphon: application \"%s\": %s", app->name, reason)));
		/* If a slot is missing, invalid or not in use, PostgreSQL says so itself. */
		StandbySlotsHaveCaughtup(lsn, WARNING);
	}
	pfree(reason);
}

void
wait_for_standbys(XLogRecPtr lsn, long (*meanwhile)(TimestampTz now))
{
	TimestampTz since = 0;
	bool told = false;

	while (!standbys_have_caught_up(lsn))
	{
		TimestampTz now = GetCurrentTimestamp();
		long timeout = kPollMs;

		if (meanwhile)
			timeout = meanwhile(now);
		else
			worker_poll(now);

		if (since == 0)
			since = now;
		if (!told && now - since > kQuietly)
		{
			told = true;
			report_waiting(lsn, now);
		}
		ConditionVariablePrepareToSleep(&WalSndCtl->wal_confirm_rcv_cv);
		if (!standbys_have_caught_up(lsn))
			worker_wait(WaitReason::Standbys, timeout);
		ConditionVariableCancelSleep();
	}
	if (told)
		set_application_state(app, AppState::Streaming, nullptr, nullptr);
}

#else

bool
standbys_have_caught_up(XLogRecPtr)
{
	return true;
}

void
wait_for_standbys(XLogRecPtr, long (*)(TimestampTz))
{
}

#endif
