/*
 * Types that a transaction has changed: see type_changes.h.
 */
#include "type_changes.h"

#include "catalogs/catalog_changes.h"
#include "decoder.h"
#include "catalogs/type_map.h"

extern "C" {
#include "catalog/indexing.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_enum.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
}

/* Enums of which the transaction has renamed a label. */
static List *
add_renamed_enums(List *types, const ReorderBufferTXN *txn)
{
	Relation catalog;
	SysScanDesc scan;
	HeapTuple tuple;
	bool modified = false;

	for (uint32 i = 0; !modified && i < txn->ninvalidations; i++)
		modified = txn->invalidations[i].id == ENUMOID;
	if (!modified)
		return types;
	catalog = table_open(EnumRelationId, AccessShareLock);
	scan = systable_beginscan(catalog, InvalidOid, false, SnapshotAny, 0, nullptr);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_enum before = reinterpret_cast<Form_pg_enum>(GETSTRUCT(tuple));
		HeapTuple now =
			txn_replaced_tuple(txn, tuple) ? SearchSysCache1(ENUMOID, ObjectIdGetDatum(before->oid)) : nullptr;

		if (!HeapTupleIsValid(now))
			continue;
		if (strcmp(NameStr(before->enumlabel), NameStr(reinterpret_cast<Form_pg_enum>(GETSTRUCT(now))->enumlabel)) != 0)
			types = list_append_unique_oid(types, before->enumtypid);
		ReleaseSysCache(now);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return types;
}

/* Types of rows that have other attributes than before; how these are called is not in a value. */
static List *
add_changed_rows(List *types, const ReorderBufferTXN *txn, const List *modified)
{
	ListCell *lc;

	foreach (lc, modified)
	{
		Oid type;

		decoder_tick();
		type = get_rel_type_id(lfirst_oid(lc));
		if (OidIsValid(type) && txn_changed_attributes(txn, lfirst_oid(lc)))
			types = list_append_unique_oid(types, type);
	}
	return types;
}

/* Adds what the catalogs say that depends on the last of the types: to it other types, or to the columns. */
static void
add_dependents(Oid type, List **types, List **uses)
{
	Relation catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(TypeRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(type));
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, nullptr, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = reinterpret_cast<Form_pg_depend>(GETSTRUCT(tuple));

		if (form->classid == TypeRelationId)
			*types = list_append_unique_oid(*types, form->objid);
		else if (form->classid == RelationRelationId && form->objsubid > 0)
		{
			Oid row = get_rel_type_id(form->objid);
			TypeUse *use = static_cast<TypeUse *>(palloc(sizeof(TypeUse)));

			*use = {form->objid, static_cast<AttrNumber>(form->objsubid)};
			*uses = lappend(*uses, use);
			if (OidIsValid(row))
				*types = list_append_unique_oid(*types, row);
		}
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

List *
uses_of_changed_types(const ReorderBufferTXN *txn, const List *modified)
{
	List *types = add_changed_rows(add_renamed_enums(NIL, txn), txn, modified);
	List *uses = NIL;

	for (int i = 0; i < list_length(types); i++)
	{
		decoder_tick();
		add_dependents(list_nth_oid(types, i), &types, &uses);
	}
	return uses;
}

List *
retyped_columns(const ReorderBufferTXN *txn, Relation relation)
{
	List *columns = NIL;
	ListCell *lc;

	foreach (lc, former_types(txn, relation))
	{
		const FormerType *former = static_cast<FormerType *>(lfirst(lc));

		if (!are_written_alike(former->type, TupleDescAttr(RelationGetDescr(relation), former->attnum - 1)->atttypid))
			columns = lappend_int(columns, former->attnum);
	}
	return columns;
}
