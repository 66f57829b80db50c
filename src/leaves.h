/*
 * Leaves: the tables in which a declaratively partitioned table keeps its rows. They are published as the table
 * at the root of their tree, so a row of a leaf becomes one of the root, whose columns may stand elsewhere.
 *
 * "Partition" is what Siphon divides a table into by the hash of its key; hence the other word.
 */
#ifndef SIPHON_LEAVES_H
#define SIPHON_LEAVES_H

#include "pg.h"

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

/*
 * The tables that hold a table's rows, in an order that depends on the snapshot alone (NULL: a current one): the leaves
 * of a partitioned table, or an ordinary table itself.
 */
extern List *leaves_of(Relation table, Snapshot snapshot);

/* Can a leaf's old rows be told apart as the root's: are they whole, or do they hold the root's key? */
extern bool leaf_has_identity(Relation leaf, Relation root, const AttrMap *map);

#endif
