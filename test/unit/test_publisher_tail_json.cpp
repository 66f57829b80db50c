/* What siphon-tail prints, value by value and line by line. */
#include "reader/datetime.h"
#include "tools/tail_json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>

using namespace siphon;

namespace {

constexpr int64_t kSecond = 1000000;
constexpr int64_t kDay = 86400 * kSecond;

template <typename Set>
std::string
printed(Set set)
{
	v1::Value value;
	std::string out;

	set(value);
	append_value(&out, value);
	return out;
}

TEST(TailJson, Numbers)
{
	EXPECT_EQ(printed([](v1::Value &v) { v.set_integer(INT64_MIN); }), "-9223372036854775808");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_integer(9007199254740993); }), "9007199254740993");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_unsigned_(UINT64_MAX); }), "18446744073709551615");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_double_(0.1); }), "0.1");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_float_(0.1f); }), "0.1");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_double_(-0.0); }), "-0");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_double_(1e300); }), "1e+300");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_double_(std::nan("")); }), "\"NaN\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_double_(INFINITY); }), "\"Infinity\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_float_(-INFINITY); }), "\"-Infinity\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_numeric("123456789012345678901234567890.10"); }),
			  "\"123456789012345678901234567890.10\"");
}

TEST(TailJson, OtherValues)
{
	EXPECT_EQ(printed([](v1::Value &v) { v.set_null(true); }), "null");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_boolean(false); }), "false");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_boolean(true); }), "true");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_string("a\"b\\c\n\t\r\x01/ü"); }), "\"a\\\"b\\\\c\\n\\t\\r\\u0001/ü\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_string(""); }), "\"\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_bytes(std::string("\0\xff\x7f", 3)); }), "\"\\\\x00ff7f\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_bytes(""); }), "\"\\\\x\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_json("{\"a\": 1.0}"); }), "\"{\\\"a\\\": 1.0}\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_uuid("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"); }),
			  "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"");
	EXPECT_THROW(printed([](v1::Value &) {}), std::runtime_error);
}

/* A list of integers, with as many dimensions as there are pairs of length and lower bound. */
v1::List
integers(int count, std::initializer_list<std::pair<uint32_t, int32_t>> dimensions = {})
{
	v1::List list;

	for (int i = 1; i <= count; i++)
		list.add_values()->set_integer(i);
	for (const auto &[length, lower_bound] : dimensions)
	{
		v1::Dimension *dimension = list.add_dimensions();

		dimension->set_length(length);
		dimension->set_lower_bound(lower_bound);
	}
	return list;
}

std::string
printed_list(const v1::List &list)
{
	return printed([&](v1::Value &v) { *v.mutable_list() = list; });
}

TEST(TailJson, Lists)
{
	v1::List list = integers(1);

	EXPECT_EQ(printed_list({}), "[]");
	EXPECT_EQ(printed_list(integers(3)), "[1,2,3]");
	EXPECT_EQ(printed_list(integers(4, {{2, 1}, {2, 1}})), "[[1,2],[3,4]]");
	EXPECT_EQ(printed_list(integers(2, {{1, 1}, {2, 1}, {1, 1}})), "[[[1],[2]]]");
	EXPECT_EQ(printed_list(integers(2, {{2, -1}})), "[{\"bounds\":\"[-1:0]\"},1,2]");
	EXPECT_EQ(printed_list(integers(2, {{2, 1}, {1, INT32_MAX}})), "[{\"bounds\":\"[1:2][2147483647:2147483647]\"},[1],[2]]");
	list.add_values()->set_null(true);
	list.add_values()->set_string("a[\"");
	EXPECT_EQ(printed_list(list), "[1,null,\"a[\\\"\"]");
	list.clear_values();
	*list.add_values()->mutable_list() = integers(2);
	list.add_values()->mutable_list();
	EXPECT_EQ(printed_list(list), "[{\"list\":[1,2]},{\"list\":[]}]");
}

TEST(TailJson, ListsThatDoNotFitTheirDimensions)
{
	EXPECT_THROW(printed_list(integers(3, {{2, 1}, {2, 1}})), std::runtime_error);
	EXPECT_THROW(printed_list(integers(0, {{0, 1}})), std::runtime_error);
	EXPECT_THROW(printed_list(integers(0, {{UINT32_MAX, 1}, {UINT32_MAX, 1}, {UINT32_MAX, 1}})), std::runtime_error);
	EXPECT_THROW(printed_list(integers(1, {{1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}})), std::runtime_error);
}

