/*
 * The output plugin: what PostgreSQL's logical decoding calls for each transaction and change. It numbers the
 * changes, leaves out what is not published, and hands the rest to the encoder.
 *
 * It works in Siphon's own decoder alone. A slot can be created by any backend (that calls startup_cb too),
 * but who tries to read one through SQL or a replication connection is refused.
 */
#include "catalog_changes.h"
#include "decoder.h"
#include "definition.h"
#include "earlier_rows.h"
#include "encoder.h"
#include "message.h"
#include "oid_hash.h"
#include "package.h"
#include "renames.h"
#include "replaced_tables.h"
#include "report.h"
#include "snapshot.h"
#include "warnings.h"

extern "C" {
#include "access/rmgr.h"
#include "catalog/partition.h"
#include "replication/origin.h"
}

static Transaction current;
static uint64 ordinal;
static bool with_events;
static Oid rewritten;       /* the relation of which the transaction rewrote a row last */
static HTAB *written_apart; /* relations of which a transaction wrote rows that are no published table's, or all anew */
static Oid last_apart;      /* the last of them */
static List *touched;       /* at a transaction's end, the relations that it changed: see touched_relations() */
static MemoryContext transaction_context;
static MemoryContext change_context;

static void
on_startup(LogicalDecodingContext *, OutputPluginOptions *options, bool is_init)
{
	MemoryContext caller;

	options->output_type = OUTPUT_PLUGIN_BINARY_OUTPUT;
	/* They are not published; that there are some tells that the table is not what it was. */
	options->receive_rewrites = true;
	if (is_init)
		return;
	if (!decoder_running)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("output plugin \"siphon\" can only be used by siphon's own decoder"),
						errhint("Publish tables with siphon_add_table() and read them from NATS JetStream.")));
	caller = MemoryContextSwitchTo(TopMemoryContext);
	buffer_init(&current.wire, 128);
	transaction_context = AllocSetContextCreate(TopMemoryContext, "siphon transaction", ALLOCSET_SMALL_SIZES);
	change_context = AllocSetContextCreate(TopMemoryContext, "siphon change", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(caller);
	encoder_init();
}

/* PostgreSQL has put the origin's time in its place; the commit record, which is being read, has it still. */
static TimestampTz
commit_time_here(XLogReaderState *reader, const ReorderBufferTXN *txn)
{
	uint8 kind = XLogRecGetInfo(reader) & XLOG_XACT_OPMASK;

	if (txn->origin_id == InvalidRepOriginId || XLogRecGetRmid(reader) != RM_XACT_ID ||
		(kind != XLOG_XACT_COMMIT && kind != XLOG_XACT_COMMIT_PREPARED))
		return txn->xact_time.commit_time;
	return reinterpret_cast<const xl_xact_commit *>(XLogRecGetData(reader))->xact_time;
}

/* NULL: there is none, or it was dropped since. */
static const char *
origin_name(RepOriginId origin)
{
	char *name;

	return origin != InvalidRepOriginId && replorigin_by_oid(origin, true, &name) ? name : nullptr;
}

static void
on_begin(LogicalDecodingContext *context, ReorderBufferTXN *txn)
{
	MemoryContext caller;

	current.commit_lsn = txn->final_lsn;
	current.commit_time = commit_time_here(context->reader, txn);
	current.origin_time = txn->xact_time.commit_time;
	current.xid = txn->xid;
	ordinal = 0;
	rewritten = InvalidOid;
	written_apart = nullptr;
	last_apart = InvalidOid;
	touched = NIL;
	MemoryContextReset(transaction_context);
	with_events = false;
	caller = MemoryContextSwitchTo(transaction_context);
	current.origin = origin_name(txn->origin_id);
	encode_transaction(&current);
	MemoryContextSwitchTo(caller);
	decoder_transaction_begin(txn->end_lsn);
}

static void
events_added(void)
{
	with_events = true;
	decoder_events_added();
}

