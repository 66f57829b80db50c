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

static WireBuffer first_event;
static WireBuffer second_event;
static WireBuffer hash_input;
static Datum datums[MaxTupleAttributeNumber];
static bool nulls[MaxTupleAttributeNumber];

/* Buffers that a huge row left behind are given back, so that one such row does not cost memory for ever. */
static constexpr size_t kKeepCapacity = 4 * 1024 * 1024;

static void
buffer_clear(WireBuffer *buffer)
{
	if (buffer->capacity > kKeepCapacity)
	{
		pfree(buffer->data);
		buffer->data = static_cast<char *>(MemoryContextAlloc(TopMemoryContext, 4096));
		buffer->capacity = 4096;
	}
	buffer->size = 0;
}

void
encoder_init(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	buffer_init(&first_event, 4096);
	buffer_init(&second_event, 4096);
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
	for (int i = 0; i < table->ncolumns; i++)
	{
		Column *column = &table->columns[i];
		int attnum = map ? map->attnums[column->attnum] - 1 : column->attnum;

		values[i] = value_from_datum(column, datums[attnum], nulls[attnum]);
	}
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

static void
put_event(WireBuffer *out, Operation operation, const Transaction &transaction, uint64 ordinal)
{
	buffer_clear(out);
	buffer_reserve(out, 64);
	Wire wire(out);
	wire.varint_field(siphon::field::kOperation, static_cast<uint64>(operation));
	wire.fixed64_field(siphon::field::kCommitLsn, transaction.commit_lsn);
	wire.varint_field(siphon::field::kOrdinal, ordinal);
	wire.varint_field(siphon::field::kXid, transaction.xid);
	wire.sint_field(siphon::field::kCommitTimestamp, unix_microseconds(transaction.commit_time));
	wire.commit();
}

static void
put_new(WireBuffer *out, const Table *table, const Value *values)
{
	for (int i = 0; i < table->ncolumns; i++)
		value_write(out, siphon::field::kValues, values[i]);
}

static void
put_old(WireBuffer *out, const Table *table, bool full, const Value *values)
{
	for (int i = 0; i < table->ncolumns; i++)
		if (full || table->columns[i].key)
			value_write(out, siphon::field::kOldValues, values[i]);
}

void
encode_change(Table *table, const Leaf *leaf, ReorderBufferChangeType type, Relation relation, HeapTuple old_tuple,
			  HeapTuple new_tuple, const Transaction &transaction, uint64 ordinal)
{
	const AttrMap *map = leaf ? leaf->map : nullptr;
	bool full = leaf ? leaf->full : table->full;
	Value *old_values = leaf && !leaf->identity ? nullptr : row_values(table, relation, map, old_tuple);
	Value *new_values = row_values(table, relation, map, new_tuple);
	siphon::Position position{transaction.commit_lsn, ordinal};
	int partitions = table->partitions;
	int old_partition;
	int new_partition;
	bool moved;

	if (type == REORDER_BUFFER_CHANGE_DELETE)
	{
		old_partition = old_values ? key_partition(table, old_values, partitions, &hash_input) : 0;
		put_event(&first_event, Operation::Delete, transaction, ordinal);
		if (old_values)
			put_old(&first_event, table, full, old_values);
		package_add(table, old_partition, &first_event, position, transaction.commit_time);
		return;
	}

	if (new_values == nullptr)
		elog(ERROR, "a change of table \"%s\" has no new row", RelationGetRelationName(relation));
	fill_unchanged(table, full, new_values, old_values);
	new_partition = key_partition(table, new_values, partitions, &hash_input);
	if (type == REORDER_BUFFER_CHANGE_INSERT)
	{
		put_event(&first_event, Operation::Insert, transaction, ordinal);
		put_new(&first_event, table, new_values);
		package_add(table, new_partition, &first_event, position, transaction.commit_time);
		return;
	}

	old_partition = old_values ? key_partition(table, old_values, partitions, &hash_input) : new_partition;
	moved = old_partition != new_partition;
	put_event(&first_event, moved ? Operation::Insert : Operation::Update, transaction, ordinal);
	put_new(&first_event, table, new_values);
	if (!moved)
	{
		if (old_values)
			put_old(&first_event, table, full, old_values);
		package_add(table, new_partition, &first_event, position, transaction.commit_time);
		return;
	}
	put_event(&second_event, Operation::Delete, transaction, ordinal);
	put_old(&second_event, table, full, old_values);
	package_add(table, old_partition, &second_event, position, transaction.commit_time);
	package_add(table, new_partition, &first_event, position, transaction.commit_time);
}

int
encode_row(Table *table, const Datum *row, const bool *row_nulls, XLogRecPtr snapshot_lsn)
{
	Value *values = static_cast<Value *>(palloc(sizeof(Value) * static_cast<size_t>(Max(table->ncolumns, 1))));
	Transaction transaction = {snapshot_lsn, -unix_microseconds(0), InvalidTransactionId};
	int partition;

	for (int i = 0; i < table->ncolumns; i++)
	{
		Column *column = &table->columns[i];
		Datum datum = row[column->attnum];
		bool isnull = row_nulls[column->attnum];

		/* Large values are at hand here, other than in the WAL. */
		if (!isnull && column->attlen == -1 && VARATT_IS_EXTERNAL(DatumGetPointer(datum)))
			datum = PointerGetDatum(PG_DETOAST_DATUM_PACKED(datum));
		values[i] = value_from_datum(column, datum, isnull);
	}
	partition = key_partition(table, values, table->partitions, &hash_input);
	put_event(&first_event, Operation::Snapshot, transaction, 0);
	put_new(&first_event, table, values);
	package_add(table, partition, &first_event, siphon::Position{snapshot_lsn, 0}, 0);
	return partition;
}

void
encode_truncate(Table *table, const Transaction &transaction, uint64 ordinal)
{
	put_event(&first_event, Operation::Truncate, transaction, ordinal);
	for (int i = 0; i < table->npackages; i++)
		package_add(table, i, &first_event, siphon::Position{transaction.commit_lsn, ordinal}, transaction.commit_time);
}
