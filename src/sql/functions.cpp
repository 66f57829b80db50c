/*
 * The SQL functions by which people change what is published. Like slots, the registry is not part of a
 * transaction: what these functions did stays when the transaction rolls back.
 */
#include "application.h"
#include "registry/checks.h"
#include "registry/table_list.h"
#include "matching_tables.h"
#include "decode/registry_mirror.h"
#include "launcher/publication.h"
#include "server/function_version.h"
#include "snapshot/snapshot.h"

/* Begins the function `name`, which SQL calls by way of registry_call(). */
#define SQL_FUNCTION(name) \
	static Datum call_##name(PG_FUNCTION_ARGS); \
	extern "C" { \
	PG_FUNCTION_INFO_V1(name); \
	Datum name(PG_FUNCTION_ARGS) \
	{ \
		return registry_call(call_##name, fcinfo); \
	} \
	} \
	static Datum call_##name(PG_FUNCTION_ARGS)

/* Of a function's arguments all must be there, and none be null but the optional ones, which are the last. */
static void
check_no_nulls(FunctionCallInfo fcinfo, const char *function, int count, int optional = 0)
{
	check_argument_count(fcinfo, function, count + optional);
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
	registry_mirror_check_not_on_standby(application);
	return application;
}

/*
 * An application's registry as it was read; ERROR if there is none, or if it belongs to another database. One whose
 * database was dropped belongs to nobody, and can be dropped from anywhere.
 */
static Registry *
check_registry_database(Registry *registry, const char *application, bool orphan_ok = false)
{
	if (registry == nullptr)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("application \"%s\" does not exist", application),
						errhint("SELECT application FROM siphon_applications lists those that do.")));
	if (orphan_ok && get_database_name(registry->database) == nullptr)
		return registry;
	if (registry->database != MyDatabaseId)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("application \"%s\" belongs to database \"%s\"", application,
							   registry_get_database_name(registry)),
						errhint("Connect to that database (\\c %s), or choose another application identifier.",
								quote_identifier(registry_get_database_name(registry)))));
	return registry;
}

SQL_FUNCTION(siphon_create_application)
{
	char *application;

	check_no_nulls(fcinfo, "siphon_create_application", 3);
	application = application_argument(fcinfo, 0);
	if (registry_read(application))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("application \"%s\" already exists", application),
						errhint("Add tables to it with siphon_add_table(), or SELECT siphon_drop_application('%s').",
								application)));
	application_create(application, PG_GETARG_BOOL(1), PG_GETARG_BOOL(2));
	PG_RETURN_VOID();
}

SQL_FUNCTION(siphon_drop_application)
{
	char *application;
	Registry *registry;

	check_no_nulls(fcinfo, "siphon_drop_application", 1);
	application = application_argument(fcinfo, 0);
	registry = registry_read(application);
	/* Of one that did not come over from a former primary there is nothing but the mirror. */
	if (registry == nullptr && registry_mirror_delete(application))
		PG_RETURN_VOID();
	application_drop(check_registry_database(registry, application, true));
	if (registry->failover)
		registry_mirror_delete(application);
	PG_RETURN_VOID();
}

SQL_FUNCTION(siphon_resync_application)
{
	char *application;
	Registry *registry;

	check_no_nulls(fcinfo, "siphon_resync_application", 2);
	application = application_argument(fcinfo, 0);
	registry = registry_read(application);
	/* Of one that did not come over from a former primary there is nothing but the mirror. */
	if (registry == nullptr)
		registry = registry_mirror_restore(application);
	application_resync(check_registry_database(registry, application), PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}

SQL_FUNCTION(siphon_stop_application)
{
	char *application;

	check_no_nulls(fcinfo, "siphon_stop_application", 1);
	application = application_argument(fcinfo, 0);
	application_stop(check_registry_database(registry_read(application), application));
	PG_RETURN_VOID();
}

SQL_FUNCTION(siphon_start_application)
{
	char *application;
	Registry *registry;

	check_no_nulls(fcinfo, "siphon_start_application", 1);
	application = application_argument(fcinfo, 0);
	registry = check_registry_database(registry_read(application), application);
	if (registry->stopped)
		application_start(registry);
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

/* The application is made on first use, by those who may make one. */
static Registry *
read_or_create_registry(const char *application)
{
	Registry *registry = registry_read(application);

	if (registry == nullptr)
	{
		check_may_create(application);
		application_create(application, false, false);
		registry = registry_read(application);
	}
	return check_registry_database(registry, application);
}

SQL_FUNCTION(siphon_follow_publication)
{
	const char *publication;
	const char *reason;
	char *application;
	Registry *registry;

	check_no_nulls(fcinfo, "siphon_follow_publication", 2);
	publication = NameStr(*PG_GETARG_NAME(0));
	application = application_argument(fcinfo, 1);
	check_may_publish_all();
	reason = publication_unsupported_reason(publication);
	if (reason)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("cannot follow publication \"%s\": %s", publication, reason),
						errhint("%s", publication_unsupported_hint(publication, reason))));
	registry = read_or_create_registry(application);
	if (strcmp(registry->publication, publication) == 0)
		PG_RETURN_VOID();
	if (registry->publication[0])
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("application \"%s\" follows publication \"%s\" already", application, registry->publication),
				 errhint("SELECT siphon_unfollow_publication('%s') first.", application)));
	registry = check_registry_database(registry_begin_change(application), application);
	strlcpy(registry->publication, publication, sizeof(registry->publication));
	registry_end_change(registry);
	application_notify_or_warn(application);
	wake_launcher();
	PG_RETURN_VOID();
}

