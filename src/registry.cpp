/*
 * The registry's files: see registry.h. JSON is written by hand with PostgreSQL's escape_json, which works without a
 * database connection, as the launcher needs.
 */
#include "registry.h"

#include "json.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <ctime>
#include <sys/stat.h>
#include <unistd.h>

static constexpr char kDirectory[] = "siphon";
static constexpr char kSuffix[] = ".registry";
static constexpr char kMagic[] = "siphon-registry";
static constexpr int kFormat = 2;

static const char *const kPhaseNames[] = {"waiting", "scanning", "streaming", "stopped"};

const char *
phase_name(Phase phase)
{
	return kPhaseNames[static_cast<int>(phase)];
}

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

static void
registry_path(char *out, const char *application, const char *suffix)
{
	snprintf(out, MAXPGPATH, "%s/%s%s", kDirectory, application, suffix);
}

static void
json_string(StringInfo out, const char *key, const char *value)
{
	appendStringInfo(out, "\"%s\": ", key);
	escape_json(out, value);
}

/* A number that takes all of 64 bits, which JSON's readers may not. */
static void
json_hex(StringInfo out, uint64 number)
{
	appendStringInfo(out, "\"%016llx\"", static_cast<unsigned long long>(number));
}

static void
write_history(StringInfo json, const Registry *registry)
{
	ListCell *lc;

	appendStringInfoString(json, ",\n \"history\": ");
	json_hex(json, registry->history);
	appendStringInfo(json, ", \"acknowledged\": %d, \"failover\": %d, \"epochs\": [", registry->acknowledged ? 1 : 0,
					 registry->failover ? 1 : 0);
	foreach (lc, registry->epochs)
	{
		if (lc != list_head(registry->epochs))
			appendStringInfoString(json, ", ");
		json_hex(json, *static_cast<uint64 *>(lfirst(lc)));
	}
	appendStringInfoString(json, "]");
}

static void
write_removed(StringInfo json, List *removed)
{
	ListCell *lc;

	appendStringInfoString(json, ",\n \"removed\": [");
	foreach (lc, removed)
	{
		const RegistryRemoved *table = static_cast<RegistryRemoved *>(lfirst(lc));

		appendStringInfo(json, "%s\n  {\"relation_oid\": %u, ", lc == list_head(removed) ? "" : ",", table->relid);
		json_string(json, "schema", table->schema);
		appendStringInfoString(json, ", ");
		json_string(json, "table", table->name);
		appendStringInfo(json, ", \"generation\": %u}", table->generation);
	}
	appendStringInfoString(json, "]");
}

/* What is not there of an application that follows no publication: also in files of before there was this. */
static void
write_followed(StringInfo json, const Registry *registry)
{
	ListCell *lc;

	if (registry->publication[0] == '\0')
		return;
	appendStringInfoString(json, ",\n ");
	json_string(json, "publication", registry->publication);
	appendStringInfoString(json, ", ");
	json_string(json, "follow_reason", registry->follow_reason);
	appendStringInfoString(json, ", \"left_out\": [");
	foreach (lc, registry->left_out)
	{
		const RegistryLeftOut *table = static_cast<RegistryLeftOut *>(lfirst(lc));

		appendStringInfo(json, "%s\n  {\"relation_oid\": %u, ", lc == list_head(registry->left_out) ? "" : ",",
						 table->relid);
		json_string(json, "schema", table->schema);
		appendStringInfoString(json, ", ");
		json_string(json, "table", table->name);
		appendStringInfoString(json, ", ");
		json_string(json, "reason", table->reason);
		appendStringInfoString(json, "}");
	}
	appendStringInfoString(json, "]");
}

static void
write_followed_table(StringInfo json, const RegistryTable *table)
{
	ListCell *lc;

	if (!table->followed && table->only_attributes == NIL)
		return;
	appendStringInfo(json, ", \"followed\": %d, \"only_attributes\": [", table->followed ? 1 : 0);
	foreach (lc, table->only_attributes)
		appendStringInfo(json, "%s%d", lc == list_head(table->only_attributes) ? "" : ", ", lfirst_int(lc));
	appendStringInfoString(json, "]");
}

