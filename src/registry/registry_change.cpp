/*
 * What is different between two states of a registry: so that a change of one of ten thousand tables is written, and
 * read by other processes, as that. See registry.h.
 */
#include "registry.h"

#include "table_list.h"
#include "server/oid_hash.h"

bool
is_same_name(const RegistryName *a, const RegistryName *b)
{
	return strcmp(a->schema, b->schema) == 0 && strcmp(a->name, b->name) == 0;
}

List *
copy_kept_values(const List *values)
{
	List *copies = NIL;
	ListCell *lc;

	foreach (lc, values)
	{
		RegistryValue *copy = static_cast<RegistryValue *>(palloc(sizeof(RegistryValue)));

		*copy = *static_cast<RegistryValue *>(lfirst(lc));
		copy->field = pstrdup(copy->field);
		copies = lappend(copies, copy);
	}
	return copies;
}

bool
is_same_former_name(const void *a, const void *b)
{
	const RegistryName *one = static_cast<const RegistryName *>(a);
	const RegistryName *other = static_cast<const RegistryName *>(b);

	return one->end_lsn == other->end_lsn && is_same_name(one, other);
}

bool
is_same_kept_value(const void *a, const void *b)
{
	const RegistryValue *one = static_cast<const RegistryValue *>(a);
	const RegistryValue *other = static_cast<const RegistryValue *>(b);

	return one->attnum == other->attnum && one->type == other->type && strcmp(one->field, other->field) == 0;
}

static bool
is_same_removed(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(RegistryRemoved)) == 0;
}

static bool
is_same_left_out(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(RegistryLeftOut)) == 0;
}

static bool
is_same_table(const RegistryTable *a, const RegistryTable *b)
{
	return a->phase == b->phase && a->generation == b->generation && a->start_lsn == b->start_lsn &&
		   a->end_lsn == b->end_lsn && a->dropped == b->dropped && a->rows == b->rows && a->workers == b->workers &&
		   a->paused == b->paused && a->failures == b->failures && a->retry_at == b->retry_at &&
		   a->partitions == b->partitions && a->followed == b->followed && strcmp(a->schema, b->schema) == 0 &&
		   strcmp(a->name, b->name) == 0 && strcmp(a->reason, b->reason) == 0 &&
		   lists_are_equal(a->former_names, b->former_names, is_same_former_name) &&
		   lists_are_equal(a->kept_values, b->kept_values, is_same_kept_value) &&
		   lists_are_equal(a->exclude_columns, b->exclude_columns, texts_are_equal) &&
		   equal(a->exclude_attributes, b->exclude_attributes) && equal(a->only_attributes, b->only_attributes);
}

RegistryChange
registry_compare(const Registry *before, const Registry *now)
{
	RegistryChange change = {};
	int next = 0;
	ListCell *lc;

	change.now = now;
	change.removed = !lists_are_equal(before->removed, now->removed, is_same_removed);
	change.left_out = !lists_are_equal(before->left_out, now->left_out, is_same_left_out);
	if (now->partial)
	{
		foreach (lc, now->tables)
		{
			RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));
			const RegistryTable *was = registry_find_table(before, table->relid);

			if (was == nullptr || !is_same_table(was, table))
				change.tables = lappend(change.tables, table);
		}
		return change;
	}
	/* A table that has another place among the others is gone, and new. */
	foreach (lc, before->tables)
	{
		const RegistryTable *was = static_cast<RegistryTable *>(lfirst(lc));
		RegistryTable *table =
			next < list_length(now->tables) ? static_cast<RegistryTable *>(list_nth(now->tables, next)) : nullptr;

		if (table == nullptr || table->relid != was->relid)
		{
			change.gone = lappend_oid(change.gone, was->relid);
			continue;
		}
		next++;
		if (!is_same_table(was, table))
			change.tables = lappend(change.tables, table);
	}
	for (; next < list_length(now->tables); next++)
		change.tables = lappend(change.tables, list_nth(now->tables, next));
	return change;
}

