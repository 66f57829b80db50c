/*
 * Events as lines of JSON, for people and for tests. Exactness first: integers are JSON numbers of any
 * size, what JSON can't hold exactly (numeric, json, infinities) is a string as PostgreSQL prints it. Lists are nested
 * arrays. Where a lower bound is not 1, the first element says so: [{"bounds":"[0:1][1:2]"},[1,2],[3,4]]. An element
 * that is itself a list is {"list":[...]}. No value of a column begins with a brace.
 */
#ifndef SIPHON_TAIL_JSON_H
#define SIPHON_TAIL_JSON_H

#include <cstdint>
#include <string>
#include <string_view>

#include "siphon.pb.h"

namespace siphon {

/*
 * Append one line each. Throw std::runtime_error where the values don't fit the columns; what was
 * appended by then is to be thrown away.
 */
void append_event(std::string *out, const v1::Package &package, const v1::Event &event);
void append_watermark(std::string *out, const v1::Watermark &watermark);
void append_message(std::string *out, const v1::Message &message);
/* Markers, as they stand on the subject of a partition. */
void append_marker(std::string *out, const v1::SnapshotBegin &marker, uint32_t partition);
void append_marker(std::string *out, const v1::SnapshotEnd &marker, uint32_t partition);

/* A table's columns, and how its generation begins: on the subject of a partition, from here on. */
void append_column_list(std::string *out, const v1::Package &package);
void append_column_list(std::string *out, const v1::SnapshotBegin &marker, uint32_t partition);
void append_column_list(std::string *out, const v1::SnapshotEnd &marker, uint32_t partition);

/* A value, and a string with its quotes. */
void append_value(std::string *out, const v1::Value &value);
void append_string(std::string *out, std::string_view text);

} // namespace siphon

#endif
