/* See metrics.h. */
#include "publisher/watch/metrics.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sys/resource.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nats/nats.h>
#include <zstd.h>

#include "program/utf8.h"
#include "program/version.h"
#include "publisher/watch/health.h"

namespace siphon {

namespace {

using Labels = std::vector<std::pair<const char *, std::string>>;

enum class MetricType { Counter, Gauge, Histogram };

/* The text, family by family. By hand, as the library's objects for 10,000 tables take seconds to make and to write. */
class Families
{
public:
	explicit Families(const std::string &application) : application_(label({"application", application})) {}

	/* Begins a family, to which what follows is added. */
	void begin(const char *name, MetricType type, const char *help)
	{
		static constexpr const char *types[] = {"counter", "gauge", "histogram"};

		name_ = name;
		fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name,
					   types[static_cast<size_t>(type)]);
	}

	/* A number as it is, and without an exponent if it is whole. */
	template <typename Value> void add(Value value, const Labels &labels = {}) { add("", value, labels); }

	void add(const DurationCounts &durations)
	{
		uint64_t count = 0;

		for (uint32_t i = 0; i < kDurationBuckets; i++)
		{
			bool last = i == kDurationBuckets - 1;

			count += durations.counts[i];
			add("_bucket", count,
				{{"le", last ? "+Inf" : fmt::format("{}", static_cast<double>(DurationCounts::upper_bound(i)) / 1e9)}});
		}
		add("_sum", static_cast<double>(durations.sum_ns) / 1e9, {});
		add("_count", count, {});
	}

	/* A family of one metric. */
	template <typename Value> void counter(const char *name, Value value, const char *help)
	{
		begin(name, MetricType::Counter, help);
		add(value);
	}
	template <typename Value> void gauge(const char *name, Value value, const char *help)
	{
		begin(name, MetricType::Gauge, help);
		add(value);
	}
	void histogram(const char *name, const DurationCounts &durations, const char *help)
	{
		begin(name, MetricType::Histogram, help);
		add(durations);
	}

	std::string text() && { return std::move(text_); }

private:
	template <typename Value> void add(const char *suffix, Value value, const Labels &labels)
	{
		text_.append(name_).append(suffix).append("{").append(application_);
		for (const auto &each : labels)
			text_.append(",").append(label(each));
		fmt::format_to(std::back_inserter(text_), "}} {}\n", value);
	}

	static std::string label(const std::pair<const char *, std::string> &label)
	{
		std::string text = std::string(label.first) + "=\"";

		for (char c : label.second)
		{
			if (c == '\\' || c == '"')
				text += '\\';
			text += c == '\n' ? "\\n" : std::string(1, c);
		}
		return text + "\"";
	}

