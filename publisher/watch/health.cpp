/* See health.h. */
#include "publisher/watch/health.h"

#include <fmt/format.h>

#include "reader/subject.h"

namespace siphon {

/* A worker gives a sign of life twice a second; siphon_applications waits for a publisher's as long. */
static constexpr double kSilence = 5;
/* Nothing acknowledged for so long. */
static constexpr double kStalled = 30;
/* The loop waits for NATS's answers, but not that long. */
static constexpr std::chrono::seconds kLoopSlow{15};
static constexpr std::chrono::seconds kLoopDead{60};
/* It resumes after each interruption, mostly within the blink of an eye. */
static constexpr std::chrono::seconds kResumingSlow{5};
/* Where it has said that it resumes, of which each step asks NATS for much. */
static constexpr std::chrono::seconds kResumingDead{600};
/* Of what the slot may keep, this part is a reason to tell somebody. */
static constexpr double kRetainedPart = 0.75;

bool
alive(const Status &status, Status::Clock::time_point now)
{
	return status.starting || now - status.at < (status.resuming.step.empty() ? kLoopDead : kResumingDead);
}

std::string
resuming_text(const Status &status, Status::Clock::time_point now)
{
	const ResumingStatus &resuming = status.resuming;

	if (resuming.step.empty())
		return "";
	return fmt::format("resuming: {}, for {:.0f} s{}", resuming.step,
					   std::chrono::duration<double>(now - resuming.since).count(),
					   resuming.total > 0  ? fmt::format(", {} of {}", resuming.done, resuming.total)
					   : resuming.done > 0 ? fmt::format(", {}", resuming.done)
										   : "");
}

static std::string
ask_server(const Status &status)
{
	return fmt::format("SELECT state, reason, hint FROM siphon_applications WHERE application = '{}';",
					   status.application);
}

static std::string
ask_tables(const Status &status)
{
	return fmt::format("SELECT schema_name, table_name, state, reason FROM siphon_tables WHERE application = '{}';",
					   status.application);
}

/* As the packages and deploy/systemd name the unit. */
static std::string
show_log(const Status &status)
{
	return fmt::format("journalctl -u siphon-publisher@{} -n 50", status.application);
}

static void
look_at_queue(const Status &status, Status::Clock::time_point now, std::vector<Problem> *problems)
{
	auto add = [&](const char *code, const std::string &what, const std::string &hint, const std::string &command) {
		problems->push_back({code, what, hint, command, true});
	};
	bool files = status.files;

	if (status.starting && files)
		add("starting", "the publisher has not opened its stream yet: " + status.queue,
			"See the publisher's log for the reason.", show_log(status));
	else if (status.starting)
		add("starting", "the publisher has not connected to NATS yet: " + status.queue,
			"Check that nats-server runs there and accepts this user; the publisher connects by itself.",
			"systemctl status nats-server");
	/* A directory is always there to be asked. */
	else if (!status.connected && files)
		add("nats_disconnected", "the stream cannot be written: " + status.queue,
			"See the publisher's log for the reason.", show_log(status));
	else if (!status.connected)
		add("nats_disconnected", "there is no connection to NATS, for " + status.queue,
			"Check that nats-server runs and can be reached from here; the publisher reconnects by itself.",
			"systemctl status nats-server");
	else if (!status.refusal.empty() && files)
		add("refused", fmt::format("{} rejected a message: {}; publishing is paused", status.queue, status.refusal),
			"Make room on the disk; files that all consumers have read can be removed. The publisher continues by "
			"itself.",
			"df -h");
	else if (!status.refusal.empty())
		add("refused", fmt::format("{} rejected a message: {}; publishing is paused", status.queue, status.refusal),
			"See which limit of the stream is reached. Make room, or start the publisher with a greater "
			"--stream-max-bytes and --update-stream.",
			"nats stream info " + stream_name(status.application));
	else if (!status.resuming.step.empty() && now - status.resuming.since > kResumingSlow)
		add("resuming", resuming_text(status, now),
			files ? "The publisher continues by itself. If it does not, see its log."
				  : "The publisher continues by itself. If it does not, see whether the stream has a leader.",
			files ? show_log(status) : "nats server report jetstream");
	else if (!status.settled && !status.waiting_for.empty() && status.decoder() != nullptr)
		add("unsettled", "waiting for " + status.waiting_for,
			files ? "Check that the directory exists and that the publisher's user may write to it; the publisher "
					"continues by itself."
				  : "See whether the stream has a leader; the publisher continues by itself.",
			files ? show_log(status) : "nats server report jetstream");
}

static void
look_at_decoder(const Status &status, double age, std::vector<Problem> *problems)
{
	const RingStatus *decoder = status.decoder();

	if (status.starting)
		return;
	if (decoder == nullptr)
		problems->push_back(
			{"no_ring",
			 fmt::format("there is no decoder of application \"{}\" in {}", status.application, status.ring_directory),
			 "Check that the server runs, with this siphon.ring_directory, and run this query there.",
			 ask_server(status), true});
	else if (decoder->metric(RingMetric::Ended) != 0)
		problems->push_back({"decoder_ended", "the decoder has stopped, and its slot may be lost",
							 "Run this query on the server: it says why, and what to do.", ask_server(status), true});
	else if (decoder->silence + age > kSilence)
		problems->push_back({"decoder_silent",
							 fmt::format("no heartbeat from the decoder for {:.0f} s", decoder->silence + age),
							 "Check that the server runs, and run this query there: it says why, and what to do.",
							 ask_server(status), true});
}

static void
look_at_tables(const Status &status, std::vector<Problem> *problems)
{
	const RingStatus *decoder = status.decoder();

	/* Before its first sign of life, the decoder has not said. */
	if (decoder == nullptr || decoder->metric(RingMetric::Newest) == 0)
		return;

	uint64_t tables = decoder->metric(RingMetric::Tables);
	uint64_t failed = decoder->metric(RingMetric::TablesFailed);

	if (tables == 0)
		problems->push_back({"no_table", "no table is published", "Add a table.",
							 fmt::format("SELECT siphon_add_table('public.some_table', '{}');", status.application),
							 true});
	else if (failed > 0)
		problems->push_back({"tables_failed", fmt::format("{} of {} tables need a resync", failed, tables),
							 "Run this query to see which, and why. Then take a new snapshot of each with "
							 "siphon_resync_table().",
							 ask_tables(status), failed >= tables});
}

/* What the server knows of its surroundings; siphon_applications has each as a reason, with its hint. */
static void
look_at_warnings(const Status &status, std::vector<Problem> *problems)
{
	const RingStatus *decoder = status.decoder();

	if (decoder == nullptr || decoder->metric(RingMetric::Ended) != 0)
		return;

	uint64_t warnings = decoder->metric(RingMetric::Warnings);
	auto add = [&](RingWarning warning, const char *code, const char *what, const char *hint, const char *command,
				   bool unready = false) {
		if (warnings & static_cast<uint64_t>(warning))
			problems->push_back({code, what, hint, command, unready});
	};

	add(RingWarning::ReplayPaused, "replay_paused", "replay of WAL is paused on the standby that decodes",
		"Resume replay on that standby.", "SELECT pg_wal_replay_resume();", true);
	add(RingWarning::NoReceiver, "no_wal_receiver", "the standby that decodes is not connected to a primary",
		"Check that the primary runs. The standby's log says why it cannot connect with these settings.",
		"SHOW primary_conninfo;");
	add(RingWarning::NoStandbySlot, "no_standby_slot", "no standby has the slot ready, so a failover would lose it",
		"On the standby, set sync_replication_slots = on and hot_standby_feedback = on, primary_slot_name, and a "
		"dbname in primary_conninfo. This query shows what is set.",
		"SELECT name, setting FROM pg_settings WHERE name IN ('sync_replication_slots', 'hot_standby_feedback', "
		"'primary_slot_name', 'primary_conninfo');");
	add(RingWarning::NoExtension, "no_extension",
		"the database does not have the extension any more, but the slot, which retains WAL, and its decoder are there",
		"Create the extension on the primary. If the application is not wanted any more, drop it then with "
		"siphon_drop_application().",
		"CREATE EXTENSION siphon;");
	add(RingWarning::TableReplaced, "table_replaced",
		"a listed table was dropped, and another table has its name, which is not published",
		"Run this query to see which table, and what to do.", "SELECT * FROM siphon_tables WHERE state = 'dropped';");
	add(RingWarning::ReplayDelayed, "replay_delayed",
		"the standby that decodes replays WAL with recovery_min_apply_delay, and so decodes it as much later",
		"Remove the delay on that standby if changes are to come earlier.",
		"ALTER SYSTEM SET recovery_min_apply_delay = 0; SELECT pg_reload_conf();");
}

/* An outage that nobody noticed, as the others do the work. */
static void
look_at_replicas(const StreamStatus &stream, std::vector<Problem> *problems)
{
	std::string behind;

	if (!stream.known)
		return;
	for (const ReplicaStatus &replica : stream.followers)
		if (replica.offline || !replica.current)
			behind += (behind.empty() ? "" : ", ") + replica.name + (replica.offline ? " (offline)" : "");
	if (!behind.empty())
		problems->push_back({"replica_behind",
							 fmt::format("replicas of stream {} are not current: {}", stream.name, behind),
							 "Check that nats-server runs there, and see whether they catch up.",
							 "nats stream info " + stream.name, false});
}

static void
look_at_wal(const Status &status, std::vector<Problem> *problems)
{
	const RingStatus *decoder = status.decoder();

	if (decoder == nullptr || decoder->metric(RingMetric::RetainedLimit) == kMetricUnknown)
		return;

	double limit = static_cast<double>(decoder->metric(RingMetric::RetainedLimit));
	double retained = static_cast<double>(decoder->metric(RingMetric::Retained));

	if (limit > 0 && retained > kRetainedPart * limit)
		problems->push_back(
			{"retained_wal",
			 fmt::format("the slot retains {:.0f} MB of WAL, and is lost beyond {:.0f} MB", retained / 1048576,
						 limit / 1048576),
			 "Find out why nothing is acknowledged. While the disk has room, these limits can be raised.",
			 "SELECT name, setting, unit FROM pg_settings WHERE name IN ('siphon.max_retained_wal', "
			 "'max_slot_wal_keep_size');",
			 false});
}

std::vector<Problem>
find_problems(const Status &status, Status::Clock::time_point now)
{
	std::vector<Problem> problems;
	double age = std::chrono::duration<double>(now - status.at).count();

	if (!status.starting && status.resuming.step.empty() && now - status.at > kLoopSlow)
		problems.push_back({"loop_stalled", fmt::format("the publisher's loop has not run for {:.0f} s", age),
							"If it stays so, restart the publisher: it continues where it was.",
							fmt::format("systemctl restart siphon-publisher@{}", status.application), true});
	look_at_queue(status, now, &problems);
	look_at_decoder(status, status.starting ? 0 : age, &problems);
	look_at_tables(status, &problems);
	if (status.stalled > kStalled)
		problems.push_back({"stalled",
							fmt::format("no acknowledgement for {:.0f} s with {} messages in flight or waiting",
										status.stalled, status.in_flight),
							"See the publisher's log for the reason.", show_log(status), true});
	look_at_wal(status, &problems);
	look_at_warnings(status, &problems);
	look_at_replicas(status.stream, &problems);
	look_at_replicas(status.held_stream, &problems);
	return problems;
}

} // namespace siphon
