/* What the publisher tells of itself: traffic counted once, quantiles, what is wrong, and text that was anything. */
#include <gtest/gtest.h>

#include "publisher/watch/health.h"
#include "publisher/watch/metrics.h"
#include "publisher/watch/status_history.h"
#include "publisher/watch/status_json.h"

using namespace siphon;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

/* Of a publisher that is well. */
Status
well(Status::Clock::time_point now)
{
	Status status;
	RingStatus decoder;

	status.at = now;
	status.application = "main";
	status.starting = false;
	status.connected = status.settled = true;
	decoder.name = "decoder";
	decoder.capacity = 1024;
	decoder.metrics[static_cast<size_t>(RingMetric::Newest)] = 100;
	decoder.metrics[static_cast<size_t>(RingMetric::Tables)] = 4;
	decoder.metrics[static_cast<size_t>(RingMetric::RetainedLimit)] = kMetricUnknown;
	status.rings.push_back(decoder);
	return status;
}

uint64_t &
metric(Status *status, RingMetric metric)
{
	return status->rings[0].metrics[static_cast<size_t>(metric)];
}

std::vector<std::string>
codes(const Status &status, Status::Clock::time_point now)
{
	std::vector<std::string> codes;

	for (const Problem &problem : find_problems(status, now))
	{
		EXPECT_FALSE(problem.what.empty());
		/* Full sentences, and what to type by itself. */
		EXPECT_TRUE(std::isupper(problem.hint.front()) && problem.hint.back() == '.') << problem.hint;
		EXPECT_FALSE(problem.command.empty()) << problem.code;
		codes.push_back((problem.unready ? "" : "only ") + std::string(problem.code));
	}
	return codes;
}

using Codes = std::vector<std::string>;

} // namespace

TEST(Health, SaysWhatIsWrong)
{
	auto now = Status::Clock::now();
	Status status = well(now);

	EXPECT_EQ(codes(status, now), Codes{});

	status.connected = false;
	EXPECT_EQ(codes(status, now), Codes{"nats_disconnected"});

	status = well(now);
	status.refusal = "full";
	EXPECT_EQ(codes(status, now), Codes{"refused"});

	status = well(now);
	status.settled = false;
	status.waiting_for = "JetStream";
	EXPECT_EQ(codes(status, now), Codes{"unsettled"});

	status = well(now);
	status.rings.clear();
	EXPECT_EQ(codes(status, now), Codes{"no_ring"});

	status = well(now);
	metric(&status, RingMetric::Ended) = 1;
	EXPECT_EQ(codes(status, now), Codes{"decoder_ended"});

	status = well(now);
	status.rings[0].silence = 6;
	EXPECT_EQ(codes(status, now), Codes{"decoder_silent"});

	status = well(now);
	metric(&status, RingMetric::Tables) = 0;
	EXPECT_EQ(codes(status, now), Codes{"no_table"});

	status = well(now);
	metric(&status, RingMetric::TablesFailed) = 1;
	EXPECT_EQ(codes(status, now), Codes{"only tables_failed"});
	metric(&status, RingMetric::TablesFailed) = 4;
	EXPECT_EQ(codes(status, now), Codes{"tables_failed"});

	status = well(now);
	status.stalled = 31;
	EXPECT_EQ(codes(status, now), Codes{"stalled"});

	status = well(now);
	metric(&status, RingMetric::RetainedLimit) = 1000;
	metric(&status, RingMetric::Retained) = 700;
	EXPECT_EQ(codes(status, now), Codes{});
	metric(&status, RingMetric::Retained) = 800;
	EXPECT_EQ(codes(status, now), Codes{"only retained_wal"});

	status = well(now);
	for (const auto &[warning, code] : {std::pair(RingWarning::NoStandbySlot, "only no_standby_slot"),
										std::pair(RingWarning::ReplayPaused, "replay_paused"),
										std::pair(RingWarning::ReplayDelayed, "only replay_delayed"),
										std::pair(RingWarning::NoReceiver, "only no_wal_receiver"),
										std::pair(RingWarning::NoExtension, "only no_extension"),
										std::pair(RingWarning::TableReplaced, "only table_replaced")})
	{
		metric(&status, RingMetric::Warnings) = static_cast<uint64_t>(warning);
		EXPECT_EQ(codes(status, now), Codes{code});
	}
	metric(&status, RingMetric::Ended) = 1;
	EXPECT_EQ(codes(status, now), Codes{"decoder_ended"});

	status = well(now);
	EXPECT_EQ(codes(status, now + seconds(16)), (Codes{"loop_stalled", "decoder_silent"}));
	EXPECT_TRUE(alive(status, now + seconds(59)));
	EXPECT_FALSE(alive(status, now + seconds(60)));
	status.starting = true;
	EXPECT_TRUE(alive(status, now + seconds(6000)));
}

