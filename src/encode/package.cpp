/*
 * The package builder: see package.h.
 *
 * Memory is bounded by siphon.package_memory whatever the number of tables and partitions: when the open
 * packages exceed it, the oldest are written out. Buffers of written packages are kept for the next ones,
 * a few of them, because giving half a megabyte back and asking for it again costs page faults each time.
 */
#include "package.h"

#include "server/blame.h"
#include "server/ring_producer.h"

using siphon::Wire;
using siphon::WireBuffer;

/* What each event changes stands first, see table.h. */
struct Package
{
	WireBuffer bytes;
	size_t length_bytes; /* that the length of the last event took */
	uint32 events;
	uint32 operations[siphon::kCountedOperations];
	int partition;
	siphon::Position last;
	TimestampTz last_commit;

	Table *table;
	dlist_node node;
	siphon::Position first;
	TimestampTz first_commit;
};

/* Of thousands of tables most have few events at a time; and so small a buffer, the memory context gives again. */
static constexpr size_t kFirstCapacity = 512;
/* Around an event: tag and length. */
static constexpr size_t kEventOverhead = 1 + 10;
static constexpr int kSpareBuffers = 8;

static MemoryContext packages_context;
static dlist_head open_packages; /* oldest first */
static size_t open_bytes;        /* capacity of all open packages */
static size_t event_at;          /* where in its package the event that is being written starts */
static WireBuffer spare[kSpareBuffers];
static int nspare;

static RecordWriter write_record;

void
packages_init(RecordWriter writer)
{
	write_record = writer;
	packages_context = AllocSetContextCreate(TopMemoryContext, "siphon packages", ALLOCSET_DEFAULT_SIZES);
	dlist_init(&open_packages);
	open_bytes = 0;
	nspare = 0;
}

/* A package of several events is a record of one frame, so that the publisher need not collect frames to look inside.
 */
static size_t
package_size(void)
{
	return Min(static_cast<size_t>(siphon_package_size_kb) * 1024, static_cast<size_t>(ring_producer_get_frame_size()));
}

/* Makes room in a table's package. A row may be larger than what there is memory for. */
static void
package_reserve(const Table *table, Package *package, size_t needed)
{
	if (likely(package->bytes.capacity - package->bytes.size >= needed))
		return;
	blame_begin(table->relid);
	blame.size = needed;
	buffer_grow(&package->bytes, needed);
	blame_end();
}

static Package *
package_open(Table *table, int partition, siphon::Position position)
{
	MemoryContext caller = MemoryContextSwitchTo(packages_context);
	Package *package = static_cast<Package *>(palloc0(sizeof(Package)));

	if (nspare > 0)
		package->bytes = spare[--nspare];
	else
		buffer_init(&package->bytes, kFirstCapacity);
	package->table = table;
	package->partition = partition;
	package->first = position;
	package->length_bytes = 1;
	package_reserve(table, package, table->header.size + 16);
	MemoryContextSwitchTo(caller);

	Wire wire(&package->bytes);
	wire.raw(table->header.data, table->header.size);
	if (partition != 0)
		wire.varint_field(siphon::field::kPartition, static_cast<uint64>(partition));
	wire.commit();

	table->packages[partition] = package;
	dlist_push_tail(&open_packages, &package->node);
	open_bytes += package->bytes.capacity;
	return package;
}

/* Hands a package to the ring and forgets it. */
static void
package_write(Package *package)
{
	siphon::RecordInfo info = {};

	/* Off the books first: the decoder's output may wait, and must not find the package still open. */
	package->table->packages[package->partition] = nullptr;
	dlist_delete(&package->node);
	open_bytes -= package->bytes.capacity;

	info.kind = package->table->header_kind;
	info.generation = package->table->header_generation;
	info.table = package->table->relid;
	info.partition = static_cast<uint32>(package->partition);
	info.events = package->events;
	memcpy(info.operations, package->operations, sizeof(info.operations));
	if (package->last_commit)
	{
		info.first_commit = unix_microseconds(package->first_commit);
		info.last_commit = unix_microseconds(package->last_commit);
	}
	info.first = package->first;
	info.last = package->last;
	info.route = package->table->route;
	info.route_length = static_cast<uint16>(package->table->route_length);
	write_record(info, &package->bytes, package->last_commit);

	if (nspare < kSpareBuffers && package->bytes.capacity <= 2 * package_size())
	{
		package->bytes.size = 0;
		spare[nspare++] = package->bytes;
	}
	else
		pfree(package->bytes.data);
	pfree(package);
}

void
packages_write_all(void)
{
	while (!dlist_is_empty(&open_packages))
		package_write(dlist_head_element(Package, node, &open_packages));
}

void
package_write_schema(const Table *table, const WireBuffer *schema, XLogRecPtr lsn)
{
	siphon::RecordInfo info = {};

	info.kind = siphon::FrameKind::Schema;
	info.generation = table->header_generation;
	info.table = table->relid;
	info.first = info.last = siphon::Position{lsn, 0};
	info.route = table->route;
	info.route_length = static_cast<uint16>(table->route_length);
	write_record(info, schema, 0);
}

void
package_write_end(const Table *table, XLogRecPtr commit_lsn)
{
	siphon::WireBuffer nothing = {};

	packages_write_all();
	package_write_schema(table, &nothing, commit_lsn);
}

/*
 * An event's length comes before it and is known after it. It is expected to take as many bytes as that of the event
 * before; where it does not, the event is moved.
 */
WireBuffer *
package_begin_event(Table *table, int partition, size_t bound, siphon::Position position)
{
	size_t needed = bound + kEventOverhead;
	size_t before;
	Package *package;

	while (open_bytes > static_cast<size_t>(siphon_package_memory_kb) * 1024 && !dlist_is_empty(&open_packages))
		package_write(dlist_head_element(Package, node, &open_packages));
	package = table->packages[partition];
	if (package && package->bytes.size + needed > package_size())
	{
		package_write(package);
		package = nullptr;
	}
	if (package == nullptr)
		package = package_open(table, partition, position);

	before = package->bytes.capacity;
	package_reserve(table, package, needed);
	open_bytes += package->bytes.capacity - before;
	Wire wire(&package->bytes);
	wire.tag(siphon::field::kEvents, protozero::pbf_wire_type::length_delimited);
	wire.commit();
	package->bytes.size += package->length_bytes;
	event_at = package->bytes.size;
	return &package->bytes;
}

void
package_end_event(Table *table, int partition, siphon::Operation operation, siphon::Position position,
				  TimestampTz commit_time)
{
	Package *package = table->packages[partition];
	WireBuffer *bytes = &package->bytes;
	size_t length = bytes->size - event_at;
	size_t length_bytes = static_cast<size_t>(protozero::length_of_varint(length));
	char *event = bytes->data + event_at;

	if (length_bytes != package->length_bytes)
	{
		memmove(event - package->length_bytes + length_bytes, event, length);
		bytes->size += length_bytes - package->length_bytes;
		event += length_bytes - package->length_bytes;
		package->length_bytes = length_bytes;
	}
	protozero::add_varint_to_buffer(event - length_bytes, length);
	if (package->events++ == 0)
		package->first_commit = commit_time;
	if (static_cast<int>(operation) <= siphon::kCountedOperations)
		package->operations[static_cast<int>(operation) - 1]++;
	package->last = position;
	package->last_commit = commit_time;
	if (bytes->size >= package_size())
		package_write(package);
}
