/*
 * A worker's database session: see session.h.
 */
#include "session.h"

/*
 * What is sent must not depend on settings of the server, the database or the role; nor may a limit for queries end
 * the decoding of a large transaction, again and again.
 */
static void
pin_settings(void)
{
	static const char *const settings[][2] = {
		{"DateStyle", "ISO, YMD"},
		{"IntervalStyle", "postgres"},
		{"TimeZone", "UTC"},
		{"extra_float_digits", "1"},
		{"bytea_output", "hex"},
		{"xmlbinary", "base64"},
		{"lc_monetary", "C"},
		{"search_path", ""},
		{"quote_all_identifiers", "off"},
		{"client_encoding", "UTF8"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
#if PG_VERSION_NUM >= 170000
		{"transaction_timeout", "0"},
#endif
	};

	/* The encoding's conversion is looked up in the catalogs, so in a transaction. */
	StartTransactionCommand();
	for (const auto &setting : settings)
		SetConfigOption(setting[0], setting[1], PGC_SUSET, PGC_S_OVERRIDE);
	CommitTransactionCommand();
}

void
session_connect(Oid database, const char *name)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pgstat_report_appname(name);
	pin_settings();
}
