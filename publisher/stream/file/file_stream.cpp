/* See file_stream.h. */
#include "publisher/stream/file/file_stream.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program/exit_codes.h"
#include "publisher/stream/resync_advice.h"

namespace siphon {

/* Fatal if others may write to a directory, or it is not the user's. root: it may be root's, who has made it for us. */
static void
check_directory(const struct stat &status, const std::string &path, uid_t user, bool root)
{
	if (status.st_uid != user && !(root && status.st_uid == 0))
		throw Fatal(ExitCode::Usage, "directory " + path + " belongs to another user (" +
										 std::to_string(status.st_uid) +
										 "): run the publisher as that user, or give another directory; or, if what is "
										 "there is this user's: chown -R " +
										 std::to_string(user) + " " + path);
	if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		throw Fatal(ExitCode::Usage, "others may write to directory " + path + ": chmod go-w " + path);
}

/* Opens a directory, and makes it if it is not there. False: not yet. */
static bool
open_directory(int parent, const std::string &name, const std::string &path, uid_t user, bool root, Descriptor *found,
			   std::string *why)
{
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (parent == AT_FDCWD ? 0 : O_NOFOLLOW);
	struct stat status;

	*found = Descriptor(openat(parent, name.c_str(), flags));
	if (!*found && errno == ENOENT && mkdirat(parent, name.c_str(), 0700) == 0)
	{
		*found = Descriptor(openat(parent, name.c_str(), flags));
		if (*found)
			fsync(Descriptor(openat(found->get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC)).get());
	}

	int error = *found ? 0 : errno;

	if (error == ENOTDIR || error == ELOOP || error == ENAMETOOLONG)
		throw Fatal(ExitCode::Usage, "directory " + path + ": " + strerror(error));
	/* One that can't be opened may be another's. */
	if (*found ? fstat(found->get(), &status) == 0 : fstatat(parent, name.c_str(), &status, 0) == 0)
		check_directory(status, path, user, root);
	if (error != 0)
		*why = "directory " + path + " (" + strerror(error) + ")";
	return error == 0;
}

FileStream::FileStream(const std::string &directory, const FileOptions &options, const std::string &application,
					   const std::string &subject_root, Wakeup *wakeup)
	: directory_(directory), path_(directory + "/" + application), application_(application), user_(options.user),
	  log_(
		  path_ + "/log", subject_root + ".fence", resync_advice(application), options,
		  [this](std::string *why) { return open_part("log", &log_directory_, why); }, wakeup),
	  spill_(
		  path_ + "/held", subject_root + ".held.fence", resync_advice(application), options,
		  [this](std::string *why) { return open_part("held", &spill_directory_, why); }, wakeup),
	  states_(path_ + "/states", options.sync,
			  [this](std::string *why) { return open_part("states", &states_directory_, why); })
{
	std::string why;

	open(&why);
}

/* Takes the lock. False: not yet. */
bool
FileStream::open(std::string *why)
{
	Descriptor parent;
	Descriptor top;

	if (lock_)
		return true;
	if (!open_directory(AT_FDCWD, directory_, directory_, user_, true, &parent, why) ||
		!open_directory(parent.get(), application_, path_, user_, false, &top, why))
		return false;

	Descriptor lock(openat(top.get(), "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));

	if (lock && flock(lock.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		throw Fatal(ExitCode::Locked,
					"another publisher writes to directory " + path_ + ": it holds " + path_ + "/lock");
	if (!lock || flock(lock.get(), LOCK_EX | LOCK_NB) != 0)
	{
		*why = "file " + path_ + "/lock (" + strerror(errno) + ")";
		return false;
	}
	top_ = std::move(top);
	lock_ = std::move(lock);
	return true;
}

/* Opens one of the directories in there. Returns its descriptor; -1: not yet. */
int
FileStream::open_part(const char *name, Descriptor *part, std::string *why)
{
	if (*part)
		return part->get();
	if (!open(why) || !open_directory(top_.get(), name, path_ + "/" + name, user_, false, part, why))
		return -1;
	return part->get();
}

} // namespace siphon
