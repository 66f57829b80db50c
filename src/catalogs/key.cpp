/*
 * The key of a table: see key.h.
 */
#include "key.h"

bool
index_is_key(Form_pg_index index, char identity)
{
	switch (identity)
	{
		case REPLICA_IDENTITY_DEFAULT:
		case REPLICA_IDENTITY_FULL:
			return index->indisprimary && index->indimmediate;
		case REPLICA_IDENTITY_INDEX:
			return index->indisreplident;
		default:
			return false;
	}
}

Oid
key_index(Relation relation)
{
	char identity = relation->rd_rel->relreplident;
	Oid index;
	HeapTuple tuple;

	list_free(RelationGetIndexList(relation)); /* fills in the two fields read here */
	index = identity == REPLICA_IDENTITY_FULL ? relation->rd_pkindex : relation->rd_replidindex;
	tuple = OidIsValid(index) ? SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index)) : nullptr;
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	/* PostgreSQL 18 names a deferrable primary key there, too. */
	if (!index_is_key(reinterpret_cast<Form_pg_index>(GETSTRUCT(tuple)), identity))
		index = InvalidOid;
	ReleaseSysCache(tuple);
	return index;
}

int16 *
key_attributes(Relation relation, int *count)
{
	Oid index_oid = key_index(relation);
	Relation index = OidIsValid(index_oid) ? RelationIdGetRelation(index_oid) : nullptr;
	int16 *attributes;

	*count = 0;
	if (index == nullptr)
		return nullptr;
	*count = index->rd_index->indnkeyatts;
	attributes = static_cast<int16 *>(palloc(sizeof(int16) * static_cast<size_t>(*count)));
	memcpy(attributes, index->rd_index->indkey.values, sizeof(int16) * static_cast<size_t>(*count));
	RelationClose(index);
	return attributes;
}
