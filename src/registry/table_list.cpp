/*
 * Changes of the list of published tables: see table_list.h.
 */
#include "table_list.h"

#include "checks.h"
#include "catalogs/obstacles.h"
#include "server/oid_hash.h"

extern "C" {
#include "catalog/partition.h"
#include "utils/resowner.h"
}

/* Takes what the table excludes over to its changed description. */
static void
keep_columns(RegistryTable *changed, const RegistryTable *table)
{
	changed->exclude_columns = table->exclude_columns;
	changed->exclude_attributes = table->exclude_attributes;
	changed->only_attributes = table->only_attributes;
}

struct TableListIndexEntry
{
	Oid relid;                      /* hash key */
	const RegistryTable *table;     /* as it is listed, or NULL */
	const RegistryTable *partition; /* a listed one that is below it, or NULL */
};

struct TableListIndex
{
	const Registry *registry;
	MemoryContext context;
	HTAB *entries;
	List *tables;     /* of RegistryTable * */
	bool roots_known; /* what is above listed partitions has entries */
};

/* The lock is given back at once: making a slot waits for transactions, and those may wait for the table. */
RegistryTable *
table_list_build_entry(Oid relid, int partitions, List *exclude_columns, const RegistryTable *keep)
{
	RegistryTable *table = static_cast<RegistryTable *>(palloc0(sizeof(RegistryTable)));
	Relation relation = try_relation_open(relid, AccessShareLock);
	ListCell *lc;

	if (relation == nullptr)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid),
						errhint("SELECT siphon_add_table('schema.table');")));
	table->relid = relid;
	strlcpy(table->schema, get_namespace_name(RelationGetNamespace(relation)), sizeof(table->schema));
	strlcpy(table->name, RelationGetRelationName(relation), sizeof(table->name));
	table->partitions = partitions;
	table->exclude_columns = exclude_columns;
	foreach (lc, exclude_columns)
		table->exclude_attributes =
			lappend_int(table->exclude_attributes, get_attnum(relid, static_cast<char *>(lfirst(lc))));
	if (keep)
		keep_columns(table, keep);
	check_table(relation, table, true);
	check_columns(relation, exclude_columns);
	notice_virtual_columns(relation);
	relation_close(relation, AccessShareLock);
	return table;
}

void
table_list_check_entry(const RegistryTable *table)
{
	Relation relation = open_published(table->relid, false);

	if (relation == nullptr)
		return;
	check_table(relation, table, false);
	relation_close(relation, AccessShareLock);
}

void
check_not_leaving(const Registry *registry, const RegistryTable *table, const char *name)
{
	if (table->end_lsn == InvalidXLogRecPtr)
		return;
	if (table->dropped)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("application \"%s\" still lists a table that was dropped and had the OID of table %s",
							   registry->application, name),
						errhint("SELECT siphon_remove_table(%u, '%s') takes that off the list.", table->relid,
								registry->application)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table %s has left the publication that application \"%s\" follows", name, registry->application),
			 errdetail("It is removed once all that was committed before is acknowledged."),
			 errhint("SELECT siphon_remove_table(%s, '%s') removes it at once.", quote_literal_cstr(name),
					 registry->application)));
}

TableListIndex *
table_list_index_create(const Registry *registry)
{
	TableListIndex *listed = static_cast<TableListIndex *>(palloc0(sizeof(TableListIndex)));
	ListCell *lc;

	listed->registry = registry;
	listed->context = CurrentMemoryContext;
	listed->entries = oid_hash_make<TableListIndexEntry>("siphon listed tables", CurrentMemoryContext);
	foreach (lc, registry->tables)
		table_list_index_add(listed, static_cast<RegistryTable *>(lfirst(lc)));
	return listed;
}

static void
add_roots(TableListIndex *listed, const RegistryTable *table)
{
	List *roots = get_rel_relispartition(table->relid) ? get_partition_ancestors(table->relid) : NIL;
	ListCell *lc;

	foreach (lc, roots)
	{
		TableListIndexEntry *entry = oid_hash_enter<TableListIndexEntry>(listed->entries, lfirst_oid(lc));

		if (entry->partition == nullptr)
			entry->partition = table;
	}
	list_free(roots);
}

void
table_list_index_add(TableListIndex *listed, RegistryTable *table)
{
	MemoryContext caller = MemoryContextSwitchTo(listed->context);

	oid_hash_enter<TableListIndexEntry>(listed->entries, table->relid)->table = table;
	listed->tables = lappend(listed->tables, table);
	MemoryContextSwitchTo(caller);
	if (listed->roots_known)
		add_roots(listed, table);
}

const RegistryTable *
table_list_index_find(const TableListIndex *listed, Oid relid)
{
	const TableListIndexEntry *entry = oid_hash_find<TableListIndexEntry>(listed->entries, relid);

	return entry ? entry->table : nullptr;
}

