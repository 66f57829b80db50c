/*
 * The values that rows have in columns which were added when the rows were there: a constant default makes no events,
 * and PostgreSQL keeps its value apart (pg_attribute.attmissingval), so that it need not rewrite the rows.
 *
 * Of a partitioned table the leaves alone have it, those that there were. They have the same, as it came with one
 * command, unless the default is a function that is only said to be stable.
 *
 * VACUUM FULL and CLUSTER rewrite the rows, with the value in them, and PostgreSQL forgets it: but consumers hear of
 * it with the next package only, on each subject. So it is taken down in the registry then, until the table's next
 * snapshot.
 *
 * Each package has the value. Of a large one, which a few kilobytes of the catalogs can be, the table gets a resync
 * when its column is added, and no package has it.
 */
#ifndef SIPHON_MISSING_VALUES_H
#define SIPHON_MISSING_VALUES_H

#include "registry/registry.h"
#include "server/wire.h"

struct Column;
struct Table;

struct MissingValue
{
	bool present; /* in the catalogs; else there is none, or it is NULL */
	bool differs; /* from leaf to leaf, and so is not present */
	bool large;   /* too large to go with each package, and so it doesn't */
	bool retyped; /* one was taken down, and the column's values are written in another way now */
	int attnum;   /* from 0, of */
	TupleDesc from;
};

/*
 * The values of all attributes of a table, or of the table at the root of leaves. In the current memory context, where
 * all is copied to.
 */
extern MissingValue *read_missing_values(Relation relation);

/* Writes the value, if there is one, into a siphon.v1.Column. */
extern void put_missing_value(siphon::WireBuffer *out, Table *table, Column *column, Form_pg_attribute attribute);

/*
 * Takes down the values that the transaction, which ends here, took out of the catalogs: in the rows of `relation`,
 * which is the table or a leaf of it. Returns why the table needs a resync nevertheless, or NULL. `with_events`:
 * consumers get some of the transaction, maybe by columns without the values.
 */
extern const char *keep_missing_values(const char *application, const ReorderBufferTXN *txn, Table *table,
									   Relation relation, bool with_events);

#endif
