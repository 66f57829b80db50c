/*
 * Between the loop and those who answer questions over HTTP: the loop leaves its status here, others take it, and what it
 * was over the last hour. The loop never waits for them: where somebody is just taking it, it leaves the next one.
 */
#ifndef SIPHON_STATUS_HISTORY_H
#define SIPHON_STATUS_HISTORY_H

#include <array>
#include <chrono>
#include <memory>
#include <mutex>
#include <vector>

#include "publisher/watch/status.h"

namespace siphon {

/* A point of the plots. Rates are over the interval since the point before. */
struct Sample
{
	int64_t at = 0; /* seconds since 1970 */
	double events_rate = 0;
	double raw_rate = 0;  /* bytes before compression */
	double body_rate = 0; /* and after it */
	double wal_rate = 0;  /* that the server writes */
	double lag_bytes = 0;
	double lag_seconds = 0;
	double ring_used = 0;   /* of 1 */
	double latency_p50 = 0; /* seconds from commit to acknowledgement; 0: nothing was acknowledged */
	double latency_p99 = 0;
};

class StatusHistory
{
public:
	using Clock = std::chrono::steady_clock;

	static constexpr std::chrono::seconds kInterval{5};
	static constexpr size_t kSamples = 720;

	StatusHistory();

	/* The loop's. */
	void put(std::shared_ptr<const Status> status);

	/* Never nullptr. */
	std::shared_ptr<const Status> status() const;
	/* Oldest first. */
	std::vector<Sample> history() const;
	Clock::time_point started() const { return started_; }

private:
	void sample(const Status &status);

	const Clock::time_point started_ = Clock::now();
	mutable std::mutex mutex_;
	std::shared_ptr<const Status> status_;
	std::shared_ptr<const Status> sampled_; /* when the last sample was taken; nullptr: there is none to compare with */
	std::array<Sample, kSamples> samples_;  /* a circle */
	size_t taken_ = 0;
};

/* The duration, in seconds, that this part of those counted did not exceed; 0 if none was. */
double quantile(const DurationCounts &durations, double part);
/* What was counted after `before`, which may be of another, earlier counter: then all of it. */
DurationCounts since(const DurationCounts &now, const DurationCounts &before);

} // namespace siphon

#endif
