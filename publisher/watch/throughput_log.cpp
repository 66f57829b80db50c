/* See throughput_log.h. */
#include "publisher/watch/throughput_log.h"

#include "program/log.h"

namespace siphon {

static constexpr std::chrono::seconds kInterval{10};

void
ThroughputLog::report(Clock::time_point now, uint64_t in_flight, uint64_t ring_used, uint64_t ring_capacity)
{
	if (now - since_ < kInterval)
		return;
	if (messages_ > 0)
	{
		double seconds = std::chrono::duration<double>(now - since_).count();
		double megabyte = 1024.0 * 1024.0;

		spdlog::info("{:.0f} events/s, {:.0f} messages/s, {:.1f} MB/s raw, {:.1f} MB/s published; "
					 "{} in flight, ring {:.0f}% full",
					 static_cast<double>(events_) / seconds, static_cast<double>(messages_) / seconds,
					 static_cast<double>(raw_bytes_) / megabyte / seconds,
					 static_cast<double>(body_bytes_) / megabyte / seconds, in_flight,
					 100.0 * static_cast<double>(ring_used) / static_cast<double>(ring_capacity));
	}
	*this = ThroughputLog();
}

} // namespace siphon
