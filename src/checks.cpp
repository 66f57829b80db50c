/*
 * The refusals: see checks.h.
 */
#include "checks.h"

#include "leaves.h"
#include "snapshot.h"
#include "table.h"

extern "C" {
#include "access/heapam.h"
#include "access/nbtree.h"
#include "catalog/pg_am.h"
#include "catalog/dependency.h"
#include "catalog/pg_authid.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "replication/walreceiver.h"
#include "utils/catcache.h"
#include "utils/varlena.h"
}

/*
 * The elements of a list setting with "siphon" added, each a literal of its own, as ALTER SYSTEM wants them: one
 * literal with commas would be taken for one name.
 */
static char *
with_siphon(const char *list)
{
	StringInfoData out;
	List *elements;
	ListCell *lc;

	initStringInfo(&out);
	if (list && SplitDirectoriesString(pstrdup(list), ',', &elements))
		foreach (lc, elements)
			appendStringInfo(&out, "%s, ", quote_literal_cstr(static_cast<char *>(lfirst(lc))));
	appendStringInfoString(&out, "'siphon'");
	return out.data;
}

void
check_preloaded(void)
{
	if (siphon_preloaded)
		return;
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("siphon is not preloaded on this server"),
					errhint("ALTER SYSTEM SET shared_preload_libraries = %s, then restart the server.",
							with_siphon(GetConfigOption("shared_preload_libraries", true, false)))));
}

void
check_application_name(const char *application)
{
	if (registry_name_valid(application))
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("invalid application identifier \"%s\"", application),
					errdetail("An application identifier has up to %d lower-case letters, digits and underscores, "
							  "with single dots between them.",
							  kApplicationLength - 1),
					errhint("Choose one like 'main' or 'prd.cell1.main.1'.")));
}

static void
check_wal_level(void)
{
	if (wal_level < WAL_LEVEL_LOGICAL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("logical decoding needs \"wal_level\" = \"logical\" on this server"),
						errhint("ALTER SYSTEM SET wal_level = logical, then restart this server.")));
#if SIPHON_STANDBY_DECODING
	if (RecoveryInProgress() && GetActiveWalLevelOnStandby() < WAL_LEVEL_LOGICAL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("logical decoding needs \"wal_level\" = \"logical\" on the primary"),
						errhint("On the primary: ALTER SYSTEM SET wal_level = logical, then restart it.")));
#endif
}

static void
check_standby(void)
{
	if (!RecoveryInProgress())
		return;
#if SIPHON_STANDBY_DECODING
	if (!hot_standby_feedback)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("\"hot_standby_feedback\" is off on this standby"),
						errdetail("Without it, VACUUM on the primary can remove catalog rows that decoding needs, and "
								  "the replication slot is lost."),
						errhint("ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();")));
#else
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("logical decoding on a standby needs PostgreSQL 16 or later"),
					errhint("Run siphon_add_table() on the primary, or upgrade PostgreSQL.")));
#endif
}

/* Current minor releases refuse output plugins that are not listed, to superusers too. */
static void
check_output_plugin_listed(void)
{
	const char *setting = GetConfigOption("output_plugin_libraries", true, false);
	List *libraries;
	ListCell *lc;

	if (setting == nullptr)
		return;
	if (SplitDirectoriesString(pstrdup(setting), ',', &libraries))
		foreach (lc, libraries)
		{
			const char *library = static_cast<char *>(lfirst(lc));

			if (strcmp(library, "siphon") == 0 || strcmp(library, "*") == 0)
				return;
		}
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("output plugin \"siphon\" is not listed in \"output_plugin_libraries\""),
			 errhint("ALTER SYSTEM SET output_plugin_libraries = %s; SELECT pg_reload_conf();", with_siphon(setting))));
}

/* Another application that has the slot, or NULL. */
static const char *
slot_owner(const char *slot, const char *application)
{
	ListCell *lc;
	List *names = registry_list();

	foreach (lc, names)
	{
		const char *name = static_cast<char *>(lfirst(lc));
		const Registry *registry = registry_read(name);

		if (registry && strcmp(registry->slot, slot) == 0 && strcmp(name, application) != 0)
			return name;
	}
	return nullptr;
}

