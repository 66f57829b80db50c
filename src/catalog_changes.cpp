/*
 * What a transaction did to the catalogs: see catalog_changes.h.
 */
#include "catalog_changes.h"

extern "C" {
#include "access/heapam.h"
#include "access/htup_details.h"
#include "catalog/indexing.h"
#include "catalog/pg_inherits.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
}

static bool
is_of(const ReorderBufferTXN *txn, TransactionId xid)
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
written(const ReorderBufferTXN *txn, HeapTuple tuple)
{
	return is_of(txn, HeapTupleHeaderGetRawXmin(tuple->t_data));
}

/* Or replaced by another version. */
static bool
removed(const ReorderBufferTXN *txn, HeapTuple tuple)
{
	uint16 infomask = tuple->t_data->t_infomask;

	return !(infomask & HEAP_XMAX_INVALID) && !HEAP_XMAX_IS_LOCKED_ONLY(infomask) &&
		   is_of(txn, HeapTupleHeaderGetUpdateXid(tuple->t_data));
}

/* Rows of a catalog by one key, with SnapshotAny all versions that are there, or the current ones (NULL). */
struct CatalogScan
{
	Relation catalog;
	SysScanDesc scan;
};

static CatalogScan
begin_scan(Oid catalog, Oid index, AttrNumber attribute, Oid value, Snapshot snapshot)
{
	CatalogScan scan;
	ScanKeyData key;

	scan.catalog = table_open(catalog, AccessShareLock);
	ScanKeyInit(&key, attribute, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(value));
	scan.scan = systable_beginscan(scan.catalog, index, true, snapshot, 1, &key);
	return scan;
}

static void
end_scan(CatalogScan *scan)
{
	systable_endscan(scan->scan);
	table_close(scan->catalog, AccessShareLock);
}

bool
relation_touched(const ReorderBufferTXN *txn, Oid relid)
{
	for (uint32 i = 0; i < txn->ninvalidations; i++)
		if (txn->invalidations[i].id == SHAREDINVALRELCACHE_ID && txn->invalidations[i].rc.relId == relid)
			return true;
	return false;
}

bool
column_touched(const ReorderBufferTXN *txn, Oid relid, AttrNumber attnum)
{
	HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attnum));
	bool touched = HeapTupleIsValid(tuple) && written(txn, tuple);

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return touched;
}

/* Adds what became of one relation as a partition. A row that was only updated changes nothing. */
static List *
add_changes(List *changes, const ReorderBufferTXN *txn, Oid relid)
{
	CatalogScan scan =
		begin_scan(InheritsRelationId, InheritsRelidSeqnoIndexId, Anum_pg_inherits_inhrelid, relid, SnapshotAny);
	List *before = NIL;
	List *after = NIL;
	ListCell *lc;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan.scan)))
	{
		Oid parent = reinterpret_cast<Form_pg_inherits>(GETSTRUCT(tuple))->inhparent;
		bool was_written = written(txn, tuple);
		bool was_removed = removed(txn, tuple);

		if (was_written && !was_removed)
			after = lappend_oid(after, parent);
		else if (was_removed && !was_written)
			before = lappend_oid(before, parent);
	}
	end_scan(&scan);
	foreach (lc, list_concat_copy(before, after))
	{
		PartitionChange *change;

		if (list_member_oid(before, lfirst_oid(lc)) && list_member_oid(after, lfirst_oid(lc)))
			continue;
		change = static_cast<PartitionChange *>(palloc(sizeof(PartitionChange)));
		change->relid = relid;
		change->parent = lfirst_oid(lc);
		change->attached = list_member_oid(after, lfirst_oid(lc));
		changes = lappend(changes, change);
	}
	return changes;
}

