/*
 * What all rooms of the extension share: its settings (GUCs), clocks, and where PostgreSQL enters it. The state of each
 * application in shared memory is in shmem.h.
 */
#ifndef SIPHON_SIPHON_H
#define SIPHON_SIPHON_H

#include "pg.h"

#include <ctime>

/* Settings; siphon.cpp defines them and says what they mean. */
extern char *siphon_ring_directory;
extern char *siphon_ring_group;
extern int siphon_ring_group_error; /* errno: why that group can't be used */
extern int siphon_ring_size_kb;
extern int siphon_flush_interval_ms;
extern bool siphon_resync_rewritten;
extern bool siphon_resync_detached;
extern int siphon_package_size_kb;
extern int siphon_package_memory_kb;
extern int siphon_max_applications;
extern int siphon_max_restart_delay_s;
extern int siphon_max_snapshots;
extern int siphon_snapshot_workers;
extern int siphon_snapshot_rate_kb;
extern int siphon_max_retained_wal_mb;
extern int siphon_warn_retained_wal_mb;

/* True if this server preloaded the library, so that shared memory and the launcher are there. */
extern bool siphon_preloaded;

/* Longest application identifier, with its final NUL: its slot "siphon_<application>" must be a name. */
constexpr int kApplicationLength = NAMEDATALEN - 7;

/* Microseconds since 1970-01-01 UTC of a PostgreSQL timestamp. */
static inline int64
unix_microseconds(TimestampTz t)
{
	return t + int64{POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE} * USECS_PER_DAY;
}

/* For measuring how long something takes. */
static inline uint64
monotonic_nanoseconds(void)
{
	timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return static_cast<uint64>(now.tv_sec) * 1000000000 + static_cast<uint64>(now.tv_nsec);
}

extern "C" {
extern PGDLLEXPORT void _PG_init(void);
extern PGDLLEXPORT void _PG_output_plugin_init(OutputPluginCallbacks *cb);
extern PGDLLEXPORT void siphon_launcher_main(Datum arg);
extern PGDLLEXPORT void siphon_decoder_main(Datum arg);
extern PGDLLEXPORT void siphon_snapshot_main(Datum arg);
extern PGDLLEXPORT void siphon_mirror_main(Datum arg);
extern PGDLLEXPORT void siphon_follower_main(Datum arg);
}

#endif
