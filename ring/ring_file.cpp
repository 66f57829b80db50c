/*
 * Ring files, doorbells and locks: see ring_file.h. Each step goes through a descriptor of the directory that was
 * checked, see ring_access.cpp.
 */
#include "ring_file.h"

#include "ring.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace siphon {

/* Endings of all files that can lie in an application's directory. */
static constexpr char kRingEnding[] = ".ring";
static constexpr char kNewEnding[] = ".ring.new";
static constexpr char kDoorbellEnding[] = ".bell";
static constexpr char kLockEnding[] = ".lock";
static constexpr const char *kEndings[] = {kRingEnding, kNewEnding, kDoorbellEnding, kLockEnding};

/* Longest file name in an application's directory. */
static constexpr size_t kNameMax = 256;

/* What is read from a doorbell at once, and how often: together the default size of a pipe. */
static constexpr size_t kDrainSize = 4096;
static constexpr int kDrainLimit = 16;

/* How often a lock file may vanish under us before we call it taken. */
static constexpr int kLockAttempts = 10;

/* The name of one of a ring's files. False if it does not fit. */
static bool
file_name(char *out, const char *ring, const char *ending)
{
	int length = snprintf(out, kNameMax, "%s%s", ring, ending);

	return strchr(ring, '/') == nullptr && length >= 0 && static_cast<size_t>(length) < kNameMax;
}

static bool
has_ending(const char *name, const char *ending)
{
	size_t length = strlen(name);
	size_t ending_length = strlen(ending);

	return length > ending_length && strcmp(name + length - ending_length, ending) == 0;
}

/* The name of the ring that a file with this ending belongs to. False if it has another ending. */
static bool
ring_name(char *out, const char *file, const char *ending)
{
	size_t length = strlen(file);

	if (!has_ending(file, ending) || length >= kNameMax)
		return false;
	length -= strlen(ending);
	memcpy(out, file, length);
	out[length] = '\0';
	return true;
}

bool
ring_path(char *out, const char *directory, const char *application, const char *file)
{
	if (!is_valid_ring_application(application))
		return false;

	int length = snprintf(out, kRingPathMax, "%s/%s/%s", directory, application, file);

	return length >= 0 && static_cast<size_t>(length) < kRingPathMax;
}

/*
 * posix_fallocate starts over after a signal and so might never end in a process whose latch is set all
 * the time: block them, as PostgreSQL does for its shared memory segments. Still EINTR can come from
 * SIGCONT, for one.
 */
static int
allocate_space(int fd, size_t size)
{
	sigset_t all;
	sigset_t before;
	int error;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	do
	{
		error = posix_fallocate(fd, 0, static_cast<off_t>(size));
	} while (error == EINTR);
	sigprocmask(SIG_SETMASK, &before, nullptr);
	return error;
}

static int
map_file(int fd, size_t size, RingMapping *mapping)
{
	void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return errno;
	*mapping = {memory, size, fd};
	return 0;
}

int
ring_file_create(const char *directory, const char *application, const char *ring, size_t size, RingMapping *mapping)
{
	char name[kNameMax];
	int parent;

	*mapping = {nullptr, 0, -1};
	if (!file_name(name, ring, kNewEnding))
		return EINVAL;

	int error = ring_directory_open(directory, application, true, &parent);

	if (error != 0)
		return error;

	/* Left behind by a worker that died half-way; the decoder's lock says that there is no other. */
	if (unlinkat(parent, name, 0) != 0 && errno != ENOENT)
	{
		error = errno;
		close(parent);
		return error;
	}

	ExactMode exact;
	int fd = openat(parent, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, exact.mode());
	struct stat status;

	if (fd < 0)
		error = errno;
	else
	{
		error = fstat(fd, &status) != 0 ? errno : ring_access_share(fd, status, 0660);
		if (error == 0)
			error = allocate_space(fd, size);
		if (error == 0)
			error = map_file(fd, size, mapping);
		if (error != 0)
		{
			close(fd);
			unlinkat(parent, name, 0);
		}
	}
	close(parent);
	return error;
}

