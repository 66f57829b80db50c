/* See state_keys.h. */
#include "publisher/stream/state_keys.h"

#include <algorithm>

namespace siphon {

static void
append_key_token(std::string *key, std::string_view name)
{
	static constexpr char digits[] = "0123456789ABCDEF";

	for (char c : name)
	{
		unsigned char byte = static_cast<unsigned char>(c);

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-')
			*key += c;
		else
		{
			*key += '=';
			*key += digits[byte >> 4];
			*key += digits[byte & 15];
		}
	}
}

std::string
state_key(std::string_view schema, std::string_view table)
{
	std::string key;

	append_key_token(&key, schema);
	key += '.';
	append_key_token(&key, table);
	return key;
}

std::string
schema_key(std::string_view schema, std::string_view table)
{
	return state_key(schema, table) + ".schema";
}

bool
is_state_key(std::string_view key)
{
	return std::count(key.begin(), key.end(), '.') == 1;
}

bool
is_table_key(std::string_view key)
{
	return key.find('.') != std::string_view::npos;
}

} // namespace siphon
