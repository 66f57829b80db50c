/* See publisher.h. */
#include "publisher.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <poll.h>

#include "exit_codes.h"

namespace siphon {

using std::chrono::milliseconds;
using std::chrono::seconds;

/* How often the ring is told that we live, and looked at for having been replaced. */
static constexpr milliseconds kBeat{1000};
/* How often to look for a ring, or try a queue, that is not there. */
static constexpr milliseconds kRetry{250};
/* A message without an answer for this long has lost it. */
static constexpr seconds kAnswerTimeout{10};
/* After a refusal, answers to what else is under way get this long before the queue's end is read. */
static constexpr seconds kSettlePatience{2};
/* A queue that takes nothing, because it is full for example, is tried again this often. */
static constexpr seconds kRefusedRetry{1};

Publisher::Publisher(const Config &config, RingSource *ring, Queue *queue, Wakeup *wakeup,
					 const std::atomic<int> *stop_requests)
	: config_(config), ring_(*ring), queue_(*queue), wakeup_(*wakeup), stop_requests_(*stop_requests),
	  ledger_(config.max_in_flight, config.max_in_flight_bytes),
	  messages_(subject_root(config.subject_prefix, config.application), config.compression_level)
{
}

void
Publisher::run()
{
	now_ = Clock::now();
	next_beat_ = now_;
	unattached_since_ = now_;

	while (stop_requests_.load() == 0)
	{
		changes_seen_ = wakeup_.changes();
		now_ = Clock::now();
		if (now_ >= next_beat_)
			housekeep();
		collect();
		if (attach() && settle() && publish_next())
			continue;
		sleep(next_beat_, settled_ && !messages_.active());
	}
	drain();
}

/* What is due once a second, and when the bell rang. */
void
Publisher::housekeep()
{
	next_beat_ = now_ + kBeat;
	if (!ring_.attached())
		return;
	ring_.beat();
	progress_.report(now_, ledger_.messages(), ring_.reader().written() - ring_.reader().acked(),
					 ring_.reader().capacity());
	if (ring_.replaced())
		leave_ring();
}

bool
Publisher::attach()
{
	if (ring_.attached())
		return true;
	if (now_ < retry_at_)
		return false;
	if (!ring_.attach())
	{
		if (config_.attach_timeout.count() > 0 && now_ - unattached_since_ >= config_.attach_timeout)
			throw Fatal(ExitCode::AttachTimeout, "no ring at " + ring_.path() + " within the attach timeout");
		retry_later("the decoder of application " + config_.application + " to make " + ring_.path());
		return false;
	}
	chained_ = false;
	return true;
}

/*
 * The decoder made a new ring, or the application was dropped. What the old ring held and was not published
 * will be decoded again. Messages under way are given up too: settling on the new ring reads what came of
 * them.
 */
void
Publisher::leave_ring()
{
	const RingReader &reader = ring_.reader();

	spdlog::info("the decoder has left ring {:016x}; the {} bytes in it that were not published yet are dropped, "
				 "the decoder decodes them again",
				 reader.epoch(), reader.written() - reader.read_position());
	messages_.clear();
	ledger_.settle(ledger_.stored_sequence(), 0);
	ring_.detach();
	settled_ = false;
	greeted_ = false;
	settle_after_ = now_;
	retry_at_ = now_;
	unattached_since_ = now_;
}

/* Enters the answers that have come, and passes on to the ring what they complete. */
void
Publisher::collect()
{
	bool refused = false;

	answers_.clear();
	queue_.collect(&answers_);
	for (const Answer &answer : answers_)
	{
		if (answer.verdict == Verdict::Stored)
		{
			ledger_.stored(answer.token, answer.sequence);
			continue;
		}
		ledger_.refused(answer.token);
		if (answer.verdict == Verdict::OutOfOrder)
			continue;
		refused = true;
		if (answer.text != refusal_)
			spdlog::warn("{} takes no messages: {}; publishing pauses until it does", queue_.describe(), answer.text);
		refusal_ = answer.text;
	}
	if (!ring_.attached())
		return;
	if (ledger_.acked() > ring_.reader().acked())
		ring_.ack(ledger_.acked());

	if (proven())
	{
		chained_ = true;
		fruitless_settlings_ = 0;
	}

	if (!settled_)
		return;
	if (proven() && !refused && !refusal_.empty())
	{
		spdlog::info("{} takes messages again", queue_.describe());
		refusal_.clear();
	}
	if (ledger_.broken())
		unsettle(kSettlePatience);
	else if (queue_.interruptions() != interruptions_)
		unsettle(seconds(0));
	else if (!ledger_.empty() && now_ - ledger_.oldest() >= kAnswerTimeout)
	{
		spdlog::warn("{} has not answered for {} s", queue_.describe(), kAnswerTimeout.count());
		greeted_ = false;
		unsettle(seconds(0));
	}
	if (refused)
		retry_at_ = now_ + kRefusedRetry;
}

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
	check_log_end(*end);
	resume_after(*end);
	interruptions_ = interruptions;
	settled_ = true;

