/* See jetstream_log.h. */
#include "stream/jetstream/jetstream_log.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <ctime>
#include <random>

#include "cursor.h"
#include "exit_codes.h"
#include "lineage.h"
#include "log.h"
#include "subject.h"

namespace siphon {

/* What a message's subject, headers and protocol can take of the server's max_payload. */
static constexpr int64_t kHeaderAllowance = 2048 + kMaxCursors * kCursorSizeMax;
/* Below this there is no room for anything but headers. */
static constexpr int64_t kSmallestBody = 1024;
/* How far to look back for a message of ours behind what others wrote. */
static constexpr uint64_t kLookBack = 1000;
/* A stream may seem to end too early for a moment: a server that has just come to lead answers before it has read its log. */
static constexpr std::chrono::seconds kShortPatience{10};
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

/* The stream's configuration and state, as JetStream has them; an empty object if there is no such stream. */
std::optional<nlohmann::json>
JetStreamLog::info(std::string *why)
{
	std::optional<ApiReply> reply = requests_.ask("STREAM.INFO." + plan_.name);

	if (reply && reply->error_code == kErrorStreamNotFound)
	{
		if (existed_)
			throw Fatal(ExitCode::StreamRefused,
						describe() + " has been deleted while it was published to; " + resync_advice(plan_.application));
		return nlohmann::json::object();
	}
	if (!reply || !reply->ok())
	{
		not_yet(reply, "answer", why);
		return std::nullopt;
	}
	if (!reply->content["config"].is_object() || !reply->content["state"].is_object())
	{
		*why = describe() + " to say its configuration and state";
		return std::nullopt;
	}
	existed_ = true;
	return std::move(reply->content);
}

/* Makes the stream, or gives it what it lacks. False: not yet. */
bool
JetStreamLog::prepare(std::string *why)
{
	std::optional<ApiReply> reply;

	/* Of the stream of the former layout both want the held changes. */
	if (beside_ != nullptr && (beside_->missing_ || beside_->change_))
		return false;
	if (missing_)
	{
		nlohmann::json config =
			new_stream_config(plan_, beside_ != nullptr ? beside_->config_ : nlohmann::json::object());

		reply = requests_.ask("STREAM.CREATE." + plan_.name, config);
		if (reply && reply->ok())
		{
			std::string created = member(reply->content, "created", std::string());

			spdlog::info("made stream {} for {}", plan_.name, config["subjects"].dump());
			config_ = object_member(reply->content, "config");
			end_.identity = created.empty() ? 0 : message_hash(created);
			missing_ = false;
			existed_ = true;
			learn_limits();
			return true;
		}
		if (reply && reply->final_error())
			throw Fatal(ExitCode::StreamRefused, "JetStream does not make stream " + plan_.name + ": " + reply->error);
		return not_yet(reply, "be made", why);
	}
	if (change_)
	{
		reply = requests_.ask("STREAM.UPDATE." + plan_.name, change_->config);
		if (reply && reply->final_error())
			throw Fatal(ExitCode::StreamRefused,
						"JetStream does not change stream " + plan_.name + " (" + change_->what + "): " + reply->error);
		if (!reply || !reply->ok())
			return not_yet(reply, "change", why);
		spdlog::info("changed stream {}: {}", plan_.name, change_->what);
		config_ = change_->config;
		change_.reset();
		learn_limits();
	}
	return true;
}

/*
 * What stands behind what is known is ours, in the order in which it was sent; or it is of a publisher before us, or of an
 * earlier connection, and nothing of ours is in front of it. Anything else came to a place where it does not belong.
 */
bool
JetStreamLog::check_behind(std::string *why)
{
	if (!reader_)
		reader_ = read(">", known_, true, why);
	if (!reader_)
		return false;

	bool sound = reader_->take(&behind_);
	bool complete = !behind_.empty() && behind_.back().place >= end_.place;

	if (!complete && sound && !reader_->pulling())
	{
		if (reader_->pending() > 0)
			reader_->pull();
		else
		{
			/* The end may have been taken away by a limit; or the reader looks at a replica that lags behind. */
			std::optional<ApiReply> reply = message_at(end_.place);

			if (!reply)
				return false;
			complete = reply->error_code == kErrorNoMessage;
			sound = complete;
		}
	}
	if (!complete)
	{
		if (!sound)
		{
			reader_.reset();
			behind_.clear();
			*why = describe() + " to be read to its end";
		}
		return false;
	}
	reader_.reset();

	auto ours = std::find_if(sent_.begin(), sent_.end(), [&](const Sent &sent) { return sent.sequence > known_; });

	for (const StoredMessage &message : behind_)
	{
		if (message.place > end_.place)
			break;
		if (ours != sent_.end() && message.place == ours->sequence && message.id == ours->id)
		{
			written_ = true;
			if (!ours->answered)
				found_.push_back({ours->token, Verdict::Stored, message.place, ""});
			++ours;
			continue;
		}
		/* Under way before us, and arrived in order. */
		if (!written_)
			break;
		if (!MessageId::parse(message.id))
			end_.disorder = "somebody else writes to " + describe() + ": message " + std::to_string(message.place) +
							" is not a publisher's";
		else
			end_.disorder = describe() + " has taken message " + std::to_string(message.place) +
							" of an earlier connection behind newer ones, so what it holds is not in order any more; " +
							resync_advice(plan_.application);
		break;
	}
	behind_.clear();
	return true;
}

std::optional<ApiReply>
JetStreamLog::message_at(uint64_t sequence)
{
	return requests_.ask("STREAM.MSG.GET." + plan_.name, {{"seq", sequence}});
}

/* The value of a header in a message as STREAM.MSG.GET gives it, "" if there is none. */
static std::string
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

/*
 * Looks for the last message that bears a publisher's id; its hash counts if it is the very last. Its cursors do, unless it
 * is one of several fences, the first of which was not stored because another message had its place: then that one's do.
 */
bool
JetStreamLog::find_last(std::string *why)
{
	uint64_t lowest = std::max(end_.first, end_.place > kLookBack + back_ ? end_.place - kLookBack - back_ : uint64_t{1});

	for (; end_.first != kNoPlace && end_.place >= lowest + back_; back_++)
	{
		uint64_t place = end_.place - back_;
		std::optional<ApiReply> reply = message_at(place);

		if (reply && reply->error_code == kErrorNoMessage)
			continue;
		if (!reply || !reply->ok())
			return not_yet(reply, "give its last message", why);

		std::optional<MessageId> id = MessageId::parse(header_of(*reply, "Nats-Msg-Id"));

		if (!id)
			continue;
		if (back_ == 0)
			end_.message = message_hash(id->format());
		if (header_of(*reply, "Siphon-Kind") == "fence" && id->position > 0)
		{
			std::optional<ApiReply> first = message_at(place - id->position);

			if (!first || (!first->ok() && first->error_code != kErrorNoMessage))
				return not_yet(first, "give its last message", why);
			if (header_of(*first, "Nats-Msg-Id") != MessageId{id->epoch, 0, 1}.format())
			{
				lowest = std::max(end_.first, std::min(lowest, place - id->position));
				continue;
			}
		}
		end_.cursors = header_of(*reply, kCursorsHeader);
		break;
	}
	return true;
}

std::optional<LogEnd>
JetStreamLog::look_on(std::string *why)
{
	why->clear();
	if (stage_ == Stage::Info)
	{
		std::optional<nlohmann::json> known = info(why);

		if (!known)
			return std::nullopt;

		end_ = LogEnd();
		missing_ = known->empty();
		if (missing_)
		{
			if (beside_ == nullptr)
				config_ = new_stream_config(plan_, nlohmann::json::object());
			return end_;
		}

		const nlohmann::json &state = (*known)["state"];
		std::string created = member(*known, "created", std::string());

		config_ = (*known)["config"];
		end_.identity = created.empty() ? 0 : message_hash(created);
		end_.place = member(state, "last_seq", uint64_t{0});
		if (member(state, "messages", uint64_t{0}) > 0)
			end_.first = member(state, "first_seq", uint64_t{0});
		end_.lossy = is_lossy(config_);
		back_ = 0;
		reader_.reset();
		behind_.clear();
		stage_ = Stage::Change;
	}
	if (stage_ == Stage::Change)
	{
		/* The first time, what a publisher of another release, or the user's wishes, want changed; but not now. */
		if (checked_ && !change_)
			check_usable(plan_, config_);
		else
			change_ = plan_change(plan_, config_, !checked_);
		checked_ = true;
		learn_limits();
		if (end_.place < known_)
		{
			Clock::time_point now = Clock::now();

			if (short_since_ == Clock::time_point())
				short_since_ = now;
			if (now - short_since_ >= kShortPatience)
				throw Fatal(ExitCode::StreamRefused,
							describe() + " has lost messages that it had acknowledged: it ends at sequence " +
								std::to_string(end_.place) + " and had reached " + std::to_string(known_) + "; " +
								resync_advice(plan_.application));
			*why = describe() + ", which ends at sequence " + std::to_string(end_.place) + ", to come to " +
				   std::to_string(known_);
			return std::nullopt;
		}
		short_since_ = {};
		stage_ = !sent_.empty() && end_.place > known_ ? Stage::Behind : Stage::Last;
	}
	if (stage_ == Stage::Behind)
	{
		if (!check_behind(why))
			return std::nullopt;
		stage_ = Stage::Last;
	}
	if (!find_last(why))
		return std::nullopt;
	known_ = end_.place;
	written_ = false;
	sent_.clear();
	take_acks();
	fencing_ = false;
	return end_;
}

std::optional<LogEnd>
JetStreamLog::look(std::string *why)
{
	/* Of another connection nothing more comes. */
	if (looking_interruptions_ != connection_.interruptions())
		stage_ = Stage::Info;
	looking_interruptions_ = connection_.interruptions();

	std::optional<LogEnd> end = look_on(why);

	/* What failed begins again; what is under way goes on. */
	if (end || !why->empty())
		stage_ = Stage::Info;
	return end;
}

std::optional<bool>
JetStreamLog::holds(Place place, uint64_t message, bool *gone, std::string *why)
{
	std::optional<ApiReply> reply = message_at(place);

	*gone = reply && reply->error_code == kErrorNoMessage;
	if (*gone)
		return true;
	if (!reply || !reply->ok())
	{
		not_yet(reply, "give message " + std::to_string(place), why);
		return std::nullopt;
	}

	return message_hash(header_of(*reply, "Nats-Msg-Id")) == message;
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
		std::optional<Answer> answer = judge(ack);

		if (!answer || answer->token < kFenceToken)
			continue;
		if (answer->verdict != Verdict::Stored)
		{
			*why = describe() + " to take messages (" + answer->text + ")";
			end->refused = answer->verdict == Verdict::Refused ? answer->text : "";
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
std::optional<Answer>
JetStreamLog::judge(const Ack &ack)
{
	const ApiReply &reply = ack.reply;
	auto sent = std::lower_bound(sent_.begin(), sent_.end(), ack.token,
								 [](const Sent &message, uint64_t token) { return message.token < token; });

	if (sent == sent_.end() || sent->token != ack.token)
		return std::nullopt;

	Answer answer{ack.token, Verdict::Refused, kNoPlace, reply.error};

	if (!reply.answered)
		return answer;
	if (reply.error_code != 0)
	{
		bool order = reply.error_code == kErrorWrongLastSequence || reply.error_code == kErrorWrongLastId ||
					 reply.error_code == kErrorDuplicateInProgress;

		answer.verdict = order ? Verdict::OutOfOrder : Verdict::Refused;
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
		answer.verdict = Verdict::Duplicate;
		return answer;
	}
	/* That a message of this id was proposed once, or stored, is no ack: what the stream has must be looked at. */
	if (member(reply.content, "duplicate", false) || sequence != sent->sequence)
	{
		answer.verdict = Verdict::OutOfOrder;
		answer.text = "the message is at another place";
		return answer;
	}
	answer.verdict = Verdict::Stored;
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
JetStreamLog::collect(std::vector<Answer> *answers)
{
	for (Answer &answer : found_)
	{
		if (answer.token < kFenceToken)
			answers->push_back(std::move(answer));
	}
	found_.clear();
	for (const Ack &ack : take_acks())
	{
		std::optional<Answer> answer = judge(ack);

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

bool
JetStreamLog::purge(const std::string &subjects, Place in_front_of, std::string *why)
{
	/* Nothing is below the first; JetStream takes that, as 0, for "all". */
	if (in_front_of <= 1)
		return true;

	/* A purge by subject reads the whole stream under the store's lock, also where it finds nothing. */
	std::optional<Place> last_there = last(subjects, why);

	if (!last_there)
		return false;
	if (*last_there == kNoPlace)
		return true;
	/* All of it may stand behind the place. The first is asked for last, as servers before 2.10 read everything for it. */
	if (*last_there >= in_front_of)
	{
		std::optional<ApiReply> first =
			requests_.ask("STREAM.MSG.GET." + plan_.name, {{"seq", 1}, {"next_by_subj", subjects}});

		if (!first || (!first->ok() && first->error_code != kErrorNoMessage))
			return not_yet(first, "give the first message of " + subjects, why);
		if (!first->ok() || member(object_member(first->content, "message"), "seq", uint64_t{0}) >= in_front_of)
			return true;
	}

	std::optional<ApiReply> reply =
		requests_.ask("STREAM.PURGE." + plan_.name, {{"filter", subjects}, {"seq", in_front_of}});

	if (reply && reply->answered && !reply->ok() && member(config_, "deny_purge", false))
	{
		/* Consumers ignore them, by their generation. */
		spdlog::warn("{} keeps messages of a snapshot that is over, as its setting deny_purge wants it", describe());
		return true;
	}
	if (!reply || !reply->ok())
		return not_yet(reply, "purge " + subjects, why);
	return true;
}

bool
JetStreamLog::drop(Place in_front_of, std::string *why)
{
	uint64_t below = std::min(in_front_of, known_);

	if (below <= 1)
		return true;

	std::optional<ApiReply> reply = requests_.ask("STREAM.PURGE." + plan_.name, {{"seq", below}});

	if (!reply || !reply->ok())
		return not_yet(reply, "drop what was moved", why);
	return true;
}

/* Seconds since a time as JetStream writes it; negative: not known. */
static double
age_of(const std::string &time, const std::string &now)
{
	auto parse = [](const std::string &text, double *seconds) {
		std::tm utc = {};
		const char *rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &utc);

		if (rest == nullptr)
			return false;
		*seconds = static_cast<double>(timegm(&utc)) + (*rest == '.' ? strtod(rest, nullptr) : 0);
		return true;
	};
	double then = 0;
	double at = 0;

	if (!parse(time, &then) || then <= 0)
		return -1;
	/* Servers before 2.10 do not say what time it is there. */
	if (!parse(now, &at))
		at = static_cast<double>(std::time(nullptr));
	return std::max(at - then, 0.0);
}

std::optional<LogHealth>
JetStreamLog::health(std::string *why)
{
	std::optional<nlohmann::json> known = info(why);

	if (!known || known->empty())
		return std::nullopt;

	const nlohmann::json &config = (*known)["config"];
	const nlohmann::json &state = (*known)["state"];
	const nlohmann::json &cluster = object_member(*known, "cluster");
	LogHealth health;

	check_usable(plan_, config);
	config_ = config;
	if (replicas_ == 1 && member(config, "num_replicas", 1) > 1)
		spdlog::warn("{} has been given replicas while it is published to: compare them with siphon-publisher check "
					 "--nats-monitor-url, as those that were behind may have refused messages",
					 describe());
	learn_limits();
	health.last = member(state, "last_seq", uint64_t{0});
	health.messages = member(state, "messages", uint64_t{0});
	health.first = health.messages > 0 ? member(state, "first_seq", uint64_t{0}) : kNoPlace;
	health.bytes = member(state, "bytes", uint64_t{0});
	health.bytes_limit = static_cast<uint64_t>(std::max(member(config, "max_bytes", int64_t{-1}), int64_t{0}));
	health.messages_limit = static_cast<uint64_t>(std::max(member(config, "max_msgs", int64_t{-1}), int64_t{0}));
	health.subject_limit =
		static_cast<uint64_t>(std::max(member(config, "max_msgs_per_subject", int64_t{-1}), int64_t{0}));
	health.consumed = member(config, "retention", std::string("limits")) != "limits";
	health.age_limit = static_cast<double>(member(config, "max_age", int64_t{0})) / 1e9;

	std::string there_now = member(*known, "ts", std::string());

	if (health.messages > 0)
		health.first_age = age_of(member(state, "first_ts", std::string()), there_now);
	health.last_age = age_of(member(state, "last_ts", std::string()), there_now);
	health.lossy = is_lossy(config);
	health.removed = member(state, "num_deleted", uint64_t{0});
	health.discards_new = member(config, "discard", std::string("old")) == "new";
	health.replicas = member(config, "num_replicas", uint64_t{1});
	health.leader = member(cluster, "leader", std::string());
	if (cluster.contains("replicas") && cluster["replicas"].is_array())
	{
		for (const nlohmann::json &replica : cluster["replicas"])
		{
			if (replica.is_object())
				health.followers.push_back({member(replica, "name", std::string()), member(replica, "current", false),
											member(replica, "offline", false), member(replica, "lag", uint64_t{0})});
		}
	}
	return health;
}

} // namespace siphon
