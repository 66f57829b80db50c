/*
 * Text for the wire, which is UTF-8 whatever the database's encoding. Not all text is: a SQL_ASCII database holds any
 * bytes, other encodings have characters that Unicode lacks, and into a UTF-8 database casts without a function and
 * functions in C let anything. None of it may end the decoder, or reach a consumer as a string that it can't read: no
 * parser takes a message with such a string, whatever else is in it.
 */
#ifndef SIPHON_UTF8_CONVERSION_H
#define SIPHON_UTF8_CONVERSION_H

#include "buffer.h"

/* Called once, in a transaction, before the others. */
extern void utf8_conversion_init(void);

/* Is it ASCII, without NUL? Most text is, and then nothing else is to be known of it. */
static inline bool
is_ascii_text(const char *text, size_t length)
{
	/* In two words at once, which compilers have registers for. */
	typedef uint64 Words __attribute__((vector_size(16)));
	constexpr uint64 ones = UINT64CONST(0x0101010101010101);
	Words words;

	if (length >= sizeof(words))
	{
		const char *last = text + length - sizeof(words);
		Words odd = {};

		/* With a byte of 128 or more a word has a high bit; with a NUL it gets one. */
		for (; text < last; text += sizeof(words))
		{
			memcpy(&words, text, sizeof(words));
			odd |= words | (words - ones);
		}
		memcpy(&words, last, sizeof(words));
		odd |= words | (words - ones);
		return ((odd[0] | odd[1]) & (ones << 7)) == 0;
	}
	for (; length > 0; text++, length--)
		if (static_cast<signed char>(*text) <= 0)
			return false;
	return true;
}

/* Makes UTF-8 of text in the server's encoding. False if it can't be: then nothing is changed. */
extern bool convert_text_to_utf8(const char **text, size_t *length);

/*
 * The same for names, where there has to be an answer: bytes of a name that has no UTF-8 are taken for LATIN1. At most
 * MAX_CONVERSION_GROWTH times as long.
 */
extern const char *convert_name_to_utf8(const char *name, size_t *length);

/* Writes text as UTF-8 into a field. Makes room for it. */
extern void put_utf8(siphon::WireBuffer *out, uint32 field, const char *text);

#endif
