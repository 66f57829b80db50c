/*
 * JetStream as the publisher's queue.
 *
 * Every message names the sequence after which it belongs, and all but the first after read_end() the id
 * of the message before it as well. The sequence keeps order under pipelining and refuses a second
 * publisher; the id refuses a message of an earlier connection that is still under way inside the server
 * and whose sequence happens to fit.
 *
 * Answers come to an inbox of our own, one token per message, so that nothing depends on the library
 * remembering what is in flight across reconnects.
 */
#ifndef SIPHON_JETSTREAM_H
#define SIPHON_JETSTREAM_H

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "nats_connection.h"
#include "queue.h"
#include "state_bucket.h"
#include "stream_setup.h"

namespace siphon {

class JetStream : public Queue
{
public:
	/* url to welcome: as of NatsConnection. */
	JetStream(const std::string &url, const NatsLogin &login, const std::string &client_name, bool welcome,
			  const StreamPlan &plan, Wakeup *wakeup, const std::atomic<int> *stop_requests);
	~JetStream() override;

	bool ready() override { return connection_.ready(); }
	uint64_t interruptions() const override { return connection_.interruptions(); }
	std::string describe() const override;
	std::optional<LogEnd> read_end(std::string *why) override;
	std::optional<uint64_t> read_first(std::string *why) override;
	uint32_t body_limit() const override { return body_limit_; }
	bool publish(const Message &message, uint64_t token) override;
	void collect(std::vector<Answer> *answers) override;

	bool purge(const std::string &subjects, uint64_t below, std::string *why) override;
	std::optional<uint64_t> last_sequence(const std::string &subjects, std::string *why) override;
	std::unique_ptr<QueueReader> read_from(const std::string &subjects, uint64_t sequence, std::string *why) override;
	std::optional<std::vector<StoredMessage>> last_of_each(const std::string &subjects, uint64_t end,
														   std::string *why) override;
	std::optional<std::map<std::string, std::string>> read_states(std::string *why) override;
	bool read_state(const std::string &key, std::optional<std::string> *value, std::string *why) override;
	bool write_state(const std::string &key, const std::string &value, std::string *why) override;
	bool erase_state(const std::string &key, std::string *why) override { return states_.erase(key, why); }
	bool erase_tables(std::string *why) override { return states_.erase_tables(why); }

private:
	static void on_answer(natsConnection *, natsSubscription *, natsMsg *message, void *self);
	static void on_answers_end(void *self);
	bool gone(uint64_t sequence);
	bool last_id(uint64_t first, uint64_t last, LogEnd *end, std::string *why);
	std::optional<nlohmann::json> info(std::string *why);
	void learn_limits(const nlohmann::json &config);

	StreamPlan plan_;
	Wakeup *wakeup_;
	std::mutex mutex_;
	std::vector<Answer> answers_;
	bool answers_ended_ = false; /* on_answer() is not called any more, nor is it running */
	std::condition_variable answers_end_;
	std::atomic<bool> have_answers_{false};
	bool stream_known_ = false;
	bool keeps_ = true; /* retention limits: messages stay when consumers have them, and can be read back */
	uint32_t body_limit_ = 0;
	std::string inbox_;
	/* Destroyed in this order, from the end. */
	NatsConnection connection_;
	NatsPtr<jsCtx> context_;
	NatsPtr<natsSubscription> subscription_;
	StateBucket states_;
};

} // namespace siphon

#endif
