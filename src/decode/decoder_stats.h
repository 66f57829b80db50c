/*
 * Metrics that a decoder writes to its ring, see ring_metrics.h, and to shared memory. It looks at the clock twice for
 * each transaction, and for one in kEncodeSample changes.
 */
#ifndef SIPHON_DECODER_STATS_H
#define SIPHON_DECODER_STATS_H

#include "registry/registry.h"

constexpr uint32 kEncodeSample = 64;

/* The registry was read. */
extern void decoder_stats_count_tables(const Registry *registry);

/* Around a transaction's changes, and around the encoding of one. What is waited for the ring's space is left out. */
extern void decoder_stats_begin_transaction(void);
extern void decoder_stats_end_transaction(void);
extern void decoder_stats_begin_encode(void);
extern void decoder_stats_end_encode(void);

/* The end of the WAL that this server has: on a standby of what it has received, replayed or not. */
extern XLogRecPtr get_received_wal(void);

/*
 * What is known twice a second: for the publisher, and for the view siphon_stats. `lag`: microseconds, or
 * kMetricUnknown.
 */
extern void decoder_stats_publish(SharedApplication *app, XLogRecPtr decoded, XLogRecPtr confirmed, uint64 lag);

#endif