/* A table that the transaction made has no rows but those that were handed out: no need to look, nor to lock it. */
static bool
had_rows(const ReorderBuffer *reorder, const ReorderBufferTXN *txn, Oid relid)
{
	return (written_apart && oid_hash_find<Oid>(written_apart, relid)) ||
		   (!relation_made(txn, relid) && earlier_rows(reorder, relid));
}

/* A table has become a partition. It is empty, mostly, as each month's new one is; if not, its rows have no events. */
static void
on_attach(const ReorderBuffer *reorder, const ReorderBufferTXN *txn, const PartitionChange *change)
{
	List *tables = published_above(change->parent, current.commit_lsn);
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
		else if (what || !had_rows(reorder, txn, lfirst_oid(lc)))
			continue;
		what = psprintf("got partition \"%s\" with rows%s", RelationGetRelationName(relation),
						readable ? "" : " of a foreign server");
	}
	RelationClose(relation);
	foreach (lc, tables)
		if (obstacle)
			decoder_obstructed(lfirst_oid(lc), obstacle);
		else if (what)
			decoder_rows_changed(lfirst_oid(lc), what, readable && siphon_resync_rewritten);
}

/* A partition has left, or was dropped. Often an old one goes to an archive: what that means, consumers say. */
static void
on_detach(const ReorderBufferTXN *txn, const PartitionChange *change)
{
	ListCell *table;
	ListCell *above;

	/* It counts whether or not the table is published, as all changes do. */
	ordinal++;
	foreach (table, published_above(change->parent, current.commit_lsn))
	{
		char *name;
		char *bound;
		List *bounds;
		Table *published;

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
		events_added();
		published = table_lookup(lfirst_oid(table), current.commit_lsn);
		if (published)
			encode_detach(published, current, ordinal, name, bounds);
		if (siphon_resync_detached)
			decoder_rows_changed(lfirst_oid(table), psprintf("lost partition %s", name), true);
	}
}

