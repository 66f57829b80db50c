/*
 * Which application's stream is meant, where it is, and how to log in there: the options that every program has which
 * reads or writes a stream. They are declared here once, so that they have the same names, values and refusals
 * everywhere. Nothing of NATS' library is needed to read them; reader/nats/nats_login.h gives them to it.
 */
#ifndef SIPHON_STREAM_OPTIONS_H
#define SIPHON_STREAM_OPTIONS_H

#include <string>
#include <vector>

namespace siphon {

class CommandLine;

constexpr const char kDefaultNatsUrl[] = "nats://127.0.0.1:4222";
constexpr const char kDefaultJetStreamApi[] = "$JS.API.";

/* How to log in to NATS, and whom to take for it. All empty: without a login, over TLS only if NATS wants it. */
struct NatsLogin
{
	/* Names of files, but for the user. */
	std::string ca;
	std::string certificate;
	std::string key;
	std::string credentials;
	std::string nkey_seed;
	std::string user;
	std::string password_file;
	std::string token_file;
	/* Secrets. */
	std::string password;
	std::string token;
	/* The configuration file, where it has one of these. */
	std::string secrets_file;
	/* What the subjects begin with on which answers come: _INBOX where it is empty. */
	std::string inbox_prefix;

	bool operator==(const NatsLogin &) const = default;
};

struct StreamOptions
{
	std::string application = "main";
	std::string nats_url = kDefaultNatsUrl;
	NatsLogin nats_login;
	/*
	 * What the subjects of JetStream's API begin with, final dot included. Where it is not the default, what is written
	 * to a key-value bucket goes to a subject behind it: <api>$KV.<bucket>.<key>.
	 */
	std::string jetstream_api = kDefaultJetStreamApi;
	std::string stream_url; /* where the stream is, file:DIR; empty: in NATS */
	std::string subject_prefix = "siphon";
};

/* Declares the options. `stream_description` says in --help what the program does with a stream in files. */
void add_stream_options(CommandLine *line, const char *stream_description, StreamOptions *options);
/* Fatal(Usage) if options contradict each other: two ways to log in, a half of one, or two places for the stream. */
void check_stream_options(const StreamOptions &options);

/* Returns DIR of "file:DIR". Throws std::invalid_argument. */
std::string parse_stream_url(const std::string &text);
/* Returns the servers of a comma-separated list of nats:// and tls:// URLs. Throws std::invalid_argument. */
std::vector<std::string> parse_nats_url(const std::string &text);
/* Returns the same list as people may see it in a log: without user names, passwords and tokens. */
std::string redact_nats_url(const std::string &text);
/* There is a user, a password or a token in the list. */
bool has_login(const std::string &nats_url);

} // namespace siphon

#endif
