/*
 * The decoder: the background worker that runs an application's logical decoding. Its parts call each other
 * through these functions.
 */
#ifndef SIPHON_DECODER_H
#define SIPHON_DECODER_H

#include "catalogs/obstacles.h"
#include "server/shmem.h"

/* True in a decoder. */
extern bool decoder_running;

/*
 * What must happen however busy the decoder is: interrupts, configuration, changes of the registry,
 * acknowledgements. It writes nothing to the ring, so the decoder's output may call it while it waits for space.
 */
extern void decoder_poll(TimestampTz now);

/* Polls, and writes out what has waited long enough. Cheap; call for each record and change. */
extern void decoder_tick(void);

/* Writes out what is due; returns how long to wait at most, in ms. Call between two records only. */
extern long decoder_write_due(TimestampTz now);
/* The same when the decoder is caught up: no WAL is left to decode behind `available`. */
extern long decoder_note_caught_up(XLogRecPtr available);

/* Called by the output plugin: a transaction begins (`end`: LSN behind its commit record) and ends; events were added.
 */
extern void decoder_transaction_begin(XLogRecPtr end);
extern void decoder_transaction_end(XLogRecPtr commit_lsn, TimestampTz commit_time, bool with_events);
extern void decoder_note_events(void);

/* A message that belongs to no transaction is in the ring. It has its place in the WAL, which the watermark names. */
extern void decoder_note_message(XLogRecPtr lsn);

/* Has the registry loaded, as it was changed: soon, and not by this call. */
extern void decoder_request_registry_load(void);

/* Whose decoder this is. */
extern const char *decoder_get_application(void);

/*
 * Called by the output plugin: rows of the published table changed in a way that no event says. `what` goes behind the
 * table's name, in the log and as its reason. The first requests a new snapshot, where the table's rows are published
 * at all; the second has the table say that it needs a resync.
 */
extern void decoder_request_resync(Oid relid, const char *what);
extern void decoder_report_unpublishable_change(Oid relid, const char *what);

/* Does the first if `resync`, which is a setting, mostly; otherwise the second. */
static inline void
decoder_resync_or_report(Oid relid, const char *what, bool resync)
{
	if (resync)
		decoder_request_resync(relid, what);
	else
		decoder_report_unpublishable_change(relid, what);
}

/* The table can't be published any more as it should be, and says so until it can and had a resync. */
extern void decoder_report_obstacle(Oid relid, const Obstacle *obstacle);

/* WAL page reader for the decoding context; see wal_reader.cpp. */
extern XLogReaderRoutine wal_reader_routine;

#endif
