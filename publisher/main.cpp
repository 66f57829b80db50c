/*
 * siphon-publisher: one process per application, beside the PostgreSQL server. Puts the parts together,
 * and turns the one line of a Fatal and its number into the end of the process.
 */
#include <atomic>
#include <csignal>
#include <cstring>
#include <memory>

#include "program/exit_codes.h"
#include "program/log.h"
#include "publisher/check.h"
#include "publisher/config/config.h"
#include "publisher/core/publisher.h"
#include "publisher/http/http_server.h"
#include "publisher/source/ring_directory.h"
#include "publisher/stream/file/file_stream.h"
#include "publisher/stream/jetstream/jetstream_stream.h"
#include "publisher/watch/status_history.h"
#include "reader/subject.h"

namespace siphon {

static std::atomic<int> stop_requests;
static Wakeup *stop_wakeup;

static void
handle_stop(int)
{
	stop_requests.fetch_add(1);
	stop_wakeup->notify();
}

static void
handle_signals(Wakeup *wakeup)
{
	struct sigaction action = {};

	stop_wakeup = wakeup;
	action.sa_handler = handle_stop;
	sigemptyset(&action.sa_mask);
	action.sa_flags = SA_RESTART;
	sigaction(SIGTERM, &action, nullptr);
	sigaction(SIGINT, &action, nullptr);
	/* A log that nobody reads any more is no reason to die; nor is a file that must not become larger. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

/* Where the stream is, before anybody was there. */
static std::string
destination(const Config &config)
{
	return config.stream_url.empty() ? "NATS at " + redact_nats_url(config.nats_url) : config.stream_url;
}

/* `welcome`: NATS had let us in before. */
static std::unique_ptr<Stream>
make_stream(const Config &config, bool welcome, Wakeup *wakeup)
{
	std::string root = subject_root(config.subject_prefix, config.application);

	if (config.stream_url.empty())
	{
		StreamPlan plan{stream_name(config.application), config.application, root, config.stream, config.update_stream};

		return std::make_unique<JetStream>(config.nats_url, config.nats_login, "siphon-publisher " + config.application,
										   welcome, config.jetstream_api, plan, wakeup, &stop_requests);
	}

	FileOptions options;
	std::string directory = parse_file_url(config.stream_url, &options);

	if (config.stream.max_age || config.stream.max_bytes || config.stream.discard)
		throw Fatal(ExitCode::Usage, "--stream " + config.stream_url +
										 " is a directory, in which all messages stay: --stream-max-age, "
										 "--stream-max-bytes and --stream-discard are for NATS");
	return std::make_unique<FileStream>(directory, options, config.application, root, wakeup);
}

static int
publish(int argc, char **argv)
{
	/* Before anything else, and never destroyed: a signal may come at any time. */
	static Wakeup wakeup;

	handle_signals(&wakeup);

	bool checks = argc > 1 && strcmp(argv[1], "check") == 0;
	std::optional<Config> config = read_config(argc - (checks ? 1 : 0), argv + (checks ? 1 : 0));

	if (!config)
		return static_cast<int>(ExitCode::Clean);
	log_open(config->log_level, config->log_format, config->application);
	if (!config->ring_group.empty())
		use_ring_group(config->ring_group);
	if (checks)
		return static_cast<int>(check(*config) ? ExitCode::Clean : ExitCode::Unexpected);

	StatusHistory history;
	auto starting = std::make_shared<Status>();

	starting->application = config->application;
	starting->ring_directory = config->ring_directory;
	starting->queue = destination(*config);
	starting->files = !config->stream_url.empty();
	history.put(starting);

	RingDirectory directory(config->ring_directory, config->application);
	HttpServer http(*config, &history);

	directory.announce(http.url());

	/* NATS that shuts its door to a publisher which it had let in may open it again, and so this goes on as after a restart. */
	for (bool welcome = false;; welcome = true)
	{
		try
		{
			std::unique_ptr<Stream> stream = make_stream(*config, welcome, &wakeup);
			Publisher publisher(*config, &directory, stream.get(), &wakeup, &stop_requests, &history);

			publisher.run();
			return static_cast<int>(ExitCode::Clean);
		}
		catch (const LoginRefused &line)
		{
			spdlog::error("{}; trying again until it lets us in", line.what());
			history.put(starting);
		}
	}
}

} // namespace siphon

int
main(int argc, char **argv)
{
	try
	{
		siphon::log_open("info");
		return siphon::publish(argc, argv);
	}
	catch (const siphon::Fatal &fatal)
	{
		spdlog::log(fatal.code == siphon::ExitCode::Clean ? spdlog::level::info : spdlog::level::err, "{}",
					fatal.what());
		return static_cast<int>(fatal.code);
	}
	catch (const std::exception &error)
	{
		spdlog::error("{}", error.what());
		return static_cast<int>(siphon::ExitCode::Unexpected);
	}
}
