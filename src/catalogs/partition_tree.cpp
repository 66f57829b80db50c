/*
 * Declaratively partitioned tables, as the catalogs have them: see partition_tree.h.
 */
#include "partition_tree.h"

#include "server/catalog_scan.h"
#include "key.h"

extern "C" {
#include "catalog/pg_inherits.h"
}

bool
leaf_has_identity(Relation leaf, Relation root, const AttrMap *map)
{
	int nkeys;
	int nidentity;
	int16 *keys = key_attributes(root, &nkeys);
	int16 *identity = key_attributes(leaf, &nidentity);

	if (leaf->rd_rel->relreplident == REPLICA_IDENTITY_FULL)
		return true;
	for (int k = 0; k < nkeys; k++)
	{
		int16 wanted = map ? map->attnums[keys[k] - 1] : keys[k];
		bool found = false;

		for (int i = 0; i < nidentity; i++)
			found |= identity[i] == wanted;
		if (!found)
			return false;
	}
	return nkeys > 0;
}

/* The partitions of a table, all that are not being detached, one level down. */
static List *
children_of(Oid parent, Snapshot snapshot)
{
	CatalogScan scan =
		catalog_scan_begin(InheritsRelationId, InheritsParentIndexId, Anum_pg_inherits_inhparent, parent, snapshot);
	List *children = NIL;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		Form_pg_inherits form = reinterpret_cast<Form_pg_inherits>(GETSTRUCT(tuple));

		if (!form->inhdetachpending)
			children = lappend_oid(children, form->inhrelid);
	}
	catalog_scan_end(&scan);
	return children;
}

List *
leaves_of(Relation table, Snapshot snapshot)
{
	List *partitioned = NIL;
	List *leaves = NIL;
	ListCell *lc;

	if (table->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(RelationGetRelid(table));
	partitioned = list_make1_oid(RelationGetRelid(table));
	while (partitioned != NIL)
	{
		Oid parent = llast_oid(partitioned);

		partitioned = list_delete_last(partitioned);
		foreach (lc, children_of(parent, snapshot))
		{
			/* One that is gone by now counts as a leaf; opening it finds nothing. */
			if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_PARTITIONED_TABLE)
				partitioned = lappend_oid(partitioned, lfirst_oid(lc));
			else
				leaves = lappend_oid(leaves, lfirst_oid(lc));
		}
	}
	list_sort(leaves, list_oid_cmp);
	return leaves;
}
