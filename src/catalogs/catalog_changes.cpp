/*
 * What a transaction did to the catalogs: see catalog_changes.h.
 */
#include "catalog_changes.h"

#include "server/catalog_scan.h"
#include "key.h"
#include "obstacles.h"

extern "C" {
#include "access/heapam.h"
#include "access/htup_details.h"
#include "catalog/indexing.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_inherits.h"
#include "utils/snapmgr.h"
}

static bool
is_xid_of_txn(const ReorderBufferTXN *txn, TransactionId xid)
{
	dlist_iter iter;

	if (!TransactionIdIsNormal(xid))
		return false;
	if (xid == txn->xid)
		return true;
	dlist_foreach (iter, const_cast<dlist_head *>(&txn->subtxns))
		if (dlist_container(ReorderBufferTXN, node, iter.cur)->xid == xid)
			return true;
	return false;
}

static bool
is_written_by(const ReorderBufferTXN *txn, HeapTuple tuple)
{
	return is_xid_of_txn(txn, HeapTupleHeaderGetRawXmin(tuple->t_data));
}

/* Or replaced by another version. */
static bool
is_removed_by(const ReorderBufferTXN *txn, HeapTuple tuple)
{
	uint16 infomask = tuple->t_data->t_infomask;

	return !(infomask & HEAP_XMAX_INVALID) && !HEAP_XMAX_IS_LOCKED_ONLY(infomask) &&
		   is_xid_of_txn(txn, HeapTupleHeaderGetUpdateXid(tuple->t_data));
}

bool
txn_replaced_tuple(const ReorderBufferTXN *txn, HeapTuple tuple)
{
	return is_removed_by(txn, tuple) && !is_written_by(txn, tuple);
}

bool
txn_modified_column(const ReorderBufferTXN *txn, Oid relid, AttrNumber attnum)
{
	HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attnum));
	bool touched = HeapTupleIsValid(tuple) && is_written_by(txn, tuple);

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return touched;
}

/* What a row of pg_attribute has for rows that are older than the column, if the column has the same type as now. */
static List *
add_cleared(List *values, HeapTuple tuple, bool fresh, TupleDesc row, TupleDesc now)
{
	Form_pg_attribute before = reinterpret_cast<Form_pg_attribute>(GETSTRUCT(tuple));
	Form_pg_attribute after = TupleDescAttr(now, before->attnum - 1);
	ClearedValue *cleared;
	int first = 1;
	bool isnull;
	Datum array;

	if (after->attisdropped || after->atthasmissing || after->atttypid != before->atttypid)
		return values;
	array = heap_getattr(tuple, Anum_pg_attribute_attmissingval, row, &isnull);
	if (isnull)
		return values;
	cleared = static_cast<ClearedValue *>(palloc(sizeof(ClearedValue)));
	cleared->attnum = before->attnum - 1;
	cleared->fresh = fresh;
	cleared->value =
		array_get_element(array, 1, &first, -1, before->attlen, before->attbyval, before->attalign, &isnull);
	return isnull ? values : lappend(values, cleared);
}

List *
cleared_values(const ReorderBufferTXN *txn, Relation relation)
{
	TupleDesc now = RelationGetDescr(relation);
	CatalogScan scan = catalog_scan_begin(AttributeRelationId, AttributeRelidNumIndexId, Anum_pg_attribute_attrelid,
										  RelationGetRelid(relation), SnapshotAny);
	List *values = NIL;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		Form_pg_attribute form = reinterpret_cast<Form_pg_attribute>(GETSTRUCT(tuple));

		if (form->atthasmissing && form->attnum > 0 && form->attnum <= now->natts && is_removed_by(txn, tuple))
			values = add_cleared(values, heap_copytuple(tuple), is_written_by(txn, tuple),
								 RelationGetDescr(scan.catalog), now);
	}
	catalog_scan_end(&scan);
	return values;
}

static List *
add_change(List *changes, Oid relid, Oid parent, bool attached, bool again)
{
	PartitionChange *change = static_cast<PartitionChange *>(palloc(sizeof(PartitionChange)));

	*change = {relid, parent, attached, again};
	return lappend(changes, change);
}

