/* See jetstream_api.h. */
#include "reader/nats/jetstream_api.h"

#include <algorithm>
#include <thread>

namespace siphon {

static constexpr int64_t kTimeoutMs = 3000;
/* An election takes up to ten seconds, and another one may follow. */
static constexpr std::chrono::seconds kPatience{30};
static constexpr std::chrono::milliseconds kPause{100};

/* What JetStream can't do for now. */
static bool
is_transient_error(int code)
{
	static constexpr int transient_codes[] = {
		10004, /* incomplete results */
		10005, /* no suitable peers, as while servers are away */
		10008, /* temporarily unavailable */
		10009, /* not the leader */
		10118, /* the stream is offline */
		10119, /* the consumer is */
	};

	return std::find(std::begin(transient_codes), std::end(transient_codes), code) != std::end(transient_codes);
}

bool
is_transient(const ApiReply &reply)
{
	return !reply.answered || is_transient_error(reply.error_code) ||
		   member(object_member(reply.content, "error"), "code", 0) == 503;
}

bool
is_transient(natsStatus status, jsErrCode error)
{
	switch (status)
	{
		case NATS_TIMEOUT:
		case NATS_NO_RESPONDERS:
		case NATS_CONNECTION_DISCONNECTED:
			return true;
		default:
			return is_transient_error(static_cast<int>(error));
	}
}

bool
Patience::wait(const std::string &why)
{
	if (stop_->load() || Clock::now() - began_ > kPatience)
		return false;
	if (notice_)
		notice_(why);
	notice_ = nullptr;
	std::this_thread::sleep_for(kPause);
	return !stop_->load();
}

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
