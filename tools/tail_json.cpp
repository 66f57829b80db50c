/* See tail_json.h. */
#include "tools/tail_json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "reader/datetime.h"
#include "reader/subject.h"

namespace siphon {

void
append_string(std::string *out, std::string_view text)
{
	static constexpr char digits[] = "0123456789abcdef";

	*out += '"';
	for (char c : text)
	{
		switch (c)
		{
			case '"':
				*out += "\\\"";
				break;
			case '\\':
				*out += "\\\\";
				break;
			case '\n':
				*out += "\\n";
				break;
			case '\r':
				*out += "\\r";
				break;
			case '\t':
				*out += "\\t";
				break;
			default:
				if (static_cast<unsigned char>(c) < 0x20)
				{
					*out += "\\u00";
					*out += digits[static_cast<unsigned char>(c) >> 4];
					*out += digits[c & 15];
				}
				else
					*out += c;
		}
	}
	*out += '"';
}

template <typename Number>
static void
append_number(std::string *out, Number number)
{
	char buffer[64];
	auto result = std::to_chars(buffer, buffer + sizeof(buffer), number);

	out->append(buffer, result.ptr);
}

/* The shortest text that reads back as the same number. */
template <typename Float>
static void
append_float(std::string *out, Float number)
{
	if (std::isnan(number))
		*out += "\"NaN\"";
	else if (std::isinf(number))
		*out += number > 0 ? "\"Infinity\"" : "\"-Infinity\"";
	else
		append_number(out, number);
}

static void
append_bytes(std::string *out, std::string_view bytes)
{
	static constexpr char digits[] = "0123456789abcdef";

	*out += "\"\\\\x";
	for (char c : bytes)
	{
		*out += digits[static_cast<unsigned char>(c) >> 4];
		*out += digits[c & 15];
	}
	*out += '"';
}

/* PostgreSQL's own limit; whoever writes more must not take the stack. */
constexpr int kMaxDimensions = 6;

/* Elements from `*next` on as nested arrays, the dimensions from `dimension` on. */
static void
append_elements(std::string *out, const v1::List &list, int dimension, int *next)
{
	int count = list.dimensions_size() ? static_cast<int>(list.dimensions(dimension).length()) : list.values_size();

	for (int i = 0; i < count; i++)
	{
		if (out->back() != '[')
			*out += ',';
		if (dimension + 1 < list.dimensions_size())
		{
			*out += '[';
			append_elements(out, list, dimension + 1, next);
			*out += ']';
			continue;
		}

		const v1::Value &value = list.values((*next)++);
		bool nested = value.kind_case() == v1::Value::kList;

		*out += nested ? "{\"list\":" : "";
		append_value(out, value);
		*out += nested ? "}" : "";
	}
}

/* Lower bounds other than 1 come first: [{"bounds":"[0:1]"},7,8], as PostgreSQL writes them. */
static void
append_list(std::string *out, const v1::List &list)
{
	std::string bounds;
	uint64_t count = 1;
	bool plain = true;
	int next = 0;

	for (const v1::Dimension &dimension : list.dimensions())
	{
		int64_t lower = dimension.lower_bound();

		bounds += '[' + std::to_string(lower) + ':' + std::to_string(lower + dimension.length() - 1) + ']';
		plain = plain && lower == 1;
		/* Neither more than there are values, nor an overflow. */
		count = std::min(count * dimension.length(), static_cast<uint64_t>(UINT32_MAX));
	}
	if (list.dimensions_size() > kMaxDimensions ||
		(list.dimensions_size() && (count == 0 || count != static_cast<uint64_t>(list.values_size()))))
		throw std::runtime_error("a list of " + std::to_string(list.values_size()) + " values with bounds " + bounds);
	*out += '[';
	if (!plain)
		*out += "{\"bounds\":\"" + bounds + "\"}";
	append_elements(out, list, 0, &next);
	*out += ']';
}

void
append_value(std::string *out, const v1::Value &value)
{
	switch (value.kind_case())
	{
		case v1::Value::kNull:
			*out += "null";
			return;
		case v1::Value::kInteger:
			append_number(out, value.integer());
			return;
		case v1::Value::kUnsigned:
			append_number(out, value.unsigned_());
			return;
		case v1::Value::kFloat:
			append_float(out, value.float_());
			return;
		case v1::Value::kDouble:
			append_float(out, value.double_());
			return;
		case v1::Value::kBoolean:
			*out += value.boolean() ? "true" : "false";
			return;
		case v1::Value::kString:
			append_string(out, value.string());
			return;
		case v1::Value::kBytes:
			append_bytes(out, value.bytes());
			return;
		case v1::Value::kNumeric:
			append_string(out, value.numeric());
			return;
		case v1::Value::kDate:
			append_string(out, format_date(value.date()));
			return;
		case v1::Value::kTime:
			append_string(out, format_time(value.time()));
			return;
		case v1::Value::kTimestamp:
			append_string(out, format_timestamp(value.timestamp(), false));
			return;
		case v1::Value::kTimestamptz:
			append_string(out, format_timestamp(value.timestamptz(), true));
			return;
		case v1::Value::kUuid:
			append_string(out, value.uuid());
			return;
		case v1::Value::kJson:
			append_string(out, value.json());
			return;
		case v1::Value::kList:
			append_list(out, value.list());
			return;
		case v1::Value::kUnchangedToast:
		case v1::Value::KIND_NOT_SET:
			break;
	}
	throw std::runtime_error("a value without a kind that can be printed");
}

static void
append_key(std::string *out, std::string_view key)
{
	if (out->back() != '{')
		*out += ',';
	append_string(out, key);
	*out += ':';
}

static void
append_field(std::string *out, std::string_view key, std::string_view value)
{
	append_key(out, key);
	append_string(out, value);
}

/* The new row; columns that the WAL does not hold are named apart. */
static void
append_columns(std::string *out, const v1::Package &package, const v1::Event &event)
{
	if (event.values_size() != package.columns_size())
		throw std::runtime_error("an event with " + std::to_string(event.values_size()) + " values for " +
								 std::to_string(package.columns_size()) + " columns");

	std::string unchanged;

	append_key(out, "columns");
	*out += '{';
	for (int i = 0; i < event.values_size(); i++)
	{
		if (event.values(i).kind_case() == v1::Value::kUnchangedToast)
		{
			unchanged += unchanged.empty() ? "" : ",";
			append_string(&unchanged, package.columns(i).name());
			continue;
		}
		append_key(out, package.columns(i).name());
		append_value(out, event.values(i));
	}
	*out += '}';
	if (!unchanged.empty())
	{
		append_key(out, "unchanged");
		*out += '[' + unchanged + ']';
	}
}

/* What the event says of the old row: the key, or all of it. The number of values tells. */
static void
append_old(std::string *out, const v1::Package &package, const v1::Event &event)
{
	int keys = 0;

	for (const v1::Column &column : package.columns())
		keys += column.key() ? 1 : 0;

	bool whole = event.old_values_size() == package.columns_size();

	if (!whole && event.old_values_size() != keys)
		throw std::runtime_error("an event with " + std::to_string(event.old_values_size()) + " old values for " +
								 std::to_string(keys) + " key columns of " + std::to_string(package.columns_size()));

	int next = 0;

	append_key(out, "old");
	*out += '{';
	for (const v1::Column &column : package.columns())
	{
		if (!whole && !column.key())
			continue;
		append_key(out, column.name());
		append_value(out, event.old_values(next++));
	}
	*out += '}';
}

static void
append_detached(std::string *out, const v1::Event &event)
{
	append_field(out, "detached", event.detached());
	append_key(out, "detached_bounds");
	*out += '[';
	for (int i = 0; i < event.detached_bounds_size(); i++)
	{
		if (i > 0)
			*out += ',';
		append_string(out, event.detached_bounds(i));
	}
	*out += ']';
}

/* What all lines about a table begin with. */
template <typename Body>
static void
append_table(std::string *out, const Body &body, uint32_t partition, std::string_view operation)
{
	*out += '{';
	append_field(out, "application", body.application_identifier());
	append_field(out, "schema", body.schema());
	append_field(out, "table", body.table());
	if (partition != 0)
	{
		append_key(out, "partition");
		append_number(out, partition);
	}
	append_field(out, "operation", operation);
	if (body.generation() != 0)
	{
		append_key(out, "generation");
		append_number(out, body.generation());
	}
}

/* One that is not known, as its number. */
static std::string
name_of(v1::Operation operation)
{
	const std::string &name = v1::Operation_Name(operation);

	return name.empty() ? std::to_string(static_cast<int>(operation)) : name;
}

void
append_event(std::string *out, const v1::Package &package, const v1::Event &event)
{
	append_table(out, package, package.partition(), name_of(event.operation()));
	append_field(out, "position", format_position(event.commit_lsn(), event.ordinal()));
	append_field(out, "timestamp", format_timestamp(event.commit_timestamp(), true, true));
	append_key(out, "xid");
	append_number(out, event.xid());
	if (!event.origin().empty())
		append_field(out, "origin", event.origin());
	if (event.values_size() > 0 || event.operation() == v1::INSERT || event.operation() == v1::UPDATE)
		append_columns(out, package, event);
	if (event.old_values_size() > 0)
		append_old(out, package, event);
	if (event.operation() == v1::DETACH)
		append_detached(out, event);
	if (event.operation() == v1::RENAME)
	{
		append_field(out, "new_schema", event.new_schema());
		append_field(out, "new_table", event.new_table());
	}
	*out += "}\n";
}

void
append_watermark(std::string *out, const v1::Watermark &watermark)
{
	*out += '{';
	append_field(out, "application", watermark.application_identifier());
	append_field(out, "operation", "WATERMARK");
	append_field(out, "position", format_position(watermark.commit_lsn(), 0));
	append_field(out, "timestamp", format_timestamp(watermark.commit_timestamp(), true, true));
	if (watermark.held_tables_size() > 0)
	{
		append_key(out, "held_tables");
		*out += '[';
		for (const std::string &table : watermark.held_tables())
		{
			if (out->back() != '[')
				*out += ',';
			append_string(out, table);
		}
		*out += ']';
	}
	if (watermark.held_size() > 0)
	{
		append_key(out, "held");
		*out += '[';
		for (const v1::HeldTable &table : watermark.held())
		{
			*out += out->back() == '[' ? "{" : ",{";
			append_field(out, "schema", table.schema());
			append_field(out, "table", table.table());
			*out += '}';
		}
		*out += ']';
	}
	*out += "}\n";
}

/* Its name without what all values of the enum begin with; one that is not known, as its number. */
static std::string
name_of(v1::GenerationStart start)
{
	static constexpr std::string_view prefix = "GENERATION_START_";
	std::string name = v1::GenerationStart_Name(start);

	return name.empty() ? std::to_string(static_cast<int>(start)) : name.substr(prefix.size());
}

static void
append_column(std::string *out, const v1::Column &column)
{
	*out += out->back() == '[' ? "{" : ",{";
	append_field(out, "name", column.name());
	append_key(out, "attnum");
	append_number(out, column.attnum());
	append_field(out, "type", column.type_name());
	append_key(out, "type_oid");
	append_number(out, column.type_oid());
	if (column.base_type_oid() != 0)
		append_field(out, "base_type", column.base_type_name());
	if (column.key())
	{
		append_key(out, "key");
		*out += "true";
	}
	if (column.has_existing_rows())
	{
		append_key(out, "existing_rows");
		append_value(out, column.existing_rows());
	}
	*out += '}';
}

template <typename Body>
static void
append_columns_of(std::string *out, const Body &body, uint32_t partition)
{
	append_table(out, body, partition, "COLUMNS");
	append_key(out, "table_oid");
	append_number(out, body.table_oid());
	if (body.generation_start() != v1::GENERATION_START_UNSPECIFIED)
		append_field(out, "generation_start", name_of(body.generation_start()));
	append_key(out, "columns");
	*out += '[';
	for (const v1::Column &column : body.columns())
		append_column(out, column);
	*out += "]}\n";
}

void
append_column_list(std::string *out, const v1::Package &package)
{
	append_columns_of(out, package, package.partition());
}

void
append_column_list(std::string *out, const v1::SnapshotBegin &marker, uint32_t partition)
{
	append_columns_of(out, marker, partition);
}

void
append_column_list(std::string *out, const v1::SnapshotEnd &marker, uint32_t partition)
{
	append_columns_of(out, marker, partition);
}

static bool
is_utf8(const std::string &text)
{
	try
	{
		static_cast<void>(nlohmann::json(text).dump());
		return true;
	}
	catch (const nlohmann::json::type_error &)
	{
		return false;
	}
}

/* Content that is not text is printed as bytea is, under another name. */
void
append_message(std::string *out, const v1::Message &message)
{
	*out += '{';
	append_field(out, "application", message.application_identifier());
	append_field(out, "operation", "MESSAGE");
	append_field(out, "prefix", message.prefix());
	append_field(out, "position", format_position(message.commit_lsn(), message.ordinal()));
	if (message.transactional())
	{
		append_field(out, "timestamp", format_timestamp(message.commit_timestamp(), true, true));
		append_key(out, "xid");
		append_number(out, message.xid());
	}
	append_key(out, "transactional");
	*out += message.transactional() ? "true" : "false";
	if (is_utf8(message.content()))
		append_field(out, "content", message.content());
	else
	{
		append_key(out, "bytes");
		append_bytes(out, message.content());
	}
	*out += "}\n";
}

void
append_marker(std::string *out, const v1::SnapshotBegin &marker, uint32_t partition)
{
	append_table(out, marker, partition, "SNAPSHOT-BEGIN");
	append_key(out, "partitions");
	append_number(out, marker.partitions());
	append_key(out, "estimated_rows");
	append_number(out, marker.estimated_rows());
	*out += "}\n";
}

void
append_marker(std::string *out, const v1::SnapshotEnd &marker, uint32_t partition)
{
	if (partition >= static_cast<uint32_t>(marker.row_counts_size()))
		throw std::runtime_error("a marker without the number of rows of partition " + std::to_string(partition));
	append_table(out, marker, partition, "SNAPSHOT-END");
	append_key(out, "rows");
	append_number(out, marker.row_counts(static_cast<int>(partition)));
	append_field(out, "snapshot_lsn", format_lsn(marker.snapshot_lsn()));
	*out += "}\n";
}

} // namespace siphon
