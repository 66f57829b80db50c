/*
 * WAL that slots keep: see retained_wal.h.
 */
#include "retained_wal.h"

extern "C" {
#include "access/xlog_internal.h"
}

const char *const kRetentionHint =
	"See that siphon-publisher runs and its stream takes messages, and that no transaction is open for long.";

bool
read_retained_wal(const char *name, Oid database, RetainedWal *retained)
{
	XLogRecPtr newest = siphon_newest_wal();
	ReplicationSlot *slot;

	memset(retained, 0, sizeof(*retained));
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	slot = SearchNamedReplicationSlot(name, false);
	if (slot && strcmp(NameStr(slot->data.plugin), "siphon") == 0 && slot->data.database == database &&
		siphon_slot_invalidation(slot) == nullptr)
	{
		SpinLockAcquire(&slot->mutex);
		retained->restart = slot->data.restart_lsn;
		retained->confirmed = slot->data.confirmed_flush;
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(ReplicationSlotControlLock);
	if (retained->restart == InvalidXLogRecPtr)
		return false;
	retained->bytes = newest > retained->restart ? newest - retained->restart : 0;
	return true;
}

uint64
retained_wal_limit(void)
{
	uint64 limit = siphon::kMetricUnknown;

	if (siphon_max_retained_wal_mb > 0)
		limit = static_cast<uint64>(siphon_max_retained_wal_mb) * 1024 * 1024;
	if (max_slot_wal_keep_size_mb >= 0)
		limit = Min(limit, static_cast<uint64>(max_slot_wal_keep_size_mb) * 1024 * 1024);
	return limit;
}

bool
retained_wal_exceeds(const RetainedWal *retained, int limit_mb)
{
	return limit_mb > 0 && retained->bytes > static_cast<uint64>(limit_mb) * 1024 * 1024;
}

static const char *
get_setting(const char *name)
{
	return GetConfigOptionByName(name, nullptr, false);
}

const char *
retained_wal_warning(const RetainedWal *retained)
{
	return psprintf("its slot keeps " UINT64_FORMAT " bytes of WAL, more than siphon.warn_retained_wal (%s)",
					retained->bytes, get_setting("siphon.warn_retained_wal"));
}

const char *
retention_warning(const Registry *registry)
{
	RetainedWal retained;

	if (siphon_warn_retained_wal_mb == 0 || !read_retained_wal(registry->slot, registry->database, &retained) ||
		!retained_wal_exceeds(&retained, siphon_warn_retained_wal_mb))
		return nullptr;
	return retained_wal_warning(&retained);
}

const char *
resync_hint(const char *application)
{
	return psprintf("Run SELECT siphon_resync_application('%s') to create a new slot and take new snapshots of its tables.", application);
}

const char *
lost_slot_hint(const Registry *registry)
{
	bool exists;
	bool taken;

	registry_get_slot_problem(registry, &exists);
	if (exists)
		return resync_hint(registry->application);
	taken = SearchNamedReplicationSlot(registry->slot, true) != nullptr;
	if (taken)
		return psprintf("SELECT pg_drop_replication_slot('%s'), then SELECT siphon_resync_application('%s'); or leave "
						"its name to the other: SELECT siphon_drop_application('%s').",
						registry->slot, registry->application, registry->application);
	return psprintf("%s If this server is a copy of another one that still publishes them, or if the database was "
					"dropped: SELECT siphon_drop_application('%s').",
					resync_hint(registry->application), registry->application);
}