	if (notice_.over() || !greeted_)
		spdlog::info("publishing ring {:016x} from position {} on to {}, behind sequence {}", ring_.reader().epoch(),
					 ring_.reader().acked(), queue_.describe(), end->sequence);
	else
		spdlog::debug("settled: {} ends at sequence {}, the ring is acknowledged up to {}", queue_.describe(),
					  end->sequence, ring_.reader().acked());
	greeted_ = true;
	return true;
}

/* Is the log still what this publisher, and nobody else, wrote? */
void
Publisher::check_log_end(const LogEnd &end) const
{
	uint64_t known = ledger_.stored_sequence();

	if (!chained_)
		return;
	if (end.sequence < known)
		throw Fatal(ExitCode::StreamRefused, queue_.describe() + " has lost messages that it had acknowledged: it ends at sequence " +
						std::to_string(end.sequence) + " and had reached " + std::to_string(known));
	if (end.sequence == known)
		return;

	std::optional<MessageId> id = MessageId::parse(end.id);

	if (end.foreign || (id && id->epoch != ring_.reader().epoch()))
		throw Fatal(ExitCode::StreamRefused, "somebody else writes to " + queue_.describe() + ": message " +
						std::to_string(end.sequence) + " is not this publisher's");
	if (!id)
		spdlog::warn("{} has dropped its last messages, up to sequence {}; some may be published a second time",
					 queue_.describe(), end.sequence);
}

/* Acknowledges to the ring what the queue has, and goes on with the first message that it has not. */
void
Publisher::resume_after(const LogEnd &end)
{
	RingReader &reader = ring_.reader();
	std::optional<MessageId> id = MessageId::parse(end.id);

	messages_.clear();
	reader.rewind();
	unfinished_total_ = 0;
	previous_id_.clear();

	if (id && id->epoch == reader.epoch())
	{
		size_t slash = end.part.find('/');

		chained_ = true;
		if (slash != std::string::npos)
			std::from_chars(end.part.data() + slash + 1, end.part.data() + end.part.size(), unfinished_total_);
		if (id->part == unfinished_total_)
			unfinished_total_ = 0;

		while (id->position >= reader.acked())
		{
			if (!take_next_frame() || messages_.frame().header.position > id->position)
				throw Fatal(ExitCode::RingRefused, ring_.path() + " does not hold the frame at position " +
								std::to_string(id->position) + ", which is the last in " + queue_.describe());
			if (messages_.frame().header.position == id->position)
			{
				check_total_parts();
				if (id->part < messages_.plan().last())
				{
					messages_.skip_to(id->part);
					unfinished_total_ = 0;
					break;
				}
			}
			ring_.ack(messages_.frame().end);
			messages_.clear();
		}
	}
	ledger_.settle(end.sequence, reader.acked());
	settled_sequence_ = end.sequence;
}

