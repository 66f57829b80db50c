/*
 * The registry's files: see registry.h. Each process remembers what it read last of a file, and reads what was appended
 * since; to parse all of a list of ten thousand tables takes longer than most of what is done with it.
 */
#include "registry.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <sys/stat.h>
#include <unistd.h>

static constexpr char kDirectory[] = "siphon";
static constexpr char kSuffix[] = ".registry";
static constexpr int kFormat = 2;        /* a document alone */
static constexpr int kLogFormat = 3;     /* a document, and changes of it behind it */
static constexpr int kLogFrom = 65536;   /* documents of this size, and larger ones, have changes behind them */
static constexpr int kHeaderSize = 80;   /* at most */
static constexpr int kRecordPrefix = 17; /* the checksum's digits, and a space */

/* A file as it was read last. In a context of its own, which goes when the file is another one. */
struct Seen
{
	char application[kApplicationLength];
	MemoryContext context; /* NULL: nothing is known */
	Registry *registry;
	dev_t device;
	ino_t inode;
	char header[kHeaderSize]; /* it has the checksum, for the next file may get an inode that was freed */
	bool log;
	off_t document; /* where the document ends, */
	off_t end;      /* and the last change that was read */
	bool torn;      /* behind which something is that was not written to its end */
	int replaced;   /* tables that take memory, but are others now */
	HTAB *places;   /* see registry_apply(); NULL: not made yet */
};

static List *files; /* of Seen *, in TopMemoryContext */
static uint64 instances;

static void
registry_path(char *out, const char *application, const char *suffix)
{
	snprintf(out, MAXPGPATH, "%s/%s%s", kDirectory, application, suffix);
}

static Seen *
find_seen(const char *application)
{
	Seen *seen;
	ListCell *lc;
	MemoryContext caller;

	foreach (lc, files)
	{
		seen = static_cast<Seen *>(lfirst(lc));
		if (strcmp(seen->application, application) == 0)
			return seen;
	}
	caller = MemoryContextSwitchTo(TopMemoryContext);
	seen = static_cast<Seen *>(palloc0(sizeof(Seen)));
	strlcpy(seen->application, application, sizeof(seen->application));
	files = lappend(files, seen);
	MemoryContextSwitchTo(caller);
	return seen;
}

static void
forget_file(Seen *seen)
{
	if (seen->context)
		MemoryContextDelete(seen->context);
	seen->context = nullptr;
	seen->registry = nullptr;
	seen->places = nullptr;
}

/* Sessions read it now and then, and there may be hundreds of them. */
static void
forget_in_session(const char *application)
{
	if (MyBackendType == B_BACKEND)
		forget_file(find_seen(application));
}

/* ---- reading ---- */

/* The file's bytes from `offset` on, NUL-terminated. */
static char *
read_from(int fd, const char *path, off_t offset, off_t end)
{
	size_t size = static_cast<size_t>(end - offset);
	size_t done = 0;
	char *bytes;

	/* The launcher swallows errors and has no transaction that would close the file: it is closed before each. */
	if (size >= MaxAllocSize)
	{
		CloseTransientFile(fd);
		registry_raise_damaged(path, "It is larger than a registry can be.");
	}
	bytes = static_cast<char *>(palloc(size + 1));
	while (done < size)
	{
		ssize_t count = pg_pread(fd, bytes + done, size - done, offset + static_cast<off_t>(done));

		if (count < 0)
		{
			int error = errno;

			CloseTransientFile(fd);
			errno = error;
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
		}
		if (count == 0)
			break;
		done += static_cast<size_t>(count);
	}
	bytes[done] = '\0';
	return bytes;
}

static uint64
checksum_of(const char *text, size_t length)
{
	return XXH3_64bits(text, length);
}

/* Where a line's JSON begins, if its checksum is right; or NULL. */
static char *
record_of(char *line, size_t length)
{
	char digits[kRecordPrefix];
	char *end;
	uint64 checksum;

	if (length <= kRecordPrefix || line[kRecordPrefix - 1] != ' ')
		return nullptr;
	memcpy(digits, line, sizeof(digits));
	digits[kRecordPrefix - 1] = '\0';
	checksum = strtoull(digits, &end, 16);
	if (*end || checksum != checksum_of(line + kRecordPrefix, length - kRecordPrefix))
		return nullptr;
	return line + kRecordPrefix;
}

/* Takes the lines of `log`, which begins at seen->end and goes to the file's end, as far as they are whole. */
static void
apply_log(Seen *seen, Registry *registry, const char *path, char *log, off_t file_end)
{
	while (*log)
	{
		char *end = strchr(log, '\n');
		char *json = end ? record_of(log, static_cast<size_t>(end - log)) : nullptr;
		RegistryChange change;

		if (json == nullptr)
		{
			/* What was cut off is the last; what is whole behind it does not go without it. */
			if (end && end[1])
				registry_raise_damaged(path, "The checksum of a change in it does not match.");
			break;
		}
		*end = '\0';
		seen->end += end + 1 - log;
		change = registry_change_from_json(path, registry, json);
		seen->replaced += registry_apply(registry, &change, &seen->places) + 1;
		log = end + 1;
	}
	/* Blocks that a crash kept from the disk are zeros. */
	seen->torn = seen->end < file_end;
}

