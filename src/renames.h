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
extern RegistryName names_at(const Table *table, XLogRecPtr commit_lsn);

extern bool same_names(const RegistryName *a, const RegistryName *b);

/* As a relation is called by the catalogs. */
extern RegistryName names_in_catalogs(Relation relation);

/*
 * At the end of a transaction, with the table's names as it left them: true if it renamed the table, however often it is
 * asked. The registry has the new name then, and names_at() the old one for this commit.
 */
extern bool rename_noted(const char *application, Table *table, const RegistryName *names, XLogRecPtr commit_lsn);

#endif
