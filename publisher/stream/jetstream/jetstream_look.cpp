/* How a JetStreamLog finds out where its stream ends, makes it, or gives it what it lacks; see jetstream_log.h. */
#include "publisher/stream/jetstream/jetstream_log.h"

#include <algorithm>

#include "program/exit_codes.h"
#include "program/log.h"
#include "publisher/stream/resync_advice.h"
#include "reader/cursor.h"
#include "reader/subject.h"

namespace siphon {

/* How far to look back for a message of ours behind what others wrote. */
static constexpr uint64_t kLookBack = 1000;
/* A stream may seem to end too early for a moment: a server that has just come to lead answers before it has read its log. */
static constexpr std::chrono::seconds kShortPatience{10};

/* The stream's configuration and state, as JetStream has them; an empty object if there is no such stream. */
std::optional<nlohmann::json>
JetStreamLog::info(std::string *why)
{
	std::optional<ApiReply> reply = requests_.ask("STREAM.INFO." + plan_.name);

	if (reply && reply->error_code == kErrorStreamNotFound)
	{
		if (existed_)
			throw Fatal(ExitCode::StreamRefused, describe() + " has been deleted while it was published to; " +
													 resync_advice(plan_.application));
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

			spdlog::info("created stream {} for {}", plan_.name, config["subjects"].dump());
			config_ = object_member(reply->content, "config");
			end_.identity = created.empty() ? 0 : message_hash(created);
			missing_ = false;
			existed_ = true;
			learn_limits();
			return true;
		}
		if (reply && reply->final_error())
			throw Fatal(ExitCode::StreamRefused,
						"JetStream refused to create stream " + plan_.name + ": " + reply->error);
		return not_yet(reply, "be made", why);
	}
	if (change_)
	{
		reply = requests_.ask("STREAM.UPDATE." + plan_.name, change_->config);
		if (reply && reply->final_error())
			throw Fatal(ExitCode::StreamRefused, "JetStream refused to change stream " + plan_.name + " (" +
													 change_->what + "): " + reply->error);
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
				found_.push_back({ours->token, PublishResult::Stored, message.place, ""});
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

/*
 * Looks for the last message that bears a publisher's id; its hash counts if it is the very last. Its cursors do, unless it
 * is one of several fences, the first of which was not stored because another message had its place: then that one's do.
 */
bool
JetStreamLog::find_last(std::string *why)
{
	uint64_t lowest =
		std::max(end_.first, end_.place > kLookBack + back_ ? end_.place - kLookBack - back_ : uint64_t{1});

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

} // namespace siphon
