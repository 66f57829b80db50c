/* See http_server.h. */
#include "http_server.h"

#include <sys/socket.h>
#include <thread>

#include <httplib.h>

#include "exit_codes.h"
#include "health.h"
#include "log.h"
#include "metrics.h"
#include "status_json.h"

namespace siphon {

static constexpr size_t kThreads = 4;
/* Who is slower than this is no probe, and must not keep the others waiting. */
static constexpr time_t kPatience = 2;

/* status_page.html, as the build makes a string of it. */
static constexpr char kPage[] =
#include "status_page.inc"
	;

struct HttpServer::Running
{
	httplib::Server server;
	std::thread thread;
};

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

static void
add_routes(httplib::Server *server, const Monitor *monitor, bool table_metrics)
{
	using Request = httplib::Request;
	using Response = httplib::Response;
	static constexpr char kText[] = "text/plain; charset=utf-8";
	static constexpr char kJson[] = "application/json";

	server->Get("/metrics", [=](const Request &, Response &response) {
		response.set_content(metrics_text(*monitor->status(), Monitor::Clock::now(), table_metrics),
							 "text/plain; version=0.0.4; charset=utf-8");
	});
	server->Get("/healthz", [=](const Request &, Response &response) {
		bool well = alive(*monitor->status(), Monitor::Clock::now());

		response.status = well ? 200 : 503;
		response.set_content(well ? "alive\n" : "the publisher's loop stands still\n", kText);
	});
	server->Get("/readyz", [=](const Request &, Response &response) {
		bool ready;
		std::string text = readiness_text(find_problems(*monitor->status(), Monitor::Clock::now()), &ready);

		response.status = ready ? 200 : 503;
		response.set_content(text, kText);
	});
	server->Get("/status", [=](const Request &, Response &response) {
		response.set_content(status_json(*monitor->status(), Monitor::Clock::now(), monitor->started()), kJson);
	});
	server->Get("/", [=](const Request &, Response &response) {
		/* All that it needs is in it. */
		response.set_header("Content-Security-Policy",
							"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
							"img-src data:; frame-ancestors 'none'");
		response.set_content(kPage, sizeof(kPage) - 1, "text/html; charset=utf-8");
	});
	server->Get("/history", [=](const Request &, Response &response) {
		response.set_content(history_json(monitor->history()), kJson);
	});
}

HttpServer::HttpServer(const Config &config, const Monitor *monitor)
{
	std::string host;
	int port;

	if (config.http_listen == "off")
		return;
	split_listen(config.http_listen, &host, &port);

	auto running = std::make_unique<Running>();
	httplib::Server &server = running->server;

	/* Without the library's SO_REUSEPORT, with which two publishers would share a port, and each get half of what comes. */
	server.set_socket_options([](socket_t socket) {
		int yes = 1;

		setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	});
	server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
	server.set_keep_alive_max_count(1);
	server.set_read_timeout(kPatience, 0);
	server.set_write_timeout(kPatience, 0);
	server.set_payload_max_length(1024);
	add_routes(&server, monitor, config.table_metrics);

	if (port == 0)
		port = server.bind_to_any_port(host.c_str());
	else if (!server.bind_to_port(host.c_str(), port))
		port = -1;
	if (port < 0)
	{
		std::string line = "can't listen on " + config.http_listen + ", which may be taken: choose another place, or "
						   "none, with --http-listen";

		if (config.http_listen_set)
			throw Fatal(ExitCode::Usage, line);
		spdlog::warn("{}; there are no metrics", line);
		return;
	}
	running->thread = std::thread([&server] { server.listen_after_bind(); });
	/* One that does not run yet can't be stopped. */
	while (!server.is_running())
		std::this_thread::yield();
	spdlog::info("metrics and status are at http://{}:{}/", host.find(':') == std::string::npos ? host : "[" + host + "]",
				 port);
	running_ = std::move(running);
}

HttpServer::~HttpServer()
{
	if (!running_)
		return;
	running_->server.stop();
	running_->thread.join();
}

} // namespace siphon
