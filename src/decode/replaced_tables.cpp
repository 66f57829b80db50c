/*
 * Tables that were made again: see replaced_tables.h.
 */
#include "replaced_tables.h"

#include "encode/tables.h"

struct DroppedTable
{
	Oid relid;
	RegistryName name;
	Oid another; /* that has its name, or InvalidOid */
};

/* Where more are dropped than that, it is done at a large scale, and nobody takes them for published. */
static constexpr int kMaxNoted = 100;

static List *dropped; /* of Dropped *, in TopMemoryContext */

static DroppedTable *
find_dropped(Oid relid)
{
	ListCell *lc;

	foreach (lc, dropped)
	{
		DroppedTable *table = static_cast<DroppedTable *>(lfirst(lc));

		if (table->relid == relid)
			return table;
	}
	return nullptr;
}

void
replaced_tables_note_dropped(Oid relid, const RegistryName &name)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	DroppedTable *table = find_dropped(relid);

	if (table == nullptr && list_length(dropped) < kMaxNoted)
	{
		table = static_cast<DroppedTable *>(palloc0(sizeof(DroppedTable)));
		table->relid = relid;
		table->name = name;
		dropped = lappend(dropped, table);
	}
	MemoryContextSwitchTo(caller);
}

void
replaced_tables_init(const Registry *registry)
{
	ListCell *lc;

	foreach (lc, registry->tables)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));
		RegistryName name = {};

		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table->relid)))
			continue;
		strlcpy(name.schema, table->schema, sizeof(name.schema));
		strlcpy(name.name, table->name, sizeof(name.name));
		replaced_tables_note_dropped(table->relid, name);
	}
}

void
replaced_tables_search(void)
{
	ListCell *lc;

	foreach (lc, dropped)
	{
		DroppedTable *table = static_cast<DroppedTable *>(lfirst(lc));
		Oid schema = get_namespace_oid(table->name.schema, true);
		Oid another = OidIsValid(schema) ? get_relname_relid(table->name.name, schema) : InvalidOid;
		char kind = OidIsValid(another) ? get_rel_relkind(another) : '\0';

		table->another = kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE ? another : InvalidOid;
	}
}

bool
has_replaced_tables(void)
{
	bool any = false;
	ListCell *lc;

	foreach (lc, dropped)
	{
		DroppedTable *table = static_cast<DroppedTable *>(lfirst(lc));

		if (is_table_in_registry(table->relid))
		{
			any |= OidIsValid(table->another) && !is_table_in_registry(table->another);
			continue;
		}
		dropped = foreach_delete_current(dropped, lc);
		pfree(table);
	}
	return any;
}
