/*
 * Names of published tables: see renames.h.
 */
#include "renames.h"

static bool
same_names(const char *schema, const char *name, const char *other_schema, const char *other_name)
{
	return strcmp(schema, other_schema) == 0 && strcmp(name, other_name) == 0;
}

/* The name that ended with this commit, or NULL. */
static RegistryName *
ended_with(const RegistryTable *listed, XLogRecPtr commit_lsn)
{
	ListCell *lc;

	foreach (lc, listed->former)
	{
		RegistryName *former = static_cast<RegistryName *>(lfirst(lc));

		if (former->until == commit_lsn)
			return former;
	}
	return nullptr;
}

/* A snapshot that is under way is about to fail for the new name, and the next one begins under it. */
static bool
takes_names(const Table *table, const RegistryTable *listed)
{
	return listed && listed->generation == table->generation && listed->phase == Phase::Streaming;
}

bool
rename_noted(const char *application, Table *table, XLogRecPtr commit_lsn, RegistryName *before)
{
	bool again = commit_lsn <= table->renamed_at;
	Registry *registry;
	RegistryTable *listed;
	RegistryName *former;

	if (!again && same_names(table->schema, table->name, table->listed_schema, table->listed_name))
		return false;
	registry = registry_begin_change(application);
	if (registry == nullptr)
		return false;
	listed = registry_find(registry, table->relid);
	if (!again && takes_names(table, listed))
	{
		registry_rename(listed, table->schema, table->name, commit_lsn);
		registry_end_change(registry);
		table->renamed_at = commit_lsn;
		strlcpy(table->listed_schema, table->schema, sizeof(table->listed_schema));
		strlcpy(table->listed_name, table->name, sizeof(table->listed_name));
	}
	else
		registry_leave_unchanged();
	former = listed ? ended_with(listed, commit_lsn) : nullptr;
	if (former == nullptr)
		return false;
	*before = *former;
	return true;
}
