/*
 * Names of published tables: see renames.h.
 */
#include "renames.h"

RegistryName
name_at_lsn(const Table *table, XLogRecPtr commit_lsn)
{
	ListCell *lc;

	foreach (lc, table->former_names)
	{
		const RegistryName *former = static_cast<RegistryName *>(lfirst(lc));

		if (commit_lsn <= former->end_lsn)
			return *former;
	}
	return table->registry_name;
}

RegistryName
catalog_name(Relation relation)
{
	const char *schema = get_namespace_name(RelationGetNamespace(relation));
	RegistryName names = {};

	if (schema == nullptr)
		elog(ERROR, "cache lookup failed for schema %u", RelationGetNamespace(relation));
	names.end_lsn = PG_UINT64_MAX;
	strlcpy(names.schema, schema, sizeof(names.schema));
	strlcpy(names.name, RelationGetRelationName(relation), sizeof(names.name));
	return names;
}

bool
is_renamed_at(const Table *table, XLogRecPtr commit_lsn)
{
	return name_at_lsn(table, commit_lsn).end_lsn == commit_lsn;
}

/* Those that the registry has to be told of: what was decoded before, it has. */
static List *
list_new_renames(List *renames, XLogRecPtr commit_lsn)
{
	List *new_renames = NIL;
	ListCell *lc;

	foreach (lc, renames)
	{
		Rename *rename = static_cast<Rename *>(lfirst(lc));
		RegistryName before = name_at_lsn(rename->table, commit_lsn);

		if (before.end_lsn == rename->table->registry_name.end_lsn && !is_same_name(&before, &rename->names))
			new_renames = lappend(new_renames, rename);
	}
	return new_renames;
}

/* Returns those that were entered. */
static List *
record_in_registry(const char *application, List *renames, XLogRecPtr commit_lsn)
{
	Registry *registry = registry_begin_change(application);
	List *entered = NIL;
	HTAB *listed;
	ListCell *lc;

	if (registry == nullptr)
		return NIL;
	listed = index_tables_by_oid(registry);
	foreach (lc, renames)
	{
		Rename *rename = static_cast<Rename *>(lfirst(lc));
		RegistryTable *table = find_table_by_oid(listed, rename->table->relid);

		if (table == nullptr || table->generation != rename->table->generation)
			continue;
		registry_rename(table, rename->names.schema, rename->names.name, commit_lsn);
		entered = lappend(entered, rename);
	}
	if (entered == NIL)
		registry_cancel_change(registry);
	else
		registry_end_change(registry);
	return entered;
}

static void
apply_rename(Table *table, const RegistryName *names, XLogRecPtr commit_lsn)
{
	MemoryContext caller = MemoryContextSwitchTo(table->settings_context);
	RegistryName *former = static_cast<RegistryName *>(palloc(sizeof(RegistryName)));

	*former = table->registry_name;
	former->end_lsn = commit_lsn;
	table->former_names = lappend(table->former_names, former);
	if (list_length(table->former_names) > kMaxFormerNames)
	{
		pfree(linitial(table->former_names));
		table->former_names = list_delete_first(table->former_names);
	}
	MemoryContextSwitchTo(caller);
	table->registry_name = *names;
	table->current_name.end_lsn = Min(table->current_name.end_lsn, commit_lsn);
}

void
record_renames(const char *application, List *renames, XLogRecPtr commit_lsn)
{
	List *new_renames = list_new_renames(renames, commit_lsn);
	ListCell *lc;

	if (new_renames == NIL)
		return;
	foreach (lc, record_in_registry(application, new_renames, commit_lsn))
	{
		Rename *rename = static_cast<Rename *>(lfirst(lc));

		apply_rename(rename->table, &rename->names, commit_lsn);
	}
}
