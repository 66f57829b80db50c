/*
 * The decoder's cache of published tables: see tables.h.
 */
#include "tables.h"

#include "server/blame.h"
#include "missing_values.h"
#include "catalogs/key.h"
#include "catalogs/obstacles.h"
#include "server/oid_hash.h"
#include "package.h"
#include "renames.h"
#include "table_schema.h"
#include "server/utf8_conversion.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

using siphon::Wire;
using siphon::WireBuffer;

static HTAB *tables;
static MemoryContext tables_context;
static char *application_identifier;

uint64 tables_epoch = 1;
static uint64 types_epoch = 1; /* changes when any type may have */
static slist_head changed_tables;

/* Each table that comes or goes has two types: to walk through thousands of tables for each would take seconds. */
static void
invalidate_types(Datum, int, uint32)
{
	types_epoch++;
}

static bool
is_valid(const Table *table)
{
	return table->valid && table->types_epoch == types_epoch;
}

void
table_mark_changed(Table *table)
{
	if (!table->changed)
		slist_push_head(&changed_tables, &table->changed_node);
	table->changed = true;
}

/* A schema was renamed, and so were its tables and types, of which nothing else says so. */
static void
invalidate_schema(Datum, int, uint32 hash)
{
	HASH_SEQ_STATUS status;
	Table *table;

	hash_seq_init(&status, tables);
	while ((table = static_cast<Table *>(hash_seq_search(&status))) != nullptr)
	{
		/* Packages name types by their schemas. */
		if (list_member_int(table->type_hashes, static_cast<int>(hash)))
			table->valid = false;
		if (hash != 0 && table->namespace_hash != 0 && table->namespace_hash != hash)
			continue;
		table->valid = false;
		table_mark_changed(table);
	}
}

static void
invalidate_relations(void)
{
	HASH_SEQ_STATUS status;
	Table *table;

	hash_seq_init(&status, tables);
	while ((table = static_cast<Table *>(hash_seq_search(&status))) != nullptr)
		table->valid = table->missing_valid = false;
	tables_epoch++;
}

static void
invalidate_relation(Datum, Oid relid)
{
	Table *table;

	if (relid == InvalidOid)
	{
		invalidate_relations();
		return;
	}
	table = static_cast<Table *>(hash_search(tables, &relid, HASH_FIND, nullptr));
	if (table)
	{
		table->valid = table->missing_valid = false;
		table_mark_changed(table);
		if (!table->leafless)
			tables_epoch++;
	}
}

void
tables_init(const char *application)
{
	tables_context = AllocSetContextCreate(TopMemoryContext, "siphon tables", ALLOCSET_DEFAULT_SIZES);
	application_identifier = MemoryContextStrdup(tables_context, application);
	tables = oid_hash_make<Table>("siphon tables", tables_context);

	CacheRegisterRelcacheCallback(invalidate_relation, 0);
	/* A renamed schema or type changes what a package says, without an invalidation of the table. */
	CacheRegisterSyscacheCallback(NAMESPACEOID, invalidate_schema, 0);
	CacheRegisterSyscacheCallback(TYPEOID, invalidate_types, 0);
}

HTAB *
tables_by_oid(void)
{
	return tables;
}

/* The type that the values of a domain, or of an array of a domain, are of in the end; that of all others is their own. */
static Oid
base_type(Oid type, int32 *typmod)
{
	Oid base = getBaseTypeAndTypmod(type, typmod);
	Oid element = get_element_type(base);
	int32 element_typmod = -1;
	Oid element_base = OidIsValid(element) ? getBaseTypeAndTypmod(element, &element_typmod) : element;
	Oid array = element_base != element ? get_array_type(element_base) : InvalidOid;

	/* There is none of a domain over an array. */
	if (!OidIsValid(array))
		return base;
	*typmod = element_typmod;
	return array;
}

