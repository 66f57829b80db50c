/* See publisher.h. */
#include "publisher.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <unistd.h>

#include "exit_codes.h"

namespace siphon {

using std::chrono::milliseconds;
using std::chrono::seconds;

/* How often the ring is told that we live, and looked at for having been replaced. */
static constexpr milliseconds kBeat{1000};
/* How often to look for a ring, or try the queue, that is not there. */
static constexpr milliseconds kRetry{250};
/* A message without an answer for this long has lost it. */
static constexpr seconds kAnswerTimeout{10};
/* After a refusal, answers to what else is under way get this long before the queue's end is read. */
static constexpr seconds kSettlePatience{2};
/* A queue that refuses (it is full, say) is asked again this often. */
static constexpr seconds kRefusedRetry{1};

Publisher::Publisher(const Config &config, RingSource *ring, Queue *queue, Wakeup *wakeup, int signal_fd)
	: config_(config), ring_(*ring), queue_(*queue), wakeup_(*wakeup), signal_fd_(signal_fd),
	  ledger_(config.max_in_flight, config.max_in_flight_bytes),
	  messages_(subject_root(config.subject_prefix, config.application), config.compression_level)
{
}

void
Publisher::run()
{
	now_ = Clock::now();
	started_ = now_;
	next_beat_ = now_;

	while (!stop_)
	{
		now_ = Clock::now();
		if (now_ >= next_beat_)
			step_housekeeping();
		if (ring_.attached())
			collect();
		if (attach() && settle() && publish_next())
			continue;
		sleep(next_beat_);
	}
	drain();
}

/* What is due once a second. */
void
Publisher::step_housekeeping()
{
	next_beat_ = now_ + kBeat;
	if (!ring_.attached())
		return;
	ring_.beat();
	if (ring_.replaced())
	{
		leave_ring();
		return;
	}
	progress_.report(now_, ledger_.messages(), ring_.reader().written() - ring_.reader().acked(),
					 ring_.reader().capacity());
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
		if (config_.attach_timeout.count() > 0 && now_ - started_ >= config_.attach_timeout)
			throw Fatal(ExitCode::AttachTimeout, "no ring at " + ring_.path() + " within the attach timeout");
		retry_later("the decoder of application " + config_.application + " to make " + ring_.path());
		return false;
	}
	settled_ = false;
	chained_ = false;
	retry_at_ = now_;
	settle_after_ = now_;
	return true;
}

/*
 * The decoder made a new ring: what the old one held and was not published will be decoded again. Messages
 * under way are given up too; settling on the new ring reads where the queue ends.
 */
void
Publisher::leave_ring()
{
	spdlog::info("the decoder has left ring {:016x}; {} bytes in it were not published and will be decoded again",
				 ring_.reader().epoch(), ring_.reader().written() - ring_.reader().read_position());
	messages_.clear();
	ledger_.settle(ledger_.stored_sequence(), 0);
	ring_.detach();
	settled_ = false;
	greeted_ = false;
	started_ = now_;
	retry_at_ = now_;
}

/* Enters the answers that have come, and passes on to the ring what they complete. */
void
Publisher::collect()
{
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
		if (answer.verdict == Verdict::Refused && settled_ && answer.text != refusal_)
		{
			refusal_ = answer.text;
			spdlog::warn("{} takes nothing now: {}; publishing pauses until it does", queue_.describe(), answer.text);
			retry_at_ = now_ + kRefusedRetry;
		}
	}

	if (ledger_.acked() > ring_.reader().acked())
		ring_.ack(ledger_.acked());

	if (!settled_)
		return;
	if (ledger_.stored_sequence() > settled_sequence_)
	{
		chained_ = true;
		fruitless_settles_ = 0;
		if (!refusal_.empty())
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
		unsettle(seconds(0));
	}
}

/* Stops publishing until settle() has found out what the queue has. */
void
Publisher::unsettle(Clock::duration patience)
{
	settled_ = false;
	settle_after_ = now_ + patience;
}

void
Publisher::retry_later(const std::string &waiting_for)
{
	notice_.waiting(waiting_for, now_);
	retry_at_ = now_ + kRetry;
}

/*
 * Finds out what the queue has, once answers under way have come or can't. True when publishing may go on.
 */
bool
Publisher::settle()
{
	if (settled_)
		return true;
	if (now_ < retry_at_)
		return false;
	if (!queue_.ready())
	{
		retry_later("NATS: " + queue_.describe());
		return false;
	}
	if (ledger_.unanswered() > 0 && now_ < settle_after_ && queue_.interruptions() == interruptions_)
		return false;

	uint64_t interruptions = queue_.interruptions();
	std::string why;
	std::optional<LogEnd> end = queue_.read_end(&why);

	now_ = Clock::now();
	if (!end)
	{
		retry_later(why);
		return false;
	}
	/* Messages of ours whose answers are late come to stand behind this end; they are found by the next settling. */
	check_log_end(*end);
	resume_after(*end);
	interruptions_ = interruptions;
	settled_ = true;

	bool waited = notice_.over();

	if (!greeted_ || waited)
		spdlog::info("publishing ring {:016x} from position {} to {}, behind sequence {}", ring_.reader().epoch(),
					 ring_.reader().acked(), queue_.describe(), end->sequence);
	else
		spdlog::debug("settled: {} ends at sequence {}, ring acknowledged up to {}", queue_.describe(), end->sequence,
					  ring_.reader().acked());
	greeted_ = true;
	return true;
}

