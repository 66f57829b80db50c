/*
 * How Publisher resumes: before anything is published, and again after anything uncertain, it finds out what the logs
 * have, whether the source may publish there, and goes on behind what is there; publisher_state.h has the steps.
 */
#include "publisher/core/publisher.h"

#include <algorithm>
#include <charconv>

#include "program/exit_codes.h"
#include "publisher/stream/resync_advice.h"
#include "reader/subject.h"

namespace siphon {

/* How often to try a stream that is not there. */
static constexpr std::chrono::milliseconds kRetry{250};
/* A worker sends a heartbeat twice a second. */
static constexpr std::chrono::microseconds kSilence = std::chrono::seconds(5);
/* A log may seem to have lost something for a moment: a server that has just come to lead answers before it has read it. */
static constexpr std::chrono::seconds kLostPatience{10};

/* The one place that changes the state. A transition that the table does not have would be a mistake in this program. */
void
Publisher::enter(PublisherState state)
{
	if (!is_transition(kPublisherTransitions, {state_}, state))
		throw Fatal(ExitCode::Unexpected, std::string("the publisher cannot go on as intended from ") + state_name());
	if (state_ != state)
		state_since_ = now_;
	state_ = state;
}

/* Stops publishing until resume_from_stream() has found out what the logs have. */
void
Publisher::suspend_publishing(Clock::duration patience)
{
	enter(PublisherState::FindingEnds);
	state_since_ = now_;
	resume_after_ = now_ + patience;
	guard_.forget();
	inspecting_ = false;
	/* One that led to nothing may have been bad luck; more are a reason to take it slowly. */
	if (!has_stored_since_resume() && ++fruitless_resumes_ > 1)
		retry_at_ = now_ + kRetry * std::min(fruitless_resumes_, 4);
}

void
Publisher::retry_later(const std::string &waiting_for)
{
	notice_.waiting(waiting_for, now_);
	retry_at_ = now_ + kRetry;
	enter(PublisherState::FindingEnds);
}

/* Once acks of messages in flight have come or can't. True when publishing may go on. */
bool
Publisher::resume_from_stream()
{
	if (publishing())
		return true;
	if (now_ < retry_at_ || decoder() == nullptr)
		return false;
	if (!stream_.ready())
	{
		/* A connection that was lost has been logged as lost. */
		if (!start_logged_)
			notice_.waiting(stream_.describe(), now_);
		retry_at_ = now_ + kRetry;
		return false;
	}

	uint64_t interruptions = stream_.interruptions();

	if (ledger_.unanswered() > 0 && now_ < resume_after_ && interruptions == interruptions_)
		return false;
	if (interruptions != resuming_interruptions_)
	{
		enter(PublisherState::FindingEnds);
		looked_[0] = looked_[1] = false;
	}
	if (state_ == PublisherState::FindingEnds)
		resuming_interruptions_ = interruptions;

	std::string why;

	while (resume_step(&why))
	{
		if (state_ == PublisherState::FindingHeld)
		{
			begin_publishing();
			return true;
		}
		enter(static_cast<PublisherState>(static_cast<int>(state_) + 1));
	}
	if (!why.empty())
		retry_later(why);
	return false;
}

/* True: the step is done. */
bool
Publisher::resume_step(std::string *why)
{
	switch (state_)
	{
		case PublisherState::FindingEnds:
			return find_ends(why);
		case PublisherState::CheckingOwner:
			return check_owner(why);
		case PublisherState::CheckingSource:
			return check_source(why);
		case PublisherState::Claiming:
			return history_.claim(why);
		case PublisherState::LoadingStates:
			return load_states(why);
		case PublisherState::Fencing:
			return fence(why);
		case PublisherState::ReadingTails:
			return read_tails(why);
		case PublisherState::FindingHeld:
			return find_held(why);
		case PublisherState::Publishing:
			break;
	}
	return false;
}

bool
Publisher::find_ends(std::string *why)
{
	std::string spill_why;

	if (!looked_[0])
	{
		std::optional<LogEnd> end = stream_.log().look(why);

		if (end)
			log_end_ = *end;
		looked_[0] = end.has_value();
	}
	if (!looked_[1])
	{
		std::optional<LogEnd> end = stream_.spill().look(&spill_why);

		if (end)
			spill_end_ = *end;
		looked_[1] = end.has_value();
	}
	if (why->empty())
		*why = spill_why;

	bool done = looked_[0] && looked_[1];

	if (done || !why->empty())
		looked_[0] = looked_[1] = false;
	if (done)
	{
		enter_answers();
		history_.discard_partial_answers();
		hand_off_.discard_partial_answers();
	}
	fenced_[0] = fenced_[1] = false;
	tail_reader_.reset();
	tail_read_ = kNoPlace;
	log_tail_read_ = false;
	return done;
}

bool
Publisher::check_owner(std::string *why)
{
	if (!history_.refresh(why))
		return false;
	/* Had another publisher taken over, that would explain it. */
	for (const LogEnd *end : {&log_end_, &spill_end_})
	{
		if (!end->disorder.empty())
			throw Fatal(ExitCode::StreamRefused, end->disorder);
	}
	return true;
}

/* Its worker is known to be gone, so what the ring holds comes once more in the next one. */
static bool
is_abandoned(const RingReader &ring)
{
	auto now =
		std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch());
	uint64_t heartbeat = ring.worker_heartbeat();

