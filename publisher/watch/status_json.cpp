/* See status_json.h. */
#include "publisher/watch/status_json.h"

#include <nlohmann/json.hpp>
#include <numeric>

#include "program/version.h"
#include "publisher/watch/health.h"

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
known(uint64_t figure)
{
	return figure == kMetricUnknown ? Json() : Json(figure);
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

static Json
decoder_json(const RingStatus *decoder, double age)
{
	if (decoder == nullptr)
		return nullptr;

	uint64_t newest = decoder->figure(RingMetric::Newest);
	uint64_t decoded = decoder->figure(RingMetric::Decoded);
	uint64_t confirmed = decoder->figure(RingMetric::Confirmed);
	uint64_t lag = decoder->figure(RingMetric::LagTime);

	return {{"ended", decoder->figure(RingMetric::Ended) != 0},
			{"silence_seconds", decoder->silence + age},
			{"transactions", decoder->figure(RingMetric::Transactions)},
			{"restarts", decoder->figure(RingMetric::Restarts)},
			{"tables", decoder->figure(RingMetric::Tables)},
			{"tables_waiting", decoder->figure(RingMetric::TablesWaiting)},
			{"tables_failed", decoder->figure(RingMetric::TablesFailed)},
			{"newest_lsn", newest},
			{"decoded_lsn", decoded},
			{"confirmed_lsn", confirmed},
			{"decoder_lag_bytes", newest > decoded ? newest - decoded : 0},
			{"slot_lag_bytes", newest > confirmed ? newest - confirmed : 0},
			{"slot_lag_seconds", lag == kMetricUnknown ? Json() : Json(static_cast<double>(lag) / 1e6)},
			{"catalog_xmin_age", decoder->figure(RingMetric::CatalogAge)},
			{"retained_bytes", decoder->figure(RingMetric::Retained)},
			{"retained_limit_bytes", known(decoder->figure(RingMetric::RetainedLimit))},
			{"decode_seconds", quantiles(decoder->duration(RingDuration::Decode))},
			{"encode_seconds", quantiles(decoder->duration(RingDuration::Encode))},
			{"ring_wait_seconds", quantiles(decoder->duration(RingDuration::RingWait))}};
}

static const RingStatus *
snapshot_of(const Status &status, const TableStatus &table)
{
	for (const RingStatus &ring : status.rings)
	{
		if (ring.figure(RingMetric::SnapshotPhase) != 0 && ring.schema == table.schema && ring.table == table.name)
			return &ring;
	}
	return nullptr;
}

static Json
snapshot_json(const RingStatus &ring)
{
	static constexpr const char *phases[] = {"preparing", "scanning", "moving held changes"};
	uint64_t phase = ring.figure(RingMetric::SnapshotPhase);
	uint64_t total = ring.figure(RingMetric::BlocksTotal);

	return {{"phase", phase >= 1 && phase <= 3 ? phases[phase - 1] : "ending"},
			{"blocks_done", std::min(ring.figure(RingMetric::BlocksDone), total)},
			{"blocks_total", total},
			{"rows", ring.figure(RingMetric::Rows)},
			{"bytes", ring.figure(RingMetric::RowBytes)},
			{"held_events", ring.figure(RingMetric::HeldEvents)},
			{"workers", ring.figure(RingMetric::Workers)}};
}

static Json
tables_json(const Status &status)
{
	Json json = Json::array();

	for (const TableStatus &table : status.tables)
	{
		const RingStatus *snapshot = snapshot_of(status, table);

		json.push_back({{"schema", table.schema},
						{"table", table.name},
						{"state", snapshot != nullptr ? "snapshot" : table.held ? "moving held changes" : "streaming"},
						{"snapshot", snapshot != nullptr ? snapshot_json(*snapshot) : Json()},
						{"events", operations(table.traffic.events)},
						{"packages", table.traffic.packages},
						{"raw_bytes", table.traffic.raw_bytes},
						{"published_bytes", table.traffic.body_bytes},
						{"last_commit", table.traffic.last_commit == 0 ? Json()
																	   : Json(static_cast<double>(table.traffic.last_commit) /
																			  1e6)}});
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
	return {{"name", stream.name},
			{"messages", stream.messages},
			{"bytes", stream.bytes},
			{"max_bytes", stream.max_bytes == 0 ? Json() : Json(stream.max_bytes)},
			{"discard", stream.discard_new ? "new" : "old"},
			{"keeps_all", !stream.lossy},
			{"max_age_seconds", stream.max_age > 0 ? Json(stream.max_age) : Json()},
			{"first_message_age_seconds", stream.first_age >= 0 ? Json(stream.first_age) : Json()},
			{"replicas", stream.replicas},
			{"leader", stream.leader.empty() ? Json() : Json(stream.leader)},
			{"followers", followers}};
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

	return text({{"application", status.application},
				 {"version", kVersion},
				 {"uptime_seconds", seconds(now - started)},
				 {"age_seconds", age},
				 {"ready", ready},
				 {"problems", problems_json(problems)},
				 {"ring_directory", status.ring_directory},
				 {"queue",
				  {{"where", status.queue},
				   {"kind", status.files ? "files" : "nats"},
				   {"connected", status.connected},
				   {"settled", status.settled},
				   {"waiting_for", status.waiting_for},
				   {"refusal", status.refusal},
				   {"disconnects", status.reconnects},
				   {"settlings", status.incidents.settlings},
				   {"refused_messages", status.incidents.refusals},
				   {"answer_timeouts", status.incidents.timeouts},
				   {"in_flight", status.in_flight},
				   {"in_flight_bytes", status.in_flight_bytes},
				   {"max_in_flight", status.max_in_flight},
				   {"resuming", resuming_json(status, now)},
				   {"stream", stream_json(status.stream)},
				   {"held_stream", stream_json(status.held_stream)}}},
				 {"holding", holding_json(status)},
				 {"events", operations(status.totals.events)},
				 {"held_events", status.totals.held_events},
				 {"packages", status.totals.packages},
				 {"raw_bytes", status.totals.raw_bytes},
				 {"published_bytes", status.totals.body_bytes},
				 {"compression_seconds", quantiles(status.totals.compression)},
				 {"publish_to_ack_seconds", quantiles(status.totals.publish_to_ack)},
				 {"commit_to_ack_seconds", quantiles(status.totals.commit_to_ack)},
				 {"decoder", decoder_json(status.decoder(), age)},
				 {"rings", rings_json(status)},
				 {"tables", tables_json(status)},
				 {"other_applications", others_json(others)}});
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
	return text({{"interval_seconds", Monitor::kInterval.count()},
				 {"kept_seconds", Monitor::kInterval.count() * static_cast<int64_t>(Monitor::kSamples)},
				 {"started_at", started},
				 {"samples", points}});
}

} // namespace siphon
