/*
 * The mirror of the registry: see registry_mirror.h.
 */
#include "registry_mirror.h"

#include "registry_mirror_checkpoint.h"
#include "decoder_output.h"
#include "server/subxact_read.h"
#include "server/bgworker.h"
#include "standby_wait.h"

extern "C" {
#include "catalog/pg_authid.h"
#include "commands/extension.h"
#include "storage/lmgr.h"
#include "utils/catcache.h"
#include "utils/snapmgr.h"
}

/*
 * Many changes in a row, as of tables that are added one by one, do not each write a row as long as all of them: it is
 * a megabyte per second at most.
 */
static constexpr int64 kMicrosecondsPerByte = 1;
static constexpr int64 kCheckpointInterval = 5 * USECS_PER_SEC;

static SharedApplication *app;    /* the decoder's, or NULL if there is nothing to mirror */
static MemoryContext context;     /* while the row is written */
static uint64 writes_seen;        /* of registry_get_write_counter() */
static TimestampTz next_write;    /* not before */
static uint64 row_version;        /* of the registry that the row has */
static XLogRecPtr row_lsn;        /* behind the row's commit */
static bool confirmed = true;     /* the standbys have it */
static bool missing_table_logged; /* LOG said that there is no table */
static Oid mirror;                /* the table, as of when the row was written */
static uint64 row_checkpoint;     /* number of the checkpoint that the row has */
static TimestampTz next_checkpoint;

/* The table's OID, or InvalidOid. */
static Oid
find_mirror_table(void)
{
#if SIPHON_FAILOVER
	Oid extension = get_extension_oid("siphon", true);

	if (OidIsValid(extension))
		return get_relname_relid("siphon_registry", get_extension_schema(extension));
#endif
	return InvalidOid;
}

/* The same, locked. DROP EXTENSION may commit before any look-up that follows, but for those behind the lock. */
static Oid
lock_mirror_table(LOCKMODE mode)
{
	Oid table = find_mirror_table();

	if (OidIsValid(table))
		LockRelationOid(table, mode);
	return get_rel_name(table) ? table : InvalidOid;
}

/* Executes a statement about the table, in which %s is its name. The caller has it locked. */
static void
execute_on_table(Oid table, const char *statement, int count, Oid *types, Datum *values, int expected)
{
	const char *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), get_rel_name(table));

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(psprintf(statement, name), count, types, values, nullptr, expected == SPI_OK_SELECT, 0) !=
		expected)
		elog(ERROR, "could not access table %s", name);
}

/* The registry in the row of which `column` has this value, or NULL, and its checkpoint, if any. In a transaction. */
static Registry *
read_row(const char *column, const char *value, SavedCheckpoint *saved)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(value)};
	char *application = nullptr;
	char *content = nullptr;
	const char *text;
	Oid table = lock_mirror_table(AccessShareLock);

	*saved = {};
	if (!OidIsValid(table))
		return nullptr;
	execute_on_table(table,
					 psprintf("SELECT application, content, %s FROM %%s WHERE %s OPERATOR(pg_catalog.=) $1",
							  registry_mirror_checkpoint_column(table), column),
					 1, types, values, SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3);
		if (text)
			checkpoint_from_text(text, saved);
		application = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
		content = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2));
	}
	SPI_finish();
	return content ? registry_from_json("siphon_registry", application, content) : nullptr;
}

/* The same, in a transaction of its own. */
static Registry *
read_row_alone(const char *column, const char *value, SavedCheckpoint *saved)
{
	MemoryContext caller = CurrentMemoryContext;
	Registry *registry;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(caller);
	registry = read_row(column, value, saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return registry;
}

/* In a transaction. False if there is none. */
static bool
delete_row(const char *application)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(application)};
	Oid table = lock_mirror_table(RowExclusiveLock);
	bool deleted;

	if (!OidIsValid(table))
		return false;
	execute_on_table(table, "DELETE FROM %s WHERE application OPERATOR(pg_catalog.=) $1", 1, types, values,
					 SPI_OK_DELETE);
	deleted = SPI_processed > 0;
	SPI_finish();
	return deleted;
}

/* Makes files of what the row has, unless they were changed since. Returns the registry that counts. */
static Registry *
restore_files(Registry *row, const SavedCheckpoint *saved)
{
	const char *application = row->application;
	Registry *file;

	LWLockAcquire(registry_lock(application), LW_EXCLUSIVE);
	file = registry_read(application);
	if (file && !is_registry_newer(row, file))
		row = file;
	else
		registry_write(row);
	checkpoint_adopt(application, row->history, saved);
	LWLockRelease(registry_lock(application));
	if (row != file)
		ereport(LOG, (errmsg("siphon: the registry of application \"%s\" was taken from the table siphon_registry",
							 application)));
	return row;
}

