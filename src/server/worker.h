/*
 * How workers wait. Each kind has work of its own that must go on meanwhile: interrupts, acknowledgements, changes of
 * the registry. Code that waits calls worker_poll(), and knows nothing of that work.
 */
#ifndef SIPHON_WORKER_H
#define SIPHON_WORKER_H

#include "pg.h"

typedef void (*WorkerPollCallback)(TimestampTz now);

/* Called once, when the worker starts. */
extern void worker_init(WorkerPollCallback poll_callback);
/*
 * Does the worker's work that must not wait. Call several times a second. ERROR, or the process ends, if the worker is
 * to.
 */
extern void worker_poll(TimestampTz now);

/* Why a worker waits; shown in pg_stat_activity. */
enum class WaitReason { Wal, RingSpace, Acknowledgement, Snapshot, Standbys };

/* From here on the worker wakes when this doorbell is rung; until the second is called, before the doorbell is closed.
 */
extern void worker_watch_doorbell(int doorbell);
extern void worker_unwatch_doorbell(void);
/*
 * Sleeps until the latch, the publisher's doorbell, a condition variable that was prepared, or the time-out in
 * milliseconds. Callers check their condition in a loop.
 */
extern void worker_wait(WaitReason wait, long timeout_ms);

#endif
