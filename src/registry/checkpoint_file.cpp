/*
 * The checkpoint on disk: see checkpoint_file.h.
 */
#include "checkpoint_file.h"

#include "registry.h"
#include "server/synced_file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cinttypes>
#include <unistd.h>

/* A disk may write 4096 bytes as one: each of the two has that for itself, and the other is not touched. */
static constexpr size_t kRoom = 4096;
static constexpr uint64 kMagic = 0x746e696f706b6863; /* "chkpoint" */
static constexpr uint32 kFormat = 1;

struct Entry
{
	uint64 magic;
	uint32 format;
	uint32 reserved;
	SavedCheckpoint saved;
	uint64 checksum; /* XXH3-64 of all before */
};
static_assert(sizeof(Entry) == 96);

/* The file as it is written when there is none. */
union Content {
	Entry entry;
	char bytes[2 * kRoom];
};

static uint64
checksum_of(const Entry *entry)
{
	return XXH3_64bits(entry, offsetof(Entry, checksum));
}

[[noreturn]] static void
raise_damaged(int fd, const char *path, const char *application)
{
	synced_file_close(fd, path);
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED), errmsg("checkpoint file \"%s\" is damaged", path),
			 errdetail("It says what the stream must hold."),
			 errhint("Run SELECT siphon_resync_application('%s') to resync all tables. If the stream has surely lost nothing, "
					 "remove the file instead.",
					 application)));
}

[[noreturn]] static void
raise_unknown_format(int fd, const char *path, uint32 format)
{
	synced_file_close(fd, path);
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("checkpoint file \"%s\" has format version %u", path, format),
					errdetail("This version of siphon reads format version %u.", kFormat),
					errhint("Install the version of siphon that wrote it.")));
}

/* Was `a` written last? As with registries, on a server and its former primary. */
static bool
is_newer(const SavedCheckpoint *a, const SavedCheckpoint *b)
{
	return a->timeline != b->timeline ? a->timeline > b->timeline : a->number > b->number;
}

/*
 * Opens the file and finds the newer of its two entries that are of this history. -1 if there is no file, else its
 * descriptor. *offset: of what was found, or -1. The two are not both good only after a crash.
 */
static int
open_file(const char *path, const char *application, uint64 history, Entry *newest, off_t *offset)
{
	int fd = OpenTransientFile(path, O_RDWR | PG_BINARY);
	bool good = false;

	*offset = -1;
	if (fd < 0 && errno == ENOENT)
		return -1;
	if (fd < 0)
		synced_file_fail(fd, "open", path);
	for (off_t i = 0; i < 2; i++)
	{
		Entry entry = {};

		if (pread(fd, &entry, sizeof(entry), i * static_cast<off_t>(kRoom)) < 0)
			synced_file_fail(fd, "read", path);
		if (entry.magic != kMagic)
			continue;
		if (entry.format != kFormat)
			raise_unknown_format(fd, path, entry.format);
		if (entry.checksum != checksum_of(&entry))
			continue;
		good = true;
		if (entry.saved.history != history || (*offset >= 0 && !is_newer(&entry.saved, &newest->saved)))
			continue;
		*newest = entry;
		*offset = i * static_cast<off_t>(kRoom);
	}
	if (!good)
		raise_damaged(fd, path, application);
	return fd;
}

bool
checkpoint_load(const char *application, uint64 history, SavedCheckpoint *saved)
{
	char path[MAXPGPATH];
	Entry newest = {};
	off_t offset;
	int fd;

	synced_file_path(path, application, "checkpoint");
	fd = open_file(path, application, history, &newest, &offset);
	/* A former process may have failed to sync it, and ended. Being the same as before, it can't be torn. */
	if (offset >= 0)
		synced_file_write(fd, &newest, sizeof(newest), offset, path);
	if (fd >= 0)
		synced_file_close(fd, path);
	*saved = newest.saved;
	return offset >= 0;
}

/* In place of the older entry, or of one of another history. */
static void
write_saved(const char *application, const SavedCheckpoint *saved)
{
	char path[MAXPGPATH];
	Entry newest;
	Entry entry = {};
	off_t offset;
	int fd;

	entry.magic = kMagic;
	entry.format = kFormat;
	entry.saved = *saved;
	entry.checksum = checksum_of(&entry);
	synced_file_path(path, application, "checkpoint");
	fd = open_file(path, application, saved->history, &newest, &offset);
	if (fd < 0)
	{
		Content content = {};

		content.entry = entry;
		synced_file_create(path, &content, sizeof(content));
		return;
	}
	synced_file_write(fd, &entry, sizeof(entry), offset == 0 ? static_cast<off_t>(kRoom) : 0, path);
	synced_file_close(fd, path);
}

void
checkpoint_save(const char *application, SavedCheckpoint *saved)
{
	saved->timeline = siphon_current_timeline();
	saved->number++;
	write_saved(application, saved);
}

void
checkpoint_adopt(const char *application, uint64 history, const SavedCheckpoint *other)
{
	SavedCheckpoint mine;

	if (other->history != history)
		return;
	if (!checkpoint_load(application, history, &mine) || is_newer(other, &mine))
		write_saved(application, other);
}

char *
checkpoint_to_text(const SavedCheckpoint *saved)
{
	const siphon::Checkpoint &at = saved->checkpoint;

	return psprintf("%" PRIX64 " %u %" PRIX64 " %" PRIX64 "/%" PRIX64 "/%" PRIX64 " %" PRIX64 "/%" PRIX64 "/%" PRIX64,
					saved->history, saved->timeline, saved->number, at.log.log, at.log.place, at.log.message,
					at.spill.log, at.spill.place, at.spill.message);
}

bool
checkpoint_from_text(const char *text, SavedCheckpoint *saved)
{
	siphon::Checkpoint &at = saved->checkpoint;
	int length = 0;

	*saved = {};
	if (sscanf(text,
			   "%" SCNx64 " %u %" SCNx64 " %" SCNx64 "/%" SCNx64 "/%" SCNx64 " %" SCNx64 "/%" SCNx64 "/%" SCNx64 "%n",
			   &saved->history, &saved->timeline, &saved->number, &at.log.log, &at.log.place, &at.log.message,
			   &at.spill.log, &at.spill.place, &at.spill.message, &length) == 9 &&
		text[length] == '\0')
		return true;
	*saved = {};
	return false;
}

void
checkpoint_remove(const char *application)
{
	char path[MAXPGPATH];

	synced_file_path(path, application, "checkpoint");
	synced_file_remove(path);
}
