/*
 * What a transaction did to definitions, told at its end: see transaction_end.h.
 */
#include "transaction_end.h"

#include "server/blame.h"
#include "catalogs/catalog_changes.h"
#include "decoder.h"
#include "definition.h"
#include "catalogs/attach_scan.h"
#include "encode/missing_values.h"
#include "encode/leaves.h"
#include "server/oid_hash.h"
#include "encode/package.h"
#include "catalogs/partition_tree.h"
#include "encode/renames.h"
#include "replaced_tables.h"
#include "snapshot/snapshot.h"
#include "encode/tables.h"
#include "warnings.h"

/* A table that the transaction made has no rows but those that were handed out: no need to look, nor to lock it. */
static bool
had_rows_before_attach(const DecodedTransaction *decoded, const ReorderBuffer *reorder, const ReorderBufferTXN *txn,
					   Oid relid)
{
	return (decoded->unpublished_relids && oid_hash_find<Oid>(decoded->unpublished_relids, relid)) ||
		   (!txn_created_relation(txn, relid) && relation_had_rows_before(reorder, relid));
}

/* A table has become a partition. It is empty, mostly, as each month's new one is; if not, its rows have no events. */
static void
on_attach(const DecodedTransaction *decoded, const ReorderBuffer *reorder, const ReorderBufferTXN *txn,
		  const PartitionChange *change)
{
	List *tables = published_tables_above(change->parent, decoded->transaction.commit_lsn);
	Relation relation;
	const Obstacle *obstacle = nullptr;
	const char *what = nullptr;
	bool readable = true;
	ListCell *lc;

	if (tables == NIL || (relation = RelationIdGetRelation(change->relid)) == nullptr)
		return;
	if (change->again)
		what = psprintf("lost partition \"%s\" and got it back", RelationGetRelationName(relation));
	foreach (lc, leaves_of(relation, nullptr))
	{
		/* A foreign table's rows are not here, and no snapshot could bring them. */
		if (get_rel_relkind(lfirst_oid(lc)) != RELKIND_RELATION)
			readable = false;
		else if (obstacle == nullptr && (obstacle = storage_obstacle(lfirst_oid(lc))) != nullptr)
			continue;
		else if (what || !had_rows_before_attach(decoded, reorder, txn, lfirst_oid(lc)))
			continue;
		what = psprintf("got partition \"%s\" with rows%s", RelationGetRelationName(relation),
						readable ? "" : " of a foreign server");
	}
	RelationClose(relation);
	foreach (lc, tables)
		if (obstacle)
			decoder_report_obstacle(lfirst_oid(lc), obstacle);
		else if (what)
			decoder_resync_or_report(lfirst_oid(lc), what, readable && siphon_resync_rewritten);
}

/* A partition has left, or was dropped. Often an old one goes to an archive: what that means, consumers say. */
static void
on_detach(DecodedTransaction *decoded, const ReorderBufferTXN *txn, const PartitionChange *change)
{
	ListCell *table;
	ListCell *above;

	/* It counts whether or not the table is published, as all changes do. */
	decoded->ordinal++;
	foreach (table, published_tables_above(change->parent, decoded->transaction.commit_lsn))
	{
		char *name;
		char *bound;
		List *bounds;
		Table *published;

		blame_begin(lfirst_oid(table));
		partition_before(txn, change->relid, &name, &bound);
		bounds = list_make1(bound);
		foreach (above, tables_of(change->parent))
		{
			char *ignored;

			if (lfirst_oid(above) == lfirst_oid(table))
				break;
			partition_before(txn, lfirst_oid(above), &ignored, &bound);
			bounds = lcons(bound, bounds);
		}
		blame_end();
		note_events_added(decoded);
		published = table_lookup(lfirst_oid(table), decoded->transaction.commit_lsn);
		if (published)
			encode_detach(published, decoded->transaction, decoded->ordinal, name, bounds);
		if (siphon_resync_detached)
			decoder_request_resync(lfirst_oid(table), psprintf("lost partition %s", name));
	}
}

/* Calls a function for each relation that the transaction modified, in a memory context that is reset behind it. */
static void
for_each_modified_relation(DecodedTransaction *decoded, const ReorderBuffer *reorder, const ReorderBufferTXN *txn,
						   void (*look)(DecodedTransaction *, const ReorderBuffer *, const ReorderBufferTXN *,
										Oid relid))
{
	ListCell *lc;

	foreach (lc, decoded->modified_relids)
	{
		MemoryContext old;

		decoder_tick();
		old = MemoryContextSwitchTo(decoded->change_context);
		look(decoded, reorder, txn, lfirst_oid(lc));
		MemoryContextSwitchTo(old);
		MemoryContextReset(decoded->change_context);
	}
}

