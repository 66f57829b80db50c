/*
 * Leaves of partitioned tables: see leaves.h.
 */
#include "leaves.h"

#include "catalogs/partition_tree.h"
#include "tables.h"

extern "C" {
#include "catalog/partition.h"
}

/* What the decoder knows of a relation that is a partition. Kept when not published, too: to know that is the point. */
struct Entry
{
	Oid relid; /* hash key */
	bool valid;
	uint64 epoch; /* of the published tables, see tables_epoch */
	List *leaves; /* of Leaf *, one for each published root */
};

static HTAB *entries;
static MemoryContext leaves_context;

static void
invalidate_leaves(Datum, Oid relid)
{
	HASH_SEQ_STATUS status;
	Entry *entry;

	if (relid != InvalidOid)
	{
		entry = static_cast<Entry *>(hash_search(entries, &relid, HASH_FIND, nullptr));
		if (entry)
			entry->valid = false;
		return;
	}
	hash_seq_init(&status, entries);
	while ((entry = static_cast<Entry *>(hash_seq_search(&status))) != nullptr)
		entry->valid = false;
}

void
leaves_init(void)
{
	HASHCTL control;

	leaves_context = AllocSetContextCreate(TopMemoryContext, "siphon leaves", ALLOCSET_DEFAULT_SIZES);
	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(Entry);
	control.hcxt = leaves_context;
	entries = hash_create("siphon leaves", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(invalidate_leaves, 0);
}

/* The relation as a leaf of the root. */
static Leaf *
make_leaf(Relation relation, Oid root_oid)
{
	Relation root = RelationIdGetRelation(root_oid);
	MemoryContext caller;
	Leaf *leaf;

	if (root == nullptr)
		elog(ERROR, "could not open relation with OID %u", root_oid);
	caller = MemoryContextSwitchTo(leaves_context);
	leaf = static_cast<Leaf *>(palloc(sizeof(Leaf)));
	leaf->root = root_oid;
	leaf->map = siphon_attribute_map(RelationGetDescr(relation), RelationGetDescr(root));
	MemoryContextSwitchTo(caller);
	leaf->full = relation->rd_rel->relreplident == REPLICA_IDENTITY_FULL;
	leaf->identity = leaf_has_identity(relation, root, leaf->map);
	RelationClose(root);
	return leaf;
}

static void
free_leaves(Entry *entry)
{
	ListCell *lc;

	foreach (lc, entry->leaves)
	{
		Leaf *leaf = static_cast<Leaf *>(lfirst(lc));

		if (leaf->map)
			free_attrmap(leaf->map);
	}
	list_free_deep(entry->leaves);
	entry->leaves = NIL;
}

static void
build_entry(Entry *entry, Relation relation)
{
	ListCell *lc;

	/* First, so that whatever invalidates the entry from here on gets it built once more. */
	entry->valid = true;
	entry->epoch = tables_epoch;
	free_leaves(entry);
	foreach (lc, get_partition_ancestors(RelationGetRelid(relation)))
	{
		MemoryContext caller;
		Leaf *leaf;

		if (!is_table_published(lfirst_oid(lc)))
			continue;
		leaf = make_leaf(relation, lfirst_oid(lc));
		caller = MemoryContextSwitchTo(leaves_context);
		entry->leaves = lappend(entry->leaves, leaf);
		MemoryContextSwitchTo(caller);
	}
}

List *
leaf_lookup(Relation relation)
{
	Oid relid = RelationGetRelid(relation);
	bool found;
	Entry *entry = static_cast<Entry *>(hash_search(entries, &relid, HASH_ENTER, &found));

	if (!found)
	{
		entry->valid = false;
		entry->leaves = NIL;
	}
	while (!entry->valid || entry->epoch != tables_epoch)
		build_entry(entry, relation);
	return entry->leaves;
}

void
leaves_forget_dropped(const List *touched)
{
	ListCell *lc;

	foreach (lc, touched)
	{
		Oid relid = lfirst_oid(lc);
		Entry *entry = static_cast<Entry *>(hash_search(entries, &relid, HASH_FIND, nullptr));

		if (entry == nullptr || SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
			continue;
		free_leaves(entry);
		hash_search(entries, &relid, HASH_REMOVE, nullptr);
	}
}
