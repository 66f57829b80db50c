/*
 * Reads messages of a stream back with a pull consumer that JetStream forgets by itself. What comes is never more
 * than what was pulled for, so memory is bounded; a gap or a consumer that is gone breaks the reading off, and who
 * reads begins another where this one stood.
 */
#ifndef SIPHON_JETSTREAM_READER_H
#define SIPHON_JETSTREAM_READER_H

#include <chrono>
#include <memory>
#include <mutex>

#include "program/wakeup.h"
#include "reader/nats/nats_connection.h"
#include "reader/nats/requests.h"
#include "reader/stored_message.h"

namespace siphon {

class JetStreamReader : public LogReader
{
public:
	enum class What {
		Messages,  /* of the subjects, behind the place */
		Headers,   /* the same, without bodies, many at a time */
		LastOfEach /* the last on each of the subjects, wherever it stands */
	};

	/* nullptr: not yet, begin again; *why is empty while the answer is under way, and otherwise says what failed. */
	static std::unique_ptr<JetStreamReader> begin(NatsConnection *connection, Requests *requests, Wakeup *wakeup,
												  const std::string &stream, const std::string &subjects, Place behind,
												  What what, std::string *why);
	~JetStreamReader() override;

	void pull() override;
	bool pulling() const override;
	bool take(std::vector<StoredMessage> *messages) override;
	uint64_t pending() const override;

private:
	/* What the library's thread fills. It may still do so for a moment after the reader is gone. */
	struct Inbox
	{
		Inbox(Wakeup *for_wakeup, int for_batch) : wakeup(for_wakeup), batch(for_batch) {}
		void enter(natsMsg *message);

		Wakeup *wakeup;
		const int batch;
		std::mutex mutex;
		std::vector<StoredMessage> messages;
		uint64_t delivered = 0; /* by the consumer's count */
		int pulled = 0;         /* of the batch */
		bool pulling = false;
		bool broken = false;
		uint64_t pending = UINT64_MAX;
	};

	JetStreamReader(NatsConnection *connection, const std::string &api_prefix, const std::string &consumer,
					std::shared_ptr<Inbox> inbox);
	static void on_message(natsConnection *, natsSubscription *, natsMsg *message, void *inbox);
	static void on_end(void *inbox);

	NatsConnection &connection_;
	std::string api_prefix_;
	std::string consumer_; /* <stream>.<name> */
	std::string reply_;
	std::chrono::steady_clock::time_point pulled_at_;
	std::shared_ptr<Inbox> inbox_;
	NatsPtr<natsSubscription> subscription_;
};

/* What a message of a stream holds, wherever it was read. */
StoredMessage read_stored_message(natsMsg *message, Place place);

} // namespace siphon

#endif
