/*
 * The outlet: where packages leave the decoder. It owns the ring, waits for its space, turns what the
 * publisher acknowledges into confirmations of the slot, and keeps the metrics that the views show.
 *
 *   packages -> ring -> (publisher) -> acked cursor, checkpoint -> checkpoint durable -> slot confirmed
 */
#ifndef SIPHON_OUTLET_H
#define SIPHON_OUTLET_H

#include "server/buffer.h"
#include "registry/checkpoint_file.h"
#include "ring/history.h"
#include "ring/ring.h"
#include "server/siphon.h"

/* Makes a new ring in place of an older one. The slot is acquired. Called once, when the decoder starts. */
extern void outlet_open(App *app, uint64 history);

/* The newest checkpoint of this history, which is durable; number 0: there is none. */
extern const SavedCheckpoint *outlet_checkpoint(void);

/* Writes a history record, see history.h. */
extern void outlet_write_history(const siphon::HistoryRecord *record);

/*
 * Writes a record, waiting as long as it takes for space; serves interrupts, acknowledgements and the
 * publisher's heartbeats meanwhile. The table that info.route points to may be marked invalid on return.
 */
extern void outlet_write(const siphon::RecordInfo &info, const siphon::WireBuffer *payload, TimestampTz commit_time);

/* True while something that was written is not acknowledged yet. */
extern bool outlet_busy(void);

/*
 * All events of all transactions up to commit_lsn are written: writes the watermark that says so. commit_time: of the
 * last of them, 0 if that is not known. WAL up to
 * `decoded` needs no decoding again once that is acknowledged.
 */
extern void outlet_watermark(XLogRecPtr commit_lsn, TimestampTz commit_time, XLogRecPtr decoded);

/* All WAL up to `available` was decoded, at this time: all that there is, or, on a standby, that is replayed. */
extern void outlet_drained(TimestampTz now, XLogRecPtr available);

/*
 * Reads acknowledgements and, at most four times a second, makes their checkpoint durable and confirms the slot. If
 * `idle`, no event up to `decoded` waits in a package, so that WAL without events can be confirmed as well.
 */
extern void outlet_serve(TimestampTz now, bool idle, XLogRecPtr decoded);

#endif
