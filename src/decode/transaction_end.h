/*
 * What a transaction did to definitions, told at its end, while the catalogs are those of then: by events where there
 * are such, else the table gets a resync or says what is in the way. In this order:
 *
 *   rewritten    values that stood in the catalogs alone are in the rows now: taken down (missing_values.h)
 *   partitions   one came, with rows or without, or left (DETACH)
 *   storage      changes of rows are not in the WAL (definition.h)
 *   types        values are written otherwise, and no row was (definition.h)
 *   names        RENAME, DROP; what a name's table says ends before another has that name
 *   definition   the key, the columns (definition.h)
 */
#ifndef SIPHON_TRANSACTION_END_H
#define SIPHON_TRANSACTION_END_H

#include "decoder.h"
#include "encode/encoder.h"

/* The transaction of which changes are being handed out. */
struct DecodedTransaction
{
	Transaction transaction;
	uint64 ordinal; /* of the change that was handed out last */
	bool with_events;
	Oid rewritten_relid;      /* the relation of which the transaction rewrote a row last */
	HTAB *unpublished_relids; /* relations of which it wrote rows that are no published table's, or rewrote all of; or
								 NULL */
	Oid last_unpublished_relid; /* the last of them */
	List *modified_relids;      /* at its end, the relations that it changed: see txn_modified_relations() */
	List *dropped;       /* Table *: those that it dropped */
	MemoryContext transaction_context;
	MemoryContext change_context;
};

static inline void
note_events_added(DecodedTransaction *decoded)
{
	decoded->with_events = true;
	decoder_note_events();
}

extern void process_definition_changes(DecodedTransaction *decoded, const ReorderBuffer *reorder,
									   const ReorderBufferTXN *txn);

#endif
