/*
 * A port that answers GET over HTTP or HTTPS, one answer for each connection, on one thread of its own that never waits
 * for anybody: a connection has its time, and so many of them there are at most. Whoever is slow, or keeps many
 * connections open, gives way to whoever comes.
 */
#ifndef SIPHON_HTTP_PORT_H
#define SIPHON_HTTP_PORT_H

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <openssl/ssl.h>

namespace siphon {

struct HttpRequest
{
	std::string path;          /* without the query */
	std::string authorization; /* that header's value, or empty */
};

struct HttpAnswer
{
	int status = 200;
	std::string type;
	std::string content;
	std::string headers; /* further ones, each with its end of line */
};

class HttpPort
{
public:
	using Answer = std::function<HttpAnswer(const HttpRequest &)>;

	HttpPort();
	~HttpPort();
	HttpPort(const HttpPort &) = delete;
	HttpPort &operator=(const HttpPort &) = delete;

	/* Speaks TLS with this certificate and key. Throws std::runtime_error naming the file that is no good. */
	void use_tls(const std::string &certificate, const std::string &key);
	/* False: it can't listen there. Port 0: any that is free. */
	bool listen(const std::string &host, int port);
	int port() const { return port_; }
	/* From now on answers. */
	void start(Answer answer);

private:
	using Clock = std::chrono::steady_clock;
	struct Connection;
	enum class Step;

	void run();
	void accept_all();
	void build_answer(Connection *connection) const;
	bool advance(Connection *connection);

	std::unique_ptr<SSL_CTX, void (*)(SSL_CTX *)> tls_;
	Answer answer_;
	int listener_ = -1;
	int stop_ = -1; /* readable when it is time to stop */
	int port_ = -1;
	std::list<Connection> connections_; /* the oldest first */
	Clock::time_point deaf_until_;      /* accepts nobody, as there are no descriptors */
	std::thread thread_;
};

} // namespace siphon

#endif
