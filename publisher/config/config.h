/*
 * The publisher's configuration. A flag overrides its environment variable, which overrides the YAML file:
 * --nats-url, SIPHON_NATS_URL and nats_url are one option. Anything wrong is a Fatal(Usage) that names it.
 */
#ifndef SIPHON_CONFIG_H
#define SIPHON_CONFIG_H

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "publisher/config/stream_settings.h"
#include "reader/nats/nats_login.h"

namespace siphon {

constexpr const char kDefaultNatsUrl[] = "nats://127.0.0.1:4222";
constexpr const char kDefaultJetStreamApi[] = "$JS.API.";

/* Who may ask the HTTP port, and how it shows who it is. Empty: everybody, and over plain HTTP. */
struct HttpAccess
{
	std::string certificate; /* file */
	std::string key;         /* file */
	std::string user;
	std::string password_file;
	std::string password;
};

struct Config
{
	std::string application = "main";
	std::string ring_directory = "/dev/shm/siphon";
	std::string ring_group;
	std::string nats_url = kDefaultNatsUrl;
	NatsLogin nats_login;
	/*
	 * What the subjects of JetStream's API begin with, final dot included. Where it is not the default, what is written
	 * to a key-value bucket goes to a subject behind it: <api>$KV.<bucket>.<key>.
	 */
	std::string jetstream_api = kDefaultJetStreamApi;
	std::string nats_monitor_url; /* monitoring ports of its nodes, for the check */
	std::string stream_url; /* where the stream is, file:DIR; empty: in NATS */
	std::string subject_prefix = "siphon";
	StreamSettings stream;
	bool update_stream = false;
	bool take_over = false; /* a stream that is another database's becomes this one's */
	int compression_level = 1;
	uint64_t max_in_flight = 256;
	uint64_t max_in_flight_bytes = 64 * 1024 * 1024;
	std::chrono::milliseconds drain_timeout{10000};
	std::chrono::milliseconds attach_timeout{0};
	std::string http_listen = "127.0.0.1:9711"; /* "off": nowhere */
	bool http_listen_set = false;               /* somebody asked for just this */
	HttpAccess http_access;
	bool table_metrics = true;
	std::string log_level = "info";
	std::string log_format = "text";
};

/* What siphon-tail is asked for. */
struct TailConfig
{
	std::string application = "main";
	std::string nats_url = kDefaultNatsUrl;
	NatsLogin nats_login;
	std::string jetstream_api = kDefaultJetStreamApi;
	std::string stream_url;
	std::string subject_prefix = "siphon";
	std::string table; /* schema.table, or empty for all */
	bool from_start = false;
	bool stop_at_end = false;
	bool watermarks = false;
	bool messages = false;
	bool columns = false;
	uint64_t count = 0; /* 0: no limit */
};

/* nullopt: --help, --version or --print-config was asked for, and has been printed. */
std::optional<Config> read_config(int argc, const char *const *argv);
std::optional<TailConfig> read_tail_config(int argc, const char *const *argv);

/* "10s", "5min", "100ms", "2h", "7d"; a number without unit is seconds. Throws std::invalid_argument. */
std::chrono::milliseconds parse_duration(const std::string &text);
/* "64MB", "64MiB", "1GB", as PostgreSQL has them: units are powers of 1024. Throws std::invalid_argument. */
uint64_t parse_bytes(const std::string &text);

/* DIR of "file:DIR". Throws std::invalid_argument. */
std::string parse_stream_url(const std::string &text);

/* The parts of "127.0.0.1:9711" or "[::1]:9711". Throws std::invalid_argument. */
void split_listen(const std::string &text, std::string *host, int *port);

/* The servers of a comma-separated list of nats:// and tls:// URLs. Throws std::invalid_argument. */
std::vector<std::string> parse_nats_url(const std::string &text);
/* The same list as people may see it in a log: without user names, passwords and tokens. */
std::string nats_url_for_people(const std::string &text);

} // namespace siphon

#endif
