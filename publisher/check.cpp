/* See check.h. */
#include "check.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <linux/magic.h>
#include <sys/statfs.h>

#include <fmt/format.h>

#include "../src/ring_fault.h"
#include "../src/ring_file.h"
#include "exit_codes.h"
#include "health.h"
#include "jetstream_api.h"
#include "nats_connection.h"
#include "stream/jetstream/setup.h"
#include "subject.h"

namespace siphon {

namespace {

/* A message with a frame that can't be compressed fits into this; less means parts. */
constexpr int64_t kGoodPayload = 1024 * 1024;
/* Clocks that differ by more than this make latencies worthless. */
constexpr double kClockDifference = 1;
constexpr double kSilence = 5;
constexpr uint64_t kMegabyte = 1024 * 1024;

class Findings
{
public:
	void well(const std::string &what) { printf("ok     %s\n", what.c_str()); }
	void note(const std::string &what) { printf("note   %s\n", what.c_str()); }
	void wrong(const std::string &what, const std::string &hint)
	{
		printf("wrong  %s\n       %s\n", what.c_str(), hint.c_str());
		all_well_ = false;
	}
	bool all_well() const { return all_well_; }

private:
	bool all_well_ = true;
};

double
seconds_since(uint64_t unix_us)
{
	auto now = std::chrono::system_clock::now().time_since_epoch();

	return std::chrono::duration<double>(now).count() - static_cast<double>(unix_us) / 1e6;
}

void
look_at_file_system(const Config &config, Findings *findings)
{
	struct statfs file_system;

	if (statfs(config.ring_directory.c_str(), &file_system) != 0)
		return;

	uint64_t free = static_cast<uint64_t>(file_system.f_bavail) * static_cast<uint64_t>(file_system.f_bsize) / kMegabyte;

	if (file_system.f_type != TMPFS_MAGIC)
		findings->note(config.ring_directory + " is not in memory: each write to the ring goes to a disk, sooner or later");
	if (free < 64)
		findings->wrong(fmt::format("{} has {} MB free, and each snapshot worker needs up to 16 MB", config.ring_directory,
									free),
						"mount -o remount,size=1G /dev/shm, or the volume that it is on");
	else
		findings->well(fmt::format("{} has {} MB free", config.ring_directory, free));
}

/* Reads the header, without the reader's class, which would write. */
void
look_at_header(const RingHeader *header, const std::string &path, Status *status, Findings *findings)
{
	if (header->magic.load() != kRingMagic)
	{
		findings->wrong(path + " is no ring", "See who writes there; the decoder makes another when it starts.");
		return;
	}
	if (header->version != kRingVersion)
	{
		findings->wrong(fmt::format("{} has ring version {}, and this publisher reads version {}", path, header->version,
									kRingVersion),
						"Install the publisher that came with the extension, or update the extension and restart the server.");
		return;
	}

	RingStatus ring;

	ring.name = "decoder";
	ring.capacity = header->capacity;
	ring.silence = seconds_since(header->worker_heartbeat.load());
	for (size_t i = 0; i < ring.figures.size(); i++)
		ring.figures[i] = header->figures.values[i].load();
	findings->well(fmt::format("{} is a ring of {} MB and version {}", path, ring.capacity / kMegabyte, kRingVersion));
	if (seconds_since(header->publisher_heartbeat.load()) < kSilence)
		findings->well(fmt::format("a publisher is attached to it, with process ID {}", header->publisher_pid.load()));
	else
		findings->note("no publisher is attached to it");
	status->rings.push_back(ring);
}

void
look_at_ring(const Config &config, Status *status, Findings *findings)
{
	char path[kRingPathMax] = "";
	RingMapping mapping;

	ring_path(path, config.ring_directory.c_str(), config.application.c_str(), "decoder.ring");

	int error = ring_file_open(config.ring_directory.c_str(), config.application.c_str(), "decoder", &mapping);

	if (error == ENOENT)
		/* The rules say what to do. */
		return;
	if (error != 0)
	{
		findings->wrong(std::string(path) + ": " + strerror(error),
						"It must belong to the user that this runs as, and only that user may write to it: run this as the "
						"PostgreSQL server's user, or set siphon.ring_group there and --ring-group here.");
		return;
	}
	ring_fault_guard(mapping.memory, mapping.size);
	look_at_header(static_cast<const RingHeader *>(mapping.memory), path, status, findings);
	ring_fault_release(mapping.memory);
	ring_file_close(&mapping);
}

/* What the publisher's own rules find, as far as they are about the server. */
void
look_at_server(const Status &status, Findings *findings)
{
	std::vector<Problem> problems = find_problems(status, status.at);

	for (const Problem &problem : problems)
		findings->wrong(problem.what, problem.hint);
	if (!problems.empty())
		return;

	const RingStatus &decoder = *status.decoder();

	findings->well(fmt::format("the decoder is at work, for {} tables; its slot keeps {} MB of WAL",
							   decoder.figure(RingFigure::Tables), decoder.figure(RingFigure::Retained) / kMegabyte));
	if (decoder.figure(RingFigure::RetainedLimit) == kNoFigure)
		findings->note("nothing limits the WAL that the slot keeps, and so the disk does: ALTER SYSTEM SET "
					   "siphon.max_retained_wal");
}

void
look_at_clock(const nlohmann::json &info, Findings *findings)
{
	std::string text = info.value("ts", "");
	std::tm utc = {};
	const char *rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &utc);

