/* See http_port.h. */
#include "program/http/http_port.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <netdb.h>
#include <poll.h>
#include <sstream>
#include <stdexcept>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gnutls/x509.h>
#include <microhttpd.h>

#include "program/exit_codes.h"

namespace siphon {

/* For a whole request. The library's own time-outs are for each read: a byte now and then would hold a connection for ever. */
static constexpr std::chrono::seconds kPatience{5};
/* Of those that are sent much, bytes in a second: whoever takes less is no scraper. */
static constexpr size_t kSlowestRate = 256 * 1024;
static constexpr unsigned kConnections = 256;
/* A request's head, and what the library keeps of the connection. */
static constexpr size_t kConnectionMemory = 16 * 1024;

/* A request whose answer takes long. */
struct HttpPort::Exchange
{
	MHD_Connection *connection;
	HttpRequest request;
	std::optional<HttpAnswer> answer; /* by the slow thread, before it resumes the connection */
};

/* What the library calls. No exception may pass through it. */
struct HttpPort::Callbacks
{
	static MHD_Result request(void *self, MHD_Connection *connection, const char *path, const char *method,
							  const char *, const char *, size_t *, void **exchange)
	{
		try
		{
			return answer(static_cast<HttpPort *>(self), connection, path, method,
						  reinterpret_cast<Exchange **>(exchange));
		}
		catch (...)
		{
			return MHD_NO;
		}
	}

	static std::string header(MHD_Connection *connection, MHD_ValueKind kind, const char *name)
	{
		const char *value = MHD_lookup_connection_value(connection, kind, name);

		return value != nullptr ? value : "";
	}

	static MHD_Result answer(HttpPort *port, MHD_Connection *connection, const char *path, const char *method,
							 Exchange **exchange)
	{
		/* It was made meanwhile. */
		if (*exchange != nullptr)
			return send(port, connection, (*exchange)->answer.value_or(HttpAnswer{500, "text/plain", "no answer\n"}));
		if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
			return send(port, connection, {405, "text/plain; charset=utf-8", "only GET\n", {{"Allow", "GET, HEAD"}}});

		HttpRequest request{path, header(connection, MHD_GET_ARGUMENT_KIND, "application"),
							header(connection, MHD_HEADER_KIND, "Authorization"),
							header(connection, MHD_HEADER_KIND, "Accept-Encoding").find("gzip") != std::string::npos};

		if (std::optional<HttpAnswer> answer = port->answer_(request))
			return send(port, connection, *answer);

		*exchange = new Exchange{connection, std::move(request), std::nullopt};
		MHD_suspend_connection(connection);

		std::lock_guard<std::mutex> guard(port->mutex_);

		port->queue_.push_back(*exchange);
		port->queued_.notify_one();
		return MHD_YES;
	}

	static MHD_Result send(HttpPort *port, MHD_Connection *connection, const HttpAnswer &answer)
	{
		auto *content = new std::shared_ptr<const std::string>(
			answer.shared ? answer.shared : std::make_shared<const std::string>(answer.content));
		/* Debian 12's library takes what it only reads without const. */
		MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
			(*content)->size(), const_cast<char *>((*content)->data()), release, content);

		if (response == nullptr)
		{
			release(content);
			return MHD_NO;
		}
		MHD_add_response_header(response, "Content-Type", answer.type.c_str());
		MHD_add_response_header(response, "Cache-Control", "no-store");
		MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
		MHD_add_response_header(response, "Connection", "close");
		for (const auto &[name, value] : answer.headers)
			MHD_add_response_header(response, name, value.c_str());

		MHD_Result result = MHD_queue_response(connection, static_cast<unsigned>(answer.status), response);

		/* A long answer has more time. */
		port->connections_[connection] =
			Clock::now() + kPatience + std::chrono::seconds((*content)->size() / kSlowestRate);
		MHD_destroy_response(response);
		return result;
	}

	static void release(void *content) { delete static_cast<std::shared_ptr<const std::string> *>(content); }

	static void completed(void *, MHD_Connection *, void **exchange, MHD_RequestTerminationCode)
	{
		delete static_cast<Exchange *>(*exchange);
		*exchange = nullptr;
	}

	static void connection(void *self, MHD_Connection *connection, void **, MHD_ConnectionNotificationCode what)
	{
		auto &connections = static_cast<HttpPort *>(self)->connections_;

		if (what == MHD_CONNECTION_NOTIFY_CLOSED)
			connections.erase(connection);
		else
			connections.try_emplace(connection, Clock::now() + kPatience);
	}
};

HttpPort::~HttpPort()
{
	if (slow_thread_.joinable())
	{
		{
			std::lock_guard<std::mutex> guard(mutex_);

			stopping_ = true;
			queued_.notify_one();
		}
		slow_thread_.join();
		/* The library waits for those who are suspended. */
		for (Exchange *exchange : queue_)
			MHD_resume_connection(exchange->connection);
	}
	if (thread_.joinable())
	{
		eventfd_write(stop_, 1);
		thread_.join();
	}
	if (daemon_ != nullptr)
		MHD_stop_daemon(daemon_);
	if (stop_ >= 0)
		close(stop_);
}

