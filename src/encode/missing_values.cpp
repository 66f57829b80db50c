/*
 * Values of rows that were there before their columns: see missing_values.h.
 */
#include "missing_values.h"

#include "server/blame.h"
#include "catalogs/catalog_changes.h"
#include "server/catalog_scan.h"
#include "catalogs/partition_tree.h"
#include "table.h"
#include "value.h"

extern "C" {
#include "catalog/indexing.h"
#include "catalog/pg_attribute.h"
#include "utils/datum.h"
}

using siphon::Wire;
using siphon::WireBuffer;

/*
 * Most bytes of a table's values that go with each package. PostgreSQL has each in 8 kB, compressed. As many are kept
 * in the registry, which is written as a whole each time, and read by each function.
 */
static constexpr size_t kMostBytes = 8 * 1024;

static void
take_missing_value(MissingValue *value, TupleDesc from, int attnum)
{
	Form_pg_attribute attribute = TupleDescAttr(from, attnum);
	bool isnull;
	bool other_isnull;
	Datum datum;

	if (!attribute->atthasmissing || value->differs)
		return;
	datum = getmissingattr(from, attnum + 1, &isnull);
	if (isnull)
		return;
	if (!value->present)
		*value = {true, false, false, false, attnum, from};
	else if (!datumIsEqual(datum, getmissingattr(value->from, value->attnum + 1, &other_isnull), attribute->attbyval,
						   attribute->attlen))
		*value = {false, true, false, false, 0, nullptr};
}

/* Those of one table that has rows, in the places of `root`, of which it is a leaf, or which is its own description. */
static void
take_missing_values(MissingValue *values, Relation relation, TupleDesc root)
{
	TupleDesc desc = RelationGetDescr(relation);
	AttrMap *map;

	if (desc->constr == nullptr || desc->constr->missing == nullptr)
		return;
	desc = CreateTupleDescCopyConstr(desc);
	map = siphon_attribute_map(desc, root);
	for (int i = 0; i < root->natts; i++)
		if (!TupleDescAttr(root, i)->attisdropped)
			take_missing_value(&values[i], desc, map ? map->attnums[i] - 1 : i);
}

/*
 * Have rows of the table values that are in the catalogs? Most leaves have none, and to open thousands of them for that
 * would leave their descriptions in the relation cache.
 */
