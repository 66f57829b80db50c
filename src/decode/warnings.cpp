/*
 * Warnings of the decoder: see warnings.h.
 */
#include "warnings.h"

#include "replaced_tables.h"

extern "C" {
#include "commands/extension.h"
#include "replication/walreceiver.h"
}

using siphon::RingWarning;

/* A receiver that is away for less than this is about to come back. */
static constexpr int64 kReceiverPatience = 30 * USECS_PER_SEC;
/* So that the log is not about what goes away by itself, as a slot that is about to be synchronized. */
static constexpr int64 kLogPatience = 10 * USECS_PER_SEC;

/*
 * A standby that synchronizes slots has a physical slot here, and feedback, by which the slots that it has show: to one
 * that is ready, catalogs are kept from where ours does, or from before. Other logical slots of a standby look the same.
 */
static bool
has_no_standby_slot(void)
{
#if SIPHON_FAILOVER
	TransactionId ours = MyReplicationSlot->data.catalog_xmin;
	bool found = false;

	if (RecoveryInProgress() || !MyReplicationSlot->data.failover)
		return false;
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots && !found; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];
		TransactionId theirs;

		if (!slot->in_use || SlotIsLogical(slot))
			continue;
		SpinLockAcquire(&slot->mutex);
		theirs = slot->data.catalog_xmin;
		SpinLockRelease(&slot->mutex);
		found = TransactionIdIsValid(theirs) && TransactionIdPrecedesOrEquals(theirs, ours);
	}
	LWLockRelease(ReplicationSlotControlLock);
	return !found;
#else
	return false;
#endif
}

static bool
has_no_receiver(TimestampTz now)
{
	static TimestampTz since;

	if (!RecoveryInProgress() || WalRcvStreaming())
		since = 0;
	else if (since == 0)
		since = now;
	return since != 0 && now - since > kReceiverPatience;
}

static bool is_extension_missing;

void
warnings_check_catalogs(void)
{
	is_extension_missing = !OidIsValid(get_extension_oid("siphon", true));
	replaced_tables_search();
}

void
warnings_init(const Registry *registry)
{
	replaced_tables_init(registry);
	warnings_check_catalogs();
}

struct Text
{
	RingWarning warning;
	const char *reason;
	const char *hint;
};

/* The gravest first. */
static constexpr Text kTexts[] = {
	{RingWarning::ReplayPaused, "replay of WAL is paused on this standby, and so is decoding",
	 "SELECT pg_wal_replay_resume();"},
	{RingWarning::NoReceiver, "this standby is not connected to a primary: WAL comes from an archive, or not at all",
	 "See that the primary runs, and what the server's log says of primary_conninfo."},
	{RingWarning::NoStandbySlot, "no standby has its slot ready, so a failover would lose it",
	 "On the standby: sync_replication_slots = on, hot_standby_feedback = on, primary_slot_name, and a dbname in "
	 "primary_conninfo. SELECT pg_log_standby_snapshot() here hastens it."},
	{RingWarning::NoExtension,
	 "its database does not have the extension any more, but its slot, which retains WAL, and its decoder still exist",
	 "CREATE EXTENSION siphon, on the primary; and if it is not wanted, then siphon_drop_application()."},
	{RingWarning::TableReplaced,
	 "a table of its list was dropped, and another table has its name, which is not published",
	 "SELECT * FROM siphon_tables WHERE state = 'dropped'; says which, and what to type."},
	{RingWarning::ReplayDelayed, "this standby replays WAL with recovery_min_apply_delay, and so decodes it as much later",
	 "ALTER SYSTEM SET recovery_min_apply_delay = 0; SELECT pg_reload_conf();"},
};

const char *
get_warning_reason(uint64 warnings, const char **hint)
{
	for (const Text &text : kTexts)
		if (warnings & static_cast<uint64>(text.warning))
		{
			*hint = text.hint;
			return text.reason;
		}
	return nullptr;
}

static void
log_warnings(const SharedApplication *app, uint64 warnings, TimestampTz now)
{
	static uint64 last;
	static uint64 logged;
	static TimestampTz since;

	if (warnings != last)
	{
		last = warnings;
		since = now;
	}
	logged &= warnings;
	if (warnings == logged || now - since < kLogPatience)
		return;
	for (const Text &text : kTexts)
		if (warnings & ~logged & static_cast<uint64>(text.warning))
			ereport(LOG, (errmsg("siphon: application \"%s\": %s", app->name, text.reason), errhint("%s", text.hint)));
	logged = warnings;
}

uint64
warnings_check(SharedApplication *app)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64 warnings = 0;
	auto add = [&](RingWarning warning, bool there) { warnings |= there ? static_cast<uint64>(warning) : 0; };

	add(RingWarning::NoStandbySlot, has_no_standby_slot());
	add(RingWarning::ReplayPaused, RecoveryInProgress() && GetRecoveryPauseState() != RECOVERY_NOT_PAUSED);
	add(RingWarning::ReplayDelayed, RecoveryInProgress() && recovery_min_apply_delay > 0);
	add(RingWarning::NoReceiver, has_no_receiver(now));
	add(RingWarning::NoExtension, is_extension_missing);
	add(RingWarning::TableReplaced, has_replaced_tables());
	log_warnings(app, warnings, now);
	app_metric_set(app, AppMetric::Warnings, warnings);
	return warnings;
}
