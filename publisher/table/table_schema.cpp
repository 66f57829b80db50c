/* See table_schema.h. */
#include "publisher/table/table_schema.h"

#include <google/protobuf/util/json_util.h>
#include <nlohmann/json.hpp>

#include "publisher/stream/state_keys.h"
#include "siphon.pb.h"

namespace siphon {

static constexpr std::chrono::milliseconds kRetry{250};

std::optional<std::string>
schema_json(std::string_view payload)
{
	google::protobuf::util::JsonPrintOptions options;
	v1::TableSchema schema;
	std::string json;

	options.preserve_proto_field_names = true;
	if (!schema.ParseFromArray(payload.data(), static_cast<int>(payload.size())) ||
		!google::protobuf::util::MessageToJsonString(schema, &json, options).ok())
		return std::nullopt;
	return json;
}

bool
TableSchemas::retry_later(const std::string &why, Clock::time_point now)
{
	if (why.empty())
		return false;
	notice_.waiting(why, now);
	retry_ = now + kRetry;
	return false;
}

bool
TableSchemas::write(std::string_view schema, std::string_view table, const std::string &json, size_t body_limit,
					Clock::time_point now)
{
	std::string why;

	if (now < retry_)
		return false;
	if (json.size() > body_limit)
		spdlog::warn(
			"the schema of table {}.{} is not in the key-value bucket: {} bytes exceed the maximum size of a message",
			schema, table, json.size());
	else if (!states_.put(schema_key(schema, table), json, &why))
		return retry_later(why, now);
	notice_.over();
	return true;
}

static bool
is_of(const std::string &entry, uint32_t oid, uint32_t generation)
{
	nlohmann::json value = nlohmann::json::parse(entry, nullptr, false);

	return value.is_object() && value.value("oid", nlohmann::json()) == oid &&
		   value.value("generation", nlohmann::json(0)) <= nlohmann::json(generation);
}

bool
TableSchemas::find(std::string_view schema, std::string_view table, uint32_t oid, uint32_t generation, bool *own,
				   Clock::time_point now)
{
	std::optional<std::string> entry;
	std::string why;

	if (now < retry_)
		return false;
	if (!states_.get(schema_key(schema, table), false, &entry, &why))
		return retry_later(why, now);
	*own = entry && is_of(*entry, oid, generation);
	notice_.over();
	return true;
}

bool
TableSchemas::erase(std::string_view schema, std::string_view table, Clock::time_point now)
{
	std::string why;

	if (now < retry_)
		return false;
	if (!states_.erase(schema_key(schema, table), &why))
		return retry_later(why, now);
	notice_.over();
	return true;
}

} // namespace siphon