static void
look_at_partitions(const ReorderBuffer *reorder, const ReorderBufferTXN *txn)
{
	ListCell *lc;
	ListCell *lc2;

	foreach (lc, touched)
	{
		MemoryContext old;

		decoder_tick();
		old = MemoryContextSwitchTo(change_context);
		foreach (lc2, partition_changes(txn, lfirst_oid(lc)))
		{
			const PartitionChange *change = static_cast<PartitionChange *>(lfirst(lc2));

			/* In plain inheritance, children are tables of their own; and indexes have partitions, too. */
			if (get_rel_relkind(change->parent) != RELKIND_PARTITIONED_TABLE)
				continue;
			if (change->attached)
				on_attach(reorder, txn, change);
			else
				on_detach(txn, change);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(change_context);
	}
}

static void
look_at_rows(const ReorderBufferTXN *txn)
{
	MemoryContext old = MemoryContextSwitchTo(change_context);

	look_at_storage(txn, touched, current.commit_lsn);
	look_at_types(txn, touched, current.commit_lsn);
	MemoryContextSwitchTo(old);
	MemoryContextReset(change_context);
}

/* What the transaction wrote into rows and took out of the catalogs, consumers may not have heard of. */
static void
look_at_rewritten(const ReorderBufferTXN *txn)
{
	ListCell *lc;
	ListCell *lc2;

	foreach (lc, touched)
	{
		MemoryContext old;

		decoder_tick();
		old = MemoryContextSwitchTo(change_context);
		foreach (lc2, tables_of(lfirst_oid(lc)))
		{
			Table *table = table_find(lfirst_oid(lc2), current.commit_lsn);
			Relation relation = table ? RelationIdGetRelation(lfirst_oid(lc)) : nullptr;
			const char *what;

			if (relation == nullptr)
				continue;
			/* Of ALTER TABLE more is to be said, and was. */
			what = keep_existing_values(decoder_application(), txn, table, relation,
										with_events && lfirst_oid(lc) != rewritten);
			RelationClose(relation);
			if (what)
				decoder_rows_changed(table->relid, what, siphon_resync_rewritten);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(change_context);
	}
}

/* Of a table that consumers have heard of they are told, also while its rows are to come anew, or it was stopped. */
static void
tell_of_drop(Table *table)
{
	if (table->generation == 0)
		return;
	table->told_at = current.commit_lsn;
	events_added();
	/* All that one transaction drops have one ordinal: their order is not the same each time it is decoded. */
	replaced_tables_note(table->relid, names_at(table, current.commit_lsn));
	encode_drop(table, current, ordinal + 1);
	package_write_end(table, current.commit_lsn);
}

/* Told in whatever phase the table is, as a drop is. The ordinal is that of a DROP for the same reason. */
static void
tell_of_rename(Table *table)
{
	RegistryName before = names_at(table, current.commit_lsn);
	RegistryName after = names_at(table, current.commit_lsn + 1);
	Table *former = table_under_name(table, &before);

	table->told_at = current.commit_lsn;
	events_added();
	encode_rename(former, &after, current, ordinal + 1);
	package_write_end(former, current.commit_lsn);
	/* The rows that are being brought out go with the name under which they are. */
	if (table->kind != siphon::FrameKind::Held)
		return;
	decoder_rows_changed(table->relid, "was renamed while its rows were brought out", true);
	snapshot_ask_to_end(decoder_application(), table->relid, GetCurrentTimestamp());
}

/* Of a table that was changed, at the end of the transaction. True if it renamed the table. */
static bool
look_at_changed_table(const ReorderBufferTXN *txn, Table *table)
{
	/* Somebody else's change of now may have brought it up once more. */
	bool told = table->told_at == current.commit_lsn;
	Relation relation = RelationIdGetRelation(table->relid);
	bool renamed = relation && !told && table->generation != 0 && table_includes(table, current.commit_lsn) &&
				   renamed_at(table, current.commit_lsn);

	/* First its name: where it takes that its rows come anew, it is not published for a while. */
	if (renamed)
		tell_of_rename(table);
	if (relation)
	{
		look_at_definition(txn, touched, table->relid, relation, current.commit_lsn);
		RelationClose(relation);
	}
	else if (!told && relation_touched(touched, table->relid) && current.commit_lsn < table->until)
		tell_of_drop(table);
	return renamed;
}

/*
 * All tables that PostgreSQL says were changed, since this was called last. What has another name now is entered in the
 * registry: a schema that is renamed may have thousands of tables.
 */
static List *
take_changed_tables(void)
{
	MemoryContext caller = CurrentMemoryContext;
	List *changed = NIL;
	List *renames = NIL;
	Table *table;

	while ((table = tables_next_changed()) != nullptr)
	{
		Relation relation;

		decoder_tick();
		MemoryContextSwitchTo(transaction_context);
		changed = lappend(changed, table);
		relation = RelationIdGetRelation(table->relid);
		if (relation)
			table_note_schema(table, RelationGetNamespace(relation));
		if (relation && table->told_at != current.commit_lsn && table->generation != 0 &&
			table_includes(table, current.commit_lsn))
		{
			Rename *rename = static_cast<Rename *>(palloc(sizeof(Rename)));

			*rename = {table, names_in_catalogs(relation)};
			renames = lappend(renames, rename);
		}
		if (relation)
			RelationClose(relation);
		MemoryContextSwitchTo(caller);
	}
	MemoryContextSwitchTo(change_context);
	renames_enter(decoder_application(), renames, current.commit_lsn);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(change_context);
	return changed;
}

/*
 * Tables whose definition the transaction has changed: so that consumers hear of it now, and not with the next change
 * of a row. The catalogs are still those of its end.
 */
static void
look_at_changed_tables(const ReorderBufferTXN *txn)
{
	MemoryContext old = CurrentMemoryContext;
	List *renamed = NIL;
	List *changed;
	ListCell *lc;

	while ((changed = take_changed_tables()) != NIL)
		foreach (lc, changed)
		{
			Table *table = static_cast<Table *>(lfirst(lc));
			bool renames;

			decoder_tick();
			MemoryContextSwitchTo(change_context);
			renames = table->listed && look_at_changed_table(txn, table);
			MemoryContextReset(change_context);
			MemoryContextSwitchTo(transaction_context);
			if (renames)
				renamed = lappend_oid(renamed, table->relid);
			MemoryContextSwitchTo(old);
		}
	/* Their schemas, once all names that end here have ended: one table may have got another's. */
	foreach (lc, renamed)
	{
		decoder_tick();
		MemoryContextSwitchTo(change_context);
		table_lookup(lfirst_oid(lc), current.commit_lsn + 1);
		MemoryContextSwitchTo(old);
		MemoryContextReset(change_context);
	}
}

static void
on_commit(LogicalDecodingContext *context, ReorderBufferTXN *txn, XLogRecPtr)
{
	if (txn->ninvalidations > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(transaction_context);

		touched = touched_relations(txn);
		MemoryContextSwitchTo(old);
		look_at_rewritten(txn);
		look_at_partitions(context->reorder, txn);
		look_at_rows(txn);
	}
	look_at_changed_tables(txn);
	if (txn->ninvalidations > 0)
		warnings_look();
	decoder_transaction_end(txn->final_lsn, current.commit_time, with_events);
}

/* Does the row before a change name it, for consumers? */
static inline bool
names_rows(const Table *table, const Leaf *leaf)
{
	return (leaf ? leaf->full : table->full) || (table->nkeys > 0 && (leaf == nullptr || leaf->identity));
}

static void
on_nameless(Table *table, const Leaf *leaf, Relation relation)
{
	table->nameless = true;
	if (table->obstacle)
		decoder_obstructed(table->relid, table->obstacle);
	else
		decoder_rows_changed(table->relid,
							 psprintf("has a change of a row that nothing names, as %s has no replica identity",
									  leaf ? psprintf("partition \"%s\"", RelationGetRelationName(relation)) : "it"),
							 false);
}

static void
publish(Table *table, const Leaf *leaf, Relation relation, ReorderBufferChange *change)
{
	if (table == nullptr)
		return;
	events_added();
	if (unlikely(change->action != REORDER_BUFFER_CHANGE_INSERT && !table->nameless && !names_rows(table, leaf)))
		on_nameless(table, leaf, relation);
	report_encode_begins();
	encode_change(table, leaf, change->action, relation, siphon_change_tuple(change->data.tp.oldtuple),
				  siphon_change_tuple(change->data.tp.newtuple), current, ordinal);
	report_encode_ends();
}

/* The transaction wrote rows of a table which a table that it attaches this one to does not have. */
static void
note_written_apart(Oid relid)
{
	if (relid == last_apart)
		return;
	last_apart = relid;
	if (written_apart == nullptr)
		written_apart = oid_hash_make<Oid>("siphon written apart", transaction_context);
	oid_hash_enter<Oid>(written_apart, relid);
}

/* ALTER TABLE has written a row of the table anew: a type has changed, or a column was added that is not constant. */
static void
on_rewrite(Oid relid)
{
	MemoryContext old;
	ListCell *lc;

	if (relid == rewritten)
		return;
	rewritten = relid;
	/* All rows are the transaction's now, and nothing tells which were there before. */
	note_written_apart(relid);
	old = MemoryContextSwitchTo(change_context);
	foreach (lc, tables_of(relid))
		if (table_lookup(lfirst_oid(lc), current.commit_lsn))
			decoder_rows_changed(lfirst_oid(lc), "was rewritten by ALTER TABLE", siphon_resync_rewritten);
	MemoryContextSwitchTo(old);
	MemoryContextReset(change_context);
}

static void
on_change(LogicalDecodingContext *, ReorderBufferTXN *txn, Relation relation, ReorderBufferChange *change)
{
	MemoryContext old;
	List *leaves = NIL;

	decoder_tick();
	if (unlikely(OidIsValid(relation->rd_rel->relrewrite)))
	{
		on_rewrite(relation->rd_rel->relrewrite);
		return;
	}
	ordinal++;
	old = MemoryContextSwitchTo(change_context);
	publish(table_lookup(RelationGetRelid(relation), current.commit_lsn), nullptr, relation, change);
	if (relation->rd_rel->relispartition)
	{
		ListCell *lc;

		leaves = leaf_lookup(relation);
		foreach (lc, leaves)
		{
			const Leaf *leaf = static_cast<Leaf *>(lfirst(lc));

			publish(table_lookup(leaf->root, current.commit_lsn), leaf, relation, change);
		}
	}
	if (unlikely(leaves == NIL && rbtxn_has_catalog_changes(txn) && change->action != REORDER_BUFFER_CHANGE_DELETE))
		note_written_apart(RelationGetRelid(relation));
	MemoryContextSwitchTo(old);
	MemoryContextReset(change_context);
}

/* The tables of which these are parts and which are not themselves among them. */
static List *
partly_truncated(int nrelations, Relation relations[])
{
	List *truncated = NIL;
	List *partly = NIL;
	ListCell *lc;

	for (int i = 0; i < nrelations; i++)
		truncated = lappend_oid(truncated, RelationGetRelid(relations[i]));
	for (int i = 0; i < nrelations; i++)
		if (relations[i]->rd_rel->relispartition)
			foreach (lc, get_partition_ancestors(RelationGetRelid(relations[i])))
				partly = list_append_unique_oid(partly, lfirst_oid(lc));
	return list_difference_oid(partly, truncated);
}

static void
on_truncate(LogicalDecodingContext *, ReorderBufferTXN *, int nrelations, Relation relations[], ReorderBufferChange *)
{
	MemoryContext old = MemoryContextSwitchTo(change_context);
	ListCell *lc;

	ordinal++;
	for (int i = 0; i < nrelations; i++)
	{
		Table *table = table_lookup(RelationGetRelid(relations[i]), current.commit_lsn);

		if (table == nullptr)
			continue;
		events_added();
		encode_truncate(table, current, ordinal);
	}
	foreach (lc, partly_truncated(nrelations, relations))
		if (table_lookup(lfirst_oid(lc), current.commit_lsn))
			decoder_rows_changed(lfirst_oid(lc), "was truncated in part", true);
	MemoryContextSwitchTo(old);
	MemoryContextReset(change_context);
}

/*
 * One that is not transactional comes when its record is read, which no commit record is: so its record's LSN is a
 * position between those of the transactions around it, and the same however often it is decoded. The LSN that PostgreSQL
 * gives with it is that of the record's end, where the commit record of a transaction may begin.
 */
static void
on_message(LogicalDecodingContext *context, ReorderBufferTXN *, XLogRecPtr, bool transactional, const char *prefix,
		   Size length, const char *content)
{
	XLogRecPtr lsn = context->reader->ReadRecPtr;
	MemoryContext old;

	if (transactional)
		decoder_tick();
	if (!message_is_ours(prefix))
		return;
	old = MemoryContextSwitchTo(change_context);
	if (!transactional)
	{
		if (message_write(decoder_application(), prefix, content, length, nullptr, {lsn, 0}))
			decoder_message_added(lsn);
	}
	else
	{
		ordinal++;
		if (message_write(decoder_application(), prefix, content, length, &current, {current.commit_lsn, ordinal}))
			events_added();
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(change_context);
}

void
_PG_output_plugin_init(OutputPluginCallbacks *callbacks)
{
	callbacks->startup_cb = on_startup;
	callbacks->begin_cb = on_begin;
	callbacks->change_cb = on_change;
	callbacks->truncate_cb = on_truncate;
	callbacks->message_cb = on_message;
	callbacks->commit_cb = on_commit;
}
