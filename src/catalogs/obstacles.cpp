/*
 * What keeps a table from being published: see obstacles.h.
 */
#include "obstacles.h"

#include "key.h"
#include "partition_tree.h"

extern "C" {
#include "access/heapam.h"
#include "access/nbtree.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/pg_am.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "storage/lmgr.h"
}

bool
is_column_excluded(const List *only_attributes, const List *exclude_attributes, const List *exclude_columns,
				   const char *column, int attnum)
{
	ListCell *lc;

	if (only_attributes != NIL)
		return !list_member_int(only_attributes, attnum);
	if (list_member_int(exclude_attributes, attnum))
		return true;
	foreach (lc, exclude_columns)
		if (strcmp(static_cast<char *>(lfirst(lc)), column) == 0)
			return true;
	return false;
}

static const Obstacle *
make_obstacle(int code, const char *message, const char *detail, const char *hint)
{
	Obstacle *made = static_cast<Obstacle *>(palloc(sizeof(Obstacle)));

	*made = {code, message, detail, hint};
	return made;
}

static const Obstacle *
wrong_kind(const char *name, const char *what, const char *hint)
{
	return make_obstacle(ERRCODE_WRONG_OBJECT_TYPE, psprintf("\"%s\" is %s and cannot be published", name, what),
						 nullptr, hint);
}

void
check_obstacle(const Obstacle *obstacle)
{
	if (obstacle)
		ereport(ERROR, (errcode(obstacle->code), errmsg("%s", obstacle->message),
						obstacle->detail ? errdetail("%s", obstacle->detail) : 0, errhint("%s", obstacle->hint)));
}

static const char *
qualified_name(Relation relation)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
									  RelationGetRelationName(relation));
}

const Obstacle *
kind_obstacle(Relation relation)
{
	const char *name = RelationGetRelationName(relation);
	Oid extension;

	switch (relation->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			break;
		case RELKIND_FOREIGN_TABLE:
			return wrong_kind(name, "a foreign table", "Call siphon_add_table() on the server where its rows are.");
		case RELKIND_VIEW:
		case RELKIND_MATVIEW:
			return wrong_kind(name, "a view", "Call siphon_add_table() for the tables behind it.");
		default:
			return wrong_kind(name, "not a table", "Call siphon_add_table() with an ordinary table.");
	}
	if (IsCatalogRelation(relation) || IsToastRelation(relation) ||
		RelationGetNamespace(relation) == PG_CATALOG_NAMESPACE || RelationGetRelid(relation) < FirstNormalObjectId)
		return wrong_kind(name, "a system table", "Call siphon_add_table() with a table of your own.");
	extension = getExtensionOfObject(RelationRelationId, RelationGetRelid(relation));
	if (OidIsValid(extension) && extension == get_extension_oid("siphon", true))
		return wrong_kind(name, "a table of siphon itself", "Call siphon_add_table() with a table of your own.");
	return nullptr;
}

/* Or an access method that is heap under another name. */
static bool
is_heap(Oid access_method)
{
	HeapTuple tuple = SearchSysCache1(AMOID, ObjectIdGetDatum(access_method));
	bool heap =
		HeapTupleIsValid(tuple) &&
		GetTableAmRoutine(reinterpret_cast<Form_pg_am>(GETSTRUCT(tuple))->amhandler) == GetHeapamTableAmRoutine();

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return heap;
}

bool
storage_is_logged(Form_pg_class form)
{
	return form->relkind != RELKIND_RELATION ||
		   (form->relpersistence == RELPERSISTENCE_PERMANENT && is_heap(form->relam));
}

static const Obstacle *
class_obstacle(Form_pg_class form)
{
	const char *name = pstrdup(NameStr(form->relname));
	const char *qualified = quote_qualified_identifier(get_namespace_name(form->relnamespace), name);

	if (form->relpersistence == RELPERSISTENCE_TEMP)
		return wrong_kind(name, "a temporary table", "Its changes are not in the WAL: CREATE TABLE without TEMPORARY.");
	if (form->relpersistence == RELPERSISTENCE_UNLOGGED)
		return wrong_kind(name, "an unlogged table",
						  psprintf("Its changes are not in the WAL: ALTER TABLE %s SET LOGGED.", qualified));
	if (!storage_is_logged(form))
		return wrong_kind(name, psprintf("a table with access method %s", get_am_name(form->relam)),
						  psprintf("ALTER TABLE %s SET ACCESS METHOD heap.", qualified));
	return nullptr;
}

const Obstacle *
storage_obstacle(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	const Obstacle *found;

	if (!HeapTupleIsValid(tuple))
		return nullptr;
	found = class_obstacle(reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple)));
	ReleaseSysCache(tuple);
	return found;
}

/* Are values of the index's column that are equal also alike on the wire, or made so by key_partition()? */
static bool
is_equal_alike(Relation index, int column)
{
	Oid type = index->rd_opcintype[column];
	Oid function;

	if (type == NUMERICOID || type == FLOAT4OID || type == FLOAT8OID)
		return true;
	if (type == BPCHAROID)
		return get_collation_isdeterministic(index->rd_indcollation[column]);
	if (index->rd_rel->relam != BTREE_AM_OID)
		return false;
	/* PostgreSQL asks the same before it keeps equal entries of an index once. */
	function = get_opfamily_proc(index->rd_opfamily[column], type, type, BTEQUALIMAGE_PROC);
	return OidIsValid(function) &&
		   DatumGetBool(OidFunctionCall1Coll(function, index->rd_indcollation[column], ObjectIdGetDatum(type)));
}

