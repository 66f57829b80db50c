/* See ring_directory.h. */
#include "publisher/source/ring_directory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ring/ring_file.h"

namespace siphon {

void
use_ring_group(const std::string &group)
{
	gid_t id;
	int error = ring_group_find(group.c_str(), &id);

	if (error == ENOENT)
		throw Fatal(ExitCode::Usage, "--ring-group: group " + group + " does not exist");
	if (error != 0)
		throw Fatal(ExitCode::Usage, "--ring-group: the user of the publisher is not a member of group " + group);
	ring_group_use(id);
}

RingDirectory::RingDirectory(const std::string &directory, const std::string &application)
	: directory_(directory), application_(application)
{
	lock();
	try
	{
		/* Now already, so that the decoder's first ring wakes us. */
		open_bell();
	}
	catch (...)
	{
		close(lock_);
		throw;
	}
}

RingDirectory::~RingDirectory()
{
	announce("");
	close(bell_);
	close(lock_);
}

/* What somebody has to mend. The rest, as too few file descriptors, another start may not meet. */
static bool
is_final(int error)
{
	switch (error)
	{
		case EPERM:
		case EACCES:
		case ENOENT:
		case ENOTDIR:
		case EISDIR:
		case ELOOP:
		case ENAMETOOLONG:
		case EINVAL:
		case EROFS:
			return true;
		default:
			return false;
	}
}

Fatal
RingDirectory::error(int error) const
{
	std::string line = "ring directory " + directory_ + ": " + strerror(error);

	if (error == EPERM || error == EACCES)
		line += "; it must belong to the user that this runs as, and only that user may write to it: run the "
				"publisher as the PostgreSQL server's user, or set siphon.ring_group there and --ring-group here";
	return Fatal(is_final(error) ? ExitCode::Usage : ExitCode::Unexpected, line);
}

void
RingDirectory::lock()
{
	int error_number = ring_lock(directory_.c_str(), application_.c_str(), "publisher.lock", &lock_);

	if (error_number == EWOULDBLOCK)
		throw Fatal(ExitCode::Locked, "another publisher runs for application " + application_ +
										  ": it holds publisher.lock in " + directory_ + "/" + application_);
	if (error_number != 0)
		throw error(error_number);
}

void
RingDirectory::open_bell()
{
	int error_number = doorbell_open(directory_.c_str(), application_.c_str(), "publisher.bell", &bell_);

	if (error_number != 0)
		throw error(error_number);
}

std::set<std::string>
RingDirectory::list() const
{
	std::set<std::string> names;
	int error_number = ring_file_list(
		directory_.c_str(), application_.c_str(),
		[](void *found, const char *ring) { static_cast<std::set<std::string> *>(found)->insert(ring); }, &names);

	if (error_number != 0 && error_number != ENOENT)
		throw error(error_number);
	return names;
}

void
RingDirectory::renew()
{
	struct stat status;

	if (fstat(lock_, &status) != 0 || status.st_nlink == 0)
	{
		close(lock_);
		lock();
		announce(url_);
	}
	close(bell_);
	bell_ = -1;
	open_bell();
}

void
RingDirectory::announce(const std::string &url)
{
	url_ = url;
	/* For users who look at the page alone: where it can't be written, there is no link. */
	[[maybe_unused]] bool written = ftruncate(lock_, 0) == 0 && pwrite(lock_, url.data(), url.size(), 0) >= 0;
}

void
RingDirectory::drain_bell()
{
	doorbell_drain(bell_);
}

/* More than a server has, and a bound to what a page shows. */
static constexpr size_t kApplicationsMax = 100;

/* What the publisher in this directory announced; empty if it did not. */
static std::string
announced_url(int parent)
{
	char text[200];
	struct stat status;
	ssize_t length = 0;
	int fd = openat(parent, "publisher.lock", O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return "";
	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
		length = read(fd, text, sizeof(text));
	close(fd);

	std::string url(text, static_cast<size_t>(std::max<ssize_t>(length, 0)));

	return url.starts_with("http://") || url.starts_with("https://") ? url : "";
}

std::vector<OtherApplication>
list_other_applications(const std::string &directory, const std::string &application)
{
	std::vector<OtherApplication> found;
	DIR *entries = opendir(directory.c_str());

	while (const dirent *entry = entries != nullptr ? readdir(entries) : nullptr)
	{
		struct stat ring;
		int fd;

		if (entry->d_name[0] == '.' || entry->d_name == application || found.size() == kApplicationsMax)
			continue;
		fd = openat(dirfd(entries), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;

		std::string url = announced_url(fd);

		if (!url.empty() || fstatat(fd, "decoder.ring", &ring, AT_SYMLINK_NOFOLLOW) == 0)
			found.push_back({entry->d_name, url});
		close(fd);
	}
	if (entries != nullptr)
		closedir(entries);
	std::sort(found.begin(), found.end(), [](const auto &a, const auto &b) { return a.name < b.name; });
	return found;
}

} // namespace siphon
