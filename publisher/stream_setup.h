/*
 * The application's stream: made when it is not there, compared with the configuration when it is.
 */
#ifndef SIPHON_STREAM_SETUP_H
#define SIPHON_STREAM_SETUP_H

#include <string>

#include <nats/nats.h>
#include <nlohmann/json.hpp>

#include "jetstream_api.h"
#include "stream_settings.h"

namespace siphon {

struct StreamPlan
{
	std::string name;
	std::string application;
	std::string root; /* <prefix>.<application> */
	StreamSettings settings;
	bool update;
};

/* The stream's state as JetStream has it, making the stream if there is none. Fatal if JetStream won't. */
ApiReply find_or_make_stream(natsConnection *connection, const StreamPlan &plan);

/* Fatal if a stream of this configuration does not take what is published, or does not say that it has it. */
void check_usable(const StreamPlan &plan, const nlohmann::json &config);

/* Settings of the stream take messages away, and the last on a subject may be among them. */
bool drops_messages(const nlohmann::json &config);

/*
 * Compares a stream's configuration with the plan, when it is first seen: as check_usable() does, and a warning for
 * each difference, or an update if the plan says so. One that was made before there were logical messages gets their
 * subjects. False with *why if JetStream can't answer now.
 */
bool check_stream(natsConnection *connection, const StreamPlan &plan, const nlohmann::json &config, std::string *why);

} // namespace siphon

#endif
