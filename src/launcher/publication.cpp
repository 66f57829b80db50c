/*
 * A publication's tables: see publication.h.
 */
#include "publication.h"

#include "server/oid_hash.h"

extern "C" {
#include "catalog/dependency.h"
#include "catalog/partition.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_publication_rel.h"
#include "commands/extension.h"
}

static const char *const kMissing = "the publication does not exist";
static const char *const kPartly = "the publication does not publish all of insert, update, delete and truncate";

const char *
publication_unsupported_reason(const char *name)
{
	Publication *publication = GetPublicationByName(name, true);

	if (publication == nullptr)
		return kMissing;
	if (!publication->pubactions.pubinsert || !publication->pubactions.pubupdate ||
		!publication->pubactions.pubdelete || !publication->pubactions.pubtruncate)
		return kPartly;
	return nullptr;
}

const char *
publication_unsupported_hint(const char *publication, const char *problem)
{
	const char *name = quote_identifier(publication);

	if (strcmp(problem, kPartly) == 0)
		return psprintf("ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate');", name);
	return psprintf("CREATE PUBLICATION %s FOR TABLE ...; on the primary.", name);
}

/* With a column list, those of the table's columns that are in it, and the names of the others. */
static void
read_columns(PublicationMember *member, Datum list)
{
	ArrayType *array = DatumGetArrayTypePCopy(list);
	const int16 *numbers = reinterpret_cast<const int16 *>(ARR_DATA_PTR(array));
	int count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	HeapTuple relation = SearchSysCache1(RELOID, ObjectIdGetDatum(member->relid));
	int natts = 0;

	if (HeapTupleIsValid(relation))
	{
		natts = reinterpret_cast<Form_pg_class>(GETSTRUCT(relation))->relnatts;
		ReleaseSysCache(relation);
	}
	for (int i = 0; i < count; i++)
		member->only_attributes = lappend_int(member->only_attributes, numbers[i]);
	list_sort(member->only_attributes, list_int_cmp);
	for (int i = 1; i <= natts; i++)
	{
		HeapTuple column = SearchSysCacheAttNum(member->relid, static_cast<int16>(i));

		if (!HeapTupleIsValid(column))
			continue; /* dropped */
		if (!list_member_int(member->only_attributes, i))
			member->exclude_columns =
				lappend(member->exclude_columns,
						pstrdup(NameStr(reinterpret_cast<Form_pg_attribute>(GETSTRUCT(column))->attname)));
		ReleaseSysCache(column);
	}
}

/* Filter and columns are those of the table's own entry, which counts where nothing else brings the whole table in. */
static void
read_entry(PublicationMember *member, const Publication *publication)
{
	HeapTuple entry;
	Datum columns;
	bool isnull;

	if (publication->alltables ||
		SearchSysCacheExists2(PUBLICATIONNAMESPACEMAP, ObjectIdGetDatum(get_rel_namespace(member->relid)),
							  ObjectIdGetDatum(publication->oid)))
		return;
	entry = SearchSysCache2(PUBLICATIONRELMAP, ObjectIdGetDatum(member->relid), ObjectIdGetDatum(publication->oid));
	if (!HeapTupleIsValid(entry))
		return;
	SysCacheGetAttr(PUBLICATIONRELMAP, entry, Anum_pg_publication_rel_prqual, &isnull);
	member->filtered = !isnull;
	columns = SysCacheGetAttr(PUBLICATIONRELMAP, entry, Anum_pg_publication_rel_prattrs, &isnull);
	if (!isnull)
		read_columns(member, columns);
	ReleaseSysCache(entry);
}

/* OIDs, each once, in ascending order. */
static List *
read_relations(const Publication *publication)
{
	PublicationPartOpt partitions = publication->pubviaroot ? PUBLICATION_PART_ROOT : PUBLICATION_PART_LEAF;
	List *relids;

	if (publication->alltables)
		relids = GetAllTablesPublicationRelations(publication->pubviaroot);
	else
		relids = list_concat(GetPublicationRelations(publication->oid, partitions),
							 GetAllSchemaPublicationRelations(publication->oid, partitions));
	list_sort(relids, list_oid_cmp);
	list_deduplicate_oid(relids);
	return relids;
}

/* Under its root a partition is published that is a member itself, too. */
static bool
has_root_among(HTAB *members, Oid relid)
{
	List *roots = get_rel_relispartition(relid) ? get_partition_ancestors(relid) : NIL;
	ListCell *lc;
	bool found = false;

	foreach (lc, roots)
		found |= oid_hash_find<Oid>(members, lfirst_oid(lc)) != nullptr;
	list_free(roots);
	return found;
}

/* Is it the table of the mirror? */
static bool
is_own(Oid relid)
{
	const char *name = get_rel_name(relid);

	return name && strcmp(name, "siphon_registry") == 0 &&
		   getExtensionOfObject(RelationRelationId, relid) == get_extension_oid("siphon", true);
}

List *
list_publication_members(const char *name)
{
	const Publication *publication = GetPublicationByName(name, false);
	List *relids = read_relations(publication);
	HTAB *all = oid_hash_make<Oid>("siphon members", CurrentMemoryContext);
	List *members = NIL;
	ListCell *lc;

	foreach (lc, relids)
		oid_hash_enter<Oid>(all, lfirst_oid(lc));
	foreach (lc, relids)
	{
		PublicationMember *member;

		CHECK_FOR_INTERRUPTS();
		if (is_own(lfirst_oid(lc)) || (publication->pubviaroot && has_root_among(all, lfirst_oid(lc))))
			continue;
		member = static_cast<PublicationMember *>(palloc0(sizeof(PublicationMember)));
		member->relid = lfirst_oid(lc);
		read_entry(member, publication);
		members = lappend(members, member);
	}
	hash_destroy(all);
	return members;
}