/* Keys that are equal must not fall into different partitions. */
static const Obstacle *
key_types_obstacle(Relation relation, Oid index_oid)
{
	Relation index = index_open(index_oid, AccessShareLock);
	const Obstacle *found = nullptr;

	for (int i = 0; found == nullptr && i < index->rd_index->indnkeyatts; i++)
		if (!is_equal_alike(index, i))
			found = make_obstacle(
				ERRCODE_FEATURE_NOT_SUPPORTED,
				psprintf("table %s cannot be divided by its key", qualified_name(relation)),
				psprintf("Values of column \"%s\" can be equal and written differently, and so would not always be in "
						 "the same partition.",
						 get_attname(RelationGetRelid(relation), index->rd_index->indkey.values[i], false)),
				"Call siphon_add_table() with partitions => 1, or use ALTER TABLE ... REPLICA IDENTITY USING INDEX "
				"with an index of other columns.");
	index_close(index, AccessShareLock);
	return found;
}

const Obstacle *
identity_obstacle(Relation relation, int partitions)
{
	const char *qualified = qualified_name(relation);
	Oid index = key_index(relation);

	if (!OidIsValid(index) && relation->rd_rel->relreplident != REPLICA_IDENTITY_FULL)
		return make_obstacle(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
							 psprintf("table %s has no usable replica identity", qualified),
							 "Without one, updates and deletes do not say in the WAL which row they mean.",
							 psprintf("ALTER TABLE %s ADD PRIMARY KEY (...), or ALTER TABLE %s REPLICA IDENTITY FULL.",
									  qualified, qualified));
	if (!OidIsValid(index) && partitions > 1)
		return make_obstacle(
			ERRCODE_INVALID_PARAMETER_VALUE,
			psprintf("table %s has no key to divide it into %d partitions by", qualified, partitions), nullptr,
			psprintf("ALTER TABLE %s ADD PRIMARY KEY (...), or call siphon_add_table() with partitions => 1.",
					 qualified));
	return partitions > 1 ? key_types_obstacle(relation, index) : nullptr;
}

static const Obstacle *
leaf_identity_obstacle(Relation leaf, Relation root)
{
	const char *name = qualified_name(leaf);

	if (leaf_has_identity(leaf, root, siphon_attribute_map(RelationGetDescr(leaf), RelationGetDescr(root))))
		return nullptr;
	return make_obstacle(
		ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		psprintf("partition %s of table %s has no usable replica identity", name, qualified_name(root)),
		"Updates and deletes of its rows do not hold the table's key in the WAL.",
		psprintf("ALTER TABLE %s REPLICA IDENTITY FULL, or DEFAULT if its primary key is the table's.", name));
}

static const Obstacle *
leaf_obstacle(Relation leaf, Relation root)
{
	const Obstacle *found;

	if (leaf->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		return wrong_kind(
			RelationGetRelationName(leaf), "a foreign table",
			psprintf("ALTER TABLE %s DETACH PARTITION %s, or call siphon_add_table() for each of the other "
					 "partitions.",
					 qualified_name(root), qualified_name(leaf)));
	found = storage_obstacle(RelationGetRelid(leaf));
	return found ? found : leaf_identity_obstacle(leaf, root);
}

Relation
open_published(Oid relid, bool wait)
{
	Relation relation;

	if (!wait && !ConditionalLockRelationOid(relid, AccessShareLock))
		return nullptr;
	relation = try_table_open(relid, wait ? AccessShareLock : NoLock);
	if (relation == nullptr && !wait)
		UnlockRelationOid(relid, AccessShareLock);
	return relation;
}

/* The root's key names the leaves' rows, so their replica identities must hold it. */
const Obstacle *
leaves_obstacle(Relation root, bool wait)
{
	const Obstacle *found = nullptr;
	ListCell *lc;

	if (root->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return nullptr;
	foreach (lc, leaves_of(root, nullptr))
	{
		Relation leaf = open_published(lfirst_oid(lc), wait);

		if (leaf == nullptr)
			continue; /* dropped meanwhile, or locked */
		found = leaf_obstacle(leaf, root);
		table_close(leaf, AccessShareLock);
		if (found)
			break;
	}
	return found;
}

const Obstacle *
columns_obstacle(Relation relation, const List *only, const List *attributes, const List *names)
{
	int count;
	int16 *keys = key_attributes(relation, &count);

	for (int i = 0; i < count; i++)
	{
		const char *column = get_attname(RelationGetRelid(relation), keys[i], false);

		if (is_column_excluded(only, attributes, names, column, keys[i]))
			return make_obstacle(
				ERRCODE_INVALID_PARAMETER_VALUE,
				psprintf("column \"%s\" of table \"%s\" cannot be excluded because it is part of the key", column,
						 RelationGetRelationName(relation)),
				"Consumers tell rows apart by the key.",
				psprintf("%s, or use ALTER TABLE ... REPLICA IDENTITY USING INDEX with another key.",
						 only ? "Add it to the publication's list" : "Leave it out of exclude_columns"));
	}
	return nullptr;
}
