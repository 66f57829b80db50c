/*
 * Watching the catalogs for the follower: see publication_watch.h.
 */
#include "publication_watch.h"

#include "server/oid_hash.h"

extern "C" {
#include "catalog/partition.h"
}

/* What decides about a table's membership, but for the publication. */
struct Seen
{
	Oid relid; /* hash key */
	Oid schema;
	char persistence;
	bool partition;
};

struct Refused
{
	Oid relid; /* hash key */
	char reason[256];
};

static MemoryContext context;
/* Of Oid: relations of which PostgreSQL said so since publication_watch_has_news() asked last. */
static HTAB *invalidated;
static HTAB *seen;        /* of Seen; NULL: not read yet */
static HTAB *refused;     /* of Refused */
static bool all_invalidated = true;
static bool publications_changed;
static bool news;

static void
note_relation(Datum, Oid relid)
{
	if (relid == InvalidOid)
		all_invalidated = true;
	else if (!all_invalidated)
		oid_hash_enter<Oid>(invalidated, relid);
}

static void
note_publication(Datum, int, uint32)
{
	publications_changed = true;
}

/* Names that are shown may have changed. */
static void
note_schema(Datum, int, uint32)
{
	news = true;
}

void
publication_watch_init(void)
{
	context = AllocSetContextCreate(TopMemoryContext, "siphon publication watch", ALLOCSET_DEFAULT_SIZES);
	invalidated = oid_hash_make<Oid>("siphon invalidated", context);
	refused = oid_hash_make<Refused>("siphon refused", context);
	CacheRegisterRelcacheCallback(note_relation, 0);
	CacheRegisterSyscacheCallback(PUBLICATIONOID, note_publication, 0);
	CacheRegisterSyscacheCallback(PUBLICATIONRELMAP, note_publication, 0);
	CacheRegisterSyscacheCallback(PUBLICATIONNAMESPACEMAP, note_publication, 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, note_schema, 0);
}

void
publication_watch_forget_refusals(void)
{
	hash_destroy(refused);
	refused = oid_hash_make<Refused>("siphon refused", context);
}

const char *
publication_watch_get_refusal(Oid relid)
{
	const Refused *entry = oid_hash_find<Refused>(refused, relid);

	return entry ? entry->reason : nullptr;
}

void
publication_watch_note_refusal(Oid relid, const char *reason)
{
	strlcpy(oid_hash_enter<Refused>(refused, relid)->reason, reason, sizeof(Refused::reason));
}

/* Remembers the table as it is. True if it was not so before. */
static bool
note_if_changed(const FormData_pg_class *form)
{
	Seen now = {form->oid, form->relnamespace, form->relpersistence, form->relispartition};
	bool found;
	Seen *entry;

	/* Those of a session come and go, and others have no place in publications. */
	if (form->relpersistence == RELPERSISTENCE_TEMP ||
		(form->relkind != RELKIND_RELATION && form->relkind != RELKIND_PARTITIONED_TABLE))
		return false;
	entry = oid_hash_enter<Seen>(seen, form->oid, &found);
	if (found && entry->schema == now.schema && entry->persistence == now.persistence &&
		entry->partition == now.partition)
		return false;
	*entry = now;
	return true;
}

static void
note_all_if_changed(void)
{
	Relation catalog = table_open(RelationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 0, nullptr);
	HeapTuple tuple;

	if (seen)
		hash_destroy(seen);
	seen = oid_hash_make<Seen>("siphon seen", context);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		note_if_changed(reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple)));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

/* Forgets why the table was refused, and the tables above it, of which it may have been the reason. */
static bool
forget_refusal(Oid relid)
{
	List *relids = lcons_oid(relid, get_rel_relispartition(relid) ? get_partition_ancestors(relid) : NIL);
	bool found = false;
	ListCell *lc;

	foreach (lc, relids)
	{
		bool was_there;
		Oid oid = lfirst_oid(lc);

		hash_search(refused, &oid, HASH_REMOVE, &was_there);
		found |= was_there;
	}
	list_free(relids);
	return found;
}

static bool
check_relation(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool changed;

	if (HeapTupleIsValid(tuple))
	{
		changed = note_if_changed(reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple)));
		ReleaseSysCache(tuple);
	}
	else
		hash_search(seen, &relid, HASH_REMOVE, &changed);
	return forget_refusal(relid) || changed;
}

/* Relations of which PostgreSQL said that they changed, taken: more may come while they are looked at. */
static List *
take_invalidated(void)
{
	HASH_SEQ_STATUS status;
	List *relids = NIL;
	Oid *entry;

	if (hash_get_num_entries(invalidated) == 0)
		return NIL;
	hash_seq_init(&status, invalidated);
	while ((entry = static_cast<Oid *>(hash_seq_search(&status))) != nullptr)
		relids = lappend_oid(relids, *entry);
	hash_destroy(invalidated);
	invalidated = oid_hash_make<Oid>("siphon invalidated", context);
	return relids;
}

bool
publication_watch_has_news(void)
{
	List *relids;
	ListCell *lc;

	if (all_invalidated || publications_changed)
		return true;
	relids = take_invalidated();
	foreach (lc, relids)
	{
		CHECK_FOR_INTERRUPTS();
		news |= check_relation(lfirst_oid(lc));
	}
	list_free(relids);
	return news;
}

void
publication_watch_begin(void)
{
	news = false;
	if (all_invalidated || publications_changed)
		publication_watch_forget_refusals();
	publications_changed = false;
	if (!all_invalidated)
		return;
	all_invalidated = false;
	list_free(take_invalidated());
	note_all_if_changed();
}
