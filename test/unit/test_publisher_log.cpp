/* The log: how often a line may come, and lines as JSON. */
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "program/log_json.h"
#include "program/log_limit.h"

using namespace siphon;

TEST(LogLimit, LeavesOutWhatComesAgainAndAgain)
{
	LogLimit limit;
	auto now = LogLimit::Clock::now();
	uint64_t left_out;

	for (uint64_t i = 0; i < LogLimit::kLines; i++)
		EXPECT_TRUE(limit.admit("message " + std::to_string(i) + " was refused", now, &left_out));
	for (int i = 0; i < 7; i++)
		EXPECT_FALSE(limit.admit("message 1000 was refused", now, &left_out));
	EXPECT_TRUE(limit.admit("another", now, &left_out));
	EXPECT_TRUE(limit.admit("message 5 was refused", now + LogLimit::kPeriod, &left_out));
	EXPECT_EQ(left_out, 7u);
	EXPECT_TRUE(limit.admit("message 6 was refused", now + LogLimit::kPeriod, &left_out));
	EXPECT_EQ(left_out, 0u);
	/* It does not remember for ever. */
	for (size_t i = 0; i < 2 * LogLimit::kShapes; i++)
		EXPECT_TRUE(limit.admit(std::string(i, 'x'), now, &left_out));
}

TEST(LogJson, IsOneObjectALine)
{
	std::string text = "a \"quote\"\n\xff";
	spdlog::details::log_msg line(spdlog::log_clock::time_point(std::chrono::milliseconds(1500)), {}, "siphon",
								  spdlog::level::warn, text);
	spdlog::memory_buf_t buffer;

	json_formatter("prd.main")->format(line, buffer);

	std::string out(buffer.data(), buffer.size());

	EXPECT_EQ(out.find('\n'), out.size() - 1);

	auto json = nlohmann::json::parse(out);

	EXPECT_EQ(json["time"], "1970-01-01T00:00:01.500Z");
	EXPECT_EQ(json["level"], "warning");
	EXPECT_EQ(json["application"], "prd.main");
	EXPECT_EQ(json["message"], "a \"quote\"\n�");
	EXPECT_EQ(json.size(), 4u);
}
