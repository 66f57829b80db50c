/*
 * Ring files, bells and locks: see ring_file.h.
 *
 * /dev/shm belongs to everybody, so every step goes through a descriptor of the directory that was
 * checked (it is ours, nobody else may write to it), follows no symbolic link, and checks what it opened.
 * Members of the group may do as they like in there, and so whatever they make is taken for what it claims to be only as
 * far as that is harmless: locks, bells that are drained a little at a time, and a mapping that is not trusted anyway.
 */
#include "ring_file.h"

#include "ring.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <climits>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace siphon {

/* Endings of all files that can lie in an application's directory. */
static constexpr char kRingEnding[] = ".ring";
static constexpr char kNewEnding[] = ".ring.new";
static constexpr char kBellEnding[] = ".bell";
static constexpr char kLockEnding[] = ".lock";
static constexpr const char *kEndings[] = {kRingEnding, kNewEnding, kBellEnding, kLockEnding};

/* Longest file name in an application's directory. */
static constexpr size_t kNameMax = 256;

/* What is read from a bell at once, and how often: together the default size of a pipe. */
static constexpr size_t kDrainSize = 4096;
static constexpr int kDrainLimit = 16;

/* How often a lock file may vanish under us before we call it taken. */
static constexpr int kLockAttempts = 10;

static bool
application_valid(const char *application)
{
	return application[0] != '\0' && strcmp(application, ".") != 0 && strcmp(application, "..") != 0 &&
		   strchr(application, '/') == nullptr;
}

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

bool
ring_path(char *out, const char *directory, const char *application, const char *file)
{
	if (!application_valid(application))
		return false;

	int length = snprintf(out, kRingPathMax, "%s/%s/%s", directory, application, file);

	return length >= 0 && static_cast<size_t>(length) < kRingPathMax;
}

static constexpr gid_t kNoGroup = static_cast<gid_t>(-1);
static gid_t shared_with = kNoGroup;

/* While a process makes a directory, it is not of its group yet for the others: how often and long to look again. */
static constexpr int kLevelAttempts = 20;
static constexpr useconds_t kLevelPauseUs = 10000;

int
ring_group_find(const char *name, gid_t *found)
{
	char *end;
	unsigned long number = strtoul(name, &end, 10);
	gid_t groups[NGROUPS_MAX];

	if (*name != '\0' && *end == '\0')
		*found = static_cast<gid_t>(number);
	else if (const struct group *entry = getgrnam(name))
		*found = entry->gr_gid;
	else
		return ENOENT;
	if (*found == getegid())
		return 0;

	int count = getgroups(NGROUPS_MAX, groups);

	for (int i = 0; i < count; i++)
		if (groups[i] == *found)
			return 0;
	return EPERM;
}

void
ring_group_use(gid_t group)
{
	shared_with = group;
}

/* Files are made with exactly the mode that they have to have, as the other side may open them at once. */
class ExactMode
{
public:
	ExactMode() : before_(shared_with == kNoGroup ? 0 : umask(0)) {}
	~ExactMode()
	{
		if (shared_with != kNoGroup)
			umask(before_);
	}
	mode_t mode() const { return shared_with == kNoGroup ? 0600 : 0660; }

private:
	mode_t before_;
};

/* What we own becomes the group's. 0 or errno. */
static int
share(int fd, const struct stat &status, mode_t mode)
{
	if (shared_with == kNoGroup || status.st_uid != geteuid())
		return 0;
	if (status.st_gid != shared_with && fchown(fd, static_cast<uid_t>(-1), shared_with) != 0)
		return errno;
	/* systemd's RestrictSUIDSGID refuses the set-group-ID bit; then files are of the group a moment later. */
	if ((status.st_mode & 07777) != mode && fchmod(fd, mode) != 0 && (errno != EPERM || fchmod(fd, mode & 0777) != 0))
		return errno;
	return 0;
}

/* It is ours, or the group's. */
static bool
belongs(const struct stat &status)
{
	return status.st_uid == geteuid() ||
		   (shared_with != kNoGroup && status.st_gid == shared_with && (status.st_mode & S_IRWXO) == 0);
}

static int
try_level(int parent, const char *name, bool create, int *fd)
{
	struct stat status;

	if (create && mkdirat(parent, name, 0700) != 0 && errno != EEXIST)
		return errno;

	*fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0)
		return errno;

	int error = 0;

	if (fstat(*fd, &status) != 0)
		error = errno;
	else
		error = share(*fd, status, S_ISGID | 0770);
	if (error == 0 && (!belongs(status) || (shared_with == kNoGroup && (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)))
		error = EPERM;
	if (error != 0)
		close(*fd);
	return error;
}

/* Opens one level; fails unless it is a directory of ours that nobody else may write to, or the group's. */
static int
open_level(int parent, const char *name, bool create, int *fd)
{
	int error = try_level(parent, name, create, fd);

	for (int attempt = 1; shared_with != kNoGroup && (error == EPERM || error == EACCES) && attempt < kLevelAttempts; attempt++)
	{
		usleep(kLevelPauseUs);
		error = try_level(parent, name, create, fd);
	}
	return error;
}

