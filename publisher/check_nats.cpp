/* See check_nats.h. */
#include "publisher/check_nats.h"

#include <charconv>
#include <chrono>
#include <cmath>
#include <ctime>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "program/exit_codes.h"
#include "publisher/check_replicas.h"
#include "publisher/stream/jetstream/setup.h"
#include "publisher/stream/log.h"
#include "reader/nats/jetstream_api.h"
#include "reader/nats/nats_connection.h"
#include "reader/subject.h"

namespace siphon {

using nlohmann::json;

namespace {

/* A message with a frame that can't be compressed fits into this; less means parts. */
constexpr int64_t kGoodPayload = 1024 * 1024;
/* Clocks that differ by more than this make latencies worthless. */
constexpr double kClockDifference = 1;
constexpr int64_t kMegabyte = 1024 * 1024;
/* JetStream's own is two minutes, and it keeps each id in memory for so long. */
constexpr int64_t kLongWindowNs = 600000000000;
/* What the publisher reads back at a time, and some more. */
constexpr int64_t kConsumers = 16;

/* One connection, and what NATS says of rights that we lack. */
class Asker
{
public:
	explicit Asker(const Config &config) : config_(config) {}

	/* nullptr, with a finding. */
	natsConnection *connect(Findings *findings)
	{
		NatsPtr<natsOptions> options = nats_options(config_.nats_url, config_.nats_login, "siphon-publisher check");
		NatsFailure failure;

		nats_check(natsOptions_SetErrorHandler(options.get(), on_error, this), "error callback");
		connection_.reset(nats_connect(options.get(), &failure));
		if (!connection_)
			findings->wrong("NATS at " + redact_nats_url(config_.nats_url) + ": " + failure.why,
							failure.refusal() ? refusal_hint(failure, config_.nats_login, config_.nats_url)
											  : "See that nats-server runs there, and check --nats-url.");
		return connection_.get();
	}

	ApiReply ask(const std::string &subject, const json &body = {})
	{
		{
			std::lock_guard<std::mutex> guard(mutex_);

			violation_.clear();
		}

		ApiReply reply = jetstream_request(connection_.get(), subject, body, config_.jetstream_api);
		std::lock_guard<std::mutex> guard(mutex_);

		/* Where a right is missing, no answer comes, and NATS says so elsewhere. */
		if (!reply.answered && !violation_.empty())
			reply.error = violation_;
		return reply;
	}

private:
	static void on_error(natsConnection *connection, natsSubscription *, natsStatus, void *self)
	{
		Asker *asker = static_cast<Asker *>(self);
		const char *text = nullptr;

		natsConnection_GetLastError(connection, &text);

		std::lock_guard<std::mutex> guard(asker->mutex_);

		if (text != nullptr && strcasestr(text, "permissions violation") != nullptr)
			asker->violation_ = text;
	}

	const Config &config_;
	std::mutex mutex_;
	std::string violation_;
	NatsPtr<natsConnection> connection_;
};

std::string
edit(const StreamPlan &plan, const char *option)
{
	return "nats stream edit " + plan.name + " " + option;
}

void
look_at_clock(const json &info, Findings *findings)
{
	std::string text = member(info, "ts", std::string());
	std::tm utc = {};
	const char *rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &utc);

	/* Servers before 2.10 do not say. */
	if (rest == nullptr)
		return;

	double there = static_cast<double>(timegm(&utc)) + (*rest == '.' ? strtod(rest, nullptr) : 0);
	auto now = std::chrono::system_clock::now().time_since_epoch();
	double difference = std::chrono::duration<double>(now).count() - there;