static void
check_slot_available(const char *application, const char *slot)
{
	bool exists;
	bool available = false;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	exists = SearchNamedReplicationSlot(slot, false) != nullptr;
	for (int i = 0; i < max_replication_slots; i++)
		available |= !ReplicationSlotCtl->replication_slots[i].in_use;
	LWLockRelease(ReplicationSlotControlLock);
	if (exists)
	{
		const char *owner = slot_owner(slot, application);

		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("replication slot \"%s\" of application \"%s\" already exists", slot, application),
				 owner ? errdetail("It belongs to application \"%s\".", owner)
					   : errdetail("No application uses it; it may have been left behind."),
				 owner ? errhint("Choose an application identifier that differs in more than dots and underscores.")
					   : errhint("SELECT pg_drop_replication_slot('%s'), or choose another application identifier.",
								 slot)));
	}
	if (!available)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("all replication slots are in use"),
				 errhint("ALTER SYSTEM SET max_replication_slots = %d, then restart the server; or free one with "
						 "pg_drop_replication_slot().",
						 max_replication_slots + 1)));
}

void
check_server(const char *application, const char *slot, bool slot_exists)
{
	check_standby();
	check_wal_level();
	check_output_plugin_listed();
	if (!slot_exists)
		check_slot_available(application, slot);
}

void
check_transaction(void)
{
	if (GetTopTransactionIdIfAny() != InvalidTransactionId)
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("cannot set up an application in a transaction that has performed writes"),
						errhint("COMMIT first.")));
}

void
check_failover(const char *application)
{
#if SIPHON_FAILOVER
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("an application with failover can't be created on a standby"),
				 errhint("On the primary: SELECT siphon_create_application('%s', failover => true).", application)));
	if (synchronized_standby_slots[0] == '\0')
		ereport(
			WARNING,
			(errmsg("\"synchronized_standby_slots\" is empty"),
			 errdetail("What is published before the standby has it may never be on the server that takes over."),
			 errhint("ALTER SYSTEM SET synchronized_standby_slots = '...'; SELECT pg_reload_conf(); with the physical "
					 "slots of the standbys that may take over.")));
#else
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("slots that standbys synchronize need PostgreSQL 17 or later"),
			 errhint("SELECT siphon_create_application('%s') without failover, or upgrade PostgreSQL.", application)));
#endif
}

void
check_partitions(int partitions)
{
	if (partitions < 1 || partitions > kMaxPartitions)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partitions must be between 1 and %d, not %d", kMaxPartitions, partitions),
				 errhint("Call siphon_add_table() with partitions => 1 unless consumers share the table's load.")));
}

void
check_workers(int workers)
{
	if (workers < 1 || workers > kMaxSnapshotWorkers)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("workers must be between 1 and %d, not %d", kMaxSnapshotWorkers, workers),
						errhint("Leave the argument out to have siphon.snapshot_workers of them.")));
}

static void
refuse_kind(Relation relation, const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
					errmsg("\"%s\" is %s and can't be published", RelationGetRelationName(relation), what),
					errhint("%s", hint)));
}

void
check_table_kind(Relation relation)
{
	const char *name = RelationGetRelationName(relation);
	const char *qualified = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)), name);
	Oid extension;

	switch (relation->rd_rel->relkind)
	{
		case RELKIND_RELATION:
			if (relation->rd_tableam != GetHeapamTableAmRoutine())
				refuse_kind(relation, psprintf("a table with access method %s", get_am_name(relation->rd_rel->relam)),
							psprintf("ALTER TABLE %s SET ACCESS METHOD heap.", qualified));
			break;
		case RELKIND_PARTITIONED_TABLE:
			break;
		case RELKIND_FOREIGN_TABLE:
			refuse_kind(relation, "a foreign table", "Call siphon_add_table() on the server where its rows are.");
			break;
		case RELKIND_VIEW:
		case RELKIND_MATVIEW:
			refuse_kind(relation, "a view", "Call siphon_add_table() for the tables behind it.");
			break;
		default:
			refuse_kind(relation, "not a table", "Call siphon_add_table() with an ordinary table.");
	}
	if (IsCatalogRelation(relation) || IsToastRelation(relation) ||
		RelationGetNamespace(relation) == PG_CATALOG_NAMESPACE || RelationGetRelid(relation) < FirstNormalObjectId)
		refuse_kind(relation, "a system table", "Call siphon_add_table() with a table of your own.");
	extension = getExtensionOfObject(RelationRelationId, RelationGetRelid(relation));
	if (OidIsValid(extension) && extension == get_extension_oid("siphon", true))
		refuse_kind(relation, "a table of siphon itself", "Call siphon_add_table() with a table of your own.");
	switch (relation->rd_rel->relpersistence)
	{
		case RELPERSISTENCE_TEMP:
			refuse_kind(relation, "a temporary table",
						"Its changes are not in the WAL: CREATE TABLE without TEMPORARY.");
			break;
		case RELPERSISTENCE_UNLOGGED:
			refuse_kind(relation, "an unlogged table",
						psprintf("Its changes are not in the WAL: ALTER TABLE %s SET LOGGED.", qualified));
			break;
		default:
			break;
	}
}

