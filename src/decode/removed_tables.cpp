/*
 * Tables that are published no more: see removed_tables.h.
 */
#include "removed_tables.h"

#include "registry/table_list.h"
#include "server/ring_producer.h"
#include "server/utf8_conversion.h"

static constexpr uint64 kBeingWritten = PG_UINT64_MAX;

struct RemovedTable
{
	RegistryRemoved entry; /* hash key: all its bytes, which are zero behind the names */
	uint64 ring;           /* acknowledged up to here, it is done; 0: not written yet */
};

static HTAB *known; /* of RemovedTable */
/* Of RemovedTable *, in TopMemoryContext; in the order in which they are written, and acknowledged. */
static List *unacked;
static int nwritten;             /* of them, the first ones, also those that are being written */
static XLogRecPtr first_end_lsn; /* the first place at which a table leaves, or 0 */

static void
create_hash(void)
{
	HASHCTL control = {};

	control.keysize = sizeof(RegistryRemoved);
	control.entrysize = sizeof(RemovedTable);
	control.hcxt = TopMemoryContext;
	known = hash_create("siphon removed tables", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

bool
removed_tables_load(const Registry *registry)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	ListCell *lc;

	if (known == nullptr)
		create_hash();
	foreach (lc, registry->removed)
	{
		bool found;
		RemovedTable *table = static_cast<RemovedTable *>(hash_search(known, lfirst(lc), HASH_ENTER, &found));

		if (found)
			continue;
		table->ring = 0;
		unacked = lappend(unacked, table);
	}
	MemoryContextSwitchTo(caller);
	first_end_lsn = InvalidXLogRecPtr;
	foreach (lc, registry->tables)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		if (is_table_leaving(table) && (first_end_lsn == InvalidXLogRecPtr || table->end_lsn < first_end_lsn))
			first_end_lsn = table->end_lsn;
	}
	return nwritten < list_length(unacked);
}

/* Names in UTF-8, as build_route() has them. */
static int
route_of(const RegistryRemoved *table, char *route)
{
	size_t schema_length = strlen(table->schema);
	size_t name_length = strlen(table->name);
	const char *schema = convert_name_to_utf8(table->schema, &schema_length);
	const char *name = convert_name_to_utf8(table->name, &name_length);

	memcpy(route, schema, schema_length);
	route[schema_length] = '\0';
	memcpy(route + schema_length + 1, name, name_length);
	return static_cast<int>(schema_length + 1 + name_length);
}

void
removed_tables_write(XLogRecPtr decoded_lsn)
{
	char route[siphon::kRouteMax];
	siphon::WireBuffer nothing = {};

	while (nwritten < list_length(unacked))
	{
		RemovedTable *table = static_cast<RemovedTable *>(list_nth(unacked, nwritten));
		siphon::RecordInfo info = {};

		CHECK_FOR_INTERRUPTS();
		info.kind = siphon::FrameKind::Removed;
		info.table = table->entry.relid;
		info.generation = table->entry.generation;
		info.first = info.last = siphon::Position{decoded_lsn, 0};
		info.route_length = static_cast<uint16>(route_of(&table->entry, route));
		info.route = route;
		/* What is done while we wait for space leaves alone what is being written. */
		table->ring = kBeingWritten;
		nwritten++;
		ring_producer_write(info, &nothing);
		table->ring = ring_producer_get_written();
	}
}

/* Deletes what is acknowledged from the registry, in one change of it, however much that is. */
static void
delete_acknowledged(const char *application, uint64 acked)
{
	Registry *registry = registry_begin_change(application);
	List *removed = NIL;
	ListCell *lc;

	if (registry == nullptr)
		return;
	foreach (lc, registry->removed)
	{
		const RemovedTable *table = static_cast<RemovedTable *>(hash_search(known, lfirst(lc), HASH_FIND, nullptr));

		if (table == nullptr || table->ring == 0 || table->ring > acked)
			removed = lappend(removed, lfirst(lc));
	}
	registry->removed = removed;
	registry_end_change(registry);
}

void
removed_tables_poll_acks(const char *application)
{
	uint64 acked;
	int count = 0;

	if (nwritten == 0)
		return;
	acked = ring_producer_get_acked();
	while (count < nwritten && static_cast<RemovedTable *>(list_nth(unacked, count))->ring <= acked)
		count++;
	if (count == 0)
		return;
	delete_acknowledged(application, acked);
	for (int i = 0; i < count; i++)
		hash_search(known, &static_cast<RemovedTable *>(list_nth(unacked, i))->entry, HASH_REMOVE, nullptr);
	unacked = list_delete_first_n(unacked, count);
	nwritten -= count;
}

bool
removed_tables_drop_confirmed(const char *application, XLogRecPtr confirmed_lsn)
{
	Registry *registry;
	List *left;
	ListCell *lc;

	if (first_end_lsn == InvalidXLogRecPtr || confirmed_lsn < first_end_lsn)
		return false;
	registry = registry_begin_change(application);
	if (registry == nullptr)
		return false;
	left = table_list_remove_confirmed(registry, confirmed_lsn);
	registry_end_change(registry);
	first_end_lsn = InvalidXLogRecPtr;
	foreach (lc, left)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		ereport(LOG, (errmsg("siphon: table \"%s.%s\" is not published by application \"%s\" any more", table->schema,
							 table->name, application),
					  errdetail("It left the publication before %X/%X, and all that was committed until then is "
								"published.",
								LSN_FORMAT_ARGS(table->end_lsn))));
	}
	return true;
}
