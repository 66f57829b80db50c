/*
 * siphon-tail: prints the events of one application's stream as JSON lines. Reads with an ordered consumer,
 * which leaves nothing behind in the stream, and never writes.
 */
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <tuple>
#include <unistd.h>

#include "program/exit_codes.h"
#include "reader/nats/jetstream_api.h"
#include "reader/nats/jetstream_reader.h"
#include "reader/nats/nats_connection.h"
#include "reader/package_assembler.h"
#include "reader/subject.h"
#include "tools/tail_config.h"
#include "tools/tail_file.h"
#include "tools/tail_json.h"

namespace siphon {

/* How long to wait for a message before looking whether we were asked to stop. */
static constexpr int64_t kWaitMs = 100;
/* How long nothing must have come before asking whether the end that we wait for still exists. */
static constexpr std::chrono::seconds kIdle{1};
static constexpr size_t kOutputBuffer = 256 * 1024;

static std::atomic<bool> stop_requested;

static void
handle_stop(int)
{
	stop_requested.store(true);
}

/* The library would print these to stderr; the ordered consumer deals with what they report. */
static void
ignore_error(natsConnection *, natsSubscription *, natsStatus, void *)
{
}

/* What the library says of a call that failed, which its status does not say where JetStream refuses something. */
static std::string
last_nats_error(natsStatus status)
{
	const char *text = nats_GetLastError(nullptr);

	return text != nullptr && *text != '\0' ? text : natsStatus_GetText(status);
}

/* What a table's columns are told by, and the generation that they are of. */
using TableColumns = std::tuple<uint32_t, uint32_t, uint64_t>;

class Tail
{
public:
	explicit Tail(const TailConfig &config);

	void run();

private:
	void connect();
	void run_on_file();
	Patience patience() const;
	ApiReply ask(const std::string &subject, const nlohmann::json &body);
	bool find_end();
	bool end_is_gone(uint64_t seen);
	void subscribe();
	bool print(const StoredMessage &message);
	bool enough() const { return config_.count != 0 && lines_ >= config_.count; }
	bool print_package(const std::string &subject, std::string_view payload);
	template <typename Body> bool columns_changed(const std::string &subject, const Body &body);
	template <typename Marker> bool print_marker(const std::string &subject, std::string_view payload);
	template <typename Body>
	bool print_body(std::string_view payload, void (*append)(std::string *out, const Body &body));
	void flush();

	const TailConfig &config_;
	std::string servers_;
	std::string stream_;
	std::string filter_;
	std::string watermarks_;
	std::string events_; /* of the table that was asked for, or all */
	uint64_t end_ = 0;   /* sequence after which to stop, 0: none */
	uint64_t lines_ = 0;
	std::string output_;
	bool output_gone_ = false;
	PackageAssembler assembler_;
	v1::Package package_;
	std::map<std::string, TableColumns, std::less<>> columns_; /* printed last, by subject */

