/*
 * Prints the events of an application's stream, a line each: what it takes to read one with nats.c, zstd and protobuf.
 *
 *   make
 *   ./print_events nats://127.0.0.1:4222 main [--stop-at-end]
 *
 * It reads with an ordered consumer, which leaves nothing behind in the stream, gives each message once, and goes on by
 * itself when NATS was away. A consumer that applies what it reads keeps positions, as ../python/copy_table.py does.
 * Where it comes to something that it does not know it stops, as siphon.proto asks all consumers to do.
 */
#include <cstdio>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>

#include <nats/nats.h>
#include <zstd.h>

#include "siphon.pb.h"

namespace wire = siphon::v1;

static void
must(natsStatus status, const char *what)
{
	if (status != NATS_OK)
		throw std::runtime_error(std::string(what) + ": " + natsStatus_GetText(status));
}

static std::string
header(natsMsg *message, const char *name)
{
	const char *value = nullptr;

	return natsMsgHeader_Get(message, name, &value) == NATS_OK && value != nullptr ? value : "";
}

/* A message's body, decompressed. */
static std::string
body_of(natsMsg *message)
{
	const char *data = natsMsg_GetData(message);
	size_t length = static_cast<size_t>(natsMsg_GetDataLength(message));
	std::string encoding = header(message, "Siphon-Encoding");

	if (encoding == "none")
		return std::string(data, length);
	if (encoding != "zstd")
		throw std::runtime_error("encoding " + encoding + " is not known to this program");

	std::string body;
	std::string piece(ZSTD_DStreamOutSize(), '\0');
	ZSTD_DStream *stream = ZSTD_createDStream();
	ZSTD_inBuffer input = {data, length, 0};
	size_t rest = 1;

	while (rest != 0 && !ZSTD_isError(rest))
	{
		ZSTD_outBuffer output = {piece.data(), piece.size(), 0};
		size_t before = input.pos;

		rest = ZSTD_decompressStream(stream, &output, &input);
		if (rest != 0 && !ZSTD_isError(rest) && input.pos == before && output.pos == 0)
			break; /* it is cut off */
		body.append(piece.data(), output.pos);
	}
	ZSTD_freeDStream(stream);
	if (rest != 0)
		throw std::runtime_error("a body that is not zstd's");
	return body;
}

/* What was larger than a message may be, put together; see Siphon-Part in siphon.proto. */
class Parts
{
public:
	/* False: it is not complete yet. */
	bool add(natsMsg *message, std::string *body)
	{
		Collected &collected = collected_[natsMsg_GetSubject(message)];
		std::string part = header(message, "Siphon-Part");
		unsigned number = 1;
		unsigned total = 1;

		if (!part.empty() && sscanf(part.c_str(), "%u/%u", &number, &total) != 2)
			throw std::runtime_error("a part without a number");
		if (number == 1)
			collected = {};
		if (number != collected.parts + 1)
		{
			/* The decoder died in the middle; it comes again. */
			collected = {};
			return false;
		}
		collected.parts = number;
		collected.body += body_of(message);
		if (number < total)
			return false;
		*body = std::move(collected.body);
		collected = {};
		return true;
	}

private:
	struct Collected
	{
		unsigned parts = 0;
		std::string body;
	};

	std::map<std::string, Collected> collected_;
};

/* Protobuf's own text shows a value well enough. One of a kind that was added later has none that is known here. */
static std::string
text_of(const wire::Value &value)
{
	if (value.kind_case() == wire::Value::KIND_NOT_SET)
		throw std::runtime_error("a value is of a kind that is not known to this program");
	return value.ShortDebugString();
}

static void
print_event(const wire::Package &package, const wire::Event &event)
{
	if (event.operation() == wire::OPERATION_UNSPECIFIED || !wire::Operation_IsValid(event.operation()))
		throw std::runtime_error("operation " + std::to_string(event.operation()) + " is not known to this program");
	printf("%s %s.%s %016lX/%lu", wire::Operation_Name(event.operation()).c_str(), package.schema().c_str(),
		   package.table().c_str(), static_cast<unsigned long>(event.commit_lsn()),
		   static_cast<unsigned long>(event.ordinal()));
	/* Values are in the order of columns. */
	for (int i = 0; i < event.values_size() && i < package.columns_size(); i++)
		printf(" %s={%s}", package.columns(i).name().c_str(), text_of(event.values(i)).c_str());
	if (event.old_values_size() > 0)
		printf(" old");
	for (const wire::Value &value : event.old_values())
		printf(" {%s}", text_of(value).c_str());
	printf("\n");
}

static void
print_message(natsMsg *message, Parts *parts)
{
	std::string kind = header(message, "Siphon-Kind");
	std::string body;
	wire::Package package;

	/* Kinds that are not known are skipped. */
	if ((kind != "changes" && kind != "snapshot") || !parts->add(message, &body))
		return;
	if (!package.ParseFromString(body))
		throw std::runtime_error("a body that is no package");
	for (const wire::Event &event : package.events())
		print_event(package, event);
}

static void
print_stream(natsConnection *connection, const std::string &application, bool stop_at_end)
{
	std::string stream = "siphon_" + application;
	std::string subject = "siphon." + application + ".events.>";
	jsCtx *context = nullptr;
	jsSubOptions options;
	natsSubscription *subscription = nullptr;
	Parts parts;

	for (char &c : stream)
	{
		if (c == '.')
			c = '_';
	}
	must(natsConnection_JetStream(&context, connection, nullptr), "JetStream");
	must(jsSubOptions_Init(&options), "options");
	options.Stream = stream.c_str();
	options.Ordered = true;
	options.Config.DeliverPolicy = js_DeliverAll;
	must(js_SubscribeSync(&subscription, context, subject.c_str(), nullptr, &options, nullptr), "subscribing");

	for (uint64_t pending = 1; pending > 0 || !stop_at_end;)
	{
		natsMsg *message = nullptr;
		jsMsgMetaData *data = nullptr;
		natsStatus status = natsSubscription_NextMsg(&message, subscription, 1000);

		/* A heartbeat is missed while NATS is away; the consumer goes on when it is back. */
		if (status == NATS_TIMEOUT || status == NATS_MISSED_HEARTBEAT)
		{
			fflush(stdout);
			if (stop_at_end && status == NATS_TIMEOUT)
				break;
			continue;
		}
		must(status, "reading");
		must(natsMsg_GetMetaData(&data, message), "metadata");
		pending = data->NumPending;
		uint64_t sequence = data->Sequence.Stream;
		jsMsgMetaData_Destroy(data);
		try
		{
			print_message(message, &parts);
		}
		catch (const std::exception &error)
		{
			throw std::runtime_error("message " + std::to_string(sequence) + ": " + error.what());
		}
		natsMsg_Destroy(message);
	}
	natsSubscription_Destroy(subscription);
	jsCtx_Destroy(context);
}

int
main(int argc, char **argv)
{
	natsConnection *connection = nullptr;

	if (argc < 3 || argc > 4 || (argc == 4 && strcmp(argv[3], "--stop-at-end") != 0))
	{
		fprintf(stderr, "usage: %s URL APPLICATION [--stop-at-end]\n", argv[0]);
		return 2;
	}
	try
	{
		must(natsConnection_ConnectTo(&connection, argv[1]), argv[1]);
		print_stream(connection, argv[2], argc == 4);
	}
	catch (const std::exception &error)
	{
		fprintf(stderr, "%s: %s\n", argv[0], error.what());
		return 1;
	}
	natsConnection_Destroy(connection);
	nats_Close();
	return 0;
}
