/* See stream_options.h. */
#include "reader/stream_options.h"

#include <charconv>
#include <stdexcept>

#include "program/command_line.h"
#include "program/exit_codes.h"
#include "reader/subject.h"
#include "ring/ring.h"

namespace siphon {

/* ---- URLs -------------------------------------------------------------------------------------------------------- */

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
			throw std::invalid_argument(
				"the URL must be like nats://user:password@host:port; in user and password, write "
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
redact_nats_url(const std::string &text)
{
	std::string shown;

	parse_servers(text, &shown);
	return shown;
}

bool
has_login(const std::string &nats_url)
{
	return nats_url.find('@') != std::string::npos;
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

/* ---- what is refused --------------------------------------------------------------------------------------------- */

namespace {

[[noreturn]] void
refuse(const std::string &line)
{
	throw Fatal(ExitCode::Usage, line);
}

/* The options with which we log in; two are one too many. */
std::vector<std::string>
ways(const NatsLogin &login, const std::string &url)
{
	std::vector<std::string> ways;

	if (!login.credentials.empty())
		ways.push_back("--nats-creds");
	if (!login.nkey_seed.empty())
		ways.push_back("--nats-nkey-seed");
	if (!login.user.empty())
		ways.push_back("--nats-user");
	if (!login.token.empty() || !login.token_file.empty())
		ways.push_back("--nats-token-file");
	if (has_login(url))
		ways.push_back("what stands before the @ in --nats-url");
	return ways;
}

void
check_login(const NatsLogin &login, const std::string &url)
{
	std::vector<std::string> given = ways(login, url);
	bool password = !login.password.empty() || !login.password_file.empty();

	if (given.size() > 1)
		refuse(given[0] + " and " + given[1] + " are two ways to log in: give one of them");
	if (login.certificate.empty() != login.key.empty())
		refuse("--nats-cert and --nats-key belong together: give both");
	if (!login.user.empty() && !password)
		refuse("--nats-user has no password: give --nats-password-file, or set SIPHON_NATS_PASSWORD");
	if (login.user.empty() && password)
		refuse("there is a password, but no --nats-user");
	if (!login.password.empty() && !login.password_file.empty())
		refuse("there is a password, and --nats-password-file: give one of them");
	if (!login.token.empty() && !login.token_file.empty())
		refuse("there is a token, and --nats-token-file: give one of them");
}

/* What only NATS has can't be asked for together with a directory. */
void
check_stream_url(const StreamOptions &options)
{
	const NatsLogin &login = options.nats_login;
	NatsLogin none;
	const char *other = nullptr;

	none.secrets_file = login.secrets_file;

	if (options.stream_url.empty())
		return;
	if (options.nats_url != kDefaultNatsUrl)
		other = "--nats-url";
	else if (login != none)
		other = "an option that begins with --nats-";
	else if (options.jetstream_api != kDefaultJetStreamApi)
		other = "an option that begins with --jetstream-";
	if (other != nullptr)
		refuse("--stream " + options.stream_url + " and " + other + " are two places for the stream: give one");
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

} // namespace

void
check_stream_options(const StreamOptions &options)
{
	check_login(options.nats_login, options.nats_url);
	check_stream_url(options);
}

/* ---- the options ------------------------------------------------------------------------------------------------- */

void
add_stream_options(CommandLine *line, const char *stream_description, StreamOptions *options)
{
	NatsLogin *login = &options->nats_login;

	line->option("application", "NAME", "main", "Application whose changes to handle",
				 [=](const std::string &text) { options->application = parse_application(text); });
	line->option("subject-prefix", "PREFIX", "siphon", "What the subjects begin with",
				 [=](const std::string &text) { options->subject_prefix = parse_prefix(text); });

	line->option("stream", "file:DIR", "", stream_description, [=](const std::string &text) {
		parse_stream_url(text);
		options->stream_url = text;
	});

	line->group("NATS, and how to log in there (one way, or none)");
	line->option("nats-url", "URL", "nats://127.0.0.1:4222",
				 "NATS server, or several separated by commas; tls://host:port does not go on without TLS",
				 [=](const std::string &text) {
					 parse_nats_url(text);
					 options->nats_url = text;
				 });
	line->hide_login("nats-url", redact_nats_url);
	line->option("nats-ca", "FILE", "", "Trust certificates of this authority instead of the system's; asks for TLS",
				 take_text(&login->ca));
	line->option("nats-cert", "FILE", "", "Client certificate, in PEM format; asks for TLS",
				 take_text(&login->certificate));
	line->option("nats-key", "FILE", "", "Its private key", take_text(&login->key));
	line->option("nats-creds", "FILE", "", "Log in with this .creds file", take_text(&login->credentials));
	line->option("nats-nkey-seed", "FILE", "", "Log in with the NKey of which this file has the seed",
				 take_text(&login->nkey_seed));
	line->option("nats-user", "NAME", "", "Log in with user and password", take_text(&login->user));
	line->option("nats-password-file", "FILE", "", "The password; or set SIPHON_NATS_PASSWORD",
				 take_text(&login->password_file));
	line->option("nats-token-file", "FILE", "", "Log in with a token; or set SIPHON_NATS_TOKEN",
				 take_text(&login->token_file));
	line->secret("nats-password", take_text(&login->password));
	line->secret("nats-token", take_text(&login->token));

	line->group("NATS that is set up in a way of its own");
	line->option("nats-inbox-prefix", "SUBJECT", "_INBOX",
				 "Receive answers on subjects that begin with this, so that "
				 "others have no right to them",
				 [=](const std::string &text) { login->inbox_prefix = parse_subject(text); });
	line->option(
		"jetstream-domain", "NAME", "", "Use JetStream of this domain, as from a leaf node",
		[=](const std::string &text) { set_api(&options->jetstream_api, "$JS." + parse_domain(text) + ".API."); });
	line->option("jetstream-api-prefix", "SUBJECT", "",
				 "What $JS.API is called here, as where it comes from another account",
				 [=](const std::string &text) { set_api(&options->jetstream_api, parse_subject(text) + "."); });
}

} // namespace siphon