static void
process_partition_changes(DecodedTransaction *decoded, const ReorderBuffer *reorder, const ReorderBufferTXN *txn,
						  Oid relid)
{
	ListCell *lc;

	foreach (lc, partition_changes(txn, relid))
	{
		const PartitionChange *change = static_cast<PartitionChange *>(lfirst(lc));

		/* In plain inheritance, children are tables of their own; and indexes have partitions, too. */
		if (get_rel_relkind(change->parent) != RELKIND_PARTITIONED_TABLE)
			continue;
		if (change->attached)
			on_attach(decoded, reorder, txn, change);
		else
			on_detach(decoded, txn, change);
	}
}

static void
process_storage_change(DecodedTransaction *decoded, const ReorderBuffer *, const ReorderBufferTXN *txn, Oid relid)
{
	detect_storage_change(txn, relid, decoded->transaction.commit_lsn);
}

static void
process_column_types(DecodedTransaction *decoded, const ReorderBuffer *, const ReorderBufferTXN *txn, Oid relid)
{
	detect_column_type_changes(txn, relid, decoded->transaction.commit_lsn);
}

/*
 * Keeps missing values that the transaction wrote into rows and took out of the catalogs: consumers may not have them.
 */
static void
process_rewritten_values(DecodedTransaction *decoded, const ReorderBuffer *, const ReorderBufferTXN *txn, Oid relid)
{
	ListCell *lc;

	foreach (lc, tables_of(relid))
	{
		Table *table = table_find(lfirst_oid(lc), decoded->transaction.commit_lsn);
		Relation relation = table ? RelationIdGetRelation(relid) : nullptr;
		const char *what;

		if (relation == nullptr)
			continue;
		/* Of ALTER TABLE more is to be said, and was. */
		what = keep_missing_values(decoder_get_application(), txn, table, relation,
								   decoded->with_events && relid != decoded->rewritten_relid);
		RelationClose(relation);
		if (what)
			decoder_resync_or_report(table->relid, what, siphon_resync_rewritten);
	}
}

/* Emits DROP for any table that was ever published (generation > 0), even if it waits for a snapshot or is stopped. */
static void
emit_drop(DecodedTransaction *decoded, Table *table)
{
	MemoryContext caller = MemoryContextSwitchTo(decoded->transaction_context);

	decoded->dropped = lappend(decoded->dropped, table);
	MemoryContextSwitchTo(caller);
	replaced_tables_note_dropped(table->relid, name_at_lsn(table, decoded->transaction.commit_lsn));
	if (table->generation == 0)
		return;
	table->end_event_lsn = decoded->transaction.commit_lsn;
	note_events_added(decoded);
	/* All that one transaction drops have one ordinal: their order is not the same each time it is decoded. */
	encode_drop(table, decoded->transaction, decoded->ordinal + 1);
	package_write_end(table, decoded->transaction.commit_lsn);
}

/* What comes of these OIDs from here on is not of those tables. In one change: a schema may go with thousands. */
static void
record_dropped_tables(const DecodedTransaction *decoded)
{
	Registry *registry = decoded->dropped ? registry_begin_change(decoder_get_application()) : nullptr;
	HTAB *by_oid;
	bool leaves = false;
	ListCell *lc;

	if (registry == nullptr)
		return;
	by_oid = index_tables_by_oid(registry);
	foreach (lc, decoded->dropped)
	{
		Table *table = static_cast<Table *>(lfirst(lc));
		RegistryTable *listed = find_table_by_oid(by_oid, table->relid);

		table->end_lsn = Min(table->end_lsn, decoded->transaction.commit_lsn + 1);
		if (listed == nullptr)
			continue;
		listed->end_lsn = table->end_lsn;
		listed->dropped = true;
		leaves |= is_table_leaving(listed);
	}
	registry_end_change(registry);
	if (leaves)
		decoder_request_registry_load();
}

/*
 * Emits RENAME in whatever phase the table is, as emit_drop() does; the publisher drops it while the rows under the old
 * name are incomplete. The ordinal is that of a DROP for the same reason.
 */
static void
emit_rename(DecodedTransaction *decoded, Table *table)
{
	RegistryName before = name_at_lsn(table, decoded->transaction.commit_lsn);
	RegistryName after = name_at_lsn(table, decoded->transaction.commit_lsn + 1);
	Table *former = table_under_name(table, &before);

	table->end_event_lsn = decoded->transaction.commit_lsn;
	note_events_added(decoded);
	encode_rename(former, &after, decoded->transaction, decoded->ordinal + 1);
	package_write_end(former, decoded->transaction.commit_lsn);
	/* A running snapshot publishes under the former name, and ends. */
	if (table->kind != siphon::FrameKind::Held)
		return;
	decoder_request_resync(table->relid, "was renamed during its snapshot");
	snapshot_request_cancel(decoder_get_application(), table->relid, GetCurrentTimestamp());
}

