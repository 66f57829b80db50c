/*
 * A line with the throughput every ten seconds, as long as something happens.
 */
#ifndef SIPHON_THROUGHPUT_LOG_H
#define SIPHON_THROUGHPUT_LOG_H

#include <chrono>
#include <cstdint>

namespace siphon {

class ThroughputLog
{
public:
	using Clock = std::chrono::steady_clock;

	/* One message was published. Events: of the record that it completes. */
	void published(uint64_t events, uint64_t raw_bytes, uint64_t body_bytes)
	{
		messages_++;
		events_ += events;
		raw_bytes_ += raw_bytes;
		body_bytes_ += body_bytes;
	}

	/* Logs if it is time to. */
	void report(Clock::time_point now, uint64_t in_flight, uint64_t ring_used, uint64_t ring_capacity);

private:
	Clock::time_point since_ = Clock::now();
	uint64_t messages_ = 0;
	uint64_t events_ = 0;
	uint64_t raw_bytes_ = 0;
	uint64_t body_bytes_ = 0;
};

} // namespace siphon

#endif