	return ring.metric(RingMetric::Ended) != 0 ||
		   (heartbeat != 0 && heartbeat + kSilence.count() < static_cast<uint64_t>(now.count()));
}

/*
 * A server that was replaced in a failover, and may come back, leaves its last ring where it was. The stream has gone on
 * without it, as the server's next one will say.
 */
bool
Publisher::is_left_over(RingMessageSource *feed, std::string *why)
{
	const RingReader &ring = feed->ring().reader();
	const HistoryRecord *origin;

	if (owns_stream_tail_ || !is_abandoned(ring))
		return false;
	if (feed->accepted() ? !history_.continues_other_ring(ring.history(), feed->epoch())
						 : (origin = feed->peek_origin()) == nullptr || !history_.is_left_behind(*origin))
		return false;
	*why = "the decoder to create another ring than " + feed->ring().path() +
		   ", which is left from before: " + stream_.describe() + " went on without it";
	return true;
}

/*
 * Of a ring from which something is acknowledged, its origin was dealt with. One from which we know of nothing may say so
 * because somebody wrote over it: the next ring begins with an origin, which tells a damaged ring from another server.
 */
bool
Publisher::ring_matches_stream()
{
	RingMessageSource *feed = decoder();

	if (owns_stream_tail_ || !feed->accepted() ||
		!history_.continues_other_ring(feed->ring().reader().history(), feed->epoch()))
		return true;
	feed->reject_history();
	return false;
}

bool
Publisher::check_source(std::string *why)
{
	RingMessageSource *feed = decoder();

	acknowledged_ = {};
	if (is_left_over(feed, why))
		return false;
	if (!ring_matches_stream())
	{
		retry_at_ = now_ + kRetry;
		enter(PublisherState::FindingEnds);
		return false;
	}
	if (feed->accepted())
	{
		history_.check_continued(feed->ring().reader().history(), feed->epoch(), log_end_.place);
		tails_ = history_.repeat_places();
		acknowledged_ = feed->ring().reader().checkpoint();
	}
	else
	{
		const HistoryRecord *origin = feed->peek_origin();

		/* It is about to come. */
		if (origin == nullptr)
			return false;
		tails_.reset();
		if (!history_.is_new(*origin, log_end_.place))
		{
			acknowledged_ = origin->checkpoint;
			if (!find_tails(origin->confirmed, why))
				return false;
		}
	}
	if (!check_checkpoint(&stream_.log(), log_end_, acknowledged_.log, why))
		return false;
	lost_since_ = {};
	return true;
}

