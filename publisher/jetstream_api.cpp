/* See jetstream_api.h. */
#include "jetstream_api.h"

namespace siphon {

static constexpr int64_t kTimeoutMs = 3000;

ApiReply
jetstream_request(natsConnection *connection, const std::string &subject, const nlohmann::json &body,
				  const std::string &api_prefix)
{
	ApiReply reply;
	std::string text = body.is_null() ? std::string() : body.dump();
	natsMsg *raw = nullptr;
	natsStatus status = natsConnection_Request(&raw, connection, (api_prefix + subject).c_str(), text.data(),
											   static_cast<int>(text.size()), kTimeoutMs);
	NatsPtr<natsMsg> message(raw);

	if (status == NATS_OK)
		return read_api_reply(raw);
	reply.error = status == NATS_NO_RESPONDERS ? "JetStream is not enabled, or is not up yet"
				  : status == NATS_TIMEOUT     ? "no answer"
											   : natsStatus_GetText(status);
	return reply;
}

} // namespace siphon
