/* See metric_list.h. */
#include "publisher/watch/metric_list.h"

#include <algorithm>

namespace siphon {

namespace {

using enum MetricType;

using Value = std::optional<Number>;

/* nullopt if it is not known. */
Value
known(uint64_t value)
{
	return value == kMetricUnknown ? Value() : Value(value);
}

/* What lies between two LSNs, of which the second may be older than it is. */
uint64_t
distance(const RingStatus &decoder, RingMetric from)
{
	uint64_t newest = decoder.metric(RingMetric::Newest);
	uint64_t lsn = decoder.metric(from);

	return newest > lsn ? newest - lsn : 0;
}

template <RingMetric metric>
Value
of_ring(const RingStatus &ring, double)
{
	return known(ring.metric(metric));
}

template <RingDuration duration>
const DurationCounts &
durations_of_ring(const RingStatus &ring)
{
	return ring.duration(duration);
}

Value
microseconds(uint64_t value)
{
	return value == kMetricUnknown ? Value() : Value(static_cast<double>(value) / 1e6);
}

Value
headroom(const RingStatus &decoder, double)
{
	uint64_t retained = decoder.metric(RingMetric::Retained);
	uint64_t limit = decoder.metric(RingMetric::RetainedLimit);

	return limit == kMetricUnknown ? Value() : Value(limit > retained ? limit - retained : 0);
}

Value
resuming_seconds(const Status &status, double)
{
	return status.resuming.step.empty() ? 0.0
										: std::chrono::duration<double>(status.at - status.resuming.since).count();
}

/* 0 without a leader. */
Value
replicas_current(const StreamStatus &stream, double)
{
	uint64_t current = stream.replicas == 1 || !stream.leader.empty() ? 1 : 0;

	for (const ReplicaStatus &replica : stream.followers)
		current += current > 0 && replica.current && !replica.offline ? 1 : 0;
	return current;
}

constexpr Metric<Status> publisher_metrics[] = {
	{"siphon_held_events_total", Counter, "Events that were held until the snapshot of their table was complete.",
	 "/held_events", [](const Status &status, double) -> Value { return status.totals.held_events; }},
	{"siphon_nats_connected", Gauge, "1 while the publisher is connected to NATS.", "/queue/connected",
	 [](const Status &status, double) -> Value { return status.connected; }},
	{"siphon_nats_disconnects_total", Counter,
	 "Connections to NATS that were lost. The publisher reconnects by itself.", "/queue/disconnects",
	 [](const Status &status, double) -> Value { return status.reconnects; }},
	{"siphon_settlings_total", Counter,
	 "Number of times publishing was resumed, at the start and after anything uncertain.", "/queue/settlings",
	 [](const Status &status, double) -> Value { return status.incidents.settlings; }},
	{"siphon_refused_messages_total", Counter,
	 "Messages that the stream rejected, for example because it was full. They are sent again.",
	 "/queue/refused_messages", [](const Status &status, double) -> Value { return status.incidents.refusals; }},
	{"siphon_misplaced_messages_total", Counter,
	 "Messages that did not follow the last message of the stream, mostly after a rejected one. They are sent again.",
	 nullptr, [](const Status &status, double) -> Value { return status.incidents.out_of_order; }},
	{"siphon_answer_timeouts_total", Counter, "Number of times the stream did not answer for ten seconds.",
	 "/queue/answer_timeouts", [](const Status &status, double) -> Value { return status.incidents.timeouts; }},
	{"siphon_rings_attached_total", Counter, "Rings that the publisher attached.", nullptr,
	 [](const Status &status, double) -> Value { return status.incidents.attached; }},
	{"siphon_rings_corrupt_total", Counter, "Rings that were found corrupt. Their workers replaced them.", nullptr,
	 [](const Status &status, double) -> Value { return status.incidents.corrupt; }},
	{"siphon_in_flight_messages", Gauge, "Messages that were sent and are not acknowledged yet.", "/queue/in_flight",
	 [](const Status &status, double) -> Value { return status.in_flight; }},
	{"siphon_in_flight_bytes", Gauge, "Bytes of the messages in flight.", "/queue/in_flight_bytes",
	 [](const Status &status, double) -> Value { return status.in_flight_bytes; }},
	{nullptr, Gauge, "Limit of the messages in flight.", "/queue/max_in_flight",
	 [](const Status &status, double) -> Value { return status.max_in_flight; }},
	{"siphon_resuming_seconds", Gauge,
	 "Time since the publisher began to find where to continue, 0 while it publishes.", nullptr, resuming_seconds},
	{"siphon_stalled_seconds", Gauge, "Time without an acknowledgement, with messages in flight or waiting.", nullptr,
	 [](const Status &status, double) -> Value { return status.stalled; }},
};

constexpr DurationMetric<Status> publisher_durations[] = {
	{"siphon_compression_seconds", "Time to compress a message.", "/compression_seconds",
	 [](const Status &status) -> const DurationCounts & { return status.totals.compression; }},
	{"siphon_publish_to_ack_seconds", "Time from sending a message until all messages up to it were acknowledged.",
	 "/publish_to_ack_seconds",
	 [](const Status &status) -> const DurationCounts & { return status.totals.publish_to_ack; }},
	{"siphon_commit_to_ack_seconds",
	 "Time from the commit of a package's oldest event, by the clock of the primary, to the package's acknowledgement.",
	 "/commit_to_ack_seconds",
	 [](const Status &status) -> const DurationCounts & { return status.totals.commit_to_ack; }},
};

constexpr Metric<RingStatus> decoder_metrics[] = {
	{nullptr, Gauge, "The decoder has ended.", "/ended",
	 [](const RingStatus &decoder, double) -> Value { return decoder.metric(RingMetric::Ended) != 0; }},
	{"siphon_decoder_silence_seconds", Gauge, "Time since the last heartbeat of the decoder, which sends two a second.",
	 "/silence_seconds", [](const RingStatus &decoder, double age) -> Value { return decoder.silence + age; }},
	{"siphon_decoder_transactions_total", Counter,
	 "Transactions decoded, with or without events, since the start of the server.", "/transactions",
	 of_ring<RingMetric::Transactions>},
	{"siphon_decoder_restarts_total", Counter,
	 "Number of times the decoder was restarted after a failure, since the start of the server.", "/restarts",
	 of_ring<RingMetric::Restarts>},
	{nullptr, Gauge, "Tables of the application.", "/tables", of_ring<RingMetric::Tables>},
	{nullptr, Gauge, "Tables that wait for a snapshot, or are in one.", "/tables_waiting",
	 of_ring<RingMetric::TablesWaiting>},
	{nullptr, Gauge, "Tables that are not published, or need a resync.", "/tables_failed",
	 of_ring<RingMetric::TablesFailed>},
	{nullptr, Gauge, "The server's newest WAL.", "/newest_lsn", of_ring<RingMetric::Newest>},
	{nullptr, Gauge, "All WAL up to this LSN is decoded.", "/decoded_lsn", of_ring<RingMetric::Decoded>},
	{nullptr, Gauge, "Everything up to this LSN is acknowledged.", "/confirmed_lsn", of_ring<RingMetric::Confirmed>},
	{"siphon_slot_lag_bytes", Gauge, "WAL between what is acknowledged and the server's newest.", "/slot_lag_bytes",
	 [](const RingStatus &decoder, double) -> Value { return distance(decoder, RingMetric::Confirmed); }},
	{"siphon_slot_lag_seconds", Gauge,
	 "Age of the oldest commit that is not acknowledged, by the clock of the primary; 0 if all are.",
	 "/slot_lag_seconds",
	 [](const RingStatus &decoder, double) { return microseconds(decoder.metric(RingMetric::LagTime)); }},
	{"siphon_decoder_lag_bytes", Gauge, "WAL between what is decoded and the server's newest.", "/decoder_lag_bytes",
	 [](const RingStatus &decoder, double) -> Value { return distance(decoder, RingMetric::Decoded); }},
	{"siphon_slot_catalog_xmin_age", Gauge,
	 "Transactions since the oldest one of which the slot keeps dead catalog rows: its age(catalog_xmin).",
	 "/catalog_xmin_age", of_ring<RingMetric::CatalogAge>},
	{"siphon_slot_retained_bytes", Gauge, "WAL that the slot retains on the server's disk.", "/retained_bytes",
	 of_ring<RingMetric::Retained>},
	{nullptr, Gauge, "WAL that the slot may retain.", "/retained_limit_bytes", of_ring<RingMetric::RetainedLimit>},
	{"siphon_slot_headroom_bytes", Gauge,
	 "WAL that the slot may still retain before it is invalidated (max_slot_wal_keep_size) or the application is given "
	 "up (siphon.max_retained_wal). Absent if neither is set.",
	 nullptr, headroom},
};

constexpr DurationMetric<RingStatus> decoder_durations[] = {
	{"siphon_decode_seconds",
	 "Time to decode and encode the changes of a transaction, from its commit record on, without waits.",
	 "/decode_seconds", durations_of_ring<RingDuration::Decode>},
	{"siphon_encode_seconds", "Time to encode a change, of one in 64.", "/encode_seconds",
	 durations_of_ring<RingDuration::Encode>},
	{"siphon_ring_wait_seconds", "Time of each wait of the decoder for space in the ring.", "/ring_wait_seconds",
	 durations_of_ring<RingDuration::RingWait>},
};

constexpr Metric<RingStatus> snapshot_metrics[] = {
	{"siphon_snapshot_blocks", Gauge, "Blocks of a table whose snapshot runs.", "/blocks_total",
	 of_ring<RingMetric::BlocksTotal>},
	{"siphon_snapshot_blocks_done", Gauge, "Blocks of a running snapshot that are scanned.", "/blocks_done",
	 [](const RingStatus &leader, double) -> Value {
		 return std::min(leader.metric(RingMetric::BlocksDone), leader.metric(RingMetric::BlocksTotal));
	 }},
	{"siphon_snapshot_rows", Gauge, "Rows that a running snapshot has copied.", "/rows", of_ring<RingMetric::Rows>},
	{nullptr, Gauge, "Bytes of these rows, uncompressed.", "/bytes", of_ring<RingMetric::RowBytes>},
	{"siphon_snapshot_held_events", Gauge, "Events that are held while a snapshot runs.", "/held_events",
	 of_ring<RingMetric::HeldEvents>},
	{"siphon_snapshot_workers", Gauge, "Processes of a running snapshot.", "/workers", of_ring<RingMetric::Workers>},
};

constexpr Metric<StreamStatus> stream_metrics[] = {
	{"siphon_stream_messages", Gauge, "Messages in a stream.", "/messages",
	 [](const StreamStatus &stream, double) -> Value { return stream.messages; }},
	{"siphon_stream_bytes", Gauge, "Bytes in a stream.", "/bytes",
	 [](const StreamStatus &stream, double) -> Value { return stream.bytes; }},
	{"siphon_stream_first_message_age_seconds", Gauge, "Age of the first message of a stream. Absent if it has none.",
	 "/first_message_age_seconds",
	 [](const StreamStatus &stream, double) { return stream.first_age >= 0 ? Value(stream.first_age) : Value(); }},
	{"siphon_stream_max_age_seconds", Gauge, "Age at which messages of a stream are dropped. Absent without a limit.",
	 "/max_age_seconds",
	 [](const StreamStatus &stream, double) { return stream.max_age > 0 ? Value(stream.max_age) : Value(); }},
	{"siphon_stream_replicas", Gauge, "Replicas that are configured for a stream.", "/replicas",
	 [](const StreamStatus &stream, double) -> Value { return stream.replicas; }},
	{"siphon_stream_replicas_current", Gauge, "Replicas that are current, as the leader knows; 0 without a leader.",
	 nullptr, replicas_current},
};

constexpr TableMetric table_metrics[] = {
	{"siphon_packages_total", "Packages that the stream acknowledged.", "packages", &TableStats::packages,
	 &PublishTotals::packages},
	{"siphon_raw_bytes_total", "Bytes of acknowledged messages before compression.", "raw_bytes",
	 &TableStats::raw_bytes, &PublishTotals::raw_bytes},
	{"siphon_published_bytes_total", "Bytes of acknowledged messages as they were published.", "published_bytes",
	 &TableStats::body_bytes, &PublishTotals::body_bytes},
};

} // namespace

const std::span<const Metric<Status>> kPublisherMetrics = publisher_metrics;
const std::span<const DurationMetric<Status>> kPublisherDurations = publisher_durations;
const std::span<const Metric<RingStatus>> kDecoderMetrics = decoder_metrics;
const std::span<const DurationMetric<RingStatus>> kDecoderDurations = decoder_durations;
const std::span<const Metric<RingStatus>> kSnapshotMetrics = snapshot_metrics;
const std::span<const Metric<StreamStatus>> kStreamMetrics = stream_metrics;
const std::span<const TableMetric> kTableMetrics = table_metrics;

} // namespace siphon
