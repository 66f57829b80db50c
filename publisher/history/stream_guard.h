/*
 * Notices what others took away from the logs: it shows nowhere else, and who had not read it can't any more. Looks at
 * their state now and then, and tells what a limit explains from what only somebody's hand does.
 */
#ifndef SIPHON_STREAM_GUARD_H
#define SIPHON_STREAM_GUARD_H

#include <chrono>
#include <optional>
#include <string>

#include "publisher/stream/log.h"

namespace siphon {

class StreamGuard
{
public:
	using Clock = std::chrono::steady_clock;

	explicit StreamGuard(const std::string &application) : application_(application) {}

	/*
	 * What somebody did to a log that, where no limit is set, has kept all from a place on, as a line for people; "" if nobody
	 * took anything away.
	 */
	std::string look(const std::string &name, const LogHealth &health, Place kept_from, Clock::time_point now);
	/* The same at a start, when the message that was acknowledged last, at this place, is gone. */
	std::string look_back(const std::string &name, const LogHealth &health, Place acknowledged) const;
	/* Nothing behind `lowest` may be missing; nullopt: nothing is held. Fatal if something is. */
	void check_spill(const std::string &name, const LogHealth &health, std::optional<Place> lowest) const;
	/* The log was not watched for a while: what happened meanwhile has no explanation. */
	void forget() { before_.reset(); }

private:
	std::string emptied(const std::string &name, const LogHealth &health) const;

	const std::string application_;
	std::optional<LogHealth> before_; /* at the look before */
	Clock::time_point looked_at_{};
};

} // namespace siphon

#endif
