/*
 * Small files that must be on disk before something else counts: see synced_file.h.
 */
#include "synced_file.h"

#include <unistd.h>

void
synced_file_path(char *out, const char *application, const char *ending)
{
	snprintf(out, MAXPGPATH, "siphon/%s.%s", application, ending);
}

void
synced_file_fail(int fd, const char *what, const char *path)
{
	int error = errno;

	if (fd >= 0)
		CloseTransientFile(fd);
	errno = error;
	ereport(ERROR, (errcode_for_file_access(), errmsg("could not %s file \"%s\": %m", what, path)));
}

void
synced_file_close(int fd, const char *path)
{
	if (CloseTransientFile(fd) != 0)
		synced_file_fail(-1, "close", path);
}

void
synced_file_write(int fd, const void *bytes, size_t length, off_t offset, const char *path)
{
	errno = 0;
	if (pwrite(fd, bytes, length, offset) != static_cast<ssize_t>(length))
	{
		if (errno == 0)
			errno = ENOSPC;
		synced_file_fail(fd, "write", path);
	}
	pgstat_report_wait_start(WAIT_EVENT_REPLICATION_SLOT_SYNC);
	if (pg_fdatasync(fd) != 0)
		synced_file_fail(fd, "fdatasync", path);
	pgstat_report_wait_end();
}

void
synced_file_create(const char *path, const void *bytes, size_t length)
{
	char temporary[MAXPGPATH];
	int fd;

	/* No application's name has this character. */
	snprintf(temporary, sizeof(temporary), "%s-tmp", path);
	fd = OpenTransientFile(temporary, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY);
	if (fd < 0)
		synced_file_fail(fd, "create", temporary);
	synced_file_write(fd, bytes, length, 0, temporary);
	synced_file_close(fd, temporary);
	durable_rename(temporary, path, ERROR);
}

void
synced_file_remove(const char *path)
{
	if (unlink(path) == 0)
		fsync_fname("siphon", true);
	else if (errno != ENOENT)
		synced_file_fail(-1, "remove", path);
}
