/* See memory_stream.h. */
#include "publisher/stream/memory/memory_stream.h"

#include <algorithm>

#include "program/exit_codes.h"
#include "publisher/stream/state_keys.h"
#include "reader/cursor.h"
#include "reader/subject.h"

namespace siphon {

static constexpr uint64_t kFenceToken = uint64_t{1} << 63;

/* ---- messages ------------------------------------------------------------------------------------------------------ */

std::string
Logged::header(const std::string &name) const
{
	auto value = headers.find(name);

	return value == headers.end() ? std::string() : value->second;
}

StoredMessage
Logged::stored() const
{
	StoredMessage message = from_headers([this](const char *name) { return header(name); });

	message.place = place;
	message.subject = subject;
	message.id = id;
	message.body = body;
	return message;
}

/* ---- the log ------------------------------------------------------------------------------------------------------- */

/* True once the answer to this question has come: sometimes at once, sometimes later. */
bool
MemoryLog::asked()
{
	if (stream_.dice.percent(stream_.delay_percent))
	{
		stream_.notify();
		return false;
	}
	stream_.trouble();
	return true;
}

uint32_t
MemoryLog::body_limit() const
{
	return stream_.limit;
}

std::optional<LogEnd>
MemoryLog::look(std::string *why)
{
	LogEnd found;

	why->clear();
	if (!asked())
		return std::nullopt;
	found.identity = identity;
	found.place = end;
	found.lossy = max_messages > 0;
	if (!messages.empty())
		found.first = messages.begin()->first;
	if (!messages.empty() && messages.rbegin()->first == end && MessageId::parse(messages.rbegin()->second.id))
		found.message = message_hash(messages.rbegin()->second.id);
	found.cursors = last_cursors();
	known_ = end;
	fencing_ = false;
	answers_.clear();
	/* What this connection has under way may still come. */
	for (auto &[token, message] : under_way_)
		strays_.push_back(std::move(message));
	under_way_.clear();
	return found;
}

/* Those of the last message of a publisher. A fence has those of the message before the first fence that came with it. */
std::string
MemoryLog::last_cursors() const
{
	for (auto message = messages.rbegin(); message != messages.rend(); ++message)
	{
		std::optional<MessageId> id = MessageId::parse(message->second.id);

		if (!id)
			continue;
		if (message->second.header("Siphon-Kind") == "fence")
		{
			auto first = messages.find(message->first - id->position);

			/* Something came between that message and the fences. */
			if (first == messages.end() || first->second.id != MessageId{id->epoch, 0, 1}.format())
				continue;
		}
		return message->second.header(kCursorsHeader);
	}
	return "";
}

std::optional<bool>
MemoryLog::holds(Place place, uint64_t message, bool *gone, std::string *why)
{
	auto found = messages.find(place);

	why->clear();
	if (!asked())
		return std::nullopt;
	*gone = found == messages.end();
	return *gone || message_hash(found->second.id) == message;
}

bool
MemoryLog::fence(size_t in_flight, const std::string &cursors, LogEnd *at, std::string *why)
{
	why->clear();
	if (!fencing_)
	{
		stream_.trouble();

		size_t count = replicated_ ? in_flight + 1 : 1;
		uint64_t run = stream_.dice.random();

		next_ = known_ + 1;
		previous_id_.clear();
		fences_ = count;
		fencing_ = true;
		for (size_t i = 0; i < count; i++)
		{
			Message message;

			message.subject = fence_subject_;
			message.id = MessageId{run, i, 1}.format();
			message.headers = {{"Siphon-Kind", "fence"}, {kCursorsHeader, cursors}};
			append(message, kFenceToken + i);
		}
	}
	stray();
	/* Of several servers, they come at once: what arrives between them is refused for good, see JetStreamLog. */
	arrive(replicated_ ? under_way_.size() : stream_.dice.below(static_cast<uint32_t>(under_way_.size()) + 1));
	for (; !answers_.empty(); answers_.pop_front())
	{
		if (answers_.front().verdict != PublishResult::Stored)
		{
			*why = name_ + " to take messages (" + answers_.front().text + ")";
			at->refused = answers_.front().verdict == PublishResult::Refused ? answers_.front().text : "";
			return false;
		}
		fences_--;
	}
	if (fences_ > 0)
	{
		/* Others die meanwhile, or none of it comes. */
		if (under_way_.empty())
			*why = name_ + " to take a fence (no answer)";
		stream_.notify();
		return false;
	}
	fencing_ = false;
	at->identity = identity;
	at->place = known_ = next_ - 1;
	at->message = message_hash(previous_id_);
	at->cursors = cursors;
	return true;
}

bool
MemoryLog::append(const Message &message, uint64_t token)
{
	Logged logged;

	if (stream_.dice.percent(stream_.crash_percent / 5))
		throw Crash();
	logged.place = next_++;
	logged.subject = message.subject;
	logged.id = message.id;
	logged.previous_id = replicated_ ? "" : previous_id_;
	for (const Header &header : message.headers)
		logged.headers[header.name] = header.value;
	logged.body = std::string(message.body);
	previous_id_ = message.id;
	under_way_.push_back({token, std::move(logged)});
	return true;
}

bool
MemoryLog::fits(const Logged &message) const
{
	return message.place == end + 1 &&
		   (message.previous_id.empty() || (!messages.empty() && messages.rbegin()->second.id == message.previous_id));
}

void
MemoryLog::take(Logged message)
{
	end = message.place;
	messages[end] = std::move(message);
	while (max_messages > 0 && messages.size() > max_messages)
		messages.erase(messages.begin());
}

void
MemoryLog::put(Logged message)
{
	message.place = end + 1;
	take(std::move(message));
}

/* A message that was under way when its publisher, or the connection, was lost. */
void
MemoryLog::stray()
{
	if (strays_.empty() || !stream_.dice.percent(20))
		return;
	if (fits(strays_.front()) && !full)
		take(std::move(strays_.front()));
	strays_.pop_front();
}

/* The first messages that are under way arrive, and are answered. */
void
MemoryLog::arrive(size_t count)
{
	for (; count > 0; count--)
	{
		auto &[token, message] = under_way_.front();
		PublishAck answer{token, PublishResult::Stored, message.place, ""};

		if (full)
		{
			answer.verdict = PublishResult::Refused;
			answer.text = "maximum messages exceeded";
		}
		else if (!fits(message))
		{
			answer.verdict = PublishResult::OutOfOrder;
			answer.text = "wrong last sequence";
		}
		else
			take(std::move(message));
		answers_.push_back(answer);
		under_way_.pop_front();
	}
}

void
MemoryLog::collect(std::vector<PublishAck> *answers)
{
	/* Once for both logs. */
	if (this == &stream_.log_)
	{
		stream_.live();
		if (stream_.breaks_left > 0 && stream_.dice.percent(1))
			stream_.break_connection();
	}
	stray();
	if (stream_.dice.percent(50))
		arrive(stream_.dice.below(static_cast<uint32_t>(under_way_.size()) + 1));
	answers->insert(answers->end(), answers_.begin(), answers_.end());
	answers_.clear();
}

void
MemoryLog::lose_answers()
{
	arrive(stream_.dice.below(static_cast<uint32_t>(under_way_.size()) + 1));
	answers_.clear();
	strays_.clear();
	if (stream_.dice.percent(50))
	{
		for (auto &[token, message] : under_way_)
			strays_.push_back(std::move(message));
	}
	under_way_.clear();
	fencing_ = false;
}

void
MemoryLog::lose_end(size_t count)
{
	for (; count > 0 && !messages.empty(); count--)
	{
		end = messages.rbegin()->first - 1;
		messages.erase(std::prev(messages.end()));
	}
	forget_under_way();
}

void
MemoryLog::forget_under_way()
{
	under_way_.clear();
	strays_.clear();
	answers_.clear();
	fencing_ = false;
}

namespace {

class MemoryReader : public LogReader
{
public:
	MemoryReader(MemoryLog *log, MemoryStream *stream, const std::string &subjects, Place behind, bool headers)
		: log_(*log), stream_(*stream), subjects_(subjects), behind_(behind), headers_(headers)
	{
	}