	/* Servers before 2.10 do not say. */
	if (rest == nullptr)
		return;

	double there = static_cast<double>(timegm(&utc)) + (*rest == '.' ? strtod(rest, nullptr) : 0);
	double difference = seconds_since(static_cast<uint64_t>(there * 1e6));

	if (std::abs(difference) > kClockDifference)
		findings->wrong(fmt::format("the clock here and that of NATS differ by {:.1f} s", std::abs(difference)),
						"timedatectl status, on both machines");
	else
		findings->well("the clock here and that of NATS agree");
}

void
look_at_stream(const StreamPlan &plan, const nlohmann::json &info, Findings *findings)
{
	const nlohmann::json &config = info["config"];
	int64_t limit = config.value("max_bytes", int64_t{-1});
	int64_t bytes = info["state"].value("bytes", int64_t{0});

	try
	{
		check_usable(plan, config);
	}
	catch (const Fatal &fatal)
	{
		findings->wrong(fatal.what(), "nats stream edit " + plan.name);
		return;
	}
	if (limit > 0 && config.value("discard", "old") == "new" && static_cast<double>(bytes) > 0.9 * static_cast<double>(limit))
		findings->wrong(fmt::format("stream {} has {} MB of the {} MB that it may", plan.name, bytes / 1048576,
									limit / 1048576),
						"siphon-publisher --update-stream --stream-max-bytes SIZE");
	else
		findings->well(fmt::format("stream {} has {} messages, {} MB", plan.name,
								   info["state"].value("messages", uint64_t{0}), bytes / 1048576));
	if (config.value("num_replicas", 1) == 1)
		findings->note(fmt::format("stream {} has one copy: a power cut can lose what was acknowledged, unless sync_interval "
								   "is always",
								   plan.name));
}

void
look_at_nats(const Config &config, Findings *findings)
{
	std::string servers = nats_url_for_people(config.nats_url);
	NatsPtr<natsOptions> options = nats_options(config.nats_url, config.nats_login, "siphon-publisher check");
	NatsFailure failure;
	NatsPtr<natsConnection> connection(nats_connect(options.get(), &failure));
	natsConnection *raw = connection.get();
	StreamPlan plan{stream_name(config.application), config.application,
					subject_root(config.subject_prefix, config.application), config.stream, false};

	if (!connection)
	{
		findings->wrong("NATS at " + servers + ": " + failure.why,
						failure.refusal() ? refusal_hint(failure, config.nats_login, config.nats_url)
										  : "See that nats-server runs there, and check --nats-url.");
		return;
	}
	findings->well("NATS at " + servers + " lets us in");

	int64_t payload = natsConnection_GetMaxPayload(raw);

	if (payload < kGoodPayload)
		findings->note(fmt::format("NATS takes messages of {} bytes: large packages go in parts; max_payload: 1MB in its "
								   "configuration saves that",
								   payload));
	else
		findings->well(fmt::format("NATS takes messages of {} bytes", payload));

	ApiReply account = jetstream_request(raw, "INFO");

	if (!account.ok())
	{
		findings->wrong("JetStream does not answer: " + account.error,
						"Start nats-server with --jetstream, and let this user's account use it.");
		return;
	}

	int64_t limit = account.content["limits"].is_object()
						? account.content["limits"].value("max_storage", int64_t{-1})
						: -1;
	int64_t used = account.content.value("storage", int64_t{0});

	if (limit > 0 && static_cast<double>(used) > 0.9 * static_cast<double>(limit))
		findings->wrong(fmt::format("JetStream stores {} MB for this account, of the {} MB that it may", used / 1048576,
									limit / 1048576),
						"nats account info; make its limit larger, or streams smaller.");

	ApiReply stream = jetstream_request(raw, "STREAM.INFO." + plan.name);

	if (stream.error_code == kErrorStreamNotFound)
		findings->note("there is no stream " + plan.name + " yet; the publisher makes it");
	else if (!stream.ok())
		findings->wrong("stream " + plan.name + ": " + stream.error, "nats stream info " + plan.name);
	else
	{
		look_at_stream(plan, stream.content, findings);
		look_at_clock(stream.content, findings);
	}
}

} // namespace

bool
check(const Config &config)
{
	Findings findings;
	Status status;

	status.at = Status::Clock::now();
	status.application = config.application;
	status.ring_directory = config.ring_directory;
	status.starting = false;
	status.connected = status.settled = true;

	look_at_file_system(config, &findings);
	look_at_ring(config, &status, &findings);
	look_at_server(status, &findings);
	look_at_nats(config, &findings);
	nats_finish();
	return findings.all_well();
}

} // namespace siphon
