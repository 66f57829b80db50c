/*
 * Requests to JetStream's own API, as JSON. By hand rather than through nats.c, because a stream's settings
 * must survive an update with those that this library's release does not know.
 */
#ifndef SIPHON_JETSTREAM_API_H
#define SIPHON_JETSTREAM_API_H

#include <string>

#include <nats/nats.h>
#include <nlohmann/json.hpp>

namespace siphon {

constexpr int64_t kApiTimeoutMs = 3000;

/* JetStream's numbers for what it refuses. */
constexpr int kErrorNoPeers = 10005;
constexpr int kErrorConsumerNotFound = 10014;
constexpr int kErrorNoMessage = 10037;
constexpr int kErrorStreamNameInUse = 10058;
constexpr int kErrorStreamNotFound = 10059;
constexpr int kErrorWrongLastId = 10070;
constexpr int kErrorWrongLastSequence = 10071;
constexpr int kErrorDuplicateInProgress = 10158;

struct ApiReply
{
	/* False: nobody answered, or only that it can't now; `error` says why, and later it may be different. */
	bool answered = false;
	int error_code = 0; /* answered with a refusal */
	std::string error;
	nlohmann::json content;

	bool ok() const { return answered && error_code == 0; }
};

/* Subject without "$JS.API."; an empty body is none. */
ApiReply jetstream_request(natsConnection *connection, const std::string &subject, const nlohmann::json &body = {});

} // namespace siphon

#endif
