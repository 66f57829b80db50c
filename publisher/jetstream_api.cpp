/* See jetstream_api.h. */
#include "jetstream_api.h"

#include "nats_connection.h"

namespace siphon {

ApiReply
jetstream_request(natsConnection *connection, const std::string &subject, const nlohmann::json &body)
{
	ApiReply reply;
	std::string text = body.is_null() ? std::string() : body.dump();
	natsMsg *raw = nullptr;
	natsStatus status = natsConnection_Request(&raw, connection, ("$JS.API." + subject).c_str(), text.data(),
											   static_cast<int>(text.size()), kApiTimeoutMs);
	NatsPtr<natsMsg> message(raw);

	if (status == NATS_NO_RESPONDERS)
	{
		reply.error = "JetStream is not enabled";
		return reply;
	}
	if (status != NATS_OK)
	{
		reply.error = status == NATS_TIMEOUT ? "no answer" : natsStatus_GetText(status);
		return reply;
	}

	reply.content = nlohmann::json::parse(natsMsg_GetData(raw), natsMsg_GetData(raw) + natsMsg_GetDataLength(raw),
										  nullptr, false);
	if (!reply.content.is_object())
	{
		reply.error = "the answer is not JSON";
		return reply;
	}

	auto error = reply.content.find("error");

	reply.answered = true;
	if (error != reply.content.end() && error->is_object())
	{
		reply.error_code = error->value("err_code", -1);
		reply.error = error->value("description", "no description");
		/* Not now: no leader, not enough resources, a cluster that is just coming up. */
		reply.answered = error->value("code", 0) != 503 && reply.error_code != kErrorNoPeers;
	}
	return reply;
}

} // namespace siphon
