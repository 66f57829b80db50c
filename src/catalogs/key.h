/*
 * The key of a table: the columns by which consumers tell its rows apart. It is the replica identity, or with REPLICA
 * IDENTITY FULL, where old rows are whole, the primary key. There is none where that is deferrable: rows of which one
 * takes the other's key in mid-transaction would be taken for one another.
 */
#ifndef SIPHON_KEY_H
#define SIPHON_KEY_H

#include "server/pg.h"

/* Does a row of pg_index say that the index is its table's key, if the table has this replica identity? */
extern bool index_is_key(Form_pg_index index, char identity);
/* The key's index; InvalidOid: there is no key. */
extern Oid key_index(Relation relation);
/* Attribute numbers of the key, in the order of its index. */
extern int16 *key_attributes(Relation relation, int *count);

#endif
