/*
 * Answers questions over HTTP: metrics, health, status, and a page for people; to those who know the password, if there
 * is one. It takes what the status history has, and never asks the loop.
 */
#ifndef SIPHON_HTTP_SERVER_H
#define SIPHON_HTTP_SERVER_H

#include <memory>
#include <string>

#include "publisher/config/config.h"
#include "publisher/watch/status_history.h"

namespace siphon {

class HttpPort;

class HttpServer
{
public:
	/*
	 * Begins to listen where the configuration says. Where that can't be, as it is taken: Fatal(Usage) if it was asked
	 * for, and else at one of the ports behind it, with a line in the log. Publishing needs nobody who listens.
	 */
	HttpServer(const Config &config, const StatusHistory *history);
	~HttpServer();
	/* Of the page; empty: nothing listens. */
	const std::string &url() const { return url_; }

	HttpServer(const HttpServer &) = delete;
	HttpServer &operator=(const HttpServer &) = delete;

private:
	std::unique_ptr<HttpPort> port_; /* nullptr: nothing listens */
	std::string url_;
};

} // namespace siphon

#endif
