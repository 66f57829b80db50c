/*
 * Where decoding gets its WAL pages: a page reader on the model of walsender's. The server's own
 * read_local_xlog_page sleeps a millisecond at a time and hears nothing meanwhile; this one wakes at once when
 * WAL arrives (PostgreSQL 16 and later; 15 has nothing to wait for, so there it polls) and lets the decoder write
 * packages out, take acknowledgements and follow signals while it waits.
 *
 * On a standby WAL counts as there once it is replayed, and with a failover slot once standbys have it too. After a
 * promotion, reading goes on to the new timeline where the old one ends.
 */
#include "decoder.h"
#include "registry_mirror.h"
#include "standby_wait.h"
#include "server/worker.h"

static constexpr long kPollMinMs = 1;
static constexpr long kPollMaxMs = 20;

static XLogRecPtr
get_available_wal(TimeLineID *timeline)
{
	return RecoveryInProgress() ? GetXLogReplayRecPtr(timeline) : GetFlushRecPtr(timeline);
}

/* Waits until WAL beyond `available` may be there, or other work is due. */
static void
wait_for_wal(XLogRecPtr available)
{
	long timeout = decoder_note_caught_up(available);
	TimeLineID timeline;
	static XLogRecPtr seen;
	static long poll = kPollMinMs;

#if SIPHON_STANDBY_DECODING

	/*
	 * walsender's condition variable for those who decode: broadcast after a flush on a primary, after replay
	 * on a standby.
	 */
	if (max_wal_senders > 0)
	{
		ConditionVariablePrepareToSleep(&WalSndCtl->wal_replay_cv);
		if (get_available_wal(&timeline) == available)
			worker_wait(WaitReason::Wal, timeout);
		ConditionVariableCancelSleep();
		return;
	}
#endif
	/* Nobody broadcasts: look again after a while, longer each time that there is nothing. */
	poll = seen == available ? Min(poll * 2, kPollMaxMs) : kPollMinMs;
	seen = available;
	if (get_available_wal(&timeline) == available)
		worker_wait(WaitReason::Wal, Min(timeout, poll));
}

static int
read_page(XLogReaderState *state, XLogRecPtr page, int required, XLogRecPtr, char *buffer)
{
	XLogRecPtr end;
	TimeLineID timeline;
	WALReadError error;
	XLogSegNo segment;
	int count;

	for (;;)
	{
		XLogRecPtr available = get_available_wal(&timeline);
		TimeLineID current = timeline;

		/* Each time again: a promotion turns the current timeline into a historic one, with an end. */
		XLogReadDetermineTimeline(state, page, static_cast<uint32>(required), current);
		if (state->currTLI != current)
		{
			end = state->currTLIValidUntil;
			timeline = state->currTLI;
			break;
		}
		if (page + static_cast<uint32>(required) <= available)
		{
			end = Min(available, page + XLOG_BLCKSZ);
			wait_for_standbys(Max(end, registry_mirror_get_lsn()), decoder_write_due);
			break;
		}
		wait_for_wal(available);
	}

	if (page + XLOG_BLCKSZ <= end)
		count = XLOG_BLCKSZ;
	else if (page + static_cast<uint32>(required) > end)
		return -1;
	else
		count = static_cast<int>(end - page);
	if (!WALRead(state, buffer, page, count, timeline, &error))
		WALReadRaiseError(&error);
	/* Of a segment that was removed or reused meanwhile, that was something else. */
	XLByteToSeg(page, segment, state->segcxt.ws_segsize);
	CheckXLogRemoved(segment, state->seg.ws_tli);
	return count;
}

XLogReaderRoutine wal_reader_routine = {read_page, wal_segment_open, wal_segment_close};
