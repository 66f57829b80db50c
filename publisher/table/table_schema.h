/*
 * Schemas of tables in the key-value bucket, where consumers that start find them: as JSON, which every language reads.
 * An entry is there before the first package that uses it, and goes when the table has come to its end under the name.
 */
#ifndef SIPHON_TABLE_SCHEMA_H
#define SIPHON_TABLE_SCHEMA_H

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "program/log.h"
#include "publisher/stream/state_store.h"

namespace siphon {

/* The JSON form of a siphon.v1.TableSchema. nullopt: it is none. */
std::optional<std::string> schema_json(std::string_view payload);

class TableSchemas
{
public:
	using Clock = std::chrono::steady_clock;

	explicit TableSchemas(StateStore *states) : states_(*states) {}

	/* These three are repeated until they are true. */
	/* body_limit: more bytes than these the state store does not take; then there is a warning instead. */
	bool write(std::string_view schema, std::string_view table, const std::string &json, size_t body_limit,
			   Clock::time_point now);
	/* own: there is an entry, and not of another table by now, or of a later generation. */
	bool find(std::string_view schema, std::string_view table, uint32_t oid, uint32_t generation, bool *own,
			  Clock::time_point now);
	bool erase(std::string_view schema, std::string_view table, Clock::time_point now);

private:
	bool retry_later(const std::string &why, Clock::time_point now);

	StateStore &states_;
	Clock::time_point retry_{};
	WaitNotice notice_;
};

} // namespace siphon

#endif
