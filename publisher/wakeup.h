/*
 * Wakes the publisher's loop out of poll() from another thread. Costs a system call only when the loop
 * said that it is about to sleep.
 */
#ifndef SIPHON_WAKEUP_H
#define SIPHON_WAKEUP_H

#include <atomic>

namespace siphon {

class Wakeup
{
public:
	Wakeup();
	~Wakeup();
	Wakeup(const Wakeup &) = delete;
	Wakeup &operator=(const Wakeup &) = delete;

	/* To poll() for input. */
	int fd() const { return fd_; }

	/* The loop: says that it is going to sleep; look at everything once more after that. */
	void arm();
	/* The loop: is awake again. */
	void disarm();

	/* Any thread, after it changed what the loop looks at. */
	void notify();

private:
	int fd_;
	std::atomic<bool> armed_{false};
};

} // namespace siphon

#endif
