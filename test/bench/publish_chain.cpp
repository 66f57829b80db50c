/*
 * How long JetStream takes to acknowledge messages that are published one after the other, without waiting for each:
 *
 *   publish-chain NATS_URL plain|chain|chain+id BYTES MESSAGES
 *
 * plain      messages without headers
 * chain      each with the sequence that the one before it must have got
 * chain+id   and with an id of its own, and the id of the one before: what siphon-publisher does
 *
 * Makes a stream in files, publishes, deletes it, and prints the seconds from the first message to the last
 * acknowledgement, and the seconds of processor time that this program took. Each message must get the sequence that it
 * is meant to have.
 */
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <string>
#include <sys/resource.h>

#include "nats_session.h"

using namespace siphon;

static constexpr uint64_t kInFlight = 256;
static constexpr auto kPatience = std::chrono::seconds(60);
static const char kStream[] = "publish_chain";
static const char kSubject[] = "publish_chain.messages";

/* Answers come in order, as a stream has one writer here. */
struct Answers
{
	std::mutex mutex;
	std::condition_variable changed;
	uint64_t count = 0;
	std::string wrong;

	static void take(natsConnection *, natsSubscription *, natsMsg *raw, void *self)
	{
		Answers *answers = static_cast<Answers *>(self);
		NatsPtr<natsMsg> message(raw);
		std::string text(natsMsg_GetData(raw), static_cast<size_t>(natsMsg_GetDataLength(raw)));
		std::lock_guard<std::mutex> guard(answers->mutex);
		std::string expected = "\"seq\":" + std::to_string(answers->count + 1);
		size_t place = text.find(expected);

		if (place == std::string::npos || isdigit(text[place + expected.size()]))
			answers->wrong = text.empty() ? "no answer" : text;
		answers->count++;
		answers->changed.notify_one();
	}

	/* Waits until so many have come. */
	void await(uint64_t wanted)
	{
		std::unique_lock<std::mutex> guard(mutex);

		if (!changed.wait_for(guard, kPatience, [&] { return count >= wanted || !wrong.empty(); }))
			throw std::runtime_error("no acknowledgement of message " + std::to_string(count + 1));
		if (!wrong.empty())
			throw std::runtime_error("message " + std::to_string(count) + " got " + wrong);
	}
};

static void
publish(natsConnection *connection, const std::string &reply, uint64_t number, bool chain, bool id,
		const std::string &body)
{
	natsMsg *raw = nullptr;

	nats_check(natsMsg_Create(&raw, kSubject, reply.c_str(), body.data(), static_cast<int>(body.size())), "message");

	NatsPtr<natsMsg> message(raw);

	if (chain)
		nats_check(natsMsgHeader_Set(raw, "Nats-Expected-Last-Sequence", std::to_string(number - 1).c_str()),
				   "sequence");
	if (id)
	{
		nats_check(natsMsgHeader_Set(raw, "Nats-Msg-Id", ("publish-chain-" + std::to_string(number)).c_str()), "id");
		if (number > 1)
			nats_check(natsMsgHeader_Set(raw, "Nats-Expected-Last-Msg-Id",
										 ("publish-chain-" + std::to_string(number - 1)).c_str()),
					   "last id");
	}
	nats_check(natsConnection_PublishMsg(connection, raw), "publishing");
}

static double
measure(natsConnection *connection, jsCtx *context, bool chain, bool id, size_t bytes, uint64_t messages)
{
	const char *subjects[] = {kSubject};
	std::mt19937_64 random(1);
	std::string body(bytes, '\0');
	Answers answers;
	natsInbox *inbox = nullptr;
	natsSubscription *raw_subscription = nullptr;
	jsStreamConfig config;
	jsErrCode error;

	for (char &byte : body)
		byte = static_cast<char>(random());

	/* One that a run before us left behind. */
	js_DeleteStream(context, kStream, nullptr, &error);
	jsStreamConfig_Init(&config);
	config.Name = kStream;
	config.Subjects = subjects;
	config.SubjectsLen = 1;
	config.Storage = js_FileStorage;
	nats_check(js_AddStream(nullptr, context, &config, nullptr, &error), "stream");

	nats_check(natsInbox_Create(&inbox), "inbox");

	std::string reply = inbox;

	natsInbox_Destroy(inbox);
	nats_check(natsConnection_Subscribe(&raw_subscription, connection, reply.c_str(), Answers::take, &answers),
			   "subscription");

	NatsPtr<natsSubscription> subscription(raw_subscription);

	nats_check(natsSubscription_SetPendingLimits(raw_subscription, -1, -1), "limits");
	nats_check(natsConnection_Flush(connection), "flush");

	auto start = std::chrono::steady_clock::now();

	for (uint64_t number = 1; number <= messages; number++)
	{
		if (number > kInFlight)
			answers.await(number - kInFlight);
		publish(connection, reply, number, chain, id, body);
	}
	answers.await(messages);

	double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

	nats_check(js_DeleteStream(context, kStream, nullptr, &error), "deleting the stream");
	return seconds;
}

int
main(int argc, char **argv)
{
	std::string kind = argc == 5 ? argv[2] : "";

	if (kind != "plain" && kind != "chain" && kind != "chain+id")
	{
		fprintf(stderr, "usage: publish-chain NATS_URL plain|chain|chain+id BYTES MESSAGES\n");
		return 2;
	}
	try
	{
		Session session(argv[1]);
		double seconds = measure(session.connection.get(), session.context.get(), kind != "plain", kind == "chain+id",
								 strtoul(argv[3], nullptr, 10), strtoul(argv[4], nullptr, 10));
		rusage usage;

		getrusage(RUSAGE_SELF, &usage);
		printf("%.4f %.4f\n", seconds,
			   static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
				   static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
		return 0;
	}
	catch (const std::exception &error)
	{
		fprintf(stderr, "publish-chain: %s\n", error.what());
		return 1;
	}
}
