/* See nats_login.h. */
#include "reader/nats/nats_login.h"

#include <algorithm>
#include <cstring>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "program/exit_codes.h"
#include "program/secret_file.h"
#include "reader/nkey.h"

namespace siphon {

/* How often to ask why NATS closes a connection behind the handshake. */
static constexpr int kAlertAttempts = 10;

[[noreturn]] static void
refuse(const std::string &line)
{
	throw Fatal(ExitCode::Usage, line);
}

static bool
wants_tls(const NatsLogin &login, const std::string &url)
{
	return !login.ca.empty() || !login.certificate.empty() || url.find("tls://") != std::string::npos;
}

static bool
is_loopback(const std::string &server)
{
	return server.rfind("127.", 0) == 0 || server.rfind("[::1]", 0) == 0 || server == "::1" ||
		   server.substr(0, server.rfind(':')) == "localhost";
}

std::vector<std::string>
login_warnings(const NatsLogin &login, const std::string &url)
{
	std::vector<std::string> warnings;
	std::string servers = redact_nats_url(url);
	bool readable = !login.user.empty() || !login.token.empty() || !login.token_file.empty() || has_login(url);

	for (const std::string *file : {&login.key, &login.credentials, &login.nkey_seed, &login.password_file,
									&login.token_file, &login.secrets_file})
		if (std::string warning = file->empty() ? "" : secret_file_warning(*file); !warning.empty())
			warnings.push_back(warning);
	for (size_t start = 0; readable && !wants_tls(login, url) && start < servers.size();)
	{
		size_t comma = std::min(servers.find(',', start), servers.size());
		std::string server = servers.substr(start, comma - start);

		if (!is_loopback(server))
			warnings.push_back("what we log in with goes to NATS at " + server +
							   " as it is, unless that insists on TLS: write tls:// in --nats-url");
		start = comma + 1;
	}
	return warnings;
}

/* A connection without TLS would hand the credentials to anybody, so the library is told not to go on without. */
static natsStatus
set_tls(natsOptions *options, const NatsLogin &login)
{
	natsStatus status = natsOptions_SetSecure(options, true);

	if (status == NATS_OK && !login.ca.empty())
	{
		read_file("--nats-ca", login.ca);
		if (natsOptions_LoadCATrustedCertificates(options, login.ca.c_str()) != NATS_OK)
			refuse("--nats-ca: " + login.ca + " has no certificate in PEM format");
	}
	if (status == NATS_OK && !login.certificate.empty())
	{
		read_file("--nats-cert", login.certificate);
		read_file("--nats-key", login.key);
		if (natsOptions_LoadCertificatesChain(options, login.certificate.c_str(), login.key.c_str()) != NATS_OK)
			refuse("--nats-cert and --nats-key: " + login.certificate + " and " + login.key +
				   " are not a certificate and its key in PEM format");
	}
	return status;
}

void
set_login(natsOptions *options, const NatsLogin &login, const std::string &url)
{
	natsStatus status = NATS_OK;

	if (wants_tls(login, url))
		status = set_tls(options, login);
	if (status == NATS_OK && !login.credentials.empty())
	{
		std::string content = read_file("--nats-creds", login.credentials);

		if (content.find("BEGIN NATS USER JWT") == std::string::npos ||
			content.find("BEGIN USER NKEY SEED") == std::string::npos)
			refuse("--nats-creds: " + login.credentials +
				   " has no user JWT and NKey seed, as \"nsc generate creds\" makes them");
		status = natsOptions_SetUserCredentialsFromFiles(options, login.credentials.c_str(), nullptr);
	}
	if (status == NATS_OK && !login.nkey_seed.empty())
	{
		std::string key = nkey_of_seed(read_secret("--nats-nkey-seed", login.nkey_seed));

		if (key.empty())
			refuse("--nats-nkey-seed: " + login.nkey_seed +
				   " has no seed of a user's NKey (SU...), as \"nk -gen user\" makes it");
		status = natsOptions_SetNKeyFromSeed(options, key.c_str(), login.nkey_seed.c_str());
	}
	if (status == NATS_OK && !login.user.empty())
	{
		std::string password =
			login.password_file.empty() ? login.password : read_secret("--nats-password-file", login.password_file);

		status = natsOptions_SetUserInfo(options, login.user.c_str(), password.c_str());
	}
	if (status == NATS_OK && (!login.token.empty() || !login.token_file.empty()))
	{
		std::string token = login.token_file.empty() ? login.token : read_secret("--nats-token-file", login.token_file);

		status = natsOptions_SetToken(options, token.c_str());
	}
	if (status == NATS_OK && !login.inbox_prefix.empty())
		status = natsOptions_SetCustomInboxPrefix(options, login.inbox_prefix.c_str());
	if (status != NATS_OK)
		throw Fatal(ExitCode::Unexpected, std::string("options of NATS: ") + natsStatus_GetText(status));
}

/*
 * Where a client certificate is missing or not trusted, NATS finds out behind the handshake, and the library takes the
 * alert for a connection that was closed.
 */
static const char *
tls_alert()
{
	unsigned long error = ERR_peek_last_error();

	if (ERR_GET_LIB(error) != ERR_LIB_SSL || ERR_GET_REASON(error) < SSL_AD_REASON_OFFSET)
		return nullptr;
	return ERR_reason_error_string(error);
}

/* What the library knows beyond the status, without the place in its source. */
static std::string
last_error(natsStatus status)
{
	const char *text = nats_GetLastError(nullptr);

	if (text == nullptr || text[0] == '\0')
		return natsStatus_GetText(status);

	const char *behind = text[0] == '(' ? strstr(text, "): ") : nullptr;

	return behind == nullptr ? text : behind + strlen("): ");
}

static natsConnection *
try_connect(natsOptions *options, NatsFailure *failure)
{
	natsConnection *connection = nullptr;

	ERR_clear_error();
	failure->status = natsConnection_Connect(&connection, options);
	if (failure->status == NATS_OK)
		return connection;

	const char *alert = tls_alert();

	failure->certificate = alert != nullptr;
	failure->why = alert != nullptr ? alert : last_error(failure->status);
	return nullptr;
}

natsConnection *
nats_connect(natsOptions *options, NatsFailure *failure)
{
	natsConnection *connection = try_connect(options, failure);

	/* Whoever writes behind the handshake, while NATS has closed already, does not get to read its alert. */
	for (int attempt = 1; connection == nullptr && failure->why.rfind("SSL_", 0) == 0 && attempt < kAlertAttempts;
		 attempt++)
		connection = try_connect(options, failure);
	return connection;
}

bool
NatsFailure::refusal() const
{
	switch (status)
	{
		case NATS_CONNECTION_AUTH_FAILED:
		case NATS_SECURE_CONNECTION_REQUIRED:
		case NATS_SECURE_CONNECTION_WANTED:
		case NATS_NOT_PERMITTED:
		case NATS_INVALID_ARG:
			return true;
		case NATS_SSL_ERROR:
			/* And not a handshake that was cut. */
			return certificate || why.find("certificate") != std::string::npos ||
				   why.find("mismatch") != std::string::npos;
		default:
			return certificate;
	}
}

static std::string
login_hint(const NatsLogin &login, const std::string &url)
{
	if (!login.credentials.empty())
		return "check --nats-creds (" + login.credentials + ")";
	if (!login.nkey_seed.empty())
		return "check --nats-nkey-seed (" + login.nkey_seed + ")";
	if (!login.user.empty())
		return "check --nats-user (" + login.user + ") and " +
			   (login.password_file.empty() ? "its password" : "--nats-password-file (" + login.password_file + ")");
	if (!login.token_file.empty())
		return "check --nats-token-file (" + login.token_file + ")";
	if (!login.token.empty())
		return "check the token";
	if (has_login(url))
		return "check user and password in --nats-url";
	return "it wants to know who we are: give --nats-creds, --nats-nkey-seed, --nats-user or --nats-token-file, or a "
		   "client "
		   "certificate";
}

std::string
refusal_hint(const NatsFailure &failure, const NatsLogin &login, const std::string &url)
{
	if (failure.certificate)
		return login.certificate.empty() ? "it wants a client certificate: give --nats-cert and --nats-key"
										 : "check --nats-cert (" + login.certificate + ")";
	switch (failure.status)
	{
		case NATS_SECURE_CONNECTION_WANTED:
			return "it offers no TLS, which --nats-ca, --nats-cert, or tls:// in --nats-url ask for";
		case NATS_SSL_ERROR:
			if (failure.why.find("mismatch") != std::string::npos)
				return "its certificate is for another host: check --nats-url";
			return login.ca.empty() ? "give the authority that signed its certificate: --nats-ca"
									: "check --nats-ca (" + login.ca + ")";
		case NATS_CONNECTION_AUTH_FAILED:
			return login_hint(login, url);
		default:
			return "check --nats-url";
	}
}

std::string
refusal_line(const NatsFailure &failure, const NatsLogin &login, const std::string &url)
{
	return "NATS at " + redact_nats_url(url) + " refuses us (" + failure.why +
		   "): " + refusal_hint(failure, login, url);
}

} // namespace siphon
