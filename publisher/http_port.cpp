/* See http_port.h. */
#include "http_port.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdexcept>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

namespace siphon {

/* For a whole request: whoever takes longer is no probe. */
static constexpr std::chrono::seconds kPatience{5};
/* Each may hold an answer, which is large where tables are many. */
static constexpr size_t kConnections = 16;
static constexpr size_t kHeadMax = 8192;
static constexpr int kBacklog = 16;
static constexpr std::chrono::milliseconds kDeaf{100};

enum class HttpPort::Step { Handshake, Read, Write, Linger };

struct HttpPort::Connection
{
	Connection(int socket, SSL *session, Clock::time_point end)
		: fd(socket), tls(session, SSL_free), step(session != nullptr ? Step::Handshake : Step::Read), deadline(end)
	{
	}
	~Connection()
	{
		tls.reset();
		close(fd);
	}
	Connection(const Connection &) = delete;
	Connection &operator=(const Connection &) = delete;

	/* Bytes; 0: the other side has ended; -1: not now, or broken, as `broken` says. */
	ssize_t transfer(bool out, char *data, size_t size);
	bool shake_hands();

	int fd;
	std::unique_ptr<SSL, void (*)(SSL *)> tls;
	Step step;
	Clock::time_point deadline;
	short wants = POLLIN;
	bool broken = false;
	std::string head;
	std::string answer;
	size_t sent = 0;

private:
	void explain(int result);
};

/* What the TLS session waits for. */
void
HttpPort::Connection::explain(int result)
{
	switch (SSL_get_error(tls.get(), result))
	{
		case SSL_ERROR_WANT_READ:
			wants = POLLIN;
			break;
		case SSL_ERROR_WANT_WRITE:
			wants = POLLOUT;
			break;
		default:
			broken = true;
	}
	ERR_clear_error();
}

bool
HttpPort::Connection::shake_hands()
{
	int result = SSL_accept(tls.get());

	if (result != 1)
		explain(result);
	return result == 1;
}

ssize_t
HttpPort::Connection::transfer(bool out, char *data, size_t size)
{
	ssize_t done;

	wants = out ? POLLOUT : POLLIN;
	if (tls)
	{
		int length = static_cast<int>(std::min<size_t>(size, INT32_MAX));
		int result = out ? SSL_write(tls.get(), data, length) : SSL_read(tls.get(), data, length);

		if (result > 0)
			return result;
		explain(result);
		return -1;
	}
	do
		done = out ? send(fd, data, size, MSG_NOSIGNAL) : recv(fd, data, size, 0);
	while (done < 0 && errno == EINTR);
	if (done < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
		broken = true;
	return done;
}

HttpPort::HttpPort() : tls_(nullptr, SSL_CTX_free)
{
}

HttpPort::~HttpPort()
{
	if (thread_.joinable())
	{
		eventfd_write(stop_, 1);
		thread_.join();
	}
	if (stop_ >= 0)
		close(stop_);
	if (listener_ >= 0)
		close(listener_);
}

void
HttpPort::use_tls(const std::string &certificate, const std::string &key)
{
	tls_.reset(SSL_CTX_new(TLS_server_method()));
	if (!tls_ || SSL_CTX_set_min_proto_version(tls_.get(), TLS1_2_VERSION) != 1)
		throw std::runtime_error("OpenSSL can't speak TLS 1.2");
	SSL_CTX_set_mode(tls_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (SSL_CTX_use_certificate_chain_file(tls_.get(), certificate.c_str()) != 1)
		throw std::runtime_error("--http-cert: " + certificate + " can't be read, or has no certificate in PEM format");
	if (SSL_CTX_use_PrivateKey_file(tls_.get(), key.c_str(), SSL_FILETYPE_PEM) != 1)
		throw std::runtime_error("--http-key: " + key +
								 " can't be read, or is not the key of --http-cert in PEM format");
}

/* Without SO_REUSEPORT, with which two publishers would share a port, and each get half of what comes. */
bool
HttpPort::listen(const std::string &host, int port)
{
	addrinfo hints = {};
	addrinfo *addresses = nullptr;
	sockaddr_storage bound;
	socklen_t length = sizeof(bound);
	int yes = 1;

	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
	if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &addresses) != 0)
		return false;
	for (addrinfo *address = addresses; address != nullptr && listener_ < 0; address = address->ai_next)
	{
		int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
		if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && ::listen(fd, kBacklog) == 0)
			listener_ = fd;
		else
			close(fd);
	}
	freeaddrinfo(addresses);
	if (listener_ < 0 || getsockname(listener_, reinterpret_cast<sockaddr *>(&bound), &length) != 0)
		return false;
	port_ = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6 *>(&bound)->sin6_port
											  : reinterpret_cast<sockaddr_in *>(&bound)->sin_port);
	return true;
}

void
HttpPort::start(Answer answer)
{
	answer_ = std::move(answer);
	stop_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (stop_ < 0)
		throw std::runtime_error(std::string("eventfd: ") + strerror(errno));
	thread_ = std::thread([this] { run(); });
}

