/*
 * A table's schema in the key-value bucket, where consumers that start find it: as JSON, which every language reads.
 */
#ifndef SIPHON_TABLE_SCHEMA_H
#define SIPHON_TABLE_SCHEMA_H

#include <optional>
#include <string>
#include <string_view>

namespace siphon {

/* The JSON form of a siphon.v1.TableSchema. nullopt: it is none. */
std::optional<std::string> schema_json(std::string_view payload);

/* Its key in the bucket: that of the table's state, and ".schema". */
std::string schema_key(std::string_view schema, std::string_view table);

} // namespace siphon

#endif
