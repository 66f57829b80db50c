/*
 * Tables that are published no more: see removals.h.
 */
#include "removals.h"

#include "registry/listing.h"
#include "server/ring_producer.h"
#include "server/text.h"

static constexpr uint64 kBeingWritten = PG_UINT64_MAX;

struct Removal
{
	RegistryRemoved table; /* hash key: all its bytes, which are zero behind the names */
	uint64 ring;           /* acknowledged up to here, it is done; 0: not written yet */
};

static HTAB *known;    /* of Removal */
static List *removals; /* of Removal *, in TopMemoryContext; in the order in which they are written, and acknowledged */
static int nwritten;   /* of them, the first ones, also those that are being written */
static XLogRecPtr leaving; /* the first place at which a table leaves, or 0 */

static void
init(void)
{
	HASHCTL control = {};

	control.keysize = sizeof(RegistryRemoved);
	control.entrysize = sizeof(Removal);
	control.hcxt = TopMemoryContext;
	known = hash_create("siphon removals", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

bool
removals_load(const Registry *registry)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	ListCell *lc;

	if (known == nullptr)
		init();
	foreach (lc, registry->removed)
	{
		bool found;
		Removal *removal = static_cast<Removal *>(hash_search(known, lfirst(lc), HASH_ENTER, &found));

		if (found)
			continue;
		removal->ring = 0;
		removals = lappend(removals, removal);
	}
	MemoryContextSwitchTo(caller);
	leaving = InvalidXLogRecPtr;
	foreach (lc, registry->tables)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		if (registry_leaves(table) && (leaving == InvalidXLogRecPtr || table->until < leaving))
			leaving = table->until;
	}
	return nwritten < list_length(removals);
}

/* Names in UTF-8, as build_route() has them. */
static int
route_of(const RegistryRemoved *table, char *route)
{
	size_t schema_length = strlen(table->schema);
	size_t name_length = strlen(table->name);
	const char *schema = name_to_utf8(table->schema, &schema_length);
	const char *name = name_to_utf8(table->name, &name_length);

	memcpy(route, schema, schema_length);
	route[schema_length] = '\0';
	memcpy(route + schema_length + 1, name, name_length);
	return static_cast<int>(schema_length + 1 + name_length);
}

void
removals_write(XLogRecPtr decoded)
{
	char route[siphon::kRouteMax];
	siphon::WireBuffer nothing = {};

	while (nwritten < list_length(removals))
	{
		Removal *removal = static_cast<Removal *>(list_nth(removals, nwritten));
		siphon::RecordInfo info = {};

		CHECK_FOR_INTERRUPTS();
		info.kind = siphon::FrameKind::Removed;
		info.table = removal->table.relid;
		info.generation = removal->table.generation;
		info.first = info.last = siphon::Position{decoded, 0};
		info.route_length = static_cast<uint16>(route_of(&removal->table, route));
		info.route = route;
		/* What is done while we wait for space leaves alone what is being written. */
		removal->ring = kBeingWritten;
		nwritten++;
		ring_producer_write(info, &nothing);
		removal->ring = ring_producer_get_written();
	}
}

/* Takes what is acknowledged out of the registry: in one change of it, however much that is. */
static void
forget(const char *application, uint64 acked)
{
	Registry *registry = registry_begin_change(application);
	List *removed = NIL;
	ListCell *lc;

	if (registry == nullptr)
		return;
	foreach (lc, registry->removed)
	{
		const Removal *removal = static_cast<Removal *>(hash_search(known, lfirst(lc), HASH_FIND, nullptr));

		if (removal == nullptr || removal->ring == 0 || removal->ring > acked)
			removed = lappend(removed, lfirst(lc));
	}
	registry->removed = removed;
	registry_end_change(registry);
}

void
removals_serve(const char *application)
{
	uint64 acked;
	int count = 0;

	if (nwritten == 0)
		return;
	acked = ring_producer_get_acked();
	while (count < nwritten && static_cast<Removal *>(list_nth(removals, count))->ring <= acked)
		count++;
	if (count == 0)
		return;
	forget(application, acked);
	for (int i = 0; i < count; i++)
		hash_search(known, &static_cast<Removal *>(list_nth(removals, i))->table, HASH_REMOVE, nullptr);
	removals = list_delete_first_n(removals, count);
	nwritten -= count;
}

bool
removals_leave(const char *application, XLogRecPtr confirmed)
{
	Registry *registry;
	List *left;
	ListCell *lc;

	if (leaving == InvalidXLogRecPtr || confirmed < leaving)
		return false;
	registry = registry_begin_change(application);
	if (registry == nullptr)
		return false;
	left = listing_remove_left(registry, confirmed);
	registry_end_change(registry);
	leaving = InvalidXLogRecPtr;
	foreach (lc, left)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		ereport(LOG, (errmsg("siphon: table \"%s.%s\" is not published by application \"%s\" any more", table->schema,
							 table->name, application),
					  errdetail("It left the publication before %X/%X, and all that was committed until then is "
								"published.",
								LSN_FORMAT_ARGS(table->until))));
	}
	return true;
}
