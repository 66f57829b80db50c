/*
 * How Publisher settles: before anything is published, and again after anything uncertain, it finds out what the queue
 * has, and goes on behind that.
 */
#include "publisher.h"

#include <algorithm>

#include "exit_codes.h"

namespace siphon {

/* How often to try a queue that is not there. */
static constexpr std::chrono::milliseconds kRetry{250};

/* Stops publishing until settle() has found out what the queue has. */
void
Publisher::unsettle(Clock::duration patience)
{
	settled_ = false;
	settle_after_ = now_ + patience;
	/* One that led to nothing may have been bad luck; more are a reason to take it slowly. */
	if (!proven() && ++fruitless_settlings_ > 1)
		retry_at_ = now_ + kRetry * std::min(fruitless_settlings_, 4);
}

void
Publisher::retry_later(const std::string &waiting_for)
{
	notice_.waiting(waiting_for, now_);
	retry_at_ = now_ + kRetry;
}

/* Finds out what the queue has, once answers under way have come or can't. True when publishing may go on. */
bool
Publisher::settle()
{
	if (settled_)
		return true;
	if (now_ < retry_at_)
		return false;
	if (!queue_.ready())
	{
		/* A connection that was lost has been logged as lost. */
		if (!greeted_)
			notice_.waiting("NATS, for " + queue_.describe(), now_);
		retry_at_ = now_ + kRetry;
		return false;
	}

	uint64_t interruptions = queue_.interruptions();

	if (ledger_.unanswered() > 0 && now_ < settle_after_ && interruptions == interruptions_)
		return false;

	std::string why;
	std::optional<LogEnd> end = queue_.read_end(&why);

	now_ = Clock::now();
	if (!end)
	{
		retry_later(why);
		return false;
	}
	if (!lineage_.settle(&why))
	{
		retry_later(why);
		return false;
	}
	if (!believes_ring())
	{
		retry_at_ = now_ + kRetry;
		return false;
	}
	check_log_end(*end);

	Cursors cursors = parse_cursors(end->cursors);

	pass_on_acks();

	/* Each time, as what was under way may have arrived since. */
	std::optional<std::vector<StoredMessage>> last =
		queue_.last_of_each(feed_context_.subject_root + ".>", end->sequence, &why);

	if (last)
		learn_published(*last);
	if (!last || !hand_off_.settle(cursors, lineage_.since(), *last, &why))
	{
		retry_later(why);
		return false;
	}
	resume_after(*end, cursors);
	interruptions_ = interruptions;
	settled_ = true;
	incidents_.settlings++;

	bool waited = notice_.over();

	for (const auto &[name, feed] : feeds_)
	{
		const RingReader &reader = feed->ring().reader();

		if (waited || !greeted_)
			spdlog::info("publishing ring {:016x} from position {} on to {}, behind sequence {}", reader.epoch(),
						 reader.acked(), queue_.describe(), end->sequence);
		else
			spdlog::debug("settled: {} ends at sequence {}, ring {} is acknowledged up to {}", queue_.describe(),
						  end->sequence, name, reader.acked());
	}
	greeted_ = true;
	return true;
}

/*
 * Of a ring from which something is acknowledged, its origin was dealt with. One from which we know of nothing may say so
 * because somebody wrote over it: the next ring begins with an origin, which tells a damaged ring from another server.
 */
bool
Publisher::believes_ring()
{
	RingFeed *feed = decoder();

	if (feed == nullptr || chained_ || !feed->accepted() ||
		!lineage_.left(feed->ring().reader().history(), feed->epoch()))
		return true;
	feed->disown();
	return false;
}

/* Is the log still what this publisher, and nobody else, wrote? */
void
Publisher::check_log_end(const LogEnd &end) const
{
	uint64_t known = ledger_.stored_sequence();
	const RingFeed *feed = decoder();

	/* Its origin was dealt with, by a publisher before us perhaps. */
	if (feed != nullptr && feed->accepted())
		lineage_.check_continued(feed->ring().reader().history(), feed->epoch(), end.sequence);
	if (!chained_)
		return;
	if (end.sequence < known)
		throw Fatal(ExitCode::StreamRefused, queue_.describe() +
												 " has lost messages that it had acknowledged: it ends at sequence " +
												 std::to_string(end.sequence) + " and had reached " +
												 std::to_string(known) + "; " + resync_advice(config_.application));
	if (end.sequence == known)
		return;
	if (end.foreign)
		throw Fatal(ExitCode::StreamRefused, "somebody else writes to " + queue_.describe() + ": message " +
												 std::to_string(end.sequence) + " is not a publisher's");
	if (end.id.empty())
		spdlog::warn("{} has dropped its last messages, up to sequence {}; some may be published a second time",
					 queue_.describe(), end.sequence);
}

void
Publisher::learn_published(const std::vector<StoredMessage> &last)
{
	const RingFeed *feed = decoder();

	/* In front of an origin it is its feed's business. */
	if (feed != nullptr && feed->accepted())
		published_.take(last, lineage_.since(), queue_.describe());
}

/* Acknowledges to the rings what the queue has, and goes on with the first messages that it has not. */
void
Publisher::resume_after(const LogEnd &end, const Cursors &cursors)
{
	traffic_.settled(end.sequence, now_);
	ledger_.settle(end.sequence);
	settled_sequence_ = end.sequence;
	placed_ = false;
	chained_ |= !end.id.empty() && !end.foreign;
	previous_id_.clear();

	for (const auto &[name, feed] : feeds_)
	{
		auto cursor = cursors.find(name);

		feed->resume(cursor == cursors.end() ? nullptr : &cursor->second, end.sequence);
	}
}

} // namespace siphon
