/* See requests.h. */
#include "reader/nats/requests.h"

#include <algorithm>
#include <cstring>

#include <openssl/evp.h>

namespace siphon {

static constexpr std::chrono::seconds kDeadline{3};

bool
is_final_error(int code)
{
	static constexpr int final_codes[] = {
		10052, /* invalid configuration */
		10056, /* the name in the request is another than in the subject */
		10065, /* another stream takes the subjects */
		10069, /* the stream can't be changed so */
		10074, /* replicas need a cluster */
		10109, /* sealed */
	};

	return std::find(std::begin(final_codes), std::end(final_codes), code) != std::end(final_codes);
}

std::string
decode_base64(const std::string &text)
{
	std::string bytes(text.size() / 4 * 3 + 3, '\0');
	int length = EVP_DecodeBlock(reinterpret_cast<unsigned char *>(bytes.data()),
								 reinterpret_cast<const unsigned char *>(text.data()), static_cast<int>(text.size()));

	if (length < 0)
		return "";
	/* Padding counts as zeros. */
	if (text.ends_with("=="))
		length -= 2;
	else if (text.ends_with("="))
		length -= 1;
	bytes.resize(static_cast<size_t>(length));
	return bytes;
}

ApiReply
read_api_reply(natsMsg *message)
{
	ApiReply reply;
	const char *data = natsMsg_GetData(message);

	if (natsMsg_IsNoResponders(message))
	{
		reply.error = "JetStream is not enabled, or is not up yet";
		return reply;
	}
	reply.content = nlohmann::json::parse(data, data + natsMsg_GetDataLength(message), nullptr, false);
	if (!reply.content.is_object())
	{
		reply.content = nlohmann::json::object();
		reply.error = "the answer is not JetStream's";
		return reply;
	}
	reply.answered = true;

	auto error = reply.content.find("error");

	if (error == reply.content.end() || error->is_null())
		return reply;
	reply.error_code = error->is_object() ? member(*error, "err_code", -1) : -1;
	if (reply.error_code == 0)
		reply.error_code = -1;
	reply.error = error->is_object() ? member(*error, "description", std::string("no description"))
									 : "an error that is not JetStream's";
	return reply;
}

std::string
header_of(const ApiReply &reply, const std::string &name)
{
	/* "NATS/1.0", then a header a line. */
	std::string headers = decode_base64(member(object_member(reply.content, "message"), "hdrs", std::string()));
	size_t begin = headers.find("\r\n" + name + ":");

	if (begin == std::string::npos)
		return "";
	begin = headers.find_first_not_of(' ', begin + name.size() + 3);
	return begin == std::string::npos ? "" : headers.substr(begin, headers.find('\r', begin) - begin);
}

NatsPtr<natsMsg>
Requests::message(const std::string &subject, const std::string &body)
{
	natsMsg *raw = nullptr;
	std::string reply = inbox_ + std::to_string(++last_token_);

	nats_check(natsMsg_Create(&raw, subject.c_str(), reply.c_str(), body.data(), static_cast<int>(body.size())),
			   "message for JetStream");
	return NatsPtr<natsMsg>(raw);
}

/* The answer of a request that is under way; an empty optional inside `pending_` stays there. */
std::optional<ApiReply>
Requests::find(const std::string &key)
{
	auto pending = pending_.find(key);
	std::optional<ApiReply> reply;
	Clock::time_point now = Clock::now();

	if (pending == pending_.end())
		return std::nullopt;
	if (pending->second.reply)
		reply = std::move(pending->second.reply);
	else if (pending->second.interruptions != connection_.interruptions())
	{
		reply.emplace();
		reply->error = "the connection was lost";
	}
	else if (now >= pending->second.deadline)
	{
		reply.emplace();
		reply->error = "no answer";
	}
	if (reply)
		pending_.erase(pending);
	return reply;
}

std::optional<ApiReply>
Requests::send(const std::string &key, natsMsg *message)
{
	natsStatus status;
	{
		std::lock_guard<std::mutex> guard(mutex_);
		Clock::time_point now = Clock::now();

		/* Nobody asks for these any more. */
		std::erase_if(pending_, [&](const auto &entry) { return now >= entry.second.deadline + kDeadline; });
		pending_[key] = {last_token_, connection_.interruptions(), now + kDeadline, std::nullopt};
	}
	status = natsConnection_PublishMsg(connection_.get(), message);
	if (status == NATS_OK)
		return std::nullopt;

	ApiReply reply;
	std::lock_guard<std::mutex> guard(mutex_);

	pending_.erase(key);
	reply.error = natsStatus_GetText(status);
	return reply;
}

std::optional<ApiReply>
Requests::ask(const std::string &subject, const nlohmann::json &body)
{
	std::string text =
		body.is_null() ? std::string() : body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
	std::string key = subject + '\n' + text;
	{
		std::lock_guard<std::mutex> guard(mutex_);

		if (pending_.contains(key))
			return find(key);
	}
	return send(key, message(api_prefix_ + subject, text).get());
}

std::optional<ApiReply>
Requests::put(const std::string &subject, const std::string &body, uint64_t last_on_subject, const char *operation)
{
	std::string key =
		subject + '\n' + std::to_string(last_on_subject) + (operation != nullptr ? operation : "") + '\n' + body;
	{
		std::lock_guard<std::mutex> guard(mutex_);

		if (pending_.contains(key))
			return find(key);
	}

	NatsPtr<natsMsg> sent = message(subject, body);

	nats_check(
		natsMsgHeader_Set(sent.get(), "Nats-Expected-Last-Subject-Sequence", std::to_string(last_on_subject).c_str()),
		"header of a state");
	if (operation != nullptr)
		nats_check(natsMsgHeader_Set(sent.get(), "KV-Operation", operation), "header of a state");
	return send(key, sent.get());
}

void
Requests::enter(const char *token, natsMsg *message)
{
	std::lock_guard<std::mutex> guard(mutex_);

	for (auto &[key, pending] : pending_)
	{
		if (std::to_string(pending.token) != token || pending.reply)
			continue;
		pending.reply = read_api_reply(message);
		answers_.fetch_add(1);
		return;
	}
}

} // namespace siphon
