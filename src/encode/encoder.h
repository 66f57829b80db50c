/*
 * The event encoder: one change becomes one siphon.v1.Event, or two where an UPDATE moves a key between
 * partitions.
 */
#ifndef SIPHON_ENCODER_H
#define SIPHON_ENCODER_H

#include "leaves.h"
#include "ring/ring.h"
#include "table.h"

/* What the events of a transaction share. */
struct Transaction
{
	XLogRecPtr commit_lsn;
	TimestampTz commit_time; /* by the clock of this server's primary */
	TimestampTz origin_time; /* of one that a replication brought, when it committed there; otherwise the same */
	const char *origin;      /* and the name of its replication origin; otherwise NULL */
	TransactionId xid;
	siphon::WireBuffer wire; /* the fields of a siphon.v1.Event that all of them have */
};

/* Fills in what the other fields become on the wire. */
extern void encode_transaction(Transaction *transaction);

/* Called once, when the decoder starts. */
extern void encoder_init(void);

/*
 * Encodes a row change and adds it to its package. Tuples are the relation's and may be NULL where WAL has none. The
 * relation is the table itself, or, if `leaf` is not NULL, this leaf of it. May wait for the ring's space, and the
 * table be marked invalid meanwhile; it is not rebuilt before the change is done.
 */
extern void encode_change(Table *table, const Leaf *leaf, ReorderBufferChangeType type, Relation relation,
						  HeapTuple old_tuple, HeapTuple new_tuple, const Transaction &transaction, uint64 ordinal);

/* Adds an existing row, as a SNAPSHOT event; `values` and `nulls` are by attribute. Returns the row's partition. */
extern int encode_row(Table *table, const Datum *values, const bool *nulls, XLogRecPtr snapshot_lsn);

/*
 * Adds a TRUNCATE, a DROP, or a RENAME to these names, to each partition of the table. `former`: the table under the name
 * that it had.
 */
extern void encode_truncate(Table *table, const Transaction &transaction, uint64 ordinal);
extern void encode_drop(Table *table, const Transaction &transaction, uint64 ordinal);
extern void encode_rename(Table *former, const RegistryName *names, const Transaction &transaction, uint64 ordinal);
/* Adds a DETACH likewise; `bounds`: of char *. */
extern void encode_detach(Table *table, const Transaction &transaction, uint64 ordinal, const char *partition,
						  const List *bounds);

#endif
