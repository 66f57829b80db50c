/*
 * From a row's values to the partition of its key.
 */
#include "catalogs/key_hash.h"

#include "value.h"

using siphon::ValueKind;
using siphon::WireBuffer;

static void
put_bytes(WireBuffer *out, const void *bytes, uint32 length)
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

static void
hash_value(WireBuffer *out, const Value &value, bool padded)
{
	uint8 boolean;
	float4 single;
	float8 number;
	std::string_view text;

	switch (value.kind)
	{
		case ValueKind::Integer:
		case ValueKind::Date:
		case ValueKind::Time:
		case ValueKind::Timestamp:
		case ValueKind::Timestamptz:
			put_bytes(out, &value.integer, sizeof(value.integer));
			break;
		case ValueKind::Unsigned:
			put_bytes(out, &value.unsigned_, sizeof(value.unsigned_));
			break;
		case ValueKind::Float:
			single = siphon::key_of_float(value.float_);
			put_bytes(out, &single, sizeof(single));
			break;
		case ValueKind::Double:
			number = siphon::key_of_float(value.double_);
			put_bytes(out, &number, sizeof(number));
			break;
		case ValueKind::Boolean:
			boolean = value.integer != 0;
			put_bytes(out, &boolean, 1);
			break;
		case ValueKind::String:
		case ValueKind::Bytes:
		case ValueKind::Numeric:
		case ValueKind::Uuid:
		case ValueKind::Json:
			text = {value.bytes.data, value.bytes.length};
			if (value.kind == ValueKind::Numeric)
				text = siphon::key_of_numeric(text);
			else if (padded)
				text = siphon::key_of_character(text);
			put_bytes(out, text.data(), static_cast<uint32>(text.size()));
			break;
		case ValueKind::List:
			/* No table is divided by one, but its key may come to be one. */
			put_bytes(out, value.bytes.data, static_cast<uint32>(value.bytes.length));
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
		hash_value(scratch, values[table->key_columns[i]], table->columns[table->key_columns[i]].padded);
	return static_cast<int>(siphon::key_hash_partition(scratch->data, scratch->size, static_cast<uint32>(partitions)));
}