/* ---- the decoder ------------------------------------------------------------------------------------------------ */

static bool
slot_has_failover(const char *name)
{
	ReplicationSlot *slot;
	bool failover;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	slot = SearchNamedReplicationSlot(name, false);
	failover = slot && siphon_slot_failover(slot);
	LWLockRelease(ReplicationSlotControlLock);
	return failover;
}

/* The slot may have been altered since it was created, and is what counts. */
static Registry *
record_failover(Registry *registry, bool failover)
{
	Registry *changed = registry_begin_change(registry->application);

	if (changed == nullptr)
		return registry;
	changed->failover = failover;
	registry_end_change(changed);
	if (!failover)
	{
		MemoryContext caller = CurrentMemoryContext;

		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		delete_row(changed->application);
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(caller);
	}
	return changed;
}

Registry *
registry_mirror_open(SharedApplication *for_app, Registry *registry)
{
	Registry *row;
	SavedCheckpoint saved;
	bool failover;

	if (RecoveryInProgress())
	{
		pg_atomic_write_u64(&for_app->mirrored, PG_UINT64_MAX);
		return registry;
	}
	failover = slot_has_failover(registry->slot);
	pg_atomic_write_u64(&for_app->mirrored, failover ? 0 : PG_UINT64_MAX);
	if (failover)
	{
		app = for_app;
		context = AllocSetContextCreate(TopMemoryContext, "siphon mirror", ALLOCSET_DEFAULT_SIZES);
		row = read_row_alone("application", app->name, &saved);
		if (row && is_registry_newer(row, registry))
		{
			registry = restore_files(row, &saved);
			/* The launcher may have looked for snapshots in the file that was there. */
			pg_atomic_fetch_add_u64(&app->registry_wanted, 1);
			wake_launcher();
		}
		else if (row)
		{
			LWLockAcquire(registry_lock(app->name), LW_EXCLUSIVE);
			checkpoint_adopt(app->name, registry->history, &saved);
			LWLockRelease(registry_lock(app->name));
		}
		if (row && saved.history == registry->history)
			row_checkpoint = saved.number;
	}
	if (registry->failover != failover)
		registry = record_failover(registry, failover);
	return registry;
}

/*
 * The transactions of a process that decodes do not count: nobody's snapshot has them as running, and VACUUM does not
 * respect theirs. As one that writes must count, this says to others that we do not decode, until it is over.
 */
static void
set_decoding_flag(bool decoding)
{
	LWLockAcquire(ProcArrayLock, LW_EXCLUSIVE);
	if (decoding)
		MyProc->statusFlags |= PROC_IN_LOGICAL_DECODING;
	else
		MyProc->statusFlags &= ~PROC_IN_LOGICAL_DECODING;
	ProcGlobal->statusFlags[MyProc->pgxactoff] = MyProc->statusFlags;
	LWLockRelease(ProcArrayLock);
}

/*
 * What was looked up is of now; decoding wants it as of then. Rows of catalogs are all forgotten, as nobody knows which
 * they were. Of relations only the table was opened, of which nothing is decoded: descriptions of published tables, and
 * of their relations, stay. For a list of thousands InvalidateSystemCaches() would have each rebuilt and looked at
 * again.
 */
static void
forget_lookups(Oid table)
{
	ResetCatalogCaches();
	if (OidIsValid(table))
		RelationCacheInvalidateEntry(table);
}