/* Of a table that was never renamed it is not there. */
static void
write_former_names(StringInfo json, const RegistryTable *table)
{
	ListCell *lc;

	if (table->former == NIL)
		return;
	appendStringInfoString(json, ", \"former_names\": [");
	foreach (lc, table->former)
	{
		const RegistryName *former = static_cast<RegistryName *>(lfirst(lc));

		appendStringInfo(json, "%s{\"until\": \"%X/%X\", ", lc == list_head(table->former) ? "" : ", ",
						 LSN_FORMAT_ARGS(former->until));
		json_string(json, "schema", former->schema);
		appendStringInfoString(json, ", ");
		json_string(json, "table", former->name);
		appendStringInfoString(json, "}");
	}
	appendStringInfoString(json, "]");
}

char *
registry_to_json(const Registry *registry)
{
	StringInfoData json;
	ListCell *lc;
	ListCell *lc2;

	initStringInfo(&json);
	appendStringInfoString(&json, "{");
	json_string(&json, "application", registry->application);
	appendStringInfo(&json, ", \"database_oid\": %u, ", registry->database);
	json_string(&json, "database", registry->database_name);
	appendStringInfoString(&json, ", ");
	json_string(&json, "slot", registry->slot);
	appendStringInfo(&json, ", \"generation\": %u, \"timeline\": %u, \"version\": " UINT64_FORMAT, registry->generation,
					 registry->timeline, registry->version);
	write_history(&json, registry);
	appendStringInfoString(&json, ",\n ");
	json_string(&json, "given_up", registry->given_up);
	write_removed(&json, registry->removed);
	write_followed(&json, registry);
	appendStringInfoString(&json, ",\n \"tables\": [");
	foreach (lc, registry->tables)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		appendStringInfo(&json, "%s\n  {\"relation_oid\": %u, ", lc == list_head(registry->tables) ? "" : ",",
						 table->relid);
		json_string(&json, "schema", table->schema);
		appendStringInfoString(&json, ", ");
		json_string(&json, "table", table->name);
		appendStringInfo(&json, ", \"partitions\": %d, \"start\": \"%X/%X\", \"exclude_columns\": [", table->partitions,
						 LSN_FORMAT_ARGS(table->start));
		foreach (lc2, table->exclude_columns)
		{
			if (lc2 != list_head(table->exclude_columns))
				appendStringInfoString(&json, ", ");
			escape_json(&json, static_cast<char *>(lfirst(lc2)));
		}
		appendStringInfoString(&json, "], \"exclude_attributes\": [");
		foreach (lc2, table->exclude_attributes)
			appendStringInfo(&json, "%s%d", lc2 == list_head(table->exclude_attributes) ? "" : ", ", lfirst_int(lc2));
		appendStringInfo(&json,
						 "], \"phase\": \"%s\", \"generation\": %u, \"rows\": %d, \"workers\": %d, \"paused\": %d, "
						 "\"failures\": %d, "
						 "\"retry_at\": %lld, ",
						 phase_name(table->phase), table->generation, table->rows ? 1 : 0, table->workers,
						 table->paused ? 1 : 0, table->failures, static_cast<long long>(table->retry_at));
		json_string(&json, "reason", table->reason);
		write_followed_table(&json, table);
		write_former_names(&json, table);
		appendStringInfoString(&json, "}");
	}
	appendStringInfoString(&json, "]}\n");
	return json.data;
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
	pg_atomic_fetch_add_u64(&siphon_shared->registry_writes, 1);
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
}

[[noreturn]] static void
damaged(const char *path, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED), errmsg("registry file \"%s\" is damaged", path), errdetail("%s", what),
			 errhint("Restore the file from a backup, or remove it, drop its replication slot with "
					 "pg_drop_replication_slot(), and add the tables again with siphon_add_table().")));
}

/* The value of a key of a JSON object, or an error: the checksum was right, so a missing one is a bug or a forgery. */
static const Json *
member(const char *path, const Json *object, const char *key, JsonKind kind)
{
	const Json *value = json_member(object, key);

	if (value == nullptr || value->kind != kind)
		damaged(path, psprintf("Key \"%s\" is missing or of the wrong type.", key));
	return value;
}

static void
copy_member(const char *path, const Json *object, const char *key, char *out, size_t size)
{
	strlcpy(out, member(path, object, key, JsonKind::String)->text, size);
}

static int64
number_member(const char *path, const Json *object, const char *key)
{
	return member(path, object, key, JsonKind::Number)->number;
}

