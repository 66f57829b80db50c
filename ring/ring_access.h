/*
 * The directories and files of rings, opened only where they are ours, or the group's with which they are shared. For
 * ring_file.cpp; like that it includes nothing of PostgreSQL, throws nothing, and errors are errno values.
 */
#ifndef SIPHON_RING_ACCESS_H
#define SIPHON_RING_ACCESS_H

#include <sys/stat.h>
#include <sys/types.h>

namespace siphon {

/* The group of this name or number. 0 or errno: ENOENT if there is none, EPERM if this process does not belong to it.
 */
int ring_group_find(const char *name, gid_t *group);
/* From now on in this process and its children: what is made is of this group, and what belongs to it is accepted. */
void ring_group_use(gid_t group);

/* Files are made with exactly the mode that they have to have, as the other side may open them at once. */
class ExactMode
{
public:
	ExactMode();
	~ExactMode();
	mode_t mode() const;

private:
	mode_t before_;
};

/* False if it can't be the name of a directory. */
bool is_valid_ring_application(const char *application);
/* Opens one level; EPERM unless it is a directory of ours that nobody else may write to, or the group's. */
int ring_level_open(int parent, const char *name, bool create, int *fd);
/* Opens the application's directory. */
int ring_directory_open(const char *directory, const char *application, bool create, int *fd);
/* What we own becomes the group's. 0 or errno. */
int ring_access_share(int fd, const struct stat &status, mode_t mode);
/* Checks that an opened file is ours, or the group's, and of the type that it should be; closes it if not. */
int ring_access_check(int fd, mode_t type, struct stat *status);

} // namespace siphon

#endif
