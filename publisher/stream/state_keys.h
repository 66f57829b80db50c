/*
 * Keys of tables in the state store. Consumers find a table's schema by them, so they are part of the contract with
 * consumers (docs/consumers.md). A key with a dot is a table's; keys without one are for other things.
 *
 * A key can't hold what isn't a letter, a digit, "_" or "-": such bytes of a name are "=" and two upper-case hex digits.
 */
#ifndef SIPHON_STREAM_STATE_KEYS_H
#define SIPHON_STREAM_STATE_KEYS_H

#include <string>
#include <string_view>

namespace siphon {

/* Returns the key of a table's state: <schema>.<table>. */
std::string state_key(std::string_view schema, std::string_view table);
/* Returns the key of a table's schema: <schema>.<table>.schema. */
std::string schema_key(std::string_view schema, std::string_view table);
/* It is the key of a table's state: it has one dot. */
bool is_state_key(std::string_view key);
/* It is the key of a table's state or schema. */
bool is_table_key(std::string_view key);

} // namespace siphon

#endif
