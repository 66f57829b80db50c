/*
 * A JetStream stream as a log, and as a spill.
 *
 * Every message names the sequence behind which it belongs. That keeps order under pipelining and refuses a second
 * publisher. What it does not refuse by itself is a message of an earlier connection, or of a publisher before us, that is
 * still under way inside the server and whose sequence happens to fit. Two things do:
 *
 *   one replica        each message names the id of the message before it as well
 *   several replicas   that header must not be used: each replica checks it against memory that is not replicated, and one
 *                      that was away would refuse everything from then on. Instead, fence() writes more messages than
 *                      anybody before us can have under way, so that none of theirs fits any more by its sequence.
 *
 * Should one arrive between two fences all the same, look() finds it, and nothing is published any more.
 */
#ifndef SIPHON_STREAM_JETSTREAM_LOG_H
#define SIPHON_STREAM_JETSTREAM_LOG_H

#include <atomic>
#include <chrono>
#include <deque>
#include <mutex>

#include "publisher/stream/jetstream/setup.h"
#include "publisher/stream/spill.h"
#include "reader/nats/jetstream_reader.h"
#include "reader/nats/requests.h"

namespace siphon {

class JetStreamLog : public Spill
{
public:
	/*
	 * `inbox`: prefix of the subjects of acks, with a final dot; whoever subscribes to it calls enter(). `beside`: the
	 * application's stream, of which this one is the spill; nullptr: it is that itself.
	 */
	JetStreamLog(const StreamPlan &plan, NatsConnection *connection, Requests *requests, Wakeup *wakeup,
				 const std::string &inbox, JetStreamLog *beside);

	std::string describe() const override;
	std::string name() const override { return plan_.name; }
	std::optional<LogEnd> look(std::string *why) override;
	std::optional<bool> holds(Place place, uint64_t message, bool *gone, std::string *why) override;
	bool fence(size_t in_flight, const std::string &cursors, LogEnd *end, std::string *why) override;
	uint32_t body_limit() const override { return body_limit_; }
	bool append(const Message &message, uint64_t token) override;
	void collect(std::vector<PublishAck> *answers) override;
	std::unique_ptr<LogReader> read(const std::string &subjects, Place behind, bool headers, std::string *why) override;
	std::optional<Place> last(const std::string &subjects, std::string *why) override;
	bool find_up_to(const std::string &subject, const Position &position, Place behind,
					std::optional<StoredMessage> *found, std::string *why) override;
	bool purge(const std::string &subjects, Place in_front_of, std::string *why) override;
	std::optional<LogHealth> health(std::string *why) override;
	bool drop(Place in_front_of, std::string *why) override;

	/* The stream's configuration as JetStream has it; empty until it was looked at. */
	const nlohmann::json &config() const { return config_; }

	/* Of another thread: the ack whose reply subject ended so. */
	void enter(const char *token, natsMsg *message);

private:
	using Clock = std::chrono::steady_clock;

	/* A message that was sent behind what is known of the stream. */
	struct Sent
	{
		uint64_t token;
		uint64_t sequence;
		std::string id;
		bool answered;
	};
	/* An ack as it came. */
	struct Ack
	{
		uint64_t token;
		ApiReply reply;
	};
	enum class Stage { Info, Change, Behind, Last, Done };

	std::optional<nlohmann::json> info(std::string *why);
	std::optional<LogEnd> look_on(std::string *why);
	bool prepare(std::string *why);
	bool check_behind(std::string *why);
	bool find_last(std::string *why);
	void learn_limits();
	std::optional<PublishAck> judge(const Ack &ack);
	std::vector<Ack> take_acks();
	bool send(const Message &message, uint64_t token, uint64_t sequence, const std::string &previous_id);
	std::optional<ApiReply> message_at(uint64_t sequence);
	bool not_yet(const std::optional<ApiReply> &reply, const std::string &what, std::string *why) const;

	const StreamPlan plan_;
	NatsConnection &connection_;
	Requests &requests_;
	Wakeup *wakeup_;
	const std::string inbox_;
	JetStreamLog *beside_;

	nlohmann::json config_ = nlohmann::json::object();
	bool checked_ = false;               /* its settings were, once */
	bool missing_ = false;               /* it is not there yet */
	std::optional<StreamChange> change_; /* to be made before it is published to */
	bool existed_ = false;               /* it was there when it was looked at, so it must not be made anew */
	uint32_t body_limit_ = 0;
	int replicas_ = 1;

	/* What is known of the stream, by this process. */
	uint64_t known_ = 0;      /* all up to here is as we have seen or written it */
	bool written_ = false;    /* something of ours is behind the last look() */
	std::deque<Sent> sent_;   /* behind `known_`, in order */
	uint64_t next_ = 0;       /* the sequence that the next message takes */
	std::string previous_id_; /* of the message before it; "": not to be checked */

	/* While look() and fence() are at work. */
	Stage stage_ = Stage::Info;
	LogEnd end_;
	uint64_t back_ = 0; /* how far back the last message of a publisher was looked for */
	std::unique_ptr<LogReader> reader_;
	std::vector<StoredMessage> behind_;
	std::vector<PublishAck> found_;   /* of messages that look() found stored, though no ack of them came */
	Clock::time_point short_since_{}; /* the stream ends in front of what was acknowledged */
	uint64_t step_back_ = 0;          /* while find_up_to() is at work: how far back it looks; 0: it is not */
	size_t fences_ = 0;               /* still to be acknowledged */
	bool fencing_ = false;
	Clock::time_point fenced_at_{};
	uint64_t interruptions_ = 0;         /* when the fences were sent */
	uint64_t looking_interruptions_ = 0; /* when look() was called last */

	std::mutex mutex_;
	std::vector<Ack> acks_;
	std::atomic<bool> have_acks_{false};
};

} // namespace siphon

#endif