static Place
parse_place(const std::string &text)
{
	Place place = kNoPlace;

	std::from_chars(text.data(), text.data() + text.size(), place);
	return place;
}

/*
 * The decoder begins anew behind the watermarks up to `confirmed`. Where the logs have what is beyond it, such a watermark
 * says, see RingMessageSource::admit_watermark(). One of a release that did not say it says nothing.
 */
bool
Publisher::find_tails(uint64_t confirmed, std::string *why)
{
	std::optional<StoredMessage> watermark;

	if (!stream_.log().find_up_to(watermark_subject(feed_context_.subject_root), {confirmed, 0}, history_.since(),
								  &watermark, why))
		return false;
	tails_ = {history_.since(), kNoPlace};
	if (watermark && !watermark->held.empty())
	{
		tails_->log = watermark->behind.empty() ? watermark->place : parse_place(watermark->behind);
		tails_->spill = parse_place(watermark->held);
	}
	history_.note_repeat_places(*tails_);
	return true;
}

bool
Publisher::load_states(std::string *why)
{
	if (!states_loaded_)
	{
		std::optional<std::map<std::string, std::string>> entries = stream_.states().load(why);

		if (!entries)
			return false;
		hand_off_.load(*entries);
		states_loaded_ = true;
	}
	/* What was held, and is moved, nobody misses. */
	if (hand_off_.lowest_held() && !check_checkpoint(&stream_.spill(), spill_end_, acknowledged_.spill, why))
		return false;
	lost_since_ = {};
	return true;
}

/* Does the log hold what was acknowledged? Fatal if it does not for a while. False: not yet. */
bool
Publisher::check_checkpoint(Log *log, const LogEnd &end, const Checkpoint::End &acknowledged, std::string *why)
{
	bool gone = false;

	if (acknowledged.place == kNoPlace)
		return true;
	if (end.place < acknowledged.place)
		return check_lost(log,
						  " has lost messages that it had acknowledged: it ends at sequence " +
							  std::to_string(end.place) + " and had reached " + std::to_string(acknowledged.place),
						  why);

	std::optional<bool> holds = log->holds(acknowledged.place, acknowledged.message, &gone, why);

	if (!holds)
		return false;
	if (!*holds)
		return check_lost(log,
						  " has lost what it had acknowledged: message " + std::to_string(acknowledged.place) +
							  " is another one now",
						  why);
	if (gone && acknowledged.log != 0 && end.identity != 0 && acknowledged.log != end.identity)
		return check_lost(log, " is another one than that which had acknowledged what was published", why);
	if (gone && end.lossy)
	{
		std::optional<LogHealth> health = log->health(why);

		if (!health)
			return false;

		std::string emptied = guard_.look_back(log->describe(), *health, acknowledged.place);

		if (!emptied.empty())
			throw Fatal(ExitCode::StreamRefused, emptied);
	}
	return true;
}

bool
Publisher::check_lost(Log *log, const std::string &what, std::string *why)
{
	if (lost_since_ == Clock::time_point())
		lost_since_ = now_;
	if (now_ - lost_since_ >= kLostPatience)
		throw Fatal(ExitCode::StreamRefused, log->describe() + what + "; " + resync_advice(config_.application));
	*why = log->describe() + ", which seems to have lost messages, to recover them";
	return false;
}

bool
Publisher::fence(std::string *why)
{
	std::string spill_why;

	if (!fenced_[0])
		fenced_[0] = stream_.log().fence(history_.in_flight(), log_end_.cursors, &log_end_, why);
	if (!fenced_[1])
		fenced_[1] = stream_.spill().fence(history_.in_flight(), spill_end_.cursors, &spill_end_, &spill_why);
	for (LogEnd *end : {&log_end_, &spill_end_})
	{
		if (!end->refused.empty())
			note_refusal(end->refused);
		end->refused.clear();
	}
	if (why->empty())
		*why = spill_why;
	return fenced_[0] && fenced_[1];
}

