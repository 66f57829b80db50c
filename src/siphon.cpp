/*
 * Entry point: settings, shared memory, and the launcher's registration.
 *
 * The library is loaded in two ways. Preloaded (shared_preload_libraries) it does its work. Loaded on
 * demand, as when CREATE EXTENSION runs on a primary whose standby runs Siphon, it defines nothing and
 * starts nothing; the SQL functions then say what is missing.
 */
#include "server/shmem.h"

#include "ring/ring.h"
#include "ring/ring_file.h"
#include "snapshot/snapshot.h"

#include <climits>

extern "C" {
PG_MODULE_MAGIC;
}

char *siphon_ring_directory;
char *siphon_ring_group;
int siphon_ring_group_error;
int siphon_ring_size_kb;
int siphon_flush_interval_ms;
bool siphon_resync_rewritten;
bool siphon_resync_detached;
int siphon_package_size_kb;
int siphon_package_memory_kb;
int siphon_max_applications;
int siphon_max_restart_delay_s;
int siphon_max_snapshots;
int siphon_snapshot_workers;
int siphon_snapshot_rate_kb;
int siphon_max_retained_wal_mb;
int siphon_warn_retained_wal_mb;
bool siphon_preloaded = false;

static shmem_request_hook_type prev_shmem_request_hook;
static shmem_startup_hook_type prev_shmem_startup_hook;

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	shmem_request();
	snapshots_request_shmem();
}

static void
init_shmem(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	shmem_startup();
	snapshots_init_shmem();
}

static bool
check_ring_size(int *newval, void **, GucSource)
{
	if (siphon::is_valid_ring_capacity(uint64{1024} * static_cast<uint64>(*newval)))
		return true;
	GUC_check_errdetail("The size of a ring must be a power of two.");
	return false;
}

static bool
check_ring_directory(char **newval, void **, GucSource)
{
	if (*newval && is_absolute_path(*newval) && strlen(*newval) < MAXPGPATH / 2)
		return true;
	GUC_check_errdetail("The ring directory must be an absolute path.");
	return false;
}

static void
define_settings(void)
{
	DefineCustomStringVariable(
		"siphon.ring_directory", "Directory of the rings, which the server and its publishers share.",
		"Must be on a memory-backed file system. Two servers on one machine need two directories.",
		&siphon_ring_directory, "/dev/shm/siphon", PGC_POSTMASTER, 0, check_ring_directory, nullptr, nullptr);
	DefineCustomStringVariable("siphon.ring_group", "Group whose members may attach to the rings, beside the server's user.",
							   "A name or a number; the server's user must be a member. Empty: nobody else may.",
							   &siphon_ring_group, "", PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("siphon.ring_size", "Size of each ring, a power of two.",
							"It takes effect when a decoder starts. When a ring is full, its decoder waits.",
							&siphon_ring_size_kb, 64 * 1024, 64, INT_MAX / 2, PGC_SIGHUP, GUC_UNIT_KB, check_ring_size,
							nullptr, nullptr);
	DefineCustomBoolVariable("siphon.resync_rewritten",
							 "Takes a new snapshot of a table when ALTER TABLE has changed its rows without events.",
							 "Where it is off, siphon_tables says that the table needs siphon_resync_table().",
							 &siphon_resync_rewritten, true, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
	DefineCustomBoolVariable("siphon.resync_detached",
							 "Takes a new snapshot of a table when a partition was detached from it or dropped.",
							 "Where it is off, an event alone tells consumers.", &siphon_resync_detached, false,
							 PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("siphon.flush_interval", "Longest time that an event waits for its package to fill.",
							"0 writes packages out when there is no more WAL to decode, or 2 ms later while others are under way.",
							&siphon_flush_interval_ms, 100, 0, 60 * 1000, PGC_SIGHUP, GUC_UNIT_MS, nullptr, nullptr,
							nullptr);
	DefineCustomIntVariable("siphon.package_size", "Size at which a package is written out.",
							"It is not more than a quarter of the ring, and than 766 kB, but for a larger row.",
							&siphon_package_size_kb, 512, 1, 16 * 1024, PGC_SIGHUP, GUC_UNIT_KB, nullptr, nullptr,
							nullptr);
	DefineCustomIntVariable("siphon.package_memory", "Memory for packages that are being filled, for each decoder.",
							"When all open packages together exceed it, the oldest are written out.",
							&siphon_package_memory_kb, 64 * 1024, 1024, INT_MAX / 2, PGC_SIGHUP, GUC_UNIT_KB, nullptr,
							nullptr, nullptr);
	DefineCustomIntVariable(
		"siphon.max_applications", "Number of applications that this server can hold.",
		"Each takes a background worker (max_worker_processes) and a replication slot (max_replication_slots).",
		&siphon_max_applications, 16, 1, 1024, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("siphon.max_restart_delay", "Sets the maximum delay before a failed decoder is restarted.",
							"The pause is one second after the first failure and doubles with each that follows.",
							&siphon_max_restart_delay_s, 60, 1, 3600, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr,
							nullptr);
	DefineCustomIntVariable(
		"siphon.max_snapshots", "Sets the maximum number of concurrent snapshots.",
		"Others wait for their turn.", &siphon_max_snapshots, 1, 1, 64, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("siphon.snapshot_workers", "Processes that scan a table for its snapshot.",
							"Each takes a background worker (max_worker_processes) and a ring.",
							&siphon_snapshot_workers, 2, 1, 32, PGC_USERSET, 0, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("siphon.snapshot_rate", "Rate in bytes per second that a snapshot does not exceed.",
							"All its workers together. 0 sets no limit.", &siphon_snapshot_rate_kb, 0, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_KB, nullptr, nullptr, nullptr);
	DefineCustomIntVariable(
		"siphon.max_retained_wal", "Sets the amount of retained WAL of an application beyond which it is given up.",
		"Its slot is dropped, so that the stream ends and not the disk's space. 0 sets no limit.",
		&siphon_max_retained_wal_mb, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MB, nullptr, nullptr, nullptr);
	DefineCustomIntVariable("siphon.warn_retained_wal",
							"Sets the amount of retained WAL of an application beyond which the server's log has a warning.",
							"0 sets no limit.", &siphon_warn_retained_wal_mb, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MB,
							nullptr, nullptr, nullptr);
	MarkGUCPrefixReserved("siphon");
}

/* A group that can't be used keeps decoders from working, who say so, and not the server from starting. */
static void
find_ring_group(void)
{
	gid_t group;

	if (siphon_ring_group[0] == '\0')
		return;
	siphon_ring_group_error = siphon::ring_group_find(siphon_ring_group, &group);
	if (siphon_ring_group_error == 0)
		siphon::ring_group_use(group);
}

static void
register_launcher(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	/* On a hot standby too: not only once recovery has ended. */
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "siphon", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "siphon_launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "siphon launcher", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "siphon launcher", sizeof(worker.bgw_type));
	RegisterBackgroundWorker(&worker);
}

void
_PG_init(void)
{
	/* During pg_upgrade nothing may be decoded. */
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;

	siphon_preloaded = true;
	define_settings();
	find_ring_group();
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = init_shmem;
	register_launcher();
}
