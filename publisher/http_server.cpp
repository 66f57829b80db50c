/* See http_server.h. */
#include "http_server.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "exit_codes.h"
#include "health.h"
#include "http_port.h"
#include "log.h"
#include "metrics.h"
#include "secret_file.h"
#include "status_json.h"

namespace siphon {

/* status_page.html, as the build makes a string of it. */
static constexpr char kPage[] =
#include "status_page.inc"
	;

static std::string
readiness_text(const std::vector<Problem> &problems, bool *ready)
{
	std::string text;

	*ready = true;
	for (const Problem &problem : problems)
	{
		if (!problem.unready)
			continue;
		*ready = false;
		text += std::string("not ready: ") + problem.what + "\n  " + problem.hint + "\n";
	}
	return *ready ? "ready\n" : text;
}

static HttpAnswer
answer(const std::string &path, const Monitor &monitor, bool table_metrics)
{
	static constexpr char kText[] = "text/plain; charset=utf-8";
	static constexpr char kJson[] = "application/json";
	auto now = Monitor::Clock::now();

	if (path == "/metrics")
		return {200, "text/plain; version=0.0.4; charset=utf-8", metrics_text(*monitor.status(), now, table_metrics)};
	if (path == "/healthz")
	{
		bool well = alive(*monitor.status(), now);

		return {well ? 200 : 503, kText, well ? "alive\n" : "the publisher's loop stands still\n"};
	}
	if (path == "/readyz")
	{
		bool ready;
		std::string text = readiness_text(find_problems(*monitor.status(), now), &ready);

		return {ready ? 200 : 503, kText, text};
	}
	if (path == "/status")
		return {200, kJson, status_json(*monitor.status(), now, monitor.started())};
	if (path == "/history")
		return {200, kJson, history_json(monitor.history())};
	if (path == "/")
		/* All that it needs is in it. */
		return {200, "text/html; charset=utf-8", std::string(kPage, sizeof(kPage) - 1),
				{{"Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
											 "connect-src 'self'; img-src data:; frame-ancestors 'none'"}}};
	return {404, kText, "not found\n"};
}

/* What the Authorization header has of those who know the password. */
static std::string
basic(const std::string &user, const std::string &password)
{
	std::string pair = user + ":" + password;
	std::string encoded((pair.size() + 2) / 3 * 4 + 1, '\0');
	int length = EVP_EncodeBlock(reinterpret_cast<unsigned char *>(encoded.data()),
								 reinterpret_cast<const unsigned char *>(pair.data()), static_cast<int>(pair.size()));

	encoded.resize(static_cast<size_t>(length));
	return "Basic " + encoded;
}

/* In a time that does not tell how much of it was right. */
static bool
same(const std::string &a, const std::string &b)
{
	return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

HttpServer::HttpServer(const Config &config, const Monitor *monitor)
{
	const HttpAccess &access = config.http_access;
	std::string host;
	std::string expected;
	int number;

	if (config.http_listen == "off")
		return;
	split_listen(config.http_listen, &host, &number);

	if (!access.user.empty())
		expected = basic(access.user, access.password_file.empty()
										  ? access.password
										  : read_secret("--http-password-file", access.password_file));

	auto port = std::make_unique<HttpPort>([=, table_metrics = config.table_metrics](const HttpRequest &request) {
		/* Probes have no password. */
		bool open = expected.empty() || request.path == "/healthz" || request.path == "/readyz";

		if (!open && !same(request.authorization, expected))
			return HttpAnswer{401, "text/plain; charset=utf-8", "a password is needed\n",
							  {{"WWW-Authenticate", "Basic realm=\"siphon\""}}};
		return answer(request.path, *monitor, table_metrics);
	});

	if (!access.certificate.empty())
		port->use_tls(access.certificate, access.key);
	if (!port->listen(host, number))
	{
		std::string line = "can't listen on " + config.http_listen +
						   ", which may be taken: choose another place, or "
						   "none, with --http-listen";

		if (config.http_listen_set)
			throw Fatal(ExitCode::Usage, line);
		spdlog::warn("{}; there are no metrics", line);
		return;
	}
	spdlog::info("metrics and status are at {}://{}:{}/", access.certificate.empty() ? "http" : "https",
				 host.find(':') == std::string::npos ? host : "[" + host + "]", port->port());
	port_ = std::move(port);
}

HttpServer::~HttpServer() = default;

} // namespace siphon
