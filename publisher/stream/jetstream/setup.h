/*
 * The application's two streams: made when they are not there, compared with the configuration when they are. Pure
 * functions of what JetStream says; who asks it is JetStreamLog.
 *
 *   siphon_<application>        events, messages, watermarks, fences; what the user's settings say
 *   siphon_<application>_held   held changes; no limits
 */
#ifndef SIPHON_STREAM_JETSTREAM_SETUP_H
#define SIPHON_STREAM_JETSTREAM_SETUP_H

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "publisher/config/stream_settings.h"

namespace siphon {

struct StreamPlan
{
	std::string name;
	std::string application;
	std::string root; /* <prefix>.<application> */
	StreamSettings settings;
	bool update = false;
	bool held = false; /* it is the stream of held changes */
};

/* The plan of the stream of held changes beside an application's stream. */
StreamPlan held_plan(const StreamPlan &plan);

/* The subject of a stream's fences. */
std::string fence_subject(const StreamPlan &plan);

/*
 * The configuration to make the stream with. `beside`: that of the application's stream as it is, whose storage and
 * replicas the stream of held changes has; ignored for the other.
 */
nlohmann::json new_stream_config(const StreamPlan &plan, const nlohmann::json &beside);

/* Fatal if a stream of this configuration does not take what is published, keep it, or say that it has it. */
void check_usable(const StreamPlan &plan, const nlohmann::json &config);

/* Settings of the stream take messages away, and the last on a subject may be among them. */
bool is_lossy(const nlohmann::json &config);

/*
 * What to change in a stream when it is first seen: subjects that a publisher of another release did not have; with
 * plan.update, what the user's settings say. nullopt: nothing. `say`: warns of what is left as it is. Fatal as
 * check_usable().
 */
struct StreamChange
{
	nlohmann::json config;
	std::string what; /* for people */
};
std::optional<StreamChange> plan_change(const StreamPlan &plan, const nlohmann::json &config, bool say);

/* The stream takes held changes itself, as those of releases before 1.3 did. */
bool has_former_layout(const StreamPlan &plan, const nlohmann::json &config);

} // namespace siphon

#endif
