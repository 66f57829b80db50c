/*
 * What the registry says of a table that goes into its description: see table.h. A table is built anew where that has
 * changed. With thousands of tables, to build all of them for a change of one takes longer than the change itself.
 */
#include "table_settings.h"

#include "existing_rows.h"
#include "listing.h"
#include "renames.h"

static bool
same_former(const void *a, const void *b)
{
	const RegistryName *one = static_cast<const RegistryName *>(a);
	const RegistryName *other = static_cast<const RegistryName *>(b);

	return one->until == other->until && same_names(one, other);
}

static bool
same_value(const void *a, const void *b)
{
	const RegistryValue *one = static_cast<const RegistryValue *>(a);
	const RegistryValue *other = static_cast<const RegistryValue *>(b);

	return one->attnum == other->attnum && one->type == other->type && strcmp(one->field, other->field) == 0;
}

/* Does the registry say the same as it did, of all that goes into the table's description? */
static bool
same_settings(const Table *table, const RegistryTable *listed)
{
	return table->generation == listed->generation &&
		   (table->generation_start == siphon::GenerationStart::Snapshot) == listed->rows &&
		   table->wanted_partitions == listed->partitions && strcmp(table->listed_names.schema, listed->schema) == 0 &&
		   strcmp(table->listed_names.name, listed->name) == 0 &&
		   listing_same(table->former_names, listed->former, same_former) &&
		   listing_same(table->exclude_columns, listed->exclude_columns, listing_same_text) &&
		   equal(table->exclude_attributes, listed->exclude_attributes) &&
		   equal(table->only_attributes, listed->only_attributes) &&
		   listing_same(table->kept_values, listed->kept_values, same_value);
}

bool
table_take_settings(Table *table, const RegistryTable *listed)
{
	MemoryContext old;
	ListCell *lc;

	if (table->settings_context == nullptr)
		table->settings_context = AllocSetContextCreate(TopMemoryContext, "siphon table", ALLOCSET_SMALL_SIZES);
	else if (same_settings(table, listed))
		return false;
	table->listed_names.until = PG_UINT64_MAX;
	strlcpy(table->listed_names.schema, listed->schema, sizeof(table->listed_names.schema));
	strlcpy(table->listed_names.name, listed->name, sizeof(table->listed_names.name));
	table->generation = listed->generation;
	table->generation_start = listed->rows ? siphon::GenerationStart::Snapshot : siphon::GenerationStart::Changes;
	table->wanted_partitions = listed->partitions;
	MemoryContextReset(table->settings_context);
	table->exclude_columns = table->former_names = NIL;
	old = MemoryContextSwitchTo(table->settings_context);
	foreach (lc, listed->former)
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