/* The first item of an array, all of whose items are of this kind. */
static const Json *
items_of(const char *path, const Json *object, const char *key, JsonKind kind)
{
	const Json *first = member(path, object, key, JsonKind::Array)->first;

	for (const Json *item = first; item; item = item->next)
		if (item->kind != kind)
			damaged(path, psprintf("An item of \"%s\" is of the wrong type.", key));
	return first;
}

static uint64
hex_of(const char *path, const Json *value)
{
	char *end;
	uint64 number = strtoull(value->text, &end, 16);

	if (end == value->text || *end != '\0')
		damaged(path, psprintf("\"%s\" is no number in hexadecimal.", value->text));
	return number;
}

static void
parse_history(const char *path, const Json *object, Registry *registry)
{
	registry->history = hex_of(path, member(path, object, "history", JsonKind::String));
	registry->acknowledged = number_member(path, object, "acknowledged") != 0;
	registry->failover = number_member(path, object, "failover") != 0;
	for (const Json *item = items_of(path, object, "epochs", JsonKind::String); item; item = item->next)
	{
		uint64 *epoch = static_cast<uint64 *>(palloc(sizeof(uint64)));

		*epoch = hex_of(path, item);
		registry->epochs = lappend(registry->epochs, epoch);
	}
}

static Phase
phase_member(const char *path, const Json *object)
{
	char name[16];

	copy_member(path, object, "phase", name, sizeof(name));
	for (int i = 0; i < static_cast<int>(lengthof(kPhaseNames)); i++)
		if (strcmp(name, kPhaseNames[i]) == 0)
			return static_cast<Phase>(i);
	damaged(path, psprintf("\"%s\" is no phase of a table.", name));
}

static void
parse_followed_table(const char *path, const Json *object, RegistryTable *table)
{
	if (json_member(object, "followed") == nullptr)
		return;
	table->followed = number_member(path, object, "followed") != 0;
	for (const Json *item = items_of(path, object, "only_attributes", JsonKind::Number); item; item = item->next)
		table->only_attributes = lappend_int(table->only_attributes, static_cast<int>(item->number));
}

static XLogRecPtr
lsn_member(const char *path, const Json *object, const char *key)
{
	return DatumGetLSN(
		DirectFunctionCall1(pg_lsn_in, CStringGetDatum(member(path, object, key, JsonKind::String)->text)));
}

static void
parse_former_names(const char *path, const Json *object, RegistryTable *table)
{
	if (json_member(object, "former_names") == nullptr)
		return;
	for (const Json *item = items_of(path, object, "former_names", JsonKind::Object); item; item = item->next)
	{
		RegistryName *former = static_cast<RegistryName *>(palloc0(sizeof(RegistryName)));

		former->until = lsn_member(path, item, "until");
		copy_member(path, item, "schema", former->schema, sizeof(former->schema));
		copy_member(path, item, "table", former->name, sizeof(former->name));
		table->former = lappend(table->former, former);
	}
}

static RegistryTable *
parse_table(const char *path, const Json *object)
{
	RegistryTable *table = static_cast<RegistryTable *>(palloc0(sizeof(RegistryTable)));

	table->relid = static_cast<Oid>(number_member(path, object, "relation_oid"));
	copy_member(path, object, "schema", table->schema, sizeof(table->schema));
	copy_member(path, object, "table", table->name, sizeof(table->name));
	table->partitions = static_cast<int>(number_member(path, object, "partitions"));
	table->start = lsn_member(path, object, "start");
	table->phase = phase_member(path, object);
	table->generation = static_cast<uint32>(number_member(path, object, "generation"));
	table->rows = number_member(path, object, "rows") != 0;
	table->workers = static_cast<int>(number_member(path, object, "workers"));
	table->paused = number_member(path, object, "paused") != 0;
	table->failures = static_cast<int>(number_member(path, object, "failures"));
	table->retry_at = number_member(path, object, "retry_at");
	copy_member(path, object, "reason", table->reason, sizeof(table->reason));
	for (const Json *item = items_of(path, object, "exclude_columns", JsonKind::String); item; item = item->next)
		table->exclude_columns = lappend(table->exclude_columns, pstrdup(item->text));
	for (const Json *item = items_of(path, object, "exclude_attributes", JsonKind::Number); item; item = item->next)
		table->exclude_attributes = lappend_int(table->exclude_attributes, static_cast<int>(item->number));
	parse_followed_table(path, object, table);
	parse_former_names(path, object, table);
	return table;
}