TEST(Health, NamesNatsWhereItIsNatsAlone)
{
	auto now = Status::Clock::now();
	auto text = [&](bool files, const std::string &code, auto change) {
		Status status = well(now);

		status.files = files;
		status.queue = files ? "directory /x/main" : "stream siphon_main";
		change(&status);

		std::vector<Problem> problems = find_problems(status, now);

		EXPECT_EQ(codes(status, now), Codes{code});
		return problems.empty() ? "" : problems[0].what + "; " + problems[0].hint + "; " + problems[0].command;
	};
	auto both = [&](const std::string &code, const std::string &nats, auto change) {
		EXPECT_NE(text(false, code, change).find(nats), std::string::npos) << text(false, code, change);
		for (const char *word : {"NATS", "nats"})
			EXPECT_EQ(text(true, code, change).find(word), std::string::npos) << text(true, code, change);
	};

	both("starting", "connected to NATS yet", [](Status *status) { status->starting = true; });
	both("refused", "--stream-max-bytes", [](Status *status) { status->refusal = "full"; });
	both("resuming", "nats server report", [&](Status *status) {
		status->settled = false;
		status->resuming.step = "asks";
		status->resuming.since = now - seconds(6);
	});
	both("unsettled", "nats server report", [](Status *status) {
		status->settled = false;
		status->waiting_for = "an answer";
	});
}

TEST(Health, TellsResumingFromHanging)
{
	auto now = Status::Clock::now();
	Status status = well(now);

	status.settled = false;
	status.resuming.step = "reads what lies behind the checkpoint";
	status.resuming.since = now - seconds(2);
	EXPECT_EQ(codes(status, now), Codes{});
	EXPECT_EQ(resuming_text(status, now), "resuming: reads what lies behind the checkpoint, for 2 s");
	status.resuming.done = 30;
	EXPECT_EQ(resuming_text(status, now), "resuming: reads what lies behind the checkpoint, for 2 s, 30");
	status.resuming.total = 100;
	EXPECT_EQ(resuming_text(status, now + seconds(4)),
			  "resuming: reads what lies behind the checkpoint, for 6 s, 30 of 100");
	EXPECT_EQ(codes(status, now + seconds(4)), Codes{"resuming"});
	/* A step may take its time, but not for ever. */
	EXPECT_TRUE(alive(status, now + seconds(599)));
	EXPECT_FALSE(alive(status, now + seconds(600)));
	status.resuming.step = "";
	EXPECT_EQ(resuming_text(status, now), "");
	EXPECT_FALSE(alive(status, now + seconds(60)));
}

TEST(Health, NamesCopiesThatAreBehind)
{
	auto now = Status::Clock::now();
	Status status = well(now);

	status.stream.followers = {{"n1", false, true, 5}};
	EXPECT_EQ(codes(status, now), Codes{}) << "nobody was asked";
	status.stream.known = true;
	status.stream.name = "siphon_main";
	EXPECT_EQ(codes(status, now), Codes{"only replica_behind"});
	EXPECT_NE(find_problems(status, now)[0].what.find("siphon_main are not current: n1 (offline)"),
			  std::string::npos);
	status.stream.followers = {{"n1", true, false, 0}, {"n2", true, false, 0}};
	EXPECT_EQ(codes(status, now), Codes{});
}

TEST(Metrics, AreInPrometheusFormat)
{
	auto now = Status::Clock::now();
	Status status = well(now);

	status.tables.push_back({"public", "a \"quoted\\\n", {}, false});
	status.tables[0].traffic.packages = 12345678901234567;
	status.totals.publish_to_ack.counts[0] = 1;
	status.totals.publish_to_ack.counts[1] = 2;
	status.totals.publish_to_ack.sum_ns = 1500000000;

	std::string text = metrics_text(status, now, true);

	EXPECT_NE(text.find("# HELP siphon_packages_total Packages that the stream acknowledged.\n"
						"# TYPE siphon_packages_total counter\n"
						"siphon_packages_total{application=\"main\",schema=\"public\",table=\"a \\\"quoted\\\\\\n\"} "
						"12345678901234567\n"),
			  std::string::npos)
		<< text;
	EXPECT_NE(text.find("siphon_publish_to_ack_seconds_bucket{application=\"main\",le=\"+Inf\"} 3\n"
						"siphon_publish_to_ack_seconds_sum{application=\"main\"} 1.5\n"
						"siphon_publish_to_ack_seconds_count{application=\"main\"} 3\n"),
			  std::string::npos)
		<< text;
}

