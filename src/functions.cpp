/*
 * The SQL functions by which people change what is published. Like slots, the registry is not part of a
 * transaction: what these functions did stays when the transaction rolls back.
 */
#include "application.h"
#include "checks.h"
#include "mirror.h"
#include "snapshot.h"

extern "C" {
#include "catalog/partition.h"
}

extern "C" {
PG_FUNCTION_INFO_V1(siphon_create_application);
PG_FUNCTION_INFO_V1(siphon_drop_application);
PG_FUNCTION_INFO_V1(siphon_resync_application);
PG_FUNCTION_INFO_V1(siphon_add_table);
PG_FUNCTION_INFO_V1(siphon_remove_table);
PG_FUNCTION_INFO_V1(siphon_resync_table);
PG_FUNCTION_INFO_V1(siphon_pause);
PG_FUNCTION_INFO_V1(siphon_resume);
}

static void
check_no_nulls(FunctionCallInfo fcinfo, const char *function, int count)
{
	for (int i = 0; i < count; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument %d of %s() must not be null", i + 1, function),
							errhint("\\df %s shows the arguments and their defaults.", function)));
}

static char *
application_argument(FunctionCallInfo fcinfo, int index)
{
	char *application = text_to_cstring(PG_GETARG_TEXT_PP(index));

	check_preloaded();
	check_application_name(application);
	application_lock(application);
	mirror_refuse_on_standby(application);
	return application;
}

/*
 * An application's registry as it was read; ERROR if there is none, or if it belongs to another database. One whose
 * database was dropped belongs to nobody, and can be dropped from anywhere.
 */
static Registry *
checked(Registry *registry, const char *application, bool orphan_ok = false)
{
	if (registry == nullptr)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("application \"%s\" does not exist", application),
						errhint("SELECT application FROM siphon_applications lists those that do.")));
	if (orphan_ok && get_database_name(registry->database) == nullptr)
		return registry;
	if (registry->database != MyDatabaseId)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("application \"%s\" belongs to database \"%s\"", application, registry->database_name),
						errhint("Connect to that database (\\c %s), or choose another application identifier.",
								quote_identifier(registry->database_name))));
	return registry;
}

extern "C" Datum
siphon_create_application(PG_FUNCTION_ARGS)
{
	char *application;

	check_no_nulls(fcinfo, "siphon_create_application", 2);
	application = application_argument(fcinfo, 0);
	if (registry_read(application))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("application \"%s\" already exists", application),
						errhint("Add tables to it with siphon_add_table(), or SELECT siphon_drop_application('%s').",
								application)));
	application_create(application, PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}

extern "C" Datum
siphon_drop_application(PG_FUNCTION_ARGS)
{
	char *application;
	Registry *registry;

	check_no_nulls(fcinfo, "siphon_drop_application", 1);
	application = application_argument(fcinfo, 0);
	registry = registry_read(application);
	/* Of one that did not come over from a former primary there is nothing but the mirror. */
	if (registry == nullptr && mirror_forget(application))
		PG_RETURN_VOID();
	application_drop(checked(registry, application, true));
	if (registry->failover)
		mirror_forget(application);
	PG_RETURN_VOID();
}

extern "C" Datum
siphon_resync_application(PG_FUNCTION_ARGS)
{
	char *application;
	Registry *registry;

	check_no_nulls(fcinfo, "siphon_resync_application", 1);
	application = application_argument(fcinfo, 0);
	registry = registry_read(application);
	/* Of one that did not come over from a former primary there is nothing but the mirror. */
	if (registry == nullptr)
		registry = mirror_adopt(application);
	application_resync(checked(registry, application));
	PG_RETURN_VOID();
}

static List *
name_list(ArrayType *array)
{
	List *names = NIL;
	Datum *elements;
	bool *nulls;
	int count;

	deconstruct_array(array, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("exclude_columns must not hold nulls"),
							errhint("List columns of the table in exclude_columns => '{...}'.")));
		names = lappend(names, pstrdup(NameStr(*DatumGetName(elements[i]))));
	}
	return names;
}

/*
 * Looks at the table and fills in what the registry keeps of it. The lock is given back at once: making a slot
 * waits for transactions, and those may wait for the table.
 */
