/* See states.h. */
#include "publisher/stream/jetstream/states.h"

#include "program/exit_codes.h"
#include "program/log.h"
#include "publisher/stream/state_keys.h"

namespace siphon {

JetStreamStates::JetStreamStates(const std::string &bucket, NatsConnection *connection, Requests *requests,
								 Wakeup *wakeup, const JetStreamLog *log)
	: bucket_(bucket), stream_("KV_" + bucket), connection_(*connection), requests_(*requests), wakeup_(wakeup),
	  log_(*log)
{
}

/* Puts into *why what a request waits for: nothing if it is under way. Always false. */
bool
JetStreamStates::not_yet(const std::optional<ApiReply> &reply, const std::string &what, std::string *why) const
{
	*why = reply ? "key-value bucket " + bucket_ + " to " + what + " (" + reply->error + ")" : "";
	return false;
}

/* Makes the bucket like the stream. False: not yet. */
bool
JetStreamStates::make(std::string *why)
{
	const nlohmann::json &like = log_.config();
	nlohmann::json config = {{"name", stream_},
							 {"description", "States of the tables of a Siphon application"},
							 {"subjects", {subject(">")}},
							 {"max_msgs_per_subject", 1},
							 {"discard", "new"},
							 {"allow_rollup_hdrs", true},
							 {"deny_delete", true},
							 {"allow_direct", true},
							 {"num_replicas", member(like, "num_replicas", 1)},
							 {"storage", member(like, "storage", std::string("file"))}};
	std::optional<ApiReply> reply = requests_.ask("STREAM.CREATE." + stream_, config);

	if (reply && reply->final_error())
		throw Fatal(ExitCode::StreamRefused,
					"JetStream refused access to key-value bucket " + bucket_ + ": " + reply->error);
	if (!reply || !reply->ok())
		return not_yet(reply, "be made", why);
	spdlog::info("created key-value bucket {}", bucket_);
	open_ = true;
	return true;
}

std::optional<std::map<std::string, std::string>>
JetStreamStates::load(std::string *why)
{
	why->clear();
	if (!reader_)
	{
		std::optional<ApiReply> reply = requests_.ask("STREAM.INFO." + stream_);
		bool missing = reply && reply->error_code == kErrorStreamNotFound;

		if (!reply || (!reply->ok() && !missing))
		{
			not_yet(reply, "be read", why);
			return std::nullopt;
		}
		open_ = !missing;

		const nlohmann::json &state = object_member(reply->content, "state");

		loading_ = member(state, "messages", uint64_t{0}) > 0 ? member(state, "last_seq", uint64_t{0}) : kNoPlace;
		read_.clear();
	}

	std::map<std::string, std::string> entries;
	bool complete = loading_ == kNoPlace;

	/* The consumer may look at a replica that lags behind; the bucket's last message is the last of its key. */
	if (!complete)
	{
		if (!reader_)
			reader_ = JetStreamReader::begin(&connection_, &requests_, wakeup_, stream_, subject(">"), kNoPlace,
											 JetStreamReader::What::LastOfEach, why);
		if (!reader_)
			return std::nullopt;

		bool sound = reader_->take(&read_);

		if (sound && !reader_->pulling())
		{
			complete = reader_->pending() == 0;
			if (!complete)
				reader_->pull();
		}
		if (!sound || (complete && (read_.empty() || read_.back().place < loading_)))
		{
			*why = "key-value bucket " + bucket_ + " to be read to its end";
			reader_.reset();
			return std::nullopt;
		}
	}
	if (!complete)
		return std::nullopt;

	reader_.reset();
	seen_.clear();
	tried_.clear();
	conflicts_.clear();
	for (StoredMessage &message : read_)
	{
		std::string key = message.subject.substr(subject("").size());
		bool erased = !message.kind.empty();

		seen_[key] = {message.place, erased ? 0 : message_hash(message.body)};
		if (!erased)
			entries[key] = std::move(message.body);
	}
	read_.clear();
	return entries;
}

/* Asks the leader, who knows what was written last. */
std::optional<ApiReply>
JetStreamStates::last(const std::string &key)
{
	return requests_.ask("STREAM.MSG.GET." + stream_, {{"last_by_subj", subject(key)}});
}

/* The value in a message as STREAM.MSG.GET gives it; nullopt: the key was deleted. */
static std::optional<std::string>
value_of(const nlohmann::json &message)
{
	if (decode_base64(member(message, "hdrs", std::string())).find("KV-Operation:") != std::string::npos)
		return std::nullopt;
	return decode_base64(member(message, "data", std::string()));
}

bool
JetStreamStates::get(const std::string &key, bool adopt, std::optional<std::string> *value, std::string *why)
{
	std::optional<ApiReply> reply = last(key);
	bool none = reply && (reply->error_code == kErrorNoMessage || reply->error_code == kErrorStreamNotFound);

	value->reset();
	if (!reply || (!reply->ok() && !none))
		return not_yet(reply, "give key " + key, why);

	const nlohmann::json &message = object_member(reply->content, "message");

	if (!none)
		*value = value_of(message);
	if (adopt)
	{
		seen_[key] = {none ? 0 : member(message, "seq", uint64_t{0}), *value ? message_hash(**value) : 0};
		tried_.erase(key);
		conflicts_.erase(key);
	}
	if (reply->ok() || reply->error_code == kErrorNoMessage)
		open_ = true;
	return true;
}

/*
 * A write was refused because the key has another revision than we know. Its own write, of which no answer came, may have
 * made it; then that is known now. Fatal if somebody else did. False: not yet.
 */
bool
JetStreamStates::settle_conflict(const std::string &key, uint64_t wanted, std::string *why)
{
	std::optional<ApiReply> reply = last(key);
	bool none = reply && reply->error_code == kErrorNoMessage;

	if (!reply || (!reply->ok() && !none))
		return not_yet(reply, "give key " + key, why);

	const nlohmann::json &message = object_member(reply->content, "message");
	std::optional<std::string> value = none ? std::nullopt : value_of(message);
	Seen now{none ? 0 : member(message, "seq", uint64_t{0}), value ? message_hash(*value) : 0};

	if (now.value != wanted && !tried_[key].contains(now.value))
		throw Fatal(ExitCode::Replaced, "another publisher has written key " + key + " of key-value bucket " + bucket_ +
											", and so has taken over; this one exits");
	seen_[key] = now;
	conflicts_.erase(key);
	return true;
}

bool
JetStreamStates::write(const std::string &key, const std::string &value, const char *operation, bool again,
					   std::string *why)
{
	uint64_t wanted = operation != nullptr ? 0 : message_hash(value);

	if (!open_ && !make(why))
		return false;
	if (conflicts_.contains(key) && !settle_conflict(key, wanted, why))
		return false;

	Seen &seen = seen_[key];

	/* Another value may be on its way, of a caller who has thought better of it, and would be there next. */
	if (seen.value == wanted && !again && !tried_.contains(key))
		return true;
	tried_[key].insert(wanted);

	std::optional<ApiReply> reply = requests_.put(write_subject(key), value, seen.revision, operation);

	if (reply && reply->error_code == kErrorWrongLastSequence)
	{
		conflicts_.insert(key);
		why->clear();
		return write(key, value, operation, again, why);
	}
	if (!reply || !reply->ok())
		return not_yet(reply, "take key " + key, why);

	uint64_t revision = member(reply->content, "seq", uint64_t{0});

	if (revision == 0 || member(reply->content, "stream", std::string()) != stream_)
	{
		*why = "key-value bucket " + bucket_ + " to take key " + key + " (an answer that is not its own)";
		return false;
	}
	seen = {revision, wanted};
	tried_.erase(key);
	return true;
}

bool
JetStreamStates::put(const std::string &key, const std::string &value, std::string *why)
{
	return write(key, value, nullptr, false, why);
}

bool
JetStreamStates::renew(const std::string &key, const std::string &value, std::string *why)
{
	return write(key, value, nullptr, true, why);
}

bool
JetStreamStates::erase(const std::string &key, std::string *why)
{
	auto seen = seen_.find(key);

	if ((seen == seen_.end() || seen->second.revision == 0) && !tried_.contains(key))
		return true;
	return write(key, "", "DEL", false, why);
}

bool
JetStreamStates::erase_tables(std::string *why)
{
	bool erased = true;
	std::string reason;

	why->clear();

	/* A few hundred at a time, so that the server's queue for us has room. */
	int under_way = 0;

	for (const auto &[key, seen] : seen_)
	{
		if (!is_table_key(key) || seen.value == 0)
			continue;
		if (++under_way > 200)
			return false;
		if (erase(key, &reason))
			continue;
		erased = false;
		if (!reason.empty())
			*why = reason;
	}
	return erased;
}

} // namespace siphon
