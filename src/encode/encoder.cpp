/*
 * The event encoder: see encoder.h. Rows are deformed once; each value is converted once, and both the key
 * hash and the wire take it from there.
 */
#include "encoder.h"

#include "server/blame.h"
#include "package.h"
#include "renames.h"
#include "tables.h"
#include "server/utf8_conversion.h"
#include "value.h"

extern "C" {
#include "access/detoast.h"
}

using siphon::Operation;
using siphon::Wire;
using siphon::WireBuffer;

static WireBuffer hash_input;
static Datum datums[MaxTupleAttributeNumber];
static bool nulls[MaxTupleAttributeNumber];
static Value old_values[MaxTupleAttributeNumber];
static Value new_values[MaxTupleAttributeNumber];

/* Most bytes that the fields of an event before its values take. */
static constexpr size_t kEventHeaderMax = 64;
/* Of a message, which has the columns too: thousands, with long names and types. */
static constexpr size_t kEventLimit = kMessageLimit - 16 * 1024 * 1024;

void
encoder_init(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	buffer_init(&hash_input, 1024);
	MemoryContextSwitchTo(old);
}

void
encode_transaction(Transaction *transaction)
{
	WireBuffer *out = &transaction->wire;

	out->size = 0;
	buffer_reserve(out, kEventHeaderMax);
	Wire wire(out);
	wire.fixed64_field(siphon::field::kCommitLsn, transaction->commit_lsn);
	wire.varint_field(siphon::field::kXid, transaction->xid);
	wire.sint_field(siphon::field::kCommitTimestamp, unix_microseconds(transaction->origin_time));
	wire.commit();
	if (transaction->origin)
		put_utf8(out, siphon::field::kOrigin, transaction->origin);
}

/* A row as it will be written. */
struct Row
{
	Value *values; /* of the table's columns; NULL: there is no row */
	size_t bound;  /* most bytes that they take */
};

/* What needs no memory and no look at anything else, of the most common types. False: value_from_datum() knows. */
static pg_attribute_always_inline bool
plain_value(Encoding encoding, Datum datum, Value *value)
{
	const varlena *bytes;

	switch (encoding)
	{
		case Encoding::Int16:
			value->kind = siphon::ValueKind::Integer;
			value->integer = DatumGetInt16(datum);
			return true;
		case Encoding::Int32:
			value->kind = siphon::ValueKind::Integer;
			value->integer = DatumGetInt32(datum);
			return true;
		case Encoding::Int64:
			value->kind = siphon::ValueKind::Integer;
			value->integer = DatumGetInt64(datum);
			return true;
		case Encoding::Boolean:
			value->kind = siphon::ValueKind::Boolean;
			value->integer = DatumGetBool(datum) ? 1 : 0;
			return true;
		case Encoding::Timestamp:
		case Encoding::Timestamptz:
			value->kind =
				encoding == Encoding::Timestamp ? siphon::ValueKind::Timestamp : siphon::ValueKind::Timestamptz;
			return unix_timestamp(DatumGetTimestamp(datum), &value->integer);
		case Encoding::Varlena:
			bytes = reinterpret_cast<varlena *>(DatumGetPointer(datum));
			if (VARATT_IS_EXTERNAL(bytes) || VARATT_IS_COMPRESSED(bytes))
				return false;
			value->kind = siphon::ValueKind::String;
			value->bytes.data = VARDATA_ANY(bytes);
			value->bytes.length = VARSIZE_ANY_EXHDR(bytes);
			return is_ascii_text(value->bytes.data, value->bytes.length);
		default:
			return false;
	}
}

/* Makes the value of a column. Returns how many bytes it takes at most. */
static pg_attribute_always_inline size_t
take_value(Column *column, Datum datum, bool isnull, Value *value)
{
	if (isnull)
		value->kind = siphon::ValueKind::Null;
	else if (!plain_value(column->type.encoding, datum, value))
		*value = value_from_datum(&column->type, datum, false);
	return value_bound(*value);
}

