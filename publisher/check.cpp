/* See check.h. */
#include "publisher/check.h"

#include <cerrno>
#include <cstring>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fmt/format.h>

#include "publisher/check_findings.h"
#include "publisher/check_nats.h"
#include "publisher/watch/health.h"
#include "reader/nats/nats_connection.h"
#include "ring/ring_fault.h"
#include "ring/ring_file.h"

namespace siphon {

namespace {

constexpr double kSilence = 5;
constexpr uint64_t kMegabyte = 1024 * 1024;
/* Megabytes. */
constexpr uint64_t kFreeForStream = 256;

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

	uint64_t free =
		static_cast<uint64_t>(file_system.f_bavail) * static_cast<uint64_t>(file_system.f_bsize) / kMegabyte;

	if (file_system.f_type != TMPFS_MAGIC)
		findings->note(config.ring_directory +
					   " is not in memory: each write to the ring goes to a disk, sooner or later");
	if (free < 64)
		findings->wrong(
			fmt::format("{} has {} MB free, and each snapshot worker needs up to 16 MB", config.ring_directory, free),
			"mount -o remount,size=1G /dev/shm, or the volume that it is on");
	else
		findings->well(fmt::format("{} has {} MB free", config.ring_directory, free));
}

/* Of the newest acknowledgement that is whole. */
Checkpoint
last_checkpoint(const RingHeader &header)
{
	Acknowledgement newest{};

	for (const SharedAcknowledgement &shared : header.acknowledgements)
	{
		uint64_t check = shared.check.load();
		uint64_t words[kCheckpointWords];
		Acknowledgement said{shared.number.load(), shared.acked.load(), {}};

		for (uint32_t i = 0; i < kCheckpointWords; i++)
			words[i] = shared.checkpoint[i].load();
		memcpy(&said.checkpoint, words, sizeof(words));
		if (check == compute_check_word(said, header.ring_id) && said.number >= newest.number)
			newest = said;
	}
	return newest.checkpoint;
}

/* Reads the header, without the reader's class, which would write. */
void
look_at_header(const RingHeader *header, const std::string &path, Status *status, RingIdentity *identity,
			   Findings *findings)
{
	if (header->magic.load() != kRingMagic)
	{
		findings->wrong(path + " is no ring", "See who writes there; the decoder makes another when it starts.");
		return;
	}
	if (header->version != kRingVersion)
	{
		findings->wrong(
			fmt::format("{} has ring version {}, and this publisher reads version {}", path, header->version,
						kRingVersion),
			"Install the publisher that came with the extension, or update the extension and restart the server.");
		return;
	}

	RingStatus ring;

	ring.name = "decoder";
	ring.capacity = header->capacity;
	ring.silence = seconds_since(header->worker_heartbeat.load());
	for (size_t i = 0; i < ring.metrics.size(); i++)
		ring.metrics[i] = header->metrics.values[i].load();
	findings->well(fmt::format("{} is a ring of {} MB and version {}", path, ring.capacity / kMegabyte, kRingVersion));
	if (header->publisher_pid.load() != 0 && seconds_since(header->publisher_heartbeat.load()) < kSilence)
		findings->well(fmt::format("a publisher is attached to it, with process ID {}", header->publisher_pid.load()));
	else
		findings->note("no publisher is attached to it");
	status->rings.push_back(ring);
	identity->history = header->history;
	identity->acknowledged = last_checkpoint(*header);
}

void
look_at_ring(const Config &config, Status *status, RingIdentity *identity, Findings *findings)
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
		findings->wrong(
			std::string(path) + ": " + strerror(error),
			"It must belong to the user that this runs as, and only that user may write to it: run this as the "
			"PostgreSQL server's user, or set siphon.ring_group there and --ring-group here.");
		return;
	}
	ring_fault_guard(mapping.memory, mapping.size);
	look_at_header(static_cast<const RingHeader *>(mapping.memory), path, status, identity, findings);
	ring_fault_release(mapping.memory);
	ring_file_close(&mapping);
}

/* What the publisher's own rules find, as far as they are about the server. */
void
look_at_server(const Status &status, Findings *findings)
{
	std::vector<Problem> problems = find_problems(status, status.at);

	for (const Problem &problem : problems)
		findings->wrong(problem.what, problem.hint + (problem.command.empty() ? "" : " " + problem.command));
	if (!problems.empty())
		return;

	const RingStatus &decoder = *status.decoder();

	findings->well(fmt::format("the decoder is at work, for {} tables; its slot keeps {} MB of WAL",
							   decoder.metric(RingMetric::Tables), decoder.metric(RingMetric::Retained) / kMegabyte));
	if (decoder.metric(RingMetric::RetainedLimit) == kMetricUnknown)
		findings->note("nothing limits the WAL that the slot keeps, and so the disk does: ALTER SYSTEM SET "
					   "siphon.max_retained_wal");
}

/* Where the stream is files. */
void
look_at_stream_directory(const std::string &directory, Findings *findings)
{
	struct statvfs file_system;

	if (access(directory.c_str(), F_OK) != 0)
		findings->note("there is no directory " + directory + " yet; the publisher makes it");
	else if (access(directory.c_str(), R_OK | W_OK | X_OK) != 0 || statvfs(directory.c_str(), &file_system) != 0)
		findings->wrong("directory " + directory + ": " + strerror(errno),
						"Run this as the user that the publisher runs as.");
	else if (uint64_t free = uint64_t{file_system.f_bavail} * file_system.f_frsize / kMegabyte; free < kFreeForStream)
		findings->wrong(fmt::format("{} has {} MB free", directory, free),
						"Remove files that were read, or make room.");
	else
		findings->well(fmt::format("{} has {} MB free", directory, free));
}

} // namespace

bool
check(const Config &config)
{
	Findings findings;
	RingIdentity ring;
	Status status;

	status.at = Status::Clock::now();
	status.application = config.application;
	status.ring_directory = config.ring_directory;
	status.files = !config.stream_url.empty();
	status.starting = false;
	status.connected = status.settled = true;

	look_at_file_system(config, &findings);
	look_at_ring(config, &status, &ring, &findings);
	look_at_server(status, &findings);
	if (!config.stream_url.empty())
		look_at_stream_directory(parse_stream_url(config.stream_url), &findings);
	else
	{
		look_at_nats(config, ring, &findings);
		nats_finish();
	}
	return findings.all_well();
}

} // namespace siphon
