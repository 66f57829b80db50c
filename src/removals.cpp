/*
 * Tables that are published no more: see removals.h.
 */
#include "removals.h"

#include "listing.h"
#include "ring_output.h"
#include "text.h"

static constexpr uint64 kBeingWritten = PG_UINT64_MAX;

struct Removal
{
	RegistryRemoved table;
	uint64 ring; /* acknowledged up to here, it is done; 0: not written yet */
};

static List *removals;     /* of Removal *, in TopMemoryContext */
static XLogRecPtr leaving; /* the first place at which a table leaves, or 0 */

static bool
same(const RegistryRemoved *a, const RegistryRemoved *b)
{
	return a->relid == b->relid && a->generation == b->generation && strcmp(a->schema, b->schema) == 0 &&
		   strcmp(a->name, b->name) == 0;
}

static Removal *
find(const RegistryRemoved *table)
{
	ListCell *lc;

	foreach (lc, removals)
	{
		Removal *removal = static_cast<Removal *>(lfirst(lc));

		if (same(&removal->table, table))
			return removal;
	}
	return nullptr;
}

static Removal *
next_unwritten(void)
{
	ListCell *lc;

	foreach (lc, removals)
	{
		Removal *removal = static_cast<Removal *>(lfirst(lc));

		if (removal->ring == 0)
			return removal;
	}
	return nullptr;
}

bool
removals_load(const Registry *registry)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	ListCell *lc;

	foreach (lc, registry->removed)
	{
		const RegistryRemoved *table = static_cast<RegistryRemoved *>(lfirst(lc));
		Removal *removal;

		if (find(table))
			continue;
		removal = static_cast<Removal *>(palloc0(sizeof(Removal)));
		removal->table = *table;
		removals = lappend(removals, removal);
	}
	MemoryContextSwitchTo(caller);
	leaving = InvalidXLogRecPtr;
	foreach (lc, registry->tables)
	{
		XLogRecPtr until = static_cast<RegistryTable *>(lfirst(lc))->until;

		if (until != InvalidXLogRecPtr && (leaving == InvalidXLogRecPtr || until < leaving))
			leaving = until;
	}
	return next_unwritten() != nullptr;
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
	Removal *removal;

	while ((removal = next_unwritten()) != nullptr)
	{
		siphon::RecordInfo info = {};

		info.kind = siphon::FrameKind::Removed;
		info.table = removal->table.relid;
		info.generation = removal->table.generation;
		info.first = info.last = siphon::Position{decoded, 0};
		info.route_length = static_cast<uint16>(route_of(&removal->table, route));
		info.route = route;
		/* What is done while we wait for space leaves alone what is being written. */
		removal->ring = kBeingWritten;
		ring_output_write(info, &nothing);
		removal->ring = ring_output_written();
	}
}

static void
forget(const char *application, const Removal *removal)
{
	Registry *registry = registry_begin_change(application);
	ListCell *lc;

	if (registry == nullptr)
		return;
	foreach (lc, registry->removed)
	{
		const RegistryRemoved *table = static_cast<RegistryRemoved *>(lfirst(lc));

		if (same(table, &removal->table))
			registry->removed = foreach_delete_current(registry->removed, lc);
	}
	registry_end_change(registry);
}

void
removals_serve(const char *application)
{
	ListCell *lc;

	foreach (lc, removals)
	{
		Removal *removal = static_cast<Removal *>(lfirst(lc));

		if (removal->ring == 0 || removal->ring == kBeingWritten || ring_output_acked() < removal->ring)
			continue;
		forget(application, removal);
		removals = foreach_delete_current(removals, lc);
		pfree(removal);
	}
}

bool
removals_leave(const char *application, XLogRecPtr confirmed)
{
	Registry *registry;
	List *tables;
	ListCell *lc;

	if (leaving == InvalidXLogRecPtr || confirmed < leaving)
		return false;
	registry = registry_begin_change(application);
	if (registry == nullptr)
		return false;
	tables = list_copy(registry->tables);
	foreach (lc, tables)
	{
		RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		if (table->until == InvalidXLogRecPtr || table->until > confirmed)
			continue;
		listing_remove(registry, table);
		ereport(LOG, (errmsg("siphon: table \"%s.%s\" is not published by application \"%s\" any more", table->schema,
							 table->name, application),
					  errdetail("It left the publication before %X/%X, and all that was committed until then is "
								"published.",
								LSN_FORMAT_ARGS(table->until))));
	}
	registry_end_change(registry);
	leaving = InvalidXLogRecPtr;
	return true;
}