/* A record of which the queue has a part must go on as it began. */
void
Publisher::check_total_parts()
{
	if (unfinished_total_ != 0 && messages_.plan().total != unfinished_total_)
		throw Fatal(ExitCode::StreamRefused,
					queue_.describe() + " holds the beginning of a package in " + std::to_string(unfinished_total_) +
						" parts, which would now have " + std::to_string(messages_.plan().total) +
						": set the server's max_payload back until the package is through");
}

/* False: the ring is empty. */
bool
Publisher::take_next_frame()
{
	RingReader &reader = ring_.reader();
	Frame frame;

	switch (reader.next(&frame))
	{
		case ReadResult::Empty:
			return false;
		case ReadResult::Frame:
			if (messages_.start(frame, reader.epoch(), reader.max_frame_payload(), queue_.body_limit()))
				return true;
			break;
		case ReadResult::Corrupt:
			break;
	}
	throw Fatal(ExitCode::RingRefused, ring_.path() + " is corrupt behind position " +
					std::to_string(reader.read_position()) + "; nothing from there on was published");
}

/* Publishes one message. False: there is none, or no room for one. */
bool
Publisher::publish_next()
{
	if (!messages_.active())
	{
		if (!take_next_frame())
			return false;
		check_total_parts();
		unfinished_total_ = 0;
	}
	/* After settling, one message goes ahead, and the others when it has arrived. */
	if (!ledger_.room(messages_.next_size()) || (!proven() && !ledger_.empty()))
		return false;

	size_t raw = messages_.next_size();
	bool last_of_frame = messages_.last_of_frame();
	uint64_t events = messages_.last_of_record() ? messages_.frame().header.events : 0;

	messages_.build(&message_);
	message_.sequence = ledger_.next_sequence();
	message_.previous_id = previous_id_;
	if (!queue_.publish(message_, ledger_.next_token()))
	{
		unsettle(seconds(0));
		return false;
	}
	ledger_.add(message_.body.size(), last_of_frame ? messages_.frame().end : 0, now_);
	progress_.published(events, raw, message_.body.size());
	previous_id_ = message_.id;
	if (last_of_frame)
		messages_.clear();
	return true;
}

/* Waits for a change, the bell, or the time given; `reading`: for a frame in the ring too. */
void
Publisher::sleep(Clock::time_point until, bool reading)
{
	bool something = !wakeup_.arm(changes_seen_);

	if (retry_at_ > now_)
		until = std::min(until, retry_at_);
	if (!settled_ && settle_after_ > now_)
		until = std::min(until, settle_after_);
	reading = reading && ring_.attached();
	if (reading && !ring_.sleep())
		something = true;

	pollfd fds[2] = {{wakeup_.fd(), POLLIN, 0}, {ring_.bell(), POLLIN, 0}};
	int64_t left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();

	if (poll(fds, 2, something ? 0 : static_cast<int>(std::max<int64_t>(left, 0))) < 0 && errno != EINTR)
		throw Fatal(ExitCode::Unexpected, std::string("poll: ") + strerror(errno));

	wakeup_.disarm();
	if (reading)
		ring_.wake();
	if (fds[1].revents & POLLIN)
	{
		ring_.drain_bell();
		/* It also rings when there is a new ring. */
		next_beat_ = now_;
		retry_at_ = ring_.attached() ? retry_at_ : now_;
	}
}

/* Waits for what is under way, so that the next start finds little to do. */
void
Publisher::drain()
{
	now_ = Clock::now();

	Clock::time_point deadline = now_ + config_.drain_timeout;

	collect();
	while (settled_ && !ledger_.empty() && now_ < deadline && stop_requests_.load() < 2)
	{
		changes_seen_ = wakeup_.changes();
		sleep(deadline, false);
		now_ = Clock::now();
		collect();
	}
	if (ledger_.empty())
		spdlog::info("stopped; all that was published is acknowledged");
	else
		spdlog::info("stopped; {} messages under way were not acknowledged, the next start finds out about them",
					 ledger_.messages());
}

} // namespace siphon