static void
describe_table(Oid relid, int partitions, List *exclude_columns, RegistryTable *table)
{
	Relation relation = try_relation_open(relid, AccessShareLock);
	ListCell *lc;

	if (relation == nullptr)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid),
						errhint("SELECT siphon_add_table('schema.table');")));
	check_table(relation, partitions, exclude_columns);
	table->relid = relid;
	strlcpy(table->schema, get_namespace_name(RelationGetNamespace(relation)), sizeof(table->schema));
	strlcpy(table->name, RelationGetRelationName(relation), sizeof(table->name));
	table->partitions = partitions;
	table->exclude_columns = exclude_columns;
	foreach (lc, exclude_columns)
		table->exclude_attributes =
			lappend_int(table->exclude_attributes, get_attnum(relid, static_cast<char *>(lfirst(lc))));
	relation_close(relation, AccessShareLock);
}

static void
refuse_twice(const Registry *registry, const RegistryTable *table)
{
	if (registry_find(registry, table->relid) == nullptr)
		return;
	ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
					errmsg("table %s is already published by application \"%s\"",
						   quote_qualified_identifier(table->schema, table->name), registry->application),
					errhint("SELECT siphon_remove_table('%s', '%s') first to add it anew.",
							quote_qualified_identifier(table->schema, table->name), registry->application)));
}

/* Nor a table whose rows are published as another's, or the other way round. */
static void
refuse_overlap(const Registry *registry, const RegistryTable *table)
{
	const char *name = quote_qualified_identifier(table->schema, table->name);
	List *roots = get_rel_relispartition(table->relid) ? get_partition_ancestors(table->relid) : NIL;
	ListCell *lc;

	foreach (lc, registry->tables)
	{
		const RegistryTable *listed = static_cast<RegistryTable *>(lfirst(lc));
		const char *other = quote_qualified_identifier(listed->schema, listed->name);

		if (list_member_oid(roots, listed->relid))
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
							errmsg("table %s is already published under its root %s by application \"%s\"", name, other,
								   registry->application),
							errhint("SELECT siphon_remove_table('%s', '%s') first to publish partitions one by one.",
									other, registry->application)));
		if (get_rel_relispartition(listed->relid) &&
			list_member_oid(get_partition_ancestors(listed->relid), table->relid))
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
							errmsg("partition %s of table %s is already published by application \"%s\"", other, name,
								   registry->application),
							errhint("SELECT siphon_remove_table('%s', '%s') first to publish it under its root.", other,
									registry->application)));
	}
}

extern "C" Datum
siphon_add_table(PG_FUNCTION_ARGS)
{
	RegistryTable *table = static_cast<RegistryTable *>(palloc0(sizeof(RegistryTable)));
	Registry *registry;
	char *application;
	int partitions;
	int workers;

	check_no_nulls(fcinfo, "siphon_add_table", 5);
	application = application_argument(fcinfo, 1);
	partitions = PG_GETARG_INT32(2);
	check_partitions(partitions);
	workers = PG_ARGISNULL(5) ? siphon_snapshot_workers : PG_GETARG_INT32(5);
	check_workers(workers);
	describe_table(PG_GETARG_OID(0), partitions, name_list(PG_GETARG_ARRAYTYPE_P(3)), table);
	registry = registry_read(application);
	if (registry == nullptr)
	{
		application_create(application, false);
		registry = registry_read(application);
	}
	checked(registry, application);
	refuse_twice(registry, table);
	refuse_overlap(registry, table);

	/* Without a snapshot, transactions that commit from here on are published, and no earlier ones. */
	table->start = siphon_newest_wal();
	table->rows = PG_GETARG_BOOL(4);
	table->phase = table->rows ? Phase::Waiting : Phase::Streaming;
	table->workers = workers;
	registry = checked(registry_begin_change(application), application);
	if (table->phase == Phase::Streaming)
		table->generation = registry_next_generation(registry);
	registry->tables = lappend(registry->tables, table);
	registry_end_change(registry);
	application_notify_or_warn(application);
	shared_wake_launcher();
	PG_RETURN_VOID();
}