/* Opens the application's directory. */
static int
open_directory(const char *directory, const char *application, bool create, int *fd)
{
	int parent;

	if (!application_valid(application))
		return EINVAL;

	int error = open_level(AT_FDCWD, directory, create, &parent);

	if (error != 0)
		return error;
	error = open_level(parent, application, create, fd);
	close(parent);
	return error;
}

/* Checks that an opened file is ours, or the group's, and of the type that it should be; closes it if not. */
static int
check_file(int fd, mode_t type, struct stat *status)
{
	int error = 0;

	if (fstat(fd, status) != 0)
		error = errno;
	else if ((status->st_mode & S_IFMT) != type)
		error = EINVAL;
	/* A member may have put a link here, to a file of ours that is not the group's business. */
	else if (!belongs(*status) || (shared_with != kNoGroup && status->st_nlink > 1))
		error = EPERM;
	else
		error = share(fd, *status, 0660);
	if (error != 0)
		close(fd);
	return error;
}

/*
 * posix_fallocate starts over after a signal and so might never end in a process whose latch is set all
 * the time: block them, as PostgreSQL does for its shared memory segments. Still EINTR can come from
 * SIGCONT, for one.
 */
static int
allocate(int fd, size_t size)
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
map(int fd, size_t size, RingMapping *mapping)
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

	int error = open_directory(directory, application, true, &parent);

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
		error = fstat(fd, &status) != 0 ? errno : share(fd, status, 0660);
		if (error == 0)
			error = allocate(fd, size);
		if (error == 0)
			error = map(fd, size, mapping);
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

	int error = open_directory(directory, application, false, &parent);

	if (error != 0)
		return error;
	if (renameat(parent, made, parent, name) != 0)
		error = errno;
	close(parent);
	return error;
}

int
ring_file_remove(const char *directory, const char *application, const char *ring)
{
	char name[kNameMax];
	int parent;
	int error = open_directory(directory, application, false, &parent);

	if (error != 0)
		return error == ENOENT ? 0 : error;
	for (const char *ending : kEndings)
	{
		if (!file_name(name, ring, ending))
			error = EINVAL;
		else if (unlinkat(parent, name, 0) != 0 && errno != ENOENT)
			error = errno;
	}
	close(parent);
	return error;
}

/* Calls act() with each entry of an open directory until it returns an error; closes the directory. */
static int
each_file(int directory, int (*act)(void *closure, int directory, const char *file), void *closure)
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
	int error = open_directory(directory, application, false, &parent);

	if (error != 0)
		return error;

	Found rings = {found, closure};

	return each_file(
		parent,
		[](void *rings_found, int, const char *file) {
			const Found *to = static_cast<Found *>(rings_found);
			char name[kNameMax];
			size_t length = strlen(file);

			if (!has_ending(file, kRingEnding) || length >= kNameMax)
				return 0;
			memcpy(name, file, length + 1);
			name[length - strlen(kRingEnding)] = '\0';
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

	int error = open_directory(directory, application, false, &parent);

	if (error != 0)
		return error;

	/* O_NONBLOCK is for what isn't a regular file: we must get as far as finding that out. */
	int fd = openat(parent, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	error = errno;
	close(parent);
	if (fd < 0)
		return error;
	error = check_file(fd, S_IFREG, &status);
	if (error != 0)
		return error;

	if (static_cast<size_t>(status.st_size) < ring_file_size(kRingMinimum))
		error = EINVAL;
	else
		error = map(fd, static_cast<size_t>(status.st_size), mapping);
	if (error != 0)
		close(fd);
	return error;
}

bool
ring_file_replaced(const RingMapping *mapping)
{
	struct stat status;

	/* Renaming another file over the name takes away the only link that ours has; so does removing it. */
	return fstat(mapping->fd, &status) != 0 || status.st_nlink == 0;
}

bool
ring_file_cut(const RingMapping *mapping)
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

	int error = open_directory(directory, application, true, &parent);

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
		error = check_file(lock, S_IFREG, &locked);
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
bell_open(const char *directory, const char *application, const char *file, int *fd)
{
	int parent;
	struct stat status;

	*fd = -1;

	int error = open_directory(directory, application, true, &parent);

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
		error = check_file(bell, S_IFIFO, &status);
	if (error == 0)
		*fd = bell;
	return error;
}

void
bell_ring(int fd)
{
	/* A full pipe is a bell that rings already; any other failure the sleeper's timeout makes good. */
	[[maybe_unused]] ssize_t written = write(fd, "", 1);
}

void
bell_drain(int fd)
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

	if (!application_valid(application))
		return EINVAL;

	int error = open_level(AT_FDCWD, directory, false, &parent);

	if (error != 0)
		return error == ENOENT ? 0 : error;

	error = open_level(parent, application, false, &child);
	if (error == 0)
	{
		error = each_file(
			child,
			[](void *, int at, const char *file) {
				for (const char *ending : kEndings)
					if (has_ending(file, ending) && unlinkat(at, file, 0) != 0 && errno != ENOENT)
						return errno;
				return 0;
			},
			nullptr);
		if (error == 0 && unlinkat(parent, application, AT_REMOVEDIR) != 0 && errno != ENOENT)
			error = errno;
	}
	else if (error == ENOENT)
		error = 0;
	close(parent);
	return error;
}

} // namespace siphon
