/* See config.h. */
#include "publisher/config/config.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "program/command_line.h"
#include "program/exit_codes.h"
#include "program/option_values.h"
#include "reader/compression.h"
#include "reader/versions.h"

namespace siphon {

namespace {

/* Of a list of them. */
void
parse_monitor_url(const std::string &text)
{
	for (size_t start = 0; start <= text.size();)
	{
		size_t comma = std::min(text.find(',', start), text.size());
		std::string url = text.substr(start, comma - start);

		if (url.rfind("http://", 0) != 0 || url.size() == strlen("http://") ||
			url.find('/', strlen("http://")) != std::string::npos)
			throw std::invalid_argument("\"" + url + "\" is not of the form http://host:port");
		start = comma + 1;
	}
}

void
check_listen(const std::string &text)
{
	std::string host;
	int port;

	if (text != "off")
		split_listen(text, &host, &port);
}

void
check_access(const HttpAccess &access)
{
	if (access.certificate.empty() != access.key.empty())
		throw Fatal(ExitCode::Usage, "--http-cert and --http-key belong together: give both");
	if (access.user.empty() != (access.password.empty() && access.password_file.empty()))
		throw Fatal(ExitCode::Usage, "--http-user and its password belong together: give --http-user, and "
									 "--http-password-file or SIPHON_HTTP_PASSWORD");
	if (!access.password.empty() && !access.password_file.empty())
		throw Fatal(ExitCode::Usage, "there is a password, and --http-password-file: give one of them");
}

} // namespace

std::optional<Config>
read_config(int argc, const char *const *argv)
{
	Config config;
	std::string file;
	bool print = false;
	CommandLine line("siphon-publisher", library_versions(),
					 "Drains the ring of one Siphon application and publishes what it holds to NATS JetStream,\n"
					 "exactly once and in order. Runs in the foreground, logs to stderr, stops on SIGTERM or SIGINT,\n"
					 "and waits for a server or a broker that is not there yet.");

	line.group("What to publish, and where");
	line.option("config", "FILE", "", "YAML file with any of these options, one \"key: value\" each",
				[&](const std::string &text) { file = text; });
	line.option("ring-directory", "DIR", config.ring_directory.c_str(), "The server's siphon.ring_directory",
				take_text(&config.ring_directory));
	line.option("ring-group", "GROUP", "", "The server's siphon.ring_group, where it runs as another user",
				take_text(&config.ring_group));
	add_stream_options(&line, "Write the stream to files in this directory, without NATS", &config);

	line.option(
		"nats-monitor-url", "URL", "",
		"For the check: http://host:port of each node's monitoring port, separated by commas, to compare their copies",
		[&](const std::string &text) {
			parse_monitor_url(text);
			config.nats_monitor_url = text;
		});

	line.group("The stream (used when it is made; one that exists is compared, and differences are reported)");
	line.option("stream-replicas", "N", "", "Copies in the NATS cluster, 1 to 5",
				[&](const std::string &text) { config.stream.replicas = static_cast<int>(parse_integer(text, 1, 5)); });
	line.option("stream-storage", "KIND", "", "file or memory", [&](const std::string &text) {
		config.stream.storage = parse_choice(text, {"file", "memory"});
	});
	line.option("stream-max-age", "DURATION", "", "Drop messages older than this, like 7d; 0: never",
				[&](const std::string &text) { config.stream.max_age = parse_duration(text); });
	line.option("stream-max-bytes", "SIZE", "", "Limit of the stream's size, like 100GB; 0: none",
				[&](const std::string &text) { config.stream.max_bytes = parse_bytes(text); });
	line.option("stream-discard", "WHICH", "",
				"What gives way at the limit: old (messages are dropped) or new (publishing waits)",
				[&](const std::string &text) {
					config.stream.discard = parse_choice(text, {"old", "new"});
				});
	line.flag("update-stream", "Change an existing stream to these settings", &config.update_stream);
	line.flag(
		"take-over",
		"Where the stream is another database's: publish to it from now on, and keep the other one out; consumers "
		"get all tables anew",
		&config.take_over);

	line.group("How to publish");
	line.option("compression-level", "N", "1", "zstd level; below 0: faster, and larger; 0: don't compress",
				[&](const std::string &text) {
					config.compression_level =
						static_cast<int>(parse_integer(text, Compressor::kFastestLevel, Compressor::max_level()));
				});
	line.option("max-in-flight", "N", "256", "Messages sent and not yet acknowledged", [&](const std::string &text) {
		config.max_in_flight = static_cast<uint64_t>(parse_integer(text, 1, 100000));
	});
	line.option("max-in-flight-bytes", "SIZE", "64MB", "Their size", [&](const std::string &text) {
		config.max_in_flight_bytes = parse_bytes(text);
		if (config.max_in_flight_bytes == 0)
			throw std::invalid_argument("\"" + text + "\" is not a size above 0");
	});

	line.group("Running");
	line.option("drain-timeout", "DURATION", "10s", "When stopping, wait this long for acknowledgements",
				[&](const std::string &text) { config.drain_timeout = parse_duration(text); });
	line.option("attach-timeout", "DURATION", "0", "Give up when there is no ring for this long; 0: never",
				[&](const std::string &text) { config.attach_timeout = parse_duration(text); });
	line.option("http-listen", "HOST:PORT", config.http_listen.c_str(),
				"Where /metrics, /healthz, /readyz, /status and a page for people are; port 0: any; off: nowhere",
				[&](const std::string &text) {
					check_listen(text);
					config.http_listen = text;
					config.http_listen_set = true;
				});
	line.option("http-cert", "FILE", "", "PublishAck over TLS, with this certificate in PEM format",
				take_text(&config.http_access.certificate));
	line.option("http-key", "FILE", "", "Its private key", take_text(&config.http_access.key));
	line.option("http-user", "NAME", "", "PublishAck only to this user; /healthz and /readyz to everybody",
				take_text(&config.http_access.user));
	line.option("http-password-file", "FILE", "", "The password; or set SIPHON_HTTP_PASSWORD",
				take_text(&config.http_access.password_file));
	line.secret("http-password", take_text(&config.http_access.password));
	line.option("table-metrics", "on|off", "on", "Label metrics by table; off where there are thousands",
				[&](const std::string &text) {
					config.table_metrics = parse_choice(text, {"on", "off"}) == "on";
				});
	line.option("log-level", "LEVEL", "info", "debug, info, warning or error", [&](const std::string &text) {
		config.log_level = parse_choice(text, {"debug", "info", "warning", "error"});
	});
	line.option("log-format", "FORMAT", "text",
				"text, or json: an object a line, with time, level, application, message",
				[&](const std::string &text) {
					config.log_format = parse_choice(text, {"text", "json"});
				});

	line.flag("print-config",
			  "Print what these options, the environment and the file come to, without secrets, and exit", &print);

	line.footer(
		"\"siphon-publisher check\", with the same options, looks at rings, server, NATS and clocks, changes nothing,\n"
		"and says what is wrong and what mends it; exit code 0: nothing is.\n"
		"\n"
		"A flag overrides its environment variable (Env), which overrides the configuration file, where\n"
		"--nats-url is written nats_url. Units: kB, MB, GB, TB (powers of 1024); ms, s, min, h, d.\n"
		"\n"
		"Examples:\n"
		"  siphon-publisher\n"
		"  siphon-publisher --application shop.eu --nats-url nats://a:4222,nats://b:4222 --stream-replicas 3\n"
		"  siphon-publisher --config /etc/siphon/main.yaml --update-stream\n"
		"  SIPHON_LOG_LEVEL=debug siphon-publisher\n"
		"\n" +
		std::string(kExitCodesHelp));

	if (!line.parse(argc, argv))
		return std::nullopt;
	if (!file.empty() && line.apply_file(file))
		config.nats_login.secrets_file = file;
	if (print)
	{
		line.print();
		return std::nullopt;
	}
	check_stream_options(config);
	if (!config.stream_url.empty() && (config.stream.replicas || config.stream.storage))
		throw Fatal(ExitCode::Usage, "--stream " + config.stream_url +
										 " is a directory: --stream-replicas and --stream-storage are "
										 "for NATS");
	check_access(config.http_access);
	return config;
}

} // namespace siphon
