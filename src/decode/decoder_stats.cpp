/*
 * The decoder's metrics: see decoder_stats.h.
 */
#include "decoder_stats.h"

#include "registry/retained_wal.h"
#include "server/ring_producer.h"
#include "warnings.h"

extern "C" {
#include "access/transam.h"
#include "replication/walreceiver.h"
}

using siphon::RingDuration;
using siphon::RingMetric;

/* Measures a stretch of time without the waits for the ring that lie in it. */
struct Stopwatch
{
	uint64 begins; /* 0: it is not measured */
	uint64 waited;
};

static Stopwatch transaction;
static Stopwatch encoding;
static uint32 encodings;

static void
stopwatch_start(Stopwatch *stopwatch)
{
	stopwatch->begins = monotonic_nanoseconds();
	stopwatch->waited = ring_producer_get_time_waited();
}

static void
stopwatch_stop(Stopwatch *stopwatch, RingDuration duration)
{
	uint64 elapsed = monotonic_nanoseconds() - stopwatch->begins;
	uint64 waited = ring_producer_get_time_waited() - stopwatch->waited;

	stopwatch->begins = 0;
	ring_producer_add_duration(duration, elapsed > waited ? elapsed - waited : 0);
}

void
decoder_stats_begin_transaction(void)
{
	stopwatch_start(&transaction);
}

void
decoder_stats_end_transaction(void)
{
	if (transaction.begins != 0)
		stopwatch_stop(&transaction, RingDuration::Decode);
}

void
decoder_stats_begin_encode(void)
{
	if (unlikely(encodings++ % kEncodeSample == 0))
		stopwatch_start(&encoding);
}

void
decoder_stats_end_encode(void)
{
	if (unlikely(encoding.begins != 0))
		stopwatch_stop(&encoding, RingDuration::Encode);
}

static uint64 tables;
static uint64 waiting;
static uint64 failed;

void
decoder_stats_count_tables(const Registry *registry)
{
	ListCell *lc;

	tables = waiting = failed = 0;
	foreach (lc, registry->tables)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		tables++;
		if (is_table_broken(table))
			failed++;
		else if (table->phase != TablePhase::Streaming)
			waiting++;
	}
}

/* Durations and the publisher's metrics, which the ring has. */
static void
publish_to_shmem(SharedApplication *app)
{
	static uint64 told[static_cast<int>(RingDuration::Count)][2];

	for (int i = 0; i < static_cast<int>(RingDuration::Count); i++)
	{
		const siphon::DurationCounts *durations = ring_producer_get_durations(static_cast<RingDuration>(i));
		uint64 now[2] = {0, durations->sum_ns};

		for (uint64 count : durations->counts)
			now[0] += count;
		/* Of this process; what the decoders before it told stays. */
		for (int j = 0; j < 2; j++)
		{
			app_metric_add(app, AppMetric::Durations + (2 * i + j), now[j] - told[i][j]);
			told[i][j] = now[j];
		}
	}
	for (int i = 0; i < static_cast<int>(siphon::PublisherMetric::Count); i++)
		app_metric_set(app, AppMetric::Publisher + i,
					   ring_producer_get_publisher_metric(static_cast<siphon::PublisherMetric>(i)));
}

XLogRecPtr
get_received_wal(void)
{
	XLogRecPtr newest = siphon_newest_wal();

	return RecoveryInProgress() ? Max(newest, GetWalRcvFlushRecPtr(nullptr, nullptr)) : newest;
}

/*
 * How many transactions have begun since the oldest one of which the slot keeps rows of catalogs that are dead since.
 */
static uint64
get_catalog_age(void)
{
	FullTransactionId next = ReadNextFullTransactionId();
	TransactionId oldest = MyReplicationSlot->data.catalog_xmin;

	return TransactionIdIsNormal(oldest) ? XidFromFullTransactionId(next) - oldest : 0;
}

void
decoder_stats_publish(SharedApplication *app, XLogRecPtr decoded, XLogRecPtr confirmed, uint64 lag)
{
	XLogRecPtr newest = siphon_newest_wal();
	XLogRecPtr restart = MyReplicationSlot->data.restart_lsn;

	ring_producer_set_metric(RingMetric::Transactions, app_metric_get(app, AppMetric::Transactions));
	ring_producer_set_metric(RingMetric::Restarts, app_metric_get(app, AppMetric::Restarts));
	ring_producer_set_metric(RingMetric::Tables, tables);
	ring_producer_set_metric(RingMetric::TablesWaiting, waiting);
	ring_producer_set_metric(RingMetric::TablesFailed, failed);
	ring_producer_set_metric(RingMetric::Newest, get_received_wal());
	ring_producer_set_metric(RingMetric::Decoded, decoded);
	ring_producer_set_metric(RingMetric::Confirmed, confirmed);
	ring_producer_set_metric(RingMetric::Retained, newest > restart ? newest - restart : 0);
	ring_producer_set_metric(RingMetric::RetainedLimit, retained_wal_limit());
	ring_producer_set_metric(RingMetric::LagTime, lag);
	ring_producer_set_metric(RingMetric::CatalogAge, get_catalog_age());
	ring_producer_set_metric(RingMetric::Warnings, warnings_check(app));
	app_metric_set(app, AppMetric::Lag, lag);
	publish_to_shmem(app);
}
