/*
 * The refusals: see checks.h.
 */
#include "checks.h"

#include "catalogs/obstacles.h"

extern "C" {
#include "catalog/dependency.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_inherits.h"
#include "commands/extension.h"
#include "replication/walreceiver.h"
#include "utils/catcache.h"
#include "utils/varlena.h"
}

static constexpr int kNamedChildren = 10;

/*
 * The elements of a list setting with "siphon" added, each a literal of its own, as ALTER SYSTEM wants them: one
 * literal with commas would be taken for one name.
 */
static char *
add_siphon_to_list(const char *list)
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
							add_siphon_to_list(GetConfigOption("shared_preload_libraries", true, false)))));
}

void
check_application_name(const char *application)
{
	if (is_valid_application_name(application))
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
	/* It reaches the primary by streaming replication alone, and is remembered there by a slot alone. */
	if (!WalRcvRunning())
		ereport(WARNING,
				(errmsg("this standby receives no WAL from a primary"),
				 errdetail("The primary does not hear what its VACUUM must leave, and the replication slot can be lost."),
				 errhint("Set primary_conninfo and primary_slot_name on this standby; an archive alone does not do.")));
	else if (PrimarySlotName[0] == '\0')
		ereport(WARNING,
				(errmsg("\"primary_slot_name\" is not set on this standby"),
				 errdetail("While it is not connected, VACUUM on the primary can remove catalog rows that decoding needs, "
						   "and the replication slot is lost."),
				 errhint("On the primary: SELECT pg_create_physical_replication_slot('standby'). Here: ALTER SYSTEM SET "
						 "primary_slot_name = 'standby'; SELECT pg_reload_conf();")));
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
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("output plugin \"siphon\" is not listed in \"output_plugin_libraries\""),
					errhint("ALTER SYSTEM SET output_plugin_libraries = %s; SELECT pg_reload_conf();",
							add_siphon_to_list(setting))));
}

/* Another application that has the slot, or NULL. */
static const char *
slot_owner(const char *slot, const char *application)
{
	ListCell *lc;
	List *names = registry_list_applications();

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
				 errmsg("an application with failover cannot be created on a standby"),
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

/* In whatever version of the extension, and not one that another user has put beside it. */
static bool
is_allowed_to_call(const char *function)
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
	if (is_allowed_to_call("siphon_create_application"))
		return;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied to create application \"%s\"", application),
					errdetail("It does not exist yet, and takes a replication slot, which retains WAL."),
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

void
check_columns(Relation relation, List *columns)
{
	ListCell *lc;

	foreach (lc, columns)
	{
		const char *column = static_cast<char *>(lfirst(lc));

		if (get_attnum(RelationGetRelid(relation), column) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" does not exist", column, RelationGetRelationName(relation)),
					 errhint("List columns of the table in exclude_columns => '{...}'.")));
	}
}

/* Such a value is in no row and no WAL record, and to compute it while decoding, functions would have to be called. */
void
notice_virtual_columns(Relation relation)
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
notice_children(Oid relid)
{
	StringInfoData names;
	const char *first = nullptr;
	int count = 0;
	ListCell *lc;

	if (get_rel_relkind(relid) != RELKIND_RELATION || !has_subclass(relid))
		return;
	initStringInfo(&names);
	foreach (lc, find_all_inheritors(relid, NoLock, nullptr))
	{
		const char *name = lfirst_oid(lc) != relid ? get_rel_name(lfirst_oid(lc)) : nullptr;

		if (name == nullptr || ++count > kNamedChildren)
			continue;
		name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(lfirst_oid(lc))), name);
		first = first ? first : name;
		appendStringInfo(&names, "%s%s", count > 1 ? ", " : "", name);
	}
	if (count > kNamedChildren)
		appendStringInfo(&names, ", and %d more", count - kNamedChildren);
	if (first)
		ereport(NOTICE, (errmsg("rows of tables that inherit from table \"%s\" are not published with it: %s",
								get_rel_name(relid), names.data),
						 errhint("SELECT siphon_add_table(%s); and so on, or siphon_add_tables() with a pattern.",
								 quote_literal_cstr(first))));
}

void
check_table(Relation relation, const RegistryTable *table, bool wait)
{
	check_obstacle(kind_obstacle(relation));
	check_obstacle(storage_obstacle(RelationGetRelid(relation)));
	check_may_read(RelationGetRelid(relation));
	check_obstacle(identity_obstacle(relation, table->partitions));
	check_obstacle(leaves_obstacle(relation, wait));
	check_obstacle(
		columns_obstacle(relation, table->only_attributes, table->exclude_attributes, table->exclude_columns));
}