void
HttpPort::accept_all()
{
	for (;;)
	{
		int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
		SSL *session = nullptr;

		if (fd < 0)
		{
			/* Without descriptors or memory it would be ready at once again. */
			if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR && errno != ECONNABORTED)
				deaf_until_ = Clock::now() + kDeaf;
			return;
		}
		if (connections_.size() >= kConnections)
			connections_.pop_front();
		if (tls_)
		{
			session = SSL_new(tls_.get());
			if (session == nullptr || SSL_set_fd(session, fd) != 1)
			{
				SSL_free(session);
				close(fd);
				continue;
			}
		}
		connections_.emplace_back(fd, session, Clock::now() + kPatience);
	}
}

static const char *
reason(int status)
{
	switch (status)
	{
		case 200:
			return "OK";
		case 400:
			return "Bad Request";
		case 401:
			return "Unauthorized";
		case 404:
			return "Not Found";
		case 405:
			return "Method Not Allowed";
		case 431:
			return "Request Header Fields Too Large";
		default:
			return "Service Unavailable";
	}
}

/* The value of a header in a request's head. */
static std::string
header(const std::string &head, const char *name)
{
	size_t length = strlen(name);
	size_t line = head.find("\r\n");

	while (line != std::string::npos)
	{
		line += 2;
		if (strncasecmp(head.c_str() + line, name, length) == 0 && head[line + length] == ':')
		{
			size_t end = head.find("\r\n", line);
			size_t begin = head.find_first_not_of(" \t", line + length + 1);

			return begin < end ? head.substr(begin, end - begin) : "";
		}
		line = head.find("\r\n", line);
	}
	return "";
}

void
HttpPort::build_answer(Connection *connection) const
{
	const std::string &head = connection->head;
	std::string line = head.substr(0, head.find("\r\n"));
	size_t first = line.find(' ');
	size_t last = line.rfind(' ');
	std::string method = line.substr(0, first);
	HttpAnswer answer;

	answer.type = "text/plain; charset=utf-8";
	if (head.size() > kHeadMax)
		answer.status = 431;
	else if (first == std::string::npos || last <= first || line.compare(last + 1, 7, "HTTP/1.") != 0)
		answer.status = 400;
	else if (method != "GET" && method != "HEAD")
	{
		answer.status = 405;
		answer.headers = "Allow: GET, HEAD\r\n";
	}
	else
	{
		HttpRequest request;

		request.path = line.substr(first + 1, last - first - 1);
		request.path.resize(std::min(request.path.find('?'), request.path.size()));
		request.authorization = header(head, "Authorization");
		answer = answer_(request);
	}
	if (answer.content.empty())
		answer.content = std::string(reason(answer.status)) + "\n";
	connection->answer = "HTTP/1.1 " + std::to_string(answer.status) + " " + reason(answer.status) +
						 "\r\nContent-Type: " + answer.type +
						 "\r\nContent-Length: " + std::to_string(answer.content.size()) +
						 "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n" +
						 answer.headers + "\r\n";
	if (method != "HEAD")
		connection->answer += answer.content;
}

/* As far as it goes without waiting. False: it is over. */
bool
HttpPort::advance(Connection *connection)
{
	char buffer[4096];

	while (!connection->broken)
	{
		ssize_t size = 0;

		switch (connection->step)
		{
			case Step::Handshake:
				if (connection->shake_hands())
					connection->step = Step::Read;
				else
					return !connection->broken;
				break;
			case Step::Read:
				size = connection->transfer(false, buffer, sizeof(buffer));
				if (size <= 0)
					return size < 0 && !connection->broken;
				connection->head.append(buffer, static_cast<size_t>(size));
				if (connection->head.find("\r\n\r\n") != std::string::npos || connection->head.size() > kHeadMax)
				{
					build_answer(connection);
					connection->step = Step::Write;
				}
				break;
			case Step::Write:
				size = connection->transfer(true, connection->answer.data() + connection->sent,
											connection->answer.size() - connection->sent);
				if (size < 0)
					return !connection->broken;
				connection->sent += static_cast<size_t>(size);
				if (connection->sent == connection->answer.size())
				{
					if (connection->tls)
						SSL_shutdown(connection->tls.get());
					shutdown(connection->fd, SHUT_WR);
					connection->step = Step::Linger;
				}
				break;
			case Step::Linger:
				/* To close with something unread would take the answer away from whoever still sends. */
				size = recv(connection->fd, buffer, sizeof(buffer), 0);
				connection->wants = POLLIN;
				if (size <= 0)
					return size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
				break;
		}
	}
	return false;
}

void
HttpPort::run()
{
	std::vector<pollfd> polled;

	for (;;)
	{
		Clock::time_point now = Clock::now();
		Clock::time_point next = now + kPatience;
		bool deaf = now < deaf_until_;

		polled.assign({{stop_, POLLIN, 0}, {deaf ? -1 : listener_, POLLIN, 0}});
		if (deaf)
			next = deaf_until_;
		for (const Connection &connection : connections_)
		{
			polled.push_back({connection.fd, connection.wants, 0});
			next = std::min(next, connection.deadline);
		}

		auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - now).count();

		poll(polled.data(), polled.size(), static_cast<int>(std::max<int64_t>(wait, 0)));
		if (polled[0].revents != 0)
			return;
		now = Clock::now();

		size_t i = 2;

		for (auto connection = connections_.begin(); connection != connections_.end(); i++)
		{
			bool ready = polled[i].revents != 0;

			if (now >= connection->deadline || (ready && !advance(&*connection)))
				connection = connections_.erase(connection);
			else
				++connection;
		}
		if (polled[1].revents != 0)
			accept_all();
	}
}

} // namespace siphon
