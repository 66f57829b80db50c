/*
 * The event encoder: see encoder.h. Rows are deformed once; each value is converted once, and both the key
 * hash and the wire take it from there.
 */
#include "encoder.h"

#include "package.h"
#include "value.h"

using siphon::Operation;
using siphon::Wire;
using siphon::WireBuffer;

Oid encoder_converts = InvalidOid;

static WireBuffer hash_input;
static Datum datums[MaxTupleAttributeNumber];
static bool nulls[MaxTupleAttributeNumber];
static Value row[MaxTupleAttributeNumber];

/* Most bytes that the fields of an event before its values take. */
static constexpr size_t kEventHeaderMax = 64;

void
encoder_init(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	buffer_init(&hash_input, 1024);
	MemoryContextSwitchTo(old);
}

/* The values of a row's columns, or NULL if there is no row. */
static Value *
row_values(Table *table, Relation relation, const AttrMap *map, HeapTuple tuple)
{
	Value *values;

	if (tuple == nullptr)
		return nullptr;
	values = static_cast<Value *>(palloc(sizeof(Value) * static_cast<size_t>(Max(table->ncolumns, 1))));
	heap_deform_tuple(tuple, RelationGetDescr(relation), datums, nulls);
	encoder_converts = table->relid;
	for (int i = 0; i < table->ncolumns; i++)
	{
		Column *column = &table->columns[i];
		int attnum = map ? map->attnums[column->attnum] - 1 : column->attnum;

		values[i] = value_from_datum(&column->type, datums[attnum], nulls[attnum]);
	}
	encoder_converts = InvalidOid;
	return values;
}

/*
 * What the WAL left out of the new row because it did not change, the old row may hold: all of it with
 * REPLICA IDENTITY FULL, and the key always.
 */
static void
fill_unchanged(const Table *table, bool full, Value *new_values, const Value *old_values)
{
	if (old_values == nullptr)
		return;
	for (int i = 0; i < table->ncolumns; i++)
		if (new_values[i].kind == siphon::ValueKind::UnchangedToast && (full || table->columns[i].key))
			new_values[i] = old_values[i];
}

/* What an event holds. */
struct Event
{
	Operation operation;
	uint64 ordinal;
	const Value *new_values; /* NULL: none */
	const Value *old_values;
	bool full;              /* of the old row not only the key */
	const WireBuffer *more; /* fields behind these, or NULL */
};

static void
add_event(Table *table, int partition, const Transaction &transaction, const Event &event)
{
	siphon::Position position{transaction.commit_lsn, event.ordinal};
	size_t bound = kEventHeaderMax + (event.more ? event.more->size : 0);
	WireBuffer *out;

	for (int i = 0; i < table->ncolumns; i++)
	{
		if (event.new_values)
			bound += value_bound(event.new_values[i]);
		if (event.old_values)
			bound += value_bound(event.old_values[i]);
	}
	out = package_begin_event(table, partition, bound, position);
	Wire wire(out);
	wire.varint_field(siphon::field::kOperation, static_cast<uint64>(event.operation));
	wire.fixed64_field(siphon::field::kCommitLsn, transaction.commit_lsn);
	wire.varint_field(siphon::field::kOrdinal, event.ordinal);
	wire.varint_field(siphon::field::kXid, transaction.xid);
	wire.sint_field(siphon::field::kCommitTimestamp, unix_microseconds(transaction.commit_time));
	for (int i = 0; event.new_values && i < table->ncolumns; i++)
		value_write(&wire, siphon::field::kValues, event.new_values[i]);
	for (int i = 0; event.old_values && i < table->ncolumns; i++)
		if (event.full || table->columns[i].key)
			value_write(&wire, siphon::field::kOldValues, event.old_values[i]);
	if (event.more)
		wire.raw(event.more->data, event.more->size);
	wire.commit();
	package_end_event(table, partition, position, transaction.commit_time);
}

