/* See stream_reader.h. */
#include "stream_reader.h"

#include <charconv>
#include <chrono>
#include <cstring>

#include "jetstream_api.h"

namespace siphon {

static constexpr int kBatch = 32;
static constexpr int64_t kForgetAfterNs = 60000000000;
/* A pull without an answer for this long has lost it. */
static constexpr std::chrono::seconds kPullTimeout{10};

StreamReader::StreamReader(natsConnection *connection, Wakeup *wakeup, const std::string &stream,
						   const std::string &consumer)
	: connection_(connection), stream_(stream), consumer_(consumer), inbox_(std::make_shared<Inbox>(wakeup))
{
	natsInbox *reply = nullptr;
	natsSubscription *subscription = nullptr;

	nats_check(natsInbox_Create(&reply), "inbox");
	reply_ = reply;
	natsInbox_Destroy(reply);

	auto closure = std::make_unique<std::shared_ptr<Inbox>>(inbox_);

	nats_check(natsConnection_Subscribe(&subscription, connection, reply_.c_str(), on_message, closure.get()),
			   "subscription to a reader's inbox");
	subscription_.reset(subscription);
	nats_check(natsSubscription_SetOnCompleteCB(subscription, on_end, closure.get()), "end of a reader's inbox");
	closure.release();
	nats_check(natsSubscription_SetPendingLimits(subscription, -1, -1), "limits of a reader's inbox");
}

std::unique_ptr<StreamReader>
StreamReader::begin(natsConnection *connection, Wakeup *wakeup, const std::string &stream, const std::string &subjects,
					uint64_t sequence, std::string *why)
{
	nlohmann::json config = {
		{"filter_subject", subjects}, {"ack_policy", "none"}, {"replay_policy", "instant"},          {"max_waiting", 4},
		{"num_replicas", 1},          {"mem_storage", true},  {"inactive_threshold", kForgetAfterNs}};

	if (sequence > 0)
		config.update({{"deliver_policy", "by_start_sequence"}, {"opt_start_seq", sequence}});
	else
		config.update({{"deliver_policy", "last_per_subject"}, {"headers_only", true}});

	ApiReply reply = jetstream_request(connection, "CONSUMER.CREATE." + stream,
									   {{"stream_name", stream}, {"config", std::move(config)}});
	std::string name = reply.ok() ? reply.content.value("name", "") : "";

	if (name.empty())
	{
		*why = "a consumer of " + subjects + " (" + reply.error + ")";
		return nullptr;
	}
	return std::unique_ptr<StreamReader>(new StreamReader(connection, wakeup, stream, name));
}

StreamReader::~StreamReader()
{
	std::string subject = "$JS.API.CONSUMER.DELETE." + stream_ + "." + consumer_;

	natsConnection_PublishString(connection_, subject.c_str(), "");
}

void
StreamReader::pull()
{
	static const std::string request = nlohmann::json({{"batch", kBatch}, {"no_wait", true}}).dump();
	std::string subject = "$JS.API.CONSUMER.MSG.NEXT." + stream_ + "." + consumer_;
	std::lock_guard<std::mutex> guard(inbox_->mutex);

	if (inbox_->pulling)
		return;
	inbox_->pulled = 0;
	inbox_->pulling = true;
	pulled_at_ = std::chrono::steady_clock::now();
	if (natsConnection_PublishRequestString(connection_, subject.c_str(), reply_.c_str(), request.c_str()) != NATS_OK)
		inbox_->broken = true;
}

bool
StreamReader::pulling() const
{
	std::lock_guard<std::mutex> guard(inbox_->mutex);

	return inbox_->pulling;
}

bool
StreamReader::await()
{
	std::unique_lock<std::mutex> guard(inbox_->mutex);

	return inbox_->come.wait_for(guard, std::chrono::milliseconds(kApiTimeoutMs), [this] { return !inbox_->pulling; });
}

uint64_t
StreamReader::pending() const
{
	std::lock_guard<std::mutex> guard(inbox_->mutex);

	return inbox_->pending;
}

bool
StreamReader::take(std::vector<StoredMessage> *messages)
{
	std::lock_guard<std::mutex> guard(inbox_->mutex);
	std::vector<StoredMessage> &arrived = inbox_->messages;

	if (inbox_->pulling && std::chrono::steady_clock::now() - pulled_at_ >= kPullTimeout)
		inbox_->broken = true;
	messages->insert(messages->end(), std::make_move_iterator(arrived.begin()), std::make_move_iterator(arrived.end()));
	arrived.clear();
	return !inbox_->broken;
}

void
StreamReader::on_message(natsConnection *, natsSubscription *, natsMsg *raw, void *closure)
{
	std::shared_ptr<Inbox> inbox = *static_cast<std::shared_ptr<Inbox> *>(closure);
	NatsPtr<natsMsg> message(raw);

	inbox->enter(raw);
	inbox->come.notify_one();
	inbox->wakeup->notify();
}

void
StreamReader::on_end(void *closure)
{
	delete static_cast<std::shared_ptr<Inbox> *>(closure);
}

static std::string
header(natsMsg *message, const char *name)
{
	const char *value = nullptr;

	return natsMsgHeader_Get(message, name, &value) == NATS_OK && value != nullptr ? value : "";
}

/*
 * Cuts the last `count` tokens of the reply subject, which tells where a message stands:
 * $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>, in newer forms
 * with a token more in front of <stream> and behind <pending>.
 */
static bool
parse_place(std::string_view reply, uint64_t *sequence, uint64_t *delivered, uint64_t *pending)
{
	std::vector<std::string_view> tokens;

	while (!reply.empty())
	{
		size_t dot = reply.find('.');

		tokens.push_back(reply.substr(0, dot));
		reply = dot == std::string_view::npos ? std::string_view() : reply.substr(dot + 1);
	}
	if (tokens.size() < 9 || tokens[0] != "$JS" || tokens[1] != "ACK")
		return false;

	size_t first = tokens.size() == 9 ? 4 : 6; /* <delivered> */
	auto number = [&](size_t token, uint64_t *value) {
		const char *end = tokens[token].data() + tokens[token].size();
		auto result = std::from_chars(tokens[token].data(), end, *value);

		return result.ec == std::errc() && result.ptr == end;
	};

	return tokens.size() > first + 4 && number(first + 1, sequence) && number(first + 2, delivered) &&
		   number(first + 4, pending);
}

void
StreamReader::Inbox::enter(natsMsg *raw)
{
	std::lock_guard<std::mutex> guard(mutex);
	const char *reply = natsMsg_GetReply(raw);
	uint64_t sequence = 0;
	uint64_t count = 0;
	uint64_t behind = 0;

	if (reply == nullptr || !parse_place(reply, &sequence, &count, &behind))
	{
		/* The end of a pull: nothing more is there (404), or its consumer is not. */
		std::string status = header(raw, "Status");

		if (status == "404")
			pending = 0;
		else if (status != "408")
			broken = true;
		pulling = false;
		return;
	}
	if (count != delivered + 1 || broken)
	{
		broken = true;
		pulling = false;
		return;
	}
	delivered = count;

	StoredMessage message;
	std::string generation = header(raw, "Siphon-Generation");

	message.sequence = sequence;
	message.subject = natsMsg_GetSubject(raw);
	message.kind = header(raw, "Siphon-Kind");
	message.generation = 0;
	std::from_chars(generation.data(), generation.data() + generation.size(), message.generation);
	message.first = header(raw, "Siphon-First");
	message.last = header(raw, "Siphon-Last");
	message.events = header(raw, "Siphon-Events");
	message.encoding = header(raw, "Siphon-Encoding");
	message.part = header(raw, "Siphon-Part");
	message.body.assign(natsMsg_GetData(raw), static_cast<size_t>(natsMsg_GetDataLength(raw)));
	messages.push_back(std::move(message));
	pending = behind;
	if (++pulled >= kBatch || behind == 0)
		pulling = false;
}

} // namespace siphon