/* One siphon.v1.Column, without existing_rows. */
static WireBuffer
draft_column(Form_pg_attribute attribute, bool key)
{
	char *type_name = format_type_with_typemod(attribute->atttypid, attribute->atttypmod);
	int32 typmod = attribute->atttypmod;
	Oid base = base_type(attribute->atttypid, &typmod);
	WireBuffer column;

	buffer_init(&column, 64);
	put_utf8(&column, siphon::field::kName, NameStr(attribute->attname));
	buffer_reserve(&column, 32);
	{
		Wire wire(&column);

		wire.varint_field(siphon::field::kTypeOid, attribute->atttypid);
		wire.commit();
	}
	put_utf8(&column, siphon::field::kTypeName, type_name);
	buffer_reserve(&column, 32);
	{
		Wire wire(&column);

		if (key)
			wire.varint_field(siphon::field::kKey, 1);
		wire.varint_field(siphon::field::kAttnum, static_cast<uint64>(attribute->attnum));
		if (base != attribute->atttypid)
			wire.varint_field(siphon::field::kBaseTypeOid, base);
		wire.commit();
	}
	if (base != attribute->atttypid)
		put_utf8(&column, siphon::field::kBaseTypeName, format_type_with_typemod(base, typmod));
	pfree(type_name);
	return column;
}

/* Of the type as it is written: an array is by its elements' type. */
static void
note_type_schema(Table *table, Oid type)
{
	Oid element = get_element_type(type);
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(OidIsValid(element) ? element : type));
	Oid schema = HeapTupleIsValid(tuple) ? reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple))->typnamespace : InvalidOid;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (OidIsValid(schema) && schema != PG_CATALOG_NAMESPACE)
		table->type_hashes = list_append_unique_int(
			table->type_hashes, static_cast<int>(GetSysCacheHashValue1(NAMESPACEOID, ObjectIdGetDatum(schema))));
}

static void
build_columns(Table *table, Relation relation, WireBuffer *wire_columns, ColumnDraft *drafts)
{
	TupleDesc desc = RelationGetDescr(relation);
	int nkeys;
	int16 *keys = key_attributes(relation, &nkeys);
	int *column_of = static_cast<int *>(palloc(sizeof(int) * static_cast<size_t>(desc->natts + 1)));
	int offset = 0; /* behind the last attribute; -1: that depends on the row */

	table->full = relation->rd_rel->relreplident == REPLICA_IDENTITY_FULL;
	table->obstacle =
		columns_obstacle(relation, table->only_attributes, table->exclude_attributes, table->exclude_columns);
	if (table->obstacle)
		nkeys = 0;
	/* Close to those of other tables, and not among what is looked at once. */
	table->columns = static_cast<Column *>(
		MemoryContextAllocZero(tables_context, sizeof(Column) * static_cast<size_t>(Max(desc->natts, 1))));
	table->ncolumns = 0;
	table->fixed_natts = 0;
	table->fingerprint = 0;
	table->missing_bytes = 0;
	table->type_hashes = NIL;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		Column *column = &table->columns[table->ncolumns];

		if (offset >= 0)
		{
			column->offset = static_cast<int>(att_align_nominal(offset, attribute->attalign));
			offset = attribute->attlen > 0 ? column->offset + attribute->attlen : -1;
		}
		column_of[i + 1] = -1;
		if (attribute->attisdropped || is_column_excluded(table->only_attributes, table->exclude_attributes,
														  table->exclude_columns, NameStr(attribute->attname), i + 1))
			continue;
#if PG_VERSION_NUM >= 180000
		/* A virtual generated column has no value in the WAL. */
		if (attribute->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
			continue;
#endif
		ColumnDraft *draft = &drafts[table->ncolumns];
		int32 typmod = -1;

		column_of[i + 1] = table->ncolumns++;
		column->attnum = i;
		table->fixed_natts = offset >= 0 ? i + 1 : 0;
		column->padded = getBaseType(attribute->atttypid) == BPCHAROID;
		for (int k = 0; k < nkeys; k++)
			column->key |= keys[k] == i + 1;
		type_mapping(attribute->atttypid, &column->type);
		note_type_schema(table, attribute->atttypid);
		note_type_schema(table, base_type(attribute->atttypid, &typmod));
		draft->attribute = attribute;
		draft->wire = draft_column(attribute, column->key);
		table->fingerprint = XXH3_64bits_withSeed(draft->wire.data, draft->wire.size, table->fingerprint);
		put_missing_value(&draft->wire, table, column, attribute);
		buffer_reserve(wire_columns, draft->wire.size + 16);
		Wire wire(wire_columns);
		wire.bytes_field(siphon::field::kColumns, draft->wire.data, draft->wire.size);
		wire.commit();
	}

	table->key_columns = static_cast<int *>(palloc(sizeof(int) * static_cast<size_t>(Max(nkeys, 1))));
	table->nkeys = 0;
	for (int k = 0; k < nkeys; k++)
		if (keys[k] > 0 && column_of[keys[k]] >= 0)
			table->key_columns[table->nkeys++] = column_of[keys[k]];
}

