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
		} bytes; /* String, Bytes, Numeric, Uuid, Json */
	};
};

/*
 * Converts a column's datum; memory is taken from the current context. A large value that the WAL does not
 * hold becomes UnchangedToast.
 */
extern Value value_from_datum(Column *column, Datum datum, bool isnull);

/* Writes it as a siphon.v1.Value in Event's field `field` (kValues or kOldValues). Reserves its own room. */
extern void value_write(siphon::WireBuffer *out, uint32 field, const Value &value);

/* The partition of a key, see proto/siphon.proto. `scratch` is overwritten. */
extern int key_partition(const Table *table, const Value *values, int partitions, siphon::WireBuffer *scratch);

#endif
