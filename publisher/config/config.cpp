/* See config.h. */
#include "publisher/config/config.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "program/command_line.h"
#include "program/exit_codes.h"
#include "reader/compression.h"
#include "reader/subject.h"
#include "ring/ring.h"

namespace siphon {

/* Number and unit of "10s". */
static uint64_t
parse_number(const std::string &text, std::string *unit)
{
	uint64_t number;
	auto result = std::from_chars(text.data(), text.data() + text.size(), number);

	if (result.ec != std::errc())
		throw std::invalid_argument("\"" + text + "\" is not a number, with or without a unit");
	*unit = std::string(result.ptr, static_cast<size_t>(text.data() + text.size() - result.ptr));
	return number;
}

static uint64_t
scaled(const std::string &text, uint64_t number, uint64_t factor)
{
	if (number > static_cast<uint64_t>(INT64_MAX) / factor)
		throw std::invalid_argument("\"" + text + "\" is too large");
	return number * factor;
}

std::chrono::milliseconds
parse_duration(const std::string &text)
{
	static const std::pair<const char *, uint64_t> units[] = {
		{"ms", 1}, {"s", 1000}, {"", 1000}, {"min", 60000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
	};
	/* JetStream counts in nanoseconds, which must fit too. */
	constexpr uint64_t limit = INT64_MAX / 1000000;
	std::string unit;
	uint64_t number = parse_number(text, &unit);

	for (const auto &[name, factor] : units)
	{
		if (unit == name)
		{
			uint64_t result = scaled(text, number, factor);

			if (result > limit)
				throw std::invalid_argument("\"" + text + "\" is too large");
			return std::chrono::milliseconds(result);
		}
	}
	throw std::invalid_argument("\"" + text + "\" has no unit of time: ms, s, min, h, d");
}

uint64_t
parse_bytes(const std::string &text)
{
	static const std::pair<const char *, int> units[] = {
		{"", 0},     {"B", 0},   {"kB", 10},  {"KB", 10}, {"KiB", 10}, {"MB", 20},
		{"MiB", 20}, {"GB", 30}, {"GiB", 30}, {"TB", 40}, {"TiB", 40},
	};
	std::string unit;
	uint64_t number = parse_number(text, &unit);

	for (const auto &[name, shift] : units)
	{
		if (unit == name)
			return scaled(text, number, uint64_t{1} << shift);
	}
	throw std::invalid_argument("\"" + text + "\" has no unit of size: B, kB, MB, GB, TB");
}

/* One server of the list, checked; `shown` is its host and port. */
static std::string
parse_server(const std::string &url, std::string *shown)
{
	std::string_view rest = url;
	size_t scheme = rest.find("://");

	if (scheme != std::string_view::npos)
	{
		std::string_view name = rest.substr(0, scheme);

		if (name != "nats" && name != "tls")
			throw std::invalid_argument("the URL must start with nats:// or tls://");
		rest.remove_prefix(scheme + 3);
	}
	size_t at = rest.rfind('@');
	if (at != std::string_view::npos)
		rest.remove_prefix(at + 1);
	if (!rest.empty() && rest.back() == '/')
		rest.remove_suffix(1);

	*shown = std::string(rest);

	std::string_view host = rest;
	size_t bracket = rest.rfind(']');
	size_t colon = rest.find(':', bracket == std::string_view::npos ? 0 : bracket);

	if (colon != std::string_view::npos)
	{
		std::string_view port = rest.substr(colon + 1);
		unsigned number = 0;
		auto result = std::from_chars(port.data(), port.data() + port.size(), number);

		if (result.ec != std::errc() || result.ptr != port.data() + port.size() || number < 1 || number > 65535)
			throw std::invalid_argument("\"" + *shown + "\" has no valid port");
		host = rest.substr(0, colon);
	}
	if (host.empty() || host.find_first_of(" \t/?#") != std::string_view::npos)
		throw std::invalid_argument("\"" + *shown + "\" is not a host");
	return url;
}

static std::vector<std::string>
parse_servers(const std::string &text, std::string *shown)
{
	std::vector<std::string> servers;
	size_t start = 0;

	shown->clear();
	for (;;)
	{
		size_t comma = text.find(',', start);
		std::string one;

		try
		{
			servers.push_back(parse_server(text.substr(start, comma - start), &one));
		}
		catch (const std::invalid_argument &)
		{
			/* What is taken for a host may be a part of a password. */
			if (text.find('@') == std::string::npos)
				throw;
			throw std::invalid_argument("the URL must be like nats://user:password@host:port; in user and password, write "
										"special characters as %2C");
		}
		*shown += (shown->empty() ? "" : ",") + one;
		if (comma == std::string::npos)
			return servers;
		start = comma + 1;
	}
}

std::vector<std::string>
parse_nats_url(const std::string &text)
{
	std::string shown;

	return parse_servers(text, &shown);
}

std::string
nats_url_for_people(const std::string &text)
{
	std::string shown;

	parse_servers(text, &shown);
	return shown;
}

std::string
parse_stream_url(const std::string &text)
{
	static constexpr std::string_view kScheme = "file:";

	if (text.compare(0, kScheme.size(), kScheme) != 0)
		throw std::invalid_argument("\"" + text + "\" is not of the form file:DIR");

	std::string directory = text.substr(kScheme.size());

	/* As in file:///srv/export. */
	if (directory.compare(0, 2, "//") == 0)
		directory.erase(0, 2);
	if (directory.empty() || directory.compare(0, 2, "//") == 0 ||
		(text.compare(0, 7, "file://") == 0 && directory[0] != '/'))
		throw std::invalid_argument("\"" + text + "\" names no directory");
	return directory;
}

void
split_listen(const std::string &text, std::string *host, int *port)
{
	size_t colon = text.rfind(':');
	unsigned number = 0;
	const char *end = text.data() + text.size();

	if (colon == std::string::npos || colon == 0)
		throw std::invalid_argument("\"" + text + "\" is not of the form host:port");

	auto result = std::from_chars(text.data() + colon + 1, end, number);

	if (result.ec != std::errc() || result.ptr != end || number > 65535)
		throw std::invalid_argument("\"" + text + "\" has no valid port");
	*host = text.substr(0, colon);
	if (host->size() > 2 && host->front() == '[' && host->back() == ']')
		*host = host->substr(1, host->size() - 2);
	*port = static_cast<int>(number);
}

namespace {

int64_t
parse_integer(const std::string &text, int64_t low, int64_t high)
{
	int64_t number;
	auto result = std::from_chars(text.data(), text.data() + text.size(), number);

	if (result.ec != std::errc() || result.ptr != text.data() + text.size() || number < low || number > high)
		throw std::invalid_argument("\"" + text + "\" is not a number from " + std::to_string(low) + " to " +
									std::to_string(high));
	return number;
}

std::string
parse_choice(const std::string &text, std::initializer_list<const char *> choices)
{
	std::string list;

	for (const char *choice : choices)
	{
		if (text == choice)
			return text;
		list += (list.empty() ? "" : ", ") + std::string(choice);
	}
	throw std::invalid_argument("\"" + text + "\" is none of " + list);
}

std::string
parse_application(const std::string &text)
{
	if (!dotted_name_valid(text, kApplicationMax - 1))
		throw std::invalid_argument("\"" + text + "\" is not an application's name: up to " +
									std::to_string(kApplicationMax - 1) +
									" letters, digits, \"_\", \"-\", and single dots between them");
	return text;
}

std::string
parse_prefix(const std::string &text)
{
	if (!dotted_name_valid(text, 200))
		throw std::invalid_argument("\"" + text + "\" can't begin a subject: letters, digits, \"_\", \"-\", and " +
									"single dots between them");
	return text;
}

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

/* Tokens of a subject, without wildcards; a final dot is left out. */
std::string
parse_subject(const std::string &text)
{
	std::string_view subject = text;

	if (!subject.empty() && subject.back() == '.')
		subject.remove_suffix(1);

	bool good = !subject.empty() && subject.size() <= 200 && subject.front() != '.' && subject.back() != '.' &&
				subject.find("..") == std::string_view::npos;

	for (char c : subject)
		good = good && c > ' ' && c < 127 && c != '*' && c != '>';
	if (!good)
		throw std::invalid_argument("\"" + text +
									"\" can't begin a subject: it takes tokens with single dots between them, "
									"without spaces and wildcards");
	return std::string(subject);
}

std::string
parse_domain(const std::string &text)
{
	std::string domain = parse_subject(text);

	if (text.find('.') != std::string::npos)
		throw std::invalid_argument("\"" + text + "\" is not a domain's name: it has no dots");
	return domain;
}

void
set_api(std::string *api, const std::string &text)
{
	if (*api != kDefaultJetStreamApi)
		throw std::invalid_argument(
			"--jetstream-domain and --jetstream-api-prefix are two names for one thing: give one of them");
	*api = text;
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

/* What only NATS has can't be asked for together with a directory. */
template <typename AnyConfig>
void
check_stream_url(const AnyConfig &config)
{
	const NatsLogin &login = config.nats_login;
	NatsLogin none;
	const char *other = nullptr;

	none.secrets_file = login.secrets_file;

	if (config.stream_url.empty())
		return;
	if (config.nats_url != kDefaultNatsUrl)
		other = "--nats-url";
	else if (login != none)
		other = "an option that begins with --nats-";
	else if (config.jetstream_api != kDefaultJetStreamApi)
		other = "an option that begins with --jetstream-";
	if (other != nullptr)
		throw Fatal(ExitCode::Usage,
					"--stream " + config.stream_url + " and " + other + " are two places for the stream: give one");
}

std::function<void(const std::string &)>
take(std::string *value)
{
	return [=](const std::string &text) { *value = text; };
}

/* What both programs ask. */
template <typename AnyConfig>
void
add_common_options(CommandLine &line, const char *stream_description, AnyConfig *config)
{
	NatsLogin *login = &config->nats_login;

	line.option("application", "NAME", "main", "Application whose changes to handle",
				[=](const std::string &text) { config->application = parse_application(text); });
	line.option("subject-prefix", "PREFIX", "siphon", "What the subjects begin with",
				[=](const std::string &text) { config->subject_prefix = parse_prefix(text); });

	line.option("stream", "file:DIR", "", stream_description, [=](const std::string &text) {
		parse_stream_url(text);
		config->stream_url = text;
	});

	line.group("NATS, and how to log in there (one way, or none)");
	line.option("nats-url", "URL", "nats://127.0.0.1:4222",
				"NATS server, or several separated by commas; tls://host:port does not go on without TLS",
				[=](const std::string &text) {
					parse_nats_url(text);
					config->nats_url = text;
				});
	line.option("nats-ca", "FILE", "", "Trust certificates of this authority instead of the system's; asks for TLS",
				take(&login->ca));
	line.option("nats-cert", "FILE", "", "Client certificate, in PEM format; asks for TLS", take(&login->certificate));
	line.option("nats-key", "FILE", "", "Its private key", take(&login->key));
	line.option("nats-creds", "FILE", "", "Log in with this .creds file", take(&login->credentials));
	line.option("nats-nkey-seed", "FILE", "", "Log in with the NKey of which this file has the seed",
				take(&login->nkey_seed));
	line.option("nats-user", "NAME", "", "Log in with user and password", take(&login->user));
	line.option("nats-password-file", "FILE", "", "The password; or set SIPHON_NATS_PASSWORD", take(&login->password_file));
	line.option("nats-token-file", "FILE", "", "Log in with a token; or set SIPHON_NATS_TOKEN", take(&login->token_file));
	line.secret("nats-password", take(&login->password));
	line.secret("nats-token", take(&login->token));

	line.group("NATS that is set up in a way of its own");
	line.option("nats-inbox-prefix", "SUBJECT", "_INBOX",
				"Receive answers on subjects that begin with this, so that "
				"others have no right to them",
				[=](const std::string &text) { login->inbox_prefix = parse_subject(text); });
	line.option(
		"jetstream-domain", "NAME", "", "Use JetStream of this domain, as from a leaf node",
		[=](const std::string &text) { set_api(&config->jetstream_api, "$JS." + parse_domain(text) + ".API."); });
	line.option("jetstream-api-prefix", "SUBJECT", "",
				"What $JS.API is called here, as where it comes from another account",
				[=](const std::string &text) { set_api(&config->jetstream_api, parse_subject(text) + "."); });
}

} // namespace

std::optional<Config>
read_config(int argc, const char *const *argv)
{
	Config config;
	std::string file;
	bool print = false;
	CommandLine line("siphon-publisher",
					 "Drains the ring of one Siphon application and publishes what it holds to NATS JetStream,\n"
					 "exactly once and in order. Runs in the foreground, logs to stderr, stops on SIGTERM or SIGINT,\n"
					 "and waits for a server or a broker that is not there yet.");

	line.group("What to publish, and where");
	line.option("config", "FILE", "", "YAML file with any of these options, one \"key: value\" each",
				[&](const std::string &text) { file = text; });
	line.option("ring-directory", "DIR", config.ring_directory.c_str(), "The server's siphon.ring_directory",
				take(&config.ring_directory));
	line.option("ring-group", "GROUP", "", "The server's siphon.ring_group, where it runs as another user",
				take(&config.ring_group));
	add_common_options(line, "Write the stream to files in this directory, without NATS", &config);

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
	line.option("http-cert", "FILE", "", "Answer over TLS, with this certificate in PEM format",
				take(&config.http_access.certificate));
	line.option("http-key", "FILE", "", "Its private key", take(&config.http_access.key));
	line.option("http-user", "NAME", "", "Answer only to this user; /healthz and /readyz to everybody",
				take(&config.http_access.user));
	line.option("http-password-file", "FILE", "", "The password; or set SIPHON_HTTP_PASSWORD",
				take(&config.http_access.password_file));
	line.secret("http-password", take(&config.http_access.password));
	line.option("table-metrics", "on|off", "on", "Label metrics by table; off where there are thousands",
				[&](const std::string &text) { config.table_metrics = parse_choice(text, {"on", "off"}) == "on"; });
	line.option("log-level", "LEVEL", "info", "debug, info, warning or error", [&](const std::string &text) {
		config.log_level = parse_choice(text, {"debug", "info", "warning", "error"});
	});
	line.option("log-format", "FORMAT", "text", "text, or json: an object a line, with time, level, application, message",
				[&](const std::string &text) { config.log_format = parse_choice(text, {"text", "json"}); });

	line.flag("print-config", "Print what these options, the environment and the file come to, without secrets, and exit",
			  &print);

	line.footer("\"siphon-publisher check\", with the same options, looks at rings, server, NATS and clocks, changes nothing,\n"
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
	check_login(config.nats_login, config.nats_url);
	check_stream_url(config);
	if (!config.stream_url.empty() && (config.stream.replicas || config.stream.storage))
		throw Fatal(ExitCode::Usage, "--stream " + config.stream_url +
										 " is a directory: --stream-replicas and --stream-storage are "
										 "for NATS");
	check_access(config.http_access);
	return config;
}

std::optional<TailConfig>
read_tail_config(int argc, const char *const *argv)
{
	TailConfig config;
	CommandLine line("siphon-tail",
					 "Prints the events of one Siphon application as JSON, one line each, as they arrive in\n"
					 "NATS JetStream. For people and for tests.");

	line.group("What to read, and where");
	line.option("table", "SCHEMA.TABLE", "", "This table alone; the first dot ends the schema's name",
				[&](const std::string &text) {
					size_t dot = text.find('.');

					if (dot == std::string::npos || dot == 0 || dot + 1 == text.size())
						throw std::invalid_argument("\"" + text + "\" is not of the form schema.table");
					config.table = text;
				});
	line.flag("watermarks", "Print watermarks too", &config.watermarks);
	line.flag("messages", "Print logical messages too", &config.messages);
	line.flag("columns", "Print a table's columns too, where they change", &config.columns);
	add_common_options(line, "Read the stream from files in this directory, without NATS", &config);

	line.group("From when, and until when");
	line.flag("from-start", "Begin with the first message of the stream, not with the next one", &config.from_start);
	line.flag("stop-at-end", "Print what the stream holds now, then exit; implies --from-start", &config.stop_at_end);
	line.option("count", "N", "", "Exit after this many lines", [&](const std::string &text) {
		config.count = static_cast<uint64_t>(parse_integer(text, 1, INT64_MAX));
	});

	line.footer("A flag overrides its environment variable (Env).\n"
				"\n"
				"Examples:\n"
				"  siphon-tail --table public.issues\n"
				"  siphon-tail --from-start --count 10\n"
				"  siphon-tail --stop-at-end | jq -c 'select(.operation == \"DELETE\").old'\n"
				"\n"
				"Exit codes:\n"
				"  0  the end, the count, or SIGINT, SIGTERM, or whoever reads the output has gone\n"
				"  1  no connection, or it was lost for good\n"
				"  2  wrong option or credentials\n"
				"  4  there is no such stream, or it holds what is not Siphon's\n");

	if (!line.parse(argc, argv))
		return std::nullopt;
	if (config.stop_at_end)
		config.from_start = true;
	check_login(config.nats_login, config.nats_url);
	check_stream_url(config);
	return config;
}

} // namespace siphon