void
encode_change(Table *table, const Leaf *leaf, ReorderBufferChangeType type, Relation relation, HeapTuple old_tuple,
			  HeapTuple new_tuple, const Transaction &transaction, uint64 ordinal)
{
	const AttrMap *map = leaf ? leaf->map : nullptr;
	bool full = leaf ? leaf->full : table->full;
	Value *old_values = leaf && !leaf->identity ? nullptr : row_values(table, relation, map, old_tuple);
	Value *new_values = row_values(table, relation, map, new_tuple);
	int partitions = table->partitions;
	int old_partition;
	int new_partition;

	if (type == REORDER_BUFFER_CHANGE_DELETE)
	{
		old_partition = old_values ? key_partition(table, old_values, partitions, &hash_input) : 0;
		add_event(table, old_partition, transaction, {Operation::Delete, ordinal, nullptr, old_values, full, nullptr});
		return;
	}

	if (new_values == nullptr)
		elog(ERROR, "a change of table \"%s\" has no new row", RelationGetRelationName(relation));
	fill_unchanged(table, full, new_values, old_values);
	new_partition = key_partition(table, new_values, partitions, &hash_input);
	if (type == REORDER_BUFFER_CHANGE_INSERT)
	{
		add_event(table, new_partition, transaction, {Operation::Insert, ordinal, new_values, nullptr, full, nullptr});
		return;
	}

	old_partition = old_values ? key_partition(table, old_values, partitions, &hash_input) : new_partition;
	if (old_partition == new_partition)
	{
		add_event(table, new_partition, transaction,
				  {Operation::Update, ordinal, new_values, old_values, full, nullptr});
		return;
	}
	add_event(table, old_partition, transaction, {Operation::Delete, ordinal, nullptr, old_values, full, nullptr});
	add_event(table, new_partition, transaction, {Operation::Insert, ordinal, new_values, nullptr, full, nullptr});
}

int
encode_row(Table *table, const Datum *attributes, const bool *isnull, XLogRecPtr snapshot_lsn)
{
	siphon::Position position{snapshot_lsn, 0};
	size_t bound = kEventHeaderMax;
	int partition;
	WireBuffer *out;

	for (int i = 0; i < table->ncolumns; i++)
	{
		Column *column = &table->columns[i];
		Datum datum = attributes[column->attnum];

		/* Large values are at hand here, other than in the WAL. */
		if (!isnull[column->attnum] && column->type.length == -1 && VARATT_IS_EXTERNAL(DatumGetPointer(datum)))
			datum = PointerGetDatum(PG_DETOAST_DATUM_PACKED(datum));
		row[i] = value_from_datum(&column->type, datum, isnull[column->attnum]);
		bound += value_bound(row[i]);
	}
	partition = key_partition(table, row, table->partitions, &hash_input);
	out = package_begin_event(table, partition, bound, position);
	Wire wire(out);
	wire.varint_field(siphon::field::kOperation, static_cast<uint64>(Operation::Snapshot));
	wire.fixed64_field(siphon::field::kCommitLsn, snapshot_lsn);
	for (int i = 0; i < table->ncolumns; i++)
		value_write(&wire, siphon::field::kValues, row[i]);
	wire.commit();
	package_end_event(table, partition, position, 0);
	return partition;
}

static void
add_to_all(Table *table, const Transaction &transaction, uint64 ordinal, Operation operation,
		   const WireBuffer *more = nullptr)
{
	for (int i = 0; i < table->npackages; i++)
		add_event(table, i, transaction, {operation, ordinal, nullptr, nullptr, false, more});
}

void
encode_truncate(Table *table, const Transaction &transaction, uint64 ordinal)
{
	add_to_all(table, transaction, ordinal, Operation::Truncate);
}

void
encode_drop(Table *table, const Transaction &transaction, uint64 ordinal)
{
	table_forget_columns(table);
	add_to_all(table, transaction, ordinal, Operation::Drop);
}

void
encode_detach(Table *table, const Transaction &transaction, uint64 ordinal, const char *partition, const List *bounds)
{
	WireBuffer more;
	ListCell *lc;

	buffer_init(&more, 256);
	put_utf8(&more, siphon::field::kDetached, partition);
	foreach (lc, bounds)
		put_utf8(&more, siphon::field::kDetachedBounds, static_cast<char *>(lfirst(lc)));
	add_to_all(table, transaction, ordinal, Operation::Detach, &more);
}
