/*
 * The output plugin: what PostgreSQL's logical decoding calls for each transaction and change. It numbers the
 * changes, leaves out what is not published, and hands the rest to the encoder.
 *
 * It works in Siphon's own decoder alone. A slot can be created by any backend (that calls startup_cb too),
 * but who tries to read one through SQL or a replication connection is refused.
 */
#include "decoder.h"
#include "encoder.h"
#include "message.h"
#include "package.h"
#include "renames.h"

extern "C" {
#include "catalog/partition.h"
}

static Transaction current;
static uint64 ordinal;
static bool with_events;
static Oid rewritten; /* the relation of which the transaction rewrote a row last */
static MemoryContext change_context;

static void
on_startup(LogicalDecodingContext *, OutputPluginOptions *options, bool is_init)
{
	options->output_type = OUTPUT_PLUGIN_BINARY_OUTPUT;
	/* They are not published; that there are some tells that the table is not what it was. */
	options->receive_rewrites = true;
	if (is_init)
		return;
	if (!decoder_running)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("output plugin \"siphon\" can only be used by siphon's own decoder"),
						errhint("Publish tables with siphon_add_table() and read them from NATS JetStream.")));
	change_context = AllocSetContextCreate(TopMemoryContext, "siphon change", ALLOCSET_DEFAULT_SIZES);
	encoder_init();
}

static void
on_begin(LogicalDecodingContext *, ReorderBufferTXN *txn)
{
	current.commit_lsn = txn->final_lsn;
	current.commit_time = txn->xact_time.commit_time;
	current.xid = txn->xid;
	encode_transaction(&current);
	ordinal = 0;
	rewritten = InvalidOid;
	with_events = false;
	decoder_transaction_begin(txn->end_lsn);
}

static void
events_added(void)
{
	with_events = true;
	decoder_events_added();
}

/* Has the transaction itself changed, or dropped, the relation? */
static bool
invalidates(const ReorderBufferTXN *txn, Oid relid)
{
	for (uint32 i = 0; i < txn->ninvalidations; i++)
		if (txn->invalidations[i].id == SHAREDINVALRELCACHE_ID && txn->invalidations[i].rc.relId == relid)
			return true;
	return false;
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
	encode_drop(table, current, ordinal + 1);
	package_write_end(table);
}

/* The ordinal is that of a DROP for the same reason. */
static void
tell_of_rename(Table *former, Table *table)
{
	table->told_at = current.commit_lsn;
	events_added();
	encode_rename(former, table, current, ordinal + 1);
	package_write_end(former);
}

/*
 * Tables whose definition the transaction has changed: so that consumers hear of it now, and not with the next change
 * of a row. The catalogs are still those of its end.
 */
static void
look_at_changed_tables(const ReorderBufferTXN *txn)
{
	MemoryContext old = MemoryContextSwitchTo(change_context);
	Table *table;

	while ((table = tables_next_changed()) != nullptr)
	{
		Relation relation = RelationIdGetRelation(table->relid);
		RegistryName before;
		/* Somebody else's change of now may have brought it up once more. */
		bool told = table->told_at == current.commit_lsn;

		if (relation == nullptr)
		{
			if (!told && invalidates(txn, table->relid))
				tell_of_drop(table);
			continue;
		}
		RelationClose(relation);
		if (table_lookup(table->relid, current.commit_lsn) && !told &&
			rename_noted(decoder_application(), table, current.commit_lsn, &before))
			tell_of_rename(table_under_name(table, &before), table);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(change_context);
}

static void
on_commit(LogicalDecodingContext *, ReorderBufferTXN *txn, XLogRecPtr)
{
	look_at_changed_tables(txn);
	decoder_transaction_end(txn->final_lsn, current.commit_time, with_events);
}

static void
publish(Table *table, const Leaf *leaf, Relation relation, ReorderBufferChange *change)
{
	if (table == nullptr)
		return;
	events_added();
	if (unlikely(leaf == nullptr && table->nkeys == 0 && !table->full && !table->nameless &&
				 change->action != REORDER_BUFFER_CHANGE_INSERT))
	{
		table->nameless = true;
		decoder_rows_changed(table->relid, "has a change of a row that nothing names, as it has no replica identity",
							 false);
	}
	encode_change(table, leaf, change->action, relation, siphon_change_tuple(change->data.tp.oldtuple),
				  siphon_change_tuple(change->data.tp.newtuple), current, ordinal);
}

/* The tables of which a relation is, or is a part of. */
static List *
tables_of(Oid relid)
{
	return lcons_oid(relid, get_rel_relispartition(relid) ? get_partition_ancestors(relid) : NIL);
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
	old = MemoryContextSwitchTo(change_context);
	foreach (lc, tables_of(relid))
		if (table_lookup(lfirst_oid(lc), current.commit_lsn))
			decoder_rows_changed(lfirst_oid(lc), "was rewritten by ALTER TABLE", siphon_resync_rewritten);
	MemoryContextSwitchTo(old);
	MemoryContextReset(change_context);
}

static void
on_change(LogicalDecodingContext *, ReorderBufferTXN *, Relation relation, ReorderBufferChange *change)
{
	MemoryContext old;

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
		List *leaves = leaf_lookup(relation);
		ListCell *lc;

		foreach (lc, leaves)
		{
			const Leaf *leaf = static_cast<Leaf *>(lfirst(lc));

			publish(table_lookup(leaf->root, current.commit_lsn), leaf, relation, change);
		}
	}
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
 * One that is not transactional comes when its record is read, which no commit record is: so its own LSN is a position
 * between those of the transactions around it, and the same however often it is decoded.
 */
static void
on_message(LogicalDecodingContext *, ReorderBufferTXN *, XLogRecPtr lsn, bool transactional, const char *prefix,
		   Size length, const char *content)
{
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
