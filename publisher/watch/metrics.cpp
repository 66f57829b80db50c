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
#include "publisher/watch/metric_list.h"

namespace siphon {

namespace {

using Labels = std::vector<std::pair<const char *, std::string>>;

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
	void add(const Number &value, const Labels &labels = {})
	{
		std::visit([&](auto number) { add("", +number, labels); }, value);
	}

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
	template <typename Value> void gauge(const char *name, Value value, const char *help)
	{
		begin(name, MetricType::Gauge, help);
		add(value);
	}
	template <typename Subject> void add(std::span<const Metric<Subject>> metrics, const Subject &subject, double age)
	{
		for (const Metric<Subject> &metric : metrics)
		{
			std::optional<Number> value = metric.value(subject, age);

			if (metric.name == nullptr || !value)
				continue;
			begin(metric.name, metric.type, metric.help);
			add(*value);
		}
	}
	template <typename Subject> void add(std::span<const DurationMetric<Subject>> durations, const Subject &subject)
	{
		for (const DurationMetric<Subject> &each : durations)
		{
			begin(each.name, MetricType::Histogram, each.help);
			add(each.counts(subject));
		}
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
	auto add_events = [&](const std::array<uint64_t, kOperations> &events, const Labels &labels) {
		for (size_t i = 0; i < kOperations; i++)
		{
			Labels of_operation = labels;

			of_operation.push_back({"operation", operation_name(static_cast<CountedOperation>(i))});
			families->add(events[i], std::move(of_operation));
		}
	};

	families->begin("siphon_events_total", MetricType::Counter,
					"Events that the stream acknowledged, by operation. truncate: one for each hash partition. other: "
					"DROP, DETACH, RENAME.");
	if (per_table)
		each([&](const TableStats &table, const Labels &labels) { add_events(table.events, labels); });
	else
		add_events(status.totals.events, {});
	for (const TableMetric &metric : kTableMetrics)
	{
		families->begin(metric.name, MetricType::Counter, metric.help);
		if (per_table)
			each([&](const TableStats &table, Labels labels) {
				families->add(table.*metric.of_table, std::move(labels));
			});
		else
			families->add(status.totals.*metric.total);
	}

	families->begin("siphon_last_commit_timestamp_seconds", MetricType::Gauge,
					"When the transaction of the last acknowledged event committed.");
	if (per_table)
		each([&](const TableStats &table, Labels labels) {
			if (table.last_commit > 0)
				families->add(static_cast<double>(table.last_commit) / 1e6, std::move(labels));
		});
	else if (status.totals.last_commit > 0)
		families->add(static_cast<double>(status.totals.last_commit) / 1e6);
}

void
add_messages(const Status &status, Families *families)
{
	families->begin("siphon_messages_total", MetricType::Counter,
					"Messages that the stream acknowledged, by kind. moved: held changes that the catch-up published.");
	for (size_t i = 0; i < kMessageKinds; i++)
		families->add(status.totals.messages[i], {{"kind", message_kind_name(static_cast<MessageKind>(i))}});
}

void
add_decoder(const RingStatus &decoder, double age, Families *families)
{
	uint64_t waiting = decoder.metric(RingMetric::TablesWaiting);
	uint64_t failed = decoder.metric(RingMetric::TablesFailed);
	uint64_t tables = decoder.metric(RingMetric::Tables);

	families->begin("siphon_tables", MetricType::Gauge,
					"Tables of the application, by state. failed: not published, or in need of a resync.");
	families->add(tables > waiting + failed ? tables - waiting - failed : 0, {{"state", "streaming"}});
	families->add(waiting, {{"state", "snapshot"}});
	families->add(failed, {{"state", "failed"}});
	families->add(kDecoderMetrics, decoder, age);
	families->add(kDecoderDurations, decoder);
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
	both("siphon_ring_size_bytes", size, "Size of the decoder's ring, and of all rings of snapshots.");
	both("siphon_ring_used_bytes", used, "Bytes in these rings that are not acknowledged.");
}

/* Of the leaders, whose rings say how far their snapshots are. */
void
add_snapshots(const Status &status, bool per_table, Families *families)
{
	for (const Metric<RingStatus> &metric : kSnapshotMetrics)
	{
		uint64_t total = 0;

		if (metric.name == nullptr)
			continue;
		families->begin(metric.name, metric.type, metric.help);
		for (const RingStatus &ring : status.rings)
		{
			/* One that has just begun has no name yet. */
			if (ring.metric(RingMetric::SnapshotPhase) == 0 || ring.table.empty())
				continue;

			std::optional<Number> value = metric.value(ring, 0);
			uint64_t count = value ? std::get<uint64_t>(*value) : 0;

			if (per_table)
				families->add(count, {{"schema", as_utf8(ring.schema)}, {"table", as_utf8(ring.table)}});
			total += count;
		}
		if (!per_table)
			families->add(total);
	}
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

	for (const Metric<StreamStatus> &metric : kStreamMetrics)
		each(metric.name, metric.help, [&](const StreamStatus &stream, Labels labels) {
			if (std::optional<Number> value = metric.value(stream, 0))
				families->add(*value, std::move(labels));
		});
	each(
		"siphon_stream_limit_bytes",
		"Limit of the bytes in a stream, and which messages it discards then, old or new ones. Absent without a limit.",
		[&](const StreamStatus &stream, Labels labels) {
			labels.push_back({"discard", stream.discard_new ? "new" : "old"});
			if (stream.max_bytes > 0)
				families->add(stream.max_bytes, std::move(labels));
		});
	each("siphon_stream_replica_lag", "Operations that a follower has not confirmed to the leader.",
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
					"Tables whose changes are held: during their snapshot, and during the catch-up after it.");
	for (size_t i = 0; i < 2; i++)
		families->add(tables[i], {{"phase", phases[i]}});
	families->begin("siphon_holding_seconds", MetricType::Gauge, "Time since the changes of a table are held.");
	if (per_table)
		for (const HoldingStatus &table : status.holding)
			families->add(table.seconds, {{"schema", as_utf8(table.schema)},
										  {"table", as_utf8(table.name)},
										  {"phase", phases[table.catching_up]}});
	else
		for (size_t i = 0; i < 2; i++)
			families->add(longest[i], {{"phase", phases[i]}});
	families->gauge("siphon_catch_up_backlog_messages", backlog,
					"Held messages of all tables that the catch-up has not published yet.");
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
	families->begin("process_cpu_seconds_total", MetricType::Counter,
					"Total user and system CPU time spent in seconds.");
	families->add(static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
				  static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
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

	families.gauge("siphon_ready", ready ? 1.0 : 0.0, "1 while changes are replicated, as /readyz answers.");
	if (!status.starting)
	{
		add_tables(status, per_table, &families);
		add_messages(status, &families);
		families.add(kPublisherMetrics, status, 0);
		families.add(kPublisherDurations, status);
		if (const RingStatus *decoder = status.decoder())
			add_decoder(*decoder, std::chrono::duration<double>(now - status.at).count(), &families);
		add_rings(status, &families);
		add_snapshots(status, per_table, &families);
		add_streams(status, &families);
		add_holding(status, per_table, &families);
	}
	add_process(&families);
	return std::move(families).text();
}

} // namespace siphon
