/*
 * Snapshots: copying a table's existing rows into the stream, in parallel and as of one MVCC snapshot.
 *
 * The launcher starts a leader for the table whose turn it is. The leader has the decoder hold the table's changes
 * from decode position D on, takes an MVCC snapshot S after D, and tells workers to scan the table with it, block
 * range by block range. Each process writes to a ring of its own, in which packages of rows stand between the leader's
 * SnapshotBegin and SnapshotEnd:
 *
 *   leader    begin ──acked──> takes S ─> scans ─> waits for the workers ─> end ──acked──> table streams
 *   worker                     scans ─> waits until all is acked
 *
 * So nothing that belongs between the markers can come before or after them, although the rings are read side by
 * side. The publisher acknowledges SnapshotEnd after catch-up, when the held changes are published behind the rows; it
 * leaves out those of transactions that S shows, as SnapshotEnd tells it.
 *
 * Exactness: a transaction that S does not show must have its commit record at or behind D. On a primary a commit can
 * be decoded before its transaction counts as over, so before it takes S, the leader waits until all
 * transactions that had written their commit when D was fixed are over for everyone (see wait_for_old_commits()). On
 * a standby, what is decoded has been replayed, and what is replayed is visible.
 *
 * A leader that is done takes the next table of the application, if one waits: there may be thousands, and most are
 * small.
 *
 * A failure ends leader and workers; the leader ends last. The launcher notes the reason in the registry and starts
 * over later, with the next generation. Where that would fail in the same way, as at a value that its type can't print,
 * the table stops: each attempt publishes its rows up to there.
 */
#ifndef SIPHON_SNAPSHOT_H
#define SIPHON_SNAPSHOT_H

#include "registry/registry.h"
#include "snapshot_phase.h"

/* One running snapshot, in shared memory. Guarded by siphon_shared->lock but for the atomics. */
struct SnapshotJob
{
	bool in_use;
	SharedApplication *app;
	Oid relid;
	uint32 generation;
	uint64 history; /* of the application, when the leader began */
	SnapshotPhase phase;
	pid_t leader_pid; /* 0: not started yet, or ended, and its workers with it */
	PGPROC *leader;
	bool idle;       /* the leader has no table, and waits for one */
	int workers;     /* started, the leader included */
	bool cancel;     /* the table was removed, or its application dropped */
	bool table_gone; /* the table was dropped */
	bool paused;
	char error[256];
	int attempts; /* after so many in a row that failed, an error as this one will come again; 0: it may not */
	dsm_handle segment; /* holds the MVCC snapshot, for the workers */
	XLogRecPtr lsn;
	TimestampTz started;
	ConditionVariable changed;

	pg_atomic_uint64 blocks_total;
	pg_atomic_uint64 next_block; /* see leaf_scan.h */
	pg_atomic_uint64 blocks_done;
	pg_atomic_uint64 rows;
	pg_atomic_uint64 bytes;
	pg_atomic_uint64 held_events;
	pg_atomic_uint64 busy_until; /* TimestampTz to which siphon.snapshot_rate is used up */
	pg_atomic_uint64 row_counts[kMaxPartitions];
};

extern SnapshotJob *siphon_snapshots;

extern void snapshots_request_shmem(void);
extern void snapshots_init_shmem(void);

/* The running snapshot of a table (InvalidOid: of any of the application), or NULL. Caller holds siphon_shared->lock.
 */
extern SnapshotJob *snapshot_find(const SharedApplication *app, Oid relid);
/* Asks a table's snapshot (InvalidOid: one of the application's) to end; `asked`: since when. NULL: none runs. */
extern SnapshotJob *snapshot_request_cancel(const char *application, Oid relid, TimestampTz asked);
/* Ends a table's snapshot, if one runs, and waits for its end; with InvalidOid those of all tables. Interruptible. */
extern void snapshot_cancel(const char *application, Oid relid);
/* The decoder's part: adds to the metric of events that are held for a table's snapshot. */
extern void snapshot_count_held(const SharedApplication *app, Oid relid, uint64 events);
/* Starts a process of a snapshot: its leader (0) or a worker. NULL if no background worker is free. */
extern BackgroundWorkerHandle *snapshot_start_process(const SnapshotJob *snapshot, int worker);
/* The launcher's part: notes what became of snapshots that ended; */
extern void snapshots_reap(void);
/* and starts those whose turn it is. Returns when to look again, in ms. *open: some run or wait. */
extern long snapshots_manage(SharedApplication *app, const Registry *registry, bool *open);
/*
 * Returns applications (char *) in the order in which they get places for snapshots: the one that got one last comes
 * last.
 */
extern List *snapshots_order_by_turn(List *applications);

/*
 * Sets the phase, but for the first one of a job. A transition that is not in kSnapshotPhaseTransitions is a bug: then
 * the job keeps its phase. Caller holds siphon_shared->lock exclusively.
 */
extern void snapshot_job_set_phase(SnapshotJob *snapshot, SnapshotPhase phase);

extern const char *snapshot_phase_name(SnapshotPhase phase);

#endif
