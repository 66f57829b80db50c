/*
 * The values that rows have in columns which were added when the rows were there: a constant default makes no events,
 * and PostgreSQL keeps its value apart (pg_attribute.attmissingval), so that it needs not write the rows anew.
 *
 * Of a partitioned table the leaves alone have it, those that there were. They have the same, as it came with one
 * command, unless the default is a function that is only said to be stable.
 */
#ifndef SIPHON_EXISTING_ROWS_H
#define SIPHON_EXISTING_ROWS_H

#include "pg.h"

struct ExistingValue
{
	bool present; /* else there is none, or it is NULL */
	bool differs; /* from leaf to leaf, and so is not present */
	int attnum;   /* from 0, of */
	TupleDesc from;
};

/*
 * The values of all attributes of a table, or of the table at the root of leaves. In the current memory context, where
 * all is copied to.
 */
extern ExistingValue *existing_values(Relation relation);

#endif
