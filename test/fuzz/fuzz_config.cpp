/*
 * Fuzzes the configuration (libFuzzer): arguments, environment and a YAML file of both programs, and the texts that
 * name durations, sizes and servers. What is wrong must be refused with a message for people, and what is accepted
 * keeps within the bounds that the rest relies on.
 */
#include "fuzz.h"

#include <stdexcept>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "program/exit_codes.h"
#include "program/option_values.h"
#include "publisher/config/config.h"
#include "reader/compression.h"
#include "reader/subject.h"
#include "tools/tail_config.h"

using namespace siphon;

namespace {

enum Operation : uint8_t { kPublisher, kTail, kDuration, kBytes, kServers, kOperations };

const char *const kEnvironment[] = {"SIPHON_APPLICATION",
									"SIPHON_NATS_URL",
									"SIPHON_SUBJECT_PREFIX",
									"SIPHON_RING_DIRECTORY",
									"SIPHON_STREAM_REPLICAS",
									"SIPHON_STREAM_STORAGE",
									"SIPHON_STREAM_MAX_AGE",
									"SIPHON_STREAM_MAX_BYTES",
									"SIPHON_STREAM_DISCARD",
									"SIPHON_UPDATE_STREAM",
									"SIPHON_COMPRESSION_LEVEL",
									"SIPHON_MAX_IN_FLIGHT",
									"SIPHON_MAX_IN_FLIGHT_BYTES",
									"SIPHON_DRAIN_TIMEOUT",
									"SIPHON_ATTACH_TIMEOUT",
									"SIPHON_LOG_LEVEL",
									"SIPHON_TABLE",
									"SIPHON_FROM_START",
									"SIPHON_STOP_AT_END",
									"SIPHON_COUNT",
									"SIPHON_NATS_USER",
									"SIPHON_NATS_PASSWORD",
									"SIPHON_NATS_TOKEN"};

constexpr size_t kVariables = std::size(kEnvironment);
/* Nobody is asked to wait longer than JetStream can count. */
constexpr int64_t kLongest = INT64_MAX / 1000000;

void
require_servers(const std::string &text)
{
	std::vector<std::string> servers = parse_nats_url(text);

	REQUIRE(!servers.empty());
	for (const std::string &server : servers)
	{
		std::string shown = redact_nats_url(server);

		REQUIRE(!shown.empty() && shown.find('@') == std::string::npos);
	}
}

void
require_good(const Config &config)
{
	REQUIRE(dotted_name_valid(config.application, kApplicationMax - 1));
	REQUIRE(dotted_name_valid(config.subject_prefix, 200));
	require_servers(config.nats_url);
	REQUIRE(config.stream.replicas.value_or(1) >= 1 && config.stream.replicas.value_or(1) <= 5);
	REQUIRE(config.stream.max_bytes.value_or(0) <= uint64_t{INT64_MAX});
	REQUIRE(config.stream.max_age.value_or(std::chrono::milliseconds(0)).count() <= kLongest);
	REQUIRE(config.compression_level >= Compressor::kFastestLevel && config.compression_level <= Compressor::max_level());
	REQUIRE(config.max_in_flight >= 1 && config.max_in_flight <= 100000);
	REQUIRE(config.max_in_flight_bytes >= 1 && config.max_in_flight_bytes <= uint64_t{INT64_MAX});
	REQUIRE(config.drain_timeout.count() >= 0 && config.drain_timeout.count() <= kLongest);
	REQUIRE(config.attach_timeout.count() >= 0 && config.attach_timeout.count() <= kLongest);
}

void
require_good(const TailConfig &config)
{
	REQUIRE(dotted_name_valid(config.application, kApplicationMax - 1));
	require_servers(config.nats_url);
	REQUIRE(config.table.empty() || config.table.find('.') != std::string::npos);
	REQUIRE(!config.stop_at_end || config.from_start);
	REQUIRE(config.count <= uint64_t{INT64_MAX});
}

/* A file with this text, and its path. */
std::string
make_file(const std::string &text)
{
	static int file = memfd_create("config", 0);

	REQUIRE(file >= 0 && ftruncate(file, 0) == 0);
	REQUIRE(pwrite(file, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
	return "/proc/self/fd/" + std::to_string(file);
}

/* Arguments, variables, and the text of the file, of which it depends on the input whether it is used. */
template <typename Read>
void
configure(FuzzInput *input, const char *program, Read read)
{
	std::vector<std::string> arguments = {program};
	std::vector<const char *> set;
	std::vector<const char *> argv;

	for (size_t count = input->byte() % 6; count > 0; count--)
	{
		std::string argument = input->text();

		/* There are files that do not end. */
		if (argument.find("config") == std::string::npos)
			arguments.push_back(argument);
	}
	for (size_t count = input->byte() % 4; count > 0; count--)
	{
		set.push_back(kEnvironment[input->byte() % kVariables]);
		setenv(set.back(), input->text().c_str(), 1);
	}
	if (input->byte() & 1)
	{
		arguments.push_back("--config");
		arguments.push_back(make_file(input->text()));
	}
	for (const std::string &argument : arguments)
		argv.push_back(argument.c_str());
	try
	{
		auto config = read(static_cast<int>(argv.size()), argv.data());

		if (config)
			require_good(*config);
	}
	catch (const Fatal &fatal)
	{
		REQUIRE(fatal.code == ExitCode::Usage && fatal.what()[0] != '\0');
	}
	for (const char *name : set)
		unsetenv(name);
}

void
add_options(FuzzSeed *seed, const std::vector<std::string> &arguments,
			const std::vector<std::pair<size_t, std::string>> &environment, const std::string &yaml)
{
	seed->byte(arguments.size());
	for (const std::string &argument : arguments)
		seed->text(argument);
	seed->byte(environment.size());
	for (const auto &[variable, value] : environment)
		seed->byte(variable).text(value);
	seed->byte(yaml.empty() ? 0 : 1);
	if (!yaml.empty())
		seed->text(yaml);
}

void
write_seeds(const std::string &corpus)
{
	FuzzSeed seeds[5];

	add_options(&seeds[0].byte(kPublisher),
				{"--application", "shop.eu", "--nats-url=nats://a:4222,tls://u:p@[::1]:4223/", "--stream-replicas=3",
				 "--update-stream"},
				{{6, "7d"}, {7, "100GB"}, {13, "100ms"}}, "");
	add_options(&seeds[1].byte(kPublisher), {"--max-in-flight", "16", "--stream-storage=memory"}, {{15, "debug"}},
				"application: main\nmax_in_flight_bytes: 64MB\n\"stream_discard\": new # the last\nlog_level: error\n"
				"ring_directory: '/dev/shm/siphon'\ncompression_level: 3\nupdate_stream: true\n");
	add_options(&seeds[2].byte(kPublisher), {}, {{9, "true"}, {10, "0"}},
				"a: [1, &x {b: *x}]\n? !!str >-\n  c\n: |\n d\n");
	add_options(&seeds[3].byte(kTail), {"--table=public.issues", "--from-start", "--count", "10"}, {{18, "1"}}, "");
	add_options(&seeds[4].byte(kTail), {"--help"}, {}, "");
	for (size_t i = 0; i < std::size(seeds); i++)
		seeds[i].write(corpus, "options-" + std::to_string(i));

	for (const char *text : {"10s", "5min", "100ms", "7d", "9223372036854h"})
		FuzzSeed().byte(kDuration).text(text).write(corpus, std::string("duration-") + text);
	for (const char *text : {"64MB", "1KiB", "8388607TB", "0"})
		FuzzSeed().byte(kBytes).text(text).write(corpus, std::string("bytes-") + text);
	FuzzSeed().byte(kServers).text("nats://u:p@h:1,tls://[::1]:4222/").write(corpus, "servers");
}

/* These throw what the command line expects of them. */
template <typename Parse>
void
refuse_or(Parse parse)
{
	try
	{
		parse();
	}
	catch (const std::invalid_argument &error)
	{
		REQUIRE(error.what()[0] != '\0');
	}
}

} // namespace

extern "C" int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	std::string corpus = fuzz_corpus(*argc, *argv);

	if (!corpus.empty())
		write_seeds(corpus);
	return 0;
}

extern "C" int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput input(data, size);

	while (input.more())
	{
		switch (input.byte() % kOperations)
		{
			case kPublisher:
				configure(&input, "siphon-publisher", read_config);
				break;
			case kTail:
				configure(&input, "siphon-tail", read_tail_config);
				break;
			case kDuration:
				refuse_or([&] {
					int64_t duration = parse_duration(input.text()).count();

					REQUIRE(duration >= 0 && duration <= kLongest);
				});
				break;
			case kBytes:
				refuse_or([&] { REQUIRE(parse_bytes(input.text()) <= uint64_t{INT64_MAX}); });
				break;
			case kServers:
				refuse_or([&] { require_servers(input.text()); });
				break;
		}
	}
	return 0;
}