TEST(TailJson, Dates)
{
	EXPECT_EQ(format_date(0), "1970-01-01");
	EXPECT_EQ(format_date(20455), "2026-01-02");
	EXPECT_EQ(format_date(-1), "1969-12-31");
	EXPECT_EQ(format_date(11016), "2000-02-29");
	EXPECT_EQ(format_date(-25509), "1900-02-28");
	EXPECT_EQ(format_date(-25508), "1900-03-01"); /* no leap year */
	EXPECT_EQ(format_date(-719162), "0001-01-01");
	EXPECT_EQ(format_date(-719163), "0001-12-31 BC");
	EXPECT_EQ(format_date(-735160), "0044-03-15 BC");
	/* PostgreSQL's own limits. */
	EXPECT_EQ(format_date(-2440588), "4714-11-24 BC");
	EXPECT_EQ(format_date(2145042905), "5874897-12-31");
	EXPECT_EQ(format_date(2932897), "10000-01-01");
	EXPECT_EQ(format_date(INT32_MAX), "infinity");
	EXPECT_EQ(format_date(INT32_MIN), "-infinity");
}

TEST(TailJson, Times)
{
	EXPECT_EQ(format_time(0), "00:00:00");
	EXPECT_EQ(format_time(kDay), "24:00:00");
	EXPECT_EQ(format_time(kDay - 1), "23:59:59.999999");
	EXPECT_EQ(format_time(3661 * kSecond + 500000), "01:01:01.5");
	EXPECT_EQ(format_time(10), "00:00:00.00001");
}

TEST(TailJson, Timestamps)
{
	EXPECT_EQ(format_timestamp(0, true), "1970-01-01T00:00:00Z");
	EXPECT_EQ(format_timestamp(1767323045123456, true), "2026-01-02T03:04:05.123456Z");
	EXPECT_EQ(format_timestamp(1767323045100000, false), "2026-01-02T03:04:05.1");
	EXPECT_EQ(format_timestamp(1767323045100000, true, true), "2026-01-02T03:04:05.100000Z");
	EXPECT_EQ(format_timestamp(-1, false), "1969-12-31T23:59:59.999999");
	EXPECT_EQ(format_timestamp(-719163 * kDay + 43200 * kSecond, false), "0001-12-31T12:00:00 BC");
	EXPECT_EQ(format_timestamp(-719163 * kDay, true), "0001-12-31T00:00:00Z BC");
	EXPECT_EQ(format_timestamp(INT64_MAX, true), "infinity");
	EXPECT_EQ(format_timestamp(INT64_MIN, false), "-infinity");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_timestamp(0); }), "\"1970-01-01T00:00:00\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_timestamptz(0); }), "\"1970-01-01T00:00:00Z\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_timestamptz(INT64_MAX); }), "\"infinity\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_date(0); }), "\"1970-01-01\"");
	EXPECT_EQ(printed([](v1::Value &v) { v.set_time(0); }), "\"00:00:00\"");
}

class TailLine : public ::testing::Test
{
protected:
	TailLine()
	{
		package.set_application_identifier("main");
		package.set_schema("public");
		package.set_table("issues");
		package.add_columns()->set_name("title");
		v1::Column *id = package.add_columns();
		id->set_name("id");
		id->set_key(true);
		event.set_commit_lsn(0x16B3748);
		event.set_ordinal(3);
		event.set_xid(742);
		event.set_commit_timestamp(1767323045123456);
	}
	std::string line()
	{
		std::string out;

		append_event(&out, package, event);
		return out;
	}

	const std::string head = "{\"application\":\"main\",\"schema\":\"public\",\"table\":\"issues\",";
	const std::string middle =
		",\"position\":\"00000000016B3748/3\",\"timestamp\":\"2026-01-02T03:04:05.123456Z\",\"xid\":742";
	v1::Package package;
	v1::Event event;
};

TEST_F(TailLine, Insert)
{
	event.set_operation(v1::INSERT);
	event.add_values()->set_string("My issue");
	event.add_values()->set_integer(12);
	EXPECT_EQ(line(), head + "\"operation\":\"INSERT\"" + middle + ",\"columns\":{\"title\":\"My issue\",\"id\":12}}\n");
	package.set_partition(5);
	EXPECT_NE(line().find("\"table\":\"issues\",\"partition\":5,\"operation\""), std::string::npos);
	event.set_origin("pg_16412");
	EXPECT_NE(line().find("\"xid\":742,\"origin\":\"pg_16412\",\"columns\""), std::string::npos);
}

