/*
 * How far a slot was confirmed, on disk: see slot_place.h.
 */
#include "slot_place.h"

#include "siphon.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <unistd.h>

/* So small that a disk writes it as a whole. */
struct Place
{
	uint64 magic;
	uint64 history;
	XLogRecPtr confirmed;
	TimeLineID timeline;
	uint32 reserved;
	uint64 checksum; /* XXH3-64 of all before */
};
static_assert(sizeof(Place) == 40);

static constexpr uint64 kMagic = 0x6564726d72666e63;

static void
place_path(char *out, const char *application, const char *suffix)
{
	snprintf(out, MAXPGPATH, "siphon/%s.confirmed%s", application, suffix);
}

[[noreturn]] static void
fail(int fd, const char *what, const char *path)
{
	int error = errno;

	if (fd >= 0)
		CloseTransientFile(fd);
	errno = error;
	ereport(ERROR, (errcode_for_file_access(), errmsg("could not %s file \"%s\": %m", what, path)));
}

XLogRecPtr
slot_place_load(const char *application, uint64 history)
{
	char path[MAXPGPATH];
	Place place = {};
	int fd;
	bool good;

	place_path(path, application, "");
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0 && errno == ENOENT)
		return InvalidXLogRecPtr;
	if (fd < 0)
		fail(fd, "open", path);
	if (read(fd, &place, sizeof(place)) < 0)
		fail(fd, "read", path);
	CloseTransientFile(fd);
	good = place.magic == kMagic && place.checksum == XXH3_64bits(&place, offsetof(Place, checksum));
	return good && place.history == history && place.timeline == siphon_current_timeline() ? place.confirmed
																						   : InvalidXLogRecPtr;
}

static void
write_place(int fd, const Place *place, const char *path)
{
	errno = 0;
	if (pwrite(fd, place, sizeof(*place), 0) != static_cast<ssize_t>(sizeof(*place)))
	{
		if (errno == 0)
			errno = ENOSPC;
		fail(fd, "write", path);
	}
	pgstat_report_wait_start(WAIT_EVENT_REPLICATION_SLOT_SYNC);
	if (pg_fdatasync(fd) != 0)
		fail(fd, "fdatasync", path);
	pgstat_report_wait_end();
	if (CloseTransientFile(fd) != 0)
		fail(-1, "close", path);
}

void
slot_place_save(const char *application, uint64 history, XLogRecPtr confirmed)
{
	char path[MAXPGPATH];
	char temporary[MAXPGPATH];
	Place place = {kMagic, history, confirmed, siphon_current_timeline(), 0, 0};
	int fd;

	place.checksum = XXH3_64bits(&place, offsetof(Place, checksum));
	place_path(path, application, "");
	fd = OpenTransientFile(path, O_WRONLY | PG_BINARY);
	if (fd >= 0)
	{
		write_place(fd, &place, path);
		return;
	}
	if (errno != ENOENT)
		fail(fd, "open", path);
	/* No application's name has this character. */
	place_path(temporary, application, "-tmp");
	fd = OpenTransientFile(temporary, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY);
	if (fd < 0)
		fail(fd, "create", temporary);
	write_place(fd, &place, temporary);
	durable_rename(temporary, path, ERROR);
}

void
slot_place_remove(const char *application)
{
	char path[MAXPGPATH];

	place_path(path, application, "");
	if (unlink(path) == 0)
		fsync_fname("siphon", true);
	else if (errno != ENOENT)
		fail(-1, "remove", path);
}
