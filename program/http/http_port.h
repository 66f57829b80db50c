/*
 * A port that answers GET over HTTP or HTTPS, by libmicrohttpd, on one thread of its own that never waits for anybody:
 * a connection has its time, and so many of them there are at most. Answers that take long are made on a second thread,
 * so that whoever asks whether we live need not wait for them.
 */
#ifndef SIPHON_HTTP_PORT_H
#define SIPHON_HTTP_PORT_H

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
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
	std::string application;   /* that is asked for by ?application=, or empty */
	std::string authorization; /* that header's value, or empty */
	bool gzip = false;         /* it takes compressed answers */
};

struct HttpAnswer
{
	int status = 200;
	std::string type;
	std::string content;
	std::vector<std::pair<const char *, std::string>> headers{}; /* further ones */
	std::shared_ptr<const std::string> shared{};                 /* the content, if it is not nullptr */
};

class HttpPort
{
public:
	using PublishAck = std::function<HttpAnswer(const HttpRequest &)>;

	/* `answer` is asked on the port's thread; where it answers with nothing, as that takes long, `slow` is on another
	 * one. */
	using Quick = std::function<std::optional<HttpAnswer>(const HttpRequest &)>;
	HttpPort(Quick answer, PublishAck slow) : answer_(std::move(answer)), slow_(std::move(slow)) {}
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

	struct Exchange;

	void run();
	void run_slow();
	int end_late();

	Quick answer_;
	PublishAck slow_;
	std::string certificate_;
	std::string key_;
	MHD_Daemon *daemon_ = nullptr;
	std::map<MHD_Connection *, Clock::time_point> connections_; /* until when each may last */
	int port_ = 0;
	int stop_ = -1; /* eventfd */
	std::mutex mutex_;
	std::condition_variable queued_;
	std::deque<Exchange *> queue_; /* connections that are suspended, for slow_ */
	bool stopping_ = false;
	std::thread slow_thread_;
	std::thread thread_;
};

} // namespace siphon

#endif
