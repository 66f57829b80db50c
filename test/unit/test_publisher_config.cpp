/* The configuration: which source wins, what is refused and in what words, and the units. */
#include "program/exit_codes.h"
#include "program/option_values.h"
#include "publisher/config/config.h"
#include "tools/tail_config.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <unistd.h>

using namespace siphon;
using std::chrono::milliseconds;

namespace {

class ConfigTest : public ::testing::Test
{
protected:
	void SetUp() override
	{
		for (char **entry = environ; *entry != nullptr; entry++)
			ASSERT_NE(std::string(*entry).rfind("SIPHON_", 0), 0u) << "set in the environment of the test: " << *entry;
		path = ::testing::TempDir() + "siphon-config-" + std::to_string(getpid()) + ".yaml";
	}
	void TearDown() override
	{
		for (const std::string &name : names)
			unsetenv(name.c_str());
		std::remove(path.c_str());
	}

	void environment(const std::string &name, const std::string &value)
	{
		names.push_back(name);
		setenv(name.c_str(), value.c_str(), 1);
	}
	void file(const std::string &text) { std::ofstream(path) << text; }

	Config read(std::vector<const char *> arguments)
	{
		arguments.insert(arguments.begin(), "siphon-publisher");
		std::optional<Config> config = read_config(static_cast<int>(arguments.size()), arguments.data());

		EXPECT_TRUE(config);
		return config.value_or(Config());
	}
	Config read_with_file(std::vector<const char *> arguments)
	{
		arguments.push_back("--config");
		arguments.push_back(path.c_str());
		return read(arguments);
	}
	/* The line that a refusal prints; one line, exit code 2. */
	std::string refusal(std::vector<const char *> arguments)
	{
		arguments.insert(arguments.begin(), "siphon-publisher");
		try
		{
			read_config(static_cast<int>(arguments.size()), arguments.data());
		}
		catch (const Fatal &fatal)
		{
			EXPECT_EQ(fatal.code, ExitCode::Usage);
			EXPECT_EQ(std::string(fatal.what()).find('\n'), std::string::npos) << fatal.what();
			return fatal.what();
		}
		ADD_FAILURE() << "not refused";
		return "";
	}

