/*
 * A port that answers GET over HTTP or HTTPS, by libmicrohttpd, on one thread of its own that never waits for anybody:
 * a connection has its time, and so many of them there are at most.
 */
#ifndef SIPHON_HTTP_PORT_H
#define SIPHON_HTTP_PORT_H

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

struct MHD_Connection;
struct MHD_Daemon;

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
	std::vector<std::pair<const char *, std::string>> headers{}; /* further ones */
};

class HttpPort
{
public:
	using Answer = std::function<HttpAnswer(const HttpRequest &)>;

	/* `answer` is asked on the port's thread. */
	explicit HttpPort(Answer answer) : answer_(std::move(answer)) {}
	~HttpPort();
	HttpPort(const HttpPort &) = delete;
	HttpPort &operator=(const HttpPort &) = delete;

	/* TLS, by files in PEM format. Throws Fatal(Usage) that names the option that is wrong. */
	void use_tls(const std::string &certificate, const std::string &key);
	/* Begins to listen, and to answer; port 0: any that is free. False: it can't be. */
	bool listen(const std::string &host, int port);
	int port() const { return port_; }

private:
	using Clock = std::chrono::steady_clock;
	struct Callbacks;

	void run();
	int end_late();

	Answer answer_;
	std::string certificate_;
	std::string key_;
	MHD_Daemon *daemon_ = nullptr;
	std::map<MHD_Connection *, Clock::time_point> connections_; /* since when */
	int port_ = 0;
	int stop_ = -1; /* eventfd */
	std::thread thread_;
};

} // namespace siphon

#endif
