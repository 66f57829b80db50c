/* See log.h. */
#include "log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace siphon {

static constexpr std::chrono::milliseconds kQuiet{500};

void
log_open(const std::string &level)
{
	auto logger = std::make_shared<spdlog::logger>("siphon", std::make_shared<spdlog::sinks::stderr_sink_mt>());

	logger->set_formatter(std::make_unique<spdlog::pattern_formatter>("%Y-%m-%d %H:%M:%S.%e UTC %l: %v",
																	  spdlog::pattern_time_type::utc));
	logger->set_level(spdlog::level::from_str(level));
	spdlog::set_default_logger(logger);
}

void
WaitNotice::waiting(const std::string &what, Clock::time_point now)
{
	if (what != what_)
	{
		/* A reason that changes during one wait was worth waiting for already. */
		if (what_.empty())
			since_ = now;
		what_ = what;
		said_ = false;
	}
	if (!said_ && now - since_ >= kQuiet)
	{
		spdlog::info("waiting for {}", what_);
		said_ = true;
	}
}

bool
WaitNotice::over()
{
	bool said = said_;

	what_.clear();
	said_ = false;
	return said;
}

} // namespace siphon
