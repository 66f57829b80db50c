/* Text that came out of shared memory and may be anything, on its way to those who insist on UTF-8. */
#ifndef SIPHON_UTF8_H
#define SIPHON_UTF8_H

#include <string>

#include <nlohmann/json.hpp>

namespace siphon {

/* What is no UTF-8 becomes U+FFFD. */
inline std::string
as_utf8(const std::string &text)
{
	using Json = nlohmann::json;

	return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

} // namespace siphon

#endif