int
ring_file_publish(const char *directory, const char *application, const char *ring)
{
	char made[kNameMax];
	char name[kNameMax];
	int parent;

	if (!file_name(made, ring, kNewEnding) || !file_name(name, ring, kRingEnding))
		return EINVAL;

	int error = ring_directory_open(directory, application, false, &parent);

	if (error != 0)
		return error;
	if (renameat(parent, made, parent, name) != 0)
		error = errno;
	close(parent);
	return error;
}

/*
 * Takes a ring's files away, and a publisher's likewise. EWOULDBLOCK: another process holds its lock, so they are that
 * one's. What can't be opened is no lock that anybody could hold.
 */
static int
remove_files(int directory, const char *ring)
{
	char name[kNameMax];
	int error = 0;

	if (!file_name(name, ring, kLockEnding))
		return EINVAL;

	int lock = openat(directory, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) != 0)
		error = errno;
	for (const char *ending : kEndings)
	{
		/* A name that does not fit, no file can have. */
		if (error == 0 && file_name(name, ring, ending) && unlinkat(directory, name, 0) != 0 && errno != ENOENT)
			error = errno;
	}
	if (lock >= 0)
		close(lock);
	return error;
}

int
ring_file_remove(const char *directory, const char *application, const char *ring)
{
	int parent;
	int error = ring_directory_open(directory, application, false, &parent);

	if (error != 0)
		return error == ENOENT ? 0 : error;
	error = remove_files(parent, ring);
	close(parent);
	return error;
}

/* Calls act() with each entry of an open directory until it returns an error; closes the directory. */
static int
for_each_file(int directory, int (*act)(void *closure, int directory, const char *file), void *closure)
{
	DIR *listing = fdopendir(directory);
	int error = 0;

	if (listing == nullptr)
	{
		error = errno;
		close(directory);
		return error;
	}
	while (dirent *entry = readdir(listing))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && error == 0)
			error = act(closure, directory, entry->d_name);
	closedir(listing);
	return error;
}

struct Found
{
	void (*ring)(void *closure, const char *ring);
	void *closure;
};

int
ring_file_list(const char *directory, const char *application, void (*found)(void *closure, const char *ring),
			   void *closure)
{
	int parent;
	int error = ring_directory_open(directory, application, false, &parent);

	if (error != 0)
		return error;

	Found rings = {found, closure};

	return for_each_file(
		parent,
		[](void *rings_found, int, const char *file) {
			const Found *to = static_cast<Found *>(rings_found);
			char name[kNameMax];

			if (ring_name(name, file, kRingEnding))
				to->ring(to->closure, name);
			return 0;
		},
		&rings);
}