struct Place
{
	Oid relid; /* hash key */
	int index; /* in the list of tables */
};

static HTAB *
index_places(const Registry *registry)
{
	HTAB *places = oid_hash_make<Place>("siphon registry places", CurrentMemoryContext);
	ListCell *lc;

	foreach (lc, registry->tables)
		oid_hash_enter<Place>(places, static_cast<RegistryTable *>(lfirst(lc))->relid)->index =
			foreach_current_index(lc);
	return places;
}

static void
remove_gone(Registry *registry, const List *gone)
{
	HTAB *leaving = oid_hash_make<Oid>("siphon registry gone", CurrentMemoryContext);
	List *tables = NIL;
	ListCell *lc;

	foreach (lc, gone)
		oid_hash_enter<Oid>(leaving, lfirst_oid(lc));
	foreach (lc, registry->tables)
		if (oid_hash_find<Oid>(leaving, static_cast<RegistryTable *>(lfirst(lc))->relid) == nullptr)
			tables = lappend(tables, lfirst(lc));
	list_free(registry->tables);
	registry->tables = tables;
	hash_destroy(leaving);
}

int
registry_apply(Registry *registry, const RegistryChange *change, HTAB **places)
{
	int replaced = list_length(change->gone);
	ListCell *lc;

	if (change->gone != NIL)
	{
		remove_gone(registry, change->gone);
		if (*places)
			hash_destroy(*places);
		*places = nullptr;
	}
	if (*places == nullptr)
		*places = index_places(registry);
	foreach (lc, change->tables)
	{
		RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));
		bool found;
		Place *place = oid_hash_enter<Place>(*places, table->relid, &found);

		if (found)
		{
			lfirst(list_nth_cell(registry->tables, place->index)) = table;
			replaced++;
			continue;
		}
		place->index = list_length(registry->tables);
		registry->tables = lappend(registry->tables, table);
	}
	return replaced;
}

/* The items are of this size, and refer to nothing. */
static List *
copy_items(const List *list, size_t size)
{
	List *copies = NIL;
	ListCell *lc;

	foreach (lc, list)
		copies = lappend(copies, memcpy(palloc(size), lfirst(lc), size));
	return copies;
}

static void
copy_lists(RegistryTable *table)
{
	List *names = table->exclude_columns;
	ListCell *lc;

	table->former_names = copy_items(table->former_names, sizeof(RegistryName));
	table->kept_values = copy_kept_values(table->kept_values);
	table->exclude_attributes = list_copy(table->exclude_attributes);
	table->only_attributes = list_copy(table->only_attributes);
	table->exclude_columns = NIL;
	foreach (lc, names)
		table->exclude_columns = lappend(table->exclude_columns, pstrdup(static_cast<char *>(lfirst(lc))));
}

Registry *
registry_copy(const Registry *registry, Oid relid)
{
	Registry *copy = static_cast<Registry *>(palloc(sizeof(Registry)));
	RegistryTable *only = OidIsValid(relid) ? registry_find_table(registry, relid) : nullptr;
	RegistryTable *table;
	ListCell *lc;

	*copy = *registry;
	copy->instance = 0;
	copy->partial = OidIsValid(relid);
	copy->ring_ids = copy_items(registry->ring_ids, sizeof(uint64));
	copy->removed = copy_items(registry->removed, sizeof(RegistryRemoved));
	copy->left_out = copy_items(registry->left_out, sizeof(RegistryLeftOut));
	if (copy->partial)
		copy->tables = only ? list_make1(only) : NIL;
	else
		copy->tables = list_copy(registry->tables);
	/* In one piece: there may be thousands. */
	table = static_cast<RegistryTable *>(MemoryContextAllocHuge(
		CurrentMemoryContext, sizeof(RegistryTable) * static_cast<size_t>(list_length(copy->tables) + 1)));
	foreach (lc, copy->tables)
	{
		*table = *static_cast<RegistryTable *>(lfirst(lc));
		copy_lists(table);
		lfirst(lc) = table++;
	}
	return copy;
}
