/* See check_replicas.h. */
#include "publisher/check_replicas.h"

#include <chrono>
#include <map>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "program/http/http_get.h"
#include "reader/nats/requests.h"

namespace siphon {

using nlohmann::json;

namespace {

/* A copy may be some messages behind; one that is well has them a moment later. */
constexpr int kLooks = 6;
constexpr std::chrono::milliseconds kBetween{500};

/* Last sequences, by stream. */
using Ends = std::map<std::string, uint64_t>;

/* What a node says of its own copies. */
std::optional<Ends>
ask_node(const std::string &url, std::string *why)
{
	std::optional<std::string> body = http_get(url + "/jsz?accounts=true&streams=true", why);
	json answer = json::parse(body.value_or(""), nullptr, false);
	Ends ends;

	if (!body)
		return std::nullopt;
	if (!answer.is_object())
	{
		*why = "the answer is not JSON";
		return std::nullopt;
	}
	const json accounts = answer.value("account_details", json::array());

	for (const json &account : accounts)
	{
		const json streams = account.is_object() ? account.value("stream_detail", json::array()) : json::array();

		for (const json &stream : streams)
			if (stream.is_object())
				ends[member(stream, "name", std::string())] =
					member(object_member(stream, "state"), "last_seq", uint64_t{0});
	}
	return ends;
}

} // namespace

void
look_at_replicas(const std::vector<StreamInfo> &streams, const std::string &urls, Findings *findings)
{
	std::map<std::string, uint64_t> expected;
	std::string names;

	for (const StreamInfo &stream : streams)
		if (member(object_member(stream.info, "config"), "num_replicas", 1) > 1)
		{
			expected[stream.name] = member(object_member(stream.info, "state"), "last_seq", uint64_t{0});
			names += (names.empty() ? "" : ", ") + stream.name;
		}
	if (expected.empty())
		return;
	if (urls.empty())
		return findings->note("whether each copy of " + names +
							  " has what the leader has was not looked at: give the nodes' monitoring "
							  "ports, --nats-monitor-url http://HOST:8222,...");

	for (size_t start = 0; start < urls.size();)
	{
		size_t comma = std::min(urls.find(',', start), urls.size());
		std::string url = urls.substr(start, comma - start);
		std::string why;
		std::string behind;
		size_t copies = 0;

		start = comma + 1;
		for (int look = 0; look < kLooks; look++)
		{
			if (look > 0)
				std::this_thread::sleep_for(kBetween);

			std::optional<Ends> ends = ask_node(url, &why);

			behind.clear();
			copies = 0;
			if (!ends)
				break;
			for (const auto &[name, end] : expected)
			{
				auto copy = ends->find(name);

				if (copy == ends->end())
					continue;
				copies++;
				if (copy->second < end)
					behind += fmt::format("{}{} ends at {}, and the leader's at {}", behind.empty() ? "" : "; ", name,
										  copy->second, end);
			}
			if (behind.empty())
				break;
		}
		if (!why.empty())
			findings->wrong("the node at " + url + " does not say what it has: " + why,
							"Start nats-server with --http_port 8222, and check --nats-monitor-url.");
		else if (!behind.empty())
			findings->wrong("the copy at " + url + " has not what was acknowledged: " + behind,
							"If it stays so, the copy is broken, and must not come to lead: nats stream cluster "
							"peer-remove STREAM NODE, "
							"which makes it anew.");
		else
			findings->well(fmt::format("the node at {} has {} copies, which end as the leader's do", url, copies));
	}
}

} // namespace siphon