/* A metric of a ring that no list has, and no problem either, would be measured for nobody. */
TEST(Metrics, EachOfARingIsShown)
{
	auto now = Status::Clock::now();
	auto shown = [&](const Status &status) {
		return status_json(status, now, now) + metrics_text(status, now, true);
	};

	for (size_t i = 0; i < static_cast<size_t>(RingMetric::Count); i++)
	{
		Status status = well(now);
		RingStatus leader;

		leader.name = "snapshot-16384-0";
		leader.schema = "public";
		leader.table = "t";
		leader.metrics[static_cast<size_t>(RingMetric::SnapshotPhase)] = 2;
		leader.metrics[static_cast<size_t>(RingMetric::BlocksTotal)] = 1000;
		status.rings.push_back(leader);
		status.tables.push_back({"public", "t", {}, false});

		std::string before = shown(status);
		bool decoder = i < static_cast<size_t>(RingMetric::SnapshotPhase);

		status.rings[decoder ? 0 : 1].metrics[i] = 1;
		EXPECT_NE(shown(status), before) << "ring metric " << i;
	}
}

TEST(Metrics, TellOfStreamsAndOfHeldTables)
{
	auto now = Status::Clock::now();
	Status status = well(now);
	auto has = [&](const std::string &line, bool per_table = true) {
		return ("\n" + metrics_text(status, now, per_table)).find("\n" + line + "\n") != std::string::npos;
	};

	EXPECT_EQ(metrics_text(status, now, true).find("siphon_stream_"), std::string::npos) << "nothing is known of it";
	EXPECT_TRUE(has("siphon_holding_tables{application=\"main\",phase=\"catch-up\"} 0"));
	EXPECT_TRUE(has("siphon_catch_up_backlog_messages{application=\"main\"} 0"));
	EXPECT_TRUE(has("siphon_resuming_seconds{application=\"main\"} 0"));

	status.stream = {.known = true,
					 .name = "siphon_main",
					 .messages = 7,
					 .bytes = 700,
					 .replicas = 3,
					 .leader = "n1",
					 .followers = {{"n2", true, false, 0}, {"n3", false, false, 9}}};
	status.held_stream = {.known = true,
						  .name = "siphon_main_held",
						  .bytes = 5,
						  .max_bytes = 10,
						  .discard_new = true,
						  .max_age = 60,
						  .first_age = 2.5,
						  .leader = "",
						  .followers = {}};
	EXPECT_TRUE(has("siphon_stream_messages{application=\"main\",stream=\"events\"} 7"));
	EXPECT_TRUE(has("siphon_stream_bytes{application=\"main\",stream=\"held\"} 5"));
	EXPECT_TRUE(has("siphon_stream_limit_bytes{application=\"main\",stream=\"held\",discard=\"new\"} 10"));
	EXPECT_TRUE(has("siphon_stream_first_message_age_seconds{application=\"main\",stream=\"held\"} 2.5"));
	EXPECT_FALSE(has("siphon_stream_first_message_age_seconds{application=\"main\",stream=\"events\"} -1"));
	EXPECT_TRUE(has("siphon_stream_max_age_seconds{application=\"main\",stream=\"held\"} 60"));
	EXPECT_TRUE(has("siphon_stream_replicas{application=\"main\",stream=\"events\"} 3"));
	EXPECT_TRUE(has("siphon_stream_replicas_current{application=\"main\",stream=\"events\"} 2"));
	EXPECT_TRUE(has("siphon_stream_replicas_current{application=\"main\",stream=\"held\"} 1"));
	EXPECT_TRUE(has("siphon_stream_replica_lag{application=\"main\",stream=\"events\",replica=\"n3\"} 9"));
	status.stream.leader = "";
	EXPECT_TRUE(has("siphon_stream_replicas_current{application=\"main\",stream=\"events\"} 0"));

	status.holding = {{"public", "a", false, 5}, {"public", "b", true, 50, 1000}, {"public", "c", true, 20, 10}};
	EXPECT_TRUE(has("siphon_holding_tables{application=\"main\",phase=\"snapshot\"} 1"));
	EXPECT_TRUE(
		has("siphon_holding_seconds{application=\"main\",schema=\"public\",table=\"b\",phase=\"catch-up\"} 50"));
	EXPECT_TRUE(has("siphon_holding_seconds{application=\"main\",phase=\"catch-up\"} 50", false));
	EXPECT_TRUE(has("siphon_catch_up_backlog_messages{application=\"main\"} 1010"));
	status.resuming = {"asks", now - seconds(3), 0, 0};
	EXPECT_TRUE(has("siphon_resuming_seconds{application=\"main\"} 3"));

	std::string json = status_json(status, now, now);

	for (const char *part :
		 {"\"kind\":\"nats\"", "\"keeps_all\":true", "\"resuming\":{", "\"held_stream\":{",
		  "\"first_message_age_seconds\":2.5", "\"phase\":\"catch-up\"", "\"backlog_messages\":null"})
		EXPECT_NE(json.find(part), std::string::npos) << part << " in " << json;
}