/* `bytes`: of the whole file, which is so long. */
static void
parse_file(Seen *seen, const char *path, char *bytes, off_t file_end)
{
	char *document = strchr(bytes, '\n');
	size_t length;
	int format;
	unsigned long long checksum;
	Registry *registry;
	char *log;
	char behind;

	if (document == nullptr || sscanf(bytes, "siphon-registry %d %llx", &format, &checksum) != 2)
		registry_raise_damaged(path, "Its first line is not that of a registry.");
	if (format != kFormat && format != kLogFormat)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("registry file \"%s\" has format version %d", path, format),
						errdetail("This version of siphon reads format version %d.", kLogFormat),
						errhint("Install the version of siphon that wrote it.")));
	document++;
	length = strlen(document);
	seen->log = format == kLogFormat;
	if (seen->log)
	{
		size_t there = length;

		if (sscanf(bytes, "siphon-registry %*d %*x %zu", &length) != 1 || length > there)
			registry_raise_damaged(path, "It is shorter than its first line says.");
	}
	if (checksum_of(document, length) != checksum)
		registry_raise_damaged(path, "Its checksum does not match its content.");
	log = document + length;
	behind = *log;
	*log = '\0';
	seen->document = seen->end = log - bytes;
	registry = registry_from_json(path, seen->application, document);
	*log = behind;
	apply_log(seen, registry, path, log, file_end);
	registry->instance = ++instances;
	seen->registry = registry;
}

/* Has `seen` be the file as it is. The file is open, and is closed. */
static void
check_file(Seen *seen, int fd, const char *path)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext reading = AllocSetContextCreate(caller, "siphon registry file", ALLOCSET_DEFAULT_SIZES);
	Registry *registry = seen->registry;
	char header[kHeaderSize] = "";
	struct stat st;
	char *bytes;

	if (fstat(fd, &st) != 0 || pg_pread(fd, header, sizeof(header) - 1, 0) < 0)
	{
		int error = errno;

		CloseTransientFile(fd);
		errno = error;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
	}
	if (registry == nullptr || st.st_dev != seen->device || st.st_ino != seen->inode || st.st_size < seen->end ||
		memcmp(header, seen->header, sizeof(header)) != 0 || (st.st_size > seen->end && !seen->log))
		registry = nullptr;
	if (registry && st.st_size == seen->end)
	{
		CloseTransientFile(fd);
		seen->torn = false;
		MemoryContextDelete(reading);
		return;
	}
	MemoryContextSwitchTo(reading);
	bytes = read_from(fd, path, registry ? seen->end : 0, st.st_size);
	CloseTransientFile(fd);
	/* An error leaves nothing that is half of it. */
	seen->registry = nullptr;
	if (registry == nullptr)
	{
		forget_file(seen);
		seen->context = AllocSetContextCreate(TopMemoryContext, "siphon registry", ALLOCSET_DEFAULT_SIZES);
		seen->device = st.st_dev;
		seen->inode = st.st_ino;
		seen->replaced = 0;
		memcpy(seen->header, header, sizeof(header));
		MemoryContextSwitchTo(seen->context);
		parse_file(seen, path, bytes, st.st_size);
	}
	else
	{
		MemoryContextSwitchTo(seen->context);
		apply_log(seen, registry, path, bytes, st.st_size);
		seen->registry = registry;
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(reading);
}

/* Tables that became others leave their memory behind: once that is as much as the tables have. */
static void
copy_if_wasteful(Seen *seen)
{
	MemoryContext context;
	MemoryContext caller;

	if (seen->replaced <= list_length(seen->registry->tables) + 100)
		return;
	context = AllocSetContextCreate(TopMemoryContext, "siphon registry", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(context);
	seen->registry = registry_copy(seen->registry, InvalidOid);
	seen->registry->instance = ++instances;
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(seen->context);
	seen->context = context;
	seen->places = nullptr;
	seen->replaced = 0;
}

/* NULL: there is no file. */
static Seen *
get_current(const char *application)
{
	Seen *seen = find_seen(application);
	char path[MAXPGPATH];
	int fd;

	registry_path(path, application, kSuffix);
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0)
	{
		if (errno != ENOENT)
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
		forget_file(seen);
		return nullptr;
	}
	check_file(seen, fd, path);
	copy_if_wasteful(seen);
	return seen;
}

const Registry *
registry_get(const char *application)
{
	const Seen *seen = get_current(application);

	return seen ? seen->registry : nullptr;
}

Registry *
registry_read(const char *application)
{
	const Registry *registry = registry_get(application);
	Registry *copy = registry ? registry_copy(registry, InvalidOid) : nullptr;

	forget_in_session(application);
	return copy;
}

/* ---- writing ---- */

[[noreturn]] static void
raise_write_failed(const char *path)
{
	ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", path)));
}

