/* See stream_guard.h. */
#include "publisher/history/stream_guard.h"

#include "program/exit_codes.h"
#include "publisher/stream/resync_advice.h"

namespace siphon {

/*
 * Where a limit of bytes or messages took the oldest away, little by little, there is as much in its place. Where one of
 * messages on a subject did, the last of each is there.
 */
static bool
has_as_much(const LogHealth &now, const LogHealth &limits)
{
	return (limits.subject_limit > 0 && now.first != kNoPlace) ||
		   (limits.bytes_limit > 0 && now.bytes >= limits.bytes_limit / 4) ||
		   (limits.messages_limit > 0 && now.messages >= limits.messages_limit / 4);
}

std::string
StreamGuard::emptied(const std::string &name, const LogHealth &health) const
{
	return name + " was emptied: " +
		   (health.first == kNoPlace
				? "none of its messages is left"
				: "its messages before sequence " + std::to_string(health.first) + " were removed") +
		   ", and consumers that had not read them cannot any more; " + resync_advice(application_);
}

std::string
StreamGuard::look(const std::string &name, const LogHealth &health, Place kept_from, Clock::time_point now)
{
	bool nothing = health.first == kNoPlace;
	bool done = false;

	/* What is lifted now may have been a reason a moment ago. */
	const LogHealth &limits = before_ && before_->lossy && !health.lossy ? *before_ : health;

	if (!limits.lossy)
		done = nothing ? health.last > kNoPlace && health.last >= kept_from : health.first > kept_from;
	else if (before_ && !health.consumed && before_->first != kNoPlace && (nothing || health.first > before_->last))
	{
		double seconds = std::chrono::duration<double>(now - looked_at_).count();

		done = !has_as_much(health, limits) && (limits.age_limit <= 0 || limits.age_limit > seconds + 1);
	}
	before_ = health;
	looked_at_ = now;
	return done ? emptied(name, health) : "";
}

std::string
StreamGuard::look_back(const std::string &name, const LogHealth &health, Place acknowledged) const
{
	/* How old the acknowledged one was is known if none came after it. */
	bool may_be_old = health.age_limit > 0 &&
					  (health.last != acknowledged || health.last_age < 0 || health.last_age + 1 >= health.age_limit);

	if (health.first != kNoPlace || !health.lossy || health.consumed || may_be_old || has_as_much(health, health))
		return "";
	return emptied(name, health);
}

void
StreamGuard::check_spill(const std::string &name, const LogHealth &health, std::optional<Place> lowest) const
{
	if (!lowest)
		return;
	if (health.removed == 0 && (*lowest == kNoPlace || (health.first != kNoPlace && health.first <= *lowest)))
		return;
	throw Fatal(ExitCode::StreamRefused,
				name + " has lost held changes: messages were removed; " + resync_advice(application_));
}

} // namespace siphon
