/*
 * Names of published tables: see renames.h.
 */
#include "renames.h"

bool
same_names(const RegistryName *a, const RegistryName *b)
{
	return strcmp(a->schema, b->schema) == 0 && strcmp(a->name, b->name) == 0;
}

RegistryName
names_at(const Table *table, XLogRecPtr commit_lsn)
{
	ListCell *lc;

	foreach (lc, table->former_names)
	{
		const RegistryName *former = static_cast<RegistryName *>(lfirst(lc));

		if (commit_lsn <= former->until)
			return *former;
	}
	return table->listed_names;
}

RegistryName
names_in_catalogs(Relation relation)
{
	const char *schema = get_namespace_name(RelationGetNamespace(relation));
	RegistryName names = {};

	if (schema == nullptr)
		elog(ERROR, "cache lookup failed for schema %u", RelationGetNamespace(relation));
	names.until = PG_UINT64_MAX;
	strlcpy(names.schema, schema, sizeof(names.schema));
	strlcpy(names.name, RelationGetRelationName(relation), sizeof(names.name));
	return names;
}

/* False: the registry has another generation of it by now, which began under a name of its own. */
static bool
enter(const char *application, const Table *table, const RegistryName *names, XLogRecPtr commit_lsn)
{
	Registry *registry = registry_begin_change(application);
	RegistryTable *listed = registry ? registry_find(registry, table->relid) : nullptr;

	if (listed == nullptr || listed->generation != table->generation)
	{
		if (registry)
			registry_leave_unchanged();
		return false;
	}
	registry_rename(listed, names->schema, names->name, commit_lsn);
	registry_end_change(registry);
	return true;
}

bool
rename_noted(const char *application, Table *table, const RegistryName *names, XLogRecPtr commit_lsn)
{
	RegistryName before = names_at(table, commit_lsn);
	MemoryContext caller;
	RegistryName *former;

	if (before.until != table->listed_names.until)
		return before.until == commit_lsn;
	if (same_names(&before, names) || !enter(application, table, names, commit_lsn))
		return false;
	caller = MemoryContextSwitchTo(table->settings_context);
	former = static_cast<RegistryName *>(palloc(sizeof(RegistryName)));
	*former = before;
	former->until = commit_lsn;
	table->former_names = lappend(table->former_names, former);
	if (list_length(table->former_names) > kMaxFormerNames)
	{
		pfree(linitial(table->former_names));
		table->former_names = list_delete_first(table->former_names);
	}
	MemoryContextSwitchTo(caller);
	table->listed_names = *names;
	table->called.until = Min(table->called.until, commit_lsn);
	return true;
}
