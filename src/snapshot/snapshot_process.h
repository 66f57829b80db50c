/*
 * What the processes of a snapshot share: their job, and how they listen, find the table and scan it. The files
 *
 *   snapshot_process.cpp start and end of each process, and what a worker does
 *   snapshot_leader.cpp  the leader: generations, markers, the MVCC snapshot, its workers
 *   snapshot_scan.cpp    both: from blocks to packages, at the rate that is allowed
 */
#ifndef SIPHON_SNAPSHOT_PROCESS_H
#define SIPHON_SNAPSHOT_PROCESS_H

#include "leaf_scan.h"
#include "snapshot.h"
#include "encode/table.h"

/* How long a process sleeps at the most, in ms. */
constexpr long kSnapshotPauseMs = 200;

/* What this process works for. */
extern SnapshotJob *snapshot_job;
/* What belongs to the table at hand; reset for the next one. */
extern MemoryContext snapshot_context;

/*
 * Polls interrupts and settings, and writes the process's heartbeat. Call while waiting. ERROR if the snapshot is over.
 */
extern void snapshot_poll(TimestampTz now);
extern void snapshot_set_phase(SnapshotPhase phase);
/* As it is now, see registry_get(). ERROR if there is none any more. */
extern const Registry *snapshot_get_registry(void);

/* Begins a transaction in which a snapshot is taken once. */
extern void snapshot_begin_transaction(void);
/* The table's present name (two buffers of NAMEDATALEN). ERROR, and the end of all attempts, if it was dropped. */
extern void snapshot_find_names(char *schema, char *name);
/*
 * Opens the table, locked against changes of its definition, and describes it. ERROR if it has not the name any more under
 * which the generation began. If it is renamed later, the decoder ends this generation.
 */
extern Relation snapshot_open_table(const RegistryTable *listed, Table **table);

/* Scans ranges of blocks until there are no more, and waits until all that came of it is acknowledged. */
extern void snapshot_scan(LeafScan *scan, Table *table);
/* Where the packages go: see packages_init(). */
extern void snapshot_write_record(const siphon::RecordInfo &info, const siphon::WireBuffer *payload, TimestampTz);

/* All that the leader does; and what it does at its end, before it is seen to have ended. */
extern void snapshot_leader_run(void);
extern void snapshot_stop_workers(int, Datum);

#endif
