/*
 * How long changes took from their commit to JetStream: by the time that the server wrote into the commit record and
 * the time at which JetStream stored the message, which it acknowledges at once. Both are the machine's clock.
 *
 *   message-delay NATS_URL STREAM SUBJECT FROM TO [histogram]
 *
 * Prints the number of events that were committed between the two times (seconds since 1970), and the median, 99th
 * percentile and maximum of their delays in milliseconds. With `histogram` lines follow: an upper limit in
 * milliseconds, and how many delays were above the limit of the line before and not above this one. Each limit is 10 %
 * above the one before.
 */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "nats_session.h"
#include "reader/package_assembler.h"
#include "siphon.pb.h"

using namespace siphon;

static std::vector<double>
read_delays(jsCtx *context, const char *stream, const char *subject, double from, double to)
{
	NatsPtr<natsSubscription> subscription;
	natsSubscription *raw_subscription = nullptr;
	PackageAssembler assembler;
	std::vector<double> delays;
	v1::Package package;
	jsSubOptions options;
	jsErrCode error;

	jsSubOptions_Init(&options);
	options.Stream = stream;
	options.Ordered = true;
	options.Config.DeliverPolicy = js_DeliverByStartTime;
	options.Config.OptStartTime = static_cast<int64_t>(from * 1e9);
	nats_check(js_SubscribeSync(&raw_subscription, context, subject, nullptr, &options, &error), "subscription");
	subscription.reset(raw_subscription);
	nats_check(natsSubscription_SetPendingLimits(raw_subscription, -1, -1), "limits");

	for (uint64_t pending = 1; pending > 0;)
	{
		natsMsg *raw = nullptr;
		jsMsgMetaData *metadata = nullptr;
		const char *encoding = nullptr;
		const char *part = nullptr;
		std::string_view payload;

		nats_check(natsSubscription_NextMsg(&raw, raw_subscription, 5000), "next message");

		NatsPtr<natsMsg> message(raw);

		nats_check(natsMsg_GetMetaData(&metadata, raw), "metadata");
		pending = metadata->NumPending;

		double stored = static_cast<double>(metadata->Timestamp) / 1e9;

		jsMsgMetaData_Destroy(metadata);
		natsMsgHeader_Get(raw, "Siphon-Encoding", &encoding);
		natsMsgHeader_Get(raw, "Siphon-Part", &part);
		if (assembler.add(natsMsg_GetSubject(raw), part ? part : "", encoding ? encoding : "",
						  {natsMsg_GetData(raw), static_cast<size_t>(natsMsg_GetDataLength(raw))},
						  &payload) != PackageAssembler::Result::Complete)
			continue;
		if (!package.ParseFromArray(payload.data(), static_cast<int>(payload.size())))
			throw std::runtime_error("a message is not a package");
		for (const v1::Event &event : package.events())
		{
			double committed = static_cast<double>(event.commit_timestamp()) / 1e6;

			if (committed >= from && committed < to)
				delays.push_back((stored - committed) * 1e3);
		}
	}
	return delays;
}

static void
print_histogram(const std::vector<double> &sorted)
{
	double limit = 0.1;

	for (auto at = sorted.begin(); at != sorted.end(); limit *= 1.1)
	{
		auto end = std::upper_bound(at, sorted.end(), limit);

		if (end != at)
			printf("%.3f %td\n", limit, end - at);
		at = end;
	}
}

int
main(int argc, char **argv)
{
	if (argc != 6 && !(argc == 7 && std::string_view(argv[6]) == "histogram"))
	{
		fprintf(stderr, "usage: message-delay NATS_URL STREAM SUBJECT FROM TO [histogram]\n");
		return 2;
	}
	try
	{
		Session session(argv[1]);
		std::vector<double> delays =
			read_delays(session.context.get(), argv[2], argv[3], strtod(argv[4], nullptr), strtod(argv[5], nullptr));

		if (delays.empty())
			throw std::runtime_error("nothing was committed in this time");
		std::sort(delays.begin(), delays.end());
		printf("%zu %.1f %.1f %.1f\n", delays.size(), delays[delays.size() / 2], delays[delays.size() * 99 / 100],
			   delays.back());
		if (argc == 7)
			print_histogram(delays);
		return 0;
	}
	catch (const std::exception &error)
	{
		fprintf(stderr, "message-delay: %s\n", error.what());
		return 1;
	}
}
