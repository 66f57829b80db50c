/*
 * A text that is long and takes a while to make, such as the metrics of 10,000 tables: made once for each
 * status, however many ask for it, compressed for those who take that, and shared by all who are being sent it.
 */
#ifndef SIPHON_HTTP_TEXT_H
#define SIPHON_HTTP_TEXT_H

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "program/http/http_port.h"
#include "publisher/watch/status.h"

namespace siphon {

class HttpText
{
public:
	using Make = std::function<std::string(const Status &)>;

	/* `make` is called by answer() alone. */
	HttpText(const char *type, Make make) : type_(type), make_(std::move(make)) {}

	/* Made anew for another status, and after a second, as it has times that pass. */
	HttpAnswer answer(const HttpRequest &request, const std::shared_ptr<const Status> &status);

private:
	using Clock = std::chrono::steady_clock;

	const char *type_;
	Make make_;
	std::shared_ptr<const Status> made_of_;
	Clock::time_point made_at_;
	std::shared_ptr<const std::string> plain_; /* nullptr: there is none */
	std::shared_ptr<const std::string> compressed_;
};

/* As gzip does it. Throws std::bad_alloc. */
std::string gzip(const std::string &text);

} // namespace siphon

#endif
