/* See wakeup.h. Sequentially consistent, so that of arming and changing one side sees the other's. */
#include "program/wakeup.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <sys/eventfd.h>
#include <unistd.h>

#include "program/exit_codes.h"

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

bool
Wakeup::arm(uint64_t seen)
{
	armed_.store(true);
	return changes_.load() == seen;
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
	changes_.fetch_add(1);
	if (!armed_.exchange(false))
		return;

	int saved_errno = errno;
	uint64_t one = 1;
	[[maybe_unused]] ssize_t size = write(fd_, &one, sizeof(one));

	errno = saved_errno;
}

} // namespace siphon
