/* See jetstream_log.h. */
#include "publisher/stream/jetstream/jetstream_log.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <random>

#include "program/exit_codes.h"
#include "program/log.h"
#include "reader/cursor.h"
#include "reader/subject.h"

namespace siphon {

/* What a message's subject, headers and protocol can take of the server's max_payload. */
static constexpr int64_t kHeaderAllowance = 2048 + kMaxCursors * kCursorSizeMax;
/* Below this there is no room for anything but headers. */
static constexpr int64_t kSmallestBody = 1024;
static constexpr std::chrono::seconds kFencePatience{10};
/* Tokens of fences; all others are smaller. */
static constexpr uint64_t kFenceToken = uint64_t{1} << 63;

JetStreamLog::JetStreamLog(const StreamPlan &plan, NatsConnection *connection, Requests *requests, Wakeup *wakeup,
						   const std::string &inbox, JetStreamLog *beside)
	: plan_(plan), connection_(*connection), requests_(*requests), wakeup_(wakeup), inbox_(inbox), beside_(beside)
{
}

std::string
JetStreamLog::describe() const
{
	return "stream " + plan_.name + " at " + connection_.servers();
}

/* Puts into *why what a request waits for: nothing if it is under way. Always false. */
bool
JetStreamLog::not_yet(const std::optional<ApiReply> &reply, const std::string &what, std::string *why) const
{
	*why = reply ? describe() + " to " + what + " (" + reply->error + ")" : "";
	return false;
}

void
JetStreamLog::learn_limits()
{
	int64_t payload = natsConnection_GetMaxPayload(connection_.get());
	int64_t of_stream = member(config_, "max_msg_size", int64_t{-1});

	if (of_stream > 0)
		payload = std::min(payload, of_stream);
	if (payload < kHeaderAllowance + kSmallestBody)
		throw Fatal(ExitCode::StreamRefused,
					describe() + " takes messages of at most " + std::to_string(payload) + " bytes; " +
						std::to_string(kHeaderAllowance + kSmallestBody) +
						(of_stream > 0 ? " are needed: nats stream edit " + plan_.name + " --max-msg-size=-1"
									   : " are needed: max_payload in the server's configuration"));
	body_limit_ = static_cast<uint32_t>(std::min<int64_t>(payload - kHeaderAllowance, UINT32_MAX));
	replicas_ = member(config_, "num_replicas", 1);
}

bool
JetStreamLog::send(const Message &message, uint64_t token, uint64_t sequence, const std::string &previous_id)
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
	set("Nats-Expected-Stream", plan_.name);
	set("Nats-Expected-Last-Sequence", std::to_string(sequence - 1));
	if (!previous_id.empty() && replicas_ == 1)
		set("Nats-Expected-Last-Msg-Id", previous_id);
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

static uint64_t
random_number()
{
	static std::random_device random;

	return (uint64_t{random()} << 32) | random();
}

bool
JetStreamLog::fence(size_t in_flight, const std::string &cursors, LogEnd *end, std::string *why)
{
	Clock::time_point now = Clock::now();

	why->clear();
	if (!fencing_)
	{
		if (!prepare(why))
			return false;

		/* With one replica the id that each message names does the rest. */
		size_t count = replicas_ > 1 ? in_flight + 1 : 1;
		uint64_t run = random_number();
		Message message;

		message.subject = fence_subject(plan_);
		message.headers = {{"Siphon-Kind", "fence"}, {kCursorsHeader, cursors}};
		next_ = known_ + 1;
		previous_id_.clear();
		sent_.clear();
		fences_ = count;
		fencing_ = true;
		fenced_at_ = now;
		interruptions_ = connection_.interruptions();
		for (size_t i = 0; i < count; i++)
		{
			message.id = MessageId{run, i, 1}.format();
			sent_.push_back({kFenceToken + i, next_, message.id, false});
			if (!send(message, kFenceToken + i, next_, previous_id_))
			{
				*why = describe() + " to take a fence (the connection was lost)";
				return false;
			}
			previous_id_ = message.id;
			next_++;
		}
	}
	for (const Ack &ack : take_acks())
	{
		std::optional<PublishAck> answer = judge(ack);

		if (!answer || answer->token < kFenceToken)
			continue;
		if (answer->verdict != PublishResult::Stored)
		{
			*why = describe() + " to take messages (" + answer->text + ")";
			end->refused = answer->verdict == PublishResult::Refused ? answer->text : "";
			return false;
		}
		fences_--;
	}
	if (fences_ > 0)
	{
		if (interruptions_ != connection_.interruptions() || now - fenced_at_ >= kFencePatience)
			*why = describe() + " to take a fence (no answer)";
		return false;
	}
	fencing_ = false;
	*end = end_;
	end->place = known_;
	end->message = message_hash(previous_id_);
	end->cursors = cursors;
	return true;
}

bool
JetStreamLog::append(const Message &message, uint64_t token)
{
	if (!send(message, token, next_, previous_id_))
		return false;
	sent_.push_back({token, next_, message.id, false});
	previous_id_ = message.id;
	next_++;
	return true;
}

void
JetStreamLog::enter(const char *token, natsMsg *message)
{
	Ack ack{0, {}};

	if (std::from_chars(token, token + strlen(token), ack.token).ec != std::errc())
		return;
	ack.reply = read_api_reply(message);
	if (natsMsg_IsNoResponders(message))
		ack.reply.error = "no stream takes the message";
	{
		std::lock_guard<std::mutex> guard(mutex_);

		acks_.push_back(std::move(ack));
		have_acks_.store(true);
	}
}

std::vector<JetStreamLog::Ack>
JetStreamLog::take_acks()
{
	std::vector<Ack> acks;

	if (!have_acks_.load())
		return acks;

	std::lock_guard<std::mutex> guard(mutex_);

	acks.swap(acks_);
	have_acks_.store(false);
	return acks;
}

/*
 * What an ack says of the message that it is for. nullopt: nothing, as it is for none that is under way, or is not
 * JetStream's: whoever may read the stream's subjects can send one.
 */
std::optional<PublishAck>
JetStreamLog::judge(const Ack &ack)
{
	const ApiReply &reply = ack.reply;
	auto sent = std::lower_bound(sent_.begin(), sent_.end(), ack.token,
								 [](const Sent &message, uint64_t token) { return message.token < token; });

	if (sent == sent_.end() || sent->token != ack.token)
		return std::nullopt;

	PublishAck answer{ack.token, PublishResult::Refused, kNoPlace, reply.error};

	if (!reply.answered)
		return answer;
	if (reply.error_code != 0)
	{
		bool order = reply.error_code == kErrorWrongLastSequence || reply.error_code == kErrorWrongLastId ||
					 reply.error_code == kErrorDuplicateInProgress;

		answer.verdict = order ? PublishResult::OutOfOrder : PublishResult::Refused;
		return answer;
	}
	if (member(reply.content, "stream", std::string()) != plan_.name)
		return std::nullopt;

	uint64_t sequence = member(reply.content, "seq", uint64_t{0});

	/*
	 * Where messages don't stay, that this one is not there does not mean that it never was; with one server, which says
	 * where it stood, that is believed.
	 */
	if (member(reply.content, "duplicate", false) && end_.lossy && replicas_ == 1 && sequence > 0 && sequence <= known_)
	{
		answer.verdict = PublishResult::Duplicate;
		return answer;
	}
	/* That a message of this id was proposed once, or stored, is no ack: what the stream has must be looked at. */
	if (member(reply.content, "duplicate", false) || sequence != sent->sequence)
	{
		answer.verdict = PublishResult::OutOfOrder;
		answer.text = "the message is at another place";
		return answer;
	}
	answer.verdict = PublishResult::Stored;
	answer.place = sequence;
	sent->answered = true;
	/* All in front of it are stored too, or it would have been refused. */
	if (sequence > known_)
	{
		known_ = sequence;
		written_ = true;
	}
	return answer;
}

void
JetStreamLog::collect(std::vector<PublishAck> *answers)
{
	for (PublishAck &answer : found_)
	{
		if (answer.token < kFenceToken)
			answers->push_back(std::move(answer));
	}
	found_.clear();
	for (const Ack &ack : take_acks())
	{
		std::optional<PublishAck> answer = judge(ack);

		if (answer && answer->token < kFenceToken)
			answers->push_back(std::move(*answer));
	}
	while (!sent_.empty() && sent_.front().answered)
		sent_.pop_front();
}

std::unique_ptr<LogReader>
JetStreamLog::read(const std::string &subjects, Place behind, bool headers, std::string *why)
{
	return JetStreamReader::begin(&connection_, &requests_, wakeup_, plan_.name, subjects, behind,
								  headers ? JetStreamReader::What::Headers : JetStreamReader::What::Messages, why);
}

std::optional<Place>
JetStreamLog::last(const std::string &subjects, std::string *why)
{
	std::optional<ApiReply> reply = requests_.ask("STREAM.MSG.GET." + plan_.name, {{"last_by_subj", subjects}});

	if (reply && reply->error_code == kErrorNoMessage)
		return kNoPlace;
	if (!reply || !reply->ok())
	{
		not_yet(reply, "give the last message of " + subjects, why);
		return std::nullopt;
	}
	return member(object_member(reply->content, "message"), "seq", uint64_t{0});
}

/* Looks further and further back: it is near the end, unless the publisher was away for long. */
bool
JetStreamLog::find_up_to(const std::string &subject, const Position &position, Place behind,
						 std::optional<StoredMessage> *found, std::string *why)
{
	static constexpr uint64_t kFirstStep = 256;
	uint64_t lowest = std::max(behind + 1, end_.first);

	found->reset();
	if (step_back_ == 0)
		step_back_ = kFirstStep;
	for (;; step_back_ *= 4)
	{
		bool last = end_.place < lowest + step_back_;
		uint64_t from = last ? lowest : end_.place - step_back_;
		std::optional<ApiReply> reply =
			requests_.ask("STREAM.MSG.GET." + plan_.name, {{"seq", from}, {"next_by_subj", subject}});
		bool none = reply && reply->error_code == kErrorNoMessage;

		if (!reply || (!reply->ok() && !none))
		{
			if (reply)
				step_back_ = 0;
			return not_yet(reply, "give messages of " + subject, why);
		}

		std::optional<Position> there = parse_position(none ? "" : header_of(*reply, "Siphon-Last"));

		if (there && (there->lsn < position.lsn || (there->lsn == position.lsn && there->ordinal <= position.ordinal)))
		{
			*found = from_headers([&](const char *name) { return header_of(*reply, name); });
			(*found)->place = member(object_member(reply->content, "message"), "seq", uint64_t{0});
			(*found)->subject = subject;
		}
		if (*found || last)
		{
			step_back_ = 0;
			return true;
		}
	}
}

} // namespace siphon