/* What a tuple holds, if all columns have a fixed place in it; otherwise NULL. */
static const char *
fixed_data(const Table *table, const AttrMap *map, HeapTuple tuple)
{
	if (table->fixed_natts == 0 || map || HeapTupleHasNulls(tuple) ||
		HeapTupleHeaderGetNatts(tuple->t_data) < table->fixed_natts)
		return nullptr;
	return reinterpret_cast<const char *>(tuple->t_data) + tuple->t_data->t_hoff;
}

/* `values` has room for any row. */
static Row
row_of(Table *table, Relation relation, const AttrMap *map, HeapTuple tuple, Value *values)
{
	Row row{nullptr, 0};
	const char *fixed;

	if (tuple == nullptr)
		return row;
	row.values = values;
	fixed = fixed_data(table, map, tuple);
	if (fixed == nullptr)
		heap_deform_tuple(tuple, RelationGetDescr(relation), datums, nulls);
	blame_begin(table->relid);
	for (int i = 0; i < table->ncolumns; i++)
	{
		Column *column = &table->columns[i];
		int attnum = map ? map->attnums[column->attnum] - 1 : column->attnum;
		Datum datum = fixed ? fetch_att(fixed + column->offset, column->type.by_value, column->type.length)
							: datums[attnum];

		row.bound += take_value(column, datum, !fixed && nulls[attnum], &values[i]);
	}
	blame_end();
	return row;
}

/*
 * What the WAL left out of the new row because it did not change, the old row may hold: all of it with
 * REPLICA IDENTITY FULL, and the key always.
 */
static void
fill_unchanged(const Table *table, bool full, Row *new_row, const Row &old_row)
{
	if (old_row.values == nullptr)
		return;
	for (int i = 0; i < table->ncolumns; i++)
	{
		if (new_row->values[i].kind != siphon::ValueKind::UnchangedToast || !(full || table->columns[i].key))
			continue;
		new_row->values[i] = old_row.values[i];
		new_row->bound += value_bound(old_row.values[i]);
	}
}

/* It does not fit, whatever is tried: so this is for the table to answer, and not for the decoder. */
static void
check_size(const Table *table, size_t bound)
{
	if (likely(bound <= kEventLimit))
		return;
	blame_begin(table->relid);
	ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					errmsg("a change of %zu bytes is larger than a message can be", bound)));
}

/* What an event holds. */
struct Event
{
	Operation operation;
	uint64 ordinal;
	Row new_row;
	Row old_row;
	bool full;                        /* of the old row not only the key */
	const WireBuffer *more = nullptr; /* fields behind these */
};

static void
add_event(Table *table, int partition, const Transaction &transaction, const Event &event)
{
	siphon::Position position{transaction.commit_lsn, event.ordinal};
	size_t bound = kEventHeaderMax + transaction.wire.size + event.new_row.bound + event.old_row.bound +
				   (event.more ? event.more->size : 0);
	WireBuffer *out;

	check_size(table, bound);
	out = package_begin_event(table, partition, bound, position);
	Wire wire(out);
	wire.varint_field(siphon::field::kOperation, static_cast<uint64>(event.operation));
	wire.raw(transaction.wire.data, transaction.wire.size);
	wire.varint_field(siphon::field::kOrdinal, event.ordinal);
	for (int i = 0; event.new_row.values && i < table->ncolumns; i++)
		value_write(&wire, siphon::field::kValues, event.new_row.values[i]);
	for (int i = 0; event.old_row.values && i < table->ncolumns; i++)
		if (event.full || table->columns[i].key)
			value_write(&wire, siphon::field::kOldValues, event.old_row.values[i]);
	if (event.more)
		wire.raw(event.more->data, event.more->size);
	wire.commit();
	package_end_event(table, partition, event.operation, position, transaction.commit_time);
}

