/*
 * The list of published tables, and how it changes: what may be put on it, what a change of a table's settings takes,
 * and what has to be noted of a table that leaves. SQL functions and the follower of a publication go by the same
 * rules.
 */
#ifndef SIPHON_TABLE_LIST_H
#define SIPHON_TABLE_LIST_H

#include "registry.h"

/*
 * A table as the registry has it, by the catalogs of now. ERROR, with a hint, if it can't be published. With `keep` it
 * excludes the columns that this one does.
 */
extern RegistryTable *table_list_build_entry(Oid relid, int partitions, List *exclude_columns,
											 const RegistryTable *keep);
/*
 * The same ERROR, of one that is in the list, and may have become another since. One that is gone is all right, and so
 * is what another session has locked.
 */
extern void table_list_check_entry(const RegistryTable *table);
/*
 * ERROR if it was dropped, or left a publication: it is published as it is, up to a place, and no rows of it from now
 * on. `name` is what the message calls it.
 */
extern void check_not_leaving(const Registry *registry, const RegistryTable *table, const char *name);
/* ERROR if the table is in the list, or its rows are, under a root or as partitions. */
extern void check_not_listed(const Registry *registry, const RegistryTable *table);

/* What is listed, by OID: so that each of thousands of tables is tried without a walk through all others. */
struct TableListIndex;

/* In the current memory context. It refers to the registry's tables. */
extern TableListIndex *table_list_index_create(const Registry *registry);
extern void table_list_index_add(TableListIndex *listed, RegistryTable *table);
/* NULL: it is not listed. */
extern const RegistryTable *table_list_index_find(const TableListIndex *listed, Oid relid);

/* Why a table can't be published. */
struct Refusal
{
	int sqlstate;
	char *reason;
	char *hint; /* or NULL */
};

/*
 * table_list_build_entry() and check_not_listed() for one table of many: in place of an ERROR, NULL and what it would
 * have said. Takes no memory for longer but for that and the result. In a transaction. `listed` may be NULL.
 */
extern RegistryTable *table_list_try_build_entry(TableListIndex *listed, Oid relid, int partitions,
												 List *exclude_columns, Refusal *refusal);

/* The next are for a registry that is open for a change. */

/* `rows` and `workers` are filled in already. */
extern void table_list_add(Registry *registry, RegistryTable *table);
extern void table_list_remove(Registry *registry, RegistryTable *table);
/* Removes all that leave at this place or before. Returns them (RegistryTable *). */
extern List *table_list_remove_confirmed(Registry *registry, XLogRecPtr confirmed);
/*
 * Requests a snapshot of the table, with its next generation; where its rows are not published, that generation begins
 * here.
 */
extern void table_list_request_snapshot(Registry *registry, RegistryTable *table);

/* Stops the table until its next resync, which an operator requests when the cause is fixed. */
extern void table_list_stop_table(const Registry *registry, RegistryTable *table, const char *reason);

enum class AlterEffect {
	None,
	Names, /* what is published stays the same: excluded columns are called otherwise */
	Resync /* consumers get other columns or partitions: a new snapshot, of a table whose rows are published */
};

/* What it takes that the table becomes as `changed` describes it. Reads catalogs, so before the registry is opened. */
extern AlterEffect table_list_get_alter_effect(const RegistryTable *table, const RegistryTable *changed);
extern void table_list_alter(Registry *registry, RegistryTable *table, const RegistryTable *changed,
							 AlterEffect effect);

/* Are the lists' items the same, one by one? */
extern bool lists_are_equal(List *a, List *b, bool (*same)(const void *, const void *));
/* Of items that are text. */
extern bool texts_are_equal(const void *a, const void *b);

/* A table's names now; they stay as they are if it does not exist. Each has NAMEDATALEN bytes. */
extern void read_table_names(Oid relid, char *schema, char *name);
/* Its quoted name, for messages. */
extern char *get_quoted_table_name(Oid relid);

#endif
