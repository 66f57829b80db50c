/*
 * Names of published tables, as they change while decoding goes on. The registry learns of a new name at the commit
 * that gives it, before anything that follows is written to the ring: a decoder that starts behind it knows the table
 * by that name. Decoding may come to that commit once more, and to places before it, where the table had other names.
 */
#ifndef SIPHON_RENAMES_H
#define SIPHON_RENAMES_H

#include "table.h"

/*
 * At the end of a transaction, with the table as it left it: true if the transaction has renamed the table, however
 * often it is asked. The registry has the new name then, and *before the one that the table had.
 */
extern bool rename_noted(const char *application, Table *table, XLogRecPtr commit_lsn, RegistryName *before);

#endif
