/*
 * Writing protobuf on the hot path: protozero's varint and zigzag primitives over a buffer that grows in a
 * memory context. Growing may ereport(ERROR), so every writer first reserves all that it will write and then
 * writes without checks; no object with a destructor is alive meanwhile. Field numbers are those of
 * proto/siphon.proto, and a unit test holds the two against each other.
 */
#ifndef SIPHON_WIRE_H
#define SIPHON_WIRE_H

#include <protozero/types.hpp>
#include <protozero/varint.hpp>

#include <cstdint>
#include <cstring>

namespace siphon {

/* Bytes to which writers append. The owner allocates; see wire_reserve in buffer.h. */
struct WireBuffer
{
	char *data;
	size_t size;
	size_t capacity;
};

/* Field numbers of siphon.v1. */
namespace field {
enum Package : uint32_t {
	kApplication = 1,
	kSchema,
	kTable,
	kPartition,
	kGeneration,
	kFingerprint,
	kColumns,
	kEvents,
	kTableOid = 13,
	kGenerationStart
};
enum Column : uint32_t {
	kName = 1,
	kTypeOid,
	kTypeName,
	kKey,
	kExistingRows,
	kAttnum = 11,
	kBaseTypeName,
	kBaseTypeOid
};
enum TableSchema : uint32_t {
	kSchemaApplication = 1,
	kSchemaSchema,
	kSchemaTable,
	kSchemaOid,
	kSchemaPartitions,
	kSchemaGeneration,
	kSchemaFingerprint,
	kSchemaColumns,
	kSchemaComment,
	kSchemaGenerationStart
};
/* ColumnSchema begins with the fields of a Column. */
enum ColumnSchema : uint32_t { kNullable = 6, kDefaultExpression, kGenerated, kIdentity, kColumnComment };
enum Event : uint32_t {
	kOperation = 1,
	kCommitLsn,
	kOrdinal,
	kXid,
	kCommitTimestamp,
	kValues,
	kOldValues,
	kDetached,
	kDetachedBounds,
	kNewSchema,
	kNewTable,
	kOrigin
};
enum Message : uint32_t {
	kMessageApplication = 1,
	kMessagePrefix,
	kMessageContent,
	kMessageCommitLsn,
	kMessageOrdinal,
	kMessageXid,
	kMessageCommitTimestamp,
	kMessageTransactional
};
enum List : uint32_t { kListValues = 1, kListDimensions };
enum Dimension : uint32_t { kDimensionLength = 1, kDimensionLowerBound };
enum Watermark : uint32_t { kWatermarkApplication = 1, kWatermarkLsn, kWatermarkTimestamp };
/* SnapshotBegin and SnapshotEnd begin with the same fields as a Package, but for kMarkerPartitions. */
enum SnapshotMarker : uint32_t {
	kMarkerPartitions = 4,
	kBeginEstimatedRows = 8,
	kEndRowCounts = 8,
	kEndLsn,
	kEndXmin,
	kEndXmax,
	kEndInProgress
};
} // namespace field

/* Kinds of siphon.v1.Value: the numbers are those of the oneof's fields. */
enum class ValueKind : uint8_t {
	Null = 1,
	Integer = 2,
	Unsigned = 3,
	Float = 4,
	Double = 5,
	Boolean = 6,
	String = 7,
	Bytes = 8,
	Numeric = 9,
	Date = 10,
	Time = 11,
	Timestamp = 12,
	Timestamptz = 13,
	Uuid = 14,
	Json = 15,
	UnchangedToast = 16,
	List = 17
};

/* How the values of a kind are written, and so how much room they take. */
enum class ValueForm : uint8_t {
	Varint,  /* one number or nothing: value_varint(), value_sint(), value_true() */
	Fixed,   /* value_fixed() */
	Payload, /* value_payload() */
	List     /* value_list() */
};

/* No default: the compiler names a kind that is forgotten here. */
constexpr ValueForm
value_form(ValueKind kind)
{
	switch (kind)
	{
		case ValueKind::Null:
		case ValueKind::Integer:
		case ValueKind::Unsigned:
		case ValueKind::Boolean:
		case ValueKind::Date:
		case ValueKind::Time:
		case ValueKind::Timestamp:
		case ValueKind::Timestamptz:
		case ValueKind::UnchangedToast:
			return ValueForm::Varint;
		case ValueKind::Float:
		case ValueKind::Double:
			return ValueForm::Fixed;
		case ValueKind::String:
		case ValueKind::Bytes:
		case ValueKind::Numeric:
		case ValueKind::Uuid:
		case ValueKind::Json:
			return ValueForm::Payload;
		case ValueKind::List:
			return ValueForm::List;
	}
	return ValueForm::Varint;
}

/* A bit for each kind whose values have bytes of their own: one test for each value of each row. */
constexpr uint64_t
kinds_with_bytes()
{
	uint64_t kinds = 0;

	for (int i = 1; i < 64; i++)
	{
		ValueForm form = value_form(static_cast<ValueKind>(i));

		if (form == ValueForm::Payload || form == ValueForm::List)
			kinds |= uint64_t{1} << i;
	}
	return kinds;
}
constexpr uint64_t kKindsWithBytes = kinds_with_bytes();

/* Bytes of a kind's tag. value_fixed() and value_payload() count on one, value_list() on two. */
constexpr size_t
value_tag_size(ValueKind kind)
{
	return static_cast<int>(kind) < 16 ? 1 : 2;
}

constexpr bool
are_value_tags_as_counted()
{
	for (int i = 1; i < 64; i++)
	{
		ValueKind kind = static_cast<ValueKind>(i);
		ValueForm form = value_form(kind);

		if ((form == ValueForm::Fixed || form == ValueForm::Payload) && value_tag_size(kind) != 1)
			return false;
		if (form == ValueForm::List && value_tag_size(kind) != 2)
			return false;
	}
	return true;
}
static_assert(are_value_tags_as_counted(), "value_fixed(), value_payload() or value_list() would write a wrong length");

/* siphon.v1.Operation. Of the first kCountedOperations, frames tell how many events they have. */
enum class Operation : uint8_t {
	Insert = 1,
	Update = 2,
	Delete = 3,
	Truncate = 4,
	Snapshot = 5,
	Drop = 6,
	Detach = 7,
	Rename = 8
};

/* siphon.v1.GenerationStart. */
enum class GenerationStart : uint8_t { Snapshot = 1, Changes = 2 };

/* Most bytes that a Value without a payload of its own takes: field tag, length, kind tag, varint. */
constexpr size_t kSmallValueMax = 1 + 1 + 2 + 10;
/* Most bytes around a payload in a Value: field tag, length, kind tag, payload length. */
constexpr size_t kPayloadValueOverhead = 1 + 5 + 2 + 5;
/* Most bytes that a Dimension takes in a List: field tag, length, its two numbers. */
constexpr size_t kDimensionMax = 1 + 1 + 1 + 5 + 1 + 5;

/* The writers. Each needs its bytes to be reserved. */
class Wire
{
public:
	explicit Wire(WireBuffer *buffer) : buffer_(buffer), at_(buffer->data + buffer->size) {}
	void commit() { buffer_->size = static_cast<size_t>(at_ - buffer_->data); }

