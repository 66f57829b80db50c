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

int
key_partition(const Table *table, const Value *values, int partitions, WireBuffer *scratch)
{
	if (partitions == 1 || table->nkeys == 0)
		return 0;
	scratch->size = 0;
	for (int i = 0; i < table->nkeys; i++)
	{
		const Value &value = values[table->key_columns[i]];
		uint8 boolean = value.integer != 0;
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
				put(scratch, &value.integer, sizeof(value.integer));
				break;
			case ValueKind::Unsigned:
				put(scratch, &value.unsigned_, sizeof(value.unsigned_));
				break;
			case ValueKind::Float:
				single = siphon::key_of_float(value.float_);
				put(scratch, &single, sizeof(single));
				break;
			case ValueKind::Double:
				number = siphon::key_of_float(value.double_);
				put(scratch, &number, sizeof(number));
				break;
			case ValueKind::Boolean:
				put(scratch, &boolean, 1);
				break;
			case ValueKind::String:
			case ValueKind::Bytes:
			case ValueKind::Numeric:
			case ValueKind::Uuid:
			case ValueKind::Json:
				text = {value.bytes.data, value.bytes.length};
				if (value.kind == ValueKind::Numeric)
					text = siphon::key_of_numeric(text);
				else if (table->columns[table->key_columns[i]].padded)
					text = siphon::key_of_character(text);
				put(scratch, text.data(), static_cast<uint32>(text.size()));
				break;
			case ValueKind::Null:
			case ValueKind::UnchangedToast:
				put_null(scratch);
				break;
		}
	}
	return static_cast<int>(siphon::key_hash_partition(scratch->data, scratch->size, static_cast<uint32>(partitions)));
}
