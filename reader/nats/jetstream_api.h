/* Requests to JetStream's API that wait for the answer: for programs that have nothing else to do meanwhile. */
#ifndef SIPHON_JETSTREAM_API_H
#define SIPHON_JETSTREAM_API_H

#include <atomic>
#include <chrono>
#include <functional>
#include <string>

#include "reader/nats/requests.h"

namespace siphon {

/*
 * How long to go on where nobody answers, or JetStream can't for now, as while a cluster elects a leader. One for each
 * thing that is asked for.
 */
class Patience
{
public:
	/* `stop`: it is over when this becomes true. `notice` is called once, when there is something to wait for. */
	Patience(const std::atomic<bool> *stop, std::function<void(const std::string &why)> notice)
		: stop_(stop), notice_(std::move(notice))
	{
	}

	/* Waits for a moment. False: it is over. */
	bool wait(const std::string &why);

private:
	using Clock = std::chrono::steady_clock;

	const std::atomic<bool> *stop_;
	std::function<void(const std::string &why)> notice_;
	const Clock::time_point began_ = Clock::now();
};

/* Nobody answered, or JetStream says that it can't for now. */
bool is_transient(const ApiReply &reply);
/* The same of what nats.c says of a call to JetStream. */
bool is_transient(natsStatus status, jsErrCode error);

/* `subject`: without the prefix; an empty body is none. */
ApiReply jetstream_request(natsConnection *connection, const std::string &subject, const nlohmann::json &body = {},
						   const std::string &api_prefix = "$JS.API.");

} // namespace siphon

#endif
