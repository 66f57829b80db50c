/*
 * How far a slot was confirmed, on disk: see slot_place.h.
 */
#include "slot_place.h"

#include "server/siphon.h"
#include "server/synced_file.h"

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

XLogRecPtr
slot_place_load(const char *application, uint64 history)
{
	char path[MAXPGPATH];
	Place place = {};
	int fd;
	bool good;

	synced_file_path(path, application, "confirmed");
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0 && errno == ENOENT)
		return InvalidXLogRecPtr;
	if (fd < 0)
		synced_file_fail(fd, "open", path);
	if (read(fd, &place, sizeof(place)) < 0)
		synced_file_fail(fd, "read", path);
	synced_file_close(fd, path);
	good = place.magic == kMagic && place.checksum == XXH3_64bits(&place, offsetof(Place, checksum));
	return good && place.history == history && place.timeline == siphon_current_timeline() ? place.confirmed
																						   : InvalidXLogRecPtr;
}

void
slot_place_save(const char *application, uint64 history, XLogRecPtr confirmed)
{
	char path[MAXPGPATH];
	Place place = {kMagic, history, confirmed, siphon_current_timeline(), 0, 0};
	int fd;

	place.checksum = XXH3_64bits(&place, offsetof(Place, checksum));
	synced_file_path(path, application, "confirmed");
	fd = OpenTransientFile(path, O_WRONLY | PG_BINARY);
	if (fd < 0 && errno != ENOENT)
		synced_file_fail(fd, "open", path);
	if (fd < 0)
	{
		synced_file_create(path, &place, sizeof(place));
		return;
	}
	synced_file_write(fd, &place, sizeof(place), 0, path);
	synced_file_close(fd, path);
}

void
slot_place_remove(const char *application)
{
	char path[MAXPGPATH];

	synced_file_path(path, application, "confirmed");
	synced_file_remove(path);
}