	void pull() override { pulling_ = true; }
	bool pulling() const override { return pulling_; }
	uint64_t pending() const override { return pending_; }

	bool take(std::vector<StoredMessage> *messages) override
	{
		size_t taken = 0;

		stream_.notify();
		/* Sometimes later, sometimes never. */
		if (!pulling_ || stream_.dice.percent(stream_.delay_percent))
			return true;
		if (stream_.dice.below(500) == 0)
			return false;
		pulling_ = false;
		pending_ = 0;
		for (auto entry = log_.messages.upper_bound(behind_); entry != log_.messages.end(); ++entry)
		{
			if (!subject_covers(subjects_, entry->second.subject))
				continue;
			if (taken >= 20)
			{
				pending_++;
				continue;
			}
			taken++;
			messages->push_back(entry->second.stored());
			if (headers_)
				messages->back().body.clear();
			behind_ = entry->first;
		}
		return true;
	}

private:
	MemoryLog &log_;
	MemoryStream &stream_;
	std::string subjects_;
	Place behind_;
	bool headers_;
	bool pulling_ = false;
	uint64_t pending_ = UINT64_MAX;
};

} // namespace

std::unique_ptr<LogReader>
MemoryLog::read(const std::string &subjects, Place behind, bool headers, std::string *why)
{
	why->clear();
	if (!asked())
		return nullptr;
	return std::make_unique<MemoryReader>(this, &stream_, subjects, behind, headers);
}

std::optional<Place>
MemoryLog::last(const std::string &subjects, std::string *why)
{
	Place found = kNoPlace;

	why->clear();
	if (!asked())
		return std::nullopt;
	for (const auto &[place, message] : messages)
		found = subject_covers(subjects, message.subject) ? place : found;
	return found;
}

bool
MemoryLog::find_up_to(const std::string &subject, const Position &position, Place behind,
					  std::optional<StoredMessage> *found, std::string *why)
{
	why->clear();
	found->reset();
	if (!asked())
		return false;
	for (auto entry = messages.upper_bound(behind); entry != messages.end(); ++entry)
	{
		std::optional<Position> last = parse_position(entry->second.header("Siphon-Last"));

		if (entry->second.subject == subject && last &&
			(last->lsn < position.lsn || (last->lsn == position.lsn && last->ordinal <= position.ordinal)))
			*found = entry->second.stored();
	}
	return true;
}

bool
MemoryLog::purge(const std::string &subjects, Place in_front_of, std::string *why)
{
	why->clear();
	if (!asked())
		return false;
	std::erase_if(messages, [&](const auto &entry) {
		return entry.first < in_front_of && subject_covers(subjects, entry.second.subject);
	});
	stream_.trouble();
	return true;
}

bool
MemoryLog::drop(Place in_front_of, std::string *why)
{
	why->clear();
	if (!asked())
		return false;
	std::erase_if(messages, [&](const auto &entry) { return entry.first < std::min(in_front_of, end); });
	stream_.trouble();
	return true;
}

std::optional<LogHealth>
MemoryLog::health(std::string *why)
{
	LogHealth health;

	why->clear();
	health.first = messages.empty() ? kNoPlace : messages.begin()->first;
	health.last = end;
	health.messages = messages.size();
	health.messages_limit = max_messages;
	health.lossy = max_messages > 0;
	return health;
}

/* ---- the states ---------------------------------------------------------------------------------------------------- */

bool
MemoryStates::asked(const std::string &key)
{
	if (!late_.empty() && stream_.dice.percent(30))
	{
		const Late &write = late_.front();

		/* A write of a publisher that is gone: it is against what that one had seen. */
		if (entries[write.key].revision == write.expected)
			entries[write.key] = {++revision, write.value};
		late_.pop_front();
	}
	bool slow = !stream_.slow_keys.empty() && key.starts_with(stream_.slow_keys);

	if (stream_.dice.percent(slow ? 92 : stream_.delay_percent))
	{
		stream_.notify();
		return false;
	}
	stream_.trouble();
	return true;
}

std::map<std::string, std::string>
MemoryStates::values() const
{
	std::map<std::string, std::string> found;

	for (const auto &[key, entry] : entries)
	{
		if (entry.value)
			found[key] = *entry.value;
	}
	return found;
}

std::optional<std::map<std::string, std::string>>
MemoryStates::load(std::string *why)
{
	why->clear();
	if (!asked(""))
		return std::nullopt;
	seen_.clear();
	for (const auto &[key, entry] : entries)
		seen_[key] = entry.revision;
	return values();
}

bool
MemoryStates::get(const std::string &key, bool adopt, std::optional<std::string> *value, std::string *why)
{
	auto entry = entries.find(key);

	why->clear();
	if (!asked(key))
		return false;
	*value = entry == entries.end() ? std::nullopt : entry->second.value;
	if (adopt)
		seen_[key] = entry == entries.end() ? 0 : entry->second.revision;
	return true;
}

bool
MemoryStates::write_seen(const std::string &key, const std::optional<std::string> &value, bool again, std::string *why)
{
	why->clear();
	last_writes_[key] = {key, seen_[key], value};
	if (!asked(key))
		return false;

	Entry &entry = entries[key];

	if (entry.revision != seen_[key] && entry.value != value)
		throw Fatal(ExitCode::Replaced, "another publisher has written key " + key);
	if (entry.value != value || entry.revision == 0 || again)
		entry = {++revision, value};
	seen_[key] = entry.revision;
	last_writes_.erase(key);
	stream_.trouble();
	return true;
}

bool
MemoryStates::put(const std::string &key, const std::string &value, std::string *why)
{
	return write_seen(key, value, false, why);
}

bool
MemoryStates::renew(const std::string &key, const std::string &value, std::string *why)
{
	return write_seen(key, value, true, why);
}

bool
MemoryStates::erase(const std::string &key, std::string *why)
{
	return write_seen(key, std::nullopt, false, why);
}

bool
MemoryStates::erase_tables(std::string *why)
{
	why->clear();
	for (const auto &[key, value] : values())
	{
		if (is_table_key(key) && !erase(key, why))
			return false;
	}
	return true;
}

void
MemoryStates::begin_anew()
{
	for (const auto &[key, write] : last_writes_)
	{
		if (stream_.dice.percent(50))
			late_.push_back(write);
	}
	last_writes_.clear();
	seen_.clear();
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

MemoryStream::MemoryStream(Dice *for_dice, std::function<void()> for_notify, bool replicated)
	: dice(*for_dice), notify(std::move(for_notify)), log_("the log", "siphon.main.fence", this),
	  spill_("the spill", "siphon.main.held.fence", this), states_(this)
{
	log_.replicated_ = spill_.replicated_ = replicated;
}

void
MemoryStream::trouble()
{
	log_.stray();
	spill_.stray();
	if (dice.percent(crash_percent))
		throw Crash();
}

void
MemoryStream::break_connection()
{
	breaks_left--;
	interruptions_++;
	log_.lose_answers();
	spill_.lose_answers();
}

void
MemoryStream::begin_anew()
{
	log_.lose_answers();
	spill_.lose_answers();
	states_.begin_anew();
}

} // namespace siphon
