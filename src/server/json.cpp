/*
 * A JSON reader by recursive descent: see json.h.
 */
#include "json.h"

/* Ours is not nested deeper. */
static constexpr int kDepth = 8;

static Json *parse_value(char **at, int depth);

static void
skip_space(char **at)
{
	while (**at == ' ' || **at == '\n' || **at == '\t' || **at == '\r')
		(*at)++;
}

/* Goes on behind this character, if it comes next. */
static bool
skip_character(char **at, char c)
{
	skip_space(at);
	if (**at != c)
		return false;
	(*at)++;
	return true;
}

/* What \u00XX stands for, 0 if it is not ASCII: only control characters are written like that. */
static char
parse_unicode(const char *digits)
{
	char text[5];
	char *end;
	unsigned long code;

	strlcpy(text, digits, sizeof(text));
	code = strtoul(text, &end, 16);
	return end == text + 4 && code < 0x80 ? static_cast<char>(code) : '\0';
}

/* Behind the quote that opens it. Characters that were escaped are put back in place. */
static const char *
parse_string(char **at)
{
	static const char escaped[] = "\"\\/bfnrt";
	static const char meant[] = "\"\\/\b\f\n\r\t";
	const char *start = *at;
	char *to = *at;
	char *from = *at;

	for (; *from != '"'; from++)
	{
		const char *found;

		if (*from == '\0')
			return nullptr;
		if (*from != '\\')
		{
			*to++ = *from;
			continue;
		}
		from++;
		if (*from == 'u')
		{
			*to = parse_unicode(from + 1);
			if (*to++ == '\0')
				return nullptr;
			from += 4;
			continue;
		}
		found = *from ? strchr(escaped, *from) : nullptr;
		if (found == nullptr)
			return nullptr;
		*to++ = meant[found - escaped];
	}
	*to = '\0';
	*at = from + 1;
	return start;
}

/* Behind the bracket that opens it. */
static bool
parse_items(Json *parent, char **at, int depth)
{
	bool object = parent->kind == JsonKind::Object;
	char close = object ? '}' : ']';
	Json **end = &parent->first;

	if (depth == kDepth)
		return false;
	if (skip_character(at, close))
		return true;
	do
	{
		const char *key = nullptr;

		if (object && (!skip_character(at, '"') || (key = parse_string(at)) == nullptr || !skip_character(at, ':')))
			return false;
		*end = parse_value(at, depth + 1);
		if (*end == nullptr)
			return false;
		(*end)->key = key;
		end = &(*end)->next;
	} while (skip_character(at, ','));
	return skip_character(at, close);
}

static bool
parse_number(Json *value, char **at)
{
	char *end;

	errno = 0;
	value->number = strtoll(*at, &end, 10);
	if (errno != 0 || end == *at)
		return false;
	*at = end;
	return true;
}

static Json *
parse_value(char **at, int depth)
{
	Json *value = static_cast<Json *>(palloc0(sizeof(Json)));
	bool good;

	if (skip_character(at, '{'))
	{
		value->kind = JsonKind::Object;
		good = parse_items(value, at, depth);
	}
	else if (skip_character(at, '['))
	{
		value->kind = JsonKind::Array;
		good = parse_items(value, at, depth);
	}
	else if (skip_character(at, '"'))
	{
		value->kind = JsonKind::String;
		value->text = parse_string(at);
		good = value->text != nullptr;
	}
	else
	{
		value->kind = JsonKind::Number;
		good = parse_number(value, at);
	}
	return good ? value : nullptr;
}

Json *
json_parse(char *text)
{
	Json *value = parse_value(&text, 0);

	skip_space(&text);
	return *text == '\0' ? value : nullptr;
}

const Json *
json_member(const Json *object, const char *key)
{
	for (const Json *item = object->first; item; item = item->next)
		if (strcmp(item->key, key) == 0)
			return item;
	return nullptr;
}
