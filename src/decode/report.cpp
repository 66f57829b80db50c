/*
 * The report: see report.h.
 */
#include "report.h"

#include "registry/retained_wal.h"
#include "server/ring_producer.h"
#include "warnings.h"

extern "C" {
#include "access/transam.h"
#include "replication/walreceiver.h"
}

using siphon::RingDuration;
using siphon::RingMetric;

/* A stretch of time without the waits for the ring that lie in it. */
struct Stretch
{
	uint64 begins; /* 0: it is not measured */
	uint64 waited;
};

static Stretch transaction;
static Stretch encoding;
static uint32 encodings;

static void
begin(Stretch *stretch)
{
	stretch->begins = monotonic_nanoseconds();
	stretch->waited = ring_producer_get_time_waited();
}

static void
end(Stretch *stretch, RingDuration duration)
{
	uint64 elapsed = monotonic_nanoseconds() - stretch->begins;
	uint64 waited = ring_producer_get_time_waited() - stretch->waited;

	stretch->begins = 0;
	ring_producer_add_duration(duration, elapsed > waited ? elapsed - waited : 0);
}

void
report_transaction_begins(void)
{
	begin(&transaction);
}

void
report_transaction_ends(void)
{
	if (transaction.begins != 0)
		end(&transaction, RingDuration::Decode);
}

void
report_encode_begins(void)
{
	if (unlikely(encodings++ % kEncodeSample == 0))
		begin(&encoding);
}

void
report_encode_ends(void)
{
	if (unlikely(encoding.begins != 0))
		end(&encoding, RingDuration::Encode);
}

static uint64 tables;
static uint64 waiting;
static uint64 failed;

void
report_tables(const Registry *registry)
{
	ListCell *lc;

	tables = waiting = failed = 0;
	foreach (lc, registry->tables)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		tables++;
		if (table->phase == Phase::Stopped || (table->phase == Phase::Streaming && table->reason[0]))
			failed++;
		else if (table->phase != Phase::Streaming)
			waiting++;
	}
}

/* Durations and the publisher's metrics, which the ring has. */
static void
tell_shared(App *app)
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
received_wal(void)
{
	XLogRecPtr newest = siphon_newest_wal();

	return RecoveryInProgress() ? Max(newest, GetWalRcvFlushRecPtr(nullptr, nullptr)) : newest;
}

/* How many transactions have begun since the oldest one of which the slot keeps rows of catalogs that are dead since. */
static uint64
catalog_age(void)
{
	FullTransactionId next = ReadNextFullTransactionId();
	TransactionId oldest = MyReplicationSlot->data.catalog_xmin;

	return TransactionIdIsNormal(oldest) ? XidFromFullTransactionId(next) - oldest : 0;
}

void
report_progress(App *app, XLogRecPtr decoded, XLogRecPtr confirmed, uint64 lag)
{
	XLogRecPtr newest = siphon_newest_wal();
	XLogRecPtr restart = MyReplicationSlot->data.restart_lsn;

	ring_producer_set_metric(RingMetric::Transactions, app_metric_get(app, AppMetric::Transactions));
	ring_producer_set_metric(RingMetric::Restarts, app_metric_get(app, AppMetric::Restarts));
	ring_producer_set_metric(RingMetric::Tables, tables);
	ring_producer_set_metric(RingMetric::TablesWaiting, waiting);
	ring_producer_set_metric(RingMetric::TablesFailed, failed);
	ring_producer_set_metric(RingMetric::Newest, received_wal());
	ring_producer_set_metric(RingMetric::Decoded, decoded);
	ring_producer_set_metric(RingMetric::Confirmed, confirmed);
	ring_producer_set_metric(RingMetric::Retained, newest > restart ? newest - restart : 0);
	ring_producer_set_metric(RingMetric::RetainedLimit, retained_wal_limit());
	ring_producer_set_metric(RingMetric::LagTime, lag);
	ring_producer_set_metric(RingMetric::CatalogAge, catalog_age());
	ring_producer_set_metric(RingMetric::Warnings, warnings_now(app));
	app_metric_set(app, AppMetric::Lag, lag);
	tell_shared(app);
}
