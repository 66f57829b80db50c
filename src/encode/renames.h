/*
 * Names of published tables, as they change while decoding goes on. Packages call a table as the registry does: a rename
 * takes effect with its transaction's commit, and all that the transaction itself did comes under the name that the
 * table had before. So what consumers see does not depend on names that a transaction gave for a while, or on the order in
 * which it gave them, as when two tables swap theirs.
 *
 * The registry learns of a new name at the commit that gives it, before anything that follows is written to the ring, and
 * keeps the former ones: decoding may come to that commit once more, and to places before it.
 */
#ifndef SIPHON_RENAMES_H
#define SIPHON_RENAMES_H

#include "table.h"

/* As the table is called in what this transaction did; `until`: and in all that commit up to there. */
extern RegistryName name_at_lsn(const Table *table, XLogRecPtr commit_lsn);

/* As a relation is called by the catalogs. */
extern RegistryName catalog_name(Relation relation);

/* A table, and its names as a transaction left them. */
struct Rename
{
	Table *table;
	RegistryName names;
};

/*
 * At the end of a transaction: has the registry take new names (of Rename *), in one change however many they are, and
 * name_at_lsn() return the former ones for this commit. Leaves out what is the same, and those of which another
 * generation began under a name of its own.
 */
extern void record_renames(const char *application, List *renames, XLogRecPtr commit_lsn);
/* Did the transaction of this commit rename the table? However often it is asked. */
extern bool is_renamed_at(const Table *table, XLogRecPtr commit_lsn);

#endif
