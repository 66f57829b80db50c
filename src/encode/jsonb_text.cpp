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

static uint32
load_uint32(const char *at)
{
	uint32 number;

	memcpy(&number, at, sizeof(number));
	return number;
}

/*
 * Where text goes. Who writes something short first makes room for it, and writes at `at`; so what is known to fit
 * is not asked for again.
 */
struct Writer
{
	WireBuffer *out;
	char *at;
	char *end;

	explicit Writer(WireBuffer *buffer)
		: out(buffer), at(buffer->data + buffer->size), end(buffer->data + buffer->capacity)
	{
	}
	void commit() { out->size = static_cast<size_t>(at - out->data); }
	void reserve(size_t more)
	{
		if (unlikely(static_cast<size_t>(end - at) < more))
		{
			commit();
			buffer_reserve(out, more);
			*this = Writer(out);
		}
	}
	void put(char c) { *at++ = c; }
	void put(const char *text, size_t length)
	{
		memcpy(at, text, length);
		at += length;
	}
};

static bool write_container(Writer *out, const char *container, int depth);

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

static bool
plain_byte(char c)
{
	return static_cast<unsigned char>(c) >= ' ' && c != '"' && c != '\\';
}

/*
 * Copies the bytes at the beginning that stand for themselves, and returns how many they are. The last eight bytes, or
 * the first and last four, are copied once more, rather than one by one: most strings are short.
 */
static size_t
copy_plain(char *out, const char *text, size_t length)
{
	size_t i = 0;
	uint64 word;
	uint32 halves[2];

	if (length >= sizeof(word))
	{
		for (; i + sizeof(word) <= length; i += sizeof(word))
		{
			memcpy(&word, text + i, sizeof(word));
			if (!plain_word(word))
				break;
			memcpy(out + i, &word, sizeof(word));
		}
		if (i + sizeof(word) > length)
		{
			memcpy(&word, text + length - sizeof(word), sizeof(word));
			memcpy(out + length - sizeof(word), &word, sizeof(word));
			if (plain_word(word))
				return length;
		}
	}
	else if (length >= sizeof(uint32))
	{
		memcpy(&halves[0], text, sizeof(uint32));
		memcpy(&halves[1], text + length - sizeof(uint32), sizeof(uint32));
		memcpy(out, &halves[0], sizeof(uint32));
		memcpy(out + length - sizeof(uint32), &halves[1], sizeof(uint32));
		if (plain_word(static_cast<uint64>(halves[0]) << 32 | halves[1]))
			return length;
	}
	for (; i < length && plain_byte(text[i]); i++)
		out[i] = text[i];
	return i;
}

static size_t
write_escape(char *out, char c)
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

/* What the separators around an item take: quotes, and what stands in front of it or behind it. */
static constexpr size_t kAround = 8;

/* Leaves room for what stands behind it. */
static void
write_string(Writer *out, const char *text, size_t length)
{
	constexpr size_t longest_escape = 6;

	out->reserve(length + kAround);
	out->put('"');
	for (;;)
	{
		size_t plain = copy_plain(out->at, text, length);

		out->at += plain;
		if (likely(plain == length))
			break;
		out->reserve(length - plain + longest_escape + kAround);
		out->at += write_escape(out->at, text[plain]);
		text += plain + 1;
		length -= plain + 1;
	}
	out->put('"');
}

/* What an entry stands for; its bytes are from `offset` of `base`. */
static bool
write_item(Writer *out, JEntry entry, const char *base, size_t offset, size_t length, int depth)
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

			out->reserve(number.bound() + kAround);
			out->at = number.write(out->at);
			return true;
		}
		case JENTRY_ISBOOL_TRUE:
			out->reserve(kAround + 4);
			out->put("true", 4);
			return true;
		case JENTRY_ISBOOL_FALSE:
			out->reserve(kAround + 5);
			out->put("false", 5);
			return true;
		case JENTRY_ISNULL:
			out->reserve(kAround + 4);
			out->put("null", 4);
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
		JEntry entry = load_uint32(entries + i * sizeof(JEntry));

		*offset = end;
		end = JBE_HAS_OFF(entry) ? JBE_OFFLENFLD(entry) : end + JBE_OFFLENFLD(entry);
		*length = end - *offset;
		return entry;
	}
};

static bool
write_container(Writer *out, const char *container, int depth)
{
	uint32 header = load_uint32(container);
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
	out->reserve(kAround);
	if (!scalar)
		out->put(object ? '{' : '[');
	for (size_t i = 0; i < count; i++)
	{
		if (i > 0)
			out->put(", ", 2);
		if (object)
		{
			keys.next(i, &offset, &length);
			write_string(out, keys.base + offset, length);
			out->put(": ", 2);
		}

		JEntry entry = values.next(object ? count + i : i, &offset, &length);

		if (!write_item(out, entry, values.base, offset, length, depth + 1))
			return false;
	}
	/* An empty container, and one that ends, leave room for what stands behind them too. */
	out->reserve(kAround);
	if (!scalar)
		out->put(object ? '}' : ']');
	return true;
}

bool
jsonb_text(WireBuffer *out, const void *jsonb)
{
	Writer writer(out);

	if (!write_container(&writer, VARDATA_ANY(jsonb), 0))
		return false;
	writer.commit();
	return true;
}
