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

#include "publisher/config/stream_settings.h"
#include "reader/stream_options.h"

namespace siphon {

/* Who may ask the HTTP port, and how it shows who it is. Empty: everybody, and over plain HTTP. */
struct HttpAccess
{
	std::string certificate; /* file */
	std::string key;         /* file */
	std::string user;
	std::string password_file;
	std::string password;
};

struct Config : StreamOptions
{
	std::string ring_directory = "/dev/shm/siphon";
	std::string ring_group;
	std::string nats_monitor_url; /* monitoring ports of its nodes, for the check */
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

/* nullopt: --help, --version or --print-config was asked for, and has been printed. */
std::optional<Config> read_config(int argc, const char *const *argv);

} // namespace siphon

#endif