/* The names as the publisher needs them for a subject: schema, NUL, table. */
static void
build_route(Table *table)
{
	size_t schema_length = strlen(table->current_name.schema);
	size_t name_length = strlen(table->current_name.name);
	const char *schema_utf8 = convert_name_to_utf8(table->current_name.schema, &schema_length);
	const char *name_utf8 = convert_name_to_utf8(table->current_name.name, &name_length);

	table->route_length = static_cast<int>(schema_length + 1 + name_length);
	table->route = static_cast<char *>(palloc(static_cast<size_t>(table->route_length)));
	memcpy(table->route, schema_utf8, schema_length);
	table->route[schema_length] = '\0';
	memcpy(table->route + schema_length + 1, name_utf8, name_length);
}

static void
build_header(Table *table, const RegistryName *called, const WireBuffer *columns)
{
	table->current_name = *called;
	build_route(table);
	buffer_init(&table->header, columns->size + 64 + strlen(application_identifier) +
									(strlen(called->schema) + strlen(called->name)) * MAX_CONVERSION_GROWTH);
	put_utf8(&table->header, siphon::field::kApplication, application_identifier);
	put_utf8(&table->header, siphon::field::kSchema, called->schema);
	put_utf8(&table->header, siphon::field::kTable, called->name);
	table->header_kind = table->kind;
	table->header_generation = table->generation;
	Wire wire(&table->header);
	if (table->generation != 0)
		wire.varint_field(siphon::field::kGeneration, table->generation);
	wire.varint_field(siphon::field::kTableOid, table->relid);
	/* What ends a table may come when its next generation, which begins otherwise, is asked for already. */
	if (columns->size > 0)
		wire.varint_field(siphon::field::kGenerationStart, static_cast<uint64>(table->generation_start));
	wire.fixed64_field(siphon::field::kFingerprint, table->fingerprint);
	wire.raw(columns->data, columns->size);
	wire.commit();
}

/* Gives a table as many places for packages as it has partitions. None is open. */
static void
make_places(Table *table)
{
	if (table->npackages == table->wanted_partitions)
		return;
	if (table->packages)
		pfree(table->packages);
	table->npackages = table->partitions = table->wanted_partitions;
	table->packages = static_cast<Package **>(
		MemoryContextAllocZero(tables_context, sizeof(Package *) * static_cast<size_t>(table->npackages)));
}

static void
log_lost_identity(const Table *table, Relation relation)
{
	ereport(LOG, (errmsg("siphon: deletes and key changes of table \"%s.%s\" cannot be told apart",
						 get_namespace_name(RelationGetNamespace(relation)), RelationGetRelationName(relation)),
				  errdetail("The table has no replica identity any more."),
				  errhint("Use ALTER TABLE ... REPLICA IDENTITY, or siphon_remove_table().")));
}

