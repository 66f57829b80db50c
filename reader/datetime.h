/*
 * Dates and times of the wire format as PostgreSQL's ISO style writes them, years before Christ included.
 */
#ifndef SIPHON_DATETIME_H
#define SIPHON_DATETIME_H

#include <cstdint>
#include <string>

namespace siphon {

/* Days since 1970-01-01: "2026-01-02", "0044-03-15 BC", "infinity". */
std::string format_date(int32_t days);

/* Microseconds since midnight: "04:05:06.789", "24:00:00". */
std::string format_time(int64_t microseconds);

/*
 * Microseconds since 1970-01-01 00:00:00: "2026-01-02T03:04:05.6"; utc adds "Z"; all_digits keeps the
 * fraction's trailing zeros.
 */
std::string format_timestamp(int64_t microseconds, bool utc, bool all_digits = false);

} // namespace siphon

#endif
