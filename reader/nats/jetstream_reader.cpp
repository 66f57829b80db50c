/* See reader.h. */
#include "reader/nats/jetstream_reader.h"

#include <charconv>
#include <cstring>

namespace siphon {

/* Messages are large, headers are small. */
static constexpr int kMessageBatch = 32;
static constexpr int kHeaderBatch = 512;
static constexpr int64_t kForgetAfterNs = 60000000000;
/* A pull without an answer for this long has lost it. */
static constexpr std::chrono::seconds kPullTimeout{10};

JetStreamReader::JetStreamReader(NatsConnection *connection, const std::string &api_prefix, const std::string &consumer,
								 std::shared_ptr<Inbox> inbox)
	: connection_(*connection), api_prefix_(api_prefix), consumer_(consumer), inbox_(std::move(inbox))
{
	natsSubscription *subscription = nullptr;

	reply_ = connection_.new_inbox();

	auto closure = std::make_unique<std::shared_ptr<Inbox>>(inbox_);

	nats_check(natsConnection_Subscribe(&subscription, connection_.get(), reply_.c_str(), on_message, closure.get()),
			   "subscription to a reader's inbox");
	subscription_.reset(subscription);
	nats_check(natsSubscription_SetOnCompleteCB(subscription, on_end, closure.get()), "end of a reader's inbox");
	closure.release();
	nats_check(natsSubscription_SetPendingLimits(subscription, -1, -1), "limits of a reader's inbox");
}

std::unique_ptr<JetStreamReader>
JetStreamReader::begin(NatsConnection *connection, Requests *requests, Wakeup *wakeup, const std::string &stream,
					   const std::string &subjects, Place behind, What what, std::string *why)
{
	nlohmann::json config = {
		{"filter_subject", subjects}, {"ack_policy", "none"}, {"replay_policy", "instant"},          {"max_waiting", 4},
		{"num_replicas", 1},          {"mem_storage", true},  {"inactive_threshold", kForgetAfterNs}};

	if (what == What::LastOfEach)
		config["deliver_policy"] = "last_per_subject";
	else
		config.update({{"deliver_policy", "by_start_sequence"}, {"opt_start_seq", behind + 1}});
	if (what == What::Headers)
		config["headers_only"] = true;

	std::optional<ApiReply> reply =
		requests->ask("CONSUMER.CREATE." + stream, {{"stream_name", stream}, {"config", std::move(config)}});

	why->clear();
	if (!reply)
		return nullptr;

	std::string name = reply->ok() ? member(reply->content, "name", std::string()) : "";

	if (name.empty())
	{
		*why = "a consumer of " + subjects + " in " + stream + " (" + reply->error + ")";
		return nullptr;
	}
	return std::unique_ptr<JetStreamReader>(
		new JetStreamReader(connection, requests->api_prefix(), stream + "." + name,
							std::make_shared<Inbox>(wakeup, what == What::Messages ? kMessageBatch : kHeaderBatch)));
}

JetStreamReader::~JetStreamReader()
{
	std::string subject = api_prefix_ + "CONSUMER.DELETE." + consumer_;

	natsConnection_PublishString(connection_.get(), subject.c_str(), "");
}

void
JetStreamReader::pull()
{
	std::string request = nlohmann::json({{"batch", inbox_->batch}, {"no_wait", true}}).dump();
	std::string subject = api_prefix_ + "CONSUMER.MSG.NEXT." + consumer_;
	std::lock_guard<std::mutex> guard(inbox_->mutex);

	if (inbox_->pulling)
		return;
	inbox_->pulled = 0;
	inbox_->pulling = true;
	pulled_at_ = std::chrono::steady_clock::now();
	if (natsConnection_PublishRequestString(connection_.get(), subject.c_str(), reply_.c_str(), request.c_str()) !=
		NATS_OK)
		inbox_->broken = true;
}

bool
JetStreamReader::pulling() const
{
	std::lock_guard<std::mutex> guard(inbox_->mutex);

	return inbox_->pulling;
}

uint64_t
JetStreamReader::pending() const
{
	std::lock_guard<std::mutex> guard(inbox_->mutex);

	return inbox_->pending;
}

bool
JetStreamReader::take(std::vector<StoredMessage> *messages)
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
JetStreamReader::on_message(natsConnection *, natsSubscription *, natsMsg *raw, void *closure)
{
	std::shared_ptr<Inbox> inbox = *static_cast<std::shared_ptr<Inbox> *>(closure);
	NatsPtr<natsMsg> message(raw);

	try
	{
		inbox->enter(raw);
	}
	catch (...)
	{
		/* Through the library's thread nothing may be thrown. */
		std::lock_guard<std::mutex> guard(inbox->mutex);

		inbox->broken = true;
	}
	inbox->wakeup->notify();
}

void
JetStreamReader::on_end(void *closure)
{
	delete static_cast<std::shared_ptr<Inbox> *>(closure);
}

static std::string
header(natsMsg *message, const char *name)
{
	const char *value = nullptr;

	return natsMsgHeader_Get(message, name, &value) == NATS_OK && value != nullptr ? value : "";
}

StoredMessage
read_stored_message(natsMsg *raw, Place place)
{
	StoredMessage message = from_headers([raw](const char *name) { return header(raw, name); });

	message.place = place;
	message.subject = natsMsg_GetSubject(raw);
	if (message.kind.empty())
		message.kind = header(raw, "KV-Operation");
	message.body.assign(natsMsg_GetData(raw), static_cast<size_t>(natsMsg_GetDataLength(raw)));
	return message;
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
JetStreamReader::Inbox::enter(natsMsg *raw)
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

	messages.push_back(read_stored_message(raw, sequence));
	pending = behind;
	if (++pulled >= batch || behind == 0)
		pulling = false;
}

} // namespace siphon
