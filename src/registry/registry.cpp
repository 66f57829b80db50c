/*
 * What is done to a registry: see registry.h.
 */
#include "registry.h"

#include "server/oid_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <ctime>

bool
is_valid_application_name(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length >= kApplicationLength || name[0] == '.' || name[length - 1] == '.')
		return false;
	for (size_t i = 0; i < length; i++)
	{
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || (c == '.' && name[i - 1] != '.')))
			return false;
	}
	return true;
}

const char *
registry_get_database_name(const Registry *registry)
{
	const char *name = get_database_name(registry->database);

	return name ? name : registry->database_name;
}

static size_t
get_share(const char *application)
{
	return XXH3_64bits(application, strlen(application)) % kRegistryShares;
}

pg_atomic_uint64 *
registry_get_write_counter(const char *application)
{
	return &siphon_shared->registry_writes[get_share(application)];
}

LWLock *
registry_lock(const char *application)
{
	return siphon_shared->registry_locks[get_share(application)];
}

Registry *
registry_begin_change(const char *application)
{
	Registry *registry;

	LWLockAcquire(registry_lock(application), LW_EXCLUSIVE);
	registry = registry_read(application);
	if (registry == nullptr)
		LWLockRelease(registry_lock(application));
	return registry;
}

Registry *
registry_begin_change_of(const char *application, Oid relid)
{
	const Registry *registry;

	LWLockAcquire(registry_lock(application), LW_EXCLUSIVE);
	registry = registry_get(application);
	if (registry)
		return registry_copy(registry, relid);
	LWLockRelease(registry_lock(application));
	return nullptr;
}

void
registry_end_change(Registry *registry)
{
	registry_write(registry);
	LWLockRelease(registry_lock(registry->application));
}

void
registry_cancel_change(const Registry *registry)
{
	LWLockRelease(registry_lock(registry->application));
}

Datum
registry_call(PGFunction function, FunctionCallInfo fcinfo)
{
	Datum result = static_cast<Datum>(0);

	PG_TRY();
	{
		result = function(fcinfo);
	}
	PG_CATCH();
	{
		LWLockReleaseAll();
		PG_RE_THROW();
	}
	PG_END_TRY();
	return result;
}

uint32
registry_next_generation(Registry *registry)
{
	uint32 last = pg_atomic_read_u32(&siphon_shared->last_generation);
	uint32 now = static_cast<uint32>(time(nullptr));

	do
	{
		registry->generation = Max(registry->generation, last) + 1;
		registry->generation = Max(registry->generation, now);
	}
	while (!pg_atomic_compare_exchange_u32(&siphon_shared->last_generation, &last, registry->generation));
	return registry->generation;
}

bool
is_registry_newer(const Registry *a, const Registry *b)
{
	return a->timeline != b->timeline ? a->timeline > b->timeline : a->version > b->version;
}

uint64
registry_choose_first_version(void)
{
	return static_cast<uint64>(GetCurrentTimestamp());
}

void
registry_get_slot_name(char *out, const char *application)
{
	snprintf(out, NAMEDATALEN, "siphon_%s", application);
	for (char *c = out; *c; c++)
		if (*c == '.')
			*c = '_';
}

void
registry_begin_history(Registry *registry, bool take_over)
{
	if (!pg_strong_random(&registry->history, sizeof(registry->history)))
		elog(ERROR, "could not generate a random number");
	registry->acknowledged = false;
	registry->take_over = take_over;
	registry->given_up[0] = '\0';
	registry->ring_ids = NIL;
}

const char *
registry_get_slot_problem(const Registry *registry, bool *exists)
{
	ReplicationSlot *slot;
	const char *problem;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	slot = SearchNamedReplicationSlot(registry->slot, false);
	*exists = false;
	if (slot == nullptr)
		problem = "it does not exist any more";
	else if (strcmp(NameStr(slot->data.plugin), "siphon") != 0 || slot->data.database != registry->database)
		problem = "another slot was created under its name";
	else
	{
		*exists = true;
		problem = siphon_slot_invalidation(slot);
	}
	LWLockRelease(ReplicationSlotControlLock);
	return problem;
}

