/* See ring_source.h. */
#include "ring_source.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <sys/stat.h>
#include <unistd.h>

#include "../src/ring_fault.h"
#include "exit_codes.h"

namespace siphon {

RingSource::RingSource(const std::string &directory, const std::string &application)
	: directory_(directory), application_(application)
{
	lock();
	try
	{
		/* Now already, so that the decoder's first ring wakes us. */
		open_bells();
	}
	catch (...)
	{
		close(lock_);
		throw;
	}
}

RingSource::~RingSource()
{
	detach();
	close_bells();
	close(lock_);
}

std::string
RingSource::path() const
{
	char path[kRingPathMax];

	return ring_path(path, directory_.c_str(), application_.c_str(), "decoder.ring") ? path : directory_;
}

/* One line for an errno value that the ring's directory gave, with what to do about it. */
static Fatal
directory_error(const std::string &directory, int error)
{
	std::string line = "ring directory " + directory + ": " + strerror(error);

	if (error == EPERM || error == EACCES)
		line += "; it must belong to the user that this runs as, and only that user may write to it: run the "
				"publisher as the PostgreSQL server's user";
	return Fatal(ExitCode::Usage, line);
}

void
RingSource::lock()
{
	int error = ring_lock(directory_.c_str(), application_.c_str(), "publisher.lock", &lock_);

	if (error == EWOULDBLOCK)
		throw Fatal(ExitCode::Locked, "another publisher runs for application " + application_ +
						": it holds publisher.lock in " + directory_ + "/" + application_);
	if (error != 0)
		throw directory_error(directory_, error);
}

void
RingSource::open_bells()
{
	int error = bell_open(directory_.c_str(), application_.c_str(), "publisher.bell", &own_bell_);

	if (error == 0)
		error = bell_open(directory_.c_str(), application_.c_str(), "decoder.bell", &decoder_bell_);
	if (error != 0)
	{
		close_bells();
		throw directory_error(directory_, error);
	}
}

void
RingSource::close_bells()
{
	if (own_bell_ >= 0)
		close(own_bell_);
	if (decoder_bell_ >= 0)
		close(decoder_bell_);
	own_bell_ = -1;
	decoder_bell_ = -1;
}

bool
RingSource::attach()
{
	RingMapping mapping{nullptr, 0, -1};
	int error = ring_file_open(directory_.c_str(), application_.c_str(), &mapping);

	if (error == ENOENT)
		return false;
	if (error == EINVAL)
		throw Fatal(ExitCode::RingRefused, path() + " is too short to be a ring");
	if (error != 0)
		throw directory_error(directory_, error);

	/* A ring that is truncated under us then reads as zeros, which is a corrupt ring and not a SIGBUS. */
	ring_fault_guard(mapping.memory, mapping.size);

	uint32_t version = 0;
	AttachResult result = reader_.attach(mapping.memory, mapping.size, &version);

	if (result != AttachResult::Ok)
	{
		ring_fault_guard(nullptr, 0);
		ring_file_close(&mapping);
	}
	switch (result)
	{
		case AttachResult::Ok:
			break;
		case AttachResult::NotReady:
			return false;
		case AttachResult::WrongVersion:
			throw Fatal(ExitCode::RingRefused,
						path() + " has ring version " + std::to_string(version) + ", and this publisher reads version " +
							std::to_string(kRingVersion) + ": install the publisher that came with the extension");
		case AttachResult::Corrupt:
			throw Fatal(ExitCode::RingRefused, path() + " is corrupt: its header has impossible values");
	}
	mapping_ = mapping;

	if (application_ != reader_.application())
		throw Fatal(ExitCode::RingRefused, path() + " belongs to application \"" + reader_.application() + "\"");

	/* Dropping an application and making it again leaves us with a lock and bells that nobody else has. */
	struct stat status;

	if (fstat(lock_, &status) != 0 || status.st_nlink == 0)
	{
		close(lock_);
		lock();
	}
	close_bells();
	open_bells();

	reader_.set_publisher(static_cast<uint32_t>(getpid()));
	beat();
	return true;
}

void
RingSource::detach()
{
	if (!attached())
		return;
	reader_.set_publisher(0);
	ring_fault_guard(nullptr, 0);
	ring_file_close(&mapping_);
	reader_ = RingReader();
}

void
RingSource::ack(uint64_t position)
{
	reader_.ack(position);
	if (reader_.worker_sleeps())
		bell_ring(decoder_bell_);
}

void
RingSource::beat()
{
	auto now = std::chrono::system_clock::now().time_since_epoch();

	reader_.heartbeat(static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count()));
}

bool
RingSource::sleep()
{
	reader_.set_asleep(true);
	return reader_.written() == reader_.read_position();
}

void
RingSource::wake()
{
	reader_.set_asleep(false);
}

void
RingSource::drain_bell()
{
	bell_drain(own_bell_);
}

} // namespace siphon
