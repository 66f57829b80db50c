/*
 * The decoder's output: where packages leave the decoder. It owns the ring, waits for its space, turns what the
 * publisher acknowledges into confirmations of the slot, and counts what the views show.
 *
 *   packages -> ring -> (publisher) -> acked cursor, checkpoint -> checkpoint durable -> slot confirmed
 */
#ifndef SIPHON_DECODER_OUTPUT_H
#define SIPHON_DECODER_OUTPUT_H

#include "server/buffer.h"
#include "registry/checkpoint_file.h"
#include "ring/history.h"
#include "ring/ring.h"
#include "server/shmem.h"

/* Makes a new ring in place of an older one. The slot is acquired. Called once, when the decoder starts. */
extern void decoder_output_open(SharedApplication *app, uint64 history);

/* The newest checkpoint of this history, which is durable; number 0: there is none. */
extern const SavedCheckpoint *decoder_output_get_checkpoint(void);

/* Writes a history record, see history.h. */
extern void decoder_output_write_history(const siphon::HistoryRecord *record);

/*
 * Writes a record. Waits for ring space as long as it takes, and polls interrupts and acknowledgements meanwhile. The
 * table that info.route points to may be marked invalid on return.
 */
extern void decoder_output_write(const siphon::RecordInfo &info, const siphon::WireBuffer *payload,
								 TimestampTz commit_time);

/* True while something that was written is not acknowledged yet. */
extern bool decoder_output_has_unacked(void);

/*
 * Writes a watermark: every event of transactions committed up to commit_lsn is in the ring. When it is acknowledged,
 * the slot may be confirmed up to decoded_lsn. commit_time: of the last of these transactions, 0 if that is not known.
 */
extern void decoder_output_write_watermark(XLogRecPtr commit_lsn, TimestampTz commit_time, XLogRecPtr decoded_lsn);

/*
 * Notes that the decoder is caught up: all WAL up to `available` was decoded, which is all that there is or, on a
 * standby, that is replayed.
 */
extern void decoder_output_note_caught_up(TimestampTz now, XLogRecPtr available);

/*
 * Reads acknowledgements and, at most four times a second, makes their checkpoint durable and confirms the slot. If
 * `idle`, no event up to decoded_lsn waits in a package, so that WAL without events can be confirmed as well.
 */
extern void decoder_output_confirm(TimestampTz now, bool idle, XLogRecPtr decoded_lsn);

#endif
