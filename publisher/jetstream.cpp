/* See jetstream.h. */
#include "jetstream.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>

#include "cursor.h"
#include "exit_codes.h"
#include "lineage.h"
#include "log.h"
#include "stream_reader.h"
#include "subject.h"

namespace siphon {

/* What a message's subject, headers and protocol can take of the server's max_payload. */
static constexpr int64_t kHeaderAllowance = 2048 + kMaxCursors * kCursorSizeMax;
/* Below this there is no room for anything but headers. */
static constexpr int64_t kSmallestBody = 1024;
/* Its threads are busy with nothing that takes longer. */
static constexpr std::chrono::seconds kEndPatience{5};
/* How far to look back for a message of ours behind what others wrote. */
static constexpr uint64_t kLookBack = 100;

JetStream::JetStream(const std::string &url, const NatsLogin &login, const std::string &client_name, bool welcome,
					 const StreamPlan &plan, Wakeup *wakeup, const std::atomic<int> *stop_requests)
	: plan_(plan), wakeup_(wakeup), connection_(url, login, client_name, welcome, wakeup, stop_requests), states_(plan.name)
{
	natsInbox *inbox = nullptr;
	jsCtx *context = nullptr;
	natsSubscription *subscription = nullptr;

	nats_check(natsConnection_JetStream(&context, connection_.get(), nullptr), "JetStream context");
	context_.reset(context);

	nats_check(natsInbox_Create(&inbox), "inbox");
	inbox_ = std::string(inbox) + ".";
	natsInbox_Destroy(inbox);
	nats_check(natsConnection_Subscribe(&subscription, connection_.get(), (inbox_ + "*").c_str(), on_answer, this),
			   "subscription to the inbox");
	subscription_.reset(subscription);
	nats_check(natsSubscription_SetOnCompleteCB(subscription, on_answers_end, this), "end of the inbox");
	nats_check(natsSubscription_SetPendingLimits(subscription, -1, -1), "limits of the inbox");
}

/* To destroy a subscription does not wait for the thread that calls on_answer(). */
JetStream::~JetStream()
{
	subscription_.reset();

	std::unique_lock<std::mutex> guard(mutex_);

	answers_end_.wait_for(guard, kEndPatience, [this] { return answers_ended_; });
}

void
JetStream::on_answers_end(void *self)
{
	JetStream *queue = static_cast<JetStream *>(self);
	std::lock_guard<std::mutex> guard(queue->mutex_);

	queue->answers_ended_ = true;
	/* Under the lock, as the waiter is about to destroy it. */
	queue->answers_end_.notify_one();
}

std::string
JetStream::describe() const
{
	return "stream " + plan_.name + " at " + connection_.servers();
}

void
JetStream::learn_limits(const nlohmann::json &config)
{
	int64_t payload = natsConnection_GetMaxPayload(connection_.get());
	int64_t of_stream = config.value("max_msg_size", int64_t{-1});

	if (of_stream > 0)
		payload = std::min(payload, of_stream);
	if (payload < kHeaderAllowance + kSmallestBody)
		throw Fatal(ExitCode::StreamRefused, describe() + " takes messages of at most " + std::to_string(payload) +
												 " bytes; " + std::to_string(kHeaderAllowance + kSmallestBody) +
												 " are needed");
	body_limit_ = static_cast<uint32_t>(std::min<int64_t>(payload - kHeaderAllowance, UINT32_MAX));
}

/* The stream's configuration and state, as JetStream has them. */
std::optional<nlohmann::json>
JetStream::info(std::string *why)
{
	ApiReply reply = stream_known_ ? jetstream_request(connection_.get(), "STREAM.INFO." + plan_.name)
								   : find_or_make_stream(connection_.get(), plan_);

	if (!reply.answered)
	{
		*why = "JetStream at " + connection_.servers() + " (" + reply.error + ")";
		return std::nullopt;
	}
	if (reply.error_code == kErrorStreamNotFound)
		throw Fatal(ExitCode::StreamRefused,
					describe() + " has been deleted while it was published to; " + resync_advice(plan_.application));
	if (!reply.ok())
		throw Fatal(ExitCode::StreamRefused, describe() + ": " + reply.error);
	if (!reply.content["config"].is_object() || !reply.content["state"].is_object())
		throw Fatal(ExitCode::StreamRefused, describe() + ": JetStream's answer holds no configuration or state");
	return std::move(reply.content);
}

std::optional<LogEnd>
JetStream::read_end(std::string *why)
{
	std::optional<nlohmann::json> known = info(why);

	if (!known)
		return std::nullopt;

	const nlohmann::json &config = (*known)["config"];
	const nlohmann::json &state = (*known)["state"];

	if (stream_known_)
		check_usable(plan_, config);
	else if (!check_stream(connection_.get(), plan_, config, why) ||
			 !states_.open(connection_.get(), context_.get(), config, why))
		return std::nullopt;
	stream_known_ = true;
	learn_limits(config);

	LogEnd end;

	keeps_ = config.value("retention", "limits") == "limits";
	end.sequence = state.value("last_seq", uint64_t{0});
	if (state.value("messages", uint64_t{0}) > 0 &&
		!last_id(state.value("first_seq", uint64_t{0}), end.sequence, &end, why))
		return std::nullopt;
	return end;
}

std::optional<uint64_t>
JetStream::read_first(std::string *why)
{
	std::optional<nlohmann::json> known = info(why);

	if (!known)
		return std::nullopt;

	const nlohmann::json &config = (*known)["config"];

	if (drops_messages(config) || config.value("max_msgs_per_subject", int64_t{-1}) > 0)
		return 0;

	const nlohmann::json &state = (*known)["state"];

	return state.value("messages", uint64_t{0}) > 0 ? state.value("first_seq", uint64_t{0})
													: state.value("last_seq", uint64_t{0}) + 1;
}

/* Looks for the last message that bears a publisher's id. False: JetStream can't answer now. */
bool
JetStream::last_id(uint64_t first, uint64_t last, LogEnd *end, std::string *why)
{
	uint64_t lowest = std::max({first, uint64_t{1}, last > kLookBack ? last - kLookBack : uint64_t{1}});

	for (uint64_t sequence = last; sequence >= lowest; sequence--)
	{
		natsMsg *raw = nullptr;
		jsErrCode error = static_cast<jsErrCode>(0);
		jsOptions options;

		jsOptions_Init(&options);
		options.Wait = kApiTimeoutMs;

		natsStatus status = js_GetMsg(&raw, context_.get(), plan_.name.c_str(), sequence, &options, &error);
		NatsPtr<natsMsg> message(raw);

		if (static_cast<int>(error) == kErrorNoMessage)
			continue;
		if (status != NATS_OK)
		{
			*why =
				"message " + std::to_string(sequence) + " of " + describe() + " (" + natsStatus_GetText(status) + ")";
			return false;
		}

		const char *id = nullptr;
		const char *cursors = nullptr;

		if (natsMsgHeader_Get(raw, "Nats-Msg-Id", &id) != NATS_OK || !MessageId::parse(id))
		{
			end->foreign = true;
			continue;
		}
		end->id = id;
		if (natsMsgHeader_Get(raw, kCursorsHeader, &cursors) == NATS_OK)
			end->cursors = cursors;
		break;
	}
	return true;
}

bool
JetStream::publish(const Message &message, uint64_t token)
{
	natsMsg *raw = nullptr;
	std::string reply = inbox_ + std::to_string(token);
	natsStatus status = natsMsg_Create(&raw, message.subject.c_str(), reply.c_str(), message.body.data(),
									   static_cast<int>(message.body.size()));
	NatsPtr<natsMsg> owner(raw);

	auto set = [&](const char *name, const std::string &value) {
		if (status == NATS_OK)
			status = natsMsgHeader_Set(raw, name, value.c_str());
	};

	set("Nats-Msg-Id", message.id);
	set("Nats-Expected-Last-Sequence", std::to_string(message.sequence - 1));
	if (!message.previous_id.empty())
		set("Nats-Expected-Last-Msg-Id", message.previous_id);
	for (const Header &header : message.headers)
		set(header.name, header.value);
	if (status == NATS_OK)
		status = natsConnection_PublishMsg(connection_.get(), raw);

	switch (status)
	{
		case NATS_OK:
			return true;
		case NATS_NO_MEMORY:
			throw std::bad_alloc();
		case NATS_MAX_PAYLOAD:
		case NATS_INVALID_ARG:
		case NATS_INVALID_SUBJECT:
		case NATS_NO_SERVER_SUPPORT:
			nats_check(status, ("publishing to " + message.subject).c_str());
			return false;
		default:
			/* The connection broke; on_disconnected says so. */
			return false;
	}
}

void
JetStream::on_answer(natsConnection *, natsSubscription *, natsMsg *raw, void *self)
{
	JetStream *queue = static_cast<JetStream *>(self);
	NatsPtr<natsMsg> message(raw);
	const char *subject = natsMsg_GetSubject(raw);
	const char *digits = subject + queue->inbox_.size();
	Answer answer{};

	if (strlen(subject) <= queue->inbox_.size() ||
		std::from_chars(digits, digits + strlen(digits), answer.token).ec != std::errc())
		return;

	if (natsMsg_IsNoResponders(raw))
	{
		answer.verdict = Verdict::Refused;
		answer.text = "no stream takes the message";
	}
	else
	{
		const char *data = natsMsg_GetData(raw);
		nlohmann::json reply = nlohmann::json::parse(data, data + natsMsg_GetDataLength(raw), nullptr, false);

		if (reply.is_object() && reply.contains("error"))
		{
			int code = reply["error"].value("err_code", -1);
			bool order =
				code == kErrorWrongLastSequence || code == kErrorWrongLastId || code == kErrorDuplicateInProgress;

			answer.verdict = order ? Verdict::OutOfOrder : Verdict::Refused;
			answer.text = reply["error"].value("description", "no description");
		}
		else if (reply.is_object() && reply.contains("seq"))
		{
			answer.verdict = reply.value("duplicate", false) ? Verdict::Duplicate : Verdict::Stored;
			answer.sequence = reply.value("seq", uint64_t{0});
		}
		else
		{
			answer.verdict = Verdict::Refused;
			answer.text = "an answer that is not JetStream's";
		}
	}

	{
		std::lock_guard<std::mutex> guard(queue->mutex_);

		queue->answers_.push_back(std::move(answer));
		queue->have_answers_.store(true);
	}
	queue->wakeup_->notify();
}

void
JetStream::collect(std::vector<Answer> *answers)
{
	if (!have_answers_.load())
		return;

	std::lock_guard<std::mutex> guard(mutex_);

	answers->insert(answers->end(), std::make_move_iterator(answers_.begin()), std::make_move_iterator(answers_.end()));
	answers_.clear();
	have_answers_.store(false);
}

bool
JetStream::purge(const std::string &subjects, uint64_t below, std::string *why)
{
	/* Nothing is below the first; JetStream takes that, as 0, for "all". */
	if (below <= 1)
		return true;

	ApiReply reply =
		jetstream_request(connection_.get(), "STREAM.PURGE." + plan_.name, {{"filter", subjects}, {"seq", below}});

	if (reply.answered && !reply.ok())
		throw Fatal(ExitCode::StreamRefused, describe() + " does not let old messages be purged: " + reply.error);
	*why = "JetStream to purge " + subjects + " (" + reply.error + ")";
	return reply.ok();
}

std::optional<uint64_t>
JetStream::last_sequence(const std::string &subjects, std::string *why)
{
	ApiReply reply = jetstream_request(connection_.get(), "STREAM.MSG.GET." + plan_.name, {{"last_by_subj", subjects}});

	if (reply.error_code == kErrorNoMessage)
		return 0;
	if (!reply.ok())
	{
		*why = "the last message of " + subjects + " (" + reply.error + ")";
		return std::nullopt;
	}
	return reply.content["message"].value("seq", uint64_t{0});
}

std::unique_ptr<QueueReader>
JetStream::read_from(const std::string &subjects, uint64_t sequence, std::string *why)
{
	return StreamReader::begin(connection_.get(), wakeup_, plan_.name, subjects, sequence, why);
}

/* The message is known not to be there any more. */
bool
JetStream::gone(uint64_t sequence)
{
	natsMsg *raw = nullptr;
	jsErrCode error = static_cast<jsErrCode>(0);

	if (sequence == 0)
		return true;
	js_GetMsg(&raw, context_.get(), plan_.name.c_str(), sequence, nullptr, &error);
	natsMsg_Destroy(raw);
	return static_cast<int>(error) == kErrorNoMessage;
}

/* Waits for the answers, as it is asked for rarely. */
std::optional<std::vector<StoredMessage>>
JetStream::last_of_each(const std::string &subjects, uint64_t end, std::string *why)
{
	std::vector<StoredMessage> messages;

	/* What is left there says nothing of what was there. */
	if (!keeps_)
		return messages;

	auto reader = StreamReader::begin(connection_.get(), wakeup_, plan_.name, subjects, 0, why);

	if (!reader)
		return std::nullopt;
	do
	{
		reader->pull();
		if (!reader->await() || !reader->take(&messages))
		{
			*why = "the last positions in " + describe();
			return std::nullopt;
		}
	} while (reader->pending() > 0);

	/* The consumer may look at a replica that lags behind. The log's last message is the last of its subject. */
	if ((messages.empty() || messages.back().sequence < end) && !gone(end))
	{
		*why = "a replica of " + describe() + " to come to sequence " + std::to_string(end);
		return std::nullopt;
	}
	return messages;
}

std::optional<std::map<std::string, std::string>>
JetStream::read_states(std::string *why)
{
	return states_.read(why);
}

bool
JetStream::read_state(const std::string &key, std::optional<std::string> *value, std::string *why)
{
	return states_.read_one(key, value, why);
}

bool
JetStream::write_state(const std::string &key, const std::string &value, std::string *why)
{
	return states_.write(key, value, why);
}

} // namespace siphon
