/* See syncer.h. */
#include "publisher/stream/file/syncer.h"

#include <cerrno>

namespace siphon {

Syncer::~Syncer()
{
	if (!thread_.joinable())
		return;
	{
		std::lock_guard<std::mutex> guard(mutex_);

		stop_ = true;
		changed_.notify_all();
	}
	thread_.join();
}

void
Syncer::request(int fd, Place place)
{
	std::lock_guard<std::mutex> guard(mutex_);

	fd_ = fd;
	wanted_ = place;
	if (!thread_.joinable())
		thread_ = std::thread([this] { run(); });
	changed_.notify_all();
}

Place
Syncer::durable(int *error)
{
	std::lock_guard<std::mutex> guard(mutex_);

	*error = error_;
	return durable_;
}

bool
Syncer::idle()
{
	std::lock_guard<std::mutex> guard(mutex_);

	return durable_ == wanted_ || error_ != 0;
}

void
Syncer::finish()
{
	std::unique_lock<std::mutex> guard(mutex_);

	changed_.wait(guard, [this] { return durable_ == wanted_ || error_ != 0; });
}

void
Syncer::reset(Place durable)
{
	std::lock_guard<std::mutex> guard(mutex_);

	wanted_ = durable_ = durable;
	error_ = 0;
}

void
Syncer::run()
{
	std::unique_lock<std::mutex> guard(mutex_);

	for (;;)
	{
		changed_.wait(guard, [this] { return stop_ || (durable_ != wanted_ && error_ == 0); });
		/* What was asked for last need not come to its end: the next start finds it, or not. */
		if (stop_)
			return;

		Place wanted = wanted_;
		int fd = fd_;

		guard.unlock();

		int error = sync_file_(fd) == 0 ? 0 : errno;

		guard.lock();
		if (error == 0)
			durable_ = wanted;
		else
			error_ = error;
		changed_.notify_all();
		wakeup_.notify();
	}
}

} // namespace siphon
