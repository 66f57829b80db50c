/* See wakeup.h. Sequentially consistent, so that of "armed" and "changed" one side sees the other's. */
#include "wakeup.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <sys/eventfd.h>
#include <unistd.h>

#include "exit_codes.h"

namespace siphon {

Wakeup::Wakeup() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC))
{
	if (fd_ < 0)
		throw Fatal(ExitCode::Unexpected, std::string("eventfd: ") + strerror(errno));
}

Wakeup::~Wakeup()
{
	close(fd_);
}

void
Wakeup::arm()
{
	armed_.store(true);
}

void
Wakeup::disarm()
{
	if (armed_.exchange(false))
		return;

	uint64_t count;

	/* Somebody has written; an empty eventfd is fine, it is non-blocking. */
	[[maybe_unused]] ssize_t size = read(fd_, &count, sizeof(count));
}

void
Wakeup::notify()
{
	if (!armed_.exchange(false))
		return;

	uint64_t one = 1;
	[[maybe_unused]] ssize_t size = write(fd_, &one, sizeof(one));
}

} // namespace siphon