List *
partition_changes(const ReorderBufferTXN *txn, Oid relid)
{
	CatalogScan scan = catalog_scan_begin(InheritsRelationId, InheritsRelidSeqnoIndexId, Anum_pg_inherits_inhrelid,
										  relid, SnapshotAny);
	List *changes = NIL;
	List *before = NIL;
	List *after = NIL;
	bool leaving = false;
	ListCell *lc;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		Form_pg_inherits form = reinterpret_cast<Form_pg_inherits>(GETSTRUCT(tuple));
		bool was_written = is_written_by(txn, tuple);
		bool was_removed = is_removed_by(txn, tuple);

		if (was_written && !was_removed)
			after = lappend_oid(after, form->inhparent);
		else if (was_removed && !was_written)
			before = lappend_oid(before, form->inhparent);
		leaving |= was_written && form->inhdetachpending;
	}
	catalog_scan_end(&scan);
	/* DETACH CONCURRENTLY changes the row first; a second transaction removes it. */
	if (leaving)
		return NIL;
	foreach (lc, before)
		if (!list_member_oid(after, lfirst_oid(lc)))
			changes = add_change(changes, relid, lfirst_oid(lc), false, false);
	foreach (lc, after)
		changes = add_change(changes, relid, lfirst_oid(lc), true, list_member_oid(before, lfirst_oid(lc)));
	return changes;
}

List *
txn_modified_relations(const ReorderBufferTXN *txn)
{
	List *relids = NIL;

	for (uint32 i = 0; i < txn->ninvalidations; i++)
		if (txn->invalidations[i].id == SHAREDINVALRELCACHE_ID && OidIsValid(txn->invalidations[i].rc.relId))
			relids = lappend_oid(relids, txn->invalidations[i].rc.relId);
	list_sort(relids, list_oid_cmp);
	list_deduplicate_oid(relids);
	return relids;
}

bool
is_relation_modified(const List *modified, Oid relid)
{
	int first = 0;
	int behind = list_length(modified);

	while (first < behind)
	{
		int middle = first + (behind - first) / 2;
		Oid oid = list_nth_oid(modified, middle);

		if (oid == relid)
			return true;
		if (oid < relid)
			first = middle + 1;
		else
			behind = middle;
	}
	return false;
}

/* A row of a catalog, by its OID, as it was before the transaction removed or replaced it. NULL: it did not. */
static HeapTuple
row_before(const ReorderBufferTXN *txn, Oid catalog, Oid index, AttrNumber attribute, Oid oid)
{
	CatalogScan scan = catalog_scan_begin(catalog, index, attribute, oid, SnapshotAny);
	HeapTuple before = nullptr;
	HeapTuple tuple;

	while (before == nullptr && HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
		if (txn_replaced_tuple(txn, tuple))
			before = heap_copytuple(tuple);
	catalog_scan_end(&scan);
	return before;
}

static HeapTuple
class_before(const ReorderBufferTXN *txn, Oid relid)
{
	return row_before(txn, RelationRelationId, ClassOidIndexId, Anum_pg_class_oid, relid);
}

bool
txn_created_relation(const ReorderBufferTXN *txn, Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool made = HeapTupleIsValid(tuple) && is_written_by(txn, tuple) && class_before(txn, relid) == nullptr;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return made;
}

bool
was_relation_unlogged(const ReorderBufferTXN *txn, Oid relid)
{
	CatalogScan scan = catalog_scan_begin(RelationRelationId, ClassOidIndexId, Anum_pg_class_oid, relid, SnapshotAny);
	bool unlogged = false;
	HeapTuple tuple;

	while (!unlogged && HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
		unlogged = is_removed_by(txn, tuple) && !storage_is_logged(reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple)));
	catalog_scan_end(&scan);
	return unlogged;
}

/* Columns, as pg_attribute had them (copies), that the transaction gave other rows there. */
static List *
attributes_before(const ReorderBufferTXN *txn, Oid relid)
{
	CatalogScan scan = catalog_scan_begin(AttributeRelationId, AttributeRelidNumIndexId, Anum_pg_attribute_attrelid,
										  relid, SnapshotAny);
	List *attributes = NIL;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		Form_pg_attribute form = reinterpret_cast<Form_pg_attribute>(GETSTRUCT(tuple));

		if (form->attnum > 0 && !form->attisdropped && txn_replaced_tuple(txn, tuple))
			attributes = lappend(attributes, GETSTRUCT(heap_copytuple(tuple)));
	}
	catalog_scan_end(&scan);
	return attributes;
}