TEST_F(TailLine, UpdateWithUnchangedToastAndOldKey)
{
	event.set_operation(v1::UPDATE);
	event.add_values()->set_unchanged_toast(true);
	event.add_values()->set_integer(13);
	event.add_old_values()->set_integer(12);
	EXPECT_EQ(line(), head + "\"operation\":\"UPDATE\"" + middle +
						  ",\"columns\":{\"id\":13},\"unchanged\":[\"title\"],\"old\":{\"id\":12}}\n");
}

TEST_F(TailLine, DeleteWithWholeOldRow)
{
	event.set_operation(v1::DELETE);
	event.add_old_values()->set_null(true);
	event.add_old_values()->set_integer(12);
	EXPECT_EQ(line(), head + "\"operation\":\"DELETE\"" + middle + ",\"old\":{\"title\":null,\"id\":12}}\n");
}

TEST_F(TailLine, Truncate)
{
	event.set_operation(v1::TRUNCATE);
	EXPECT_EQ(line(), head + "\"operation\":\"TRUNCATE\"" + middle + "}\n");
}

TEST_F(TailLine, Rename)
{
	event.set_operation(v1::RENAME);
	event.set_new_schema("s");
	event.set_new_table("new \"name\"");
	EXPECT_EQ(line(), head + "\"operation\":\"RENAME\"" + middle +
						  ",\"new_schema\":\"s\",\"new_table\":\"new \\\"name\\\"\"}\n");
}

TEST_F(TailLine, SnapshotRow)
{
	event.set_operation(v1::SNAPSHOT);
	package.set_generation(3);
	event.add_values()->set_null(true);
	event.add_values()->set_integer(12);
	EXPECT_EQ(line(), head + "\"operation\":\"SNAPSHOT\",\"generation\":3" + middle +
						  ",\"columns\":{\"title\":null,\"id\":12}}\n");
}

TEST_F(TailLine, UnknownOperation)
{
	event.set_operation(static_cast<v1::Operation>(99));
	EXPECT_EQ(line(), head + "\"operation\":\"99\"" + middle + "}\n");
}

TEST_F(TailLine, Columns)
{
	std::string out;

	package.set_table_oid(16384);
	package.set_generation(3);
	package.set_generation_start(v1::GENERATION_START_CHANGES);
	package.clear_columns();
	v1::Column *column = package.add_columns();
	column->set_name("id");
	column->set_attnum(2);
	column->set_type_name("price");
	column->set_type_oid(16390);
	column->set_base_type_name("numeric(10,2)");
	column->set_base_type_oid(1700);
	column->set_key(true);
	column = package.add_columns();
	column->set_name("tags");
	column->set_attnum(5);
	column->set_type_name("integer[]");
	column->set_type_oid(1007);
	column->mutable_existing_rows()->mutable_list()->add_values()->set_integer(1);

	const std::string columns =
		"\"columns\":[{\"name\":\"id\",\"attnum\":2,\"type\":\"price\",\"type_oid\":16390,"
		"\"base_type\":\"numeric(10,2)\",\"key\":true},"
		"{\"name\":\"tags\",\"attnum\":5,\"type\":\"integer[]\",\"type_oid\":1007,\"existing_rows\":[1]}]}\n";

	append_column_list(&out, package);
	EXPECT_EQ(out, head + "\"operation\":\"COLUMNS\",\"generation\":3,\"table_oid\":16384,"
						  "\"generation_start\":\"CHANGES\"," + columns);

	/* Of an earlier decoder. */
	out.clear();
	package.clear_generation_start();
	append_column_list(&out, package);
	EXPECT_EQ(out, head + "\"operation\":\"COLUMNS\",\"generation\":3,\"table_oid\":16384," + columns);

	/* Of a marker, on the subject of a partition. */
	v1::SnapshotBegin begin;

	begin.set_application_identifier("main");
	begin.set_schema("public");
	begin.set_table("issues");
	begin.set_partitions(8);
	begin.set_generation_start(v1::GENERATION_START_SNAPSHOT);
	out.clear();
	append_column_list(&out, begin, 7);
	EXPECT_EQ(out, "{\"application\":\"main\",\"schema\":\"public\",\"table\":\"issues\",\"partition\":7,"
				   "\"operation\":\"COLUMNS\",\"table_oid\":0,\"generation_start\":\"SNAPSHOT\",\"columns\":[]}\n");
}