	NatsPtr<natsConnection> connection_;
	NatsPtr<jsCtx> context_;
	NatsPtr<natsSubscription> subscription_;
};

Tail::Tail(const TailConfig &config)
	: config_(config), servers_(redact_nats_url(config.nats_url)), stream_(stream_name(config.application))
{
	std::string root = subject_root(config.subject_prefix, config.application);

	watermarks_ = watermark_subject(root);
	events_ = root + ".events.>";
	if (!config.table.empty())
	{
		size_t dot = config.table.find('.');

		events_ = events_subject(root, config.table.substr(0, dot), config.table.substr(dot + 1), std::nullopt);
	}
	filter_ = config.watermarks || config.messages ? root + ".>" : events_;
}

void
Tail::connect()
{
	NatsPtr<natsOptions> options =
		nats_options(config_.nats_url, config_.nats_login, "siphon-tail " + config_.application);

	nats_check(natsOptions_SetErrorHandler(options.get(), ignore_error, nullptr), "error callback");

	jsCtx *context = nullptr;
	NatsFailure failure;

	connection_.reset(nats_connect(options.get(), &failure));
	if (!connection_ && failure.refusal())
		throw Fatal(ExitCode::Usage, refusal_line(failure, config_.nats_login, config_.nats_url));
	if (!connection_)
		throw Fatal(ExitCode::Unexpected, "NATS at " + servers_ + ": " + failure.why);
	/* The library adds the dot. */
	std::string prefix = config_.jetstream_api.substr(0, config_.jetstream_api.size() - 1);
	jsOptions api;

	jsOptions_Init(&api);
	api.Prefix = prefix.c_str();
	nats_check(natsConnection_JetStream(&context, connection_.get(), &api), "JetStream context");
	context_.reset(context);
}

Patience
Tail::patience() const
{
	return Patience(&stop_requested, [this](const std::string &why) {
		fprintf(stderr, "siphon-tail: waiting for JetStream at %s: %s\n", servers_.c_str(), why.c_str());
	});
}

/* Asks JetStream's API, and again while it can't answer for now. */
ApiReply
Tail::ask(const std::string &subject, const nlohmann::json &body)
{
	Patience patience = this->patience();
	ApiReply reply;

	do
		reply = jetstream_request(connection_.get(), subject, body, config_.jetstream_api);
	while (is_transient(reply) && patience.wait(reply.error));
	return reply;
}

/* False: there is nothing to read up to the end. */
bool
Tail::find_end()
{
	ApiReply reply = ask("STREAM.INFO." + stream_, {});

	if (!reply.ok() && stop_requested.load())
		return false;
	if (reply.error_code == kErrorStreamNotFound)
		throw Fatal(ExitCode::StreamRefused, "there is no stream " + stream_ + " at " + servers_ +
												 "; its publisher makes it when it first runs");
	if (!reply.ok())
		throw Fatal(ExitCode::Unexpected, "JetStream at " + servers_ + ": " + reply.error);
	if (!config_.stop_at_end)
		return true;

	reply = ask("STREAM.MSG.GET." + stream_, {{"last_by_subj", filter_}});
	if (reply.error_code == kErrorNoMessage || (!reply.ok() && stop_requested.load()))
		return false;
	if (!reply.ok())
		throw Fatal(ExitCode::Unexpected, "JetStream at " + servers_ + ": " + reply.error);
	end_ = reply.content["message"].value("seq", uint64_t{0});
	return true;
}

/* The message at the end may be dropped before it comes to us, for its age or because it was held and is moved. */
bool
Tail::end_is_gone(uint64_t seen)
{
	ApiReply reply = jetstream_request(connection_.get(), "STREAM.MSG.GET." + stream_, {{"last_by_subj", filter_}},
									   config_.jetstream_api);

	if (!reply.ok())
		return reply.error_code == kErrorStreamNotFound || reply.error_code == kErrorNoMessage;
	return reply.content["message"].value("seq", uint64_t{0}) <= seen;
}

void
Tail::subscribe()
{
	jsSubOptions options;
	jsErrCode error = static_cast<jsErrCode>(0);
	natsSubscription *subscription = nullptr;
	Patience patience = this->patience();
	natsStatus status;

	jsSubOptions_Init(&options);
	options.Stream = stream_.c_str();
	options.Ordered = true;
	options.Config.DeliverPolicy = config_.from_start ? js_DeliverAll : js_DeliverNew;
	do
		status = js_SubscribeSync(&subscription, context_.get(), filter_.c_str(), nullptr, &options, &error);
	while (is_transient(status, error) && patience.wait(last_nats_error(status)));
	if (stop_requested.load() && status != NATS_OK)
		return;
	nats_check(status, ("reading stream " + stream_).c_str());
	subscription_.reset(subscription);
	/* The consumer's flow control bounds it. */
	nats_check(natsSubscription_SetPendingLimits(subscription, -1, -1), "limits of the subscription");
}

void
Tail::run_on_file()
{
	TailFile file(config_, filter_);

	while (!stop_requested.load() && !output_gone_ && !enough())
	{
		std::optional<StoredMessage> message = file.next();

		if (!message || output_.size() >= kOutputBuffer)
			flush();
		if (!message && config_.stop_at_end)
			break;
		if (!message)
			usleep(kWaitMs * 1000);
		else if (!print(*message))
		{
			flush();
			throw Fatal(ExitCode::StreamRefused, "message " + std::to_string(message->place) + " of " +
													 file.describe() + " is not what a publisher writes");
		}
	}
	flush();
}

void
Tail::run()
{
	using Clock = std::chrono::steady_clock;

	if (!config_.stream_url.empty())
		return run_on_file();
	connect();
	if (!find_end())
		return;
	subscribe();

	Clock::time_point last = Clock::now();
	uint64_t seen = 0;

	while (!stop_requested.load() && !output_gone_)
	{
		natsMsg *raw = nullptr;
		natsStatus status = natsSubscription_NextMsg(&raw, subscription_.get(), kWaitMs);
		NatsPtr<natsMsg> message(raw);

		if (status == NATS_TIMEOUT || status == NATS_MISSED_HEARTBEAT)
		{
			flush();
			if (end_ != 0 && Clock::now() - last >= kIdle)
			{
				if (end_is_gone(seen))
					return;
				last = Clock::now();
			}
			continue;
		}
		nats_check(status, ("reading stream " + stream_).c_str());
		last = Clock::now();

		jsMsgMetaData *metadata = nullptr;

		nats_check(natsMsg_GetMetaData(&metadata, raw), "a message's metadata");

		uint64_t sequence = metadata->Sequence.Stream;
		uint64_t pending = metadata->NumPending;

		jsMsgMetaData_Destroy(metadata);
		if (end_ != 0 && sequence > end_)
			break;
		seen = sequence;
		if (!print(read_stored_message(raw, sequence)))
		{
			flush();
			throw Fatal(ExitCode::StreamRefused, "message " + std::to_string(sequence) + " of stream " + stream_ +
													 " is not what a publisher writes");
		}
		if (enough() || (end_ != 0 && sequence >= end_))
			break;
		if (pending == 0 || output_.size() >= kOutputBuffer)
			flush();
	}
	flush();
}

/* False: the message can't be read. Kinds that are not known are skipped. */
bool
Tail::print(const StoredMessage &message)
{
	const std::string &subject = message.subject;
	const std::string &kind = message.kind;
	bool events = subject_covers(events_, subject);
	bool package = events && (kind == "changes" || kind == "snapshot");
	bool marker = events && (kind == "snapshot-begin" || kind == "snapshot-end");
	bool watermark = config_.watermarks && kind == "watermark" && subject == watermarks_;
	bool logical = config_.messages && kind == "message";
	std::string_view payload;

	if (!package && !marker && !watermark && !logical)
		return !kind.empty();

	switch (assembler_.add(subject, message.part, message.encoding, message.body, &payload))
	{
		case PackageAssembler::Result::Complete:
			break;
		case PackageAssembler::Result::Incomplete:
			return true;
		case PackageAssembler::Result::Invalid:
			return false;
	}

	size_t before = output_.size();

	try
	{
		if (package)
			return print_package(subject, payload);
		if (watermark)
			return print_body(payload, append_watermark);
		if (logical)
			return print_body(payload, append_message);
		if (kind == "snapshot-begin")
			return print_marker<v1::SnapshotBegin>(subject, payload);
		return print_marker<v1::SnapshotEnd>(subject, payload);
	}
	catch (const std::runtime_error &)
	{
		/* Whole lines stay. */
		output_.resize(std::max(before, output_.rfind('\n') + 1));
		return false;
	}
}

/* They are to be printed, and are not those that were printed last on the subject. */
template <typename Body>
bool
Tail::columns_changed(const std::string &subject, const Body &body)
{
	TableColumns columns(body.table_oid(), body.generation(), body.schema_fingerprint());

	/* The end of a table has none. */
	if (!config_.columns || body.columns_size() == 0)
		return false;

	auto [printed, is_new] = columns_.try_emplace(subject, columns);

	if (!is_new && printed->second == columns)
		return false;
	printed->second = columns;
	lines_++;
	return true;
}

bool
Tail::print_package(const std::string &subject, std::string_view payload)
{
	if (!package_.ParseFromArray(payload.data(), static_cast<int>(payload.size())))
		return false;
	if (columns_changed(subject, package_))
		append_column_list(&output_, package_);
	for (const v1::Event &event : package_.events())
	{
		if (config_.count != 0 && lines_ >= config_.count)
			break;
		append_event(&output_, package_, event);
		lines_++;
	}
	return true;
}

/* The partition is the last token of the subject; the body is the same on all. */
template <typename Marker>
bool
Tail::print_marker(const std::string &subject, std::string_view payload)
{
	Marker marker;
	uint32_t partition = 0;
	const char *end = subject.data() + subject.size();
	auto number = std::from_chars(subject.data() + subject.rfind('.') + 1, end, partition);

	if (number.ec != std::errc() || number.ptr != end ||
		!marker.ParseFromArray(payload.data(), static_cast<int>(payload.size())))
		return false;
	append_marker(&output_, marker, partition);
	lines_++;
	if (columns_changed(subject, marker))
		append_column_list(&output_, marker, partition);
	return true;
}

template <typename Body>
bool
Tail::print_body(std::string_view payload, void (*append)(std::string *out, const Body &body))
{
	Body body;

	if (!body.ParseFromArray(payload.data(), static_cast<int>(payload.size())))
		return false;
	append(&output_, body);
	lines_++;
	return true;
}

void
Tail::flush()
{
	size_t done = 0;

	while (done < output_.size() && !output_gone_)
	{
		ssize_t written = write(STDOUT_FILENO, output_.data() + done, output_.size() - done);

		if (written >= 0)
			done += static_cast<size_t>(written);
		else if (errno == EPIPE)
			output_gone_ = true;
		else if (errno != EINTR)
			throw Fatal(ExitCode::Unexpected, std::string("standard output: ") + strerror(errno));
	}
	output_.clear();
}

static int
tail(int argc, char **argv)
{
	std::optional<TailConfig> config = read_tail_config(argc, argv);

	if (!config)
		return static_cast<int>(ExitCode::Clean);

	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, handle_stop);
	signal(SIGTERM, handle_stop);
	Tail(*config).run();
	return static_cast<int>(ExitCode::Clean);
}

} // namespace siphon

int
main(int argc, char **argv)
{
	try
	{
		return siphon::tail(argc, argv);
	}
	catch (const siphon::Fatal &fatal)
	{
		fprintf(stderr, "siphon-tail: %s\n", fatal.what());
		return static_cast<int>(fatal.code);
	}
	catch (const std::exception &error)
	{
		fprintf(stderr, "siphon-tail: %s\n", error.what());
		return static_cast<int>(siphon::ExitCode::Unexpected);
	}
}
