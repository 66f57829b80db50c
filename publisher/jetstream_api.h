/* Requests to JetStream's API that wait for the answer: for programs that have nothing else to do meanwhile. */
#ifndef SIPHON_JETSTREAM_API_H
#define SIPHON_JETSTREAM_API_H

#include <string>

#include "stream/jetstream/requests.h"

namespace siphon {

/* `subject`: without the prefix; an empty body is none. */
ApiReply jetstream_request(natsConnection *connection, const std::string &subject, const nlohmann::json &body = {},
						   const std::string &api_prefix = "$JS.API.");

} // namespace siphon

#endif