/* In whatever version of the extension, and not one that somebody else has put beside it. */
static bool
may_call(const char *function)
{
	Oid extension = get_extension_oid("siphon", true);
	CatCList *functions = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(function));
	bool may = false;

	for (int i = 0; i < functions->n_members; i++)
	{
		Oid oid = reinterpret_cast<Form_pg_proc>(GETSTRUCT(&functions->members[i]->tuple))->oid;

		may |= getExtensionOfObject(ProcedureRelationId, oid) == extension && siphon_may_execute(oid, GetUserId());
	}
	ReleaseSysCacheList(functions);
	return may;
}

void
check_may_create(const char *application)
{
	if (may_call("siphon_create_application"))
		return;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied to create application \"%s\"", application),
					errdetail("It does not exist yet, and takes a replication slot, which keeps WAL."),
					errhint("GRANT EXECUTE ON FUNCTION siphon_create_application TO %s; or have it made by who may.",
							quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

void
check_may_publish_all(void)
{
	const char *user;

	if (has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_DATA) && has_bypassrls_privilege(GetUserId()))
		return;
	user = quote_identifier(GetUserNameFromId(GetUserId(), false));
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied to follow a publication"),
					errdetail("Whoever owns it decides later which tables and rows are published."),
					errhint("GRANT pg_read_all_data TO %s; ALTER ROLE %s BYPASSRLS;", user, user)));
}

void
check_may_read(Oid relid)
{
	const char *name = get_rel_name(relid);
	const char *qualified;
	const char *user;

	if (name == nullptr)
		return;
	qualified = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
	user = quote_identifier(GetUserNameFromId(GetUserId(), false));
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for table %s", qualified),
						errhint("GRANT SELECT ON %s TO %s;", qualified, user)));
	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("row-level security hides rows of table %s from user %s", qualified, user),
						errdetail("A stream of changes shows every row."),
						errhint("Let the table's owner call the function, or ALTER ROLE %s BYPASSRLS.", user)));
}

/* The index that tells the table's rows apart in WAL, or InvalidOid. With FULL it is the primary key, if any. */
static Oid
identity_index(Relation relation)
{
	list_free(RelationGetIndexList(relation));
	if (relation->rd_rel->relreplident == REPLICA_IDENTITY_FULL)
		return relation->rd_pkindex;
	return relation->rd_replidindex;
}

/* Are values of the index's column that are equal also alike on the wire, or made so by key_partition()? */
static bool
equal_is_alike(Relation index, int column)
{
	Oid type = index->rd_opcintype[column];
	Oid function;

	if (type == NUMERICOID || type == FLOAT4OID || type == FLOAT8OID)
		return true;
	if (type == BPCHAROID)
		return get_collation_isdeterministic(index->rd_indcollation[column]);
	if (index->rd_rel->relam != BTREE_AM_OID)
		return false;
	/* PostgreSQL asks the same before it keeps equal entries of an index once. */
	function = get_opfamily_proc(index->rd_opfamily[column], type, type, BTEQUALIMAGE_PROC);
	return OidIsValid(function) &&
		   DatumGetBool(OidFunctionCall1Coll(function, index->rd_indcollation[column], ObjectIdGetDatum(type)));
}

/* Keys that are equal must not fall into different partitions. */
static void
check_key_types(Relation relation, Oid index_oid)
{
	Relation index = index_open(index_oid, AccessShareLock);

	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		AttrNumber attnum = index->rd_index->indkey.values[i];

		if (equal_is_alike(index, i))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table %s can't be divided by its key",
						quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
												   RelationGetRelationName(relation))),
				 errdetail("Values of column \"%s\" can be equal and written differently, and so would not always "
						   "be in the same partition.",
						   get_attname(RelationGetRelid(relation), attnum, false)),
				 errhint("Call siphon_add_table() with partitions => 1, or use ALTER TABLE ... REPLICA IDENTITY "
						 "USING INDEX with an index of other columns.")));
	}
	index_close(index, AccessShareLock);
}