SQL_FUNCTION(siphon_unfollow_publication)
{
	char *application;
	Registry *registry;
	ListCell *lc;

	check_no_nulls(fcinfo, "siphon_unfollow_publication", 1);
	application = application_argument(fcinfo, 0);
	registry = check_registry_database(registry_read(application), application);
	if (registry->publication[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("application \"%s\" follows no publication", application),
						errhint("SELECT application, publication FROM siphon_applications;")));
	registry = check_registry_database(registry_begin_change(application), application);
	registry->publication[0] = registry->follow_reason[0] = '\0';
	registry->left_out = NIL;
	foreach (lc, registry->tables)
		static_cast<RegistryTable *>(lfirst(lc))->followed = false;
	registry_end_change(registry);
	application_notify_or_warn(application);
	wake_launcher();
	PG_RETURN_VOID();
}

SQL_FUNCTION(siphon_add_table)
{
	RegistryTable *table;
	Registry *registry;
	char *application;
	int partitions;
	int workers;

	check_no_nulls(fcinfo, "siphon_add_table", 5, 1);
	application = application_argument(fcinfo, 1);
	partitions = PG_GETARG_INT32(2);
	check_partitions(partitions);
	workers = PG_ARGISNULL(5) ? siphon_snapshot_workers : PG_GETARG_INT32(5);
	check_workers(workers);
	table = table_list_build_entry(PG_GETARG_OID(0), partitions, name_list(PG_GETARG_ARRAYTYPE_P(3)), nullptr);
	registry = read_or_create_registry(application);
	check_not_listed(registry, table);
	table->rows = PG_GETARG_BOOL(4);
	table->workers = workers;
	registry = check_registry_database(registry_begin_change(application), application);
	table_list_add(registry, table);
	registry_end_change(registry);
	notice_children(table->relid);
	application_notify_or_warn(application);
	wake_launcher();
	PG_RETURN_VOID();
}

static void
put_matching_table(ReturnSetInfo *result, const MatchingTable *match)
{
	Datum values[4] = {ObjectIdGetDatum(match->relid), BoolGetDatum(match->table != nullptr)};
	bool nulls[4] = {false, false, match->reason == nullptr, match->hint == nullptr};

	if (match->reason)
		values[2] = CStringGetTextDatum(match->reason);
	if (match->hint)
		values[3] = CStringGetTextDatum(match->hint);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

SQL_FUNCTION(siphon_add_tables)
{
	ReturnSetInfo *result;
	const char *schema;
	char *pattern;
	char *application;
	Registry *registry;
	List *matches;
	List *exclude_columns;
	ListCell *lc;
	int workers;
	bool any = false;

	check_no_nulls(fcinfo, "siphon_add_tables", 6, 1);
	schema = NameStr(*PG_GETARG_NAME(0));
	pattern = text_to_cstring(PG_GETARG_TEXT_PP(1));
	application = application_argument(fcinfo, 2);
	check_partitions(PG_GETARG_INT32(3));
	exclude_columns = name_list(PG_GETARG_ARRAYTYPE_P(4));
	workers = PG_ARGISNULL(6) ? siphon_snapshot_workers : PG_GETARG_INT32(6);
	check_workers(workers);
	result = begin_rows(fcinfo, "siphon_add_tables", 4);
	registry = registry_read(application);
	if (registry)
		check_registry_database(registry, application);
	matches = matching_tables(registry, schema, pattern, PG_GETARG_INT32(3), exclude_columns);
	foreach (lc, matches)
		any |= static_cast<MatchingTable *>(lfirst(lc))->table != nullptr;
	if (any)
	{
		read_or_create_registry(application);
		registry = check_registry_database(registry_begin_change(application), application);
		foreach (lc, matches)
		{
			RegistryTable *table = static_cast<MatchingTable *>(lfirst(lc))->table;

			if (table == nullptr)
				continue;
			table->rows = PG_GETARG_BOOL(5);
			table->workers = workers;
			table_list_add(registry, table);
		}
		registry_end_change(registry);
		application_notify_or_warn(application);
		wake_launcher();
	}
	foreach (lc, matches)
		put_matching_table(result, static_cast<MatchingTable *>(lfirst(lc)));
	return static_cast<Datum>(0);
}

/* The table that a call is about. */
struct Target
{
	char *application;
	Oid relid;
	Registry *registry;
	RegistryTable *table;
	char *name; /* for messages */
};

[[noreturn]] static void
raise_not_published(const Target *target)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("table %s is not published by application \"%s\"", target->name, target->application),
					errhint("SELECT * FROM siphon_tables lists what is published.")));
}