TEST_F(TailLine, ValuesMustFitTheColumns)
{
	event.set_operation(v1::INSERT);
	event.add_values()->set_integer(12);
	EXPECT_THROW(line(), std::runtime_error);

	event.clear_values();
	event.set_operation(v1::DELETE);
	for (int i = 0; i < 3; i++)
		event.add_old_values()->set_integer(i);
	EXPECT_THROW(line(), std::runtime_error);
}

TEST(TailJsonWatermark, Line)
{
	v1::Watermark watermark;
	std::string out;

	watermark.set_application_identifier("main");
	watermark.set_commit_lsn(0x16B3748);
	append_watermark(&out, watermark);
	EXPECT_EQ(out, "{\"application\":\"main\",\"operation\":\"WATERMARK\",\"position\":\"00000000016B3748/0\","
				   "\"timestamp\":\"1970-01-01T00:00:00.000000Z\"}\n");
}

TEST(TailJsonWatermark, NamesHeldTables)
{
	v1::Watermark watermark;
	std::string out;

	watermark.add_held_tables("public.a");
	watermark.add_held_tables("public.b");
	append_watermark(&out, watermark);
	EXPECT_NE(out.find(",\"held_tables\":[\"public.a\",\"public.b\"]}\n"), std::string::npos) << out;
}

TEST(TailJsonWatermark, NamesHeldTablesPartByPart)
{
	v1::Watermark watermark;
	std::string out;

	for (const auto &[schema, table] : {std::pair("a.b", "c"), std::pair("a", "b.c")})
	{
		watermark.add_held_tables(std::string(schema) + "." + table);
		watermark.add_held()->set_schema(schema);
		watermark.mutable_held()->rbegin()->set_table(table);
	}
	append_watermark(&out, watermark);
	EXPECT_NE(out.find(",\"held_tables\":[\"a.b.c\",\"a.b.c\"],"
					   "\"held\":[{\"schema\":\"a.b\",\"table\":\"c\"},{\"schema\":\"a\",\"table\":\"b.c\"}]}\n"),
			  std::string::npos)
		<< out;
}

TEST(TailJsonMessage, Lines)
{
	const std::string head = "{\"application\":\"main\",\"operation\":\"MESSAGE\",\"prefix\":\"siphon.a\",";
	v1::Message message;
	std::string out;

	message.set_application_identifier("main");
	message.set_prefix("siphon.a");
	message.set_commit_lsn(0x16B3748);
	message.set_content("\"\xc3\xbc\"");
	append_message(&out, message);
	EXPECT_EQ(out, head + "\"position\":\"00000000016B3748/0\",\"transactional\":false,"
						  "\"content\":\"\\\"\xc3\xbc\\\"\"}\n");

	out.clear();
	message.set_ordinal(3);
	message.set_xid(700);
	message.set_transactional(true);
	message.set_content("\xff\x41");
	append_message(&out, message);
	EXPECT_EQ(out, head + "\"position\":\"00000000016B3748/3\",\"timestamp\":\"1970-01-01T00:00:00.000000Z\","
						  "\"xid\":700,\"transactional\":true,\"bytes\":\"\\\\xff41\"}\n");
}

TEST(TailJsonMarker, Lines)
{
	const std::string head = "{\"application\":\"main\",\"schema\":\"public\",\"table\":\"issues\",";
	v1::SnapshotBegin begin;
	v1::SnapshotEnd end;
	std::string out;

	begin.set_application_identifier("main");
	begin.set_schema("public");
	begin.set_table("issues");
	begin.set_generation(2);
	begin.set_partitions(2);
	begin.set_estimated_rows(-1);
	append_marker(&out, begin, 0);
	EXPECT_EQ(out, head + "\"operation\":\"SNAPSHOT-BEGIN\",\"generation\":2,\"partitions\":2,\"estimated_rows\":-1}\n");

	out.clear();
	end.set_application_identifier("main");
	end.set_schema("public");
	end.set_table("issues");
	end.set_generation(2);
	end.add_row_counts(7);
	end.add_row_counts(9);
	end.set_snapshot_lsn(0x16B3748);
	append_marker(&out, end, 1);
	EXPECT_EQ(out, head + "\"partition\":1,\"operation\":\"SNAPSHOT-END\",\"generation\":2,\"rows\":9,"
						  "\"snapshot_lsn\":\"00000000016B3748\"}\n");
	EXPECT_THROW(append_marker(&out, end, 2), std::runtime_error);
}

} // namespace
