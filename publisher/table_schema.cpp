/* See table_schema.h. */
#include "table_schema.h"

#include <google/protobuf/util/json_util.h>

#include "siphon.pb.h"
#include "table_state.h"

namespace siphon {

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

std::string
schema_key(std::string_view schema, std::string_view table)
{
	return state_key(schema, table) + ".schema";
}

} // namespace siphon
