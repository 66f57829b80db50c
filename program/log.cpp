/* See log.h. */
#include "program/log.h"

#include <cstdio>
#include <mutex>

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>

#include "program/log_json.h"
#include "program/log_limit.h"

namespace siphon {

static constexpr std::chrono::milliseconds kQuiet{500};

namespace {

/* stderr, for those lines that the limit admits. */
class LimitedSink : public spdlog::sinks::base_sink<std::mutex>
{
protected:
	void sink_it_(const spdlog::details::log_msg &line) override
	{
		uint64_t left_out;

		if (!limit_.admit(std::string_view(line.payload.data(), line.payload.size()), LogLimit::Clock::now(),
						  &left_out))
			return;
		if (left_out > 0)
		{
			std::string text = std::to_string(left_out) + " lines like the next one were left out";

			write(spdlog::details::log_msg(line.time, {}, line.logger_name, line.level, text));
		}
		write(line);
	}
	void flush_() override {}

private:
	void write(const spdlog::details::log_msg &line)
	{
		spdlog::memory_buf_t buffer;

		formatter_->format(line, buffer);
		fwrite(buffer.data(), 1, buffer.size(), stderr);
	}

	LogLimit limit_;
};

} // namespace

void
log_open(const std::string &level, const std::string &format, const std::string &application)
{
	auto logger = std::make_shared<spdlog::logger>("siphon", std::make_shared<LimitedSink>());

	if (format == "json")
		logger->set_formatter(json_formatter(application));
	else
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
