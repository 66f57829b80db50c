/*
 * jsonb as text: see jsonb_text.h. The format is described in PostgreSQL's jsonb.h: a container is a header, an entry
 * of 32 bits for each key and value, and then these. An entry has its item's length, or, now and then, its end.
 */
#include "jsonb_text.h"

#include "numeric_text.h"

extern "C" {
#include "utils/jsonb.h"
}

using siphon::WireBuffer;

/* Each takes a frame of the stack. */
static constexpr int kDepth = 200;

static bool write_container(WireBuffer *out, const char *container, int depth);

static uint32
load(const char *at)
{
	uint32 number;

	memcpy(&number, at, sizeof(number));
	return number;
}

/* Appends to what was reserved. */
static void
put(WireBuffer *out, const char *data, size_t length)
{
	memcpy(out->data + out->size, data, length);
	out->size += length;
}

static void
write_literal(WireBuffer *out, const char *text, size_t length)
{
	buffer_reserve(out, length);
	put(out, text, length);
}

/* Does each of the eight bytes stand for itself in a JSON string? */
static bool
plain_word(uint64 word)
{
	constexpr uint64 ones = UINT64CONST(0x0101010101010101);
	constexpr uint64 tops = UINT64CONST(0x8080808080808080);
	uint64 quotes = word ^ (ones * '"');
	uint64 backslashes = word ^ (ones * '\\');

	/* Is any byte below a space, or does it become zero? */
	return ((((word - ones * ' ') & ~word) | ((quotes - ones) & ~quotes) | ((backslashes - ones) & ~backslashes)) &
			tops) == 0;
}

/* How many bytes at the beginning stand for themselves. */
static size_t
plain_length(const char *text, size_t length)
{
	size_t i = 0;
	uint64 word;

	for (; i + sizeof(word) <= length; i += sizeof(word))
	{
		memcpy(&word, text + i, sizeof(word));
		if (!plain_word(word))
			break;
	}
	/* Once more the last eight bytes, or the first and last four: most strings are short. */
	if (i + sizeof(word) > length)
	{
		uint32 halves[2];

		if (length >= sizeof(word))
			memcpy(&word, text + length - sizeof(word), sizeof(word));
		else if (length >= sizeof(uint32))
		{
			memcpy(&halves[0], text, sizeof(uint32));
			memcpy(&halves[1], text + length - sizeof(uint32), sizeof(uint32));
			memcpy(&word, halves, sizeof(word));
		}
		else
			word = 0;
		if (plain_word(word))
			return length;
	}
	while (i < length && static_cast<unsigned char>(text[i]) >= ' ' && text[i] != '"' && text[i] != '\\')
		i++;
	return i;
}

static size_t
escape(char *out, char c)
{
	static const char escaped[] = "\"\\\b\f\n\r\t";
	static const char letters[] = "\"\\bfnrt";
	static const char hex[] = "0123456789abcdef";
	const char *found = c ? strchr(escaped, c) : nullptr;

	out[0] = '\\';
	if (found)
	{
		out[1] = letters[found - escaped];
		return 2;
	}
	memcpy(out + 1, "u00", 3);
	out[4] = hex[static_cast<unsigned char>(c) >> 4];
	out[5] = hex[c & 15];
	return 6;
}

static void
write_string(WireBuffer *out, const char *text, size_t length)
{
	constexpr size_t longest_escape = 6;

	buffer_reserve(out, length + 2);
	put(out, "\"", 1);
	for (;;)
	{
		size_t plain = plain_length(text, length);

		put(out, text, plain);
		if (plain == length)
			break;
		buffer_reserve(out, length - plain + longest_escape + 1);
		out->size += escape(out->data + out->size, text[plain]);
		text += plain + 1;
		length -= plain + 1;
	}
	put(out, "\"", 1);
}

/* What an entry stands for; its bytes are from `offset` of `base`. */
static bool
write_item(WireBuffer *out, JEntry entry, const char *base, size_t offset, size_t length, int depth)
{
	switch (entry & JENTRY_TYPEMASK)
	{
		case JENTRY_ISSTRING:
			write_string(out, base + offset, length);
			return true;
		case JENTRY_ISNUMERIC:
		{
			/* Where the jsonb has a short header, nothing in it is aligned, and this one's can't be read as a number. */
			const char *numeric = base + INTALIGN(offset);
			size_t header = VARATT_IS_SHORT(numeric) ? VARHDRSZ_SHORT : VARHDRSZ;
			NumericText number(numeric + header, length - (INTALIGN(offset) - offset) - header);

			buffer_reserve(out, number.bound());
			out->size = static_cast<size_t>(number.write(out->data + out->size) - out->data);
			return true;
		}
		case JENTRY_ISBOOL_TRUE:
			write_literal(out, "true", 4);
			return true;
		case JENTRY_ISBOOL_FALSE:
			write_literal(out, "false", 5);
			return true;
		case JENTRY_ISNULL:
			write_literal(out, "null", 4);
			return true;
		default:
			return write_container(out, base + INTALIGN(offset), depth);
	}
}

/* Goes over the items of a container. */
struct Items
{
	const char *entries;
	const char *base;
	size_t end; /* of the last item, from `base` */

	JEntry next(size_t i, size_t *offset, size_t *length)
	{
		JEntry entry = load(entries + i * sizeof(JEntry));

		*offset = end;
		end = JBE_HAS_OFF(entry) ? JBE_OFFLENFLD(entry) : end + JBE_OFFLENFLD(entry);
		*length = end - *offset;
		return entry;
	}
};

static bool
write_container(WireBuffer *out, const char *container, int depth)
{
	uint32 header = load(container);
	size_t count = header & JB_CMASK;
	bool object = (header & JB_FOBJECT) != 0;
	bool scalar = (header & JB_FSCALAR) != 0;
	const char *entries = container + sizeof(header);
	size_t nentries = object ? 2 * count : count;
	Items keys{entries, entries + nentries * sizeof(JEntry), 0};
	Items values = keys;
	size_t offset;
	size_t length;

	if (depth > kDepth)
		return false;
	/* In an object all keys come first. */
	for (size_t i = 0; object && i < count; i++)
		values.next(i, &offset, &length);
	if (!scalar)
		write_literal(out, object ? "{" : "[", 1);
	for (size_t i = 0; i < count; i++)
	{
		if (i > 0)
			write_literal(out, ", ", 2);
		if (object)
		{
			keys.next(i, &offset, &length);
			write_string(out, keys.base + offset, length);
			write_literal(out, ": ", 2);
		}

		JEntry entry = values.next(object ? count + i : i, &offset, &length);

		if (!write_item(out, entry, values.base, offset, length, depth + 1))
			return false;
	}
	if (!scalar)
		write_literal(out, object ? "}" : "]", 1);
	return true;
}

bool
jsonb_text(WireBuffer *out, const void *jsonb)
{
	return write_container(out, VARDATA_ANY(jsonb), 0);
}
