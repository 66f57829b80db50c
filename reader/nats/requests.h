/*
 * Requests to JetStream that nobody waits for. Who needs an answer asks again until it is there:
 *
 *   std::optional<ApiReply> reply = requests.ask("STREAM.INFO.siphon_main");
 *   if (!reply) ... it is under way, the wakeup will be notified
 *
 * Each has a deadline, and a lost connection ends it. An answer is input from outside: whatever it holds, it becomes an
 * ApiReply. By hand rather than through nats.c, whose calls wait, and whose form of a stream's settings loses those that
 * its release does not know.
 */
#ifndef SIPHON_NATS_REQUESTS_H
#define SIPHON_NATS_REQUESTS_H

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include <nats/nats.h>
#include <nlohmann/json.hpp>

#include "reader/nats/nats_connection.h"

namespace siphon {

/* JetStream's numbers for what it refuses. */
constexpr int kErrorConsumerNotFound = 10014;
constexpr int kErrorNoMessage = 10037;
constexpr int kErrorStreamNameInUse = 10058;
constexpr int kErrorStreamNotFound = 10059;
constexpr int kErrorWrongLastId = 10070;
constexpr int kErrorWrongLastSequence = 10071;
constexpr int kErrorDuplicateInProgress = 10158;

/* The request, as it stands, will never be granted. Everything else that is refused may be granted later. */
bool is_final_error(int error_code);

struct ApiReply
{
	/* False: nobody answered, or nothing that is an answer; `error` says what happened. */
	bool answered = false;
	int error_code = 0; /* answered with a refusal */
	std::string error;
	nlohmann::json content = nlohmann::json::object();

	bool ok() const { return answered && error_code == 0; }
	bool final_error() const { return answered && is_final_error(error_code); }
};

/* What a message that came as an answer says. Never throws but for lack of memory. */
ApiReply read_api_reply(natsMsg *message);

/* The value of a header in a message as STREAM.MSG.GET gives it, "" if there is none. */
std::string header_of(const ApiReply &reply, const std::string &name);

/* Bytes as JetStream's API gives them; "" if they are not. */
std::string decode_base64(const std::string &text);

/* A member of an answer if it has that type, otherwise `otherwise`: nlohmann's value() throws for another type. */
template <typename T>
T
member(const nlohmann::json &object, const char *key, T otherwise)
{
	auto found = object.find(key);

	if (found == object.end())
		return otherwise;
	if constexpr (std::is_same_v<T, bool>)
		return found->is_boolean() ? found->template get<bool>() : otherwise;
	else if constexpr (std::is_arithmetic_v<T>)
		return found->is_number() ? found->template get<T>() : otherwise;
	else
		return found->is_string() ? found->template get<std::string>() : otherwise;
}
inline const nlohmann::json &
object_member(const nlohmann::json &object, const char *key)
{
	static const nlohmann::json none = nlohmann::json::object();
	auto found = object.find(key);

	return found != object.end() && found->is_object() ? *found : none;
}

class Requests
{
public:
	/* `inbox`: prefix of reply subjects, with a final dot; whoever subscribes to it calls enter(). */
	Requests(NatsConnection *connection, const std::string &api_prefix, const std::string &inbox)
		: connection_(*connection), api_prefix_(api_prefix), inbox_(inbox)
	{
	}

	/* Of JetStream's API: `subject` without the prefix. An empty body is none. */
	std::optional<ApiReply> ask(const std::string &subject, const nlohmann::json &body = {});
	/* A message to a stream, behind the last one on its subject, whose sequence is given (0: there is none). */
	std::optional<ApiReply> put(const std::string &subject, const std::string &body, uint64_t last_on_subject,
								const char *operation = nullptr);
	const std::string &api_prefix() const { return api_prefix_; }
	/* How many have come. */
	uint64_t answers() const { return answers_.load(); }

	/* Of another thread: the answer to the request whose reply subject ended so. */
	void enter(const char *token, natsMsg *message);

private:
	using Clock = std::chrono::steady_clock;

	struct Pending
	{
		uint64_t token;
		uint64_t interruptions;
		Clock::time_point deadline;
		std::optional<ApiReply> reply;
	};

	std::optional<ApiReply> send(const std::string &key, natsMsg *message);
	std::optional<ApiReply> find(const std::string &key);
	NatsPtr<natsMsg> message(const std::string &subject, const std::string &body);

	NatsConnection &connection_;
	const std::string api_prefix_;
	const std::string inbox_;
	std::mutex mutex_;
	std::map<std::string, Pending> pending_;
	uint64_t last_token_ = 0;
	std::atomic<uint64_t> answers_{0};
};

} // namespace siphon

#endif
