/*
 * A datum on its way to the wire: the one form that the encoder writes and the key hash reads, so that what is
 * hashed is what is sent.
 */
#ifndef SIPHON_VALUE_H
#define SIPHON_VALUE_H

#include "table.h"

struct Value
{
	siphon::ValueKind kind;
	union {
		int64 integer;    /* Integer, Date, Time, Timestamp, Timestamptz; Boolean as 0 or 1 */
		uint64 unsigned_; /* Unsigned */
		float4 float_;
		float8 double_;
		struct
		{
			const char *data;
			size_t length;
		} bytes; /* String, Bytes, Numeric, Uuid, Json; List: a siphon.v1.List, as it may have many elements */
	};
};

constexpr int64 kEpochDays = POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE;

/* In microseconds since 1970. False if it is infinite, or so far off that the wire can't say it. */
static inline bool
unix_timestamp(Timestamp timestamp, int64 *unix_time)
{
	return !TIMESTAMP_NOT_FINITE(timestamp) &&
		   !__builtin_add_overflow(timestamp, kEpochDays * USECS_PER_DAY, unix_time);
}

/*
 * Converts a datum; memory is taken from the current context. A large value that the WAL does not hold becomes
 * UnchangedToast.
 */
extern Value value_from_datum(TypeMapping *type, Datum datum, bool isnull);

/* Converts an array; see array_value.cpp. */
extern Value array_value_from_datum(TypeMapping *type, Datum datum);

/* Most bytes that value_write() takes for it. */
static inline size_t
value_bound(const Value &value)
{
	if ((siphon::kKindsWithBytes >> static_cast<int>(value.kind)) & 1)
		return siphon::kPayloadValueOverhead + value.bytes.length;
	return siphon::kSmallValueMax;
}

/*
 * Writes it as a siphon.v1.Value in the field `field` of an Event or a List. Its room is reserved. Always a part of its
 * caller, so that the field is known and the place to write at is in a register: each value of each row comes here.
 */
static pg_attribute_always_inline void
value_write(siphon::Wire *wire, uint32 field, const Value &value)
{
	switch (value.kind)
	{
		case siphon::ValueKind::Integer:
		case siphon::ValueKind::Date:
		case siphon::ValueKind::Time:
		case siphon::ValueKind::Timestamp:
		case siphon::ValueKind::Timestamptz:
			wire->value_sint(field, value.kind, value.integer);
			break;
		case siphon::ValueKind::Unsigned:
			wire->value_varint(field, value.kind, value.unsigned_);
			break;
		case siphon::ValueKind::Boolean:
			wire->value_varint(field, value.kind, static_cast<uint64>(value.integer));
			break;
		case siphon::ValueKind::Float:
			wire->value_fixed(field, value.kind, &value.float_, sizeof(value.float_));
			break;
		case siphon::ValueKind::Double:
			wire->value_fixed(field, value.kind, &value.double_, sizeof(value.double_));
			break;
		case siphon::ValueKind::Null:
		case siphon::ValueKind::UnchangedToast:
			wire->value_true(field, value.kind);
			break;
		case siphon::ValueKind::String:
		case siphon::ValueKind::Bytes:
		case siphon::ValueKind::Numeric:
		case siphon::ValueKind::Uuid:
		case siphon::ValueKind::Json:
			wire->value_payload(field, value.kind, value.bytes.data, value.bytes.length);
			break;
		case siphon::ValueKind::List:
			wire->value_list(field, value.bytes.data, value.bytes.length);
			break;
	}
}

/* The partition of a key, see proto/siphon.proto. `scratch` is overwritten. */
extern int key_partition(const Table *table, const Value *values, int partitions, siphon::WireBuffer *scratch);

#endif