static void
check_identity(Relation relation, int partitions)
{
	const char *name = RelationGetRelationName(relation);
	const char *qualified = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)), name);
	Oid index = identity_index(relation);

	if (!OidIsValid(index) && relation->rd_rel->relreplident != REPLICA_IDENTITY_FULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table %s has no usable replica identity", qualified),
						errdetail("Without one, updates and deletes don't say in the WAL which row they mean."),
						errhint("ALTER TABLE %s ADD PRIMARY KEY (...), or ALTER TABLE %s REPLICA IDENTITY FULL.",
								qualified, qualified)));
	if (!OidIsValid(index) && partitions > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("table %s has no key to divide it into %d partitions by", qualified, partitions),
				 errhint("ALTER TABLE %s ADD PRIMARY KEY (...), or call siphon_add_table() with partitions => 1.",
						 qualified)));
	if (partitions > 1)
		check_key_types(relation, index);
}

/* The leaves of a partitioned table. The root's key names their rows, so their replica identities must hold it. */
static void
check_leaves(Relation root)
{
	const char *qualified =
		quote_qualified_identifier(get_namespace_name(RelationGetNamespace(root)), RelationGetRelationName(root));
	ListCell *lc;

	foreach (lc, leaves_of(root, nullptr))
	{
		Relation leaf = try_table_open(lfirst_oid(lc), AccessShareLock);
		const char *name;

		if (leaf == nullptr)
			continue; /* dropped meanwhile */
		name =
			quote_qualified_identifier(get_namespace_name(RelationGetNamespace(leaf)), RelationGetRelationName(leaf));
		if (leaf->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
			refuse_kind(leaf, "a foreign table",
						psprintf("ALTER TABLE %s DETACH PARTITION %s, or call siphon_add_table() for each of the other "
								 "partitions.",
								 qualified, name));
		check_table_kind(leaf);
		if (!leaf_has_identity(leaf, root, siphon_attribute_map(RelationGetDescr(leaf), RelationGetDescr(root))))
			ereport(
				ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("partition %s of table %s has no usable replica identity", name, qualified),
				 errdetail("Updates and deletes of its rows don't hold the table's key in the WAL."),
				 errhint("ALTER TABLE %s REPLICA IDENTITY FULL, or DEFAULT if its primary key is the table's.", name)));
		table_close(leaf, AccessShareLock);
	}
}

static void
check_excluded(Relation relation, List *exclude_columns)
{
	Oid index_oid = identity_index(relation);
	Relation index = OidIsValid(index_oid) ? RelationIdGetRelation(index_oid) : nullptr;
	ListCell *lc;

	foreach (lc, exclude_columns)
	{
		const char *column = static_cast<char *>(lfirst(lc));
		AttrNumber attnum = get_attnum(RelationGetRelid(relation), column);

		if (attnum <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" does not exist", column, RelationGetRelationName(relation)),
					 errhint("List columns of the table in exclude_columns => '{...}'.")));
		for (int i = 0; index && i < index->rd_index->indnkeyatts; i++)
			if (index->rd_index->indkey.values[i] == attnum)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("column \"%s\" of table \"%s\" can't be excluded", column,
								RelationGetRelationName(relation)),
						 errdetail("It is part of the key, by which consumers tell rows apart."),
						 errhint("Leave it out of exclude_columns, or use ALTER TABLE ... REPLICA IDENTITY USING INDEX "
								 "with another key.")));
	}
	if (index)
		RelationClose(index);
}

/* Such a value is in no row and no WAL record, and to compute it while decoding, functions would have to be called. */
static void
tell_of_virtual_columns(Relation relation)
{
#if PG_VERSION_NUM >= 180000
	TupleDesc desc = RelationGetDescr(relation);

	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped &&
			TupleDescAttr(desc, i)->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
			ereport(NOTICE, (errmsg("virtual generated column \"%s\" of table \"%s\" is not published",
									NameStr(TupleDescAttr(desc, i)->attname), RelationGetRelationName(relation)),
							 errdetail("It has no value in the WAL. Stored generated columns are published.")));
#else
	static_cast<void>(relation);
#endif
}

void
check_table(Relation relation, int partitions, List *exclude_columns)
{
	check_table_kind(relation);
	check_may_read(RelationGetRelid(relation));
	check_identity(relation, partitions);
	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		check_leaves(relation);
	check_excluded(relation, exclude_columns);
	tell_of_virtual_columns(relation);
}