	if (std::abs(difference) > kClockDifference)
		findings->wrong(fmt::format("the clock here and that of NATS differ by {:.1f} s", std::abs(difference)),
						"timedatectl status, on both machines");
	else
		findings->well("the clock here and that of NATS agree");
}

/* Settings that somebody changed by hand, and that a publisher would meet at a bad time. */
void
look_at_settings(const StreamPlan &plan, const json &config, Findings *findings)
{
	int64_t max_size = member(config, "max_msg_size", int64_t{-1});
	int64_t consumers = member(config, "max_consumers", int64_t{-1});
	int64_t window = member(config, "duplicate_window", int64_t{0});

	if (member(config, "deny_purge", false))
		findings->wrong("stream " + plan.name +
							" has deny_purge: what a failed snapshot left, and held changes, can't be removed",
						"Nothing takes that back: nats stream rm " + plan.name +
							", then SELECT siphon_resync_application('" + plan.application + "')");
	if (max_size > 0 && max_size < kGoodPayload)
		findings->note(fmt::format("stream {} takes messages of {} bytes: large packages go in parts; {} saves that",
								   plan.name, max_size, edit(plan, "--max-msg-size=-1")));
	if (consumers > 0 && consumers < kConsumers)
		findings->wrong(
			fmt::format("stream {} has at most {} consumers, and the publisher needs some beside those who read",
						plan.name, consumers),
			edit(plan, "--max-consumers=-1"));
	if (window > kLongWindowNs)
		findings->note(fmt::format("stream {} remembers ids for {} s, in nats-server's memory; {} is enough", plan.name,
								   window / 1000000000, edit(plan, "--dupe-window=2m")));
	if (config.contains("republish") && config["republish"].is_object())
		findings->note("stream " + plan.name +
					   " publishes all that it stores once more (republish), to whoever may read that");
	/* Of the other one, check_usable() says so. */
	if (plan.held)
		return;
	if (member(config, "max_msgs_per_subject", int64_t{-1}) > 0)
		findings->wrong(
			fmt::format("stream {} keeps {} messages of each subject: rows and changes that consumers have not read "
						"are dropped",
						plan.name, member(config, "max_msgs_per_subject", int64_t{-1})),
			edit(plan, "--max-msgs-per-subject=-1"));
	else if (is_lossy(config))
		findings->note("stream " + plan.name +
					   " drops old messages: tables whose rows are gone from it can't be copied from it. "
					   "Whether the limit is large enough for the tables was not looked at: SELECT "
					   "pg_size_pretty(sum(pg_table_size(relid))) FROM siphon_tables");
}

/* As the leader knows them; a copy that refuses all is current for it. */
void
look_at_copies(const StreamPlan &plan, const json &info, Findings *findings)
{
	const json &cluster = object_member(info, "cluster");
	auto replicas = cluster.find("replicas");
	std::string behind;

	if (member(object_member(info, "config"), "num_replicas", 1) == 1)
		return findings->note(
			fmt::format("stream {} has one copy: a power cut can lose what was acknowledged, unless sync_interval "
						"is always",
						plan.name));
	if (member(cluster, "leader", std::string()).empty())
		return findings->wrong("stream " + plan.name + " has no leader",
							   "nats server report jetstream; see that nats-servers run.");
	if (replicas != cluster.end() && replicas->is_array())
		for (const json &replica : *replicas)
			if (replica.is_object() && (member(replica, "offline", false) || !member(replica, "current", false)))
				behind += (behind.empty() ? "" : ", ") + member(replica, "name", std::string("?")) +
						  (member(replica, "offline", false) ? " (offline)" : "");
	if (!behind.empty())
		findings->wrong("copies of stream " + plan.name + " are not up to date: " + behind,
						"nats stream info " + plan.name + "; see that nats-server runs there.");
	else
		findings->well(fmt::format("the leader of stream {} knows of no copy that is behind", plan.name));
}

/* Whether the stream has what the ring says that it has acknowledged; asked behind a look at the ring. */
void
look_at_end(const StreamPlan &plan, const json &info, const Checkpoint::End &acknowledged, Findings *findings)
{
	uint64_t end = member(object_member(info, "state"), "last_seq", uint64_t{0});
	std::string created = member(info, "created", std::string());

	if (acknowledged.log != 0 && !created.empty() && acknowledged.log != message_hash(created))
		findings->wrong("stream " + plan.name +
							" is another one than that to which messages were acknowledged; it was made at " + created,
						"SELECT siphon_resync_application('" + plan.application + "')");
	else if (acknowledged.place > end)
		findings->wrong(fmt::format("stream {} has lost its end: message {} was acknowledged, and {} is the last one",
									plan.name, acknowledged.place, end),
						"SELECT siphon_resync_application('" + plan.application + "')");
}

/* nullopt: there is none, or nobody knows. */
std::optional<json>
stream_info(const StreamPlan &plan, const Checkpoint::End &acknowledged, Asker *asker, Findings *findings)
{
	ApiReply reply = asker->ask("STREAM.INFO." + plan.name);

	if (reply.ok())
		return reply.content;
	if (reply.error_code == kErrorStreamNotFound && acknowledged.log != 0)
		findings->wrong("stream " + plan.name + " is gone, and with it what was acknowledged",
						"SELECT siphon_resync_application('" + plan.application + "')");
	else if (reply.error_code == kErrorStreamNotFound)
		findings->note("there is no stream " + plan.name + " yet; the publisher makes it");
	else if (reply.answered)
		findings->wrong("stream " + plan.name + ": " + reply.error, "nats stream info " + plan.name);
	else
		findings->wrong(
			"JetStream does not answer for stream " + plan.name + ": " + reply.error,
			"Start nats-server with --jetstream, and let this user's account use it. Where it is elsewhere, as behind "
			"a "
			"leaf node: --jetstream-domain or --jetstream-api-prefix. Rights that are needed, and --nats-inbox-prefix: "
			"docs/security.md.");
	return std::nullopt;
}

/* False: there is none, or it can't be used. */
bool
look_at_stream(const StreamPlan &plan, const json &info, const Checkpoint::End &acknowledged, Findings *findings)
{
	const json &config = object_member(info, "config");
	const json &state = object_member(info, "state");
	int64_t limit = member(config, "max_bytes", int64_t{-1});
	int64_t bytes = member(state, "bytes", int64_t{0});

	try
	{
		check_usable(plan, config);
	}
	catch (const Fatal &fatal)
	{
		findings->wrong(fatal.what(), edit(plan, "").substr(0, edit(plan, "").size() - 1));
		return false;
	}
	if (limit > 0 && member(config, "discard", std::string("old")) == "new" &&
		static_cast<double>(bytes) > 0.9 * static_cast<double>(limit))
		findings->wrong(fmt::format("stream {} has {} MB of the {} MB that it may", plan.name, bytes / kMegabyte,
									limit / kMegabyte),
						"siphon-publisher --update-stream --stream-max-bytes SIZE");
	else
		findings->well(fmt::format("stream {} has {} messages, {} MB", plan.name,
								   member(state, "messages", uint64_t{0}), bytes / kMegabyte));
	look_at_settings(plan, config, findings);
	look_at_copies(plan, info, findings);
	look_at_end(plan, info, acknowledged, findings);
	return true;
}

/* A value of the bucket; an object, which is empty where there is none. */
json
bucket_entry(const StreamPlan &plan, const std::string &key, Asker *asker)
{
	ApiReply reply = asker->ask("STREAM.MSG.GET.KV_" + plan.name, {{"last_by_subj", "$KV." + plan.name + "." + key}});
	json value = json::parse(decode_base64(member(object_member(reply.content, "message"), "data", std::string())),
							 nullptr, false);

	return reply.ok() && value.is_object() ? value : json::object();
}

/* Whose stream it is. The ring does not say which server it is of, but which history, and each database has its own. */
void
look_at_owner(const StreamPlan &plan, const RingIdentity &ring, Asker *asker, Findings *findings)
{
	json origin = bucket_entry(plan, "origin", asker);
	json publisher = bucket_entry(plan, "publisher", asker);
	std::string history = member(origin, "history", std::string());
	std::string host = member(publisher, "host", std::string());
	char here[256] = "";

	if (history.empty() || ring.history == 0)
		return;
	if (history == format_lsn(ring.history))
		return findings->well("stream " + plan.name + " is this application's");
	gethostname(here, sizeof(here) - 1);

	std::string what =
		fmt::format("what stream {} has is not of this ring's history: it is of database {} of the server with system "
					"identifier {}, "
					"published from {}",
					plan.name, member(origin, "database", uint64_t{0}),
					member(origin, "system_identifier", std::string("unknown")), host.empty() ? "?" : host);

	if (host == here)
		findings->note(what + ". That is so until a publisher has run, where the application was made or begun anew");
	else
		findings->wrong(
			what, "If it is another database's, give this one another application name, or another account in NATS; to "
				  "take the stream from it: siphon-publisher --take-over.");
}

void
look_at_account(Asker *asker, Findings *findings)
{
	ApiReply account = asker->ask("INFO");
	int64_t limit = member(object_member(account.content, "limits"), "max_storage", int64_t{-1});
	int64_t used = member(account.content, "storage", int64_t{0});

	if (!account.ok())
		findings->note("the account's limits were not looked at: " + account.error);
	else if (limit > 0 && static_cast<double>(used) > 0.9 * static_cast<double>(limit))
		findings->wrong(fmt::format("JetStream stores {} MB for this account, of the {} MB that it may",
									used / kMegabyte, limit / kMegabyte),
						"nats account info; make its limit larger, or streams smaller.");
}

void
look_at_bucket(const StreamPlan &plan, Asker *asker, Findings *findings)
{
	ApiReply reply = asker->ask("STREAM.INFO.KV_" + plan.name);
	const json &config = object_member(reply.content, "config");

	if (!reply.ok())
		return findings->note("key-value bucket " + plan.name + " was not looked at: " + reply.error);
	if (member(config, "max_age", int64_t{0}) > 0 || member(config, "max_bytes", int64_t{-1}) > 0)
		findings->wrong("key-value bucket " + plan.name + " forgets entries: tables' states would be lost",
						"nats stream edit KV_" + plan.name + " --max-age=0 --max-bytes=-1");
	look_at_copies({"KV_" + plan.name, plan.application, plan.root, {}, false, false}, reply.content, findings);
}

} // namespace