/* Makes the answers that take long, one after the other. */
void
HttpPort::run_slow()
{
	std::unique_lock<std::mutex> guard(mutex_);

	for (;;)
	{
		queued_.wait(guard, [this] { return stopping_ || !queue_.empty(); });
		if (stopping_)
			return;

		Exchange *exchange = queue_.front();

		queue_.pop_front();
		guard.unlock();
		try
		{
			exchange->answer = slow_(exchange->request);
		}
		catch (const std::exception &)
		{
			/* As there is no memory for it: 500. */
		}
		/* It is the port's thread's again. */
		MHD_resume_connection(exchange->connection);
		guard.lock();
	}
}

static std::string
read_file(const std::string &path)
{
	std::ifstream file(path);
	std::stringstream content;

	content << file.rdbuf();
	return file ? content.str() : "";
}

void
HttpPort::use_tls(const std::string &certificate, const std::string &key)
{
	gnutls_certificate_credentials_t credentials;
	gnutls_x509_crt_t *list = nullptr;
	unsigned count = 0;

	certificate_ = read_file(certificate);
	key_ = read_file(key);

	/* The library would only say that it can't start. */
	auto datum = [](std::string *text) {
		return gnutls_datum_t{reinterpret_cast<unsigned char *>(text->data()), static_cast<unsigned>(text->size())};
	};
	gnutls_datum_t certificate_datum = datum(&certificate_);
	gnutls_datum_t key_datum = datum(&key_);

	if (gnutls_x509_crt_list_import2(&list, &count, &certificate_datum, GNUTLS_X509_FMT_PEM, 0) < 0)
		throw Fatal(ExitCode::Usage,
					"--http-cert: " + certificate + " can't be read, or has no certificate in PEM format");
	for (unsigned i = 0; i < count; i++)
		gnutls_x509_crt_deinit(list[i]);
	gnutls_free(list);
	if (gnutls_certificate_allocate_credentials(&credentials) != GNUTLS_E_SUCCESS)
		throw std::bad_alloc();

	int result = gnutls_certificate_set_x509_key_mem(credentials, &certificate_datum, &key_datum, GNUTLS_X509_FMT_PEM);

	gnutls_certificate_free_credentials(credentials);
	if (result < 0)
		throw Fatal(ExitCode::Usage,
					"--http-key: " + key + " can't be read, or is not the key of --http-cert in PEM format");
}

bool
HttpPort::listen(const std::string &host, int port)
{
	addrinfo hints = {};
	addrinfo *addresses = nullptr;
	std::vector<MHD_OptionItem> tls;

	if (!certificate_.empty())
		tls = {{MHD_OPTION_HTTPS_MEM_CERT, 0, certificate_.data()},
			   {MHD_OPTION_HTTPS_MEM_KEY, 0, key_.data()},
			   {MHD_OPTION_HTTPS_PRIORITIES, 0, const_cast<char *>("NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2")}};
	tls.push_back({MHD_OPTION_END, 0, nullptr});
	if (stop_ < 0)
		stop_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (stop_ < 0)
		throw std::runtime_error(std::string("eventfd: ") + strerror(errno));
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
	if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &addresses) != 0)
		return false;
	for (addrinfo *address = addresses; address != nullptr && daemon_ == nullptr; address = address->ai_next)
		daemon_ = MHD_start_daemon(
			MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (address->ai_family == AF_INET6 ? MHD_USE_IPv6 : MHD_NO_FLAG) |
				(certificate_.empty() ? MHD_NO_FLAG : MHD_USE_TLS),
			0, nullptr, nullptr, Callbacks::request, this, MHD_OPTION_SOCK_ADDR, address->ai_addr,
			MHD_OPTION_NOTIFY_CONNECTION, Callbacks::connection, this, MHD_OPTION_NOTIFY_COMPLETED,
			Callbacks::completed, this, MHD_OPTION_CONNECTION_LIMIT, kConnections, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
			kConnectionMemory, MHD_OPTION_ARRAY, tls.data(), MHD_OPTION_END);
	freeaddrinfo(addresses);
	if (daemon_ == nullptr)
		return false;
	port_ = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_BIND_PORT)->port;
	slow_thread_ = std::thread([this] { run_slow(); });
	thread_ = std::thread([this] { run(); });
	return true;
}

/* Ends the connections whose time is over. Returns milliseconds until the next may be, or -1. */
int
HttpPort::end_late()
{
	Clock::time_point now = Clock::now();
	int64_t next = -1;

	for (const auto &[connection, until] : connections_)
	{
		auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now).count();

		if (left <= 0)
			shutdown(MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd, SHUT_RDWR);
		left = std::max<int64_t>(left, 10);
		next = next < 0 ? left : std::min<int64_t>(next, left);
	}
	return static_cast<int>(next);
}

void
HttpPort::run()
{
	pollfd polled[2] = {{stop_, POLLIN, 0},
						{MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, POLLIN, 0}};

	while (polled[0].revents == 0)
	{
		int wait = end_late();
		MHD_UNSIGNED_LONG_LONG wanted;

		if (MHD_get_timeout(daemon_, &wanted) == MHD_YES && (wait < 0 || wanted < static_cast<unsigned>(wait)))
			wait = static_cast<int>(wanted);
		poll(polled, 2, wait);
		MHD_run(daemon_);
	}
}

} // namespace siphon
