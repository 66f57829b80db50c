/*
 * Values of rows that were there before their columns: see existing_rows.h.
 */
#include "existing_rows.h"

#include "leaves.h"

extern "C" {
#include "utils/datum.h"
}

static void
take(ExistingValue *value, TupleDesc from, int attnum)
{
	Form_pg_attribute attribute = TupleDescAttr(from, attnum);
	bool isnull;
	bool other_isnull;
	Datum datum;

	if (!attribute->atthasmissing || value->differs)
		return;
	datum = getmissingattr(from, attnum + 1, &isnull);
	if (isnull)
		return;
	if (!value->present)
		*value = {true, false, attnum, from};
	else if (!datumIsEqual(datum, getmissingattr(value->from, value->attnum + 1, &other_isnull), attribute->attbyval,
						   attribute->attlen))
		*value = {false, true, 0, nullptr};
}

/* Those of one table that has rows, in the places of `root`, of which it is a leaf, or which is its own description. */
static void
take_all(ExistingValue *values, Relation relation, TupleDesc root)
{
	TupleDesc desc = RelationGetDescr(relation);
	AttrMap *map;

	if (desc->constr == nullptr || desc->constr->missing == nullptr)
		return;
	desc = CreateTupleDescCopyConstr(desc);
	map = siphon_attribute_map(desc, root);
	for (int i = 0; i < root->natts; i++)
		if (!TupleDescAttr(root, i)->attisdropped)
			take(&values[i], desc, map ? map->attnums[i] - 1 : i);
}

ExistingValue *
existing_values(Relation relation)
{
	TupleDesc desc = RelationGetDescr(relation);
	ExistingValue *values =
		static_cast<ExistingValue *>(palloc0(sizeof(ExistingValue) * static_cast<size_t>(Max(desc->natts, 1))));
	ListCell *lc;

	foreach (lc, leaves_of(relation, nullptr))
	{
		Relation leaf = RelationIdGetRelation(lfirst_oid(lc));

		/* A snapshot's process may see one go; its leader sees to that. */
		if (leaf == nullptr)
			continue;
		take_all(values, leaf, desc);
		RelationClose(leaf);
	}
	return values;
}