void
encode_change(Table *table, const Leaf *leaf, ReorderBufferChangeType type, Relation relation, HeapTuple old_tuple,
			  HeapTuple new_tuple, const Transaction &transaction, uint64 ordinal)
{
	const Row none{nullptr, 0};
	const AttrMap *map = leaf ? leaf->map : nullptr;
	bool full = leaf ? leaf->full : table->full;
	Row old_row = leaf && !leaf->identity ? none : row_of(table, relation, map, old_tuple, old_values);
	Row new_row = row_of(table, relation, map, new_tuple, new_values);
	int partitions = table->partitions;
	int old_partition;
	int new_partition;

	if (type == REORDER_BUFFER_CHANGE_DELETE)
	{
		old_partition = old_row.values ? key_partition(table, old_row.values, partitions, &hash_input) : 0;
		add_event(table, old_partition, transaction, {Operation::Delete, ordinal, none, old_row, full});
		return;
	}

	if (new_row.values == nullptr)
		elog(ERROR, "a change of table \"%s\" has no new row", RelationGetRelationName(relation));
	fill_unchanged(table, full, &new_row, old_row);
	new_partition = key_partition(table, new_row.values, partitions, &hash_input);
	if (type == REORDER_BUFFER_CHANGE_INSERT)
	{
		add_event(table, new_partition, transaction, {Operation::Insert, ordinal, new_row, none, full});
		return;
	}

	old_partition = old_row.values ? key_partition(table, old_row.values, partitions, &hash_input) : new_partition;
	if (old_partition == new_partition)
	{
		add_event(table, new_partition, transaction, {Operation::Update, ordinal, new_row, old_row, full});
		return;
	}
	add_event(table, old_partition, transaction, {Operation::Delete, ordinal, none, old_row, full});
	add_event(table, new_partition, transaction, {Operation::Insert, ordinal, new_row, none, full});
}

int
encode_row(Table *table, const Datum *attributes, const bool *isnull, XLogRecPtr snapshot_lsn)
{
	siphon::Position position{snapshot_lsn, 0};
	size_t bound = kEventHeaderMax;
	int partition;
	WireBuffer *out;

	blame_begin(table->relid);
	for (int i = 0; i < table->ncolumns; i++)
	{
		Column *column = &table->columns[i];
		Datum datum = attributes[column->attnum];

		/* Large values are at hand here, other than in the WAL. */
		if (!isnull[column->attnum] && column->type.length == -1 && VARATT_IS_EXTERNAL(DatumGetPointer(datum)))
		{
			blame.size += toast_raw_datum_size(datum);
			datum = PointerGetDatum(PG_DETOAST_DATUM_PACKED(datum));
		}
		bound += take_value(column, datum, isnull[column->attnum], &new_values[i]);
	}
	blame_end();
	partition = key_partition(table, new_values, table->partitions, &hash_input);
	check_size(table, bound);
	out = package_begin_event(table, partition, bound, position);
	Wire wire(out);
	wire.varint_field(siphon::field::kOperation, static_cast<uint64>(Operation::Snapshot));
	wire.fixed64_field(siphon::field::kCommitLsn, snapshot_lsn);
	for (int i = 0; i < table->ncolumns; i++)
		value_write(&wire, siphon::field::kValues, new_values[i]);
	wire.commit();
	package_end_event(table, partition, Operation::Snapshot, position, 0);
	return partition;
}

static void
add_to_all(Table *table, const Transaction &transaction, uint64 ordinal, Operation operation,
		   const WireBuffer *more = nullptr)
{
	for (int i = 0; i < table->npackages; i++)
		add_event(table, i, transaction, {operation, ordinal, {nullptr, 0}, {nullptr, 0}, false, more});
}

void
encode_truncate(Table *table, const Transaction &transaction, uint64 ordinal)
{
	add_to_all(table, transaction, ordinal, Operation::Truncate);
}

void
encode_drop(Table *table, const Transaction &transaction, uint64 ordinal)
{
	RegistryName called = name_at_lsn(table, transaction.commit_lsn);

	table_forget_columns(table, &called, siphon::FrameKind::Dropped);
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

void
encode_rename(Table *former, const RegistryName *names, const Transaction &transaction, uint64 ordinal)
{
	WireBuffer more;

	buffer_init(&more, 256);
	put_utf8(&more, siphon::field::kNewSchema, names->schema);
	put_utf8(&more, siphon::field::kNewTable, names->name);
	add_to_all(former, transaction, ordinal, Operation::Rename, &more);
}
