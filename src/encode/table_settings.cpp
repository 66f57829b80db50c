/*
 * What the registry says of published tables: see table_settings.h. A table is rebuilt where that has
 * changed. With thousands of tables, to build all of them for a change of one takes longer than the change itself.
 */
#include "table_settings.h"

#include "missing_values.h"
#include "registry/table_list.h"
#include "server/oid_hash.h"

/* Does the registry say the same as it did, of all that goes into the table's description? */
static bool
is_same_settings(const Table *table, const RegistryTable *listed)
{
	return table->generation == listed->generation &&
		   (table->generation_start == siphon::GenerationStart::Snapshot) == listed->rows &&
		   table->wanted_partitions == listed->partitions && strcmp(table->registry_name.schema, listed->schema) == 0 &&
		   strcmp(table->registry_name.name, listed->name) == 0 &&
		   lists_are_equal(table->former_names, listed->former_names, is_same_former_name) &&
		   lists_are_equal(table->exclude_columns, listed->exclude_columns, texts_are_equal) &&
		   equal(table->exclude_attributes, listed->exclude_attributes) &&
		   equal(table->only_attributes, listed->only_attributes) &&
		   lists_are_equal(table->kept_values, listed->kept_values, is_same_kept_value);
}

/* Takes what goes into the table's description. False: it is what it was. */
static bool
take_settings(Table *table, const RegistryTable *listed)
{
	MemoryContext old;
	ListCell *lc;

	if (table->settings_context == nullptr)
		table->settings_context = AllocSetContextCreate(TopMemoryContext, "siphon table", ALLOCSET_SMALL_SIZES);
	else if (is_same_settings(table, listed))
		return false;
	table->registry_name.end_lsn = PG_UINT64_MAX;
	strlcpy(table->registry_name.schema, listed->schema, sizeof(table->registry_name.schema));
	strlcpy(table->registry_name.name, listed->name, sizeof(table->registry_name.name));
	table->generation = listed->generation;
	table->generation_start = listed->rows ? siphon::GenerationStart::Snapshot : siphon::GenerationStart::Changes;
	table->wanted_partitions = listed->partitions;
	MemoryContextReset(table->settings_context);
	table->exclude_columns = table->former_names = NIL;
	old = MemoryContextSwitchTo(table->settings_context);
	foreach (lc, listed->former_names)
	{
		RegistryName *former = static_cast<RegistryName *>(palloc(sizeof(RegistryName)));

		*former = *static_cast<RegistryName *>(lfirst(lc));
		table->former_names = lappend(table->former_names, former);
	}
	foreach (lc, listed->exclude_columns)
		table->exclude_columns = lappend(table->exclude_columns, pstrdup(static_cast<char *>(lfirst(lc))));
	table->exclude_attributes = list_copy(listed->exclude_attributes);
	table->only_attributes = list_copy(listed->only_attributes);
	table->kept_values = copy_kept_values(listed->kept_values);
	MemoryContextSwitchTo(old);
	return true;
}

/* Takes what the registry says of one table. */
static Table *
set_table(const RegistryTable *listed)
{
	siphon::FrameKind kind =
		listed->phase == TablePhase::Scanning ? siphon::FrameKind::Held : siphon::FrameKind::Changes;
	bool published = is_published_phase(listed->phase);
	Table *table = oid_hash_enter<Table>(tables_by_oid(), listed->relid);

	if (take_settings(table, listed) || table->kind != kind)
		table->valid = false;
	if (table->published != published)
		tables_epoch++;
	table->in_registry = true;
	table->published = published;
	table->kind = kind;
	table->start_lsn = listed->start_lsn;
	table->end_lsn = listed->end_lsn ? listed->end_lsn : PG_UINT64_MAX;
	return table;
}

/* The registry's tables as tables_load() saw them: of that instance they stay where they are. */
static uint64 seen_instance;
static List *seen_tables; /* of RegistryTable *, in TopMemoryContext */

/* Sets *same if no table is gone, and none is in another place. */
static List *
list_changed_tables(const Registry *registry, bool *same)
{
	List *changed = NIL;
	int count = list_length(seen_tables);

	*same = registry->instance != 0 && registry->instance == seen_instance && list_length(registry->tables) >= count;
	for (int i = 0; *same && i < list_length(registry->tables); i++)
	{
		RegistryTable *table = static_cast<RegistryTable *>(list_nth(registry->tables, i));

		if (i < count && list_nth(seen_tables, i) == table)
			continue;
		*same = i >= count || static_cast<RegistryTable *>(list_nth(seen_tables, i))->relid == table->relid;
		changed = lappend(changed, table);
	}
	return *same ? changed : registry->tables;
}

List *
tables_list_changed(const Registry *registry)
{
	bool same;

	return list_changed_tables(registry, &same);
}

/* Takes note of those that are gone. */
static void
unlist_others(const Registry *registry)
{
	HASH_SEQ_STATUS status;
	Table *table;
	ListCell *lc;

	hash_seq_init(&status, tables_by_oid());
	while ((table = static_cast<Table *>(hash_seq_search(&status))) != nullptr)
		table->in_registry = false;
	foreach (lc, registry->tables)
		oid_hash_enter<Table>(tables_by_oid(), static_cast<RegistryTable *>(lfirst(lc))->relid)->in_registry = true;
	hash_seq_init(&status, tables_by_oid());
	while ((table = static_cast<Table *>(hash_seq_search(&status))) != nullptr)
	{
		if (table->in_registry || !table->published)
			continue;
		table->published = false;
		tables_epoch++;
	}
}

void
tables_load(const Registry *registry)
{
	bool same;
	MemoryContext caller;
	ListCell *lc;

	foreach (lc, list_changed_tables(registry, &same))
		set_table(static_cast<RegistryTable *>(lfirst(lc)));
	if (!same)
		unlist_others(registry);
	caller = MemoryContextSwitchTo(TopMemoryContext);
	list_free(seen_tables);
	seen_tables = list_copy(registry->tables);
	seen_instance = registry->instance;
	MemoryContextSwitchTo(caller);
}

void
tables_load_one(const RegistryTable *listed)
{
	set_table(listed)->kind = siphon::FrameKind::Snapshot;
}

bool
is_table_known(Oid relid, uint32 generation)
{
	Table *table = static_cast<Table *>(hash_search(tables_by_oid(), &relid, HASH_FIND, nullptr));

	return table && table->published && table->generation == generation;
}
