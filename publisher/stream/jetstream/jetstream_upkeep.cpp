/* What a JetStreamLog takes out of its stream, and how that is; see jetstream_log.h. */
#include "publisher/stream/jetstream/jetstream_log.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>

#include "program/log.h"

namespace siphon {

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
