/*
 * Types that a transaction has changed so that values are written otherwise than before, in rows that it did not touch:
 * a label of an enum has another name, a row type another number of attributes; or a column has got another type, and
 * its values fit that as they are.
 */
#ifndef SIPHON_TYPE_CHANGES_H
#define SIPHON_TYPE_CHANGES_H

#include "server/pg.h"

/* A column. */
struct TypeUse
{
	Oid relid;
	AttrNumber attnum;
};

/*
 * Of TypeUse *: columns of tables, of whatever sort, in which values of types stand that the transaction changed so;
 * `touched`: the relations that it touched. Ticks.
 */
extern List *uses_of_changed_types(const ReorderBufferTXN *txn, const List *modified);

/* Numbers of columns of the relation that got another type so, and that are written otherwise. */
extern List *retyped_columns(const ReorderBufferTXN *txn, Relation relation);

#endif
