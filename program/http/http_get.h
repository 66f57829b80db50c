/* One GET over plain HTTP, for the check's questions to nats-server's monitoring port. */
#ifndef SIPHON_HTTP_GET_H
#define SIPHON_HTTP_GET_H

#include <optional>
#include <string>

namespace siphon {

/* The body behind http://host:port/path, or nullopt with *why. Waits some seconds at most for each step. */
std::optional<std::string> http_get(const std::string &url, std::string *why);

} // namespace siphon

#endif
