/*
 * Slots without an application: see left_slots.h.
 */
#include "left_slots.h"

#include "registry/registry.h"

/* One that is being made has its application in a moment. */
static constexpr long kPatienceMs = 2000;

/* By the slot's place in PostgreSQL's array. */
struct Left
{
	char name[NAMEDATALEN];
	TimestampTz since;
	bool told;
};

/* Nor is one that a primary synchronizes: its application comes when this server is the primary. Caller holds the lock. */
static bool
is_left(const ReplicationSlot *slot, List *applications)
{
	char name[NAMEDATALEN];
	ListCell *lc;

	if (!slot->in_use || !SlotIsLogical(slot) || strcmp(NameStr(slot->data.plugin), "siphon") != 0 ||
		slot->data.persistency != RS_PERSISTENT || siphon_slot_synced(slot) || siphon_slot_invalidation(slot) != nullptr)
		return false;
	foreach (lc, applications)
	{
		registry_get_slot_name(name, static_cast<char *>(lfirst(lc)));
		if (strcmp(name, NameStr(slot->data.name)) == 0)
			return false;
	}
	return true;
}

long
log_left_slots(List *applications, long wait)
{
	static Left *slots;
	TimestampTz now = GetCurrentTimestamp();

	if (slots == nullptr)
		slots = static_cast<Left *>(
			MemoryContextAllocZero(TopMemoryContext, sizeof(Left) * static_cast<size_t>(max_replication_slots)));
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots; i++)
	{
		const ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];
		Left *left = &slots[i];

		if (!is_left(slot, applications))
			left->name[0] = '\0';
		else if (strcmp(left->name, NameStr(slot->data.name)) != 0)
		{
			strlcpy(left->name, NameStr(slot->data.name), sizeof(left->name));
			left->since = now;
			left->told = false;
		}
	}
	LWLockRelease(ReplicationSlotControlLock);
	for (int i = 0; i < max_replication_slots; i++)
	{
		Left *left = &slots[i];

		if (left->name[0] == '\0' || left->told)
			continue;
		left->told = TimestampDifferenceExceeds(left->since, now, kPatienceMs);
		if (left->told)
			ereport(LOG, (errmsg("siphon: replication slot \"%s\" belongs to no application and retains WAL", left->name),
						  errdetail("pg_upgrade takes slots along, but no applications."),
						  errhint("SELECT pg_drop_replication_slot('%s'); then add the tables again.", left->name)));
		else
			wait = Min(wait, kPatienceMs);
	}
	return wait;
}
