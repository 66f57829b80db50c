/* See cursor.h. */
#include "reader/cursor.h"

#include <charconv>
#include <cstdio>

namespace siphon {

void
append_cursor(std::string *out, std::string_view name, const Cursor &cursor)
{
	char buffer[80];
	int length = snprintf(buffer, sizeof(buffer), "=%016llx:%llx:%u/%u", static_cast<unsigned long long>(cursor.epoch),
						  static_cast<unsigned long long>(cursor.position), cursor.part, cursor.total);

	if (!out->empty())
		*out += ';';
	*out += name;
	out->append(buffer, static_cast<size_t>(length));
}

/* Takes a number and what must follow it off the front of *rest. */
template <typename Number>
static bool
take(std::string_view *rest, Number *number, int base, char delimiter)
{
	const char *end = rest->data() + rest->size();
	auto result = std::from_chars(rest->data(), end, *number, base);

	if (result.ec != std::errc())
		return false;
	if (delimiter == '\0')
		return result.ptr == end;
	if (result.ptr == end || *result.ptr != delimiter)
		return false;
	rest->remove_prefix(static_cast<size_t>(result.ptr - rest->data()) + 1);
	return true;
}

Cursors
parse_cursors(std::string_view text)
{
	Cursors cursors;

	while (!text.empty())
	{
		size_t semicolon = text.find(';');
		std::string_view entry = text.substr(0, semicolon);
		size_t equals = entry.find('=');
		Cursor cursor{};

		text = semicolon == std::string_view::npos ? std::string_view() : text.substr(semicolon + 1);
		if (equals == std::string_view::npos || equals == 0)
			continue;

		std::string_view rest = entry.substr(equals + 1);

		if (take(&rest, &cursor.epoch, 16, ':') && take(&rest, &cursor.position, 16, ':') &&
			take(&rest, &cursor.part, 10, '/') && take(&rest, &cursor.total, 10, '\0') && cursor.part >= 1 &&
			cursor.part <= cursor.total)
			cursors.emplace(entry.substr(0, equals), cursor);
	}
	return cursors;
}

} // namespace siphon
