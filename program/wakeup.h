/*
 * Wakes the publisher's loop out of poll() from another thread or a signal handler. Costs a system call
 * only when the loop said that it is about to sleep.
 */
#ifndef SIPHON_WAKEUP_H
#define SIPHON_WAKEUP_H

#include <atomic>
#include <cstdint>

namespace siphon {

class Wakeup
{
public:
	Wakeup();
	~Wakeup();
	Wakeup(const Wakeup &) = delete;
	Wakeup &operator=(const Wakeup &) = delete;

	/* Counts what was notified; take it before looking at what may change. */
	uint64_t changes() const { return changes_.load(); }

	/* The loop: is about to poll() for input on fd(). False: something changed since `seen`, don't sleep. */
	bool arm(uint64_t seen);
	/* The loop: is awake again. */
	void disarm();
	int fd() const { return fd_; }

	/* After a change that the loop should see. Safe in a signal handler. */
	void notify();

private:
	int fd_;
	std::atomic<uint64_t> changes_{0};
	std::atomic<bool> armed_{false};
};

} // namespace siphon

#endif
