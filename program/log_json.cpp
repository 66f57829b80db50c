/* See log_json.h. */
#include "program/log_json.h"

#include <fmt/chrono.h>
#include <nlohmann/json.hpp>

namespace siphon {

namespace {

class JsonFormatter : public spdlog::formatter
{
public:
	explicit JsonFormatter(std::string application) : application_(std::move(application)) {}

	void format(const spdlog::details::log_msg &line, spdlog::memory_buf_t &out) override
	{
		using Json = nlohmann::ordered_json;
		using std::chrono::duration_cast;

		auto since_1970 = line.time.time_since_epoch();
		auto seconds = duration_cast<std::chrono::seconds>(since_1970);
		auto milliseconds = duration_cast<std::chrono::milliseconds>(since_1970 - seconds).count();
		std::time_t time = static_cast<std::time_t>(seconds.count());
		std::tm utc = {};

		gmtime_r(&time, &utc);

		std::string_view message(line.payload.data(), line.payload.size());
		auto level = spdlog::level::to_string_view(line.level);
		Json json = {{"time", fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", utc, milliseconds)},
					 {"level", std::string(level.data(), level.size())},
					 {"application", application_}};

		json["message"] = message;

		std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";

		out.append(text.data(), text.data() + text.size());
	}

	std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JsonFormatter>(application_); }

private:
	const std::string application_;
};

} // namespace

std::unique_ptr<spdlog::formatter>
json_formatter(const std::string &application)
{
	return std::make_unique<JsonFormatter>(application);
}

} // namespace siphon
