/*
 * The decoder's output: where packages leave the decoder. It owns the ring, waits for its space, turns what the
 * publisher acknowledges into confirmations of the slot, and keeps the metrics that the views show.
 *
 *   packages -> ring -> (publisher) -> acked cursor, checkpoint -> checkpoint durable -> slot confirmed
 */
#ifndef SIPHON_DECODER_OUTPUT_H
#define SIPHON_DECODER_OUTPUT_H

#include "server/buffer.h"
#include "registry/checkpoint_file.h"
#include "ring/history.h"
#include "ring/ring.h"
#include "server/siphon.h"

/* Makes a new ring in place of an older one. The slot is acquired. Called once, when the decoder starts. */
extern void decoder_output_open(SharedApplication *app, uint64 history);

/* The newest checkpoint of this history, which is durable; number 0: there is none. */
extern const SavedCheckpoint *decoder_output_get_checkpoint(void);

/* Writes a history record, see history.h. */
extern void decoder_output_write_history(const siphon::HistoryRecord *record);

/*
 * Writes a record, waiting as long as it takes for space; serves interrupts, acknowledgements and the
 * publisher's heartbeats meanwhile. The table that info.route points to may be marked invalid on return.
 */
extern void decoder_output_write(const siphon::RecordInfo &info, const siphon::WireBuffer *payload,
								 TimestampTz commit_time);

/* True while something that was written is not acknowledged yet. */
extern bool decoder_output_has_unacked(void);

/*
 * All events of all transactions up to commit_lsn are written: writes the watermark that says so. commit_time: of the
 * last of them, 0 if that is not known. WAL up to
 * `decoded` needs no decoding again once that is acknowledged.
 */
extern void decoder_output_write_watermark(XLogRecPtr commit_lsn, TimestampTz commit_time, XLogRecPtr decoded);

/* All WAL up to `available` was decoded, at this time: all that there is, or, on a standby, that is replayed. */
extern void decoder_output_note_caught_up(TimestampTz now, XLogRecPtr available);

/*
 * Reads acknowledgements and, at most four times a second, makes their checkpoint durable and confirms the slot. If
 * `idle`, no event up to `decoded` waits in a package, so that WAL without events can be confirmed as well.
 */
extern void decoder_output_confirm(TimestampTz now, bool idle, XLogRecPtr decoded);

#endif