/* False if it can't be done now. An error ends the decoder, as any does. */
static bool
write_row(const Registry *registry, const char *content)
{
	Oid types[] = {TEXTOID, TEXTOID, INT8OID, TEXTOID};
	bool decoding = (MyProc->statusFlags & PROC_IN_LOGICAL_DECODING) != 0;
	bool written = false;
	Oid table;

	set_decoding_flag(false);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
	table = find_mirror_table();
	if (!OidIsValid(table))
	{
		if (!missing_table_logged)
			ereport(LOG,
					(errmsg("siphon: application \"%s\" cannot continue after a failover: its database does not have the "
							"table siphon_registry",
							app->name),
					 errhint("CREATE EXTENSION siphon; in database \"%s\".", registry->database_name)));
		missing_table_logged = true;
		written = true;
	}
	/*
	 * Acknowledgements must be polled while another session has the table locked. Once we have, it may be gone: see
	 * above.
	 */
	else if (ConditionalLockRelationOid(table, RowExclusiveLock) && get_rel_name(table))
	{
		Datum values[] = {CStringGetTextDatum(registry->application), CStringGetTextDatum(registry->slot),
						  Int64GetDatum(static_cast<int64>(registry->version)), CStringGetTextDatum(content)};

		execute_on_table(
			table,
			"INSERT INTO %s (application, slot_name, version, content) VALUES ($1, $2, $3, $4) "
			"ON CONFLICT (application) DO UPDATE SET slot_name = excluded.slot_name, version = excluded.version, "
			"content = excluded.content",
			4, types, values, SPI_OK_INSERT);
		SPI_finish();
		missing_table_logged = false;
		written = true;
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	forget_lookups(table);
	if (OidIsValid(table) && written)
		row_lsn = XactLastCommitEnd;
	mirror = table;
	set_decoding_flag(decoding);
	return written;
}

static void
check_confirmed(void)
{
	if (confirmed || !standbys_have_caught_up(row_lsn))
		return;
	confirmed = true;
	pg_atomic_write_u64(&app->mirrored, row_version);
}

static void
poll_registry(TimestampTz now)
{
	uint64 writes = pg_atomic_read_u64(registry_get_write_counter(app->name));
	Registry *registry;

	if ((writes == writes_seen && row_version != 0) || now < next_write)
		return;
	/* Not in the middle of a change: what is not synced may not last. */
	LWLockAcquire(registry_lock(app->name), LW_SHARED);
	registry = registry_read(app->name);
	LWLockRelease(registry_lock(app->name));
	if (registry && registry->version == row_version)
		writes_seen = writes;
	else if (registry)
	{
		const char *content = registry_to_json(registry);

		next_write = now + static_cast<int64>(strlen(content)) * kMicrosecondsPerByte;
		if (write_row(registry, content))
		{
			writes_seen = writes;
			row_version = registry->version;
			confirmed = false;
			check_confirmed();
		}
	}
}

static void
poll_checkpoint(TimestampTz now)
{
	const SavedCheckpoint *saved = decoder_output_get_checkpoint();
	bool decoding;

	if (saved->number == row_checkpoint || now < next_checkpoint || !OidIsValid(mirror))
		return;
	next_checkpoint = now + kCheckpointInterval;
	decoding = (MyProc->statusFlags & PROC_IN_LOGICAL_DECODING) != 0;
	set_decoding_flag(false);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
	if (registry_mirror_write_checkpoint(mirror, app->name, saved))
		row_checkpoint = saved->number;
	PopActiveSnapshot();
	CommitTransactionCommand();
	set_decoding_flag(decoding);
}

void
registry_mirror_poll(TimestampTz now)
{
	MemoryContext caller;

	if (app == nullptr || MyReplicationSlot == nullptr)
		return;
	check_confirmed();
	/* In a transaction, or in a message that belongs to none, catalogs are those of what is being decoded. */
	if (IsTransactionState() || HistoricSnapshotActive())
		return;
	caller = MemoryContextSwitchTo(context);
	poll_registry(now);
	poll_checkpoint(now);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(context);
}

XLogRecPtr
registry_mirror_get_lsn(void)
{
	return row_lsn;
}

/* ---- the launcher ----------------------------------------------------------------------------------------------- */

static constexpr long kStandbyWaitMs = 1000; /* a promotion is noticed after this long */

bool
registry_mirror_is_standby(const char *name, bool failover, const char **reason, const char **hint)
{
	ReplicationSlot *slot;
	bool exists;
	bool synced;

	if (!RecoveryInProgress())
		return false;
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	slot = SearchNamedReplicationSlot(name, false);
	exists = slot != nullptr;
	synced = slot && siphon_slot_synced(slot);
	LWLockRelease(ReplicationSlotControlLock);

	*hint = nullptr;
	if (synced)
		*reason = "its slot is synchronized from the primary, which publishes it";
	else if (exists)
	{
		*reason = "the primary publishes it, and a slot of this server itself keeps its slot from being synchronized";
		*hint = psprintf("SELECT pg_drop_replication_slot('%s');", name);
	}
	else
	{
		*reason = "the primary publishes it, and its slot was not synchronized to this server yet";
		*hint = "It takes sync_replication_slots = on, hot_standby_feedback = on, primary_slot_name, and a dbname in "
				"primary_conninfo.";
	}
	return failover || synced;
}

/* A slot that came from the primary and is fit to go on from. Caller holds ReplicationSlotControlLock. */
static bool
is_synced_from_primary(const ReplicationSlot *slot)
{
	return slot->in_use && SlotIsLogical(slot) && siphon_slot_synced(slot) && siphon_slot_failover(slot) &&
		   slot->data.persistency == RS_PERSISTENT && strcmp(NameStr(slot->data.plugin), "siphon") == 0 &&
		   siphon_slot_invalidation(slot) == nullptr;
}

struct RestoreAttempts
{
	TimestampTz next; /* not before */
	int count;
};

static bool
has_file(List *applications, const char *slot)
{
	char name[NAMEDATALEN];
	ListCell *lc;

	foreach (lc, applications)
	{
		registry_get_slot_name(name, static_cast<char *>(lfirst(lc)));
		if (strcmp(name, slot) == 0)
			return true;
	}
	return false;
}

long
registry_mirror_restore_synced(List *applications, long wait)
{
	static BackgroundWorkerHandle *handle; /* of the one worker at a time */
	static RestoreAttempts *attempts;      /* of each slot */
	TimestampTz now = GetCurrentTimestamp();

	if (!SIPHON_FAILOVER || (handle && bgworker_is_running(handle)))
		return wait;
	if (handle)
		pfree(handle);
	handle = nullptr;
	if (attempts == nullptr)
		attempts = static_cast<RestoreAttempts *>(MemoryContextAllocZero(
			TopMemoryContext, sizeof(RestoreAttempts) * static_cast<size_t>(Max(max_replication_slots, 1))));

	for (int i = 0; i < max_replication_slots; i++)
	{
		char name[NAMEDATALEN];
		bool found;

		LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
		found = is_synced_from_primary(&ReplicationSlotCtl->replication_slots[i]);
		strlcpy(name, NameStr(ReplicationSlotCtl->replication_slots[i].data.name), sizeof(name));
		LWLockRelease(ReplicationSlotControlLock);
		if (!found || has_file(applications, name))
		{
			attempts[i] = {};
			continue;
		}
		if (RecoveryInProgress())
			return Min(wait, kStandbyWaitMs);
		if (attempts[i].next > now)
			continue;
		/* It will hardly help to try again, and each time is a line in the log. */
		attempts[i].next = now + (int64{siphon_max_restart_delay_s} * USECS_PER_SEC << Min(attempts[i].count++, 10));
		handle = bgworker_start("mirror", name, i);
		return wait;
	}
	return wait;
}

/* The worker that the launcher starts, as it is connected to no database itself. */
void
siphon_mirror_main(Datum arg)
{
	const ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[DatumGetInt32(arg)];
	char name[NAMEDATALEN];
	Oid database;
	bool found;
	Registry *row;
	SavedCheckpoint saved;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	found = is_synced_from_primary(slot);
	strlcpy(name, NameStr(slot->data.name), sizeof(name));
	database = slot->data.database;
	LWLockRelease(ReplicationSlotControlLock);
	if (!found || RecoveryInProgress())
		proc_exit(0);

	bgworker_connect(database, "siphon mirror");
	row = read_row_alone("slot_name", name, &saved);
	if (row && row->database == database)
	{
		restore_files(row, &saved);
		wake_launcher();
	}
	else
		ereport(LOG,
				(errmsg("siphon: slot \"%s\" of the former primary has no registry in the table siphon_registry", name),
				 errhint("SELECT pg_drop_replication_slot('%s'), then add the application's tables again with "
						 "siphon_add_table().",
						 name)));
	proc_exit(0);
}

/* ---- SQL functions ---------------------------------------------------------------------------------------------- */

/* The table is not the caller's to read: to be allowed to call siphon's functions is enough. */
static Registry *
read_row_as_superuser(const char *application, SavedCheckpoint *saved)
{
	SubxactRead read;
	Registry *registry;
	Oid user;
	int security;

	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security | SECURITY_LOCAL_USERID_CHANGE);
	read = subxact_read_begin();
	registry = read_row("application", application, saved);
	subxact_read_end(&read);
	SetUserIdAndSecContext(user, security);
	return registry;
}

void
registry_mirror_check_not_on_standby(const char *application)
{
	SavedCheckpoint saved;
	Registry *registry;

	if (!RecoveryInProgress())
		return;
	registry = registry_read(application);
	if (registry ? !registry->failover : read_row_as_superuser(application, &saved) == nullptr)
		return;
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("application \"%s\" is published by the primary, and this is a standby", application),
					errhint("Call the function on the primary, or choose another application identifier.")));
}

Registry *
registry_mirror_restore(const char *application)
{
	SavedCheckpoint saved;
	Registry *row = read_row_as_superuser(application, &saved);

	return row && row->database == MyDatabaseId ? restore_files(row, &saved) : nullptr;
}

bool
registry_mirror_delete(const char *application)
{
	SavedCheckpoint saved;
	bool deleted;
	Oid user;
	int security;

	/* A transaction that need not write stays one that did not. */
	if (read_row_as_superuser(application, &saved) == nullptr)
		return false;
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security | SECURITY_LOCAL_USERID_CHANGE);
	deleted = delete_row(application);
	SetUserIdAndSecContext(user, security);
	return deleted;
}
