/*
 * Waiting for standbys: with a failover slot, nothing is decoded, and so published, that the standbys listed in
 * synchronized_standby_slots do not have. Otherwise the stream could hold what the next primary never had.
 */
#ifndef SIPHON_STANDBY_WAIT_H
#define SIPHON_STANDBY_WAIT_H

#include "server/shmem.h"

/* Returns true if they have WAL up to lsn, or if nothing has to be waited for. */
extern bool standbys_have_caught_up(XLogRecPtr lsn);

/*
 * Waits until then; called by the decoder between two records. It says so in the state after a while. `meanwhile`: is
 * called again and again, and returns how many ms there are to wait at most; NULL: there is nothing to do but to serve.
 */
extern void wait_for_standbys(XLogRecPtr lsn, long (*meanwhile)(TimestampTz now));

/* Called once, by the decoder. */
extern void standby_wait_init(SharedApplication *app);

#endif
