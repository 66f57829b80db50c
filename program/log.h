/*
 * The log: one line per event on stderr, with UTC time and level. Write states when they change, not
 * each attempt: an outage of a night is two lines. What comes again and again all the same is cut short, see
 * log_limit.h. There is nothing of rows in it.
 */
#ifndef SIPHON_LOG_H
#define SIPHON_LOG_H

#include <chrono>
#include <string>

#include <spdlog/spdlog.h>

namespace siphon {

/* Level: debug, info, warning or error. Format: text, for people, or json, see log_json.h. */
void log_open(const std::string &level, const std::string &format = "text", const std::string &application = "");

/*
 * Says what the program waits for, once: when it has waited for that for a moment, so that a wait that
 * ends at once says nothing.
 */
class WaitNotice
{
public:
	using Clock = std::chrono::steady_clock;

	void waiting(const std::string &what, Clock::time_point now);
	/* Empty: for nothing. */
	const std::string &what() const { return what_; }
	/* What was waited for has come. True if the wait had been logged. */
	bool over();

private:
	std::string what_;
	Clock::time_point since_;
	bool said_ = false;
};

} // namespace siphon

#endif