static void
set_phase(RegistryTable *table, std::optional<TablePhase> from, TablePhase phase)
{
	bool allowed = siphon::is_transition(kTablePhaseTransitions, from, phase);

	Assert(allowed);
	if (allowed)
		table->phase = phase;
}

void
table_set_phase(RegistryTable *table, TablePhase phase)
{
	set_phase(table, table->phase, phase);
}

void
table_set_first_phase(RegistryTable *table, TablePhase phase)
{
	table->phase = TablePhase::Waiting;
	set_phase(table, {}, phase);
}

RegistryTable *
registry_find_table(const Registry *registry, Oid relid)
{
	ListCell *lc;

	foreach (lc, registry->tables)
	{
		RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		if (table->relid == relid)
			return table;
	}
	return nullptr;
}

struct OidEntry
{
	Oid relid; /* hash key */
	RegistryTable *table;
};

HTAB *
index_tables_by_oid(const Registry *registry)
{
	HTAB *tables = oid_hash_make<OidEntry>("siphon registry by OID", CurrentMemoryContext);
	ListCell *lc;

	foreach (lc, registry->tables)
	{
		RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		oid_hash_enter<OidEntry>(tables, table->relid)->table = table;
	}
	return tables;
}

RegistryTable *
find_table_by_oid(HTAB *tables, Oid relid)
{
	const OidEntry *entry = oid_hash_find<OidEntry>(tables, relid);

	return entry ? entry->table : nullptr;
}

void
registry_rename(RegistryTable *table, const char *schema, const char *name, XLogRecPtr commit_lsn)
{
	RegistryName *former = static_cast<RegistryName *>(palloc0(sizeof(RegistryName)));

	former->end_lsn = commit_lsn;
	strlcpy(former->schema, table->schema, sizeof(former->schema));
	strlcpy(former->name, table->name, sizeof(former->name));
	table->former_names = lappend(table->former_names, former);
	if (list_length(table->former_names) > kMaxFormerNames)
		table->former_names = list_delete_first(table->former_names);
	strlcpy(table->schema, schema, sizeof(table->schema));
	strlcpy(table->name, name, sizeof(table->name));
}

bool
registry_has_namesake(const Registry *registry, const RegistryTable *table, XLogRecPtr behind)
{
	ListCell *lc;
	ListCell *lc2;

	foreach (lc, registry->tables)
	{
		const RegistryTable *other = static_cast<RegistryTable *>(lfirst(lc));

		if (other->relid == table->relid)
			continue;
		if (strcmp(other->schema, table->schema) == 0 && strcmp(other->name, table->name) == 0)
			return true;
		foreach (lc2, other->former_names)
		{
			const RegistryName *former = static_cast<RegistryName *>(lfirst(lc2));

			if (former->end_lsn >= behind && strcmp(former->schema, table->schema) == 0 &&
				strcmp(former->name, table->name) == 0)
				return true;
		}
	}
	return false;
}

static void
record_removed_name(Registry *registry, const RegistryTable *table, const char *schema, const char *name)
{
	RegistryRemoved *removed = static_cast<RegistryRemoved *>(palloc0(sizeof(RegistryRemoved)));

	/* Of which nothing was published yet, is nobody's business. */
	if (table->generation == 0)
		return;
	removed->relid = table->relid;
	removed->generation = table->generation;
	strlcpy(removed->schema, schema, sizeof(removed->schema));
	strlcpy(removed->name, name, sizeof(removed->name));
	registry->removed = lappend(registry->removed, removed);
}

void
registry_forget_name(Registry *registry, const RegistryTable *table)
{
	record_removed_name(registry, table, table->schema, table->name);
}

void
registry_forget_former_names(Registry *registry, RegistryTable *table)
{
	ListCell *lc;

	foreach (lc, table->former_names)
	{
		const RegistryName *former = static_cast<RegistryName *>(lfirst(lc));

		if (strcmp(former->schema, table->schema) != 0 || strcmp(former->name, table->name) != 0)
			record_removed_name(registry, table, former->schema, former->name);
	}
	table->former_names = NIL;
}
