/* See status_history.h. */
#include "publisher/watch/status_history.h"

#include <numeric>

namespace siphon {

StatusHistory::StatusHistory() : status_(std::make_shared<Status>())
{
}

void
StatusHistory::put(std::shared_ptr<const Status> status)
{
	std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);

	if (!lock)
		return;
	status_.swap(status);
	if (!status_->starting && (!sampled_ || status_->at - sampled_->at >= kInterval))
		sample(*status_);
}

std::shared_ptr<const Status>
StatusHistory::status() const
{
	std::lock_guard<std::mutex> guard(mutex_);

	return status_;
}

std::vector<Sample>
StatusHistory::history() const
{
	std::lock_guard<std::mutex> guard(mutex_);
	std::vector<Sample> samples;
	size_t first = taken_ > kSamples ? taken_ - kSamples : 0;

	samples.reserve(taken_ - first);
	for (size_t i = first; i < taken_; i++)
		samples.push_back(samples_[i % kSamples]);
	return samples;
}

/* Per second; a counter that went back is another one's. */
static double
rate(uint64_t now, uint64_t before, double seconds)
{
	return now > before && seconds > 0 ? static_cast<double>(now - before) / seconds : 0;
}

static uint64_t
sum(const std::array<uint64_t, kOperations> &events)
{
	return std::accumulate(events.begin(), events.end(), uint64_t{0});
}

void
StatusHistory::sample(const Status &status)
{
	auto now = std::chrono::system_clock::now().time_since_epoch();
	Sample sample;

	sample.at = std::chrono::duration_cast<std::chrono::seconds>(now).count();
	if (sampled_)
	{
		double seconds = std::chrono::duration<double>(status.at - sampled_->at).count();
		DurationCounts latency = since(status.totals.commit_to_ack, sampled_->totals.commit_to_ack);

		sample.events_rate = rate(sum(status.totals.events), sum(sampled_->totals.events), seconds);
		sample.raw_rate = rate(status.totals.raw_bytes, sampled_->totals.raw_bytes, seconds);
		sample.body_rate = rate(status.totals.body_bytes, sampled_->totals.body_bytes, seconds);
		sample.latency_p50 = quantile(latency, 0.5);
		sample.latency_p99 = quantile(latency, 0.99);
	}
	if (const RingStatus *decoder = status.decoder())
	{
		const RingStatus *before = sampled_ ? sampled_->decoder() : nullptr;
		uint64_t newest = decoder->metric(RingMetric::Newest);
		uint64_t confirmed = decoder->metric(RingMetric::Confirmed);
		uint64_t lag = decoder->metric(RingMetric::LagTime);

		if (before != nullptr)
			sample.wal_rate = rate(newest, before->metric(RingMetric::Newest),
								   std::chrono::duration<double>(status.at - sampled_->at).count());
		sample.lag_bytes = static_cast<double>(newest > confirmed ? newest - confirmed : 0);
		sample.lag_seconds = lag == kMetricUnknown ? 0 : static_cast<double>(lag) / 1e6;
		sample.ring_used = static_cast<double>(decoder->used) / static_cast<double>(decoder->capacity);
	}
	samples_[taken_++ % kSamples] = sample;
	sampled_ = status_;
}

double
quantile(const DurationCounts &durations, double part)
{
	uint64_t total = 0;
	uint64_t below = 0;

	for (uint64_t count : durations.counts)
		total += count;
	if (total == 0)
		return 0;

	double wanted = part * static_cast<double>(total);

	for (uint32_t i = 0; i < kDurationBuckets; i++)
	{
		uint64_t count = durations.counts[i];

		if (count > 0 && static_cast<double>(below + count) >= wanted)
		{
			double low = i == 0 ? 0 : static_cast<double>(DurationCounts::upper_bound(i - 1));
			double high = static_cast<double>(DurationCounts::upper_bound(i));

			return (low + (high - low) * (wanted - static_cast<double>(below)) / static_cast<double>(count)) / 1e9;
		}
		below += count;
	}
	return static_cast<double>(DurationCounts::upper_bound(kDurationBuckets - 1)) / 1e9;
}

DurationCounts
since(const DurationCounts &now, const DurationCounts &before)
{
	DurationCounts result = now;

	for (uint32_t i = 0; i < kDurationBuckets; i++)
	{
		if (now.counts[i] < before.counts[i])
			return now;
		result.counts[i] -= before.counts[i];
	}
	result.sum_ns -= before.sum_ns;
	return result;
}

} // namespace siphon
