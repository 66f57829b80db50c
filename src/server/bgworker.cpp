/*
 * Background workers and their session: see bgworker.h.
 */
#include "bgworker.h"

#include "utf8_conversion.h"

extern "C" {
#include "catalog/pg_authid.h"
}

BackgroundWorkerHandle *
bgworker_start(const char *kind, const char *name, int index)
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
bgworker_is_running(BackgroundWorkerHandle *handle)
{
	pid_t pid;
	BgwHandleStatus status = GetBackgroundWorkerPid(handle, &pid);

	return status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED;
}

/*
 * All that a worker's output or work depends on, whatever the server, the database or the role has for it. Of what is
 * sent, values come from output functions and defaults and bounds from PostgreSQL's deparsing. The rest is what could
 * refuse, end or hold up what workers do. Settings that only cost time, or say where and what to log, are the
 * administrator's; others do nothing in a process that has no client, makes no tables and reads no literals.
 */
static void
pin_settings(const char *name)
{
	/* ALTER DATABASE ... SET ROLE is a common idiom, and workers obey it. The first takes the second back. */
	const char *const settings[][2] = {
		{"session_authorization", GetUserNameFromId(BOOTSTRAP_SUPERUSERID, false)},
		{"role", "none"},
		/* What is sent. */
		{"DateStyle", "ISO, YMD"},
		{"IntervalStyle", "postgres"},
		{"TimeZone", "UTC"},
		{"extra_float_digits", "1"},
		{"bytea_output", "hex"},
		{"xmlbinary", "base64"},
		{"lc_monetary", "C"},
		{"search_path", ""},
		{"quote_all_identifiers", "off"},
		{"standard_conforming_strings", "on"},
		{"client_encoding", "UTF8"},
		/* Serializable is refused on a standby, and deferrable waits for others; the mirror is written all the same. */
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		/* Standbys are waited for in wait_for_standbys(). */
		{"synchronous_commit", "local"},
		/* An error that is caught, as of a table that can't be published, must stay one. */
		{"exit_on_error", "off"},
		/* Limits for queries would end the decoding of a large transaction, again and again. */
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
#if PG_VERSION_NUM >= 170000
		{"transaction_timeout", "0"},
#endif
		/* By which people find it. */
		{"application_name", name},
	};

	for (const auto &setting : settings)
		SetConfigOption(setting[0], setting[1], PGC_SUSET, PGC_S_OVERRIDE);
	utf8_conversion_init();
}

void
bgworker_connect(Oid database, const char *name)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	/* Role and encoding are looked up in the catalogs. */
	StartTransactionCommand();
	pin_settings(name);
	CommitTransactionCommand();
}
