/* See http_port.h. */
#include "http_port.h"

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

#include "exit_codes.h"

namespace siphon {

/* For a whole request. The library's own time-outs are for each read: a byte now and then would hold a connection for ever. */
static constexpr std::chrono::seconds kPatience{5};
static constexpr unsigned kConnections = 256;
/* A request's head, and what the library keeps of the connection. */
static constexpr size_t kConnectionMemory = 16 * 1024;

/* What the library calls. No exception may pass through it. */
struct HttpPort::Callbacks
{
	static MHD_Result request(void *self, MHD_Connection *connection, const char *path, const char *method, const char *,
							  const char *, size_t *, void **)
	{
		try
		{
			return answer(static_cast<HttpPort *>(self), connection, path, method);
		}
		catch (...)
		{
			return MHD_NO;
		}
	}

	static MHD_Result answer(HttpPort *port, MHD_Connection *connection, const char *path, const char *method)
	{
		const char *authorization = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
		HttpAnswer answer;

		if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
			answer = port->answer_({path, authorization != nullptr ? authorization : ""});
		else
			answer = {405, "text/plain; charset=utf-8", "only GET\n", {{"Allow", "GET, HEAD"}}};

		MHD_Response *response =
			MHD_create_response_from_buffer(answer.content.size(), answer.content.data(), MHD_RESPMEM_MUST_COPY);

		if (response == nullptr)
			return MHD_NO;
		MHD_add_response_header(response, "Content-Type", answer.type.c_str());
		MHD_add_response_header(response, "Cache-Control", "no-store");
		MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
		MHD_add_response_header(response, "Connection", "close");
		for (const auto &[name, value] : answer.headers)
			MHD_add_response_header(response, name, value.c_str());

		MHD_Result result = MHD_queue_response(connection, static_cast<unsigned>(answer.status), response);

		MHD_destroy_response(response);
		return result;
	}

	static void connection(void *self, MHD_Connection *connection, void **, MHD_ConnectionNotificationCode what)
	{
		auto &connections = static_cast<HttpPort *>(self)->connections_;

		if (what == MHD_CONNECTION_NOTIFY_CLOSED)
			connections.erase(connection);
		else
			connections.try_emplace(connection, Clock::now());
	}
};

HttpPort::~HttpPort()
{
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
		throw Fatal(ExitCode::Usage, "--http-cert: " + certificate + " can't be read, or has no certificate in PEM format");
	for (unsigned i = 0; i < count; i++)
		gnutls_x509_crt_deinit(list[i]);
	gnutls_free(list);
	if (gnutls_certificate_allocate_credentials(&credentials) != GNUTLS_E_SUCCESS)
		throw std::bad_alloc();

	int result = gnutls_certificate_set_x509_key_mem(credentials, &certificate_datum, &key_datum, GNUTLS_X509_FMT_PEM);

	gnutls_certificate_free_credentials(credentials);
	if (result < 0)
		throw Fatal(ExitCode::Usage, "--http-key: " + key + " can't be read, or is not the key of --http-cert in PEM format");
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
	stop_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (stop_ < 0)
		throw std::runtime_error(std::string("eventfd: ") + strerror(errno));
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
	if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &addresses) != 0)
		return false;
	for (addrinfo *address = addresses; address != nullptr && daemon_ == nullptr; address = address->ai_next)
		daemon_ = MHD_start_daemon(MHD_USE_EPOLL | (address->ai_family == AF_INET6 ? MHD_USE_IPv6 : MHD_NO_FLAG) |
									   (certificate_.empty() ? MHD_NO_FLAG : MHD_USE_TLS),
								   0, nullptr, nullptr, Callbacks::request, this, MHD_OPTION_SOCK_ADDR, address->ai_addr,
								   MHD_OPTION_NOTIFY_CONNECTION, Callbacks::connection, this, MHD_OPTION_CONNECTION_LIMIT,
								   kConnections, MHD_OPTION_CONNECTION_MEMORY_LIMIT, kConnectionMemory, MHD_OPTION_ARRAY,
								   tls.data(), MHD_OPTION_END);
	freeaddrinfo(addresses);
	if (daemon_ == nullptr)
		return false;
	port_ = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_BIND_PORT)->port;
	thread_ = std::thread([this] { run(); });
	return true;
}

/* Ends the connections whose time is over. Returns milliseconds until the next may be, or -1. */
int
HttpPort::end_late()
{
	Clock::time_point now = Clock::now();
	int64_t next = -1;

	for (const auto &[connection, since] : connections_)
	{
		auto left = std::chrono::ceil<std::chrono::milliseconds>(since + kPatience - now).count();

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