	/* As protozero's; written out, so that a tag that is known when this is compiled becomes a byte that is stored. */
	void varint(uint64_t value)
	{
		while (value >= 0x80)
		{
			*at_++ = static_cast<char>(value | 0x80);
			value >>= 7;
		}
		*at_++ = static_cast<char>(value);
	}

	void tag(uint32_t number, protozero::pbf_wire_type type) { varint((number << 3) | static_cast<uint32_t>(type)); }
	void raw(const void *data, size_t length)
	{
		/* Of nothing, not even the place may be known. */
		if (length > 0)
			memcpy(at_, data, length);
		at_ += length;
	}
	void varint_field(uint32_t number, uint64_t value)
	{
		tag(number, protozero::pbf_wire_type::varint);
		varint(value);
	}
	void sint_field(uint32_t number, int64_t value) { varint_field(number, protozero::encode_zigzag64(value)); }
	void fixed64_field(uint32_t number, uint64_t value)
	{
		tag(number, protozero::pbf_wire_type::fixed64);
		raw(&value, 8);
	}
	void bytes_field(uint32_t number, const void *data, size_t length)
	{
		length_field(number, length);
		raw(data, length);
	}
	void string_field(uint32_t number, const char *text) { bytes_field(number, text, strlen(text)); }
	void length_field(uint32_t number, size_t length)
	{
		tag(number, protozero::pbf_wire_type::length_delimited);
		varint(length);
	}

	/* Values: `field` is Event.values, Event.old_values or List.values. */
	void value_true(uint32_t field, ValueKind kind) { value_varint(field, kind, 1); }
	void value_sint(uint32_t field, ValueKind kind, int64_t value)
	{
		value_varint(field, kind, protozero::encode_zigzag64(value));
	}
	void value_varint(uint32_t field, ValueKind kind, uint64_t value)
	{
		tag(field, protozero::pbf_wire_type::length_delimited);

		/* Its length is one byte, and known afterwards. */
		char *length = at_++;

		varint(static_cast<uint32_t>(kind) << 3);
		varint(value);
		*length = static_cast<char>(at_ - length - 1);
	}
	void value_fixed(uint32_t field, ValueKind kind, const void *bytes, size_t length)
	{
		length_field(field, 1 + length);
		tag(static_cast<uint32_t>(kind),
			length == 8 ? protozero::pbf_wire_type::fixed64 : protozero::pbf_wire_type::fixed32);
		raw(bytes, length);
	}
	void value_payload(uint32_t field, ValueKind kind, const void *data, size_t length)
	{
		length_field(field, 1 + static_cast<size_t>(protozero::length_of_varint(length)) + length);
		bytes_field(static_cast<uint32_t>(kind), data, length);
	}
	/* `message` is a List. Other than for the payloads above, the kind's tag takes two bytes: see value_tag_size(). */
	void value_list(uint32_t field, const void *message, size_t length)
	{
		length_field(field, 2 + static_cast<size_t>(protozero::length_of_varint(length)) + length);
		bytes_field(static_cast<uint32_t>(ValueKind::List), message, length);
	}
	void dimension(uint32_t length, int32_t lower_bound)
	{
		tag(field::kListDimensions, protozero::pbf_wire_type::length_delimited);

		char *size = at_++;

		varint_field(field::kDimensionLength, length);
		sint_field(field::kDimensionLowerBound, lower_bound);
		*size = static_cast<char>(at_ - size - 1);
	}

private:
	WireBuffer *buffer_;
	char *at_;
};

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
			  "the wire's fixed-width fields are written as they lie in memory");

} // namespace siphon

#endif
