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
	/* signal_fd becomes readable when the publisher is to stop. */
	Publisher(const Config &config, RingSource *ring, Queue *queue, Wakeup *wakeup, int signal_fd);

	/* Returns when it was asked to stop and has drained; Fatal when it can't go on. */
	void run();

private:
	using Clock = std::chrono::steady_clock;

	void step_housekeeping();
	bool attach();
	void leave_ring();
	void collect();
	void unsettle(Clock::duration patience);
	bool settle();
	void check_log_end(const LogEnd &end) const;
	void resume_after(const LogEnd &end);
	bool publish_next();
	bool take_next_frame();
	void retry_later(const std::string &waiting_for);
	void sleep(Clock::time_point until);
	void drain();

	const Config &config_;
	RingSource &ring_;
	Queue &queue_;
	Wakeup &wakeup_;
	int signal_fd_;

	Ledger ledger_;
	FrameMessages messages_;
	Message message_;
	std::vector<Answer> answers_;
	Progress progress_;
	WaitNotice notice_;

	Clock::time_point now_;
	Clock::time_point next_beat_;
	Clock::time_point started_;
	bool stop_ = false;

	bool settled_ = false;
	bool greeted_ = false;            /* the line that says what is published where was written */
	bool chained_ = false;            /* the queue is known to hold a message of this ring */
	bool draining_ = false;
	uint64_t interruptions_ = 0;      /* of the queue, at the last settling */
	Clock::time_point settle_after_;  /* give answers under way until then */
	Clock::time_point retry_at_;      /* no attempt before */
	uint64_t fruitless_settles_ = 0;  /* since a message was stored */
	std::string refusal_;             /* last one logged */
	std::string previous_id_;         /* of the message before the next, "" if not to be checked */
	std::string unfinished_part_;     /* Siphon-Part of the queue's last message, when resuming behind it */
};

} // namespace siphon

#endif