static void
load_missing_values(Table *table, Relation relation)
{
	MemoryContext caller;

	if (table->missing_valid)
		return;
	if (table->missing_context == nullptr)
		table->missing_context = AllocSetContextCreate(tables_context, "siphon existing rows", ALLOCSET_SMALL_SIZES);
	table->missing_valid = true;
	MemoryContextReset(table->missing_context);
	caller = MemoryContextSwitchTo(table->missing_context);
	table->missing = read_missing_values(relation);
	MemoryContextSwitchTo(caller);
}

/* What was built of it. */
static void
forget_context(Table *table)
{
	if (table->columns)
		pfree(table->columns);
	if (table->context)
		MemoryContextDelete(table->context);
	table->columns = nullptr;
	table->key_columns = nullptr;
	table->context = nullptr;
}

void
table_set_schema(Table *table, Oid schema)
{
	table->namespace_hash = GetSysCacheHashValue1(NAMESPACEOID, ObjectIdGetDatum(schema));
}

static void
build_table(Table *table, Relation relation, XLogRecPtr lsn)
{
	RegistryName present = catalog_name(relation);
	RegistryName called = name_at_lsn(table, lsn);
	Table fresh;
	MemoryContext caller;
	WireBuffer columns;
	WireBuffer schema;
	ColumnDraft *drafts;
	uint64 schema_hash;
	bool had_identity = table->context == nullptr || table->nkeys > 0 || table->full;

	/* First, so that whatever invalidates the table from here on gets it built once more. */
	table->valid = true;
	table->types_epoch = types_epoch;
	table->leafless = relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE;
	table_set_schema(table, RelationGetNamespace(relation));
	ereport(DEBUG1, (errmsg_internal("siphon: builds table \"%s.%s\"", present.schema, present.name)));
	load_missing_values(table, relation);
	fresh = *table;
	fresh.context = AllocSetContextCreate(tables_context, "siphon table columns", ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(fresh.context);
	buffer_init(&columns, 1024);
	drafts = static_cast<ColumnDraft *>(
		palloc(sizeof(ColumnDraft) * static_cast<size_t>(Max(RelationGetDescr(relation)->natts, 1))));
	/* What a column's type does with the value in it is its own affair. */
	blame_begin(table->relid);
	build_columns(&fresh, relation, &columns, drafts);
	build_header(&fresh, &called, &columns);
	schema = table_schema(&fresh, relation, application_identifier, drafts);
	blame_end();
	schema_hash = XXH3_64bits(schema.data, schema.size);
	MemoryContextSwitchTo(caller);

	/*
	 * A package never mixes two column lists, names, generations, or held and other changes. And as another table may
	 * have had the name until now, on whose subjects this one continues, all packages go out. That may wait, and the
	 * registry be read meanwhile: so only what was built here is copied back.
	 */
	if (table->header_kind != fresh.header_kind || table->header.size != fresh.header.size ||
		table->npackages != table->wanted_partitions ||
		memcmp(table->header.data, fresh.header.data, fresh.header.size) != 0)
		packages_write_all();
	make_places(table);
	forget_context(table);
	table->full = fresh.full;
	table->obstacle = fresh.obstacle;
	table->identity_warned = false;
	table->ncolumns = fresh.ncolumns;
	table->columns = fresh.columns;
	table->nkeys = fresh.nkeys;
	table->key_columns = fresh.key_columns;
	table->fixed_natts = fresh.fixed_natts;
	table->fingerprint = fresh.fingerprint;
	table->type_hashes = fresh.type_hashes;
	table->header = fresh.header;
	table->header_kind = fresh.header_kind;
	table->header_generation = fresh.header_generation;
	table->route = fresh.route;
	table->route_length = fresh.route_length;
	table->context = fresh.context;
	table->current_name = called;
	/* As by this transaction, or before anybody listened. */
	if (!is_same_name(&called, &present))
		table_mark_changed(table);
	/* Of a partitioned table, the leaves' identities count: see leaves.cpp. */
	if (had_identity && table->nkeys == 0 && !table->full && !table->obstacle &&
		relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		log_lost_identity(table, relation);
	/* May wait, and the table be marked invalid meanwhile; but only we rebuild it. */
	if (schema_hash != table->schema_hash)
	{
		table->schema_hash = schema_hash;
		package_write_schema(table, &schema, lsn);
	}
}

Table *
tables_next_changed(void)
{
	while (!slist_is_empty(&changed_tables))
	{
		Table *table = slist_container(Table, changed_node, slist_pop_head_node(&changed_tables));

		table->changed = false;
		if (table->in_registry)
			return table;
	}
	return nullptr;
}

void
table_forget_columns(Table *table, const RegistryName *name, siphon::FrameKind kind)
{
	MemoryContext context = AllocSetContextCreate(tables_context, "siphon table columns", ALLOCSET_SMALL_SIZES);
	MemoryContext caller;
	WireBuffer none = {};

	packages_write_all();
	make_places(table);
	table->ncolumns = 0;
	table->fixed_natts = 0;
	table->nkeys = 0;
	table->obstacle = nullptr;
	table->fingerprint = 0;
	table->type_hashes = NIL;
	table->valid = false;
	table->kind = kind;
	caller = MemoryContextSwitchTo(context);
	build_header(table, name, &none);
	MemoryContextSwitchTo(caller);
	forget_context(table);
	table->context = context;
}

Table *
table_under_name(const Table *table, const RegistryName *name)
{
	Table *former = static_cast<Table *>(palloc0(sizeof(Table)));
	WireBuffer none = {};

	former->relid = table->relid;
	former->generation = table->generation;
	former->kind = table->kind;
	former->npackages = former->partitions = former->wanted_partitions = table->wanted_partitions;
	former->packages =
		static_cast<Package **>(palloc0(sizeof(Package *) * static_cast<size_t>(former->npackages)));
	build_header(former, name, &none);
	return former;
}

/* By the relation's last digits, what was found last: changes of few tables are by far the most common. */
static Table *
find_table(Oid relid)
{
	static Table *recent[64]; /* they stay in their place, as none is ever removed */
	Table **entry = &recent[relid % lengthof(recent)];

	if (*entry == nullptr || (*entry)->relid != relid)
		*entry = static_cast<Table *>(hash_search(tables, &relid, HASH_FIND, nullptr));
	return *entry;
}

bool
is_table_published(Oid relid)
{
	Table *table = find_table(relid);

	return table && table->published;
}

bool
is_table_in_registry(Oid relid)
{
	Table *table = find_table(relid);

	return table && table->in_registry;
}

bool
table_includes_commit(const Table *table, XLogRecPtr commit_lsn)
{
	return commit_lsn >= table->start_lsn && commit_lsn < table->end_lsn;
}

static bool
is_published_at(const Table *table, XLogRecPtr commit_lsn)
{
	return table->published && table_includes_commit(table, commit_lsn);
}

Table *
table_find(Oid relid, XLogRecPtr commit_lsn)
{
	Table *table = find_table(relid);

	return table && is_published_at(table, commit_lsn) ? table : nullptr;
}

Table *
table_lookup(Oid relid, XLogRecPtr commit_lsn)
{
	Table *table = table_find(relid, commit_lsn);

	if (table == nullptr)
		return nullptr;
	/* Reading catalogs may itself process invalidations, and writing packages may wait: go on until all is still. */
	while (!is_valid(table) || commit_lsn > table->current_name.end_lsn)
	{
		Relation relation = RelationIdGetRelation(relid);

		if (relation == nullptr)
			elog(ERROR, "could not open relation with OID %u", relid);
		build_table(table, relation, commit_lsn);
		RelationClose(relation);
	}
	return is_published_at(table, commit_lsn) ? table : nullptr;
}

Table *
table_for_snapshot(Relation relation, XLogRecPtr lsn)
{
	Oid relid = RelationGetRelid(relation);
	Table *table = static_cast<Table *>(hash_search(tables, &relid, HASH_FIND, nullptr));

	while (!is_valid(table))
		build_table(table, relation, lsn);
	return table;
}
