/* See stream_setup.h. */
#include "stream_setup.h"

#include <algorithm>
#include <vector>

#include "exit_codes.h"
#include "log.h"
#include "subject.h"

namespace siphon {

using nlohmann::json;

static std::string
held_subjects(const StreamPlan &plan)
{
	return plan.root + ".held.>";
}

static json
subjects_of(const StreamPlan &plan)
{
	return json::array(
		{plan.root + ".events.>", message_subjects(plan.root), watermark_subject(plan.root), held_subjects(plan)});
}

/* The stream is this application's, and lacks nothing but what --update-stream adds. */
static bool
update_mends(const StreamPlan &plan, const json &config)
{
	const json taken = config.value("subjects", json::array());

	return plan.update && std::find(taken.begin(), taken.end(), plan.root + ".events.>") != taken.end();
}

static bool
takes(const json &config, const std::string &subject)
{
	const json taken = config.value("subjects", json::array());

	return std::any_of(taken.begin(), taken.end(),
					   [&](const json &pattern) { return subject_covers(pattern.get<std::string>(), subject); });
}

/* A publisher before logical messages made the stream. */
static bool
lacks_messages_alone(const StreamPlan &plan, const json &config)
{
	const json wanted = subjects_of(plan);

	return !takes(config, message_subjects(plan.root)) &&
		   std::all_of(wanted.begin(), wanted.end(), [&](const json &subject) {
			   return subject == message_subjects(plan.root) || takes(config, subject.get<std::string>());
		   });
}

/* The settings that the user asked for, under JetStream's names. */
static json
settings_of(const StreamSettings &settings)
{
	json config = json::object();

	if (settings.replicas)
		config["num_replicas"] = *settings.replicas;
	if (settings.storage)
		config["storage"] = *settings.storage;
	if (settings.max_age)
		config["max_age"] = std::chrono::nanoseconds(*settings.max_age).count();
	if (settings.max_bytes)
		config["max_bytes"] = *settings.max_bytes == 0 ? int64_t{-1} : static_cast<int64_t>(*settings.max_bytes);
	if (settings.discard)
		config["discard"] = *settings.discard;
	return config;
}

ApiReply
find_or_make_stream(natsConnection *connection, const StreamPlan &plan)
{
	ApiReply reply = jetstream_request(connection, "STREAM.INFO." + plan.name);

	if (reply.error_code != kErrorStreamNotFound)
		return reply;

	json config = settings_of(plan.settings);

	config["name"] = plan.name;
	config["description"] = "Changes of Siphon application " + plan.application;
	config["subjects"] = subjects_of(plan);
	config["retention"] = "limits";
	if (!config.contains("storage"))
		config["storage"] = "file";

	reply = jetstream_request(connection, "STREAM.CREATE." + plan.name, config);
	if (reply.ok())
		spdlog::info("made stream {} for {}, {}, {} and {}", plan.name, plan.root + ".events.>",
					 message_subjects(plan.root), held_subjects(plan), watermark_subject(plan.root));
	else if (reply.error_code == kErrorStreamNameInUse)
	{
		/* Somebody was faster; the next attempt sees it. */
		reply.answered = false;
	}
	else if (reply.answered)
		throw Fatal(ExitCode::StreamRefused, "JetStream does not make stream " + plan.name + ": " + reply.error);
	return reply;
}

/* A setting as people write it. */
static std::string
show(const std::string &key, const json &value)
{
	if (key == "max_age" && value.is_number())
	{
		static const std::pair<const char *, int64_t> units[] = {
			{"d", 86400000000000}, {"h", 3600000000000}, {"min", 60000000000}, {"s", 1000000000}, {"ms", 1000000},
		};
		int64_t age = value.get<int64_t>();

		if (age == 0)
			return "0 (no limit)";
		for (const auto &[name, factor] : units)
		{
			if (age % factor == 0)
				return std::to_string(age / factor) + name;
		}
	}
	if (key == "max_bytes" && value == -1)
		return "0 (no limit)";
	return value.is_string() ? value.get<std::string>() : value.dump();
}

void
check_usable(const StreamPlan &plan, const json &config)
{
	const json taken = config.value("subjects", json::array());

	for (const json &subject : subjects_of(plan))
	{
		bool covered = takes(config, subject.get<std::string>());

		if (!covered && subject == held_subjects(plan))
			throw Fatal(ExitCode::StreamRefused,
						"stream " + plan.name + " does not take " + held_subjects(plan) +
							", which snapshots need: start the publisher once with --update-stream");
		if (!covered)
			throw Fatal(ExitCode::StreamRefused, "stream " + plan.name + " exists and does not take " +
													 subject.get<std::string>() + ", but " + taken.dump() +
													 ": it belongs to something else, or to another --subject-prefix");
	}
	if (config.value("no_ack", false))
		throw Fatal(ExitCode::StreamRefused, "stream " + plan.name + " acknowledges nothing (no_ack)");
	if (config.value("sealed", false))
		throw Fatal(ExitCode::StreamRefused, "stream " + plan.name + " is sealed");
}

bool
drops_messages(const json &config)
{
	if (config.value("retention", "limits") != "limits" || config.value("max_age", int64_t{0}) > 0)
		return true;
	/* The last message of each subject outlives a limit for each subject. */
	return config.value("discard", "old") == "old" &&
		   (config.value("max_bytes", int64_t{-1}) > 0 || config.value("max_msgs", int64_t{-1}) > 0);
}

/* After a restart of the decoder, the last message on each subject says what is published already. */
static void
say_what_is_not_exact(const StreamPlan &plan, const json &config)
{
	std::string retention = config.value("retention", "limits");

	if (retention != "limits")
		spdlog::warn("stream {} has retention {}: what consumers have acknowledged is gone, so after a restart of the "
					 "server's decoder events may come a second time, and after one of the publisher only Nats-Msg-Id "
					 "keeps them from that, within the stream's duplicate window; nor can rows of snapshots be handed "
					 "over to changes; retention "
					 "limits has none of these doubts",
					 plan.name, retention);
	else if (drops_messages(config))
		spdlog::info(
			"stream {} drops old messages; should it drop the last one on a subject before the server has heard "
			"that it was stored, its events may come a second time after a restart of the decoder",
			plan.name);
}

/* False with *why: JetStream can't answer now. */
static bool
update_stream(natsConnection *connection, const StreamPlan &plan, const json &config, const std::string &changes,
			  std::string *why)
{
	ApiReply reply = jetstream_request(connection, "STREAM.UPDATE." + plan.name, config);

	if (!reply.answered)
	{
		*why = reply.error;
		return false;
	}
	if (!reply.ok())
		throw Fatal(ExitCode::StreamRefused,
					"JetStream does not change stream " + plan.name + " (" + changes + "): " + reply.error);
	spdlog::info("changed stream {}: {}", plan.name, changes);
	return true;
}

bool
check_stream(natsConnection *connection, const StreamPlan &plan, const json &existing_config, std::string *why)
{
	json wanted = settings_of(plan.settings);
	json config = existing_config;

	if (lacks_messages_alone(plan, config))
	{
		std::string subjects = message_subjects(plan.root);

		config["subjects"].push_back(subjects);
		if (!update_stream(connection, plan, config, "takes " + subjects + " too", why))
			return false;
	}
	if (!update_mends(plan, config))
		check_usable(plan, config);
	say_what_is_not_exact(plan, config);

	json updated = config;
	std::string changes;

	wanted["subjects"] = subjects_of(plan);
	wanted["retention"] = "limits";
	for (const auto &[key, value] : wanted.items())
	{
		json existing = config.value(key, json());

		if (existing == value ||
			(key == "subjects" && std::is_permutation(existing.begin(), existing.end(), value.begin(), value.end())))
			continue;
		if (!plan.update)
			spdlog::warn("stream {} has {} {}, configured is {}; --update-stream changes it", plan.name, key,
						 show(key, existing), show(key, value));
		changes += (changes.empty() ? "" : ", ") + key + " " + show(key, existing) + " -> " + show(key, value);
		updated[key] = value;
	}
	if (!plan.update || changes.empty())
		return true;

	/* The server's default would forbid a short age. */
	int64_t max_age = updated.value("max_age", int64_t{0});

	if (max_age > 0 && updated.value("duplicate_window", int64_t{0}) > max_age)
		updated["duplicate_window"] = max_age;
	return update_stream(connection, plan, updated, changes, why);
}

} // namespace siphon
