/*
 * Holds the hot path's protobuf writer (src/server/wire.h) against protoc's generated classes: what one writes, the
 * other must read as it was meant. Field numbers, wire types and kinds can't drift apart unseen.
 */
#include "server/wire.h"

#include "siphon.pb.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

using siphon::GenerationStart;
using siphon::Operation;
using siphon::ValueKind;
using siphon::Wire;
using siphon::WireBuffer;

namespace {

struct TestBuffer : WireBuffer
{
	explicit TestBuffer(size_t room) : memory(room)
	{
		data = memory.data();
		size = 0;
		capacity = room;
	}
	std::string text() const { return std::string(data, size); }

	std::vector<char> memory;
};

/* Writes one value as Event.values, checks that it took no more than `room`, and reads it back. */
template <typename Writer>
siphon::v1::Value
round_trip(size_t room, Writer write)
{
	TestBuffer buffer(room);
	Wire wire(&buffer);
	siphon::v1::Event event;

	write(wire);
	wire.commit();
	EXPECT_LE(buffer.size, room);
	EXPECT_TRUE(event.ParseFromString(buffer.text()));
	EXPECT_EQ(event.values_size(), 1);
	EXPECT_EQ(event.ByteSizeLong(), buffer.size) << "not the shortest encoding, or unknown fields";
	return event.values(0);
}

siphon::v1::Value
sint(ValueKind kind, int64_t value)
{
	return round_trip(siphon::kSmallValueMax,
					  [&](Wire &wire) { wire.value_sint(siphon::field::kValues, kind, value); });
}

siphon::v1::Value
payload(ValueKind kind, const std::string &bytes)
{
	return round_trip(siphon::kPayloadValueOverhead + bytes.size(), [&](Wire &wire) {
		wire.value_payload(siphon::field::kValues, kind, bytes.data(), bytes.size());
	});
}

/* A kind of siphon.v1.Value that the writer does not have, or writes in another form, would be lost on the way. */
TEST(WireTest, HasEachKindOfValueInItsForm)
{
	using google::protobuf::FieldDescriptor;
	const google::protobuf::OneofDescriptor *kind = siphon::v1::Value::descriptor()->FindOneofByName("kind");
	int greatest = 0;

	ASSERT_NE(kind, nullptr);
	for (int i = 0; i < kind->field_count(); i++)
	{
		const FieldDescriptor *field = kind->field(i);
		siphon::ValueForm form = siphon::value_form(static_cast<ValueKind>(field->number()));
		siphon::ValueForm expected = siphon::ValueForm::Varint;

		switch (field->type())
		{
			case FieldDescriptor::TYPE_FLOAT:
			case FieldDescriptor::TYPE_DOUBLE:
				expected = siphon::ValueForm::Fixed;
				break;
			case FieldDescriptor::TYPE_STRING:
			case FieldDescriptor::TYPE_BYTES:
				expected = siphon::ValueForm::Payload;
				break;
			case FieldDescriptor::TYPE_MESSAGE:
				expected = siphon::ValueForm::List;
				break;
			default:
				break;
		}
		EXPECT_EQ(form, expected) << field->name();
		greatest = std::max(greatest, field->number());
	}
	EXPECT_EQ(kind->field_count(), greatest) << "numbers without a gap";
	EXPECT_EQ(greatest, static_cast<int>(ValueKind::List)) << "the last kind of ValueKind";
}

TEST(Wire, Integers)
{
	for (int64_t value : {int64_t{0}, int64_t{1}, int64_t{-1}, int64_t{63}, int64_t{64}, int64_t{-64}, int64_t{-65},
						  std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()})
	{
		EXPECT_EQ(sint(ValueKind::Integer, value).integer(), value);
		EXPECT_EQ(sint(ValueKind::Time, value).time(), value);
		EXPECT_EQ(sint(ValueKind::Timestamp, value).timestamp(), value);
		EXPECT_EQ(sint(ValueKind::Timestamptz, value).timestamptz(), value);
	}
	for (int32_t value : {0, 1, -1, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()})
		EXPECT_EQ(sint(ValueKind::Date, value).date(), value);
}

TEST(Wire, RandomIntegers)
{
	unsigned seed = std::random_device{}();
	std::mt19937_64 random(seed);

	SCOPED_TRACE("seed " + std::to_string(seed));
	for (int i = 0; i < 10000; i++)
	{
		int64_t value = static_cast<int64_t>(random()) >> (random() % 64);

		ASSERT_EQ(sint(ValueKind::Integer, value).integer(), value);
	}
}

TEST(Wire, OtherKinds)
{
	float single = -0.5F;
	double number = std::nan("");

	EXPECT_EQ(round_trip(siphon::kSmallValueMax,
						 [](Wire &wire) { wire.value_varint(siphon::field::kValues, ValueKind::Unsigned, 4294967295U); })
				  .unsigned_(),
			  4294967295U);
	EXPECT_TRUE(round_trip(siphon::kSmallValueMax, [](Wire &wire) {
					wire.value_varint(siphon::field::kValues, ValueKind::Boolean, 1);
				}).boolean());
	EXPECT_EQ(round_trip(siphon::kSmallValueMax,
						 [](Wire &wire) { wire.value_varint(siphon::field::kValues, ValueKind::Boolean, 0); })
				  .kind_case(),
			  siphon::v1::Value::kBoolean);
	EXPECT_EQ(round_trip(siphon::kSmallValueMax,
						 [&](Wire &wire) {
							 wire.value_fixed(siphon::field::kValues, ValueKind::Float, &single, sizeof(single));
						 })
				  .float_(),
			  single);
	EXPECT_TRUE(std::isnan(round_trip(siphon::kSmallValueMax, [&](Wire &wire) {
							   wire.value_fixed(siphon::field::kValues, ValueKind::Double, &number, sizeof(number));
						   }).double_()));
	EXPECT_TRUE(round_trip(siphon::kSmallValueMax, [](Wire &wire) {
					wire.value_true(siphon::field::kValues, ValueKind::Null);
				}).null());
	EXPECT_TRUE(round_trip(siphon::kSmallValueMax, [](Wire &wire) {
					wire.value_true(siphon::field::kValues, ValueKind::UnchangedToast);
				}).unchanged_toast());
}

TEST(Wire, Payloads)
{
	for (size_t length : {0, 1, 125, 126, 127, 128, 129, 16380, 16384, 3000000})
	{
		std::string text(length, 'x');

		EXPECT_EQ(payload(ValueKind::String, text).string(), text);
		EXPECT_EQ(payload(ValueKind::Bytes, text).bytes(), text);
		EXPECT_EQ(payload(ValueKind::Numeric, text).numeric(), text);
		EXPECT_EQ(payload(ValueKind::Uuid, text).uuid(), text);
		EXPECT_EQ(payload(ValueKind::Json, text).json(), text);
	}
}

TEST(Wire, List)
{
	siphon::v1::Value value = round_trip(200, [](Wire &wire) {
		TestBuffer buffer(2 * siphon::kSmallValueMax + 2 * siphon::kDimensionMax);
		Wire list(&buffer);

		list.value_sint(siphon::field::kListValues, ValueKind::Integer, -7);
		list.value_true(siphon::field::kListValues, ValueKind::Null);
		list.dimension(2, std::numeric_limits<int32_t>::min());
		list.dimension(1, std::numeric_limits<int32_t>::max());
		list.commit();
		wire.value_list(siphon::field::kValues, buffer.data, buffer.size);
	});

	ASSERT_EQ(value.list().values_size(), 2);
	EXPECT_EQ(value.list().values(0).integer(), -7);
	EXPECT_TRUE(value.list().values(1).null());
	ASSERT_EQ(value.list().dimensions_size(), 2);
	EXPECT_EQ(value.list().dimensions(0).length(), 2U);
	EXPECT_EQ(value.list().dimensions(0).lower_bound(), std::numeric_limits<int32_t>::min());
	EXPECT_EQ(value.list().dimensions(1).length(), 1U);
	EXPECT_EQ(value.list().dimensions(1).lower_bound(), std::numeric_limits<int32_t>::max());
}

TEST(Wire, ListsOfAnyLength)
{
	for (int count : {0, 1, 30, 31, 32, 33, 4000, 5000, 100000})
	{
		TestBuffer buffer(siphon::kSmallValueMax * static_cast<size_t>(count));
		Wire list(&buffer);

		for (int i = 0; i < count; i++)
			list.value_varint(siphon::field::kListValues, ValueKind::Boolean, 1);
		list.commit();

		siphon::v1::Value value =
			round_trip(siphon::kPayloadValueOverhead + buffer.size,
					   [&](Wire &wire) { wire.value_list(siphon::field::kValues, buffer.data, buffer.size); });

		EXPECT_EQ(value.kind_case(), siphon::v1::Value::kList);
		EXPECT_EQ(value.list().values_size(), count);
	}
}

TEST(Wire, DimensionsFit)
{
	TestBuffer buffer(siphon::kDimensionMax);
	Wire wire(&buffer);

	wire.dimension(std::numeric_limits<uint32_t>::max(), std::numeric_limits<int32_t>::min());
	wire.commit();
	EXPECT_EQ(buffer.size, siphon::kDimensionMax);
}

TEST(Wire, Event)
{
	TestBuffer buffer(256);
	Wire wire(&buffer);
	siphon::v1::Event event;

	wire.varint_field(siphon::field::kOperation, static_cast<uint64_t>(Operation::Update));
	wire.fixed64_field(siphon::field::kCommitLsn, 0x0000000003006AB8);
	wire.varint_field(siphon::field::kOrdinal, 12);
	wire.varint_field(siphon::field::kXid, 4294967295U);
	wire.sint_field(siphon::field::kCommitTimestamp, -5);
	wire.value_sint(siphon::field::kValues, ValueKind::Integer, 7);
	wire.value_true(siphon::field::kOldValues, ValueKind::Null);
	wire.commit();
	ASSERT_TRUE(event.ParseFromString(buffer.text()));
	EXPECT_EQ(event.operation(), siphon::v1::UPDATE);
	EXPECT_EQ(event.commit_lsn(), 0x0000000003006AB8U);
	EXPECT_EQ(event.ordinal(), 12U);
	EXPECT_EQ(event.xid(), 4294967295U);
	EXPECT_EQ(event.commit_timestamp(), -5);
	ASSERT_EQ(event.values_size(), 1);
	EXPECT_EQ(event.values(0).integer(), 7);
	ASSERT_EQ(event.old_values_size(), 1);
	EXPECT_TRUE(event.old_values(0).null());
	EXPECT_EQ(static_cast<int>(Operation::Insert), siphon::v1::INSERT);
	EXPECT_EQ(static_cast<int>(Operation::Delete), siphon::v1::DELETE);
	EXPECT_EQ(static_cast<int>(Operation::Truncate), siphon::v1::TRUNCATE);
	EXPECT_EQ(static_cast<int>(Operation::Detach), siphon::v1::DETACH);
	EXPECT_EQ(static_cast<int>(siphon::field::kDetached), siphon::v1::Event::kDetachedFieldNumber);
	EXPECT_EQ(static_cast<int>(siphon::field::kDetachedBounds), siphon::v1::Event::kDetachedBoundsFieldNumber);
	EXPECT_EQ(static_cast<int>(Operation::Drop), siphon::v1::DROP);
	EXPECT_EQ(static_cast<int>(Operation::Rename), siphon::v1::RENAME);
	EXPECT_EQ(static_cast<int>(siphon::field::kNewSchema), siphon::v1::Event::kNewSchemaFieldNumber);
	EXPECT_EQ(static_cast<int>(siphon::field::kNewTable), siphon::v1::Event::kNewTableFieldNumber);
	EXPECT_EQ(static_cast<int>(siphon::field::kOrigin), siphon::v1::Event::kOriginFieldNumber);
}

TEST(Wire, PackageAndWatermark)
{
	TestBuffer column(64);
	TestBuffer buffer(256);
	siphon::v1::Package package;
	siphon::v1::Watermark watermark;

	{
		Wire wire(&column);
		wire.string_field(siphon::field::kName, "id");
		wire.varint_field(siphon::field::kTypeOid, 20);
		wire.string_field(siphon::field::kTypeName, "bigint");
		wire.varint_field(siphon::field::kKey, 1);
		wire.varint_field(siphon::field::kAttnum, 7);
		wire.commit();
	}
	{
		Wire wire(&buffer);
		wire.string_field(siphon::field::kApplication, "main");
		wire.string_field(siphon::field::kSchema, "public");
		wire.string_field(siphon::field::kTable, "issues");
		wire.varint_field(siphon::field::kPartition, 3);
		wire.varint_field(siphon::field::kTableOid, 4294967295U);
		wire.fixed64_field(siphon::field::kFingerprint, 0xFEDCBA9876543210);
		wire.bytes_field(siphon::field::kColumns, column.data, column.size);
		wire.bytes_field(siphon::field::kEvents, "", 0);
		wire.commit();
	}
	ASSERT_TRUE(package.ParseFromString(buffer.text()));
	EXPECT_EQ(package.application_identifier(), "main");
	EXPECT_EQ(package.schema(), "public");
	EXPECT_EQ(package.table(), "issues");
	EXPECT_EQ(package.partition(), 3U);
	EXPECT_EQ(package.table_oid(), 4294967295U);
	EXPECT_EQ(package.schema_fingerprint(), 0xFEDCBA9876543210U);
	ASSERT_EQ(package.columns_size(), 1);
	EXPECT_EQ(package.columns(0).name(), "id");
	EXPECT_EQ(package.columns(0).type_oid(), 20U);
	EXPECT_EQ(package.columns(0).type_name(), "bigint");
	EXPECT_TRUE(package.columns(0).key());
	EXPECT_EQ(package.columns(0).attnum(), 7U);
	EXPECT_EQ(package.events_size(), 1);

	TestBuffer mark(64);
	Wire wire(&mark);
	wire.string_field(siphon::field::kWatermarkApplication, "main");
	wire.fixed64_field(siphon::field::kWatermarkLsn, 77);
	wire.sint_field(siphon::field::kWatermarkTimestamp, 1);
	wire.commit();
	ASSERT_TRUE(watermark.ParseFromString(mark.text()));
	EXPECT_EQ(watermark.application_identifier(), "main");
	EXPECT_EQ(watermark.commit_lsn(), 77U);
	EXPECT_EQ(watermark.commit_timestamp(), 1);
}

/* What a package begins with is written into both markers, and a column into the schema, as it is. */
TEST(Wire, SharedFields)
{
	TestBuffer column(64);
	TestBuffer header(256);

	{
		Wire wire(&column);
		wire.string_field(siphon::field::kName, "id");
		wire.varint_field(siphon::field::kTypeOid, 20);
		wire.string_field(siphon::field::kTypeName, "bigint");
		wire.varint_field(siphon::field::kKey, 1);
		wire.varint_field(siphon::field::kAttnum, 7);
		wire.bytes_field(siphon::field::kExistingRows, "\x10\x02", 2);
		wire.string_field(siphon::field::kBaseTypeName, "numeric(10,2)");
		wire.varint_field(siphon::field::kBaseTypeOid, 1700);
		wire.commit();
	}
	{
		Wire wire(&header);
		wire.string_field(siphon::field::kApplication, "main");
		wire.string_field(siphon::field::kSchema, "public");
		wire.string_field(siphon::field::kTable, "issues");
		wire.varint_field(siphon::field::kGeneration, 5);
		wire.varint_field(siphon::field::kTableOid, 16384);
		wire.varint_field(siphon::field::kGenerationStart, static_cast<uint64_t>(GenerationStart::Changes));
		wire.fixed64_field(siphon::field::kFingerprint, 9);
		wire.bytes_field(siphon::field::kColumns, column.data, column.size);
		wire.commit();
	}

	siphon::v1::Package package;
	siphon::v1::SnapshotBegin begin;
	siphon::v1::SnapshotEnd end;
	siphon::v1::ColumnSchema schema;
	auto same = [](const auto &marker) {
		EXPECT_EQ(marker.application_identifier(), "main");
		EXPECT_EQ(marker.schema(), "public");
		EXPECT_EQ(marker.table(), "issues");
		EXPECT_EQ(marker.generation(), 5U);
		EXPECT_EQ(marker.table_oid(), 16384U);
		EXPECT_EQ(marker.schema_fingerprint(), 9U);
		ASSERT_EQ(marker.columns_size(), 1);
		EXPECT_EQ(marker.columns(0).attnum(), 7U);
		EXPECT_EQ(marker.columns(0).existing_rows().integer(), 1);
		EXPECT_EQ(marker.columns(0).base_type_name(), "numeric(10,2)");
		EXPECT_EQ(marker.columns(0).base_type_oid(), 1700U);
		EXPECT_EQ(marker.generation_start(), siphon::v1::GENERATION_START_CHANGES);
	};

	ASSERT_TRUE(package.ParseFromString(header.text()));
	ASSERT_TRUE(begin.ParseFromString(header.text()));
	ASSERT_TRUE(end.ParseFromString(header.text()));
	same(package);
	same(begin);
	same(end);
	EXPECT_EQ(begin.ByteSizeLong(), header.size) << "a marker has unknown fields";
	EXPECT_EQ(end.ByteSizeLong(), header.size) << "a marker has unknown fields";
	EXPECT_EQ(end.xmin() + end.xmax() + end.snapshot_lsn(), 0U) << "a field of a package is another one of the marker";

	ASSERT_TRUE(schema.ParseFromString(column.text()));
	EXPECT_EQ(schema.ByteSizeLong(), column.size) << "a column of the schema has unknown fields";
	EXPECT_EQ(schema.name() + schema.type_name(), "idbigint");
	EXPECT_EQ(schema.type_oid(), 20U);
	EXPECT_TRUE(schema.key());
	EXPECT_EQ(schema.attnum(), 7U);
	EXPECT_EQ(schema.existing_rows().integer(), 1);
	EXPECT_EQ(schema.base_type_name(), "numeric(10,2)");
	EXPECT_EQ(schema.base_type_oid(), 1700U);
	EXPECT_FALSE(schema.nullable() || schema.generated() || schema.identity());
	EXPECT_EQ(static_cast<int>(GenerationStart::Snapshot), siphon::v1::GENERATION_START_SNAPSHOT);
	EXPECT_EQ(static_cast<int>(siphon::field::kSchemaGenerationStart), siphon::v1::TableSchema::kGenerationStartFieldNumber);
}

TEST(Wire, Message)
{
	TestBuffer buffer(128);
	Wire wire(&buffer);
	siphon::v1::Message message;

	wire.string_field(siphon::field::kMessageApplication, "main");
	wire.string_field(siphon::field::kMessagePrefix, "siphon.a");
	wire.bytes_field(siphon::field::kMessageContent, "\0\xff", 2);
	wire.fixed64_field(siphon::field::kMessageCommitLsn, 0x0000000003006AB8);
	wire.varint_field(siphon::field::kMessageOrdinal, 12);
	wire.varint_field(siphon::field::kMessageXid, 4294967295U);
	wire.sint_field(siphon::field::kMessageCommitTimestamp, -5);
	wire.varint_field(siphon::field::kMessageTransactional, 1);
	wire.commit();
	ASSERT_TRUE(message.ParseFromString(buffer.text()));
	EXPECT_EQ(message.application_identifier(), "main");
	EXPECT_EQ(message.prefix(), "siphon.a");
	EXPECT_EQ(message.content(), std::string("\0\xff", 2));
	EXPECT_EQ(message.commit_lsn(), 0x0000000003006AB8U);
	EXPECT_EQ(message.ordinal(), 12U);
	EXPECT_EQ(message.xid(), 4294967295U);
	EXPECT_EQ(message.commit_timestamp(), -5);
	EXPECT_TRUE(message.transactional());
}

} // namespace
