/*
 * The registry's files, and what is done to a registry: see registry.h.
 */
#include "registry.h"

#include "oid_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <ctime>
#include <sys/stat.h>
#include <unistd.h>

static constexpr char kDirectory[] = "siphon";
static constexpr char kSuffix[] = ".registry";
static constexpr char kMagic[] = "siphon-registry";
static constexpr int kFormat = 2;

bool
registry_name_valid(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length >= kApplicationLength || name[0] == '.' || name[length - 1] == '.')
		return false;
	for (size_t i = 0; i < length; i++)
	{
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || (c == '.' && name[i - 1] != '.')))
			return false;
	}
	return true;
}

const char *
registry_database_name(const Registry *registry)
{
	const char *name = get_database_name(registry->database);

	return name ? name : registry->database_name;
}

static void
registry_path(char *out, const char *application, const char *suffix)
{
	snprintf(out, MAXPGPATH, "%s/%s%s", kDirectory, application, suffix);
}

pg_atomic_uint64 *
registry_writes(const char *application)
{
	return &siphon_shared->registry_writes[XXH3_64bits(application, strlen(application)) % kWriteCounters];
}

void
registry_write(Registry *registry)
{
	StringInfoData file;
	char *json;
	size_t length;
	char path[MAXPGPATH];
	char temporary[MAXPGPATH];
	int fd;
	int error = 0;

	registry->version++;
	registry->timeline = siphon_current_timeline();
	json = registry_to_json(registry);
	length = strlen(json);
	initStringInfo(&file);
	appendStringInfo(&file, "%s %d %016llx\n", kMagic, kFormat,
					 static_cast<unsigned long long>(XXH3_64bits(json, length)));
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
	/* As in slurp(), it is closed before an error. */
	errno = 0;
	if (write(fd, file.data, file.len) != file.len)
		error = errno ? errno : ENOSPC;
	else if (pg_fsync(fd) != 0)
		error = errno;
	if (CloseTransientFile(fd) != 0 && error == 0)
		error = errno;
	if (error)
	{
		errno = error;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", temporary)));
	}
	durable_rename(temporary, path, ERROR);
	pg_atomic_fetch_add_u64(registry_writes(registry->application), 1);
	pfree(json);
	pfree(file.data);
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
	pg_atomic_fetch_add_u64(registry_writes(application), 1);
}

/* The file's bytes, NUL-terminated; NULL if there is no such file. */
static char *
slurp(const char *path, size_t *length)
{
	struct stat st;
	char *bytes = nullptr;
	size_t size;
	int error = 0;
	FILE *file = AllocateFile(path, PG_BINARY_R);

	if (file == nullptr)
	{
		if (errno == ENOENT)
			return nullptr;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	}
	/* The launcher swallows errors and has no transaction that would close the file: close it before each. */
	if (fstat(fileno(file), &st) != 0)
		error = errno;
	else if (static_cast<Size>(st.st_size) >= MaxAllocSize)
	{
		FreeFile(file);
		registry_damaged(path, "It is larger than a registry can be.");
	}
	else
	{
		size = static_cast<size_t>(st.st_size);
		bytes = static_cast<char *>(palloc(size + 1));
		*length = fread(bytes, 1, size, file);
		bytes[*length] = '\0';
		if (ferror(file))
			error = errno;
	}
	FreeFile(file);
	if (error)
	{
		errno = error;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
	}
	return bytes;
}

Registry *
registry_read(const char *application)
{
	char path[MAXPGPATH];
	char *bytes;
	char *body;
	size_t length;
	int format;
	unsigned long long checksum;
	Registry *registry;

	registry_path(path, application, kSuffix);
	bytes = slurp(path, &length);
	if (bytes == nullptr)
		return nullptr;

	body = strchr(bytes, '\n');
	if (body == nullptr || sscanf(bytes, "siphon-registry %d %llx\n", &format, &checksum) != 2)
		registry_damaged(path, "Its first line is not that of a registry.");
	body++;
	if (format != kFormat)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("registry file \"%s\" has format version %d", path, format),
						errdetail("This version of siphon reads format version %d.", kFormat),
						errhint("Install the version of siphon that wrote it.")));
	if (XXH3_64bits(body, length - (body - bytes)) != checksum)
		registry_damaged(path, "Its checksum does not match its content.");

	registry = registry_from_json(path, application, body);
	pfree(bytes);
	return registry;
}

Registry *
registry_begin_change(const char *application)
{
	Registry *registry;

	LWLockAcquire(siphon_shared->registry_lock, LW_EXCLUSIVE);
	registry = registry_read(application);
	if (registry == nullptr)
		LWLockRelease(siphon_shared->registry_lock);
	return registry;
}

void
registry_end_change(Registry *registry)
{
	registry_write(registry);
	LWLockRelease(siphon_shared->registry_lock);
}

void
registry_leave_unchanged(void)
{
	LWLockRelease(siphon_shared->registry_lock);
}

uint32
registry_next_generation(Registry *registry)
{
	uint32 last = Max(registry->generation, siphon_shared->last_generation);

	registry->generation = Max(last + 1, static_cast<uint32>(time(nullptr)));
	return siphon_shared->last_generation = registry->generation;
}

bool
registry_newer(const Registry *a, const Registry *b)
{
	return a->timeline != b->timeline ? a->timeline > b->timeline : a->version > b->version;
}

