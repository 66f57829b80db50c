/* See publisher.h. */
#include "publisher.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <poll.h>

#include "exit_codes.h"

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
/* After a refusal, answers to what else is under way get this long before the queue's end is read. */
static constexpr seconds kSettlePatience{2};
/* A queue that takes nothing, because it is full for example, is tried again this often. */
static constexpr seconds kRefusedRetry{1};

Publisher::Publisher(const Config &config, RingDirectory *directory, Queue *queue, Wakeup *wakeup,
					 const std::atomic<int> *stop_requests, Monitor *monitor)
	: config_(config), directory_(*directory), queue_(*queue), wakeup_(*wakeup), stop_requests_(*stop_requests), monitor_(monitor),
	  ledger_(config.max_in_flight, config.max_in_flight_bytes),
	  hand_off_(subject_root(config.subject_prefix, config.application), config.compression_level, queue, &ledger_),
	  lineage_(config.application, queue), published_(subject_root(config.subject_prefix, config.application)),
	  feed_context_{subject_root(config.subject_prefix, config.application),
					config.compression_level,
					queue,
					&ledger_,
					&hand_off_,
					&lineage_,
					&published_,
					&traffic_}
{
}

void
Publisher::run()
{
	now_ = Clock::now();
	next_beat_ = now_;
	next_look_ = now_;
	unattached_since_ = now_;
	progress_at_ = now_;

	while (stop_requests_.load() == 0)
	{
		changes_seen_ = wakeup_.changes();
		now_ = Clock::now();
		if (now_ >= next_look_)
			look_for_rings();
		if (now_ >= next_beat_)
			beat();
		collect();
		if (!feeds_.empty() && settle() && publish_next())
			continue;
		/* A worker may wait for a frame that needed no message. */
		pass_on_acks();
		sleep(std::min(next_beat_, next_look_), settled_ && may_publish());
	}
	drain();
}

/* What is due once a second. */
void
Publisher::beat()
{
	uint64_t used = 0;
	uint64_t capacity = 0;

	next_beat_ = now_ + kBeat;
	for (const auto &[name, feed] : feeds_)
	{
		feed->ring().beat();
		used += feed->ring().used();
		capacity += feed->ring().reader().capacity();
	}
	inspect();
	tell_status();
	tell_decoder();
	if (capacity > 0)
		progress_.report(now_, ledger_.messages(), used, capacity);
}

/* Looks now and then whether the queue still holds what it had; what was taken away shows nowhere else. */
void
Publisher::inspect()
{
	const RingFeed *feed = decoder();
	std::string why;

	if (!settled_ || now_ < next_inspection_ || feed == nullptr || !lineage_.current(feed->ring().reader().history()) ||
		!queue_.ready())
		return;
	next_inspection_ = now_ + kInspection;

	std::optional<uint64_t> first = queue_.read_first(&why);

	if (first)
		lineage_.check_first(*first);
	else
		next_inspection_ = Clock::now() + 6 * kInspection;
}

/* When the bell rang, and once a second. */
void
Publisher::look_for_rings()
{
	next_look_ = now_ + kBeat;
	drop_replaced();
	attach_new();
	await_decoder();
}

/*
 * A worker has made a new ring, or taken its ring away. What the old one held and was not published will be brought
 * out again. Messages of it that are under way stay in the chain.
 */
void
Publisher::drop_replaced()
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
			spdlog::info("the decoder has left ring {:016x}; the {} bytes in it that were not published yet are "
						 "dropped, the next one decodes them again",
						 reader.epoch(), unread);
			unattached_since_ = now_;
			greeted_ = false;
		}
		else if (unread > 0)
			spdlog::info("ring {} is gone with {} bytes that were not published; its snapshot starts over", feed->first,
						 unread);
		else
			spdlog::debug("ring {} is gone, all of it was read", feed->first);
		feed = feeds_.erase(feed);
	}
}

void
Publisher::attach_new()
{
	for (const std::string &name : directory_.list())
	{
		if (feeds_.contains(name) || (name != kDecoderRing && !name.starts_with("snapshot-")))
			continue;

		std::unique_ptr<RingSource> ring = RingSource::attach(directory_, name);

		if (!ring)
			continue;
		if (name == kDecoderRing)
		{
			directory_.renew();
			/* What it holds follows on what the queue has, which must be known for certain. */
			if (settled_)
				unsettle(kSettlePatience);
		}

		auto feed = std::make_unique<RingFeed>(name, ++feeds_made_, std::move(ring), feed_context_);

		/* One that was there when we started is resumed by settling; nobody can have published from a later one. */
		feed->resume(nullptr, 0);
		if (settled_)
			spdlog::info("publishing ring {} {:016x} too", name, feed->ring().reader().epoch());
		feeds_[name] = std::move(feed);
		incidents_.attached++;
	}
}