/* A listed partition of the table, or NULL. What is above each of the listed tables is looked up if that matters. */
static const RegistryTable *
find_listed_partition(TableListIndex *listed, Oid relid)
{
	const TableListIndexEntry *entry;
	ListCell *lc;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return nullptr;
	if (!listed->roots_known)
		foreach (lc, listed->tables)
		{
			CHECK_FOR_INTERRUPTS();
			add_roots(listed, static_cast<RegistryTable *>(lfirst(lc)));
		}
	listed->roots_known = true;
	entry = oid_hash_find<TableListIndexEntry>(listed->entries, relid);
	return entry ? entry->partition : nullptr;
}

static void
check_not_twice(const TableListIndex *listed, const RegistryTable *table)
{
	const char *application = listed->registry->application;
	const RegistryTable *other = table_list_index_find(listed, table->relid);
	const char *name;

	if (other == nullptr)
		return;
	name = quote_qualified_identifier(table->schema, table->name);
	check_not_leaving(listed->registry, other, name);
	ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
					errmsg("table %s is already published by application \"%s\"", name, application),
					errhint("SELECT siphon_alter_table(%s, '%s', ...) changes its columns or partitions.",
							quote_literal_cstr(name), application)));
}

/* Nor a table whose rows are published as another's, or the other way round. */
static void
check_no_overlap(TableListIndex *listed, const RegistryTable *table)
{
	const char *application = listed->registry->application;
	List *roots = get_rel_relispartition(table->relid) ? get_partition_ancestors(table->relid) : NIL;
	const RegistryTable *other;
	ListCell *lc;

	foreach (lc, roots)
		if ((other = table_list_index_find(listed, lfirst_oid(lc))) != nullptr)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("table %s is already published under its root %s by application \"%s\"",
							quote_qualified_identifier(table->schema, table->name),
							quote_qualified_identifier(other->schema, other->name), application),
					 errhint("SELECT siphon_remove_table(%s, '%s') first to publish partitions one by one.",
							 quote_literal_cstr(quote_qualified_identifier(other->schema, other->name)), application)));
	if ((other = find_listed_partition(listed, table->relid)) != nullptr)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("partition %s of table %s is already published by application \"%s\"",
						quote_qualified_identifier(other->schema, other->name),
						quote_qualified_identifier(table->schema, table->name), application),
				 errhint("SELECT siphon_remove_table(%s, '%s') first to publish it under its root.",
						 quote_literal_cstr(quote_qualified_identifier(other->schema, other->name)), application)));
}

static void
check_not_in_index(TableListIndex *listed, const RegistryTable *table)
{
	check_not_twice(listed, table);
	check_no_overlap(listed, table);
}

void
check_not_listed(const Registry *registry, const RegistryTable *table)
{
	check_not_in_index(table_list_index_create(registry), table);
}

/* In the current memory context; the excluded columns' names stay where they are. */
static RegistryTable *
copy_entry(const RegistryTable *described)
{
	RegistryTable *table = static_cast<RegistryTable *>(palloc(sizeof(RegistryTable)));

	*table = *described;
	table->exclude_attributes = list_copy(described->exclude_attributes);
	return table;
}

RegistryTable *
table_list_try_build_entry(TableListIndex *listed, Oid relid, int partitions, List *exclude_columns, Refusal *refusal)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext trial = AllocSetContextCreate(caller, "siphon trial", ALLOCSET_SMALL_SIZES);
	ResourceOwner owner = CurrentResourceOwner;
	RegistryTable *volatile table = nullptr;

	CHECK_FOR_INTERRUPTS();
	*refusal = {};
	BeginInternalSubTransaction(nullptr);
	MemoryContextSwitchTo(trial);
	PG_TRY();
	{
		const RegistryTable *described = table_list_build_entry(relid, partitions, exclude_columns, nullptr);

		if (listed)
			check_not_in_index(listed, described);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		table = copy_entry(described);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(trial);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		/* That is about the whole of what is being done, not about the table. */
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
			error->sqlerrcode == ERRCODE_OUT_OF_MEMORY)
			ReThrowError(error);
		table = nullptr;
		refusal->sqlstate = error->sqlerrcode;
		refusal->reason = pstrdup(error->message);
		refusal->hint = error->hint ? pstrdup(error->hint) : nullptr;
	}
	PG_END_TRY();
	MemoryContextDelete(trial);
	return table;
}

void
read_table_names(Oid relid, char *schema, char *name)
{
	char *name_now = get_rel_name(relid);
	char *schema_now = name_now ? get_namespace_name(get_rel_namespace(relid)) : nullptr;

	if (schema_now == nullptr)
		return;
	strlcpy(schema, schema_now, NAMEDATALEN);
	strlcpy(name, name_now, NAMEDATALEN);
}

char *
get_quoted_table_name(Oid relid)
{
	char schema[NAMEDATALEN] = "";
	char name[NAMEDATALEN] = "";

	read_table_names(relid, schema, name);
	return name[0] ? quote_qualified_identifier(schema, name) : psprintf("%u", relid);
}

