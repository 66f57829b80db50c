/* See status_json.h. */
#include "publisher/watch/status_json.h"

#include <nlohmann/json.hpp>
#include <numeric>

#include "program/version.h"
#include "publisher/watch/health.h"
#include "publisher/watch/metric_list.h"

namespace siphon {

using Json = nlohmann::json;

static std::string
text(const Json &json)
{
	return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

static double
seconds(Status::Clock::duration duration)
{
	return std::chrono::duration<double>(duration).count();
}

/* null: not known. */
static Json
known(uint64_t value)
{
	return value == kMetricUnknown ? Json() : Json(value);
}

/* Of those counted since the start. */
static Json
quantiles(const DurationCounts &durations)
{
	uint64_t count = std::accumulate(std::begin(durations.counts), std::end(durations.counts), uint64_t{0});

	return {{"count", count},
			{"mean", count == 0 ? 0 : static_cast<double>(durations.sum_ns) / 1e9 / static_cast<double>(count)},
			{"p50", quantile(durations, 0.5)},
			{"p99", quantile(durations, 0.99)}};
}

static Json
operations(const std::array<uint64_t, kOperations> &events)
{
	Json json = Json::object();

	for (size_t i = 0; i < kOperations; i++)
		json[operation_name(static_cast<CountedOperation>(i))] = events[i];
	return json;
}

static Json
problems_json(const std::vector<Problem> &problems)
{
	Json json = Json::array();

	for (const Problem &problem : problems)
		json.push_back({{"code", problem.code},
						{"what", problem.what},
						{"hint", problem.hint},
						{"command", problem.command.empty() ? Json() : Json(problem.command)},
						{"unready", problem.unready}});
	return json;
}

/* Adds the metrics to what there is of the subject. */
template <typename Subject>
static void
add_metrics(std::span<const Metric<Subject>> metrics, const Subject &subject, double age, Json *json)
{
	for (const Metric<Subject> &metric : metrics)
	{
		if (metric.path == nullptr)
			continue;

		std::optional<Number> value = metric.value(subject, age);

		(*json)[Json::json_pointer(metric.path)] =
			value ? std::visit([](auto number) { return Json(number); }, *value) : Json();
	}
}

template <typename Subject>
static void
add_durations(std::span<const DurationMetric<Subject>> durations, const Subject &subject, Json *json)
{
	for (const DurationMetric<Subject> &each : durations)
		(*json)[Json::json_pointer(each.path)] = quantiles(each.counts(subject));
}

static Json
decoder_json(const RingStatus *decoder, double age)
{
	Json json;

	if (decoder == nullptr)
		return json;
	add_metrics(kDecoderMetrics, *decoder, age, &json);
	add_durations(kDecoderDurations, *decoder, &json);
	return json;
}

static const RingStatus *
snapshot_of(const Status &status, const TableStatus &table)
{
	for (const RingStatus &ring : status.rings)
	{
		if (ring.metric(RingMetric::SnapshotPhase) != 0 && ring.schema == table.schema && ring.table == table.name)
			return &ring;
	}
	return nullptr;
}

static Json
snapshot_json(const RingStatus &ring)
{
	static constexpr const char *phases[] = {"preparing", "scanning", "moving held changes"};
	uint64_t phase = ring.metric(RingMetric::SnapshotPhase);
	Json json = {{"phase", phase >= 1 && phase <= 3 ? phases[phase - 1] : "ending"}};

	add_metrics(kSnapshotMetrics, ring, 0, &json);
	return json;
}

static Json
tables_json(const Status &status)
{
	Json json = Json::array();

	for (const TableStatus &table : status.tables)
	{
		const RingStatus *snapshot = snapshot_of(status, table);

		Json row = {{"schema", table.schema},
					{"table", table.name},
					{"state", snapshot != nullptr ? "snapshot"
							  : table.held        ? "moving held changes"
												  : "streaming"},
					{"snapshot", snapshot != nullptr ? snapshot_json(*snapshot) : Json()},
					{"events", operations(table.traffic.events)},
					{"last_commit", table.traffic.last_commit == 0
										? Json()
										: Json(static_cast<double>(table.traffic.last_commit) / 1e6)}};

		for (const TableMetric &metric : kTableMetrics)
			row[metric.path] = table.traffic.*metric.of_table;
		json.push_back(std::move(row));
	}
	return json;
}

static Json
rings_json(const Status &status)
{
	Json json = Json::array();

	for (const RingStatus &ring : status.rings)
		json.push_back({{"name", ring.name}, {"size", ring.capacity}, {"used", ring.used}, {"unread", ring.unread}});
	return json;
}

static Json
resuming_json(const Status &status, Status::Clock::time_point now)
{
	if (status.resuming.step.empty())
		return nullptr;
	return {{"step", status.resuming.step},
			{"seconds", seconds(now - status.resuming.since)},
			{"done", status.resuming.done},
			{"total", status.resuming.total == 0 ? Json() : Json(status.resuming.total)}};
}

static Json
stream_json(const StreamStatus &stream)
{
	Json followers = Json::array();

	if (!stream.known)
		return nullptr;
	for (const ReplicaStatus &replica : stream.followers)
		followers.push_back(
			{{"name", replica.name}, {"current", replica.current}, {"offline", replica.offline}, {"lag", replica.lag}});

	Json json = {{"name", stream.name},
				 {"max_bytes", stream.max_bytes == 0 ? Json() : Json(stream.max_bytes)},
				 {"discard", stream.discard_new ? "new" : "old"},
				 {"keeps_all", !stream.lossy},
				 {"leader", stream.leader.empty() ? Json() : Json(stream.leader)},
				 {"followers", followers}};

	add_metrics(kStreamMetrics, stream, 0, &json);
	return json;
}

static Json
holding_json(const Status &status)
{
	Json json = Json::array();

	for (const HoldingStatus &table : status.holding)
		json.push_back({{"schema", table.schema},
						{"table", table.name},
						{"phase", table.catching_up ? "catch-up" : "snapshot"},
						{"seconds", table.seconds},
						{"backlog_messages", known(table.backlog)}});
	return json;
}

static Json
others_json(const std::vector<OtherApplication> &others)
{
	Json json = Json::array();

	for (const OtherApplication &other : others)
		json.push_back({{"application", other.name}, {"url", other.url.empty() ? Json() : Json(other.url)}});
	return json;
}

std::string
status_json(const Status &status, Status::Clock::time_point now, Status::Clock::time_point started,
			const std::vector<OtherApplication> &others)
{
	std::vector<Problem> problems = find_problems(status, now);
	bool ready = std::none_of(problems.begin(), problems.end(), [](const Problem &problem) { return problem.unready; });
	double age = status.starting ? 0 : seconds(now - status.at);

	Json json = {{"application", status.application},
				 {"version", kVersion},
				 {"uptime_seconds", seconds(now - started)},
				 {"age_seconds", age},
				 {"ready", ready},
				 {"problems", problems_json(problems)},
				 {"ring_directory", status.ring_directory},
				 {"queue",
				  {{"where", status.queue},
				   {"kind", status.files ? "files" : "nats"},
				   {"settled", status.settled},
				   {"waiting_for", status.waiting_for},
				   {"refusal", status.refusal},
				   {"resuming", resuming_json(status, now)},
				   {"stream", stream_json(status.stream)},
				   {"held_stream", stream_json(status.held_stream)}}},
				 {"holding", holding_json(status)},
				 {"events", operations(status.totals.events)},
				 {"decoder", decoder_json(status.decoder(), age)},
				 {"rings", rings_json(status)},
				 {"tables", tables_json(status)},
				 {"other_applications", others_json(others)}};

	add_metrics(kPublisherMetrics, status, age, &json);
	add_durations(kPublisherDurations, status, &json);
	for (const TableMetric &metric : kTableMetrics)
		json[metric.path] = status.totals.*metric.total;
	return text(json);
}

std::string
history_json(const std::vector<Sample> &samples, int64_t started)
{
	Json points = Json::array();

	for (const Sample &sample : samples)
		points.push_back({{"at", sample.at},
						  {"events_rate", sample.events_rate},
						  {"raw_rate", sample.raw_rate},
						  {"published_rate", sample.body_rate},
						  {"wal_rate", sample.wal_rate},
						  {"lag_bytes", sample.lag_bytes},
						  {"lag_seconds", sample.lag_seconds},
						  {"ring_used", sample.ring_used},
						  {"latency_p50", sample.latency_p50},
						  {"latency_p99", sample.latency_p99}});
	return text({{"interval_seconds", StatusHistory::kInterval.count()},
				 {"kept_seconds", StatusHistory::kInterval.count() * static_cast<int64_t>(StatusHistory::kSamples)},
				 {"started_at", started},
				 {"samples", points}});
}

} // namespace siphon
