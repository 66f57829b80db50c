/* What Publisher tells of itself, once a second: see status.h. */
#include "publisher/core/publisher.h"

#include <numeric>
#include <set>

namespace siphon {

static RingStatus
describe(const std::string &name, const RingMessageSource &feed)
{
	const RingReader &reader = feed.ring().reader();
	uint64_t now = static_cast<uint64_t>(
		std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
			.count());
	uint64_t heartbeat = reader.worker_heartbeat();
	uint64_t unread = reader.written() - reader.read_position();
	RingStatus ring;

	ring.name = name;
	ring.epoch = reader.ring_id();
	ring.capacity = reader.capacity();
	ring.used = feed.ring().used();
	ring.unread = std::min(unread, ring.capacity);
	ring.silence = heartbeat < now ? static_cast<double>(now - heartbeat) / 1e6 : 0;
	ring.schema = feed.schema();
	ring.table = feed.table_name();
	for (uint32_t i = 0; i < static_cast<uint32_t>(RingMetric::Count); i++)
		ring.metrics[i] = reader.metric(static_cast<RingMetric>(i));
	for (uint32_t i = 0; i < static_cast<uint32_t>(RingDuration::Count); i++)
		ring.durations[i] = reader.durations(static_cast<RingDuration>(i));
	return ring;
}

static StreamStatus
describe(const std::string &name, const LogHealth &health)
{
	StreamStatus stream;

	stream.known = true;
	stream.name = name;
	stream.messages = health.messages;
	stream.bytes = health.bytes;
	stream.max_bytes = health.bytes_limit;
	stream.discard_new = health.discards_new;
	stream.max_age = health.age_limit;
	stream.lossy = health.lossy;
	stream.first_age = health.first_age;
	stream.replicas = health.replicas;
	stream.leader = health.leader;
	for (const LogHealth::Follower &follower : health.followers)
		stream.followers.push_back({follower.name, follower.current, follower.offline, follower.lag});
	return stream;
}

/* What it does while it resumes, for users. */
const char *
Publisher::state_name() const
{
	switch (state_)
	{
		case PublisherState::FindingEnds:
			return "finding the end of the stream";
		case PublisherState::CheckingOwner:
			return "reading who owns the stream";
		case PublisherState::CheckingSource:
			return "comparing the stream with the server";
		case PublisherState::Claiming:
			return "claiming the application";
		case PublisherState::LoadingStates:
			return "reading the states of tables";
		case PublisherState::Fencing:
			return "fencing off other publishers";
		case PublisherState::ReadingTails:
			return "reading the end of the stream";
		case PublisherState::FindingHeld:
			return "reading the last held changes";
		case PublisherState::Publishing:
			return "publishing";
	}
	return "";
}

/* Seconds in which nothing was acknowledged, although something is to be. */
double
Publisher::stalled()
{
	uint64_t acked = 0;
	bool outstanding = !ledger_.empty();

	for (const auto &[name, feed] : feeds_)
	{
		acked += feed->ring().reader().acked() + feed->ring().reader().ring_id();
		outstanding |= feed->ring().used() > 0;
	}
	if (!outstanding || acked != acked_seen_ || ledger_.stored_token() != stored_seen_)
		progress_at_ = now_;
	acked_seen_ = acked;
	stored_seen_ = ledger_.stored_token();
	return std::chrono::duration<double>(now_ - progress_at_).count();
}

void
Publisher::update_status()
{
	if (status_history_ == nullptr)
		return;

	auto status = std::make_shared<Status>();
	std::set<std::pair<std::string, std::string>> held;

	for (const HandOff::Holding &table : hand_off_.holding())
	{
		held.emplace(table.schema, table.table);
		status->holding.push_back({table.schema, table.table, table.catching_up,
								   std::chrono::duration<double>(now_ - table.since).count(), table.pending});
	}
	if (last_health_)
	{
		status->stream = describe(stream_.log().name(), last_health_->first);
		status->held_stream = describe(stream_.spill().name(), last_health_->second);
	}
	if (!publishing() && decoder() != nullptr && stream_.ready())
	{
		status->resuming.step = state_name();
		status->resuming.since = state_since_;
		if (tail_reader_)
		{
			status->resuming.done = tail_messages_;
			if (tail_reader_->pending() != UINT64_MAX)
				status->resuming.total = tail_messages_ + tail_reader_->pending();
		}
	}

	status->at = now_;
	status->application = config_.application;
	status->ring_directory = config_.ring_directory;
	status->queue = stream_.describe();
	status->files = !config_.stream_url.empty();
	status->starting = false;
	status->connected = stream_.ready();
	status->settled = publishing();
	status->waiting_for = decoder() == nullptr ? ring_notice_.what() : notice_.what();
	status->refusal = refusal_;
	status->stalled = stalled();
	status->reconnects = stream_.interruptions();
	status->in_flight = ledger_.messages();
	status->in_flight_bytes = ledger_.bytes();
	status->max_in_flight = config_.max_in_flight;
	status->incidents = incidents_;
	status->totals = stats_.totals();
	for (const auto &[name, traffic] : stats_.tables())
	{
		status->tables.push_back({name.first, name.second, traffic, held.contains(name)});
	}
	for (const auto &[name, feed] : feeds_)
		status->rings.push_back(describe(name, *feed));
	status_history_->put(std::move(status));
}

/* For siphon_stats, as some people look at databases alone. */
void
Publisher::update_ring_metrics()
{
	RingMessageSource *feed = decoder();

	if (feed == nullptr)
		return;

	RingReader &reader = feed->ring().reader();
	const PublishTotals &totals = stats_.totals();
	auto sum = [](const auto &counts) { return std::accumulate(counts.begin(), counts.end(), uint64_t{0}); };

	reader.set_metric(PublisherMetric::Messages, sum(totals.messages));
	reader.set_metric(PublisherMetric::Events, sum(totals.events));
	reader.set_metric(PublisherMetric::Packages, totals.packages);
	reader.set_metric(PublisherMetric::HeldEvents, totals.held_events);
	reader.set_metric(PublisherMetric::RawBytes, totals.raw_bytes);
	reader.set_metric(PublisherMetric::PublishedBytes, totals.body_bytes);
	reader.set_metric(PublisherMetric::CompressionTime, totals.compression.sum_ns);
	reader.set_metric(PublisherMetric::PublishTime, totals.publish_to_ack.sum_ns);
	reader.set_metric(PublisherMetric::CommitTime, totals.commit_to_ack.sum_ns);
	reader.set_metric(PublisherMetric::InFlight, ledger_.messages());
	reader.set_metric(PublisherMetric::InFlightBytes, ledger_.bytes());
	reader.set_metric(PublisherMetric::Disconnects, stream_.interruptions());
	reader.set_metric(PublisherMetric::Refusals, incidents_.refusals);
	reader.set_metric(PublisherMetric::Timeouts, incidents_.timeouts);
}

} // namespace siphon
