/* See setup.h. */
#include "publisher/stream/jetstream/setup.h"

#include <algorithm>

#include "program/exit_codes.h"
#include "program/log.h"
#include "reader/nats/requests.h"
#include "reader/subject.h"

namespace siphon {

static constexpr int64_t kDuplicateWindowNs = 1000000000;

using nlohmann::json;

static std::string
held_subjects(const StreamPlan &plan)
{
	return plan.root + ".held.>";
}

StreamPlan
held_plan(const StreamPlan &plan)
{
	StreamPlan held = plan;

	held.name += "_held";
	held.held = true;
	held.settings = StreamSettings();
	held.settings.replicas = plan.settings.replicas;
	held.settings.storage = plan.settings.storage;
	return held;
}

std::string
fence_subject(const StreamPlan &plan)
{
	return plan.root + (plan.held ? ".held.fence" : ".fence");
}

static json
subjects_of(const StreamPlan &plan)
{
	if (plan.held)
		return json::array({held_subjects(plan)});
	return json::array(
		{plan.root + ".events.>", message_subjects(plan.root), watermark_subject(plan.root), fence_subject(plan)});
}

static json
taken_subjects(const json &config)
{
	auto subjects = config.find("subjects");

	return subjects != config.end() && subjects->is_array() ? *subjects : json::array();
}

static bool
takes(const json &config, const std::string &subject)
{
	const json taken = taken_subjects(config);

	return std::any_of(taken.begin(), taken.end(), [&](const json &pattern) {
		return pattern.is_string() && subject_covers(pattern.get<std::string>(), subject);
	});
}

bool
has_former_layout(const StreamPlan &plan, const json &config)
{
	return !plan.held && takes(config, held_subjects(plan));
}

/* The stream is this application's, whatever else it lacks. */
static bool
belongs(const StreamPlan &plan, const json &config)
{
	return takes(config, plan.held ? held_subjects(plan) : plan.root + ".events.>");
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

json
new_stream_config(const StreamPlan &plan, const json &beside)
{
	json config = settings_of(plan.settings);

	config["name"] = plan.name;
	config["subjects"] = subjects_of(plan);
	config["retention"] = "limits";
	/* What the fence keeps out needs no ids remembered, and a server that starts reads back all of the window. */
	config["duplicate_window"] = kDuplicateWindowNs;
	if (int64_t age = member(config, "max_age", int64_t{0}); age > 0)
		config["duplicate_window"] = std::min(age, kDuplicateWindowNs);
	if (plan.held)
	{
		config["description"] = "Held changes of Siphon application " + plan.application;
		config["discard"] = "new";
		config["storage"] = member(beside, "storage", std::string("file"));
		config["num_replicas"] = member(beside, "num_replicas", 1);
		return config;
	}
	config["description"] = "Changes of Siphon application " + plan.application;
	if (!config.contains("storage"))
		config["storage"] = "file";
	return config;
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

/* Held changes must stay whatever happens, or a hand-off would end with changes missing. */
static void
check_keeps_all(const StreamPlan &plan, const json &config)
{
	static const std::pair<const char *, const char *> limits[] = {
		{"max_age", "--max-age=0"},
		{"max_bytes", "--max-bytes=-1"},
		{"max_msgs", "--max-msgs=-1"},
		{"max_msgs_per_subject", "--max-msgs-per-subject=-1"},
	};

	for (const auto &[key, option] : limits)
	{
		if (member(config, key, int64_t{0}) > 0)
			throw Fatal(ExitCode::StreamRefused, "stream " + plan.name + " has " + key + " " + show(key, config[key]) +
													 ", and so may lose held changes: "
													 "nats stream edit " +
													 plan.name + " " + option);
	}
	if (member(config, "retention", std::string("limits")) != "limits")
		throw Fatal(ExitCode::StreamRefused,
					"stream " + plan.name + " has retention " + member(config, "retention", std::string()) +
						", and held changes need limits: stop the publisher, then nats stream rm " + plan.name +
						", and run on the server: SELECT siphon_resync_application('" + plan.application + "')");
}

void
check_usable(const StreamPlan &plan, const json &config)
{
	for (const json &subject : subjects_of(plan))
	{
		if (!takes(config, subject.get<std::string>()))
			throw Fatal(ExitCode::StreamRefused, "stream " + plan.name + " exists and does not take " +
													 subject.get<std::string>() + ", but " +
													 taken_subjects(config).dump() +
													 ": it belongs to something else, or to another --subject-prefix");
	}
	if (member(config, "no_ack", false))
		throw Fatal(ExitCode::StreamRefused,
					"stream " + plan.name + " acknowledges nothing: nats stream edit " + plan.name + " --ack");
	if (member(config, "sealed", false))
		throw Fatal(ExitCode::StreamRefused, "stream " + plan.name + " is sealed, for good: nats stream rm " +
												 plan.name + ", or set another application name or --subject-prefix");
	if (config.contains("mirror") && config["mirror"].is_object())
		throw Fatal(ExitCode::StreamRefused, "stream " + plan.name +
												 " is a mirror, and takes no messages: nats stream rm " + plan.name +
												 ", and give the mirror another name");
	if (config.contains("sources") && config["sources"].is_array() && !config["sources"].empty())
		throw Fatal(ExitCode::StreamRefused, "stream " + plan.name +
												 " has sources, and an application's stream is written "
												 "by its publisher alone: nats stream edit " +
												 plan.name + ", without sources");
	if (!object_member(config, "subject_transform").empty())
		throw Fatal(ExitCode::StreamRefused, "stream " + plan.name +
												 " has a subject transform, with which nobody finds "
												 "what was published: nats stream edit " +
												 plan.name + ", without it");
	if (plan.held)
		check_keeps_all(plan, config);
}

bool
is_lossy(const json &config)
{
	if (member(config, "retention", std::string("limits")) != "limits" || member(config, "max_age", int64_t{0}) > 0 ||
		member(config, "max_msgs_per_subject", int64_t{-1}) > 0)
		return true;
	return member(config, "discard", std::string("old")) == "old" &&
		   (member(config, "max_bytes", int64_t{-1}) > 0 || member(config, "max_msgs", int64_t{-1}) > 0);
}

/* What the settings of a stream mean for who reads it. */
static void
say_what_is_not_exact(const StreamPlan &plan, const json &config)
{
	std::string retention = member(config, "retention", std::string("limits"));

	if (retention != "limits")
		spdlog::warn(
			"stream {} has retention {}: what consumers have acknowledged is gone, so after a restart of the "
			"server's decoder events may come a second time, and after one of the publisher only Nats-Msg-Id "
			"keeps them from that, within the stream's duplicate window; retention limits has none of these doubts",
			plan.name, retention);
	else if (is_lossy(config))
		spdlog::info(
			"stream {} drops old messages; should it drop some before the server has heard that they were stored, "
			"their events may come a second time after a restart of the decoder",
			plan.name);
}

/*
 * The stream's subjects as they should be, if it is the application's and they are not: without held changes, which have a
 * stream of their own, and with what publishers of former releases did not have.
 */
static std::optional<json>
mended_subjects(const StreamPlan &plan, const json &config)
{
	const json taken = taken_subjects(config);
	json kept = {{"subjects", json::array()}};
	json &subjects = kept["subjects"];

	if (!belongs(plan, config))
		return std::nullopt;
	for (const json &subject : taken)
	{
		if (plan.held || (subject != held_subjects(plan) && subject != plan.root + ".>"))
			subjects.push_back(subject);
	}
	if (has_former_layout(plan, kept))
		throw Fatal(ExitCode::StreamRefused,
					"stream " + plan.name + " takes " + taken.dump() + ", and " + held_subjects(plan) +
						" is for a stream of its own: nats stream edit " + plan.name + " --subjects=" + plan.root +
						".events.>," + message_subjects(plan.root) + "," + watermark_subject(plan.root) + "," +
						fence_subject(plan));
	for (const json &subject : subjects_of(plan))
	{
		if (!takes(kept, subject.get<std::string>()))
			subjects.push_back(subject);
	}
	return subjects != taken ? std::optional(subjects) : std::nullopt;
}

std::optional<StreamChange>
plan_change(const StreamPlan &plan, const json &config, bool say)
{
	json wanted = settings_of(plan.settings);
	StreamChange change{config, ""};
	std::optional<json> subjects = mended_subjects(plan, config);

	if (subjects)
	{
		change.config["subjects"] = *subjects;
		change.what = "subjects " + taken_subjects(config).dump() + " -> " + subjects->dump();
	}
	check_usable(plan, change.config);
	if (say && !plan.held)
		say_what_is_not_exact(plan, config);

	wanted["retention"] = "limits";
	for (const auto &[key, value] : wanted.items())
	{
		json existing = config.value(key, json());

		if (existing == value)
			continue;
		if (!plan.update)
		{
			if (say)
				spdlog::warn("stream {} has {} {}, configured is {}; --update-stream changes it", plan.name, key,
							 show(key, existing), show(key, value));
			continue;
		}
		change.what += (change.what.empty() ? "" : ", ") + key + " " + show(key, existing) + " -> " + show(key, value);
		change.config[key] = value;
	}
	if (change.what.empty())
		return std::nullopt;

	/* The server's default would forbid a short age. */
	int64_t max_age = member(change.config, "max_age", int64_t{0});

	if (max_age > 0 && member(change.config, "duplicate_window", int64_t{0}) > max_age)
		change.config["duplicate_window"] = max_age;
	return change;
}

} // namespace siphon