TEST(PublishStats, CountsWhatIsStored)
{
	PublishStats traffic;
	auto now = PublishStats::Clock::now();
	MessageStats load;

	load.kind = MessageKind::Changes;
	load.table = traffic.table("public", "t");
	traffic.sent(1, load, 100, 10, 0, now);
	load.completes = true;
	load.events = 5;
	load.operations = {1, 2, 0, 1};
	load.first_commit = 1;
	load.last_commit = 2;
	traffic.sent(2, load, 100, 10, 5, now);
	traffic.sent(3, load, 100, 10, 5, now);
	EXPECT_EQ(traffic.totals().packages, 0u);

	traffic.stored(1, now + milliseconds(1));
	EXPECT_EQ(traffic.totals().raw_bytes, 100u);
	EXPECT_EQ(traffic.totals().packages, 0u);

	/* The third did not arrive, and comes again. */
	traffic.stored(2, now + milliseconds(2));
	traffic.forget_in_flight();
	traffic.stored(3, now + milliseconds(3));
	EXPECT_EQ(traffic.totals().packages, 1u);
	traffic.sent(3, load, 100, 10, 5, now);
	traffic.stored(3, now + milliseconds(4));
	EXPECT_EQ(traffic.totals().packages, 2u);

	const TableStats &table = traffic.tables().at({"public", "t"});

	EXPECT_EQ(table.events, (std::array<uint64_t, kOperations>{2, 4, 0, 2, 2, 0}));
	EXPECT_EQ(table.raw_bytes, 300u);
	EXPECT_EQ(table.body_bytes, 30u);
	EXPECT_EQ(table.last_commit, 2);
}

TEST(PublishStats, KeepsSoManyTables)
{
	PublishStats traffic;

	for (size_t i = 0; i < PublishStats::kTablesMax + 10; i++)
		traffic.table("public", std::to_string(i))->packages++;
	EXPECT_EQ(traffic.tables().size(), PublishStats::kTablesMax + 1);
	EXPECT_EQ(traffic.tables().at({"", "other tables"}).packages, 10u);
}

TEST(StatusHistory, TellsQuantiles)
{
	DurationCounts durations{};

	EXPECT_EQ(quantile(durations, 0.5), 0);
	for (int i = 0; i < 99; i++)
		durations.add(1000);
	durations.add(1000000);
	EXPECT_GT(quantile(durations, 0.5), 0.5e-6);
	EXPECT_LT(quantile(durations, 0.5), 1.1e-6);
	EXPECT_LT(quantile(durations, 0.99), 1.1e-6);
	EXPECT_GT(quantile(durations, 1), 0.5e-3);

	DurationCounts later = durations;

	later.add(5000);
	EXPECT_EQ(since(later, durations).sum_ns, 5000u);
	/* Another's, which began at 0. */
	EXPECT_EQ(since(durations, later).sum_ns, durations.sum_ns);
}

TEST(StatusHistory, KeepsAnHour)
{
	StatusHistory history;
	auto now = Status::Clock::now();

	for (size_t i = 0; i < StatusHistory::kSamples + 3; i++)
	{
		auto status = std::make_shared<Status>(well(now + i * StatusHistory::kInterval));

		status->totals.events[0] = 10 * i;
		history.put(status);
		/* Too soon. */
		history.put(std::make_shared<Status>(well(now + i * StatusHistory::kInterval + seconds(1))));
	}
	ASSERT_EQ(history.history().size(), StatusHistory::kSamples);
	EXPECT_DOUBLE_EQ(history.history().back().events_rate, 2);
}

/* The ring is shared memory: a name in it, and each metric, may be anything. */
TEST(Status, TakesAnything)
{
	auto now = Status::Clock::now();
	Status status = well(now);

	status.tables.push_back({"\xff\"\n", "\\<script>", {}, false});
	for (uint64_t &value : status.rings[0].metrics)
		value = UINT64_MAX;
	for (DurationCounts &durations : status.rings[0].durations)
		for (uint64_t &count : durations.counts)
			count = UINT64_MAX;

	std::string text = metrics_text(status, now, true);

	EXPECT_NE(text.find(R"(schema="�\"\n",table="\\<script>")"), std::string::npos);
	EXPECT_EQ(text.find('\xff'), std::string::npos);
	EXPECT_EQ(status_json(status, now, now).find('\xff'), std::string::npos);
	EXPECT_EQ(metrics_text(status, now, false).find("script"), std::string::npos);
}
