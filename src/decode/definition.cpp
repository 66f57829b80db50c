/*
 * What a transaction did to the definition of tables: see definition.h.
 */
#include "definition.h"

#include "decoder.h"
#include "encode/missing_values.h"
#include "catalogs/key.h"
#include "encode/tables.h"
#include "type_changes.h"

extern "C" {
#include "catalog/partition.h"
}

List *
tables_of(Oid relid)
{
	return lcons_oid(relid, get_rel_relispartition(relid) ? get_partition_ancestors(relid) : NIL);
}

List *
published_tables_above(Oid relid, XLogRecPtr commit_lsn)
{
	List *tables = NIL;
	ListCell *lc;

	foreach (lc, tables_of(relid))
		if (is_table_published(lfirst_oid(lc)) && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(lc))) &&
			table_lookup(lfirst_oid(lc), commit_lsn))
			tables = lappend_oid(tables, lfirst_oid(lc));
	return tables;
}

void
detect_storage_change(const ReorderBufferTXN *txn, Oid relid, XLogRecPtr commit_lsn)
{
	List *tables = published_tables_above(relid, commit_lsn);
	const Obstacle *obstacle;
	ListCell *lc;

	/* Partitioned tables have no rows of their own. */
	if (tables == NIL || get_rel_relkind(relid) != RELKIND_RELATION)
		return;
	obstacle = storage_obstacle(relid);
	if (obstacle == nullptr && !was_relation_unlogged(txn, relid))
		return;
	foreach (lc, tables)
		if (obstacle)
			decoder_report_obstacle(lfirst_oid(lc), obstacle);
		else
			decoder_resync_or_report(
				lfirst_oid(lc),
				psprintf("has changes that are not in the WAL, as \"%s\" was unlogged", get_rel_name(relid)),
				siphon_resync_rewritten);
}

static bool
is_column_published(const Table *table, AttrNumber attnum)
{
	const char *column = get_attname(table->relid, attnum, true);

	return column && !is_column_excluded(table->only_attributes, table->exclude_attributes, table->exclude_columns,
										 column, attnum);
}

static void
on_type_change(const Table *table, AttrNumber attnum)
{
	decoder_resync_or_report(
		table->relid,
		psprintf("has values of a type that was changed, in column \"%s\"", get_attname(table->relid, attnum, false)),
		siphon_resync_rewritten);
}

void
detect_column_type_changes(const ReorderBufferTXN *txn, Oid relid, XLogRecPtr commit_lsn)
{
	Relation relation;
	List *columns;
	ListCell *lc;
	ListCell *lc2;

	/* Partitioned tables have no rows of their own, whose types could be others. */
	if (get_rel_relkind(relid) != RELKIND_RELATION || published_tables_above(relid, commit_lsn) == NIL)
		return;
	relation = RelationIdGetRelation(relid);
	columns = relation ? retyped_columns(txn, relation) : NIL;
	if (relation)
		RelationClose(relation);
	foreach (lc, columns)
		foreach (lc2, published_tables_above(relid, commit_lsn))
		{
			const Table *table = table_find(lfirst_oid(lc2), commit_lsn);
			AttrNumber attnum =
				get_attnum(lfirst_oid(lc2), get_attname(relid, static_cast<AttrNumber>(lfirst_int(lc)), false));

			if (table && is_column_published(table, attnum))
				on_type_change(table, attnum);
		}
}

void
detect_type_changes(const ReorderBufferTXN *txn, const List *modified, XLogRecPtr commit_lsn)
{
	ListCell *lc;

	foreach (lc, uses_of_changed_types(txn, modified))
	{
		const TypeUse *use = static_cast<TypeUse *>(lfirst(lc));
		const Table *table = table_find(use->relid, commit_lsn);

		if (table && is_column_published(table, use->attnum))
			on_type_change(table, use->attnum);
	}
}

/*
 * Rows of a divided table whose key is another now lie in other partitions; but that they do, no event says. Nor can
 * one name the rows that were changed while the key had columns that are excluded.
 */
static const char *
detect_key_change(const ReorderBufferTXN *txn, const Table *table, Relation relation)
{
	List *before = key_before(txn, relation);
	List *now = NIL;
	int count;
	int16 *attributes = key_attributes(relation, &count);
	ListCell *lc;

	for (int i = 0; i < count; i++)
		now = lappend_int(now, attributes[i]);
	if (equal(before, now))
		return nullptr;
	if (table->wanted_partitions > 1)
		return "is divided by another key than before";
	foreach (lc, before)
	{
		const char *column = get_attname(table->relid, static_cast<AttrNumber>(lfirst_int(lc)), true);

		if (is_column_excluded(table->only_attributes, table->exclude_attributes, table->exclude_columns,
							   column ? column : "", lfirst_int(lc)))
			return "had a key with columns that are excluded";
	}
	return nullptr;
}

/* Of some columns packages don't say what existing rows have: it differs from leaf to leaf, or is large. */
static const char *
detect_new_columns(const ReorderBufferTXN *txn, const Table *table, Relation relation)
{
	for (int i = 0; i < RelationGetDescr(relation)->natts; i++)
	{
		const MissingValue *missing = &table->missing[i];

		if (!(missing->differs || missing->large || missing->retyped) ||
			!txn_modified_column(txn, table->relid, static_cast<AttrNumber>(i + 1)))
			continue;
		/* Rows that came since have it. */
		if (missing->large && !txn_changed_attributes(txn, table->relid))
			continue;
		if (missing->large)
			return "got a column with a large default";
		return missing->differs ? "got a column whose values differ from partition to partition"
								: "got another type for a column whose default VACUUM FULL wrote into its rows";
	}
	return nullptr;
}

void
detect_definition_change(const ReorderBufferTXN *txn, const List *modified, Oid relid, Relation relation,
						 XLogRecPtr commit_lsn)
{
	Table *table = table_lookup(relid, commit_lsn);
	const char *what;
	bool resync = siphon_resync_rewritten;

	if (table == nullptr || !is_relation_modified(modified, relid))
		return;
	if (table->obstacle)
	{
		decoder_report_obstacle(relid, table->obstacle);
		return;
	}
	what = detect_key_change(txn, table, relation);
	/* Without a key there is nothing to divide by: the next that it gets will be another. */
	if (what)
		resync = resync && table->nkeys > 0;
	else
		what = detect_new_columns(txn, table, relation);
	if (what)
		decoder_resync_or_report(relid, what, resync);
}
