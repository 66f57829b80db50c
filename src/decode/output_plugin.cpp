/*
 * The output plugin: what PostgreSQL's logical decoding calls for each transaction and change. It numbers the
 * changes, leaves out what is not published, and hands the rest to the encoder.
 *
 * It works in Siphon's own decoder alone. A slot can be created by any backend (that calls startup_cb too),
 * but who tries to read one through SQL or a replication connection is refused.
 */
#include "server/blame.h"
#include "decoder.h"
#include "definition.h"
#include "encode/encoder.h"
#include "message.h"
#include "server/oid_hash.h"
#include "decoder_stats.h"
#include "encode/tables.h"
#include "transaction_end.h"

extern "C" {
#include "access/rmgr.h"
#include "catalog/partition.h"
#include "replication/origin.h"
}

static inline DecodedTransaction *
get_decoded(const LogicalDecodingContext *context)
{
	return static_cast<DecodedTransaction *>(context->output_plugin_private);
}

static void
on_startup(LogicalDecodingContext *context, OutputPluginOptions *options, bool is_init)
{
	DecodedTransaction *decoded;
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
	decoded = static_cast<DecodedTransaction *>(palloc0(sizeof(DecodedTransaction)));
	context->output_plugin_private = decoded;
	buffer_init(&decoded->transaction.wire, 128);
	decoded->transaction_context = AllocSetContextCreate(TopMemoryContext, "siphon transaction", ALLOCSET_SMALL_SIZES);
	decoded->change_context = AllocSetContextCreate(TopMemoryContext, "siphon change", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(caller);
	encoder_init();
}

/* PostgreSQL has put the origin's time in its place; the commit record, which is being read, has it still. */
static TimestampTz
get_commit_time(XLogReaderState *reader, const ReorderBufferTXN *txn)
{
	uint8 kind = XLogRecGetInfo(reader) & XLOG_XACT_OPMASK;

	if (txn->origin_id == InvalidRepOriginId || XLogRecGetRmid(reader) != RM_XACT_ID ||
		(kind != XLOG_XACT_COMMIT && kind != XLOG_XACT_COMMIT_PREPARED))
		return txn->xact_time.commit_time;
	return reinterpret_cast<const xl_xact_commit *>(XLogRecGetData(reader))->xact_time;
}

/* NULL: there is none. One that is gone by now, or was made by the transaction itself, has its number alone. */
static const char *
origin_name(RepOriginId origin)
{
	char *name;

	if (origin == InvalidRepOriginId)
		return nullptr;
	return replorigin_by_oid(origin, true, &name) ? name : psprintf("#%u", origin);
}

static void
on_begin(LogicalDecodingContext *context, ReorderBufferTXN *txn)
{
	DecodedTransaction *decoded = get_decoded(context);
	MemoryContext caller;

	decoded->transaction.commit_lsn = txn->final_lsn;
	decoded->transaction.commit_time = get_commit_time(context->reader, txn);
	decoded->transaction.origin_time = txn->xact_time.commit_time;
	decoded->transaction.xid = txn->xid;
	decoded->ordinal = 0;
	decoded->rewritten_relid = InvalidOid;
	decoded->unpublished_relids = nullptr;
	decoded->last_unpublished_relid = InvalidOid;
	decoded->modified_relids = decoded->dropped = NIL;
	MemoryContextReset(decoded->transaction_context);
	decoded->with_events = false;
	caller = MemoryContextSwitchTo(decoded->transaction_context);
	decoded->transaction.origin = origin_name(txn->origin_id);
	encode_transaction(&decoded->transaction);
	MemoryContextSwitchTo(caller);
	decoder_transaction_begin(txn->end_lsn);
}

static void
on_commit(LogicalDecodingContext *context, ReorderBufferTXN *txn, XLogRecPtr)
{
	DecodedTransaction *decoded = get_decoded(context);

	process_definition_changes(decoded, context->reorder, txn);
	decoder_transaction_end(txn->final_lsn, decoded->transaction.commit_time, decoded->with_events);
}

/* Does the row before a change name it, for consumers? */
static inline bool
has_identity(const Table *table, const Leaf *leaf)
{
	return (leaf ? leaf->full : table->full) || (table->nkeys > 0 && (leaf == nullptr || leaf->identity));
}

static void
on_missing_identity(Table *table, const Leaf *leaf, Relation relation)
{
	table->identity_warned = true;
	if (table->obstacle)
		decoder_report_obstacle(table->relid, table->obstacle);
	else
		decoder_report_unpublishable_change(
			table->relid, psprintf("has a change of a row that nothing names, as %s has no replica identity",
								   leaf ? psprintf("partition \"%s\"", RelationGetRelationName(relation)) : "it"));
}

static void
publish_change(DecodedTransaction *decoded, Table *table, const Leaf *leaf, Relation relation,
			   ReorderBufferChange *change)
{
	if (table == nullptr)
		return;
	note_events_added(decoded);
	if (unlikely(change->action != REORDER_BUFFER_CHANGE_INSERT && !table->identity_warned &&
				 !has_identity(table, leaf)))
		on_missing_identity(table, leaf, relation);
	decoder_stats_begin_encode();
	encode_change(table, leaf, change->action, relation, siphon_change_tuple(change->data.tp.oldtuple),
				  siphon_change_tuple(change->data.tp.newtuple), decoded->transaction, decoded->ordinal);
	decoder_stats_end_encode();
}

/* The transaction wrote rows of a table which a table that it attaches this one to does not have. */
static void
note_unpublished_relid(DecodedTransaction *decoded, Oid relid)
{
	if (relid == decoded->last_unpublished_relid)
		return;
	decoded->last_unpublished_relid = relid;
	if (decoded->unpublished_relids == nullptr)
		decoded->unpublished_relids = oid_hash_make<Oid>("siphon written apart", decoded->transaction_context);
	oid_hash_enter<Oid>(decoded->unpublished_relids, relid);
}

/* ALTER TABLE has rewritten a row of the table: a type has changed, or a column was added that is not constant. */
static void
on_rewrite(DecodedTransaction *decoded, Oid relid)
{
	MemoryContext old;
	ListCell *lc;

	if (relid == decoded->rewritten_relid)
		return;
	decoded->rewritten_relid = relid;
	/* All rows are the transaction's now, and nothing tells which were there before. */
	note_unpublished_relid(decoded, relid);
	old = MemoryContextSwitchTo(decoded->change_context);
	foreach (lc, tables_of(relid))
		if (table_lookup(lfirst_oid(lc), decoded->transaction.commit_lsn))
			decoder_resync_or_report(lfirst_oid(lc), "was rewritten by ALTER TABLE", siphon_resync_rewritten);
	MemoryContextSwitchTo(old);
	MemoryContextReset(decoded->change_context);
}

static void
on_change(LogicalDecodingContext *context, ReorderBufferTXN *txn, Relation relation, ReorderBufferChange *change)
{
	DecodedTransaction *decoded = get_decoded(context);
	MemoryContext old;
	List *leaves = NIL;

	decoder_tick();
	if (unlikely(OidIsValid(relation->rd_rel->relrewrite)))
	{
		on_rewrite(decoded, relation->rd_rel->relrewrite);
		return;
	}
	decoded->ordinal++;
	old = MemoryContextSwitchTo(decoded->change_context);
	publish_change(decoded, table_lookup(RelationGetRelid(relation), decoded->transaction.commit_lsn), nullptr,
				   relation, change);
	if (relation->rd_rel->relispartition)
	{
		ListCell *lc;

		leaves = leaf_lookup(relation);
		foreach (lc, leaves)
		{
			const Leaf *leaf = static_cast<Leaf *>(lfirst(lc));

			publish_change(decoded, table_lookup(leaf->root, decoded->transaction.commit_lsn), leaf, relation, change);
		}
	}
	if (unlikely(leaves == NIL && rbtxn_has_catalog_changes(txn) && change->action != REORDER_BUFFER_CHANGE_DELETE))
		note_unpublished_relid(decoded, RelationGetRelid(relation));
	MemoryContextSwitchTo(old);
	MemoryContextReset(decoded->change_context);
}

/* The tables of which these are parts and which are not themselves among them. */
static List *
list_partly_truncated(int nrelations, Relation relations[])
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
on_truncate(LogicalDecodingContext *context, ReorderBufferTXN *, int nrelations, Relation relations[],
			ReorderBufferChange *)
{
	DecodedTransaction *decoded = get_decoded(context);
	MemoryContext old = MemoryContextSwitchTo(decoded->change_context);
	ListCell *lc;

	decoded->ordinal++;
	for (int i = 0; i < nrelations; i++)
	{
		Table *table = table_lookup(RelationGetRelid(relations[i]), decoded->transaction.commit_lsn);

		if (table == nullptr)
			continue;
		note_events_added(decoded);
		encode_truncate(table, decoded->transaction, decoded->ordinal);
	}
	foreach (lc, list_partly_truncated(nrelations, relations))
		if (table_lookup(lfirst_oid(lc), decoded->transaction.commit_lsn))
			decoder_request_resync(lfirst_oid(lc), "was truncated in part");
	MemoryContextSwitchTo(old);
	MemoryContextReset(decoded->change_context);
}

/*
 * One that is not transactional comes when its record is read, which no commit record is: so its record's LSN is a
 * position between those of the transactions around it, and the same however often it is decoded. The LSN that
 * PostgreSQL gives with it is that of the record's end, where the commit record of a transaction may begin.
 */
static void
on_message(LogicalDecodingContext *context, ReorderBufferTXN *, XLogRecPtr, bool transactional, const char *prefix,
		   Size length, const char *content)
{
	DecodedTransaction *decoded = get_decoded(context);
	XLogRecPtr lsn = context->reader->ReadRecPtr;
	MemoryContext old;

	if (transactional)
		decoder_tick();
	if (!message_is_ours(prefix))
		return;
	old = MemoryContextSwitchTo(decoded->change_context);
	if (!transactional)
	{
		if (message_write(decoder_get_application(), prefix, content, length, nullptr, {lsn, 0}))
			decoder_note_message(lsn);
	}
	else
	{
		decoded->ordinal++;
		if (message_write(decoder_get_application(), prefix, content, length, &decoded->transaction,
						  {decoded->transaction.commit_lsn, decoded->ordinal}))
			note_events_added(decoded);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(decoded->change_context);
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
