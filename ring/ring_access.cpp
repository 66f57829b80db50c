/*
 * Whose directories and files are accepted: see ring_access.h.
 *
 * /dev/shm belongs to everybody, so every step goes through a descriptor of the directory that was
 * checked (it is ours, nobody else may write to it), follows no symbolic link, and checks what it opened.
 * Members of the group may do as they like in there, and so whatever they make is taken for what it claims to be only
 * as far as that is harmless: locks, doorbells that are drained a little at a time, and a mapping that is not trusted
 * anyway.
 */
#include "ring_access.h"

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <grp.h>
#include <unistd.h>

namespace siphon {

bool
is_valid_ring_application(const char *application)
{
	return application[0] != '\0' && strcmp(application, ".") != 0 && strcmp(application, "..") != 0 &&
		   strchr(application, '/') == nullptr;
}

static constexpr gid_t kNoGroup = static_cast<gid_t>(-1);
static gid_t shared_group = kNoGroup;

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
	shared_group = group;
}

ExactMode::ExactMode() : before_(shared_group == kNoGroup ? 0 : umask(0))
{
}

ExactMode::~ExactMode()
{
	if (shared_group != kNoGroup)
		umask(before_);
}

mode_t
ExactMode::mode() const
{
	return shared_group == kNoGroup ? 0600 : 0660;
}

int
ring_access_share(int fd, const struct stat &status, mode_t mode)
{
	if (shared_group == kNoGroup || status.st_uid != geteuid())
		return 0;
	if (status.st_gid != shared_group && fchown(fd, static_cast<uid_t>(-1), shared_group) != 0)
		return errno;
	/* systemd's RestrictSUIDSGID refuses the set-group-ID bit; then files are of the group a moment later. */
	if ((status.st_mode & 07777) != mode && fchmod(fd, mode) != 0 && (errno != EPERM || fchmod(fd, mode & 0777) != 0))
		return errno;
	return 0;
}

/* It is ours, or the group's. */
static bool
is_ours(const struct stat &status)
{
	return status.st_uid == geteuid() ||
		   (shared_group != kNoGroup && status.st_gid == shared_group && (status.st_mode & S_IRWXO) == 0);
}

static int
try_open_level(int parent, const char *name, bool create, int *fd)
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
		error = ring_access_share(*fd, status, S_ISGID | 0770);
	if (error == 0 && (!is_ours(status) || (shared_group == kNoGroup && (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)))
		error = EPERM;
	if (error != 0)
		close(*fd);
	return error;
}

int
ring_level_open(int parent, const char *name, bool create, int *fd)
{
	int error = try_open_level(parent, name, create, fd);

	for (int attempt = 1; shared_group != kNoGroup && (error == EPERM || error == EACCES) && attempt < kLevelAttempts;
		 attempt++)
	{
		usleep(kLevelPauseUs);
		error = try_open_level(parent, name, create, fd);
	}
	return error;
}

int
ring_directory_open(const char *directory, const char *application, bool create, int *fd)
{
	int parent;

	if (!is_valid_ring_application(application))
		return EINVAL;

	int error = ring_level_open(AT_FDCWD, directory, create, &parent);

	if (error != 0)
		return error;
	error = ring_level_open(parent, application, create, fd);
	close(parent);
	return error;
}

int
ring_access_check(int fd, mode_t type, struct stat *status)
{
	int error = 0;

	if (fstat(fd, status) != 0)
		error = errno;
	else if ((status->st_mode & S_IFMT) != type)
		error = EINVAL;
	/* A member may have put a link here, to a file of ours that is not the group's business. */
	else if (!is_ours(*status) || (shared_group != kNoGroup && status->st_nlink > 1))
		error = EPERM;
	else
		error = ring_access_share(fd, *status, 0660);
	if (error != 0)
		close(fd);
	return error;
}

} // namespace siphon
