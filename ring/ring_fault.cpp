/*
 * A SIGBUS handler for mappings of rings: see ring_fault.h. All that the handler touches is lock-free, and
 * mmap and sigaction are plain system calls.
 */
#include "ring_fault.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <sys/mman.h>

namespace siphon {

struct GuardedMapping
{
	std::atomic<uintptr_t> start; /* 0: a free place */
	std::atomic<size_t> size;

	bool contains(uintptr_t address) const
	{
		uintptr_t from = start.load();

		return from != 0 && address >= from && address - from < size.load();
	}
};

static GuardedMapping guarded[kGuardedMappings];
static std::atomic<bool> fault_seen;
static std::atomic<bool> installed;
static struct sigaction previous;

static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

static void
handle_bus_error(int signal_number, siginfo_t *info, void *)
{
	uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
	/* si_addr means something only if the kernel reports a fault, and not for a kill(). */
	bool fault = info->si_code > 0;
	int saved_errno = errno;

	for (const GuardedMapping &mapping : guarded)
	{
		if (!fault || !mapping.contains(address))
			continue;

		void *zeros = mmap(reinterpret_cast<void *>(mapping.start.load()), mapping.size.load(), PROT_READ | PROT_WRITE,
						   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);

		if (zeros != MAP_FAILED)
		{
			fault_seen.store(true);
			errno = saved_errno;
			return;
		}
	}

	/* Not ours. The instruction is repeated when we return, and then meets the handler before us. */
	sigaction(SIGBUS, &previous, nullptr);
	installed.store(false);
	if (!fault)
		raise(signal_number);
	errno = saved_errno;
}

void
ring_fault_guard(void *memory, size_t size)
{
	for (GuardedMapping &mapping : guarded)
	{
		if (mapping.start.load() != 0)
			continue;
		mapping.size.store(size);
		mapping.start.store(reinterpret_cast<uintptr_t>(memory));
		break;
	}

	fault_seen.store(false);
	if (installed.exchange(true))
		return;

	struct sigaction action = {};

	action.sa_sigaction = handle_bus_error;
	/* SA_NODEFER, so that the raise() above takes effect at once. */
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, &previous);
}

void
ring_fault_release(void *memory)
{
	bool left = false;

	for (GuardedMapping &mapping : guarded)
	{
		if (mapping.start.load() == reinterpret_cast<uintptr_t>(memory))
			mapping.start.store(0);
		left |= mapping.start.load() != 0;
	}
	if (!left && installed.exchange(false))
		sigaction(SIGBUS, &previous, nullptr);
}

bool
has_ring_fault()
{
	return fault_seen.load();
}

} // namespace siphon