/* From the arguments (relation, application) of a function, and as the registry is now. */
static Target
find_target(FunctionCallInfo fcinfo, const char *function, bool change = false, int optional = 0)
{
	Target target = {};

	check_no_nulls(fcinfo, function, 2, optional);
	target.relid = PG_GETARG_OID(0);
	/* Catalogs are read first, as that may wait: a registry is not kept from others meanwhile. */
	target.name = DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(target.relid)));
	check_may_read(target.relid);
	target.application = application_argument(fcinfo, 1);
	target.registry = check_registry_database(
		change ? registry_begin_change(target.application) : registry_read(target.application), target.application);
	target.table = registry_find_table(target.registry, target.relid);
	if (target.table == nullptr)
		raise_not_published(&target);
	return target;
}

/* The same, in a registry that is open for a change: see registry_begin_change(). */
static Target
open_target(FunctionCallInfo fcinfo, const char *function)
{
	return find_target(fcinfo, function, true);
}

/* What a publication says of a table, it would say again. */
static void
check_not_followed(const Target *target, const char *what, const char *clause)
{
	if (!target->table->followed || target->table->end_lsn != InvalidXLogRecPtr)
		return;
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("table %s cannot be %s: application \"%s\" follows publication \"%s\"", target->name, what,
						   target->application, target->registry->publication),
					errhint("ALTER PUBLICATION %s %s; or SELECT siphon_unfollow_publication('%s') first.",
							quote_identifier(target->registry->publication), psprintf(clause, target->name),
							target->application)));
}

static void
check_target_not_leaving(const Target *target)
{
	check_not_leaving(target->registry, target->table, target->name);
}

SQL_FUNCTION(siphon_remove_table)
{
	Target target;

	check_no_nulls(fcinfo, "siphon_remove_table", 2);
	target = find_target(fcinfo, "siphon_remove_table");
	check_not_followed(&target, "removed", "DROP TABLE %s");
	target = open_target(fcinfo, "siphon_remove_table");
	table_list_remove(target.registry, target.table);
	registry_end_change(target.registry);
	snapshot_cancel(target.application, target.relid);
	application_notify_or_warn(target.application);
	PG_RETURN_VOID();
}

static void
check_no_snapshot_running(const Target *target)
{
	if (target->table->phase == TablePhase::Waiting || target->table->phase == TablePhase::Scanning)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE), errmsg("a snapshot of table %s is under way already", target->name),
				 errhint("SELECT * FROM siphon_snapshot_progress shows it; siphon_remove_table() ends it.")));
}

SQL_FUNCTION(siphon_resync_table)
{
	Target target = find_target(fcinfo, "siphon_resync_table");

	check_target_not_leaving(&target);
	check_no_snapshot_running(&target);
	table_list_check_entry(target.table);
	target = open_target(fcinfo, "siphon_resync_table");
	check_target_not_leaving(&target);
	check_no_snapshot_running(&target);
	target.table->rows = true;
	table_list_request_snapshot(target.registry, target.table);
	registry_end_change(target.registry);
	application_notify_or_warn(target.application);
	wake_launcher();
	PG_RETURN_VOID();
}