/* Writes at a place of the file, and syncs it. False, with errno, if that can't be done. The file is closed. */
static bool
write_synced(int fd, const char *bytes, size_t length, off_t offset)
{
	int error = 0;

	errno = 0;
	if (pg_pwrite(fd, bytes, length, offset) != static_cast<ssize_t>(length))
		error = errno ? errno : ENOSPC;
	else if (pg_fsync(fd) != 0)
		error = errno;
	/* What is not there for certain counts as torn, also for who has read it meanwhile. */
	if (error && ftruncate(fd, offset + static_cast<off_t>(length) - 1) != 0)
		ereport(DEBUG1, (errmsg_internal("could not truncate the registry: %m")));
	if (CloseTransientFile(fd) != 0 && error == 0)
		error = errno;
	errno = error;
	return error == 0;
}

static void
replace_file(const Registry *registry)
{
	StringInfoData file;
	char *json = registry_to_json(registry);
	size_t length = strlen(json);
	char path[MAXPGPATH];
	char temporary[MAXPGPATH];
	int fd;

	initStringInfo(&file);
	appendStringInfo(&file, "siphon-registry %d %016llx", length < kLogFrom ? kFormat : kLogFormat,
					 static_cast<unsigned long long>(checksum_of(json, length)));
	if (length >= kLogFrom)
		appendStringInfo(&file, " %zu", length);
	appendStringInfoChar(&file, '\n');
	appendBinaryStringInfo(&file, json, static_cast<int>(length));

	if (MakePGDirectory(kDirectory) != 0)
	{
		if (errno != EEXIST)
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not create directory \"%s\": %m", kDirectory)));
	}
	else
		fsync_fname(".", true);

	registry_path(temporary, registry->application, ".tmp");
	registry_path(path, registry->application, kSuffix);
	fd = OpenTransientFile(temporary, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY);
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not create file \"%s\": %m", temporary)));
	if (!write_synced(fd, file.data, static_cast<size_t>(file.len), 0))
		raise_write_failed(temporary);
	durable_rename(temporary, path, ERROR);
	pfree(json);
	pfree(file.data);
}

static void
append_line(const Seen *seen, const char *line, size_t length)
{
	char path[MAXPGPATH];
	int fd;

	registry_path(path, seen->application, kSuffix);
	fd = OpenTransientFile(path, O_WRONLY | PG_BINARY);
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	if (!write_synced(fd, line, length, seen->end))
		raise_write_failed(path);
}

/* What the registry is with all its tables, where the change is of a part. */
static const Registry *
with_all_tables(const Seen *seen, const RegistryChange *change)
{
	HTAB *places = nullptr;
	Registry *all;
	List *tables;

	if (!change->now->partial)
		return change->now;
	all = registry_copy(seen->registry, InvalidOid);
	registry_apply(all, change, &places);
	tables = all->tables;
	*all = *change->now;
	all->tables = tables;
	all->partial = false;
	return all;
}

void
registry_write(Registry *registry)
{
	const Seen *seen = get_current(registry->application);
	RegistryChange change = {};
	StringInfoData line;

	registry->version++;
	registry->timeline = siphon_current_timeline();
	change.now = registry;
	if (seen)
		change = registry_compare(seen->registry, registry);
	else if (registry->partial)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE),
						errmsg("the registry file of application \"%s\" was removed", registry->application)));
	if (seen && seen->log && !seen->torn)
	{
		char *json = registry_change_to_json(&change);

		initStringInfo(&line);
		appendStringInfo(&line, "%016llx %s\n", static_cast<unsigned long long>(checksum_of(json, strlen(json))), json);
		if (seen->end + line.len <= 2 * seen->document)
			append_line(seen, line.data, static_cast<size_t>(line.len));
		else
			replace_file(with_all_tables(seen, &change));
		pfree(json);
		pfree(line.data);
	}
	else
		replace_file(seen ? with_all_tables(seen, &change) : registry);
	forget_in_session(registry->application);
	pg_atomic_fetch_add_u64(registry_get_write_counter(registry->application), 1);
}

void
registry_remove(const char *application)
{
	char path[MAXPGPATH];

	registry_path(path, application, kSuffix);
	if (unlink(path) != 0)
	{
		if (errno != ENOENT)
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", path)));
		return;
	}
	fsync_fname(kDirectory, true);
	pg_atomic_fetch_add_u64(registry_get_write_counter(application), 1);
}

List *
registry_list_applications(void)
{
	List *names = NIL;
	DIR *dir = AllocateDir(kDirectory);
	struct dirent *entry;

	if (dir == nullptr && errno == ENOENT)
		return NIL;
	while ((entry = ReadDir(dir, kDirectory)) != nullptr)
	{
		size_t length = strlen(entry->d_name);
		char *name;

		if (length <= strlen(kSuffix) || strcmp(entry->d_name + length - strlen(kSuffix), kSuffix) != 0)
			continue;
		name = pnstrdup(entry->d_name, length - strlen(kSuffix));
		if (is_valid_application_name(name))
			names = lappend(names, name);
	}
	FreeDir(dir);
	return names;
}
