/*
 * From PostgreSQL's values to the wire's: see value.h and proto/siphon.proto.
 */
#include "value.h"

#include "server/blame.h"
#include "jsonb_text.h"
#include "numeric_text.h"
#include "server/utf8_conversion.h"

extern "C" {
#include "access/detoast.h"
}

using siphon::ValueKind;
using siphon::Wire;
using siphon::WireBuffer;

static Value
integer_value(ValueKind kind, int64 integer)
{
	Value value;

	value.kind = kind;
	value.integer = integer;
	return value;
}

static Value
bytes_value(ValueKind kind, const char *data, size_t length)
{
	Value value;

	value.kind = kind;
	value.bytes.data = data;
	value.bytes.length = length;
	return value;
}

/* Text in the server's encoding. What can't be UTF-8 goes as bytes. */
static Value
text_value(ValueKind kind, const char *text, size_t length)
{
	if (!convert_text_to_utf8(&text, &length))
		kind = ValueKind::Bytes;
	return bytes_value(kind, text, length);
}

static Value
output_value(ValueKind kind, TypeMapping *type, Datum datum)
{
	const char *text = OutputFunctionCall(type_output(type), datum);

	return text_value(kind, text, strlen(text));
}

static Value
varlena_value(ValueKind kind, Datum datum)
{
	const varlena *v = PG_DETOAST_DATUM_PACKED(datum);
	const char *data = VARDATA_ANY(v);
	size_t length = VARSIZE_ANY_EXHDR(v);

	return kind == ValueKind::Bytes ? bytes_value(kind, data, length) : text_value(kind, data, length);
}

static Value
numeric_value(Datum datum)
{
	NumericText number(PG_DETOAST_DATUM_PACKED(datum));
	char *text = static_cast<char *>(palloc(number.bound()));

	return bytes_value(ValueKind::Numeric, text, static_cast<size_t>(number.write(text) - text));
}

static Value
jsonb_value(TypeMapping *type, Datum datum)
{
	const varlena *jsonb = PG_DETOAST_DATUM_PACKED(datum);
	WireBuffer text;

	/* Text has quotes, commas and spaces in place of entries of four bytes; rarely is it longer. */
	buffer_init(&text, VARSIZE_ANY_EXHDR(jsonb) + 64);
	if (!jsonb_text(&text, jsonb))
		return output_value(ValueKind::Json, type, datum);
	return text_value(ValueKind::Json, text.data, text.size);
}

static Value
uuid_value(Datum datum)
{
	static const char digits[] = "0123456789abcdef";
	const pg_uuid_t *uuid = DatumGetUUIDP(datum);
	char *text = static_cast<char *>(palloc(36));
	char *at = text;

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = digits[uuid->data[i] >> 4];
		*at++ = digits[uuid->data[i] & 15];
	}
	return bytes_value(ValueKind::Uuid, text, 36);
}

static Value
date_value(DateADT date)
{
	if (DATE_NOT_FINITE(date))
		return integer_value(ValueKind::Date, DATE_IS_NOBEGIN(date) ? PG_INT32_MIN : PG_INT32_MAX);
	return integer_value(ValueKind::Date, date + kEpochDays);
}

static Value
timestamp_value(ValueKind kind, TypeMapping *type, Timestamp timestamp)
{
	int64 unix_time;

	if (TIMESTAMP_NOT_FINITE(timestamp))
		return integer_value(kind, TIMESTAMP_IS_NOBEGIN(timestamp) ? PG_INT64_MIN : PG_INT64_MAX);
	if (!unix_timestamp(timestamp, &unix_time))
		return output_value(ValueKind::String, type, TimestampGetDatum(timestamp));
	return integer_value(kind, unix_time);
}

/* A large value that decoding has put together stands elsewhere in memory. Detoasting would copy it, to no purpose. */
static Datum
follow_indirection(Datum datum)
{
	struct varatt_indirect elsewhere;

	if (!VARATT_IS_EXTERNAL_INDIRECT(DatumGetPointer(datum)))
		return datum;
	VARATT_EXTERNAL_GET_POINTER(elsewhere, DatumGetPointer(datum));
	blame.size += VARSIZE_ANY(elsewhere.pointer);
	return PointerGetDatum(elsewhere.pointer);
}

Value
value_from_datum(TypeMapping *type, Datum datum, bool isnull)
{
	Value value;

	if (isnull)
		return integer_value(ValueKind::Null, 1);
	if (type->length == -1)
		datum = follow_indirection(datum);
	if (type->length == -1 && VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(datum)))
		return integer_value(ValueKind::UnchangedToast, 1);

	switch (type->encoding)
	{
		case Encoding::Int16:
			return integer_value(ValueKind::Integer, DatumGetInt16(datum));
		case Encoding::Int32:
			return integer_value(ValueKind::Integer, DatumGetInt32(datum));
		case Encoding::Int64:
			return integer_value(ValueKind::Integer, DatumGetInt64(datum));
		case Encoding::Unsigned32:
			value.kind = ValueKind::Unsigned;
			value.unsigned_ = DatumGetUInt32(datum);
			return value;
		case Encoding::Float:
			value.kind = ValueKind::Float;
			value.float_ = DatumGetFloat4(datum);
			return value;
		case Encoding::Double:
			value.kind = ValueKind::Double;
			value.double_ = DatumGetFloat8(datum);
			return value;
		case Encoding::Boolean:
			return integer_value(ValueKind::Boolean, DatumGetBool(datum) ? 1 : 0);
		case Encoding::Varlena:
			return varlena_value(ValueKind::String, datum);
		case Encoding::Bytes:
			return varlena_value(ValueKind::Bytes, datum);
		case Encoding::Name:
			return text_value(ValueKind::String, NameStr(*DatumGetName(datum)), strlen(NameStr(*DatumGetName(datum))));
		case Encoding::Numeric:
			return numeric_value(datum);
		case Encoding::Date:
			return date_value(DatumGetDateADT(datum));
		case Encoding::Time:
			return integer_value(ValueKind::Time, DatumGetTimeADT(datum));
		case Encoding::Timestamp:
			return timestamp_value(ValueKind::Timestamp, type, DatumGetTimestamp(datum));
		case Encoding::Timestamptz:
			return timestamp_value(ValueKind::Timestamptz, type, DatumGetTimestampTz(datum));
		case Encoding::Uuid:
			return uuid_value(datum);
		case Encoding::JsonText:
			return varlena_value(ValueKind::Json, datum);
		case Encoding::Jsonb:
			return jsonb_value(type, datum);
		case Encoding::Output:
			return output_value(ValueKind::String, type, datum);
		case Encoding::List:
			return array_value_from_datum(type, datum);
	}
	elog(ERROR, "unknown encoding %d", static_cast<int>(type->encoding));
}