void
look_at_nats(const Config &config, const RingIdentity &ring, Findings *findings)
{
	Asker asker(config);
	natsConnection *connection = asker.connect(findings);
	StreamPlan plan{stream_name(config.application), config.application,
					subject_root(config.subject_prefix, config.application), config.stream, false};
	StreamPlan held = held_plan(plan);

	if (connection == nullptr)
		return;
	findings->well("NATS at " + redact_nats_url(config.nats_url) + " lets us in");
	for (const std::string &warning : login_warnings(config.nats_login, config.nats_url))
		findings->note(warning);

	int64_t payload = natsConnection_GetMaxPayload(connection);

	if (payload < kGoodPayload)
		findings->note(
			fmt::format("NATS takes messages of {} bytes: large packages go in parts; max_payload: 1MB in its "
						"configuration saves that",
						payload));
	else
		findings->well(fmt::format("NATS takes messages of {} bytes", payload));

	std::optional<json> info = stream_info(plan, ring.acknowledged.log, &asker, findings);

	if (!info)
		return;
	look_at_account(&asker, findings);
	if (look_at_stream(plan, *info, ring.acknowledged.log, findings))
		look_at_owner(plan, ring, &asker, findings);
	look_at_clock(*info, findings);
	if (std::optional<json> held_info = stream_info(held, ring.acknowledged.spill, &asker, findings))
	{
		look_at_stream(held, *held_info, ring.acknowledged.spill, findings);
		look_at_replicas({{plan.name, *info}, {held.name, *held_info}}, config.nats_monitor_url, findings);
	}
	else
		look_at_replicas({{plan.name, *info}}, config.nats_monitor_url, findings);
	look_at_bucket(plan, &asker, findings);
}

} // namespace siphon
