/*
 * Leaves: the tables in which a declaratively partitioned table keeps its rows. They are published as the table
 * at the root of their tree, so a row of a leaf becomes one of the root, whose columns may stand elsewhere.
 *
 * "Partition" is what Siphon divides a table into by the hash of its key; hence the other word.
 */
#ifndef SIPHON_LEAVES_H
#define SIPHON_LEAVES_H

#include "server/pg.h"

/* A leaf as a part of one published root. */
struct Leaf
{
	Oid root;
	AttrMap *map;  /* where the leaf has the root's attributes; NULL: where the root has them */
	bool full;     /* REPLICA IDENTITY FULL: its old rows are whole */
	bool identity; /* its old rows hold the root's key */
};

/* Called once, when the decoder starts. */
extern void leaves_init(void);

/*
 * For the decoder: the published roots (Leaf *) that a relation with relispartition belongs to at the change being
 * decoded. None, or one; more only if a published table was attached to another one.
 */
extern List *leaf_lookup(Relation relation);
/* Forgets those of these relations (Oids) that are gone. Nothing that leaf_lookup() gave may be in use. */
extern void leaves_forget_dropped(const List *touched);

#endif
