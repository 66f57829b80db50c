/*
 * Detects what a transaction did to the definition of tables, where no event says what that means for their rows: the
 * table gets a resync, or says what is in the way. Called at the transaction's end, with the
 * relations that it touched (txn_modified_relations()) and its commit record's LSN; the
 * catalogs are those of then. In a memory context that is soon reset. A transaction may touch a hundred thousand
 * relations: the caller ticks between those that are looked at one by one, and who looks at all of them does.
 */
#ifndef SIPHON_DEFINITION_H
#define SIPHON_DEFINITION_H

#include "catalogs/catalog_changes.h"

/* The tables of which a relation is, or is a part of. */
extern List *tables_of(Oid relid);
/* The published tables to which rows of a partitioned table, and that of which it is one, belong. */
extern List *published_tables_above(Oid relid, XLogRecPtr commit_lsn);

/*
 * A table, or a leaf, whose changes are not in the WAL from here on, or were not until now, or for a while: where no row
 * is left, nothing else says so.
 */
extern void detect_storage_change(const ReorderBufferTXN *txn, Oid relid, XLogRecPtr commit_lsn);
/* Columns of a table, or of a leaf as such, that have other types. */
extern void detect_column_type_changes(const ReorderBufferTXN *txn, Oid relid, XLogRecPtr commit_lsn);
/* Tables with values that are written otherwise now, without that a row was. */
extern void detect_type_changes(const ReorderBufferTXN *txn, const List *modified, XLogRecPtr commit_lsn);
/* A published table's key and columns, if the transaction touched it. */
extern void detect_definition_change(const ReorderBufferTXN *txn, const List *modified, Oid relid, Relation relation,
									 XLogRecPtr commit_lsn);

#endif
