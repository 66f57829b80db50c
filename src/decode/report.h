/*
 * The report: what a decoder tells people through its ring, see ring_metrics.h. It looks at the clock twice for each
 * transaction, and for one in kEncodeSample changes.
 */
#ifndef SIPHON_REPORT_H
#define SIPHON_REPORT_H

#include "registry/registry.h"

constexpr uint32 kEncodeSample = 64;

/* The registry was read. */
extern void report_tables(const Registry *registry);

/* Around a transaction's changes, and around the encoding of one. What is waited for the ring's space is left out. */
extern void report_transaction_begins(void);
extern void report_transaction_ends(void);
extern void report_encode_begins(void);
extern void report_encode_ends(void);

/* The end of the WAL that this server has: on a standby of what it has received, replayed or not. */
extern XLogRecPtr received_wal(void);

/* What is known twice a second: for the publisher, and for the view siphon_stats. `lag`: microseconds, or
 * kMetricUnknown. */
extern void report_progress(App *app, XLogRecPtr decoded, XLogRecPtr confirmed, uint64 lag);

#endif