uint64
registry_first_version(void)
{
	return static_cast<uint64>(GetCurrentTimestamp());
}

void
registry_slot_name(char *out, const char *application)
{
	snprintf(out, NAMEDATALEN, "siphon_%s", application);
	for (char *c = out; *c; c++)
		if (*c == '.')
			*c = '_';
}

void
registry_new_history(Registry *registry, bool take_over)
{
	if (!pg_strong_random(&registry->history, sizeof(registry->history)))
		elog(ERROR, "could not generate a random number");
	registry->acknowledged = false;
	registry->take_over = take_over;
	registry->given_up[0] = '\0';
	registry->epochs = NIL;
}

List *
registry_list(void)
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
		if (registry_name_valid(name))
			names = lappend(names, name);
	}
	FreeDir(dir);
	return names;
}

const char *
registry_slot_problem(const Registry *registry, bool *exists)
{
	ReplicationSlot *slot;
	const char *problem;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	slot = SearchNamedReplicationSlot(registry->slot, false);
	*exists = false;
	if (slot == nullptr)
		problem = "it does not exist any more";
	else if (strcmp(NameStr(slot->data.plugin), "siphon") != 0 || slot->data.database != registry->database)
		problem = "another slot was created under its name";
	else
	{
		*exists = true;
		problem = siphon_slot_invalidation(slot);
	}
	LWLockRelease(ReplicationSlotControlLock);
	return problem;
}

RegistryTable *
registry_find(const Registry *registry, Oid relid)
{
	ListCell *lc;

	foreach (lc, registry->tables)
	{
		RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		if (table->relid == relid)
			return table;
	}
	return nullptr;
}

bool
registry_excludes(const List *only_attributes, const List *exclude_attributes, const List *exclude_columns,
				  const char *column, int attnum)
{
	ListCell *lc;

	if (only_attributes != NIL)
		return !list_member_int(only_attributes, attnum);
	if (list_member_int(exclude_attributes, attnum))
		return true;
	foreach (lc, exclude_columns)
		if (strcmp(static_cast<char *>(lfirst(lc)), column) == 0)
			return true;
	return false;
}

struct OidEntry
{
	Oid relid; /* hash key */
	RegistryTable *table;
};

HTAB *
registry_by_oid(const Registry *registry)
{
	HTAB *tables = oid_hash_make<OidEntry>("siphon registry by OID", CurrentMemoryContext);
	ListCell *lc;

	foreach (lc, registry->tables)
	{
		RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		oid_hash_enter<OidEntry>(tables, table->relid)->table = table;
	}
	return tables;
}

RegistryTable *
registry_find_by_oid(HTAB *tables, Oid relid)
{
	const OidEntry *entry = oid_hash_find<OidEntry>(tables, relid);

	return entry ? entry->table : nullptr;
}

void
registry_rename(RegistryTable *table, const char *schema, const char *name, XLogRecPtr commit_lsn)
{
	RegistryName *former = static_cast<RegistryName *>(palloc0(sizeof(RegistryName)));

	former->until = commit_lsn;
	strlcpy(former->schema, table->schema, sizeof(former->schema));
	strlcpy(former->name, table->name, sizeof(former->name));
	table->former = lappend(table->former, former);
	if (list_length(table->former) > kMaxFormerNames)
		table->former = list_delete_first(table->former);
	strlcpy(table->schema, schema, sizeof(table->schema));
	strlcpy(table->name, name, sizeof(table->name));
}

bool
registry_has_namesake(const Registry *registry, const RegistryTable *table, XLogRecPtr behind)
{
	ListCell *lc;
	ListCell *lc2;

	foreach (lc, registry->tables)
	{
		const RegistryTable *other = static_cast<RegistryTable *>(lfirst(lc));

		if (other->relid == table->relid)
			continue;
		if (strcmp(other->schema, table->schema) == 0 && strcmp(other->name, table->name) == 0)
			return true;
		foreach (lc2, other->former)
		{
			const RegistryName *former = static_cast<RegistryName *>(lfirst(lc2));

			if (former->until >= behind && strcmp(former->schema, table->schema) == 0 &&
				strcmp(former->name, table->name) == 0)
				return true;
		}
	}
	return false;
}

static void
forget(Registry *registry, const RegistryTable *table, const char *schema, const char *name)
{
	RegistryRemoved *removed = static_cast<RegistryRemoved *>(palloc0(sizeof(RegistryRemoved)));

	/* Of which nothing was published yet, is nobody's business. */
	if (table->generation == 0)
		return;
	removed->relid = table->relid;
	removed->generation = table->generation;
	strlcpy(removed->schema, schema, sizeof(removed->schema));
	strlcpy(removed->name, name, sizeof(removed->name));
	registry->removed = lappend(registry->removed, removed);
}

void
registry_forget_name(Registry *registry, const RegistryTable *table)
{
	forget(registry, table, table->schema, table->name);
}

void
registry_forget_former_names(Registry *registry, RegistryTable *table)
{
	ListCell *lc;

	foreach (lc, table->former)
	{
		const RegistryName *former = static_cast<RegistryName *>(lfirst(lc));

		if (strcmp(former->schema, table->schema) != 0 || strcmp(former->name, table->name) != 0)
			forget(registry, table, former->schema, former->name);
	}
	table->former = NIL;
}
