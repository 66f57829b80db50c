/*
 * Writes to the disk what was appended to a file, in a thread of its own, so that nobody waits for the disk. While it is at
 * work more is appended, and is written all together the next time: the slower the disk, the larger the groups.
 */
#ifndef SIPHON_STREAM_FILE_SYNCER_H
#define SIPHON_STREAM_FILE_SYNCER_H

#include <condition_variable>
#include <mutex>
#include <thread>

#include "program/wakeup.h"
#include "reader/stored_message.h"

namespace siphon {

class Syncer
{
public:
	/* The wakeup is notified when something became durable, or failed to. */
	Syncer(int (*sync_file)(int fd), Wakeup *wakeup) : sync_file_(sync_file), wakeup_(*wakeup) {}
	~Syncer();
	Syncer(const Syncer &) = delete;
	Syncer &operator=(const Syncer &) = delete;

	/* Asks that the messages up to a place, which were written to the file, become durable. Not behind an error. */
	void request(int fd, Place place);
	/* Returns the place up to which messages are durable; *error: errno of the attempt that failed, otherwise 0. */
	Place durable(int *error);
	/* Nothing is under way. */
	bool idle();
	/* Waits until nothing is under way. */
	void finish();
	/* Forgets an error. Call only when idle. */
	void reset(Place durable);

private:
	void run();

	int (*const sync_file_)(int fd);
	Wakeup &wakeup_;
	std::mutex mutex_;
	std::condition_variable changed_;
	int fd_ = -1;
	Place wanted_ = kNoPlace;
	Place durable_ = kNoPlace;
	int error_ = 0;
	bool stop_ = false;
	std::thread thread_;
};

} // namespace siphon

#endif
