/*
 * The publisher's loop: frames out of the rings, messages into the logs, answers into the ledger, and what
 * the ledger calls done back to the rings as acknowledged. One thread, which sleeps in poll() only: nothing that it asks
 * of the stream is waited for.
 *
 * Whenever it is not certain what the logs have - at the start, after a broken connection, after a message
 * that was refused - it resumes: nothing is published until the logs' ends have been read, whose last messages say by
 * their cursors from which frame and part to go on in each ring. So nothing is lost and nothing comes twice, whatever
 * happened to messages in flight. See publisher_state.h and publisher_resume.cpp.
 */
#ifndef SIPHON_PUBLISHER_H
#define SIPHON_PUBLISHER_H

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "program/log.h"
#include "program/wakeup.h"
#include "publisher/config/config.h"
#include "publisher/core/publisher_state.h"
#include "publisher/history/published_positions.h"
#include "publisher/history/stream_guard.h"
#include "publisher/history/stream_history.h"
#include "publisher/messages/ledger.h"
#include "publisher/messages/publish_stats.h"
#include "publisher/messages/source_scheduler.h"
#include "publisher/source/ring_directory.h"
#include "publisher/source/ring_message_source.h"
#include "publisher/stream/stream.h"
#include "publisher/table/hand_off.h"
#include "publisher/table/state_writes.h"
#include "publisher/watch/status_history.h"
#include "publisher/watch/throughput_log.h"

namespace siphon {

class Publisher
{
public:
	/*
	 * stop_requests counts requests to stop: the first ends publishing and waits for what is under way, the
	 * second ends that too. Whoever counts notifies the wakeup. StatusHistory: who wants to know how it goes, or nullptr.
	 */
	Publisher(const Config &config, RingDirectory *directory, Stream *stream, Wakeup *wakeup,
			  const std::atomic<int> *stop_requests, StatusHistory *monitor = nullptr);

	/* Returns when it was asked to stop; Fatal when it can't go on. */
	void run();

private:
	using Clock = std::chrono::steady_clock;
	using Feeds = std::map<std::string, std::unique_ptr<RingMessageSource>>;

	void send_heartbeats();
	void update_status();
	const char *state_name() const;
	void update_ring_metrics();
	double stalled();
	void check_streams();
	void refuse_emptied();
	void note_refusal(const std::string &text);
	void note_caught_up();
	void scan_for_rings();
	void drop_replaced_rings();
	void attach_new_rings();
	void await_decoder();
	RingMessageSource *decoder() const;
	bool enter_answers();
	void collect();
	void pass_on_acks();
	void enter(PublisherState state);
	bool publishing() const { return state_ == PublisherState::Publishing; }
	void suspend_publishing(Clock::duration patience);
	bool resume_from_stream();
	bool resume_step(std::string *why);
	bool find_ends(std::string *why);
	bool check_owner(std::string *why);
	bool find_held(std::string *why);
	bool load_states(std::string *why);
	bool check_source(std::string *why);
	bool find_tails(uint64_t confirmed, std::string *why);
	bool check_checkpoint(Log *log, const LogEnd &end, const Checkpoint::End &acknowledged, std::string *why);
	bool check_lost(Log *log, const std::string &what, std::string *why);
	bool fence(std::string *why);
	bool read_tails(std::string *why);
	bool read_tail(Log *log, Place behind, Place end, std::string *why);
	bool is_left_over(RingMessageSource *feed, std::string *why);
	bool ring_matches_stream();
	void begin_publishing();
	bool decoder_accepted() const;
	bool may_read(const RingMessageSource &feed) const;
	bool publish_next();
	bool ready(MessageSource *source);
	bool publish(MessageSource *source);
	std::string list_cursors(Target target) const;
	Checkpoint checkpoint() const;
	Log &log(Target target) { return target == Target::Log ? stream_.log() : stream_.spill(); }
	void retry_later(const std::string &waiting_for);
	void sleep(Clock::time_point until, bool reading);
	void drain();

	/* A message was stored since publishing was last resumed. */
	bool has_stored_since_resume() const { return ledger_.stored_token() > resumed_token_; }

	const Config &config_;
	RingDirectory &directory_;
	Stream &stream_;
	Wakeup &wakeup_;
	const std::atomic<int> &stop_requests_;
	StatusHistory *status_history_;

	Ledger ledger_;
	HandOff hand_off_;
	StreamHistory history_;
	PublishedPositions published_;
	PublishStats stats_;
	StateWrites writes_;
	RingMessageSource::Context feed_context_;
	Feeds feeds_; /* by name: "decoder" comes before "snapshot-..." */
	uint32_t feeds_made_ = 0;
	std::vector<MessageSource *> sources_; /* of this turn of the loop; the decoder's is the first, or nullptr */
	SourceScheduler scheduler_;
	Message message_;
	std::vector<PublishAck> answers_;
	std::vector<Ledger::Ack> acks_;
	ThroughputLog throughput_log_;
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

	Clock::time_point next_heartbeat_;
	Clock::time_point next_inspection_;
	Clock::time_point next_ring_scan_; /* for rings that came and went */
	Clock::time_point unattached_since_;
	Clock::time_point retry_at_; /* nothing is tried before */

	/* Changed by enter() alone. */
	PublisherState state_ = PublisherState::FindingEnds;
	Clock::time_point state_since_;
	bool sources_placed_ = false;         /* all feeds were prepared since publishing was resumed */
	Clock::time_point resume_after_;      /* answers under way are given until then */
	uint64_t interruptions_ = 0;          /* of the stream, when publishing was resumed */
	uint64_t resuming_interruptions_ = 0; /* when this one began */
	uint64_t resumed_token_ = 0;          /* the last before publishing was resumed */
	int fruitless_resumes_ = 0;           /* since a message was stored */
	bool states_loaded_ = false;
	bool owns_stream_tail_ = false; /* the stream is known to hold a message of ours */
	bool start_logged_ = false;     /* the line that says where to is published was written */
	std::string refusal_;           /* that the stream gave last, until it takes messages again */

	/* The logs' ends, as they were found, and from fence() on as they are behind it. */
	LogEnd log_end_;
	LogEnd spill_end_;
	bool looked_[2] = {};
	bool fenced_[2] = {};
	Checkpoint acknowledged_{};      /* what the source says that they have acknowledged */
	Clock::time_point lost_since_{}; /* a log does not hold what was acknowledged; that may pass */

	/* Where the decoder's ring may bring what the logs have, and how far that is read. */
	std::optional<StreamHistory::RepeatPlaces> tails_;
	std::unique_ptr<LogReader> tail_reader_;
	std::vector<StoredMessage> tail_;
	Place tail_read_ = kNoPlace;
	uint64_t tail_messages_ = 0; /* that were read of it */
	bool log_tail_read_ = false;
	uint64_t tails_of_ = 0; /* the ring for which they were read */

	StreamGuard guard_;
	std::string emptied_; /* what it has noticed */
	std::optional<LogHealth> log_health_;
	std::optional<LogHealth> spill_health_;
	bool inspecting_ = false;
	std::optional<std::pair<LogHealth, LogHealth>> last_health_; /* for those who watch */
};

} // namespace siphon

#endif
