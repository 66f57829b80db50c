/*
 * Background workers and their session: see session.h.
 */
#include "session.h"

#include "text.h"

BackgroundWorkerHandle *
worker_start(const char *kind, const char *name, int index)
{
	BackgroundWorkerHandle *handle = nullptr;
	BackgroundWorker worker;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(index);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "siphon", sizeof(worker.bgw_library_name));
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "siphon_%s_main", kind);
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "siphon %s %s", kind, name);
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "siphon %s", kind);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		handle = nullptr;
	MemoryContextSwitchTo(old);
	return handle;
}

bool
worker_alive(BackgroundWorkerHandle *handle)
{
	pid_t pid;
	BgwHandleStatus status = GetBackgroundWorkerPid(handle, &pid);

	return status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED;
}

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
	text_init();
	CommitTransactionCommand();
}

void
session_connect(Oid database, const char *name)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pgstat_report_appname(name);
	pin_settings();
}
