/*
 * An output plugin that puts out nothing: what it takes to read and to decode WAL, and so the limit of everything that
 * decodes it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "replication/logical.h"
#include "replication/output_plugin.h"

PG_MODULE_MAGIC;

extern void _PG_output_plugin_init(OutputPluginCallbacks *callbacks);

static void
ignore_transaction(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
}

static void
ignore_change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation relation, ReorderBufferChange *change)
{
}

static void
ignore_commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
}

static void
start(LogicalDecodingContext *ctx, OutputPluginOptions *options, bool is_init)
{
	options->output_type = OUTPUT_PLUGIN_BINARY_OUTPUT;
}

void
_PG_output_plugin_init(OutputPluginCallbacks *callbacks)
{
	callbacks->startup_cb = start;
	callbacks->begin_cb = ignore_transaction;
	callbacks->change_cb = ignore_change;
	callbacks->commit_cb = ignore_commit;
}
