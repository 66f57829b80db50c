/* See attached_ring.h. */
#include "publisher/source/attached_ring.h"

#include <cerrno>
#include <chrono>
#include <unistd.h>

#include "program/log.h"
#include "ring/ring_fault.h"

namespace siphon {

std::string
AttachedRing::path_of(const RingDirectory &directory, const std::string &ring)
{
	char path[kRingPathMax];

	return ring_path(path, directory.directory().c_str(), directory.application().c_str(), (ring + ".ring").c_str())
			   ? path
			   : directory.directory();
}

std::unique_ptr<AttachedRing>
AttachedRing::attach(const RingDirectory &directory, const std::string &ring)
{
	std::unique_ptr<AttachedRing> source(new AttachedRing);

	source->path_ = path_of(directory, ring);

	bool mapped = source->map(directory, ring);

	if (!mapped && !source->refused_)
		return nullptr;

	int error = doorbell_open(directory.directory().c_str(), directory.application().c_str(), (ring + ".bell").c_str(),
							  &source->worker_bell_);

	if (error != 0)
		throw directory.error(error);
	if (!mapped)
	{
		spdlog::error("{} is corrupt: its header has invalid values; a new ring was requested from its worker",
					  source->path_);
		doorbell_ring(source->worker_bell_);
		return nullptr;
	}
	source->reader_.set_publisher(static_cast<uint32_t>(getpid()));
	source->send_heartbeat();
	/* A publisher before us may have died between learning that the worker sleeps and waking it. */
	doorbell_ring(source->worker_bell_);
	return source;
}

bool
AttachedRing::map(const RingDirectory &directory, const std::string &ring)
{
	int error = ring_file_open(directory.directory().c_str(), directory.application().c_str(), ring.c_str(), &mapping_);

	if (error == ENOENT)
		return false;
	if (error == EINVAL)
		throw Fatal(ExitCode::RingRefused, path_ + " is too short to be a ring");
	if (error != 0)
		throw directory.error(error);

	/* A ring that is truncated under us then reads as zeros, which is a corrupt ring and not a SIGBUS. */
	ring_fault_guard(mapping_.memory, mapping_.size);

	uint32_t version = 0;

	switch (reader_.attach(mapping_.memory, mapping_.size, &version))
	{
		case AttachResult::Ok:
			break;
		case AttachResult::NotReady:
			return false;
		case AttachResult::WrongVersion:
			throw Fatal(ExitCode::RingRefused,
						path_ + " has ring version " + std::to_string(version) + ", and this publisher reads version " +
							std::to_string(kRingVersion) + ": install the publisher that came with the extension");
		case AttachResult::Corrupt:
			if (ring_refuse(mapping_.memory, mapping_.size))
			{
				refused_ = true;
				return false;
			}
			throw Fatal(ExitCode::RingRefused, path_ + " is corrupt: its header has invalid values; the server "
													   "creates another one when its decoder restarts");
	}
	if (directory.application() != reader_.application())
		throw Fatal(ExitCode::RingRefused, path_ + " belongs to application \"" + reader_.application() + "\"");
	return true;
}

AttachedRing::~AttachedRing()
{
	if (worker_bell_ >= 0)
	{
		if (!refused_)
			reader_.set_publisher(0);
		close(worker_bell_);
	}
	ring_fault_release(mapping_.memory);
	ring_file_close(&mapping_);
}

void
AttachedRing::ack(uint64_t position)
{
	reader_.ack(position);
	if (reader_.clear_worker_asleep())
		doorbell_ring(worker_bell_);
}

void
AttachedRing::refuse()
{
	refused_ = true;
	reader_.refuse();
	doorbell_ring(worker_bell_);
}

void
AttachedRing::send_heartbeat()
{
	/* Whoever damaged the ring may have wiped out the word that asks for another one, too. */
	if (refused_)
		refuse();

	auto now = std::chrono::system_clock::now().time_since_epoch();

	reader_.heartbeat(static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count()));
}

bool
AttachedRing::sleep()
{
	reader_.set_asleep(true);
	return reader_.written() == reader_.read_position();
}

void
AttachedRing::wake()
{
	reader_.set_asleep(false);
}

} // namespace siphon
