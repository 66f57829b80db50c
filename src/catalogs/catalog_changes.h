/*
 * What a transaction did to the catalogs, where what they say afterwards does not tell: which tables became partitions
 * of others or ceased to be, and which key a table had before.
 *
 * It is read off the catalogs' rows themselves: those that the transaction wrote bear its id, and those that it
 * replaced are still there, because the slot keeps them until the transaction was published. So a decoder that begins
 * with this very transaction sees the same as one that has seen all before.
 */
#ifndef SIPHON_CATALOG_CHANGES_H
#define SIPHON_CATALOG_CHANGES_H

#include "server/pg.h"

/* A table that became, or was until now, a partition of `parent`. */
struct PartitionChange
{
	Oid relid;
	Oid parent;
	bool attached; /* else detached or dropped */
	bool again;    /* attached after it had been detached: what became of it in between, no event says */
};

/* Did the transaction make it? So no row of it is older. */
extern bool txn_created_relation(const ReorderBufferTXN *txn, Oid relid);

/* Were changes of the relation's rows kept out of the WAL before the transaction, or for a while in it? */
extern bool was_relation_unlogged(const ReorderBufferTXN *txn, Oid relid);

/* Did the transaction write, or replace, the column's row of pg_attribute that is current at its end? */
extern bool txn_modified_column(const ReorderBufferTXN *txn, Oid relid, AttrNumber attnum);

/* A value that the rows of a table have in a column, and that the catalogs have no more. */
struct ClearedValue
{
	int attnum; /* from 0 */
	Datum value;
	bool fresh; /* the transaction itself added the column: nobody has heard of it */
};

/*
 * Of ClearedValue *: defaults with which columns were added (attmissingval) and which the transaction wrote into the
 * rows, as VACUUM FULL and CLUSTER do, of columns that are still there and of the same type.
 */
extern List *cleared_values(const ReorderBufferTXN *txn, Relation relation);

/* Did it replace, or remove, this version of a catalog's row, and not make it itself? */
extern bool txn_replaced_tuple(const ReorderBufferTXN *txn, HeapTuple tuple);

/* The type that a column had before, where it has another now. */
struct FormerType
{
	AttrNumber attnum;
	Oid type;
};

/* Of FormerType *. NIL if the rows were written anew. */
extern List *former_types(const ReorderBufferTXN *txn, Relation relation);

/* Did it add attributes to a relation that was there before, or drop some? */
extern bool txn_changed_attributes(const ReorderBufferTXN *txn, Oid relid);

/* OIDs of all relations that it changed, or dropped, each once, in ascending order. */
extern List *txn_modified_relations(const ReorderBufferTXN *txn);
/* Is the relation among them? */
extern bool is_relation_modified(const List *modified, Oid relid);

/*
 * Of PartitionChange *: what became of one of those relations. Partitions that were made as such are attached ones,
 * too; so are children in inheritance.
 */
extern List *partition_changes(const ReorderBufferTXN *txn, Oid relid);

/* What a table was called, and its partition bound as SQL has it, before the transaction took that away. */
extern void partition_before(const ReorderBufferTXN *txn, Oid relid, char **name, char **bound);

/* Attribute numbers of the key that a table had before, in the order of its index; NIL: it had none. */
extern List *key_before(const ReorderBufferTXN *txn, Relation table);

#endif
