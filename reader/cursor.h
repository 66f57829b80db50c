/*
 * Where a log stands with every source of messages. Each message carries, in the header Siphon-Cursors, the last
 * message of each source in that log up to and with itself, so that whoever reads the log's last message knows from where
 * to go on in all of them:
 *
 *   decoder=<epoch, 16 hex digits>:<position, hex>:<part>/<total>;snapshot-16384-0=...
 *
 * A source whose messages are all known to be stored, because its ring is acknowledged up to there, is left out.
 */
#ifndef SIPHON_CURSOR_H
#define SIPHON_CURSOR_H

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace siphon {

constexpr const char kCursorsHeader[] = "Siphon-Cursors";
/* How many sources may be listed, so that the header stays within what is set aside for headers. */
constexpr size_t kMaxCursors = 48;
constexpr size_t kCursorSizeMax = 96;

/* A message of a source: the frame or record that it is of, and which of its messages. */
struct Cursor
{
	uint64_t epoch; /* another epoch is another source, whatever its name */
	uint64_t position;
	uint32_t part; /* from 1 */
	uint32_t total;

	bool last_part() const { return part == total; }
	bool operator==(const Cursor &) const = default;
};

using Cursors = std::map<std::string, Cursor>;

void append_cursor(std::string *out, std::string_view name, const Cursor &cursor);
/* Leaves out what is not written as above. */
Cursors parse_cursors(std::string_view text);

} // namespace siphon

#endif
