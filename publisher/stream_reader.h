/*
 * Reads messages of a stream back with a pull consumer that JetStream forgets by itself. What comes is never more
 * than what was pulled for, so memory is bounded; a gap or a consumer that is gone breaks the reading off, and who
 * reads begins another where this one stood.
 */
#ifndef SIPHON_STREAM_READER_H
#define SIPHON_STREAM_READER_H

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "nats_connection.h"
#include "queue.h"

namespace siphon {

class StreamReader : public QueueReader
{
public:
	/*
	 * Makes the consumer: of messages from a sequence on, or (0) of the last message on each subject, without their
	 * bodies. nullptr with *why: not now.
	 */
	static std::unique_ptr<StreamReader> begin(natsConnection *connection, Wakeup *wakeup, const std::string &stream,
											   const std::string &subjects, uint64_t sequence, std::string *why);
	~StreamReader() override;

	void pull() override;
	bool pulling() const override;
	/* Waits for the end of a pull. False: it has not ended. */
	bool await();
	bool take(std::vector<StoredMessage> *messages) override;
	uint64_t pending() const override;

private:
	StreamReader(natsConnection *connection, Wakeup *wakeup, const std::string &stream, const std::string &consumer);

	/* What the library's thread fills. It may still do so for a moment after the reader is gone. */
	struct Inbox
	{
		explicit Inbox(Wakeup *for_wakeup) : wakeup(for_wakeup) {}
		void enter(natsMsg *message);

		Wakeup *wakeup;
		std::mutex mutex;
		std::condition_variable come; /* a message has */
		std::vector<StoredMessage> messages;
		uint64_t delivered = 0; /* by the consumer's count */
		int pulled = 0;         /* of the batch */
		bool pulling = false;
		bool broken = false;
		uint64_t pending = UINT64_MAX;
	};

	static void on_message(natsConnection *, natsSubscription *, natsMsg *message, void *inbox);
	static void on_end(void *inbox);

	natsConnection *connection_;
	std::string stream_;
	std::string consumer_;
	std::string reply_;
	std::chrono::steady_clock::time_point pulled_at_;
	std::shared_ptr<Inbox> inbox_;
	NatsPtr<natsSubscription> subscription_;
};

} // namespace siphon

#endif
