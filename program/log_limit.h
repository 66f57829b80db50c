/*
 * Keeps a line that comes again and again from filling a disk. Lines are alike if they differ in digits alone. Of those,
 * kLines a minute are written, and then how many were left out.
 */
#ifndef SIPHON_LOG_LIMIT_H
#define SIPHON_LOG_LIMIT_H

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace siphon {

class LogLimit
{
public:
	using Clock = std::chrono::steady_clock;

	static constexpr uint64_t kLines = 20;
	static constexpr std::chrono::seconds kPeriod{60};
	/* Different lines that are remembered. */
	static constexpr size_t kShapes = 1000;

	/* May it be written? *left_out: lines like it that were not, since the last that was. */
	bool admit(std::string_view line, Clock::time_point now, uint64_t *left_out);

private:
	struct Shape
	{
		Clock::time_point since;
		uint64_t lines = 0;
		uint64_t left_out = 0;
	};

	std::map<std::string, Shape> shapes_;
};

} // namespace siphon

#endif