static bool
has_missing(Oid relid)
{
	CatalogScan scan =
		catalog_scan_begin(AttributeRelationId, AttributeRelidNumIndexId, Anum_pg_attribute_attrelid, relid, nullptr);
	bool found = false;
	HeapTuple tuple;

	while (!found && HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
		found = reinterpret_cast<Form_pg_attribute>(GETSTRUCT(tuple))->atthasmissing;
	catalog_scan_end(&scan);
	return found;
}

MissingValue *
read_missing_values(Relation relation)
{
	TupleDesc desc = RelationGetDescr(relation);
	MissingValue *values =
		static_cast<MissingValue *>(palloc0(sizeof(MissingValue) * static_cast<size_t>(Max(desc->natts, 1))));
	ListCell *lc;

	foreach (lc, leaves_of(relation, nullptr))
	{
		Relation leaf;

		CHECK_FOR_INTERRUPTS();
		if (!has_missing(lfirst_oid(lc)))
			continue;
		leaf = RelationIdGetRelation(lfirst_oid(lc));
		/* A snapshot's process may see one go; its leader sees to that. */
		if (leaf == nullptr)
			continue;
		take_missing_values(values, leaf, desc);
		RelationClose(leaf);
	}
	return values;
}

static RegistryValue *
find_kept_value(const List *values, int attnum)
{
	ListCell *lc;

	foreach (lc, values)
	{
		RegistryValue *value = static_cast<RegistryValue *>(lfirst(lc));

		if (value->attnum == attnum)
			return value;
	}
	return nullptr;
}

static void
put_kept_value(WireBuffer *out, const RegistryValue *value)
{
	size_t digits = strlen(value->field);
	char *bytes = static_cast<char *>(palloc(digits / 2 + 1));

	buffer_reserve(out, digits / 2);
	Wire wire(out);
	wire.raw(bytes, hex_decode(value->field, digits, bytes));
	wire.commit();
	pfree(bytes);
}

void
put_missing_value(WireBuffer *out, Table *table, Column *column, Form_pg_attribute attribute)
{
	MissingValue *missing = &table->missing[attribute->attnum - 1];
	const RegistryValue *kept = find_kept_value(table->kept_values, attribute->attnum);
	bool isnull;
	Value value;

	if (!missing->present)
	{
		missing->retyped = kept && !are_written_alike(kept->type, attribute->atttypid);
		if (kept && !missing->retyped && !missing->differs)
			put_kept_value(out, kept);
		return;
	}
	value = value_from_datum(&column->type, getmissingattr(missing->from, missing->attnum + 1, &isnull), false);
	missing->large = table->missing_bytes + value_bound(value) > kMostBytes;
	if (missing->large)
		return;
	table->missing_bytes += value_bound(value);
	buffer_reserve(out, value_bound(value));
	Wire wire(out);
	value_write(&wire, siphon::field::kExistingRows, value);
	wire.commit();
}

/* NULL: it is too large, so no package had it. */
static RegistryValue *
make_kept_value(Form_pg_attribute attribute, Datum datum)
{
	RegistryValue *kept = static_cast<RegistryValue *>(palloc(sizeof(RegistryValue)));
	TypeMapping type;
	Value value;
	WireBuffer field;

	type_mapping(attribute->atttypid, &type);
	value = value_from_datum(&type, datum, false);
	if (value_bound(value) > kMostBytes)
		return nullptr;
	buffer_init(&field, value_bound(value));
	Wire wire(&field);
	value_write(&wire, siphon::field::kExistingRows, value);
	wire.commit();
	kept->attnum = attribute->attnum;
	kept->type = attribute->atttypid;
	kept->field = static_cast<char *>(palloc0(2 * field.size + 1));
	hex_encode(field.data, field.size, kept->field);
	return kept;
}

/*
 * Adds to `values`, of RegistryValue *, those of `cleared` that a table has in its own columns. False: one is too
 * large, and the table had no resync for that, as the transaction itself added it.
 */
static bool
make_kept_values(List **values, const List *cleared, TupleDesc leaf, TupleDesc root)
{
	AttrMap *map = siphon_attribute_map(leaf, root);
	bool fits = true;
	ListCell *lc;

	for (int i = 0; i < root->natts; i++)
		foreach (lc, cleared)
		{
			const ClearedValue *value = static_cast<ClearedValue *>(lfirst(lc));
			RegistryValue *kept;

			if (TupleDescAttr(root, i)->attisdropped || value->attnum != (map ? map->attnums[i] - 1 : i))
				continue;
			kept = make_kept_value(TupleDescAttr(root, i), value->value);
			if (kept)
				*values = lappend(*values, kept);
			else if (value->fresh)
				fits = false;
		}
	return fits;
}

/*
 * Adds to what the registry has of a table, and takes away what is of columns that are gone. False: that is too much.
 */
static bool
merge_kept_values(RegistryTable *table, const List *values, TupleDesc desc)
{
	List *all = NIL;
	size_t digits = 0;
	ListCell *lc;

	foreach (lc, list_concat_copy(table->kept_values, values))
	{
		RegistryValue *value = static_cast<RegistryValue *>(lfirst(lc));

		/* The other leaves' is the same. */
		if (value->attnum < 1 || value->attnum > desc->natts || TupleDescAttr(desc, value->attnum - 1)->attisdropped ||
			find_kept_value(all, value->attnum))
			continue;
		all = lappend(all, value);
		digits += strlen(value->field);
	}
	table->kept_values = all;
	return digits <= 2 * kMostBytes;
}

/* False: they are too much. */
static bool
record_kept_values(const char *application, Table *table, const List *values, TupleDesc desc)
{
	Registry *registry = registry_begin_change(application);
	RegistryTable *listed = registry ? registry_find_table(registry, table->relid) : nullptr;
	/* Another generation comes with all that its rows have. */
	bool wanted = listed && listed->generation == table->generation;
	bool fits = !wanted || merge_kept_values(listed, values, desc);
	MemoryContext caller;
	ListCell *lc;

	if (!wanted || !fits)
	{
		if (registry)
			registry_cancel_change(registry);
		return fits;
	}
	registry_end_change(registry);
	foreach (lc, table->kept_values)
		pfree(static_cast<RegistryValue *>(lfirst(lc))->field);
	list_free_deep(table->kept_values);
	caller = MemoryContextSwitchTo(table->settings_context);
	table->kept_values = copy_kept_values(listed->kept_values);
	MemoryContextSwitchTo(caller);
	table->valid = false;
	return true;
}

const char *
keep_missing_values(const char *application, const ReorderBufferTXN *txn, Table *table, Relation relation,
					bool with_events)
{
	const List *cleared = cleared_values(txn, relation);
	Relation root;
	List *values = NIL;
	bool fits;

	if (cleared == NIL || (root = RelationIdGetRelation(table->relid)) == nullptr)
		return nullptr;
	blame_begin(table->relid);
	fits = make_kept_values(&values, cleared, RelationGetDescr(relation), RelationGetDescr(root));
	blame_end();
	if (fits)
		fits = record_kept_values(application, table, values, RelationGetDescr(root));
	RelationClose(root);
	if (!fits)
		return "was rewritten, for example by VACUUM FULL, with large defaults in its rows";
	return with_events ? "was rewritten, for example by CLUSTER, in a transaction that changed rows" : nullptr;
}