/* The table that a call is about, in a registry that is open for a change: see registry_begin_change(). */
struct Target
{
	char *application;
	Oid relid;
	Registry *registry;
	RegistryTable *table;
	char *name; /* for messages */
};

/*
 * From the arguments (relation, application) of a function. Catalogs are read first, as that may wait: a registry is
 * not kept from others meanwhile.
 */
static Target
open_target(FunctionCallInfo fcinfo, const char *function)
{
	Target target = {};

	check_no_nulls(fcinfo, function, 2);
	target.relid = PG_GETARG_OID(0);
	target.name = DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(target.relid)));
	target.application = application_argument(fcinfo, 1);
	target.registry = checked(registry_begin_change(target.application), target.application);
	target.table = registry_find(target.registry, target.relid);
	if (target.table == nullptr)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("table %s is not published by application \"%s\"", target.name, target.application),
						errhint("SELECT * FROM siphon_tables lists what is published.")));
	return target;
}

/* Gives a removed table the names that it has now, if it still exists. */
static void
refresh_names(Oid relid, RegistryRemoved *removed)
{
	char *name = get_rel_name(relid);
	char *schema = name ? get_namespace_name(get_rel_namespace(relid)) : nullptr;

	if (schema == nullptr)
		return;
	strlcpy(removed->schema, schema, sizeof(removed->schema));
	strlcpy(removed->name, name, sizeof(removed->name));
}

extern "C" Datum
siphon_remove_table(PG_FUNCTION_ARGS)
{
	RegistryRemoved *removed = static_cast<RegistryRemoved *>(palloc0(sizeof(RegistryRemoved)));
	Target target;

	check_no_nulls(fcinfo, "siphon_remove_table", 2);
	refresh_names(PG_GETARG_OID(0), removed);
	target = open_target(fcinfo, "siphon_remove_table");
	target.registry->tables = list_delete_ptr(target.registry->tables, target.table);
	removed->relid = target.relid;
	removed->generation = target.table->generation;
	if (removed->name[0] == '\0')
	{
		strlcpy(removed->schema, target.table->schema, sizeof(removed->schema));
		strlcpy(removed->name, target.table->name, sizeof(removed->name));
	}
	/* One of which nothing was published yet is nobody's business. */
	if (removed->generation != 0)
		target.registry->removed = lappend(target.registry->removed, removed);
	registry_end_change(target.registry);
	snapshot_cancel(target.application, target.relid);
	application_notify_or_warn(target.application);
	PG_RETURN_VOID();
}

extern "C" Datum
siphon_resync_table(PG_FUNCTION_ARGS)
{
	Target target = open_target(fcinfo, "siphon_resync_table");

	if (target.table->phase == Phase::Waiting || target.table->phase == Phase::Scanning)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE), errmsg("a snapshot of table %s is under way already", target.name),
				 errhint("SELECT * FROM siphon_snapshot_progress shows it; siphon_remove_table() ends it.")));
	target.table->phase = Phase::Waiting;
	target.table->rows = true;
	target.table->failures = 0;
	target.table->retry_at = 0;
	target.table->reason[0] = '\0';
	registry_end_change(target.registry);
	application_notify_or_warn(target.application);
	shared_wake_launcher();
	PG_RETURN_VOID();
}

/* Pauses or resumes a table's snapshot: one that waits does not begin, one that runs stands still. */
static void
set_paused(FunctionCallInfo fcinfo, const char *function, bool paused)
{
	Target target = open_target(fcinfo, function);
	SnapshotJob *job;
	App *app;

	if (target.table->phase == Phase::Streaming || target.table->phase == Phase::Stopped)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table %s has no snapshot to pause or resume", target.name),
						errhint("SELECT siphon_resync_table() begins one.")));
	target.table->paused = paused;
	registry_end_change(target.registry);

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app = shared_find(target.application);
	job = app ? snapshot_find(app, target.relid) : nullptr;
	if (job)
		job->paused = paused;
	LWLockRelease(siphon_shared->lock);
	shared_wake_launcher();
}

extern "C" Datum
siphon_pause(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, "siphon_pause", true);
	PG_RETURN_VOID();
}

extern "C" Datum
siphon_resume(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, "siphon_resume", false);
	PG_RETURN_VOID();
}
