/* See stream_guard.h. */
#include "stream_guard.h"

#include "exit_codes.h"
#include "lineage.h"

namespace siphon {

/* Nothing that was there is left, and limits take away the oldest, little by little. */
static bool
limits_explain(const LogHealth &before, const LogHealth &now, double seconds)
{
	if (now.age_limit > 0 && now.age_limit <= seconds + 1)
		return true;
	/* Where a limit of bytes or messages did it, there is as much in its place. */
	if (now.bytes_limit > 0 && now.bytes >= now.bytes_limit / 4)
		return true;
	return now.messages_limit > 0 && now.messages >= now.messages_limit / 4 && now.last >= before.last;
}

void
StreamGuard::check_log(const std::string &name, const LogHealth &health, Place since, Clock::time_point now)
{
	bool nothing = health.first == kNoPlace;
	bool emptied = false;

	if (!health.lossy)
		emptied = nothing ? health.last > kNoPlace : health.first > since;
	else if (before_ && !health.consumed && before_->first != kNoPlace && (nothing || health.first > before_->last))
		emptied = !limits_explain(*before_, health, std::chrono::duration<double>(now - looked_at_).count());
	if (emptied)
		throw Fatal(ExitCode::StreamRefused,
					name + " was emptied by somebody: " +
						(nothing ? "nothing of what stood there is left"
								 : "what stood before sequence " + std::to_string(health.first) + " is gone") +
						", and who had not read it can't any more; " + resync_advice(application_));
	before_ = health;
	looked_at_ = now;
}

void
StreamGuard::check_spill(const std::string &name, const LogHealth &health, std::optional<Place> lowest) const
{
	if (!lowest)
		return;
	if (health.removed == 0 && (*lowest == kNoPlace || (health.first != kNoPlace && health.first <= *lowest)))
		return;
	throw Fatal(ExitCode::StreamRefused, name + " has lost changes that waited for the end of a snapshot: somebody took "
												"messages away; " +
											 resync_advice(application_));
}

} // namespace siphon
