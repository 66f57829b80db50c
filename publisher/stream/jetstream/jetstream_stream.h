/* JetStream as the place where messages go: one connection, two streams, one bucket. */
#ifndef SIPHON_STREAM_JETSTREAM_JETSTREAM_H
#define SIPHON_STREAM_JETSTREAM_JETSTREAM_H

#include <condition_variable>
#include <mutex>

#include "publisher/stream/jetstream/jetstream_log.h"
#include "publisher/stream/jetstream/states.h"
#include "publisher/stream/stream.h"
#include "reader/nats/nats_connection.h"
#include "reader/nats/requests.h"

namespace siphon {

class JetStream : public Stream
{
public:
	/* url to stop_requests: as of NatsConnection. api_prefix: of JetStream's API, "$JS.API." unless it is elsewhere. */
	JetStream(const std::string &url, const NatsLogin &login, const std::string &client_name, bool welcome,
			  const std::string &api_prefix, const StreamPlan &plan, Wakeup *wakeup,
			  const std::atomic<int> *stop_requests);
	~JetStream() override;

	bool ready() override { return connection_.ready(); }
	uint64_t interruptions() const override { return connection_.interruptions(); }
	std::string describe() const override { return log_.describe(); }
	Log &log() override { return log_; }
	Spill &spill() override { return spill_; }
	StateStore &states() override { return states_; }

private:
	static void on_answer(natsConnection *, natsSubscription *, natsMsg *message, void *self);
	static void on_answers_end(void *self);

	Wakeup *wakeup_;
	std::mutex mutex_;
	bool answers_ended_ = false; /* on_answer() is not called any more, nor is it running */
	std::condition_variable answers_end_;
	/* Destroyed in this order, from the end. */
	NatsConnection connection_;
	const std::string inbox_; /* with a final dot */
	Requests requests_;
	JetStreamLog log_;
	JetStreamLog spill_;
	JetStreamStates states_;
	NatsPtr<natsSubscription> subscription_;
};

} // namespace siphon

#endif
