/*
 * The publisher's loop: frames out of the rings, messages into the queue, answers into the ledger, and what
 * the ledger calls done back to the rings as acknowledged. One thread, which sleeps in poll() only.
 *
 * Whenever it is not certain what the queue has - at the start, after a broken connection, after a message
 * that was refused - it is "unsettled": nothing is published until the queue's end has been read, whose
 * last message says by its cursors from which frame and part to go on in each ring. So nothing is lost and
 * nothing comes twice, whatever happened to answers under way.
 */
#ifndef SIPHON_PUBLISHER_H
#define SIPHON_PUBLISHER_H

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config.h"
#include "hand_off.h"
#include "ledger.h"
#include "lineage.h"
#include "log.h"
#include "monitor.h"
#include "progress.h"
#include "published.h"
#include "queue.h"
#include "ring_directory.h"
#include "ring_feed.h"
#include "traffic.h"
#include "turns.h"
#include "wakeup.h"

namespace siphon {

class Publisher
{
public:
	/*
	 * stop_requests counts requests to stop: the first ends publishing and waits for what is under way, the
	 * second ends that too. Whoever counts notifies the wakeup. Monitor: who wants to know how it goes, or nullptr.
	 */
	Publisher(const Config &config, RingDirectory *directory, Queue *queue, Wakeup *wakeup,
			  const std::atomic<int> *stop_requests, Monitor *monitor = nullptr);

	/* Returns when it was asked to stop; Fatal when it can't go on. */
	void run();

private:
	using Clock = std::chrono::steady_clock;
	using Feeds = std::map<std::string, std::unique_ptr<RingFeed>>;

	void beat();
	void tell_status();
	void tell_decoder();
	double stalled();
	void inspect();
	void look_for_rings();
	void drop_replaced();
	void attach_new();
	void await_decoder();
	RingFeed *decoder() const;
	void collect();
	void pass_on_acks();
	void unsettle(Clock::duration patience);
	bool settle();
	bool believes_ring();
	void check_log_end(const LogEnd &end) const;
	void learn_published(const std::vector<StoredMessage> &last);
	void resume_after(const LogEnd &end, const Cursors &cursors);
	bool open() const;
	bool may_read(const RingFeed &feed) const;
	bool publish_next();
	bool ready(Source *source);
	bool publish(Source *source);
	std::string list_cursors() const;
	void retry_later(const std::string &waiting_for);
	void sleep(Clock::time_point until, bool reading);
	void drain();

	/* A message was stored since the last settling. */
	bool proven() const { return ledger_.stored_sequence() > settled_sequence_; }
	/* After settling, one message goes ahead, and the others when it has arrived. */
	bool may_publish() const { return proven() || ledger_.empty(); }

	const Config &config_;
	RingDirectory &directory_;
	Queue &queue_;
	Wakeup &wakeup_;
	const std::atomic<int> &stop_requests_;
	Monitor *monitor_;

	Ledger ledger_;
	HandOff hand_off_;
	Lineage lineage_;
	Published published_;
	Traffic traffic_;
	RingFeed::Context feed_context_;
	Feeds feeds_; /* by name: "decoder" comes before "snapshot-..." */
	uint32_t feeds_made_ = 0;
	std::vector<Source *> sources_; /* of this turn of the loop; the decoder's is the first, or nullptr */
	Turns turns_;
	Message message_;
	std::vector<Answer> answers_;
	std::vector<Ledger::Ack> acks_;
	Progress progress_;
	WaitNotice notice_;      /* of NATS */
	WaitNotice ring_notice_; /* of the decoder's ring */

	/* For those who watch. */
	Incidents incidents_;
	Clock::time_point progress_at_; /* something was acknowledged, or nothing was to be */
	uint64_t acked_seen_ = 0;
	uint64_t stored_seen_ = 0;

	/* Of the turn of the loop. */
	Clock::time_point now_;
	uint64_t changes_seen_ = 0;

	Clock::time_point next_beat_;
	Clock::time_point next_inspection_;
	Clock::time_point next_look_; /* for rings that came and went */
	Clock::time_point unattached_since_;
	Clock::time_point retry_at_; /* nothing is tried before */

	bool settled_ = false;
	bool placed_ = false;            /* all feeds were prepared since the last settling */
	Clock::time_point settle_after_; /* answers under way are given until then */
	uint64_t interruptions_ = 0;     /* of the queue, at the last settling */
	uint64_t settled_sequence_ = 0;  /* the queue's end at the last settling */
	int fruitless_settlings_ = 0;    /* since a message was stored */
	bool chained_ = false;           /* the queue is known to hold a message of ours */
	bool greeted_ = false;           /* the line that says where to is published was written */
	std::string refusal_;            /* that the queue gave last, until it takes messages again */
	std::string previous_id_;        /* of the message before the next; "" if not to be checked */
};

} // namespace siphon

#endif
