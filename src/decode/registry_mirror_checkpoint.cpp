/*
 * The checkpoint's part of the mirror: see registry_mirror_checkpoint.h.
 *
 * It is written every few seconds, and not by SQL: what that looks up in the catalogs would have to be forgotten at
 * once, as for the registry's part, and with it all that was looked up of the tables that are published. Of this table
 * nothing is decoded, and of its columns nothing is published: so what the cache has of it may be of now.
 */
#include "registry_mirror_checkpoint.h"

extern "C" {
#include "catalog/indexing.h"
#include "storage/lmgr.h"
}

static constexpr char kColumn[] = "checkpoint";
static constexpr AttrNumber kApplication = 1;

const char *
registry_mirror_checkpoint_column(Oid table)
{
	return get_attnum(table, kColumn) == InvalidAttrNumber ? "NULL" : kColumn;
}

/* Its number, by the table's descriptor alone. */
static AttrNumber
find_column(TupleDesc descriptor)
{
	for (int i = 0; i < descriptor->natts; i++)
	{
		const FormData_pg_attribute *attribute = TupleDescAttr(descriptor, i);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), kColumn) == 0)
			return attribute->attnum;
	}
	return InvalidAttrNumber;
}

static bool
is_row_of(HeapTuple row, TupleDesc descriptor, const char *application)
{
	bool null;
	Datum value = heap_getattr(row, kApplication, descriptor, &null);

	return !null && strcmp(TextDatumGetCString(value), application) == 0;
}

static void
write_column(Relation table, AttrNumber column, const char *application, const char *text)
{
	TupleDesc descriptor = RelationGetDescr(table);
	size_t natts = static_cast<size_t>(descriptor->natts);
	Datum *values = static_cast<Datum *>(palloc0(natts * sizeof(Datum)));
	bool *nulls = static_cast<bool *>(palloc0(natts * sizeof(bool)));
	bool *replaced = static_cast<bool *>(palloc0(natts * sizeof(bool)));
	/* There is a row for each application: they are few. */
	SysScanDesc scan = systable_beginscan(table, InvalidOid, false, GetActiveSnapshot(), 0, nullptr);
	HeapTuple row;

	values[column - 1] = CStringGetTextDatum(text);
	replaced[column - 1] = true;
	while ((row = systable_getnext(scan)) != nullptr)
	{
		if (!is_row_of(row, descriptor, application))
			continue;
		CatalogTupleUpdate(table, &row->t_self, heap_modify_tuple(row, descriptor, values, nulls, replaced));
		break;
	}
	systable_endscan(scan);
}

bool
registry_mirror_write_checkpoint(Oid table, const char *application, const SavedCheckpoint *saved)
{
	Relation relation;
	AttrNumber column;

	/* Acknowledgements must be polled while another session has the table locked. */
	if (!ConditionalLockRelationOid(table, RowExclusiveLock))
		return false;
	relation = try_relation_open(table, NoLock);
	if (relation == nullptr)
		return true;
	column = find_column(RelationGetDescr(relation));
	if (column != InvalidAttrNumber)
		write_column(relation, column, application, checkpoint_to_text(saved));
	relation_close(relation, NoLock);
	return true;
}