/* What the stream has behind the places where the decoder's ring may have begun; once for each ring. */
bool
Publisher::read_tails(std::string *why)
{
	uint64_t ring = decoder()->epoch();

	if (tails_of_ == ring)
		return true;
	if (!tails_)
	{
		published_.clear();
		tails_of_ = ring;
		return true;
	}
	if (!tail_reader_ && !log_tail_read_ && tail_read_ == kNoPlace)
		published_.clear();
	if (!log_tail_read_)
	{
		if (!read_tail(&stream_.log(), tails_->log, log_end_.place, why))
			return false;
		log_tail_read_ = true;
	}
	if (!read_tail(&stream_.spill(), tails_->spill, spill_end_.place, why))
		return false;
	log_tail_read_ = false;
	tails_of_ = ring;
	return true;
}

/* Reads up to the fence, which is the log's last message. False: not yet. */
bool
Publisher::read_tail(Log *log, Place behind, Place end, std::string *why)
{
	if (!tail_reader_ && tail_read_ == kNoPlace)
		tail_messages_ = 0;
	if (!tail_reader_)
		tail_reader_ = log->read(">", std::max(behind, tail_read_), true, why);
	if (!tail_reader_)
		return false;
	tail_.clear();

	bool sound = tail_reader_->take(&tail_);

	published_.add(tail_, log->describe());
	tail_messages_ += tail_.size();
	if (!tail_.empty())
		tail_read_ = tail_.back().place;
	if (tail_read_ >= end)
	{
		tail_reader_.reset();
		tail_read_ = kNoPlace;
		return true;
	}
	if (sound && !tail_reader_->pulling())
	{
		/* It may look at a replica that lags behind. */
		sound = tail_reader_->pending() > 0;
		if (sound)
			tail_reader_->pull();
	}
	if (!sound)
	{
		/* Another goes on where it stood; to look again would only make the tail longer, by a fence. */
		tail_reader_.reset();
		notice_.waiting(log->describe() + " to be read to its end", now_);
		retry_at_ = now_ + kRetry;
	}
	return false;
}

/* What the last publisher sent last may have arrived since the states were read: then they are read again. */
bool
Publisher::find_held(std::string *why)
{
	try
	{
		return hand_off_.resume(parse_cursors(log_end_.cursors), why);
	}
	catch (const Fatal &fatal)
	{
		if (fatal.code != ExitCode::Replaced)
			throw;
		/* Whether another publisher has taken over is looked at before. */
		states_loaded_ = false;
		*why = "the states of tables, one of which was written just now";
		return false;
	}
}

/* Acknowledges to the rings what the logs have, and goes on with the first messages that they have not. */
void
Publisher::begin_publishing()
{
	Cursors in_log = parse_cursors(log_end_.cursors);
	Cursors in_spill = parse_cursors(spill_end_.cursors);
	auto find = [](const Cursors &cursors, const std::string &name) {
		auto cursor = cursors.find(name);

		return cursor == cursors.end() ? nullptr : &cursor->second;
	};

	stats_.forget_in_flight();
	ledger_.reset_to({log_end_.place, log_end_.message}, {spill_end_.place, spill_end_.message});
	resumed_token_ = ledger_.stored_token();
	sources_placed_ = false;
	owns_stream_tail_ = true;
	for (const auto &[name, feed] : feeds_)
		feed->resume(find(in_log, name), find(in_spill, name));
	interruptions_ = resuming_interruptions_;
	enter(PublisherState::Publishing);
	incidents_.settlings++;

	bool waited = notice_.over();

	for (const auto &[name, feed] : feeds_)
	{
		const RingReader &reader = feed->ring().reader();

		if (waited || !start_logged_)
			spdlog::info("publishing ring {:016x} from ring offset {} to {}, after sequence {}", reader.ring_id(),
						 reader.acked(), stream_.describe(), log_end_.place);
		else
			spdlog::debug("resumed: {} ends at sequence {}, ring {} is acknowledged up to {}", stream_.describe(),
						  log_end_.place, name, reader.acked());
	}
	start_logged_ = true;
}

} // namespace siphon
