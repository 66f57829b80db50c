/*
 * The decoder's published tables, by their OIDs.
 */
#ifndef SIPHON_TABLES_H
#define SIPHON_TABLES_H

#include "table.h"

/* All that there are, of Table: also those that are published no more. */
extern HTAB *tables_by_oid(void);
/* Called once, when the decoder starts. */
extern void tables_init(const char *application);
/* True if the registry has the table, whether or not it is published now. */
extern bool is_table_in_registry(Oid relid);
/* True if changes of the table are published, as of now. */
extern bool is_table_published(Oid relid);
/* Changes when that may have, for any table, or when PostgreSQL says that one that may have leaves changed. */
extern uint64 tables_epoch;
/* One of the registry's tables of which PostgreSQL said that the relation changed, each once. NULL: no more. */
extern Table *tables_next_changed(void);
/* Its schema is this one: that others change is nothing to it. */
extern void table_set_schema(Table *table, Oid schema);
/* PostgreSQL has to be asked about the table's name at the end of this transaction, whoever changed it. */
extern void table_mark_changed(Table *table);
/*
 * The table under a name, without columns: for what is left to say of it there. In the current memory context, in which
 * it must not be forgotten before its packages are written.
 */
extern Table *table_under_name(const Table *table, const RegistryName *name);
/* Makes packages begin without columns, under this name, and be of this kind: for what is said of a table that is gone. */
extern void table_forget_columns(Table *table, const RegistryName *name, siphon::FrameKind kind);
/* True if the table's present generation includes this commit, whether or not it is published now. */
extern bool table_includes_commit(const Table *table, XLogRecPtr commit_lsn);
/* The table, or NULL if it is not published at this commit. */
extern Table *table_lookup(Oid relid, XLogRecPtr commit_lsn);
/* The same, without a look at the catalogs: its columns may be those of before. */
extern Table *table_find(Oid relid, XLogRecPtr commit_lsn);

/*
 * For a snapshot's process: the table's description by the current catalogs, which are those of a place at or before lsn.
 * The relation is open.
 */
extern Table *table_for_snapshot(Relation relation, XLogRecPtr lsn);

#endif