/* Processes a table that was changed, at the end of the transaction. Returns true if that renamed the table. */
static bool
process_changed_table(DecodedTransaction *decoded, const ReorderBufferTXN *txn, Table *table)
{
	/* Another session's change of now may have brought it up once more. */
	bool told = table->end_event_lsn == decoded->transaction.commit_lsn;
	Relation relation = RelationIdGetRelation(table->relid);
	bool renamed = relation && !told && table->generation != 0 &&
				   table_includes_commit(table, decoded->transaction.commit_lsn) &&
				   is_renamed_at(table, decoded->transaction.commit_lsn);

	/* First its name: where it needs a resync, it is not published for a while. */
	if (renamed)
		emit_rename(decoded, table);
	if (relation)
	{
		detect_definition_change(txn, decoded->modified_relids, table->relid, relation,
								 decoded->transaction.commit_lsn);
		RelationClose(relation);
	}
	else if (!told && is_relation_modified(decoded->modified_relids, table->relid) &&
			 decoded->transaction.commit_lsn < table->end_lsn)
		emit_drop(decoded, table);
	return renamed;
}

/*
 * All tables that PostgreSQL says were changed, since this was called last. What has another name now is entered in the
 * registry: a schema that is renamed may have thousands of tables.
 */
static List *
collect_changed_tables(DecodedTransaction *decoded)
{
	MemoryContext caller = CurrentMemoryContext;
	List *changed = NIL;
	List *renames = NIL;
	Table *table;

	while ((table = tables_next_changed()) != nullptr)
	{
		Relation relation;

		decoder_tick();
		MemoryContextSwitchTo(decoded->transaction_context);
		changed = lappend(changed, table);
		relation = RelationIdGetRelation(table->relid);
		if (relation)
			table_set_schema(table, RelationGetNamespace(relation));
		if (relation && table->end_event_lsn != decoded->transaction.commit_lsn && table->generation != 0 &&
			table_includes_commit(table, decoded->transaction.commit_lsn))
		{
			Rename *rename = static_cast<Rename *>(palloc(sizeof(Rename)));

			*rename = {table, catalog_name(relation)};
			renames = lappend(renames, rename);
		}
		if (relation)
			RelationClose(relation);
		MemoryContextSwitchTo(caller);
	}
	MemoryContextSwitchTo(decoded->change_context);
	record_renames(decoder_get_application(), renames, decoded->transaction.commit_lsn);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(decoded->change_context);
	return changed;
}

/*
 * Tables whose definition the transaction has changed: so that consumers hear of it now, and not with the next change
 * of a row. The catalogs are still those of its end.
 */
static void
process_changed_tables(DecodedTransaction *decoded, const ReorderBufferTXN *txn)
{
	MemoryContext old = CurrentMemoryContext;
	List *renamed = NIL;
	List *changed;
	ListCell *lc;

	while ((changed = collect_changed_tables(decoded)) != NIL)
		foreach (lc, changed)
		{
			Table *table = static_cast<Table *>(lfirst(lc));
			bool renames;

			decoder_tick();
			MemoryContextSwitchTo(decoded->change_context);
			renames = table->in_registry && process_changed_table(decoded, txn, table);
			MemoryContextReset(decoded->change_context);
			MemoryContextSwitchTo(decoded->transaction_context);
			if (renames)
				renamed = lappend_oid(renamed, table->relid);
			MemoryContextSwitchTo(old);
		}
	/* Their schemas, once all names that end here have ended: one table may have got another's. */
	foreach (lc, renamed)
	{
		decoder_tick();
		MemoryContextSwitchTo(decoded->change_context);
		table_lookup(lfirst_oid(lc), decoded->transaction.commit_lsn + 1);
		MemoryContextSwitchTo(old);
		MemoryContextReset(decoded->change_context);
	}
	MemoryContextSwitchTo(decoded->change_context);
	record_dropped_tables(decoded);
	MemoryContextSwitchTo(old);
	MemoryContextReset(decoded->change_context);
}

void
process_definition_changes(DecodedTransaction *decoded, const ReorderBuffer *reorder, const ReorderBufferTXN *txn)
{
	if (txn->ninvalidations > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(decoded->transaction_context);

		decoded->modified_relids = txn_modified_relations(txn);
		MemoryContextSwitchTo(old);
		for_each_modified_relation(decoded, reorder, txn, process_rewritten_values);
		for_each_modified_relation(decoded, reorder, txn, process_partition_changes);
		for_each_modified_relation(decoded, reorder, txn, process_storage_change);
		for_each_modified_relation(decoded, reorder, txn, process_column_types);
		MemoryContextSwitchTo(decoded->change_context);
		detect_type_changes(txn, decoded->modified_relids, decoded->transaction.commit_lsn);
		MemoryContextSwitchTo(old);
		MemoryContextReset(decoded->change_context);
		leaves_forget_dropped(decoded->modified_relids);
	}
	process_changed_tables(decoded, txn);
	if (txn->ninvalidations > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(decoded->change_context);

		warnings_check_catalogs();
		MemoryContextSwitchTo(old);
		MemoryContextReset(decoded->change_context);
	}
}