RingFeed *
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

	std::string path = RingSource::path_of(directory_, kDecoderRing);

	if (config_.attach_timeout.count() > 0 && now_ - unattached_since_ >= config_.attach_timeout)
		throw Fatal(ExitCode::AttachTimeout, "no ring at " + path + " within the attach timeout");
	ring_notice_.waiting("the decoder of application " + config_.application + " to make " + path, now_);
	next_look_ = now_ + kAwait;
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
		if (answer.verdict == Verdict::Duplicate)
		{
			ledger_.duplicate(answer.token);
			continue;
		}
		ledger_.refused(answer.token);
		if (answer.verdict == Verdict::OutOfOrder)
		{
			incidents_.out_of_order++;
			continue;
		}
		incidents_.refusals++;
		refused = true;
		if (answer.text != refusal_)
			spdlog::warn("{} takes no messages: {}; publishing pauses until it does", queue_.describe(), answer.text);
		refusal_ = answer.text;
	}
	if (!answers_.empty())
		traffic_.stored(ledger_.stored_sequence(), now_);
	pass_on_acks();
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
		incidents_.timeouts++;
		unsettle(seconds(0));
	}
	if (refused)
		retry_at_ = now_ + kRefusedRetry;
}

void
Publisher::pass_on_acks()
{
	ledger_.take_acks(&acks_);
	if (!acks_.empty())
		fruitless_settlings_ = 0;
	for (const Ledger::Ack &ack : acks_)
	{
		for (const auto &[name, feed] : feeds_)
		{
			if (feed->number() == ack.source)
				feed->acked(ack.position);
		}
	}
}

/*
 * Nothing is published for a server that may not be the one to publish, nor while its decoder says what it continues.
 */
bool
Publisher::open() const
{
	const RingFeed *first = decoder();

	return first != nullptr && first->accepted() && !first->needs_calm();
}

/* A snapshot belongs to the history in which it began, and must not be read before that is the stream's. */
bool
Publisher::may_read(const RingFeed &feed) const
{
	return &feed == decoder() || (open() && lineage_.current(feed.ring().reader().history()));
}

/* Publishes one message. False: there is none, or no room for one. */
bool
Publisher::publish_next()
{
	RingFeed *first = decoder();

	hand_off_.step(first != nullptr && first->holding(), now_);
	if (!may_publish())
		return false;

	sources_.clear();
	sources_.push_back(first);
	for (const auto &[name, feed] : feeds_)
	{
		feed->set_readable(may_read(*feed));
		if (feed.get() != first)
			sources_.push_back(feed.get());
	}
	hand_off_.append_movers(&sources_);

	if (!open())
		return first != nullptr && first->prepare() && publish(first);
	/* All find their places first, so that records of which the queue has a part are known before others follow. */
	for (auto feed = feeds_.begin(); !placed_ && feed != feeds_.end(); ++feed)
		feed->second->prepare();
	placed_ = true;

	std::optional<size_t> turn = turns_.next(sources_.size(), [this](size_t i) { return ready(sources_[i]); });

	return turn && publish(sources_[*turn]);
}

/* Has it a message, and may that go now? */
bool
Publisher::ready(Source *source)
{
	if (source == nullptr || !source->prepare() || !ledger_.room(source->next_size(), source->bulk()))
		return false;

	size_t listed = 0;

	for (const Source *other : sources_)
	{
		if (other == nullptr || other == source)
			continue;
		listed += other->cursor() != nullptr ? 1 : 0;
		/* A consumer puts the parts of a record together as they follow each other on the subject. */
		if (other->open() && other->open_generation() >= source->next_generation() &&
			other->open_subject() == source->next_subject())
			return false;
	}
	return source->cursor() != nullptr || listed < kMaxCursors;
}

std::string
Publisher::list_cursors() const
{
	std::string text;

	for (const Source *source : sources_)
	{
		const Cursor *cursor = source == nullptr ? nullptr : source->cursor();

		if (cursor != nullptr)
			append_cursor(&text, source->name(), *cursor);
	}
	return text;
}

bool
Publisher::publish(Source *source)
{
	size_t raw = source->next_size();
	Source::Built built = source->build(&message_);

	if (built.none)
		return true;
	message_.sequence = ledger_.next_sequence();
	message_.previous_id = previous_id_;
	message_.headers.push_back({kCursorsHeader, list_cursors()});
	if (!queue_.publish(message_, ledger_.next_token()))
	{
		unsettle(seconds(0));
		return false;
	}
	source->sent(message_.sequence);
	traffic_.sent(message_.sequence, built.load, raw, message_.body.size(), message_.compression_ns, now_);
	ledger_.add(message_.body.size(), source->number(), built.ack, source->bulk(), now_);
	progress_.published(built.events, raw, message_.body.size());
	previous_id_ = message_.id;
	return true;
}

/* Waits for a change, the bell, or the time given; `reading`: for frames in the rings too. */
void
Publisher::sleep(Clock::time_point until, bool reading)
{
	bool something = !wakeup_.arm(changes_seen_);

	if (retry_at_ > now_)
		until = std::min(until, retry_at_);
	if (!settled_ && settle_after_ > now_)
		until = std::min(until, settle_after_);
	if (settled_ && !feeds_.empty())
		until = hand_off_.step_at(until);
	for (const auto &[name, feed] : feeds_)
	{
		if (reading && feed->idle() && !feed->ring().sleep())
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
		next_look_ = std::min(next_look_, now_ + kLook);
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
