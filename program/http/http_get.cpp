/* See http_get.h. */
#include "program/http/http_get.h"

#include <cerrno>
#include <cstring>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace siphon {

static constexpr timeval kPatience{5, 0};
/* More than a server with thousands of streams says. */
static constexpr size_t kBodyMax = 256 * 1024 * 1024;

static int
dial(const std::string &host, const std::string &port, std::string *why)
{
	addrinfo hints = {};
	addrinfo *addresses = nullptr;
	int dialed = -1;

	hints.ai_socktype = SOCK_STREAM;
	if (int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &addresses); error != 0)
	{
		*why = gai_strerror(error);
		return -1;
	}
	for (addrinfo *address = addresses; address != nullptr && dialed < 0; address = address->ai_next)
	{
		dialed = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (dialed < 0)
			continue;
		setsockopt(dialed, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience));
		setsockopt(dialed, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof(kPatience));
		if (connect(dialed, address->ai_addr, address->ai_addrlen) != 0)
		{
			*why = strerror(errno);
			close(dialed);
			dialed = -1;
		}
	}
	freeaddrinfo(addresses);
	return dialed;
}

std::optional<std::string>
http_get(const std::string &url, std::string *why)
{
	static constexpr char kScheme[] = "http://";

	if (url.rfind(kScheme, 0) != 0)
	{
		*why = "only http:// can be asked";
		return std::nullopt;
	}

	size_t begin = strlen(kScheme);
	size_t slash = std::min(url.find('/', begin), url.size());
	std::string authority = url.substr(begin, slash - begin);
	size_t colon = authority.rfind(':');
	bool has_port = colon != std::string::npos && authority.find(']', colon) == std::string::npos;
	std::string host = authority.substr(0, has_port ? colon : std::string::npos);
	std::string port = has_port ? authority.substr(colon + 1) : "80";

	if (host.size() > 2 && host.front() == '[')
		host = host.substr(1, host.size() - 2);

	int connection = dial(host, port, why);

	if (connection < 0)
		return std::nullopt;

	/* Of version 1.0, as then the end of the connection is the end of the body. */
	std::string request =
		"GET " + (slash < url.size() ? url.substr(slash) : "/") + " HTTP/1.0\r\nHost: " + authority + "\r\n\r\n";
	std::string answer;
	char buffer[64 * 1024];
	ssize_t got = send(connection, request.data(), request.size(), MSG_NOSIGNAL);

	while (got > 0 && answer.size() < kBodyMax)
	{
		got = recv(connection, buffer, sizeof(buffer), 0);
		if (got > 0)
			answer.append(buffer, static_cast<size_t>(got));
	}

	int error = errno;
	size_t head = answer.find("\r\n\r\n");

	close(connection);
	if (got < 0)
		*why = strerror(error);
	else if (answer.rfind("HTTP/1.", 0) != 0 || head == std::string::npos)
		*why = "no answer";
	else if (answer.compare(8, 5, " 200 ") != 0)
		*why = answer.substr(0, answer.find('\r'));
	else
		return answer.substr(head + 4);
	return std::nullopt;
}

} // namespace siphon