/* Without rows there is nothing that would tell consumers which of their keys are in another partition now. */
static void
check_same_partitions(const RegistryTable *table, const char *application)
{
	const char *name = get_quoted_table_name(table->relid);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("partitions of table %s cannot be changed: it was added without its rows", name),
			 errdetail("Keys would change their partition, and no rows come that say so."),
			 errhint("SELECT siphon_resync_table(%s, '%s') first to publish its rows, too.", quote_literal_cstr(name),
					 application)));
}

SQL_FUNCTION(siphon_alter_table)
{
	RegistryTable *changed;
	Target target;
	Oid relid;
	List *columns = NIL;
	int partitions = 0;
	AlterEffect effect;

	check_no_nulls(fcinfo, "siphon_alter_table", 2, 3);
	relid = PG_GETARG_OID(0);
	if (!PG_ARGISNULL(3))
		columns = name_list(PG_GETARG_ARRAYTYPE_P(3));
	if (!PG_ARGISNULL(4))
		check_workers(PG_GETARG_INT32(4));
	target = find_target(fcinfo, "siphon_alter_table", false, 3);
	check_target_not_leaving(&target);
	if (!PG_ARGISNULL(3))
		check_not_followed(&target, "given other columns", "SET TABLE %s (...)");
	partitions = PG_ARGISNULL(2) ? target.table->partitions : PG_GETARG_INT32(2);
	check_partitions(partitions);
	changed = table_list_build_entry(relid, partitions, columns, PG_ARGISNULL(3) ? target.table : nullptr);
	effect = table_list_get_alter_effect(target.table, changed);
	if (partitions != target.table->partitions && !target.table->rows)
		check_same_partitions(target.table, target.application);
	changed->workers = PG_ARGISNULL(4) ? target.table->workers : PG_GETARG_INT32(4);
	if (effect == AlterEffect::None && changed->workers == target.table->workers)
		PG_RETURN_VOID();

	target.registry = check_registry_database(registry_begin_change(target.application), target.application);
	target.table = registry_find_table(target.registry, relid);
	if (target.table == nullptr)
		raise_not_published(&target);
	table_list_alter(target.registry, target.table, changed, effect);
	registry_end_change(target.registry);
	if (effect == AlterEffect::Resync && target.table->rows)
		snapshot_cancel(target.application, relid);
	application_notify_or_warn(target.application);
	wake_launcher();
	if (effect != AlterEffect::Resync)
		PG_RETURN_VOID();
	if (target.table->rows)
		ereport(NOTICE, (errmsg("a new snapshot of table %s has been scheduled", get_quoted_table_name(relid)),
						 errdetail("Its next generation replaces all that is in the stream."),
						 errhint("Run SELECT * FROM siphon_snapshot_progress to see its progress.")));
	else if (target.table->phase == TablePhase::Stopped)
		ereport(WARNING,
				(errmsg("table %s is still not published: %s", get_quoted_table_name(relid), target.table->reason),
				 errdetail("Changes since then are missing, so it does not continue by itself."),
				 errhint("Run SELECT siphon_resync_table(%s, '%s') to take a new snapshot, and to publish its changes from then on.",
						 quote_literal_cstr(get_quoted_table_name(relid)), target.application)));
	else
		ereport(NOTICE, (errmsg("changes of table %s have other columns from here on", get_quoted_table_name(relid)),
						 errdetail("It was added without its rows; what is in the stream stays as it is."),
						 errhint("Run SELECT siphon_resync_table(%s, '%s') to take a new snapshot.",
								 quote_literal_cstr(get_quoted_table_name(relid)), target.application)));
	PG_RETURN_VOID();
}

/* Pauses or resumes a table's snapshot: one that waits does not begin, one that runs stands still. */
static void
set_paused(FunctionCallInfo fcinfo, const char *function, bool paused)
{
	Target target = open_target(fcinfo, function);
	SnapshotJob *job;
	SharedApplication *app;

	check_target_not_leaving(&target);
	if (target.table->phase == TablePhase::Streaming || target.table->phase == TablePhase::Stopped)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table %s has no snapshot to pause or resume", target.name),
						errhint("SELECT siphon_resync_table() begins one.")));
	target.table->paused = paused;
	registry_end_change(target.registry);

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app = shmem_find_application(target.application);
	job = app ? snapshot_find(app, target.relid) : nullptr;
	if (job)
		job->paused = paused;
	LWLockRelease(siphon_shared->lock);
	wake_launcher();
}

SQL_FUNCTION(siphon_pause)
{
	set_paused(fcinfo, "siphon_pause", true);
	PG_RETURN_VOID();
}

SQL_FUNCTION(siphon_resume)
{
	set_paused(fcinfo, "siphon_resume", false);
	PG_RETURN_VOID();
}