List *
former_types(const ReorderBufferTXN *txn, Relation relation)
{
	TupleDesc now = RelationGetDescr(relation);
	HeapTuple before = class_before(txn, RelationGetRelid(relation));
	List *types = NIL;
	ListCell *lc;

	if (before && reinterpret_cast<Form_pg_class>(GETSTRUCT(before))->relfilenode != relation->rd_rel->relfilenode)
		return NIL;
	foreach (lc, attributes_before(txn, RelationGetRelid(relation)))
	{
		Form_pg_attribute attribute = static_cast<Form_pg_attribute>(lfirst(lc));
		FormerType *former;

		if (attribute->attnum > now->natts || TupleDescAttr(now, attribute->attnum - 1)->attisdropped ||
			TupleDescAttr(now, attribute->attnum - 1)->atttypid == attribute->atttypid)
			continue;
		former = static_cast<FormerType *>(palloc(sizeof(FormerType)));
		*former = {attribute->attnum, attribute->atttypid};
		types = lappend(types, former);
	}
	return types;
}

bool
txn_changed_attributes(const ReorderBufferTXN *txn, Oid relid)
{
	HeapTuple before = class_before(txn, relid);
	HeapTuple now = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool changed = before && HeapTupleIsValid(now) &&
				   reinterpret_cast<Form_pg_class>(GETSTRUCT(before))->relnatts !=
					   reinterpret_cast<Form_pg_class>(GETSTRUCT(now))->relnatts;
	ListCell *lc;

	if (HeapTupleIsValid(now))
		ReleaseSysCache(now);
	if (changed || !HeapTupleIsValid(now))
		return changed;
	foreach (lc, attributes_before(txn, relid))
	{
		/* NULL: it was dropped. */
		HeapTuple attribute = SearchSysCacheAttNum(relid, static_cast<Form_pg_attribute>(lfirst(lc))->attnum);

		if (!HeapTupleIsValid(attribute))
			return true;
		ReleaseSysCache(attribute);
	}
	return false;
}

/* A schema may go, or be renamed, with the table that is in it. */
static const char *
schema_before(const ReorderBufferTXN *txn, Oid schema)
{
	HeapTuple tuple = row_before(txn, NamespaceRelationId, NamespaceOidIndexId, Anum_pg_namespace_oid, schema);

	return tuple ? NameStr(reinterpret_cast<Form_pg_namespace>(GETSTRUCT(tuple))->nspname) : get_namespace_name(schema);
}

/* Takes name and bound from a row of pg_class, if it has a bound. */
static bool
take_partition(const ReorderBufferTXN *txn, HeapTuple tuple, char **name, char **bound)
{
	Form_pg_class form = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
	bool isnull;
	Datum expression = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound, &isnull);

	if (isnull)
		return false;
	*name = quote_qualified_identifier(schema_before(txn, form->relnamespace), NameStr(form->relname));
	*bound =
		text_to_cstring(DatumGetTextPP(DirectFunctionCall2(pg_get_expr, expression, ObjectIdGetDatum(InvalidOid))));
	return true;
}

void
partition_before(const ReorderBufferTXN *txn, Oid relid, char **name, char **bound)
{
	HeapTuple tuple = class_before(txn, relid);

	*name = *bound = pstrdup("");
	if (tuple && take_partition(txn, tuple, name, bound))
		return;
	/* The row as it is, of a table above the one that left. */
	tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relid));
	if (HeapTupleIsValid(tuple))
		take_partition(txn, tuple, name, bound);
}

/* The replica identity, as pg_class has it, before the transaction. */
static char
identity_before(const ReorderBufferTXN *txn, Relation table)
{
	HeapTuple tuple = class_before(txn, RelationGetRelid(table));

	return tuple ? reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relreplident : table->rd_rel->relreplident;
}

/* The key among the indexes that the transaction removed or changed (SnapshotAny), or those that it left alone (NULL).
 */
static List *
key_among(const ReorderBufferTXN *txn, Relation table, char identity, Snapshot snapshot)
{
	CatalogScan scan = catalog_scan_begin(IndexRelationId, IndexIndrelidIndexId, Anum_pg_index_indrelid,
										  RelationGetRelid(table), snapshot);
	List *key = NIL;
	HeapTuple tuple;

	while (key == NIL && HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		Form_pg_index index = reinterpret_cast<Form_pg_index>(GETSTRUCT(tuple));

		if (is_written_by(txn, tuple) || (snapshot && !is_removed_by(txn, tuple)) || !index_is_key(index, identity))
			continue;
		for (int i = 0; i < index->indnkeyatts; i++)
			key = lappend_int(key, index->indkey.values[i]);
	}
	catalog_scan_end(&scan);
	return key;
}

List *
key_before(const ReorderBufferTXN *txn, Relation table)
{
	char identity = identity_before(txn, table);
	List *key = key_among(txn, table, identity, SnapshotAny);

	return key != NIL ? key : key_among(txn, table, identity, nullptr);
}
