/*
 * From a row's values to the partition of its key.
 */
#include "key_hash.h"

#include "value.h"

using siphon::ValueKind;
using siphon::WireBuffer;

static void
put(WireBuffer *out, const void *bytes, uint32 length)
{
	buffer_reserve(out, siphon::kKeyLengthSize + length);
	memcpy(out->data + out->size, &length, siphon::kKeyLengthSize);
	memcpy(out->data + out->size + siphon::kKeyLengthSize, bytes, length);
	out->size += siphon::kKeyLengthSize + length;
}

static void
put_null(WireBuffer *out)
{
	buffer_reserve(out, siphon::kKeyLengthSize);
	memcpy(out->data + out->size, &siphon::kNullLength, siphon::kKeyLengthSize);
	out->size += siphon::kKeyLengthSize;
}

void
hash_value(WireBuffer *out, const Value &value)
{
	uint8 boolean;

	switch (value.kind)
	{
		case ValueKind::Integer:
		case ValueKind::Date:
		case ValueKind::Time:
		case ValueKind::Timestamp:
		case ValueKind::Timestamptz:
			put(out, &value.integer, sizeof(value.integer));
			break;
		case ValueKind::Unsigned:
			put(out, &value.unsigned_, sizeof(value.unsigned_));
			break;
		case ValueKind::Float:
			put(out, &value.float_, sizeof(value.float_));
			break;
		case ValueKind::Double:
			put(out, &value.double_, sizeof(value.double_));
			break;
		case ValueKind::Boolean:
			boolean = value.integer != 0;
			put(out, &boolean, 1);
			break;
		case ValueKind::String:
		case ValueKind::Bytes:
		case ValueKind::Numeric:
		case ValueKind::Uuid:
		case ValueKind::Json:
			put(out, value.bytes.data, static_cast<uint32>(value.bytes.length));
			break;
		case ValueKind::List:
			hash_list(out, value.list);
			break;
		case ValueKind::Null:
		case ValueKind::UnchangedToast:
			put_null(out);
			break;
	}
}

int
key_partition(const Table *table, const Value *values, int partitions, WireBuffer *scratch)
{
	if (partitions == 1 || table->nkeys == 0)
		return 0;
	scratch->size = 0;
	for (int i = 0; i < table->nkeys; i++)
		hash_value(scratch, values[table->key_columns[i]]);
	return static_cast<int>(siphon::key_hash_partition(scratch->data, scratch->size, static_cast<uint32>(partitions)));
}