	const std::string application_;
	const char *name_ = "";
	std::string text_;
};

void
add_tables(const Status &status, bool per_table, Families *families)
{
	auto each = [&](auto add) {
		for (const TableStatus &table : status.tables)
			add(table.traffic, Labels{{"schema", as_utf8(table.schema)}, {"table", as_utf8(table.name)}});
	};
	auto family = [&](const char *name, const char *help, auto of_table, uint64_t total) {
		families->begin(name, MetricType::Counter, help);
		if (per_table)
			each([&](const TableTraffic &table, Labels labels) { families->add(of_table(table), std::move(labels)); });
		else
			families->add(total);
	};
	auto add_events = [&](const std::array<uint64_t, kOperations> &events, const Labels &labels) {
		for (size_t i = 0; i < kOperations; i++)
		{
			Labels of_operation = labels;

			of_operation.push_back({"operation", operation_name(static_cast<CountedOperation>(i))});
			families->add(events[i], std::move(of_operation));
		}
	};

	families->begin("siphon_events_total", MetricType::Counter,
					"Events that the queue has acknowledged, by operation. other: DROP, DETACH, RENAME.");
	if (per_table)
		each([&](const TableTraffic &table, const Labels &labels) { add_events(table.events, labels); });
	else
		add_events(status.totals.events, {});
	family("siphon_packages_total", "Packages that the queue has acknowledged.",
		   [](const TableTraffic &table) { return table.packages; }, status.totals.packages);
	family("siphon_raw_bytes_total", "Bytes of acknowledged messages before compression.",
		   [](const TableTraffic &table) { return table.raw_bytes; }, status.totals.raw_bytes);
	family("siphon_published_bytes_total", "Bytes of acknowledged messages as they were published.",
		   [](const TableTraffic &table) { return table.body_bytes; }, status.totals.body_bytes);

	families->begin("siphon_last_commit_timestamp_seconds", MetricType::Gauge,
					"When the transaction of the last acknowledged event committed.");
	if (per_table)
		each([&](const TableTraffic &table, Labels labels) {
			if (table.last_commit > 0)
				families->add(static_cast<double>(table.last_commit) / 1e6, std::move(labels));
		});
	else if (status.totals.last_commit > 0)
		families->add(static_cast<double>(status.totals.last_commit) / 1e6);
}

void
add_traffic(const Status &status, Families *families)
{
	const TrafficTotals &totals = status.totals;

	families->begin("siphon_messages_total", MetricType::Counter,
					"Messages that the queue has acknowledged, by kind. moved: held ones, put behind their snapshot.");
	for (size_t i = 0; i < kMessageKinds; i++)
		families->add(totals.messages[i], {{"kind", message_kind_name(static_cast<MessageKind>(i))}});
	families->counter("siphon_held_events_total", totals.held_events,
					  "Events that were held until their table's snapshot was complete.");
	families->histogram("siphon_compression_seconds", totals.compression, "Time to compress a message.");
	families->histogram("siphon_publish_to_ack_seconds", totals.publish_to_ack,
						"Time from sending a message until all up to it was acknowledged.");
	families->histogram("siphon_commit_to_ack_seconds", totals.commit_to_ack,
						"Time from the commit of a package's oldest event to the package's acknowledgement. The commit's "
						"time is that of the primary's clock.");
}

void
add_decoder(const RingStatus &decoder, double age, Families *families)
{
	uint64_t newest = decoder.figure(RingMetric::Newest);
	uint64_t confirmed = decoder.figure(RingMetric::Confirmed);
	uint64_t decoded = decoder.figure(RingMetric::Decoded);
	uint64_t retained = decoder.figure(RingMetric::Retained);
	uint64_t limit = decoder.figure(RingMetric::RetainedLimit);
	uint64_t lag = decoder.figure(RingMetric::LagTime);

	families->gauge("siphon_decoder_silence_seconds", decoder.silence + age,
					"Time since the decoder gave a sign of life, which it does twice a second.");
	families->counter("siphon_decoder_transactions_total", decoder.figure(RingMetric::Transactions),
					  "Transactions decoded, with or without events, since the server's start.");
	families->counter("siphon_decoder_restarts_total", decoder.figure(RingMetric::Restarts),
					  "How often the decoder was started again after a failure, since the server's start.");
	families->begin("siphon_tables", MetricType::Gauge,
					"Tables of the application, by state. failed: not published, or to be brought out anew.");
	uint64_t waiting = decoder.figure(RingMetric::TablesWaiting);
	uint64_t failed = decoder.figure(RingMetric::TablesFailed);
	uint64_t tables = decoder.figure(RingMetric::Tables);

	families->add(tables > waiting + failed ? tables - waiting - failed : 0, {{"state", "streaming"}});
	families->add(waiting, {{"state", "snapshot"}});
	families->add(failed, {{"state", "failed"}});

	families->histogram("siphon_decode_seconds", decoder.duration(RingDuration::Decode),
						"Time to hand out and encode a transaction's changes, from its commit record on, without waits.");
	families->histogram("siphon_encode_seconds", decoder.duration(RingDuration::Encode),
						"Time to encode a change, of one in 64.");
	families->histogram("siphon_ring_wait_seconds", decoder.duration(RingDuration::RingWait),
						"How long the decoder waited for space in the ring, each time that there was none.");

	families->gauge("siphon_slot_lag_bytes", newest > confirmed ? newest - confirmed : 0,
					"WAL between what is acknowledged and the server's newest.");
	if (lag != kMetricUnknown)
		families->gauge("siphon_slot_lag_seconds", static_cast<double>(lag) / 1e6,
						"Age of the oldest commit that is not acknowledged; 0 if all is. By the primary's clock.");
	families->gauge("siphon_decoder_lag_bytes", newest > decoded ? newest - decoded : 0,
					"WAL between what is decoded and the server's newest.");
	families->gauge(
		"siphon_slot_catalog_xmin_age", decoder.figure(RingMetric::CatalogAge),
		"Transactions since the oldest one of which the slot keeps dead rows of catalogs: its age(catalog_xmin).");
	families->gauge("siphon_slot_retained_bytes", retained, "WAL that the slot keeps on the server's disk.");
	if (limit != kMetricUnknown)
		families->gauge("siphon_slot_headroom_bytes", limit > retained ? limit - retained : 0,
						"WAL that the slot may keep beyond that, before it is invalidated (max_slot_wal_keep_size) or "
						"the application given up (siphon.max_retained_wal). Absent if neither is set.");
}

void
add_rings(const Status &status, Families *families)
{
	uint64_t size[2] = {};
	uint64_t used[2] = {};
	auto both = [&](const char *name, const uint64_t(&values)[2], const char *help) {
		families->begin(name, MetricType::Gauge, help);
		families->add(values[0], {{"ring", "decoder"}});
		families->add(values[1], {{"ring", "snapshots"}});
	};

	for (const RingStatus &ring : status.rings)
	{
		size[&ring == status.decoder() ? 0 : 1] += ring.capacity;
		used[&ring == status.decoder() ? 0 : 1] += ring.used;
	}
	both("siphon_ring_size_bytes", size, "Size of the decoder's ring, and of those of snapshots together.");
	both("siphon_ring_used_bytes", used, "Bytes in them that are not acknowledged.");
}

/* Of the leaders, whose rings say how far their snapshots are. */
void
add_snapshots(const Status &status, bool per_table, Families *families)
{
	static constexpr struct
	{
		RingMetric figure;
		const char *name;
		const char *help;
	} figures[] = {
		{RingMetric::BlocksTotal, "siphon_snapshot_blocks", "Blocks of a table whose snapshot runs."},
		{RingMetric::BlocksDone, "siphon_snapshot_blocks_done", "Blocks of these that were scanned."},
		{RingMetric::Rows, "siphon_snapshot_rows", "Rows that a running snapshot has brought out."},
		{RingMetric::HeldEvents, "siphon_snapshot_held_events", "Events that wait behind a running snapshot."},
		{RingMetric::Workers, "siphon_snapshot_workers", "Processes of a running snapshot."},
	};

	for (const auto &[figure, name, help] : figures)
	{
		uint64_t total = 0;

		families->begin(name, MetricType::Gauge, help);
		for (const RingStatus &ring : status.rings)
		{
			/* One that has just begun has no name yet. */
			if (ring.figure(RingMetric::SnapshotPhase) == 0 || ring.table.empty())
				continue;
			if (per_table)
				families->add(ring.figure(figure),
							  {{"schema", as_utf8(ring.schema)}, {"table", as_utf8(ring.table)}});
			total += ring.figure(figure);
		}
		if (!per_table)
			families->add(total);
	}
}

void
add_queue(const Status &status, Families *families)
{
	const Incidents &incidents = status.incidents;

	families->gauge("siphon_nats_connected", status.connected ? 1.0 : 0.0, "1 while there is a connection to NATS.");
	families->counter("siphon_nats_disconnects_total", status.reconnects,
					  "Connections to NATS that were lost; each is made again.");
	families->counter("siphon_settlings_total", incidents.settlings,
					  "How often publishing was begun, or begun again after something was uncertain.");
	families->counter("siphon_refused_messages_total", incidents.refusals,
					  "Messages that the queue did not take, as it was full, for example; they are sent again.");
	families->counter("siphon_misplaced_messages_total", incidents.out_of_order,
					  "Messages that did not follow the stream's last one, mostly behind a refused one; sent again.");
	families->counter("siphon_answer_timeouts_total", incidents.timeouts,
					  "How often the queue did not answer for ten seconds.");
	families->counter("siphon_rings_attached_total", incidents.attached, "Rings that were attached to.");
	families->counter("siphon_rings_corrupt_total", incidents.corrupt,
					  "Rings that were found damaged; their workers made others.");
	families->gauge("siphon_in_flight_messages", status.in_flight, "Messages sent and not yet acknowledged.");
	families->gauge("siphon_in_flight_bytes", status.in_flight_bytes, "Their size.");
	families->gauge(
		"siphon_resuming_seconds",
		status.resuming.step.empty() ? 0.0 : std::chrono::duration<double>(status.at - status.resuming.since).count(),
		"Since when the publisher has been finding out where to go on; 0 while it publishes.");
	families->gauge("siphon_stalled_seconds", status.stalled,
					"Time without an acknowledgement, although there is something to acknowledge.");
}

/* What JetStream said of our streams; "events" is the one that consumers read. */
void
add_streams(const Status &status, Families *families)
{
	auto each = [&](const char *name, const char *help, auto add) {
		bool begun = false;

		for (const auto &[role, stream] : {std::pair("events", &status.stream), std::pair("held", &status.held_stream)})
			if (stream->known)
			{
				if (!begun)
					families->begin(name, MetricType::Gauge, help);
				begun = true;
				add(*stream, Labels{{"stream", role}});
			}
	};

	each("siphon_stream_messages", "Messages in a stream.",
		 [&](const StreamStatus &stream, Labels labels) { families->add(stream.messages, std::move(labels)); });
	each("siphon_stream_bytes", "Bytes in a stream.",
		 [&](const StreamStatus &stream, Labels labels) { families->add(stream.bytes, std::move(labels)); });
	each("siphon_stream_limit_bytes",
		 "Bytes that a stream may have, and what gives way then: old messages, or new ones. Absent without a limit.",
		 [&](const StreamStatus &stream, Labels labels) {
			 labels.push_back({"discard", stream.discard_new ? "new" : "old"});
			 if (stream.max_bytes > 0)
				 families->add(stream.max_bytes, std::move(labels));
		 });
	each("siphon_stream_first_message_age_seconds", "Age of a stream's first message. Absent where it has none.",
		 [&](const StreamStatus &stream, Labels labels) {
			 if (stream.first_age >= 0)
				 families->add(stream.first_age, std::move(labels));
		 });
	each("siphon_stream_max_age_seconds", "Age at which messages are dropped. Absent without a limit.",
		 [&](const StreamStatus &stream, Labels labels) {
			 if (stream.max_age > 0)
				 families->add(stream.max_age, std::move(labels));
		 });
	each("siphon_stream_replicas", "Copies that a stream is configured to have.",
		 [&](const StreamStatus &stream, Labels labels) { families->add(stream.replicas, std::move(labels)); });
	each("siphon_stream_replicas_current",
		 "Copies of these that have all of it, as the leader knows: 0 without a leader.",
		 [&](const StreamStatus &stream, Labels labels) {
			 uint64_t current = stream.replicas == 1 || !stream.leader.empty() ? 1 : 0;

			 for (const ReplicaStatus &replica : stream.followers)
				 current += current > 0 && replica.current && !replica.offline ? 1 : 0;
			 families->add(current, std::move(labels));
		 });
	each("siphon_stream_replica_lag", "Operations that a further copy has not confirmed.",
		 [&](const StreamStatus &stream, const Labels &labels) {
			 for (const ReplicaStatus &replica : stream.followers)
			 {
				 Labels of_replica = labels;

				 of_replica.push_back({"replica", as_utf8(replica.name)});
				 families->add(replica.lag, std::move(of_replica));
			 }
		 });
}

/* Tables whose changes are held, and what is left to publish of them. */
void
add_holding(const Status &status, bool per_table, Families *families)
{
	static constexpr const char *phases[2] = {"snapshot", "catch-up"};
	uint64_t tables[2] = {};
	double longest[2] = {};
	uint64_t backlog = 0;

	for (const HoldingStatus &table : status.holding)
	{
		tables[table.catching_up]++;
		longest[table.catching_up] = std::max(longest[table.catching_up], table.seconds);
		backlog += table.backlog == kMetricUnknown ? 0 : table.backlog;
	}
	families->begin("siphon_holding_tables", MetricType::Gauge,
					"Tables whose changes are held: while their snapshot runs, and in the catch-up behind it.");
	for (size_t i = 0; i < 2; i++)
		families->add(tables[i], {{"phase", phases[i]}});
	families->begin("siphon_holding_seconds", MetricType::Gauge, "Since when a table's changes are held.");
	if (per_table)
		for (const HoldingStatus &table : status.holding)
			families->add(table.seconds, {{"schema", as_utf8(table.schema)},
										  {"table", as_utf8(table.name)},
										  {"phase", phases[table.catching_up]}});
	else
		for (size_t i = 0; i < 2; i++)
			families->add(longest[i], {{"phase", phases[i]}});
	families->gauge("siphon_catch_up_backlog_messages", backlog,
					"Held messages of all tables that are to be published behind their snapshots yet.");
}

void
add_process(Families *families)
{
	std::ifstream statm("/proc/self/statm");
	uint64_t pages = 0;
	rusage usage = {};

	statm >> pages >> pages;
	getrusage(RUSAGE_SELF, &usage);
	families->gauge("process_resident_memory_bytes", pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)),
					"Resident memory size in bytes.");
	families->counter("process_cpu_seconds_total",
					  static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
						  static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
					  "Total user and system CPU time spent in seconds.");
	families->begin("siphon_build_info", MetricType::Gauge, "Versions; the value is always 1.");
	families->add(1.0, {{"version", kVersion},
						{"ring_version", std::to_string(kRingVersion)},
						{"nats", nats_GetVersion()},
						{"zstd", ZSTD_versionString()}});
}

} // namespace

std::string
metrics_text(const Status &status, Status::Clock::time_point now, bool per_table)
{
	Families families(status.application);
	std::vector<Problem> problems = find_problems(status, now);
	bool ready = std::none_of(problems.begin(), problems.end(), [](const Problem &problem) { return problem.unready; });

	families.gauge("siphon_ready", ready ? 1.0 : 0.0, "1 while changes are replicated; what /readyz says.");
	if (!status.starting)
	{
		add_tables(status, per_table, &families);
		add_traffic(status, &families);
		if (const RingStatus *decoder = status.decoder())
			add_decoder(*decoder, std::chrono::duration<double>(now - status.at).count(), &families);
		add_rings(status, &families);
		add_snapshots(status, per_table, &families);
		add_queue(status, &families);
		add_streams(status, &families);
		add_holding(status, per_table, &families);
	}
	add_process(&families);
	return std::move(families).text();
}

} // namespace siphon
