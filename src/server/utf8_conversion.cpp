/*
 * Conversion to UTF-8: see utf8_conversion.h.
 */
#include "utf8_conversion.h"

/* The database's conversion to UTF-8, looked up once: decoding can't look up what is not in its catalogs' past. */
static FmgrInfo conversion;

void
utf8_conversion_init(void)
{
	int encoding = GetDatabaseEncoding();
	Oid function;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return;
	function = FindDefaultConversionProc(encoding, PG_UTF8);
	if (!OidIsValid(function))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("there is no conversion from encoding \"%s\" to UTF-8", GetDatabaseEncodingName())));
	fmgr_info_cxt(function, &conversion, TopMemoryContext);
}

bool
convert_text_to_utf8(const char **text, size_t *length)
{
	int encoding = GetDatabaseEncoding();
	char *converted;
	int done;

	if (is_ascii_text(*text, *length))
		return true;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pg_encoding_verifymbstr(PG_UTF8, *text, static_cast<int>(*length)) == static_cast<int>(*length);
	converted = static_cast<char *>(MemoryContextAllocHuge(CurrentMemoryContext, *length * MAX_CONVERSION_GROWTH + 1));
	done = DatumGetInt32(FunctionCall6(&conversion, Int32GetDatum(encoding), Int32GetDatum(PG_UTF8),
									   CStringGetDatum(*text), CStringGetDatum(converted),
									   Int32GetDatum(static_cast<int>(*length)), BoolGetDatum(true)));
	if (done != static_cast<int>(*length))
	{
		pfree(converted);
		return false;
	}
	*text = converted;
	*length = strlen(converted);
	return true;
}

const char *
convert_name_to_utf8(const char *name, size_t *length)
{
	char *converted;
	size_t size = 0;

	if (convert_text_to_utf8(&name, length))
		return name;
	converted = static_cast<char *>(palloc(*length * 2));
	for (size_t i = 0; i < *length; i++)
	{
		unsigned char byte = static_cast<unsigned char>(name[i]);

		if (byte >= 0x80)
			converted[size++] = static_cast<char>(0xC0 | byte >> 6);
		converted[size++] = static_cast<char>(byte >= 0x80 ? 0x80 | (byte & 0x3F) : byte);
	}
	*length = size;
	return converted;
}

void
put_utf8(siphon::WireBuffer *out, uint32 field, const char *text)
{
	size_t length = strlen(text);
	const char *utf8 = convert_name_to_utf8(text, &length);

	buffer_reserve(out, length + 16);
	siphon::Wire wire(out);

	wire.bytes_field(field, utf8, length);
	wire.commit();
}