List *
partition_changes(const ReorderBufferTXN *txn)
{
	List *relids = NIL;
	List *changes = NIL;
	ListCell *lc;

	for (uint32 i = 0; i < txn->ninvalidations; i++)
		if (txn->invalidations[i].id == SHAREDINVALRELCACHE_ID && OidIsValid(txn->invalidations[i].rc.relId))
			relids = lappend_oid(relids, txn->invalidations[i].rc.relId);
	list_sort(relids, list_oid_cmp);
	list_deduplicate_oid(relids);
	foreach (lc, relids)
		changes = add_changes(changes, txn, lfirst_oid(lc));
	return changes;
}

/* Takes name and bound from a row of pg_class, if it has a bound. */
static bool
take_partition(HeapTuple tuple, TupleDesc desc, char **name, char **bound)
{
	Form_pg_class form = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
	bool isnull;
	Datum expression = heap_getattr(tuple, Anum_pg_class_relpartbound, desc, &isnull);

	if (isnull)
		return false;
	*name = quote_qualified_identifier(get_namespace_name(form->relnamespace), NameStr(form->relname));
	*bound =
		text_to_cstring(DatumGetTextPP(DirectFunctionCall2(pg_get_expr, expression, ObjectIdGetDatum(InvalidOid))));
	return true;
}

void
partition_before(const ReorderBufferTXN *txn, Oid relid, char **name, char **bound)
{
	CatalogScan scan = begin_scan(RelationRelationId, ClassOidIndexId, Anum_pg_class_oid, relid, SnapshotAny);
	bool found = false;
	HeapTuple tuple;

	*name = *bound = pstrdup("");
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan.scan)))
		if (removed(txn, tuple) && !written(txn, tuple))
			found = take_partition(tuple, RelationGetDescr(scan.catalog), name, bound);
	end_scan(&scan);
	if (found)
		return;
	/* The row as it is, of a table above the one that left. */
	scan = begin_scan(RelationRelationId, ClassOidIndexId, Anum_pg_class_oid, relid, nullptr);
	if (HeapTupleIsValid(tuple = systable_getnext(scan.scan)))
		take_partition(tuple, RelationGetDescr(scan.catalog), name, bound);
	end_scan(&scan);
}

/* The replica identity, as pg_class has it, before the transaction. */
static char
identity_before(const ReorderBufferTXN *txn, Relation table)
{
	CatalogScan scan =
		begin_scan(RelationRelationId, ClassOidIndexId, Anum_pg_class_oid, RelationGetRelid(table), SnapshotAny);
	char identity = table->rd_rel->relreplident;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan.scan)))
		if (removed(txn, tuple) && !written(txn, tuple))
			identity = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relreplident;
	end_scan(&scan);
	return identity;
}

static bool
is_key(Form_pg_index index, char identity)
{
	switch (identity)
	{
		case REPLICA_IDENTITY_DEFAULT:
		case REPLICA_IDENTITY_FULL:
			return index->indisprimary && index->indimmediate;
		case REPLICA_IDENTITY_INDEX:
			return index->indisreplident;
		default:
			return false;
	}
}

/* The key among the indexes that the transaction removed or changed (SnapshotAny), or those that it left alone (NULL).
 */
static List *
key_among(const ReorderBufferTXN *txn, Relation table, char identity, Snapshot snapshot)
{
	CatalogScan scan =
		begin_scan(IndexRelationId, IndexIndrelidIndexId, Anum_pg_index_indrelid, RelationGetRelid(table), snapshot);
	List *key = NIL;
	HeapTuple tuple;

	while (key == NIL && HeapTupleIsValid(tuple = systable_getnext(scan.scan)))
	{
		Form_pg_index index = reinterpret_cast<Form_pg_index>(GETSTRUCT(tuple));

		if (written(txn, tuple) || (snapshot && !removed(txn, tuple)) || !is_key(index, identity))
			continue;
		for (int i = 0; i < index->indnkeyatts; i++)
			key = lappend_int(key, index->indkey.values[i]);
	}
	end_scan(&scan);
	return key;
}

List *
key_before(const ReorderBufferTXN *txn, Relation table)
{
	char identity = identity_before(txn, table);
	List *key = key_among(txn, table, identity, SnapshotAny);

	return key != NIL ? key : key_among(txn, table, identity, nullptr);
}
