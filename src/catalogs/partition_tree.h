/*
 * Declaratively partitioned tables, as the catalogs have them: the leaves of a table, and what they have of its key.
 */
#ifndef SIPHON_PARTITION_TREE_H
#define SIPHON_PARTITION_TREE_H

#include "server/pg.h"

/*
 * The tables that hold a table's rows, in an order that depends on the snapshot alone (NULL: a current one): the leaves
 * of a partitioned table, or an ordinary table itself.
 */
extern List *leaves_of(Relation table, Snapshot snapshot);

/* Can a leaf's old rows be told apart as the root's: are they whole, or do they hold the root's key? */
extern bool leaf_has_identity(Relation leaf, Relation root, const AttrMap *map);

#endif
