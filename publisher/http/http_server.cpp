/* See http_server.h. */
#include "publisher/http/http_server.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "program/exit_codes.h"
#include "program/http/http_port.h"
#include "program/log.h"
#include "program/option_values.h"
#include "program/secret_file.h"
#include "publisher/http/http_text.h"
#include "publisher/source/ring_directory.h"
#include "publisher/watch/health.h"
#include "publisher/watch/metrics.h"
#include "publisher/watch/status_json.h"

namespace siphon {

/* status_page.html, as the build makes a string of it. */
static constexpr char kPage[] =
#include "status_page.inc"
	;

/* Where the default one is taken. */
static constexpr int kFurtherPorts = 20;

static std::string
readiness_text(const std::vector<Problem> &problems, bool *ready)
{
	std::string text;

	*ready = true;
	for (const Problem &problem : problems)
	{
		*ready = *ready && !problem.unready;
		text += (problem.unready ? "not ready: " : "warning: ") + problem.what + "\n  " + problem.hint + "\n";
		if (!problem.command.empty())
			text += "  " + problem.command + "\n";
	}
	return (*ready ? "ready\n" : "") + text;
}

static constexpr char kJson[] = "application/json";
static constexpr char kText[] = "text/plain; charset=utf-8";

/* What can be told at once. */
static std::optional<HttpAnswer>
quick_answer(const std::string &path, const StatusHistory &history)
{
	auto now = StatusHistory::Clock::now();

	if (path == "/metrics" || path == "/status")
		return std::nullopt;
	if (path == "/healthz")
	{
		std::shared_ptr<const Status> status = history.status();
		std::string resuming = resuming_text(*status, now);

		if (!alive(*status, now))
			return HttpAnswer{503, kText, "the publisher's loop stands still\n"};
		return HttpAnswer{200, kText, resuming.empty() ? "alive\n" : "alive, and " + resuming + "\n"};
	}
	if (path == "/readyz")
	{
		bool ready;
		std::string text = readiness_text(find_problems(*history.status(), now), &ready);

		return HttpAnswer{ready ? 200 : 503, kText, text};
	}
	if (path == "/history")
	{
		auto started = std::chrono::system_clock::now() - (now - history.started());

		return HttpAnswer{
			200, kJson,
			history_json(history.history(), std::chrono::system_clock::to_time_t(
												std::chrono::time_point_cast<std::chrono::seconds>(started)))};
	}
	if (path == "/")
		/* All that it needs is in it. */
		return HttpAnswer{
			200,
			"text/html; charset=utf-8",
			std::string(kPage, sizeof(kPage) - 1),
			{{"Content-Security-Policy",
			  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
			  "img-src data:; frame-ancestors 'none'"}}};
	return HttpAnswer{404, kText, "not found\n"};
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

HttpServer::HttpServer(const Config &config, const StatusHistory *history)
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

	for (const std::string *file : {&access.key, &access.password_file})
		if (std::string warning = file->empty() ? "" : secret_file_warning(*file); !warning.empty())
			spdlog::warn("{}", warning);

	auto quick = [=, application = config.application](const HttpRequest &request) -> std::optional<HttpAnswer> {
		/* Probes have no password. */
		bool open = expected.empty() || request.path == "/healthz" || request.path == "/readyz";

		if (!open && !same(request.authorization, expected))
			return HttpAnswer{401, kText, "a password is needed\n", {{"WWW-Authenticate", "Basic realm=\"siphon\""}}};
		if (!request.application.empty() && request.application != application)
			return HttpAnswer{404, kText, "this is the publisher of application " + application + "\n"};
		return quick_answer(request.path, *history);
	};
	/* On the one thread that makes slow answers. */
	auto metrics = std::make_shared<HttpText>(
		"text/plain; version=0.0.4; charset=utf-8", [table_metrics = config.table_metrics](const Status &status) {
			return metrics_text(status, StatusHistory::Clock::now(), table_metrics);
		});
	auto json = std::make_shared<HttpText>(kJson, [history, directory = config.ring_directory](const Status &status) {
		return status_json(status, StatusHistory::Clock::now(), history->started(),
						   list_other_applications(directory, status.application));
	});
	auto slow = [=](const HttpRequest &request) {
		return (request.path == "/metrics" ? metrics : json)->answer(request, history->status());
	};
	auto port = std::make_unique<HttpPort>(quick, slow);

	if (!access.certificate.empty())
		port->use_tls(access.certificate, access.key);

	/* Nobody asked for just this place, and several applications on a machine are nothing special. */
	int last = config.http_listen_set || number == 0 ? number : number + kFurtherPorts;
	bool listens = false;

	for (int tried = number; !listens && tried <= last; tried++)
		listens = port->listen(host, tried);
	if (!listens)
	{
		std::string line = "can't listen on " + config.http_listen +
						   ", which may be taken: choose another place, or none, with "
						   "--http-listen";

		if (config.http_listen_set)
			throw Fatal(ExitCode::Usage, line);
		spdlog::warn("{}; there are no metrics", line);
		return;
	}
	if (number != 0 && port->port() != number)
		spdlog::warn("{} is taken, as by the publisher of another application: what follows may be elsewhere after the "
					 "next start, "
					 "so give each one a place of its own with --http-listen",
					 config.http_listen);
	url_ = fmt::format("{}://{}:{}/", access.certificate.empty() ? "http" : "https",
					   host.find(':') == std::string::npos ? host : "[" + host + "]", port->port());
	spdlog::info("metrics and status are at {}", url_);
	port_ = std::move(port);
}

HttpServer::~HttpServer() = default;

} // namespace siphon
