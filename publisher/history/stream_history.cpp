/* See stream_history.h. */
#include "publisher/history/stream_history.h"

#include <algorithm>
#include <charconv>
#include <random>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "program/exit_codes.h"
#include "program/log.h"
#include "publisher/stream/resync_advice.h"
#include "reader/subject.h"

namespace siphon {

using nlohmann::json;

/* Keys of tables' states have a dot, see state_keys.h. */
static constexpr char kPublisherKey[] = "publisher";
static constexpr char kOriginKey[] = "origin";

static std::string
random_name()
{
	std::random_device random;

	return format_lsn((uint64_t{random()} << 32) | random());
}

StreamHistory::StreamHistory(const std::string &application, bool take_over, size_t in_flight, Stream *stream)
	: application_(application), take_over_(take_over), own_in_flight_(in_flight), instance_(random_name()),
	  stream_(*stream), in_flight_(in_flight)
{
}

static uint64_t
hex(const json &value)
{
	const std::string &text = value.get_ref<const std::string &>();
	uint64_t number = 0;

	if (std::from_chars(text.data(), text.data() + text.size(), number, 16).ptr != text.data() + text.size())
		throw std::invalid_argument(text);
	return number;
}

void
StreamHistory::read_record(const std::optional<std::string> &text)
{
	record_.reset();
	if (!text)
		return;
	try
	{
		json value = json::parse(*text);
		Record record{};

		if (value.contains("system_identifier"))
		{
			const std::string &identifier = value.at("system_identifier").get_ref<const std::string &>();

			record.system_identifier = std::stoull(identifier);
			record.database = value.at("database");
		}
		record.history = hex(value.at("history"));
		record.since = value.at("since");
		record.epoch = hex(value.at("epoch"));
		record.timeline = value.at("timeline");
		if (value.contains("again"))
			record.again = {value["again"].at("log"), value["again"].at("spill")};
		if (value.contains("refused"))
			record.refused = value["refused"];
		record.lossy = value.value("lossy", false);
		record.kept_from = value.value("kept_from", kNoPlace);
		record_ = record;
	}
	catch (const std::exception &error)
	{
		throw Fatal(ExitCode::StreamRefused, "entry \"" + std::string(kOriginKey) + "\" of the state store of " +
												 stream_.describe() + " cannot be read (" + error.what() +
												 "): delete it; " + resync_advice(application_));
	}
}

/* A member of the entry of a publisher; what it is not, is `otherwise`. */
static json
publisher_member(const std::optional<std::string> &entry, const char *key, const json &otherwise)
{
	json value = json::parse(entry.value_or(""), nullptr, false);

	if (!value.is_object() || !value.contains(key) || value[key].type() != otherwise.type())
		return otherwise;
	return value[key];
}

/* Once it has claimed, what others write is not this publisher's any more. */
bool
StreamHistory::read_entry(const char *key, Entry *entry, std::string *why)
{
	std::optional<std::string> value;

	if (!*entry && stream_.states().get(key, !claimed_, &value, why))
		entry->emplace(value);
	return entry->has_value();
}

void
StreamHistory::discard_partial_answers()
{
	publisher_.reset();
	origin_.reset();
}

bool
StreamHistory::refresh(std::string *why)
{
	std::string reason;
	/* Both are asked for at once, and whichever comes first is not asked for again. */
	bool origin_known = read_entry(kOriginKey, &origin_, why);
	bool publisher_known = read_entry(kPublisherKey, &publisher_, &reason);

	if (!origin_known || !publisher_known)
	{
		if (why->empty())
			*why = reason;
		return false;
	}

	std::optional<std::string> publisher = *publisher_;
	std::optional<std::string> origin = *origin_;

	discard_partial_answers();
	if (!claimed_)
	{
		uint64_t former = publisher_member(publisher, "in_flight", uint64_t{0});

		/* More would be a mistake, or somebody's joke. */
		in_flight_ = std::max<size_t>(own_in_flight_, std::min<uint64_t>(former, 65536));
		read_record(origin);
		return true;
	}

	std::string instance = publisher_member(publisher, "instance", "");

	if (!publisher)
		throw Fatal(ExitCode::StreamRefused,
					"the state store of " + stream_.describe() + " was emptied; " + resync_advice(application_));
	if (instance != instance_)
	{
		std::string host = publisher_member(publisher, "host", "?");
		uint64_t pid = publisher_member(publisher, "pid", uint64_t{0});

		throw Fatal(ExitCode::Replaced,
					"another publisher has taken over application " + application_ +
						(instance.empty() ? "" : " (process " + std::to_string(pid) + " on host " + host + ")") +
						"; this one exits");
	}
	read_record(origin);
	return true;
}

bool
StreamHistory::claim(std::string *why)
{
	char host[256] = "";

	if (claimed_)
		return true;
	gethostname(host, sizeof(host) - 1);

	json value = {{"instance", instance_},
				  {"host", host},
				  {"pid", static_cast<uint64_t>(getpid())},
				  {"in_flight", static_cast<uint64_t>(own_in_flight_)}};

	try
	{
		claimed_ = stream_.states().put(kPublisherKey, value.dump(-1, ' ', false, json::error_handler_t::replace), why);
	}
	catch (const Fatal &fatal)
	{
		if (fatal.code != ExitCode::Replaced)
			throw;
		/* Somebody was faster; that is looked at, and then who comes last has it. */
		*why = "the publisher that has just claimed application " + application_;
	}
	return claimed_;
}

/* Another database's stream is another's, until somebody says otherwise. */
void
StreamHistory::check_owner(const HistoryRecord &origin) const
{
	if (!record_ || record_->system_identifier == 0 ||
		(record_->system_identifier == origin.system_identifier && record_->database == origin.database) ||
		take_over_ || origin.take_over != 0)
		return;
	throw Fatal(
		ExitCode::StreamRefused,
		stream_.describe() + " belongs to another database: that with OID " + std::to_string(record_->database) +
			" of the PostgreSQL system " + std::to_string(record_->system_identifier) + ", and this is " +
			std::to_string(origin.database) + " of " + std::to_string(origin.system_identifier) +
			"; give this application another name, or start this publisher with another --subject-prefix; if this "
			"database is to publish there from now on: start it with --take-over, or run on the server: SELECT "
			"siphon_resync_application('" +
			application_ + "', take_over => true)");
}

void
StreamHistory::check_history(uint64_t history, Place end) const
{
	if (!record_ || (record_->history == history && end < record_->since))
		throw Fatal(ExitCode::StreamRefused, stream_.describe() +
												 " has lost what it had acknowledged: it, or its key-value bucket, was "
												 "deleted, or it is another one than before; " +
												 resync_advice(application_));
	if (record_->history == history && !record_->refused.empty())
		throw Fatal(ExitCode::StreamRefused, record_->refused);
	if (record_->history != history)
		throw Fatal(
			ExitCode::StreamRefused,
			stream_.describe() + " does not hold what this server has published as application " + application_ +
				", but what another server, or a new application of that "
				"name, does; if this one is to go on in its place: " +
				resync_advice(application_) +
				" (with take_over => true, or this started with --take-over, where the stream is another database's)");
}

void
StreamHistory::refuse_twin() const
{
	throw Fatal(ExitCode::StreamRefused,
				"another server, perhaps a copy of this one, publishes as application " + application_ + " to " +
					stream_.describe() + " (ring " + format_lsn(record_->epoch) +
					"): drop the application on one of them with SELECT siphon_drop_application('" + application_ +
					"'); if this one is to go on in its place: " + resync_advice(application_));
}

void
StreamHistory::check_continued(uint64_t history, uint64_t epoch, Place end) const
{
	check_history(history, end);
	if (record_->epoch != epoch)
		refuse_twin();
}

bool
StreamHistory::is_left_behind(const HistoryRecord &origin) const
{
	uint32_t count = std::min(origin.ring_id_count, kHistoryRings);

	return is_current(origin.history) &&
		   std::find(origin.ring_ids, origin.ring_ids + count, record_->epoch) == origin.ring_ids + count;
}

bool
StreamHistory::is_new(const HistoryRecord &origin, Place end) const
{
	if (!is_current(origin.history))
		check_owner(origin);
	if (!is_current(origin.history) && origin.acknowledged == 0)
		return true;
	check_history(origin.history, end);

	if (is_left_behind(origin))
		refuse_twin();
	return false;
}

void
StreamHistory::check_timeline(const HistoryRecord &origin, const Position &newest) const
{
	uint32_t count = std::min(origin.timeline_count, kHistoryTimelines);
	uint64_t begin = 0; /* of the timeline that followed the one that was published from */

	for (uint32_t i = 0; i < count; i++)
	{
		const HistoryRecord::Timeline &timeline = origin.timelines[i];

		if (timeline.id == record_->timeline)
		{
			if (begin == 0 || newest.lsn < begin)
				return;
			throw Fatal(ExitCode::StreamRefused, stream_.describe() + " holds changes up to " + format_lsn(newest.lsn) +
													 " that this server does not have: it left timeline " +
													 std::to_string(record_->timeline) + " at " + format_lsn(begin) +
													 ", and so has lost them in a failover; " +
													 resync_advice(application_));
		}
		begin = timeline.begin;
	}
	throw Fatal(ExitCode::StreamRefused,
				stream_.describe() + " holds changes of timeline " + std::to_string(record_->timeline) +
					", from which this server does not descend; " + resync_advice(application_));
}

/*
 * Makes the record durable, and has it. One write at a time: where two are under way, the second is refused for the first, and
 * the store, which has forgotten about one by then, takes it for another publisher's. A caller whose record is another one
 * than that under way makes it anew of what that has made of it.
 */
bool
StreamHistory::write(const Record &record, std::string *why)
{
	std::string text = text_of(record);
	bool other = under_way_ && under_way_->second != text;

	if (!other)
		under_way_ = {record, text};
	if (!stream_.states().put(kOriginKey, under_way_->second, why))
		return false;
	record_ = under_way_->first;
	under_way_.reset();
	why->clear();
	return !other;
}

std::string
StreamHistory::text_of(const Record &record)
{
	json value = {{"history", format_lsn(record.history)},
				  {"since", record.since},
				  {"epoch", format_lsn(record.epoch)},
				  {"timeline", record.timeline}};

	/* JSON's numbers are not for 64 bits everywhere. */
	if (record.system_identifier != 0)
		value.update({{"system_identifier", std::to_string(record.system_identifier)}, {"database", record.database}});
	if (record.again)
		value["again"] = {{"log", record.again->log}, {"spill", record.again->spill}};
	if (!record.refused.empty())
		value["refused"] = record.refused;
	if (record.lossy)
		value["lossy"] = true;
	if (record.kept_from != kNoPlace)
		value["kept_from"] = record.kept_from;
	return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

bool
StreamHistory::record_ring(const HistoryRecord &origin, uint64_t epoch, Place end, bool again, std::string *why)
{
	bool same = is_current(origin.history);
	Record record{origin.system_identifier,
				  origin.database,
				  origin.history,
				  same ? record_->since : end,
				  epoch,
				  origin.timelines[0].id,
				  std::nullopt,
				  "",
				  same && record_->lossy,
				  same ? record_->kept_from : kNoPlace};

	if (same && again)
		record.again = noted_;
	return write(record, why);
}

bool
StreamHistory::record_refusal(const std::string &line, std::string *why)
{
	Record record = *record_;

	record.refused = line;
	return write(record, why);
}

bool
StreamHistory::note_limits(LogHealth *health, const std::string &watermarks, std::string *why)
{
	if (!record_ || record_->lossy == health->lossy)
	{
		lifted_.reset();
		return true;
	}

	Record record = *record_;

	record.lossy = health->lossy;
	if (!health->lossy)
	{
		/* Once: behind it come others, and a write that is another one each time is never answered. */
		if (!lifted_)
			lifted_ = stream_.log().last(watermarks, why);
		if (!lifted_)
			return false;
		if (*lifted_ == kNoPlace)
		{
			lifted_.reset();
			health->lossy = true;
			return true;
		}
		record.kept_from = *lifted_;
	}
	if (!write(record, why))
		return false;
	lifted_.reset();
	return true;
}

bool
StreamHistory::record_caught_up(std::string *why)
{
	if (!record_ || !record_->again)
		return true;

	Record record = *record_;

	record.again.reset();
	return write(record, why);
}

} // namespace siphon