/* Is it our log, as far as we knew it? */
void
Publisher::check_log_end(const LogEnd &end) const
{
	if (!chained_)
		return;
	if (end.sequence < ledger_.stored_sequence())
		throw Fatal(ExitCode::StreamRefused, queue_.describe() + " has lost messages that it had acknowledged: it ends at " +
						std::to_string(end.sequence) + ", and had sequence " + std::to_string(ledger_.stored_sequence()));

	std::optional<MessageId> id = MessageId::parse(end.id);
	bool other = id && id->epoch != ring_.reader().epoch();

	if (end.sequence > ledger_.stored_sequence() && (other || end.id_sequence < end.sequence))
		throw Fatal(ExitCode::StreamRefused, "somebody else writes to " + queue_.describe() + ": sequence " +
						std::to_string(end.sequence) + " is not from this publisher");
}

/* Acknowledges to the ring what the queue has, and stands before the first message that it has not. */
void
Publisher::resume_after(const LogEnd &end)
{
	RingReader &reader = ring_.reader();
	std::optional<MessageId> id = MessageId::parse(end.id);

	messages_.clear();
	reader.rewind();
	unfinished_part_.clear();
	previous_id_.clear();

	if (id && id->epoch == reader.epoch())
	{
		chained_ = true;
		while (id->position >= reader.acked())
		{
			if (!take_next_frame() || messages_.frame().header.position > id->position)
				throw Fatal(ExitCode::RingRefused, ring_.path() + " does not hold the frame at position " +
								std::to_string(id->position) + " that is the last in " + queue_.describe());

			const Frame &frame = messages_.frame();
			bool same = frame.header.position == id->position;

			if (same && end.part != "" && end.part != format_part(id->part, messages_.plan().total))
				throw Fatal(ExitCode::StreamRefused,
							queue_.describe() + " holds part " + end.part +
								" of a record that would now have " + std::to_string(messages_.plan().total) +
								" parts: set the server's max_payload back until it is through");
			if (same && id->part < messages_.plan().last())
			{
				messages_.skip_to(id->part);
				break;
			}
			ring_.ack(frame.end);
			messages_.clear();
		}
	}
	ledger_.settle(end.sequence, reader.acked());
	settled_sequence_ = end.sequence;
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
	throw Fatal(ExitCode::RingRefused, ring_.path() + " is corrupt at position " + std::to_string(reader.read_position()) +
					"; nothing from there on was published");
}

/* Publishes one message. False: there is none, or no room for one. */
bool
Publisher::publish_next()
{
	if (!messages_.active() && !take_next_frame())
		return false;
	if (!ledger_.room(messages_.next_size()))
		return false;

	size_t raw = messages_.next_size();
	bool last_of_frame = messages_.last_of_frame();
	bool last_of_record = messages_.last_of_record();

	messages_.build(&message_);
	message_.sequence = ledger_.next_sequence();
	message_.previous_id = previous_id_;
	if (!queue_.publish(message_, ledger_.next_token()))
	{
		unsettle(seconds(0));
		return false;
	}
	ledger_.add(message_.body.size(), last_of_frame ? messages_.frame().end : 0, now_);
	progress_.published(last_of_record ? messages_.frame().header.events : 0, raw, message_.body.size());
	previous_id_ = message_.id;
	if (last_of_frame)
		messages_.clear();
	return true;
}

/* Waits for the bell, an answer, a signal, or the time given. */
void
Publisher::sleep(Clock::time_point until)
{
	bool reading = !draining_ && settled_ && ring_.attached() && !messages_.active();

	if (retry_at_ > now_)
		until = std::min(until, retry_at_);
	if (!settled_ && settle_after_ > now_)
		until = std::min(until, settle_after_);

	wakeup_.arm();

	/* What came between the last look and the announcement would ring no bell. */
	bool something = queue_.has_answers() || queue_.interruptions() != interruptions_seen_;

	if (reading && !ring_.sleep())
		something = true;

	pollfd fds[3] = {{wakeup_.fd(), POLLIN, 0}, {signal_fd_, POLLIN, 0}, {ring_.bell(), POLLIN, 0}};
	auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
	int timeout = something ? 0 : static_cast<int>(std::max<int64_t>(left, 0));

	if (poll(fds, 3, timeout) < 0 && errno != EINTR)
		throw Fatal(ExitCode::Unexpected, std::string("poll: ") + strerror(errno));

	wakeup_.disarm();
	interruptions_seen_ = queue_.interruptions();
	if (reading)
		ring_.wake();
	if (fds[1].revents & POLLIN)
		stop_ = true;
}

void
Publisher::drain()
{
}

} // namespace siphon
