/* See publisher.h. */
#include "publisher/core/publisher.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <poll.h>

#include "program/exit_codes.h"
#include "reader/subject.h"

namespace siphon {

using std::chrono::milliseconds;
using std::chrono::seconds;

/* How often the rings are told that we live. */
static constexpr milliseconds kBeat{1000};
/* Looking for rings is not worth doing more often than this, however often the bell rings. */
static constexpr milliseconds kLook{20};
/* How often to look whether somebody has taken messages away. */
static constexpr seconds kInspection{5};
/* How often to look for a decoder's ring that is not there yet. */
static constexpr milliseconds kAwait{250};
/* A message without an answer for this long has lost it. */
static constexpr seconds kAnswerTimeout{10};
/* After a refusal, answers to what else is under way get this long before the stream's end is read. */
static constexpr seconds kAckPatience{2};
/* A stream that takes nothing, because it is full for example, is tried again this often. */
static constexpr seconds kRefusedRetry{1};

Publisher::Publisher(const Config &config, RingDirectory *directory, Stream *stream, Wakeup *wakeup,
					 const std::atomic<int> *stop_requests, StatusHistory *monitor)
	: config_(config), directory_(*directory), stream_(*stream), wakeup_(*wakeup), stop_requests_(*stop_requests),
	  status_history_(monitor), ledger_(config.max_in_flight, config.max_in_flight_bytes),
	  hand_off_(subject_root(config.subject_prefix, config.application), config.compression_level, stream, &ledger_),
	  history_(config.application, config.take_over, config.max_in_flight, stream),
	  published_(subject_root(config.subject_prefix, config.application)),
	  writes_(&hand_off_, &ledger_, stream), feed_context_{subject_root(config.subject_prefix, config.application),
														   config.compression_level,
														   stream,
														   &ledger_,
														   &hand_off_,
														   &history_,
														   &published_,
														   &stats_,
														   &writes_},
	  guard_(config.application)
{
}

void
Publisher::run()
{
	now_ = Clock::now();
	next_heartbeat_ = now_;
	next_ring_scan_ = now_;
	unattached_since_ = now_;
	progress_at_ = now_;

	while (stop_requests_.load() == 0)
	{
		changes_seen_ = wakeup_.changes();
		now_ = Clock::now();
		if (now_ >= next_ring_scan_)
			scan_for_rings();
		if (now_ >= next_heartbeat_)
			send_heartbeats();
		collect();
		if (!feeds_.empty() && resume_from_stream() && publish_next())
			continue;
		/* A worker may wait for a frame that needed no message. */
		pass_on_acks();
		sleep(std::min(next_heartbeat_, next_ring_scan_), true);
	}
	drain();
}

/* What is due once a second. */
void
Publisher::send_heartbeats()
{
	uint64_t used = 0;
	uint64_t capacity = 0;

	next_heartbeat_ = now_ + kBeat;
	for (const auto &[name, feed] : feeds_)
	{
		feed->ring().send_heartbeat();
		used += feed->ring().used();
		capacity += feed->ring().reader().capacity();
	}
	check_streams();
	note_caught_up();
	update_status();
	update_ring_metrics();
	if (capacity > 0)
		throughput_log_.report(now_, ledger_.messages(), used, capacity);
}

/* Looks now and then whether the logs still hold what they had; what was taken away shows nowhere else. */
void
Publisher::check_streams()
{
	const RingMessageSource *feed = decoder();
	std::string why;

	if (!emptied_.empty())
		refuse_emptied();
	if (!publishing() || (now_ < next_inspection_ && !inspecting_) || feed == nullptr ||
		!history_.is_current(feed->ring().reader().history()) || !stream_.ready())
		return;
	/* Asked at one beat, answered at a later one. */
	if (!inspecting_)
	{
		next_inspection_ = now_ + kInspection;
		inspecting_ = true;
		log_health_.reset();
		spill_health_.reset();
	}
	if (!log_health_)
		log_health_ = stream_.log().health(&why);
	if (!spill_health_ && why.empty())
		spill_health_ = stream_.spill().health(&why);
	if (!why.empty())
	{
		inspecting_ = false;
		next_inspection_ = now_ + 6 * kInspection;
		return;
	}
	if (!log_health_ || !spill_health_ ||
		!history_.note_limits(&*log_health_, watermark_subject(feed_context_.subject_root), &why))
		return;
	inspecting_ = false;
	emptied_ = guard_.look(stream_.log().describe(), *log_health_, history_.kept_from(), now_);
	if (!emptied_.empty())
		refuse_emptied();
	guard_.check_spill(stream_.spill().describe(), *spill_health_, hand_off_.lowest_held());
	last_health_.emplace(*log_health_, *spill_health_);
}

/* Ends for good, once it is durable why: after the next messages nobody would see any more that some are missing. */
void
Publisher::refuse_emptied()
{
	std::string why;

	if (history_.record_refusal(emptied_, &why) || !why.empty())
		throw Fatal(ExitCode::StreamRefused, emptied_);
}

/* Once the decoder's ring brings nothing any more that the stream has, nobody has to look for it again. */
void
Publisher::note_caught_up()
{
	std::string why;
	const RingMessageSource *feed = decoder();

	if (publishing() && feed != nullptr && decoder_accepted() && !published_.active() && history_.repeat_places())
		history_.record_caught_up(&why);
}

/* When the bell rang, and once a second. */
void
Publisher::scan_for_rings()
{
	next_ring_scan_ = now_ + kBeat;
	drop_replaced_rings();
	attach_new_rings();
	await_decoder();
}

/*
 * A worker has made a new ring, or taken its ring away. What the old one held and was not published will be brought
 * out again. Messages of it that are under way stay in the chain.
 */
void
Publisher::drop_replaced_rings()
{
	for (auto feed = feeds_.begin(); feed != feeds_.end();)
	{
		const RingReader &reader = feed->second->ring().reader();
		uint64_t unread = reader.written() - reader.read_position();

		if (!feed->second->ring().replaced())
		{
			++feed;
			continue;
		}
		incidents_.corrupt += feed->second->refused() ? 1 : 0;
		if (feed->first == kDecoderRing)
		{
			spdlog::info("decoder replaced ring {:016x}; {} unpublished bytes will be decoded again", reader.ring_id(),
						 unread);
			unattached_since_ = now_;
			start_logged_ = false;
		}
		else if (unread > 0)
			spdlog::info("ring {} was removed with {} unpublished bytes; its snapshot starts again", feed->first,
						 unread);
		else
			spdlog::debug("ring {} was removed after all of it was read", feed->first);
		feed = feeds_.erase(feed);
	}
}

void
Publisher::attach_new_rings()
{
	for (const std::string &name : directory_.list())
	{
		if (feeds_.contains(name) || (name != kDecoderRing && !name.starts_with("snapshot-")))
			continue;

		std::unique_ptr<AttachedRing> ring = AttachedRing::attach(directory_, name);

		if (!ring)
			continue;
		if (name == kDecoderRing)
		{
			directory_.renew();
			/* What it holds follows on what the logs have, which must be known for certain. */
			suspend_publishing(kAckPatience);
		}

		auto feed = std::make_unique<RingMessageSource>(name, ++feeds_made_, std::move(ring), feed_context_);

		/* One that was there when we started is resumed with the stream; no publisher can have published from a later one. */
		feed->resume(nullptr, nullptr);
		if (publishing())
			spdlog::info("attached ring {} ({:016x})", name, feed->ring().reader().ring_id());
		feeds_[name] = std::move(feed);
		incidents_.attached++;
	}
}

RingMessageSource *
Publisher::decoder() const
{
	auto feed = feeds_.find(kDecoderRing);

	return feed == feeds_.end() ? nullptr : feed->second.get();
}

void
Publisher::await_decoder()
{
	if (decoder() != nullptr)
	{
		ring_notice_.over();
		return;
	}

	std::string path = AttachedRing::path_of(directory_, kDecoderRing);

	if (config_.attach_timeout.count() > 0 && now_ - unattached_since_ >= config_.attach_timeout)
		throw Fatal(ExitCode::AttachTimeout, "no ring at " + path + " within the attach timeout");
	ring_notice_.waiting("the decoder of application " + config_.application + " to create " + path, now_);
	next_ring_scan_ = now_ + kAwait;
}

void
Publisher::note_refusal(const std::string &text)
{
	incidents_.refusals++;
	if (text != refusal_)
		spdlog::warn("{} rejected a message: {}; publishing is paused", stream_.describe(), text);
	refusal_ = text;
}

/* Enters the answers that have come, and passes on to the rings what they complete. True: one is a refusal. */
bool
Publisher::enter_answers()
{
	bool refused = false;

	answers_.clear();
	stream_.log().collect(&answers_);
	stream_.spill().collect(&answers_);
	for (const PublishAck &answer : answers_)
	{
		if (answer.verdict == PublishResult::Stored)
		{
			ledger_.stored(answer.token, answer.place);
			continue;
		}
		if (answer.verdict == PublishResult::Duplicate)
		{
			ledger_.duplicate(answer.token);
			continue;
		}
		ledger_.refused(answer.token);
		if (answer.verdict == PublishResult::OutOfOrder)
		{
			incidents_.out_of_order++;
			continue;
		}
		note_refusal(answer.text);
		refused = true;
	}
	if (!answers_.empty())
		stats_.stored(ledger_.stored_token(), now_);
	pass_on_acks();
	return refused;
}

/* Takes in what has come from the stream, and finds out whether all is well with it. */
void
Publisher::collect()
{
	/* While it resumes, the logs' answers are for that. */
	bool refused = (publishing() || (state_ == PublisherState::FindingEnds && !ledger_.empty())) && enter_answers();

	if (has_stored_since_resume())
		fruitless_resumes_ = 0;

	if (!publishing())
		return;
	if (has_stored_since_resume() && !refused && !refusal_.empty())
	{
		spdlog::info("{} accepts messages again", stream_.describe());
		refusal_.clear();
	}
	if (ledger_.broken())
		suspend_publishing(kAckPatience);
	else if (stream_.interruptions() != interruptions_)
		suspend_publishing(seconds(0));
	else if (!ledger_.empty() && now_ - ledger_.oldest() >= kAnswerTimeout)
	{
		spdlog::warn("no answer from {} for {} s", stream_.describe(), kAnswerTimeout.count());
		start_logged_ = false;
		incidents_.timeouts++;
		suspend_publishing(seconds(0));
	}
	if (refused)
		retry_at_ = now_ + kRefusedRetry;
}

/* What the logs hold for certain. */
Checkpoint
Publisher::checkpoint() const
{
	const Ledger::End &log = ledger_.end(Target::Log);
	const Ledger::End &spill = ledger_.end(Target::Spill);

	return {{log_end_.identity, log.place, log.message}, {spill_end_.identity, spill.place, spill.message}};
}

void
Publisher::pass_on_acks()
{
	ledger_.take_acks(&acks_);
	if (acks_.empty())
		return;
	fruitless_resumes_ = 0;

	Checkpoint now = checkpoint();

	for (const Ledger::Ack &ack : acks_)
	{
		for (const auto &[name, feed] : feeds_)
		{
			if (feed->number() == ack.source)
				feed->acked(ack, now);
		}
	}
}

/*
 * Nothing is published for a server that may not be the one to publish, nor while its decoder says what it continues.
 */
bool
Publisher::decoder_accepted() const
{
	const RingMessageSource *first = decoder();

	return first != nullptr && first->accepted() && !first->must_publish_alone();
}

/* A snapshot belongs to the history in which it began, and must not be read before that is the stream's. */
bool
Publisher::may_read(const RingMessageSource &feed) const
{
	return &feed == decoder() || (decoder_accepted() && history_.is_current(feed.ring().reader().history()));
}

/* Publishes one message. False: there is none, or no room for one. */
bool
Publisher::publish_next()
{
	RingMessageSource *first = decoder();

	hand_off_.step(first == nullptr || first->holding() || first->resuming(), now_);

	sources_.clear();
	sources_.push_back(first);
	for (const auto &[name, feed] : feeds_)
	{
		feed->set_readable(may_read(*feed));
		if (feed.get() != first)
			sources_.push_back(feed.get());
	}
	hand_off_.append_catch_up_sources(&sources_);

	if (!decoder_accepted())
		return first != nullptr && first->prepare() && publish(first);
	/* All find their places first, so that records of which the stream has a part are known before others follow. */
	for (auto feed = feeds_.begin(); !sources_placed_ && feed != feeds_.end(); ++feed)
		feed->second->prepare();
	sources_placed_ = true;

	std::optional<size_t> turn =
		scheduler_.next(sources_.size(), hand_off_.catching_up() > 0, [this](size_t i) { return ready(sources_[i]); });

	return turn && publish(sources_[*turn]);
}

/* Has it a message, and may that go now? */
bool
Publisher::ready(MessageSource *source)
{
	if (source == nullptr || !source->prepare() || !ledger_.room(source->next_size(), source->bulk()))
		return false;

	size_t listed = 0;

	for (const MessageSource *other : sources_)
	{
		if (other == nullptr || other == source)
			continue;
		listed += other->cursor(Target::Log) != nullptr ? 1 : 0;
		/* A consumer puts the parts of a record together as they follow each other on the subject. */
		if (other->has_partial_record() && other->partial_generation() >= source->next_generation() &&
			other->partial_subject() == source->next_subject())
			return false;
	}
	return source->cursor(Target::Log) != nullptr || listed < kMaxCursors;
}

std::string
Publisher::list_cursors(Target target) const
{
	std::string text;

	for (const MessageSource *source : sources_)
	{
		const Cursor *cursor = source == nullptr ? nullptr : source->cursor(target);

		if (cursor != nullptr)
			append_cursor(&text, source->name(), *cursor);
	}
	return text;
}

bool
Publisher::publish(MessageSource *source)
{
	size_t raw = source->next_size();
	Target target = source->next_target();
	MessageSource::Built built = source->build(&message_);
	uint64_t token = ledger_.next_token();

	if (built.none)
		return true;
	message_.headers.push_back({kCursorsHeader, list_cursors(target)});
	if (!log(target).append(message_, token))
	{
		suspend_publishing(seconds(0));
		return false;
	}
	source->on_sent(token);
	stats_.sent(token, built.load, raw, message_.body.size(), message_.compression_ns, now_);
	ledger_.add(message_.body.size(), source->number(), built.ack, source->bulk(), target, message_hash(message_.id),
				now_);
	throughput_log_.published(built.events, raw, message_.body.size());
	return true;
}

/* Waits for a change, the bell, or the time given; `reading`: for frames in the rings too. */
void
Publisher::sleep(Clock::time_point until, bool reading)
{
	bool something = !wakeup_.arm(changes_seen_);

	if (retry_at_ > now_)
		until = std::min(until, retry_at_);
	if (!publishing() && resume_after_ > now_)
		until = std::min(until, resume_after_);
	if (publishing() && !feeds_.empty())
		until = hand_off_.step_at(until);
	for (const auto &[name, feed] : feeds_)
	{
		/* Before it publishes, what the decoder's ring continues is all that is read. */
		bool waits = publishing() ? feed->idle() : feed.get() == decoder() && !feed->accepted();

		if (reading && waits && !feed->ring().sleep())
			something = true;
	}

	pollfd fds[2] = {{wakeup_.fd(), POLLIN, 0}, {directory_.bell(), POLLIN, 0}};
	int64_t left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();

	if (poll(fds, 2, something ? 0 : static_cast<int>(std::max<int64_t>(left, 0))) < 0 && errno != EINTR)
		throw Fatal(ExitCode::Unexpected, std::string("poll: ") + strerror(errno));

	wakeup_.disarm();
	for (const auto &[name, feed] : feeds_)
		feed->ring().wake();
	if (fds[1].revents & POLLIN)
	{
		directory_.drain_bell();
		/* It also rings when there is a new ring, or one is taken away. */
		next_ring_scan_ = std::min(next_ring_scan_, now_ + kLook);
	}
}

/* Waits for what is under way, so that the next start finds little to do. */
void
Publisher::drain()
{
	now_ = Clock::now();

	Clock::time_point deadline = now_ + config_.drain_timeout;

	collect();
	while (publishing() && !ledger_.empty() && now_ < deadline && stop_requests_.load() < 2)
	{
		changes_seen_ = wakeup_.changes();
		sleep(deadline, false);
		now_ = Clock::now();
		collect();
	}
	if (ledger_.empty())
		spdlog::info("stopped; everything that was published is acknowledged");
	else
		spdlog::info("stopped with {} messages in flight; the next start finds out which of them were stored",
					 ledger_.messages());
}

} // namespace siphon
