/* See lineage.h. */
#include "lineage.h"

#include <algorithm>
#include <charconv>
#include <random>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "exit_codes.h"
#include "log.h"
#include "subject.h"

namespace siphon {

using nlohmann::json;

/* Keys of tables' states have a dot, see state_key(). */
static constexpr char kPublisherKey[] = "publisher";
static constexpr char kOriginKey[] = "origin";

static std::string
random_name()
{
	std::random_device random;

	return format_lsn((uint64_t{random()} << 32) | random());
}

Lineage::Lineage(const std::string &application, Queue *queue)
	: application_(application), instance_(random_name()), queue_(*queue)
{
}

std::string
resync_advice(const std::string &application)
{
	return "to publish all rows anew, run on the server: SELECT siphon_resync_application('" + application + "')";
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

bool
Lineage::read_record(std::string *why)
{
	std::optional<std::string> text;

	if (!queue_.read_state(kOriginKey, &text, why))
		return false;
	record_.reset();
	if (!text)
		return true;
	try
	{
		json value = json::parse(*text);

		record_ = {hex(value.at("history")), value.at("since"), hex(value.at("epoch")), value.at("timeline"),
				   value.at("drops")};
	}
	catch (const std::exception &error)
	{
		throw Fatal(ExitCode::StreamRefused, "entry \"" + std::string(kOriginKey) + "\" of the key-value bucket of " +
												 queue_.describe() + " can't be read (" + error.what() +
												 "): delete it; " + resync_advice(application_));
	}
	return true;
}

bool
Lineage::claim(std::string *why)
{
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);

	json value = {{"instance", instance_}, {"host", host}, {"pid", getpid()}};

	return queue_.write_state(kPublisherKey, value.dump(-1, ' ', false, json::error_handler_t::replace), why);
}

bool
Lineage::settle(std::string *why)
{
	if (!claimed_)
	{
		if (!claim(why) || !read_record(why))
			return false;
		claimed_ = true;
		return true;
	}

	std::optional<std::string> text;

	if (!queue_.read_state(kPublisherKey, &text, why))
		return false;

	json value = json::parse(text.value_or(""), nullptr, false);
	std::string instance = value.is_object() ? value.value("instance", "") : "";

	if (!text)
		throw Fatal(ExitCode::StreamRefused, "the key-value bucket of " + queue_.describe() +
												 " was emptied by somebody; " + resync_advice(application_));
	if (instance != instance_)
		throw Fatal(ExitCode::StreamRefused,
					"another publisher has taken over application " + application_ +
						(instance.empty() ? ""
										  : " (process " + std::to_string(value.value("pid", 0)) + " on host " +
												value.value("host", "?") + ")") +
						"; this one ends");
	return read_record(why);
}

void
Lineage::check_first(uint64_t first)
{
	std::string why;

	if (!record_ || record_->drops)
		return;
	if (first == 0)
	{
		Record record = *record_;

		/* If that fails, the next look does it. */
		record.drops = true;
		write(record, &why);
		return;
	}
	/* The message that begins the history is never removed by a publisher. */
	if (first > record_->since)
		throw Fatal(ExitCode::StreamRefused,
					queue_.describe() + " was emptied by somebody: what stood before sequence " +
						std::to_string(first) + " is gone, and who had not read it can't any more; " +
						resync_advice(application_));
}

void
Lineage::check_history(uint64_t history, uint64_t last_sequence) const
{
	if (!record_ || (record_->history == history && last_sequence < record_->since))
		throw Fatal(ExitCode::StreamRefused, queue_.describe() +
												 " has lost what it had acknowledged: it, or its key-value bucket, was "
												 "deleted, or it is another one than before; " +
												 resync_advice(application_));
	if (record_->history != history)
		throw Fatal(ExitCode::StreamRefused,
					queue_.describe() + " does not hold what this server has published as application " + application_ +
						", but what another server, or a new application of that "
						"name, does; if this one is to go on in its place: " +
						resync_advice(application_));
}

void
Lineage::refuse_twin() const
{
	throw Fatal(ExitCode::StreamRefused,
				"another server, perhaps a copy of this one, publishes as application " + application_ + " to " +
					queue_.describe() + " (ring " + format_lsn(record_->epoch) +
					"): drop the application on one of them with SELECT siphon_drop_application('" + application_ +
					"'); if this one is to go on in its place: " + resync_advice(application_));
}

void
Lineage::check_continued(uint64_t history, uint64_t epoch, uint64_t last_sequence) const
{
	check_history(history, last_sequence);
	if (record_->epoch != epoch)
		refuse_twin();
}

bool
Lineage::begins(const Origin &origin, uint64_t last_sequence) const
{
	if (!current(origin.history) && origin.acknowledged == 0)
		return true;
	check_history(origin.history, last_sequence);

	uint32_t count = std::min(origin.epoch_count, kOriginEpochs);

	for (uint32_t i = 0; i < count; i++)
	{
		if (origin.epochs[i] == record_->epoch)
			return false;
	}
	refuse_twin();
}

void
Lineage::check_timeline(const Origin &origin, const Position &newest) const
{
	uint32_t count = std::min(origin.timeline_count, kOriginTimelines);
	uint64_t begin = 0; /* of the timeline that followed the one that was published from */

	for (uint32_t i = 0; i < count; i++)
	{
		const Origin::Timeline &timeline = origin.timelines[i];

		if (timeline.id == record_->timeline)
		{
			if (begin == 0 || newest.lsn < begin)
				return;
			throw Fatal(ExitCode::StreamRefused, queue_.describe() + " holds changes up to " + format_lsn(newest.lsn) +
													 " that this server does not have: it left timeline " +
													 std::to_string(record_->timeline) + " at " + format_lsn(begin) +
													 ", and so has lost them in a failover; " +
													 resync_advice(application_));
		}
		begin = timeline.begin;
	}
	throw Fatal(ExitCode::StreamRefused,
				queue_.describe() + " holds changes of timeline " + std::to_string(record_->timeline) +
					", from which this server does not descend; " + resync_advice(application_));
}

bool
Lineage::write(const Record &record, std::string *why)
{
	json value = {{"history", format_lsn(record.history)},
				  {"since", record.since},
				  {"epoch", format_lsn(record.epoch)},
				  {"timeline", record.timeline},
				  {"drops", record.drops}};

	if (!queue_.write_state(kOriginKey, value.dump(), why))
		return false;
	record_ = record;
	return true;
}

bool
Lineage::enter(const Origin &origin, uint64_t epoch, uint64_t last_sequence, std::string *why)
{
	bool same = current(origin.history);

	return write(
		{origin.history, same ? record_->since : last_sequence, epoch, origin.timelines[0].id, same && record_->drops},
		why);
}

} // namespace siphon
