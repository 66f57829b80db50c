/*
 * The report: see report.h.
 */
#include "report.h"

#include "ring_output.h"

extern "C" {
#include "access/xlog_internal.h"
}

using siphon::RingDuration;
using siphon::RingFigure;

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
	stretch->waited = ring_output_waited();
}

static void
end(Stretch *stretch, RingDuration duration)
{
	uint64 elapsed = monotonic_nanoseconds() - stretch->begins;
	uint64 waited = ring_output_waited() - stretch->waited;

	stretch->begins = 0;
	ring_output_duration(duration, elapsed > waited ? elapsed - waited : 0);
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

/* The least number of bytes of WAL at which something ends the slot, or kNoFigure. */
static uint64
retained_limit(void)
{
	uint64 limit = siphon::kNoFigure;

	if (siphon_max_retained_wal_mb > 0)
		limit = static_cast<uint64>(siphon_max_retained_wal_mb) * 1024 * 1024;
	if (max_slot_wal_keep_size_mb >= 0)
		limit = Min(limit, static_cast<uint64>(max_slot_wal_keep_size_mb) * 1024 * 1024);
	return limit;
}

void
report_progress(App *app, XLogRecPtr decoded, XLogRecPtr confirmed, uint64 lag)
{
	XLogRecPtr newest = siphon_newest_wal();
	XLogRecPtr restart = MyReplicationSlot->data.restart_lsn;

	ring_output_figure(RingFigure::Transactions, figure_get(app, Figure::Transactions));
	ring_output_figure(RingFigure::Restarts, figure_get(app, Figure::Restarts));
	ring_output_figure(RingFigure::Tables, tables);
	ring_output_figure(RingFigure::TablesWaiting, waiting);
	ring_output_figure(RingFigure::TablesFailed, failed);
	ring_output_figure(RingFigure::Newest, newest);
	ring_output_figure(RingFigure::Decoded, decoded);
	ring_output_figure(RingFigure::Confirmed, confirmed);
	ring_output_figure(RingFigure::Retained, newest > restart ? newest - restart : 0);
	ring_output_figure(RingFigure::RetainedLimit, retained_limit());
	ring_output_figure(RingFigure::LagTime, lag);
}