static RegistryRemoved *
parse_removed(const char *path, const Json *object)
{
	RegistryRemoved *table = static_cast<RegistryRemoved *>(palloc0(sizeof(RegistryRemoved)));

	table->relid = static_cast<Oid>(number_member(path, object, "relation_oid"));
	copy_member(path, object, "schema", table->schema, sizeof(table->schema));
	copy_member(path, object, "table", table->name, sizeof(table->name));
	table->generation = static_cast<uint32>(number_member(path, object, "generation"));
	return table;
}

static void
parse_followed(const char *path, const Json *object, Registry *registry)
{
	if (json_member(object, "publication") == nullptr)
		return;
	copy_member(path, object, "publication", registry->publication, sizeof(registry->publication));
	copy_member(path, object, "follow_reason", registry->follow_reason, sizeof(registry->follow_reason));
	for (const Json *item = items_of(path, object, "left_out", JsonKind::Object); item; item = item->next)
	{
		RegistryLeftOut *table = static_cast<RegistryLeftOut *>(palloc0(sizeof(RegistryLeftOut)));

		table->relid = static_cast<Oid>(number_member(path, item, "relation_oid"));
		copy_member(path, item, "schema", table->schema, sizeof(table->schema));
		copy_member(path, item, "table", table->name, sizeof(table->name));
		copy_member(path, item, "reason", table->reason, sizeof(table->reason));
		registry->left_out = lappend(registry->left_out, table);
	}
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
		damaged(path, "It is larger than a registry can be.");
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
registry_from_json(const char *path, const char *application, char *text)
{
	Registry *registry;
	const Json *json;

	json = json_parse(text);
	if (json == nullptr || json->kind != JsonKind::Object)
		damaged(path, "It does not hold a JSON object.");
	registry = static_cast<Registry *>(palloc0(sizeof(Registry)));
	copy_member(path, json, "application", registry->application, sizeof(registry->application));
	if (strcmp(registry->application, application) != 0)
		damaged(path, psprintf("It belongs to application \"%s\".", registry->application));
	registry->database = static_cast<Oid>(number_member(path, json, "database_oid"));
	copy_member(path, json, "database", registry->database_name, sizeof(registry->database_name));
	copy_member(path, json, "slot", registry->slot, sizeof(registry->slot));
	registry->generation = static_cast<uint32>(number_member(path, json, "generation"));
	registry->timeline = static_cast<TimeLineID>(number_member(path, json, "timeline"));
	registry->version = static_cast<uint64>(number_member(path, json, "version"));
	parse_history(path, json, registry);
	copy_member(path, json, "given_up", registry->given_up, sizeof(registry->given_up));
	for (const Json *item = items_of(path, json, "tables", JsonKind::Object); item; item = item->next)
		registry->tables = lappend(registry->tables, parse_table(path, item));
	for (const Json *item = items_of(path, json, "removed", JsonKind::Object); item; item = item->next)
		registry->removed = lappend(registry->removed, parse_removed(path, item));
	parse_followed(path, json, registry);
	return registry;
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
		damaged(path, "Its first line is not that of a registry.");
	body++;
	if (format != kFormat)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("registry file \"%s\" has format version %d", path, format),
						errdetail("This version of siphon reads format version %d.", kFormat),
						errhint("Install the version of siphon that wrote it.")));
	if (XXH3_64bits(body, length - (body - bytes)) != checksum)
		damaged(path, "Its checksum does not match its content.");

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
registry_new_history(Registry *registry)
{
	if (!pg_strong_random(&registry->history, sizeof(registry->history)))
		elog(ERROR, "could not generate a random number");
	registry->acknowledged = false;
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

void
registry_forget_name(Registry *registry, const RegistryTable *table)
{
	RegistryRemoved *removed = static_cast<RegistryRemoved *>(palloc0(sizeof(RegistryRemoved)));

	/* Of which nothing was published yet, is nobody's business. */
	if (table->generation == 0)
		return;
	removed->relid = table->relid;
	removed->generation = table->generation;
	strlcpy(removed->schema, table->schema, sizeof(removed->schema));
	strlcpy(removed->name, table->name, sizeof(removed->name));
	registry->removed = lappend(registry->removed, removed);
}
