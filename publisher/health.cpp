/* See health.h. */
#include "health.h"

#include <fmt/format.h>

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

static void
look_at_queue(const Status &status, Status::Clock::time_point now, std::vector<Problem> *problems)
{
	auto add = [&](const char *code, const std::string &what, const char *nats_hint, const char *files_hint) {
		problems->push_back({code, what, status.files ? files_hint : nats_hint, true});
	};

	if (status.starting)
		add("starting",
			status.files ? "the publisher has not opened its stream yet: " + status.queue
						 : "the publisher has not connected to NATS yet: " + status.queue,
			"See that nats-server runs there, and lets this user in.", "See the publisher's log.");
	/* A directory is always there to be asked. */
	else if (!status.connected)
		add("nats_disconnected", "there is no connection to NATS, for " + status.queue,
			"See that nats-server runs there; the publisher goes on by itself.", "See the publisher's log.");
	else if (!status.refusal.empty())
		add("refused", fmt::format("{} takes no messages: {}", status.queue, status.refusal),
			"nats stream info; then make room, or its limits larger (--stream-max-bytes with --update-stream).",
			"df; then make room: files that were read can go. The publisher goes on by itself.");
	else if (!status.resuming.step.empty() && now - status.resuming.since > kResumingSlow)
		add("resuming", resuming_text(status, now),
			"Nothing: the publisher goes on by itself. If it stays so, nats server report jetstream.",
			"Nothing: the publisher goes on by itself. If it stays so, see its log.");
	else if (!status.settled && !status.waiting_for.empty() && status.decoder() != nullptr)
		add("unsettled", "waiting for " + status.waiting_for,
			"nats server report jetstream; the publisher goes on by itself.",
			"See that the directory is there, and that this user may write to it; the publisher goes on by itself.");
}

static void
look_at_decoder(const Status &status, double age, std::vector<Problem> *problems)
{
	const RingStatus *decoder = status.decoder();

	if (status.starting)
		return;
	if (decoder == nullptr)
	{
		problems->push_back({"no_ring", fmt::format("there is no decoder of application \"{}\" in {}",
													status.application, status.ring_directory),
							 "See that the server runs, with this siphon.ring_directory; then " + ask_server(status),
							 true});
		return;
	}
	if (decoder->figure(RingFigure::Ended) != 0)
		problems->push_back({"decoder_ended", "the decoder has ended, and its slot may be lost", ask_server(status),
							 true});
	else if (decoder->silence + age > kSilence)
		problems->push_back({"decoder_silent", fmt::format("the decoder gave no sign of life for {:.0f} s",
														   decoder->silence + age),
							 "See that the server runs; then " + ask_server(status), true});
}

static void
look_at_tables(const Status &status, std::vector<Problem> *problems)
{
	const RingStatus *decoder = status.decoder();

	/* Before its first sign of life, the decoder has not said. */
	if (decoder == nullptr || decoder->figure(RingFigure::Newest) == 0)
		return;

	uint64_t tables = decoder->figure(RingFigure::Tables);
	uint64_t failed = decoder->figure(RingFigure::TablesFailed);

	if (tables == 0)
		problems->push_back({"no_table", "no table is published",
							 fmt::format("SELECT siphon_add_table('public.some_table', '{}');", status.application),
							 true});
	else if (failed >= tables)
		problems->push_back({"tables_failed", fmt::format("none of {} tables is published as it should be", tables),
							 ask_tables(status), true});
	else if (failed > 0)
		problems->push_back({"tables_failed", fmt::format("{} of {} tables need to be brought out anew", failed, tables),
							 ask_tables(status), false});
}

/* What the server knows of its surroundings; siphon_applications has each as a reason, with its hint. */
static void
look_at_warnings(const Status &status, std::vector<Problem> *problems)
{
	const RingStatus *decoder = status.decoder();

	if (decoder == nullptr || decoder->figure(RingFigure::Ended) != 0)
		return;

	uint64_t warnings = decoder->figure(RingFigure::Warnings);
	auto add = [&](RingWarning warning, const char *code, const char *what, const char *hint, bool unready = false) {
		if (warnings & static_cast<uint64_t>(warning))
			problems->push_back({code, what, hint, unready});
	};

	add(RingWarning::ReplayPaused, "replay_paused", "replay of WAL is paused on the standby that decodes",
		"SELECT pg_wal_replay_resume();", true);
	add(RingWarning::NoReceiver, "no_wal_receiver", "the standby that decodes is not connected to a primary",
		"See that the primary runs, and what the server's log says of primary_conninfo.");
	add(RingWarning::NoStandbySlot, "no_standby_slot", "no standby has the slot ready, so a failover would lose it",
		"On the standby: sync_replication_slots = on, hot_standby_feedback = on, primary_slot_name, and a dbname in "
		"primary_conninfo.");
	add(RingWarning::NoExtension, "no_extension",
		"the database does not have the extension any more, but the slot, which keeps WAL, and its decoder are there",
		"CREATE EXTENSION siphon, on the primary; and if it is not wanted, then siphon_drop_application().");
	add(RingWarning::TableReplaced, "table_replaced",
		"a listed table was dropped, and another table has its name, which is not published",
		"SELECT * FROM siphon_tables WHERE state = 'dropped'; says which, and what to type.");
	add(RingWarning::ReplayDelayed, "replay_delayed",
		"the standby that decodes replays WAL with recovery_min_apply_delay, and so decodes it as much later",
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
							 fmt::format("copies of stream {} are not up to date: {}", stream.name, behind),
							 fmt::format("nats stream info {}; see that nats-server runs there.", stream.name), false});
}

static void
look_at_wal(const Status &status, std::vector<Problem> *problems)
{
	const RingStatus *decoder = status.decoder();

	if (decoder == nullptr || decoder->figure(RingFigure::RetainedLimit) == kNoFigure)
		return;

	double limit = static_cast<double>(decoder->figure(RingFigure::RetainedLimit));
	double retained = static_cast<double>(decoder->figure(RingFigure::Retained));

	if (limit > 0 && retained > kRetainedPart * limit)
		problems->push_back({"retained_wal", fmt::format("the slot keeps {:.0f} MB of WAL, and is lost beyond {:.0f} MB",
														 retained / 1048576, limit / 1048576),
							 "See why nothing is acknowledged; SHOW siphon.max_retained_wal; SHOW max_slot_wal_keep_size;",
							 false});
}

std::vector<Problem>
find_problems(const Status &status, Status::Clock::time_point now)
{
	std::vector<Problem> problems;
	double age = std::chrono::duration<double>(now - status.at).count();

	if (!status.starting && status.resuming.step.empty() && now - status.at > kLoopSlow)
		problems.push_back({"loop_stalled", fmt::format("the publisher's loop has stood still for {:.0f} s", age),
							"If it stays so, restart the publisher: it goes on where it was.", true});
	look_at_queue(status, now, &problems);
	look_at_decoder(status, status.starting ? 0 : age, &problems);
	look_at_tables(status, &problems);
	if (status.stalled > kStalled)
		problems.push_back({"stalled", fmt::format("nothing was acknowledged for {:.0f} s, although {} messages are "
												   "under way or wait",
												   status.stalled, status.in_flight),
							"See the publisher's log.", true});
	look_at_wal(status, &problems);
	look_at_warnings(status, &problems);
	look_at_replicas(status.stream, &problems);
	look_at_replicas(status.held_stream, &problems);
	return problems;
}

} // namespace siphon
