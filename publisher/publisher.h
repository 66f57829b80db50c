/*
 * The publisher's loop: frames out of the ring, messages into the queue, answers into the ledger, and what
 * the ledger calls done back to the ring as acknowledged. One thread, which sleeps in poll() only.
 *
 * Whenever it is not certain what the queue has - at the start, after a broken connection, after a message
 * that was refused, on a new ring - it is "unsettled": nothing is published until the queue's end has been
 * read, and says by the id of its last message from which frame and part to go on. So nothing is lost and
 * nothing comes twice, whatever happened to answers under way.
 */
#ifndef SIPHON_PUBLISHER_H
#define SIPHON_PUBLISHER_H

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "config.h"
#include "frame_messages.h"
#include "ledger.h"
#include "log.h"
#include "progress.h"
#include "queue.h"
#include "ring_source.h"
#include "wakeup.h"

namespace siphon {

class Publisher
{
public:
	/*
	 * stop_requests counts requests to stop: the first ends publishing and waits for what is under way, the
	 * second ends that too. Whoever counts notifies the wakeup.
	 */
	Publisher(const Config &config, RingSource *ring, Queue *queue, Wakeup *wakeup,
			  const std::atomic<int> *stop_requests);

	/* Returns when it was asked to stop; Fatal when it can't go on. */
	void run();

private:
	using Clock = std::chrono::steady_clock;

	void housekeep();
	bool attach();
	void leave_ring();
	void collect();
	void unsettle(Clock::duration patience);
	bool settle();
	void check_log_end(const LogEnd &end) const;
	void resume_after(const LogEnd &end);
	void check_total_parts();
	bool take_next_frame();
	bool publish_next();
	void retry_later(const std::string &waiting_for);
	void sleep(Clock::time_point until, bool reading);
	void drain();

	/* A message was stored since the last settling. */
	bool proven() const { return ledger_.stored_sequence() > settled_sequence_; }

	const Config &config_;
	RingSource &ring_;
	Queue &queue_;
	Wakeup &wakeup_;
	const std::atomic<int> &stop_requests_;

	Ledger ledger_;
	FrameMessages messages_;
	Message message_;
	std::vector<Answer> answers_;
	Progress progress_;
	WaitNotice notice_;

	/* Of the turn of the loop. */
	Clock::time_point now_;
	uint64_t changes_seen_ = 0;

	Clock::time_point next_beat_;
	Clock::time_point unattached_since_;
	Clock::time_point retry_at_; /* nothing is tried before */

	bool settled_ = false;
	Clock::time_point settle_after_;  /* answers under way are given until then */
	uint64_t interruptions_ = 0;      /* of the queue, at the last settling */
	uint64_t settled_sequence_ = 0;   /* the queue's end at the last settling */
	int fruitless_settlings_ = 0;     /* since a message was stored */
	bool chained_ = false;            /* the queue is known to hold a message of this ring */
	bool greeted_ = false;            /* the line that says what is published where was written */
	std::string refusal_;             /* that the queue gave last, until it takes messages again */
	std::string previous_id_;         /* of the message before the next; "" if not to be checked */
	uint32_t unfinished_total_ = 0;   /* parts of the record that the next frame goes on with; 0: none */
};

} // namespace siphon

#endif