	std::string path;
	std::vector<std::string> names;
};

TEST_F(ConfigTest, Defaults)
{
	Config config = read({});

	EXPECT_EQ(config.application, "main");
	EXPECT_EQ(config.ring_directory, "/dev/shm/siphon");
	EXPECT_EQ(config.nats_url, "nats://127.0.0.1:4222");
	EXPECT_EQ(config.subject_prefix, "siphon");
	EXPECT_EQ(config.compression_level, 1);
	EXPECT_EQ(config.max_in_flight, 256u);
	EXPECT_EQ(config.max_in_flight_bytes, 64u * 1024 * 1024);
	EXPECT_EQ(config.drain_timeout, milliseconds(10000));
	EXPECT_EQ(config.attach_timeout, milliseconds(0));
	EXPECT_FALSE(config.update_stream);
	/* What nobody asked for is not compared with an existing stream. */
	EXPECT_FALSE(config.stream.replicas || config.stream.storage || config.stream.max_age ||
				 config.stream.max_bytes || config.stream.discard);
}

TEST_F(ConfigTest, FlagBeatsEnvironmentBeatsFile)
{
	file("nats_url: nats://file:1\napplication: file\ncompression_level: 3\n");
	EXPECT_EQ(read_with_file({}).nats_url, "nats://file:1");
	EXPECT_EQ(read_with_file({}).compression_level, 3);

	environment("SIPHON_NATS_URL", "nats://environment:2");
	EXPECT_EQ(read_with_file({}).nats_url, "nats://environment:2");
	EXPECT_EQ(read_with_file({}).application, "file");

	Config config = read_with_file({"--nats-url", "nats://flag:3"});

	EXPECT_EQ(config.nats_url, "nats://flag:3");
	EXPECT_EQ(config.application, "file");
	EXPECT_EQ(config.compression_level, 3);
}

TEST_F(ConfigTest, SwitchesFollowTheSameOrder)
{
	file("update_stream: true\n");
	EXPECT_TRUE(read_with_file({}).update_stream);
	environment("SIPHON_UPDATE_STREAM", "false");
	EXPECT_FALSE(read_with_file({}).update_stream);
	EXPECT_TRUE(read_with_file({"--update-stream"}).update_stream);
}

TEST_F(ConfigTest, EveryOptionReachesTheFileAndTheEnvironment)
{
	file("ring_directory: /r\nsubject_prefix: p.q\nstream_replicas: 3\nstream_storage: memory\n"
		 "stream_max_age: 7d\nstream_max_bytes: 10GB\nstream_discard: new\nmax_in_flight: 5\n"
		 "max_in_flight_bytes: 1MB\ndrain_timeout: 2s\nattach_timeout: 1min\nlog_level: debug\n");
	Config config = read_with_file({});

	EXPECT_EQ(config.ring_directory, "/r");
	EXPECT_EQ(config.subject_prefix, "p.q");
	EXPECT_EQ(config.stream.replicas, 3);
	EXPECT_EQ(config.stream.storage, "memory");
	EXPECT_EQ(config.stream.max_age, milliseconds(7 * 86400 * 1000ll));
	EXPECT_EQ(config.stream.max_bytes, uint64_t{10} << 30);
	EXPECT_EQ(config.stream.discard, "new");
	EXPECT_EQ(config.max_in_flight, 5u);
	EXPECT_EQ(config.max_in_flight_bytes, 1u << 20);
	EXPECT_EQ(config.drain_timeout, milliseconds(2000));
	EXPECT_EQ(config.attach_timeout, milliseconds(60000));
	EXPECT_EQ(config.log_level, "debug");

	environment("SIPHON_STREAM_MAX_AGE", "1h");
	environment("SIPHON_CONFIG", path);
	EXPECT_EQ(read({}).stream.max_age, milliseconds(3600 * 1000));
	EXPECT_EQ(read({}).max_in_flight, 5u);
}

TEST_F(ConfigTest, RefusalsNameTheirCause)
{
	auto names_it = [](const std::string &line, const char *part) {
		EXPECT_NE(line.find(part), std::string::npos) << line;
	};

	names_it(refusal({"--no-such-option"}), "--no-such-option");
	names_it(refusal({"stray"}), "stray");
	names_it(refusal({"--nats-url", "http://x"}), "--nats-url");
	names_it(refusal({"--nats-url", "nats://x:port"}), "--nats-url");
	names_it(refusal({"--application", "a b"}), "a b");
	names_it(refusal({"--subject-prefix", "a.>"}), "a.>");
	names_it(refusal({"--compression-level", "99"}), "--compression-level");
	names_it(refusal({"--compression-level", "-8"}), "--compression-level");
	names_it(refusal({"--max-in-flight", "0"}), "--max-in-flight");
	names_it(refusal({"--max-in-flight-bytes", "0"}), "--max-in-flight-bytes");
	names_it(refusal({"--stream-replicas", "6"}), "--stream-replicas");
	names_it(refusal({"--stream-storage", "tape"}), "tape");
	names_it(refusal({"--drain-timeout", "soon"}), "--drain-timeout");
	names_it(refusal({"--drain-timeout"}), "--drain-timeout");
	names_it(refusal({"--log-level", "loud"}), "loud");
	names_it(refusal({"--config", "/no/such/file"}), "/no/such/file");
}

TEST_F(ConfigTest, SecretsComeFromFilesAndEnvironment)
{
	file("nats_user: siphon\nnats_password: \"from file\"\n");
	EXPECT_EQ(read_with_file({}).nats_login.password, "from file");
	environment("SIPHON_NATS_PASSWORD", "from environment");
	EXPECT_EQ(read_with_file({}).nats_login.password, "from environment");
	unsetenv("SIPHON_NATS_PASSWORD");
	environment("SIPHON_NATS_TOKEN", "t");
	EXPECT_EQ(read({}).nats_login.token, "t");
	unsetenv("SIPHON_NATS_TOKEN");

	for (std::vector<const char *> arguments :
		 {std::vector<const char *>{"--nats-password", "hush"}, {"--nats-token=hush"}, {"--nats-url", "nats://u:hush@h"},
		  {"--nats-url=nats://hush@h"}})
	{
		std::string line = refusal(arguments);

		EXPECT_NE(line.find("everybody"), std::string::npos) << line;
		EXPECT_EQ(line.find("hush"), std::string::npos) << line;
	}
	/* A comma in a password makes a part of it look like a host. */
	environment("SIPHON_NATS_URL", "nats://u:hu,sh@h");
	EXPECT_EQ(refusal({}).find("hu"), std::string::npos);
}

TEST_F(ConfigTest, OneWayToLogIn)
{
	auto names_it = [](const std::string &line, const char *part) {
		EXPECT_NE(line.find(part), std::string::npos) << line;
	};

	names_it(refusal({"--nats-creds", "a", "--nats-nkey-seed", "b"}), "--nats-creds and --nats-nkey-seed");
	names_it(refusal({"--nats-cert", "a"}), "--nats-key");
	names_it(refusal({"--nats-key", "a"}), "--nats-cert");
	names_it(refusal({"--nats-user", "a"}), "--nats-password-file");
	names_it(refusal({"--nats-password-file", "a"}), "--nats-user");
	environment("SIPHON_NATS_URL", "nats://u:p@h");
	names_it(refusal({"--nats-token-file", "a"}), "--nats-url");
}

TEST_F(ConfigTest, SubjectsOfJetStreamAndOfAnswers)
{
	EXPECT_EQ(read({}).jetstream_api, "$JS.API.");
	EXPECT_EQ(read({}).nats_login.inbox_prefix, "");
	EXPECT_EQ(read({"--jetstream-domain", "hub"}).jetstream_api, "$JS.hub.API.");
	EXPECT_EQ(read({"--jetstream-api-prefix", "from.hub"}).jetstream_api, "from.hub.");
	EXPECT_EQ(read({"--jetstream-api-prefix", "$JS.hub.API."}).jetstream_api, "$JS.hub.API.");
	EXPECT_EQ(read({"--nats-inbox-prefix", "_INBOX_siphon.main"}).nats_login.inbox_prefix, "_INBOX_siphon.main");

	for (const char *bad : {"", ".", "a.*", "a.>", ".a", "a..b", "a..", "a b", "a\tb"})
	{
		EXPECT_NE(refusal({"--jetstream-api-prefix", bad}).find("--jetstream-api-prefix"), std::string::npos) << bad;
		EXPECT_NE(refusal({"--nats-inbox-prefix", bad}).find("--nats-inbox-prefix"), std::string::npos) << bad;
	}
	EXPECT_NE(refusal({"--jetstream-domain", "a.b"}).find("has no dots"), std::string::npos);

	/* Two names for one thing, wherever they come from. */
	const char *both = "--jetstream-domain and --jetstream-api-prefix";

	EXPECT_NE(refusal({"--jetstream-domain", "hub", "--jetstream-api-prefix", "a"}).find(both), std::string::npos);
	environment("SIPHON_JETSTREAM_DOMAIN", "hub");
	EXPECT_NE(refusal({"--jetstream-api-prefix", "a"}).find(both), std::string::npos);
	EXPECT_EQ(read({"--jetstream-domain", "edge"}).jetstream_api, "$JS.edge.API.");
	file("jetstream_domain: file\nnats_inbox_prefix: _I\n");
	EXPECT_EQ(read_with_file({}).jetstream_api, "$JS.hub.API.");
	EXPECT_EQ(read_with_file({}).nats_login.inbox_prefix, "_I");
	file("jetstream_api_prefix: a\n");
	EXPECT_NE(refusal({"--config", path.c_str()}).find(both), std::string::npos);
}

TEST_F(ConfigTest, MonitoringPorts)
{
	EXPECT_EQ(read({"--nats-monitor-url", "http://a:8222,http://[::1]:8222"}).nats_monitor_url,
			  "http://a:8222,http://[::1]:8222");
	for (const char *bad : {"", "a:8222", "https://a:8222", "http://", "http://a:8222/jsz", "http://a:8222,"})
		EXPECT_NE(refusal({"--nats-monitor-url", bad}).find("--nats-monitor-url"), std::string::npos) << bad;
}

TEST_F(ConfigTest, AnotherPlaceForTheStream)
{
	EXPECT_EQ(read({}).stream_url, "");
	EXPECT_FALSE(read({}).take_over);
	EXPECT_EQ(read({"--stream", "file:/srv/export"}).stream_url, "file:/srv/export");
	EXPECT_TRUE(read({"--stream", "file:/srv/export", "--take-over"}).take_over);
	file("stream: file:out\ntake_over: true\n");
	EXPECT_EQ(read_with_file({}).stream_url, "file:out");
	EXPECT_TRUE(read_with_file({}).take_over);

	EXPECT_EQ(parse_stream_url("file:/srv/export"), "/srv/export");
	EXPECT_EQ(parse_stream_url("file:///srv/export"), "/srv/export");
	EXPECT_EQ(parse_stream_url("file:export"), "export");
	for (const char *bad : {"", "file", "file:", "file://", "file://host/x", "/srv/export", "redis:x", "nats://h"})
		EXPECT_THROW(parse_stream_url(bad), std::invalid_argument) << bad;

	EXPECT_NE(refusal({"--stream", "/srv/export"}).find("--stream"), std::string::npos);
	EXPECT_NE(refusal({"--stream", "file:x", "--nats-url", "nats://h"}).find("--nats-url"), std::string::npos);
	EXPECT_NE(refusal({"--stream", "file:x", "--nats-creds", "c"}).find("--nats-"), std::string::npos);
	EXPECT_NE(refusal({"--stream", "file:x", "--nats-inbox-prefix", "i"}).find("--nats-"), std::string::npos);
	EXPECT_NE(refusal({"--stream", "file:x", "--jetstream-domain", "d"}).find("--jetstream-"), std::string::npos);
	EXPECT_NE(refusal({"--stream", "file:x", "--stream-replicas", "3"}).find("--stream-replicas"), std::string::npos);
}

TEST_F(ConfigTest, FileErrorsNameTheKey)
{
	auto with = [this](const std::string &text, const char *part) {
		file(text);
		std::string line = refusal({"--config", path.c_str()});

		EXPECT_NE(line.find(part), std::string::npos) << line;
		EXPECT_NE(line.find(path), std::string::npos) << line;
	};

	with("nats_ulr: x\n", "nats_ulr");
	with("nats-url: nats://x\n", "nats-url");
	with("config: x\n", "config");
	with("nats-password: x\n", "nats-password");
	with("help: true\n", "help");
	with("application: [a, b]\n", "application");
	with("max_in_flight: many\n", "many");
	with("update_stream: perhaps\n", "update-stream");
	with("- a\n", "key: value");
	with("a: [\n", "");
	/* Wrong in the file is wrong, also where a flag decides. */
	file("nats_ulr: x\n");
	refusal({"--nats-url", "nats://x", "--config", path.c_str()});
	/* An empty file is none. */
	file("# nothing\n");
	EXPECT_EQ(read_with_file({}).application, "main");
}

TEST_F(ConfigTest, BadEnvironmentIsRefused)
{
	environment("SIPHON_MAX_IN_FLIGHT", "lots");
	EXPECT_NE(refusal({}).find("lots"), std::string::npos);
}

TEST(ConfigTail, Options)
{
	std::vector<const char *> arguments = {"siphon-tail", "--table", "public.issues", "--stop-at-end", "--count", "3"};
	std::optional<TailConfig> config = read_tail_config(static_cast<int>(arguments.size()), arguments.data());

	ASSERT_TRUE(config);
	EXPECT_EQ(config->table, "public.issues");
	EXPECT_TRUE(config->from_start);
	EXPECT_EQ(config->count, 3u);
	arguments = {"siphon-tail", "--stream", "file:/srv/export"};
	EXPECT_EQ(read_tail_config(3, arguments.data())->stream_url, "file:/srv/export");
	arguments = {"siphon-tail", "--jetstream-domain", "hub", "--nats-inbox-prefix", "_I"};
	config = read_tail_config(5, arguments.data());
	EXPECT_EQ(config->jetstream_api, "$JS.hub.API.");
	EXPECT_EQ(config->nats_login.inbox_prefix, "_I");
	for (const char *bad : {"issues", ".issues", "public."})
	{
		arguments = {"siphon-tail", "--table", bad};
		EXPECT_THROW(read_tail_config(3, arguments.data()), Fatal) << bad;
	}
}

TEST(ConfigUnits, Durations)
{
	EXPECT_EQ(parse_duration("0"), milliseconds(0));
	EXPECT_EQ(parse_duration("15"), milliseconds(15000));
	EXPECT_EQ(parse_duration("250ms"), milliseconds(250));
	EXPECT_EQ(parse_duration("10s"), milliseconds(10000));
	EXPECT_EQ(parse_duration("5min"), milliseconds(300000));
	EXPECT_EQ(parse_duration("2h"), milliseconds(7200000));
	EXPECT_EQ(parse_duration("7d"), milliseconds(604800000));
	for (const char *bad : {"", "s", "-1s", "1.5s", "1 s", "1y", "10ss", "99999999999999999999", "300000d"})
		EXPECT_THROW(parse_duration(bad), std::invalid_argument) << bad;
}

TEST(ConfigUnits, Sizes)
{
	EXPECT_EQ(parse_bytes("0"), 0u);
	EXPECT_EQ(parse_bytes("512"), 512u);
	EXPECT_EQ(parse_bytes("4kB"), 4096u);
	EXPECT_EQ(parse_bytes("64MB"), 64u << 20);
	EXPECT_EQ(parse_bytes("64MiB"), 64u << 20);
	EXPECT_EQ(parse_bytes("2TB"), uint64_t{2} << 40);
	for (const char *bad : {"", "MB", "-1", "1.5GB", "1 MB", "1m", "9999999999TB"})
		EXPECT_THROW(parse_bytes(bad), std::invalid_argument) << bad;
}

TEST(ConfigUnits, NatsUrls)
{
	EXPECT_EQ(parse_nats_url("nats://a:4222,tls://b,c:1").size(), 3u);
	EXPECT_EQ(redact_nats_url("nats://user:se:cr@et@a:4222,nats://token@b/"), "a:4222,b");
	EXPECT_EQ(redact_nats_url("nats://[::1]:4222"), "[::1]:4222");
	for (const char *bad : {"", "nats://", "nats://:4222", "http://a", "a:0", "a:65536", "a:x", "a,,b", "a b", "a:1/x"})
		EXPECT_THROW(parse_nats_url(bad), std::invalid_argument) << bad;
}

} // namespace