int
ring_file_open(const char *directory, const char *application, const char *ring, RingMapping *mapping)
{
	char name[kNameMax];
	int parent;
	struct stat status;

	*mapping = {nullptr, 0, -1};
	if (!file_name(name, ring, kRingEnding))
		return EINVAL;

	int error = ring_directory_open(directory, application, false, &parent);

	if (error != 0)
		return error;

	/* O_NONBLOCK is for what isn't a regular file: we must get as far as finding that out. */
	int fd = openat(parent, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	error = errno;
	close(parent);
	if (fd < 0)
		return error;
	error = ring_access_check(fd, S_IFREG, &status);
	if (error != 0)
		return error;

	if (static_cast<size_t>(status.st_size) < ring_file_size(kRingMinimum))
		error = EINVAL;
	else
		error = map_file(fd, static_cast<size_t>(status.st_size), mapping);
	if (error != 0)
		close(fd);
	return error;
}

bool
is_ring_file_replaced(const char *path, int fd)
{
	struct stat ours;
	struct stat named;

	if (lstat(path, &named) != 0)
		return errno == ENOENT || errno == ENOTDIR;
	return fstat(fd, &ours) != 0 || ours.st_ino != named.st_ino || ours.st_dev != named.st_dev;
}

bool
is_ring_file_cut(const RingMapping *mapping)
{
	struct stat status;

	return fstat(mapping->fd, &status) != 0 || static_cast<size_t>(status.st_size) < mapping->size;
}

void
ring_file_close(RingMapping *mapping)
{
	if (mapping->memory != nullptr)
		munmap(mapping->memory, mapping->size);
	if (mapping->fd >= 0)
		close(mapping->fd);
	*mapping = {nullptr, 0, -1};
}

int
ring_lock(const char *directory, const char *application, const char *file, int *fd)
{
	int parent;

	*fd = -1;

	int error = ring_directory_open(directory, application, true, &parent);

	if (error != 0)
		return error;

	error = EWOULDBLOCK;
	for (int attempt = 0; attempt < kLockAttempts; attempt++)
	{
		struct stat locked;
		struct stat named;
		ExactMode exact;
		int lock = openat(parent, file, O_RDWR | O_CREAT | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, exact.mode());

		if (lock < 0)
		{
			error = errno;
			break;
		}
		error = ring_access_check(lock, S_IFREG, &locked);
		if (error != 0)
			break;
		if (flock(lock, LOCK_EX | LOCK_NB) != 0)
		{
			error = errno;
			close(lock);
			break;
		}

		/* Between open and flock the file may have been removed, and the next one locks another. */
		if (fstatat(parent, file, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_ino == locked.st_ino &&
			named.st_dev == locked.st_dev)
		{
			*fd = lock;
			break;
		}
		close(lock);
		error = EWOULDBLOCK;
	}
	close(parent);
	return error;
}

int
doorbell_open(const char *directory, const char *application, const char *file, int *fd)
{
	int parent;
	struct stat status;

	*fd = -1;

	int error = ring_directory_open(directory, application, true, &parent);

	if (error != 0)
		return error;

	ExactMode exact;
	int bell = -1;

	if (mkfifoat(parent, file, exact.mode()) != 0 && errno != EEXIST)
		error = errno;
	else
	{
		/*
		 * For both ends, so that opening never waits for the other side, writing never finds nobody to
		 * read (SIGPIPE), and reading never finds an end of file when the other side goes.
		 */
		bell = openat(parent, file, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
		if (bell < 0)
			error = errno;
	}
	close(parent);
	if (error == 0)
		error = ring_access_check(bell, S_IFIFO, &status);
	if (error == 0)
		*fd = bell;
	return error;
}

void
doorbell_ring(int fd)
{
	/* A full pipe is a doorbell that rings already; any other failure the sleeper's timeout makes good. */
	[[maybe_unused]] ssize_t written = write(fd, "", 1);
}

void
doorbell_drain(int fd)
{
	char buffer[kDrainSize];

	for (int i = 0; i < kDrainLimit; i++)
	{
		if (read(fd, buffer, sizeof(buffer)) < static_cast<ssize_t>(sizeof(buffer)))
			break;
	}
}

int
ring_directory_remove(const char *directory, const char *application)
{
	int parent;
	int child;

	if (!is_valid_ring_application(application))
		return EINVAL;

	int error = ring_level_open(AT_FDCWD, directory, false, &parent);

	if (error != 0)
		return error == ENOENT ? 0 : error;

	error = ring_level_open(parent, application, false, &child);
	if (error == 0)
	{
		bool held = false;

		error = for_each_file(
			child,
			[](void *some_held, int at, const char *file) {
				char name[kNameMax];

				for (const char *ending : kEndings)
				{
					int failed = ring_name(name, file, ending) ? remove_files(at, name) : 0;

					if (failed == EWOULDBLOCK)
						*static_cast<bool *>(some_held) = true;
					else if (failed != 0)
						return failed;
				}
				return 0;
			},
			&held);
		if (error == 0 && !held && unlinkat(parent, application, AT_REMOVEDIR) != 0 && errno != ENOENT)
			error = errno;
	}
	else if (error == ENOENT)
		error = 0;
	close(parent);
	return error;
}

} // namespace siphon
