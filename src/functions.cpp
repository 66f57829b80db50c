/*
 * The SQL functions by which people change what is published. Like slots, the registry is not part of a
 * transaction: what these functions did stays when the transaction rolls back.
 */
#include "application.h"
#include "checks.h"

extern "C" {
PG_FUNCTION_INFO_V1(siphon_create_application);
PG_FUNCTION_INFO_V1(siphon_drop_application);
PG_FUNCTION_INFO_V1(siphon_add_table);
PG_FUNCTION_INFO_V1(siphon_remove_table);
}

static void
check_no_nulls(FunctionCallInfo fcinfo, const char *function)
{
	for (int i = 0; i < PG_NARGS(); i++)
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
	return application;
}

/*
 * An application's registry; ERROR if there is none, or if it belongs to another database. One whose database was dropped
 * belongs to nobody, and can be dropped from anywhere.
 */
static Registry *
existing_registry(const char *application, bool orphan_ok = false)
{
	Registry *registry = registry_read(application);

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

	check_no_nulls(fcinfo, "siphon_create_application");
	application = application_argument(fcinfo, 0);
	if (registry_read(application))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("application \"%s\" already exists", application),
						errhint("Add tables to it with siphon_add_table(), or SELECT siphon_drop_application('%s').",
								application)));
	application_create(application);
	PG_RETURN_VOID();
}

extern "C" Datum
siphon_drop_application(PG_FUNCTION_ARGS)
{
	char *application;

	check_no_nulls(fcinfo, "siphon_drop_application");
	application = application_argument(fcinfo, 0);
	application_drop(existing_registry(application, true));
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

extern "C" Datum
siphon_add_table(PG_FUNCTION_ARGS)
{
	RegistryTable *table = static_cast<RegistryTable *>(palloc0(sizeof(RegistryTable)));
	Registry *registry;
	char *application;
	int partitions;

	check_no_nulls(fcinfo, "siphon_add_table");
	application = application_argument(fcinfo, 1);
	partitions = PG_GETARG_INT32(2);
	check_partitions(partitions);
	describe_table(PG_GETARG_OID(0), partitions, name_list(PG_GETARG_ARRAYTYPE_P(3)), table);
	if (registry_read(application) == nullptr)
		application_create(application);
	refuse_twice(existing_registry(application), table);

	/* Transactions that commit from here on are published, and no earlier ones. */
	table->start = RecoveryInProgress() ? GetXLogReplayRecPtr(nullptr) : GetXLogInsertRecPtr();
	LWLockAcquire(siphon_shared->registry_lock, LW_EXCLUSIVE);
	registry = existing_registry(application);
	registry->tables = lappend(registry->tables, table);
	registry_write(registry);
	LWLockRelease(siphon_shared->registry_lock);
	application_notify(application);

	if (PG_GETARG_BOOL(4))
		ereport(NOTICE, (errmsg("changes of table %s are published from now on; its existing rows are not copied yet",
								quote_qualified_identifier(table->schema, table->name)),
						 errdetail("This version has no snapshots."),
						 errhint("Pass snapshot => false to say that changes are all you want.")));
	PG_RETURN_VOID();
}

extern "C" Datum
siphon_remove_table(PG_FUNCTION_ARGS)
{
	Registry *registry;
	RegistryTable *table;
	Oid relid;
	char *application;
	char *name;

	check_no_nulls(fcinfo, "siphon_remove_table");
	relid = PG_GETARG_OID(0);
	/* Before the lock is taken: it reads catalogs, which may wait. */
	name = DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(relid)));
	application = application_argument(fcinfo, 1);
	LWLockAcquire(siphon_shared->registry_lock, LW_EXCLUSIVE);
	registry = existing_registry(application);
	table = registry_find(registry, relid);
	if (table == nullptr)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("table %s is not published by application \"%s\"", name, application),
						errhint("SELECT * FROM siphon_tables lists what is published.")));
	registry->tables = list_delete_ptr(registry->tables, table);
	registry_write(registry);
	LWLockRelease(siphon_shared->registry_lock);
	application_notify(application);
	PG_RETURN_VOID();
}