void
table_list_remove(Registry *registry, RegistryTable *table)
{
	registry->tables = list_delete_ptr(registry->tables, table);
	registry_forget_name(registry, table);
	registry_forget_former_names(registry, table);
}

List *
table_list_remove_confirmed(Registry *registry, XLogRecPtr confirmed)
{
	List *staying = NIL;
	List *left = NIL;
	ListCell *lc;

	foreach (lc, registry->tables)
	{
		RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		if (!is_table_leaving(table) || table->end_lsn > confirmed)
		{
			staying = lappend(staying, table);
			continue;
		}
		registry_forget_name(registry, table);
		registry_forget_former_names(registry, table);
		left = lappend(left, table);
	}
	registry->tables = staying;
	return left;
}

void
table_list_stop_table(const Registry *registry, RegistryTable *table, const char *reason)
{
	table_set_phase(table, TablePhase::Stopped);
	copy_text(table->reason, reason, sizeof(table->reason));
	ereport(
		LOG,
		(errmsg("siphon: table \"%s.%s\" is not published any more: %s", table->schema, table->name, table->reason),
		 errdetail("The other tables of application \"%s\" are.", registry->application),
		 errhint("When the cause is fixed, run SELECT siphon_resync_table(%s, '%s').",
				 quote_literal_cstr(quote_qualified_identifier(table->schema, table->name)), registry->application)));
}

/* Without rows the next generation begins here; otherwise with the snapshot. */
static void
begin_next_generation(Registry *registry, RegistryTable *table)
{
	table->failures = 0;
	table->retry_at = 0;
	table->reason[0] = '\0';
	if (table->rows)
		return;
	/* Transactions that commit from here on are published, and no earlier ones. */
	table->start_lsn = siphon_newest_wal();
	table->generation = registry_next_generation(registry);
	table->kept_values = NIL;
}

static TablePhase
get_first_phase(const RegistryTable *table)
{
	return table->rows ? TablePhase::Waiting : TablePhase::Streaming;
}

void
table_list_request_snapshot(Registry *registry, RegistryTable *table)
{
	table_set_phase(table, get_first_phase(table));
	begin_next_generation(registry, table);
}

void
table_list_add(Registry *registry, RegistryTable *table)
{
	table_set_first_phase(table, get_first_phase(table));
	begin_next_generation(registry, table);
	registry->tables = lappend(registry->tables, table);
}

/* Attributes of the table's present columns that are not published, in ascending order. */
static List *
list_hidden_attributes(const RegistryTable *table)
{
	List *attributes = NIL;
	ListCell *lc;

	foreach (lc, table->exclude_attributes)
		if (get_attname(table->relid, static_cast<AttrNumber>(lfirst_int(lc)), true))
			attributes = list_append_unique_int(attributes, lfirst_int(lc));
	foreach (lc, table->exclude_columns)
	{
		AttrNumber attribute = get_attnum(table->relid, static_cast<char *>(lfirst(lc)));

		if (attribute > 0)
			attributes = list_append_unique_int(attributes, attribute);
	}
	list_sort(attributes, list_int_cmp);
	return attributes;
}

bool
lists_are_equal(List *a, List *b, bool (*same)(const void *, const void *))
{
	ListCell *lc;
	ListCell *lc2;

	if (list_length(a) != list_length(b))
		return false;
	forboth(lc, a, lc2, b)
	{
		if (!same(lfirst(lc), lfirst(lc2)))
			return false;
	}
	return true;
}

bool
texts_are_equal(const void *a, const void *b)
{
	return strcmp(static_cast<const char *>(a), static_cast<const char *>(b)) == 0;
}

AlterEffect
table_list_get_alter_effect(const RegistryTable *table, const RegistryTable *changed)
{
	/* A column that is new is not in a publication's list of columns, and changes nothing. */
	if (table->partitions != changed->partitions || !equal(table->only_attributes, changed->only_attributes) ||
		(changed->only_attributes == NIL && !equal(list_hidden_attributes(table), list_hidden_attributes(changed))))
		return AlterEffect::Resync;
	return lists_are_equal(table->exclude_columns, changed->exclude_columns, texts_are_equal) ? AlterEffect::None
																							  : AlterEffect::Names;
}

void
table_list_alter(Registry *registry, RegistryTable *table, const RegistryTable *changed, AlterEffect effect)
{
	table->partitions = changed->partitions;
	table->exclude_columns = changed->exclude_columns;
	table->exclude_attributes = changed->exclude_attributes;
	table->only_attributes = changed->only_attributes;
	table->workers = changed->workers;
	/* Without rows, other columns are to consumers as a change of the table's: no event is missing. */
	if (effect == AlterEffect::Resync && table->rows)
		table_list_request_snapshot(registry, table);
}
