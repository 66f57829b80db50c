/*
 * The JSON document of a registry, as its file and its mirror have it. It is written by hand with PostgreSQL's
 * escape_json, which works without a database connection, as the launcher needs; and read with care: a checksum may be
 * right and the document not.
 */
#include "registry.h"

#include "server/json.h"

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
	appendStringInfo(json, ", \"acknowledged\": %d, \"failover\": %d, \"stopped\": %d, \"epochs\": [",
					 registry->acknowledged ? 1 : 0, registry->failover ? 1 : 0, registry->stopped ? 1 : 0);
	foreach (lc, registry->ring_ids)
	{
		if (lc != list_head(registry->ring_ids))
			appendStringInfoString(json, ", ");
		json_hex(json, *static_cast<uint64 *>(lfirst(lc)));
	}
	appendStringInfoString(json, "]");
	/* Files of before there was this do not have it either. */
	if (registry->take_over)
		appendStringInfoString(json, ", \"take_over\": 1");
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

static void
write_publication(StringInfo json, const Registry *registry)
{
	appendStringInfoString(json, ",\n ");
	json_string(json, "publication", registry->publication);
	appendStringInfoString(json, ", ");
	json_string(json, "follow_reason", registry->follow_reason);
}

static void
write_left_out(StringInfo json, List *left_out)
{
	ListCell *lc;

	appendStringInfoString(json, ", \"left_out\": [");
	foreach (lc, left_out)
	{
		const RegistryLeftOut *table = static_cast<RegistryLeftOut *>(lfirst(lc));

		appendStringInfo(json, "%s\n  {\"relation_oid\": %u, ", lc == list_head(left_out) ? "" : ",", table->relid);
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

	if (table->former_names == NIL)
		return;
	appendStringInfoString(json, ", \"former_names\": [");
	foreach (lc, table->former_names)
	{
		const RegistryName *former = static_cast<RegistryName *>(lfirst(lc));

		appendStringInfo(json, "%s{\"until\": \"%X/%X\", ", lc == list_head(table->former_names) ? "" : ", ",
						 LSN_FORMAT_ARGS(former->end_lsn));
		json_string(json, "schema", former->schema);
		appendStringInfoString(json, ", ");
		json_string(json, "table", former->name);
		appendStringInfoString(json, "}");
	}
	appendStringInfoString(json, "]");
}

/* Nor are these, of most tables. */
static void
write_kept_values(StringInfo json, const RegistryTable *table)
{
	ListCell *lc;

	if (table->kept_values == NIL)
		return;
	appendStringInfoString(json, ", \"kept_values\": [");
	foreach (lc, table->kept_values)
	{
		const RegistryValue *value = static_cast<RegistryValue *>(lfirst(lc));

		appendStringInfo(json, "%s{\"attnum\": %d, \"type_oid\": %u, ", lc == list_head(table->kept_values) ? "" : ", ",
						 value->attnum, value->type);
		json_string(json, "field", value->field);
		appendStringInfoString(json, "}");
	}
	appendStringInfoString(json, "]");
}

/* All but the lists of tables. */
static void
write_settings(StringInfo json, const Registry *registry)
{
	json_string(json, "application", registry->application);
	appendStringInfo(json, ", \"database_oid\": %u, ", registry->database);
	json_string(json, "database", registry->database_name);
	appendStringInfoString(json, ", ");
	json_string(json, "slot", registry->slot);
	appendStringInfo(json, ", \"generation\": %u, \"timeline\": %u, \"version\": " UINT64_FORMAT, registry->generation,
					 registry->timeline, registry->version);
	write_history(json, registry);
	appendStringInfoString(json, ",\n ");
	json_string(json, "given_up", registry->given_up);
}

static void
write_table(StringInfo json, const RegistryTable *table)
{
	ListCell *lc;

	appendStringInfo(json, "{\"relation_oid\": %u, ", table->relid);
	registry_names_to_json(json, table->schema, table->name);
	appendStringInfo(json, ", \"partitions\": %d, \"start\": \"%X/%X\", \"exclude_columns\": [", table->partitions,
					 LSN_FORMAT_ARGS(table->start_lsn));
	foreach (lc, table->exclude_columns)
	{
		if (lc != list_head(table->exclude_columns))
			appendStringInfoString(json, ", ");
		escape_json(json, static_cast<char *>(lfirst(lc)));
	}
	appendStringInfoString(json, "], \"exclude_attributes\": [");
	foreach (lc, table->exclude_attributes)
		appendStringInfo(json, "%s%d", lc == list_head(table->exclude_attributes) ? "" : ", ", lfirst_int(lc));
	appendStringInfo(json,
					 "], \"phase\": \"%s\", \"generation\": %u, \"rows\": %d, \"workers\": %d, \"paused\": %d, "
					 "\"failures\": %d, "
					 "\"retry_at\": %lld, ",
					 kTablePhaseNames[static_cast<int>(table->phase)], table->generation, table->rows ? 1 : 0,
					 table->workers, table->paused ? 1 : 0, table->failures, static_cast<long long>(table->retry_at));
	json_string(json, "reason", table->reason);
	write_followed_table(json, table);
	write_former_names(json, table);
	write_kept_values(json, table);
	if (table->end_lsn != InvalidXLogRecPtr)
		appendStringInfo(json, ", \"until\": \"%X/%X\", \"dropped\": %d", LSN_FORMAT_ARGS(table->end_lsn),
						 table->dropped ? 1 : 0);
	appendStringInfoString(json, "}");
}

void
registry_names_to_json(StringInfo json, const char *schema, const char *name)
{
	json_string(json, "schema", schema);
	appendStringInfoString(json, ", ");
	json_string(json, "table", name);
}

char *
registry_to_json(const Registry *registry)
{
	StringInfoData json;
	ListCell *lc;

	initStringInfo(&json);
	appendStringInfoString(&json, "{");
	write_settings(&json, registry);
	write_removed(&json, registry->removed);
	/* What is not there of an application that follows no publication: also in files of before there was this. */
	if (registry->publication[0])
	{
		write_publication(&json, registry);
		write_left_out(&json, registry->left_out);
	}
	appendStringInfoString(&json, ",\n \"tables\": [");
	foreach (lc, registry->tables)
	{
		appendStringInfoString(&json, lc == list_head(registry->tables) ? "\n  " : ",\n  ");
		write_table(&json, static_cast<RegistryTable *>(lfirst(lc)));
	}
	appendStringInfoString(&json, "]}\n");
	return json.data;
}

char *
registry_change_to_json(const RegistryChange *change)
{
	const Registry *now = change->now;
	StringInfoData json;
	ListCell *lc;

	initStringInfo(&json);
	appendStringInfoString(&json, "{");
	write_settings(&json, now);
	write_publication(&json, now);
	if (change->removed)
		write_removed(&json, now->removed);
	if (change->left_out)
		write_left_out(&json, now->left_out);
	appendStringInfoString(&json, ", \"gone\": [");
	foreach (lc, change->gone)
		appendStringInfo(&json, "%s%u", lc == list_head(change->gone) ? "" : ", ", lfirst_oid(lc));
	appendStringInfoString(&json, "], \"tables\": [");
	foreach (lc, change->tables)
	{
		if (lc != list_head(change->tables))
			appendStringInfoString(&json, ", ");
		write_table(&json, static_cast<RegistryTable *>(lfirst(lc)));
	}
	appendStringInfoString(&json, "]}");
	/* It is one line. Names have their line feeds escaped. */
	for (char *c = json.data; *c; c++)
		if (*c == '\n')
			*c = ' ';
	return json.data;
}

void
registry_raise_damaged(const char *path, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED), errmsg("registry file \"%s\" is damaged", path), errdetail("%s", what),
			 errhint("Restore the file from a backup, or remove it, drop its replication slot with "
					 "pg_drop_replication_slot(), and add the tables again with siphon_add_table().")));
}

/* The value of a key of a JSON object, or an error: the checksum was right, so a missing one is a bug or a forgery. */
static const Json *
get_member(const char *path, const Json *object, const char *key, JsonKind kind)
{
	const Json *value = json_member(object, key);

	if (value == nullptr || value->kind != kind)
		registry_raise_damaged(path, psprintf("Key \"%s\" is missing or of the wrong type.", key));
	return value;
}

static void
copy_member(const char *path, const Json *object, const char *key, char *out, size_t size)
{
	strlcpy(out, get_member(path, object, key, JsonKind::String)->text, size);
}

static int64
number_member(const char *path, const Json *object, const char *key)
{
	return get_member(path, object, key, JsonKind::Number)->number;
}

/* The first item of an array, all of whose items are of this kind. */
static const Json *
items_of(const char *path, const Json *object, const char *key, JsonKind kind)
{
	const Json *first = get_member(path, object, key, JsonKind::Array)->first;

	for (const Json *item = first; item; item = item->next)
		if (item->kind != kind)
			registry_raise_damaged(path, psprintf("An item of \"%s\" is of the wrong type.", key));
	return first;
}

static uint64
hex_of(const char *path, const Json *value)
{
	char *end;
	uint64 number = strtoull(value->text, &end, 16);

	if (end == value->text || *end != '\0')
		registry_raise_damaged(path, psprintf("\"%s\" is no number in hexadecimal.", value->text));
	return number;
}

static void
parse_history(const char *path, const Json *object, Registry *registry)
{
	registry->history = hex_of(path, get_member(path, object, "history", JsonKind::String));
	registry->acknowledged = number_member(path, object, "acknowledged") != 0;
	registry->failover = number_member(path, object, "failover") != 0;
	registry->stopped = number_member(path, object, "stopped") != 0;
	registry->take_over = json_member(object, "take_over") && number_member(path, object, "take_over") != 0;
	registry->ring_ids = NIL;
	for (const Json *item = items_of(path, object, "epochs", JsonKind::String); item; item = item->next)
	{
		uint64 *ring_id = static_cast<uint64 *>(palloc(sizeof(uint64)));

		*ring_id = hex_of(path, item);
		registry->ring_ids = lappend(registry->ring_ids, ring_id);
	}
}

static TablePhase
phase_member(const char *path, const Json *object)
{
	char name[16];

	copy_member(path, object, "phase", name, sizeof(name));
	for (int i = 0; i < static_cast<int>(lengthof(kTablePhaseNames)); i++)
		if (strcmp(name, kTablePhaseNames[i]) == 0)
			return static_cast<TablePhase>(i);
	registry_raise_damaged(path, psprintf("\"%s\" is no phase of a table.", name));
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
	const char *text = get_member(path, object, key, JsonKind::String)->text;

	return DatumGetLSN(DirectFunctionCall1(pg_lsn_in, CStringGetDatum(text)));
}

static void
parse_former_names(const char *path, const Json *object, RegistryTable *table)
{
	if (json_member(object, "former_names") == nullptr)
		return;
	for (const Json *item = items_of(path, object, "former_names", JsonKind::Object); item; item = item->next)
	{
		RegistryName *former = static_cast<RegistryName *>(palloc0(sizeof(RegistryName)));

		former->end_lsn = lsn_member(path, item, "until");
		copy_member(path, item, "schema", former->schema, sizeof(former->schema));
		copy_member(path, item, "table", former->name, sizeof(former->name));
		table->former_names = lappend(table->former_names, former);
	}
}

static void
parse_kept_values(const char *path, const Json *object, RegistryTable *table)
{
	if (json_member(object, "kept_values") == nullptr)
		return;
	for (const Json *item = items_of(path, object, "kept_values", JsonKind::Object); item; item = item->next)
	{
		RegistryValue *value = static_cast<RegistryValue *>(palloc0(sizeof(RegistryValue)));

		value->attnum = static_cast<int>(number_member(path, item, "attnum"));
		value->type = static_cast<Oid>(number_member(path, item, "type_oid"));
		value->field = pstrdup(get_member(path, item, "field", JsonKind::String)->text);
		/* What it stands for is written to the wire as it is. */
		if (strlen(value->field) % 2 != 0 || strspn(value->field, "0123456789abcdef") != strlen(value->field))
			registry_raise_damaged(path, psprintf("\"%s\" is no value in hexadecimal.", value->field));
		table->kept_values = lappend(table->kept_values, value);
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
	table->start_lsn = lsn_member(path, object, "start");
	if (json_member(object, "until"))
		table->end_lsn = lsn_member(path, object, "until");
	if (json_member(object, "dropped"))
		table->dropped = number_member(path, object, "dropped") != 0;
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
	parse_kept_values(path, object, table);
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

/* What a change does not have stays as it was. */
static void
parse_lists(const char *path, const Json *object, Registry *registry)
{
	if (json_member(object, "removed"))
	{
		registry->removed = NIL;
		for (const Json *item = items_of(path, object, "removed", JsonKind::Object); item; item = item->next)
			registry->removed = lappend(registry->removed, parse_removed(path, item));
	}
	if (json_member(object, "left_out") == nullptr)
		return;
	registry->left_out = NIL;
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

static void
parse_settings(const char *path, const Json *json, const char *application, Registry *registry)
{
	copy_member(path, json, "application", registry->application, sizeof(registry->application));
	if (strcmp(registry->application, application) != 0)
		registry_raise_damaged(path, psprintf("It belongs to application \"%s\".", registry->application));
	registry->database = static_cast<Oid>(number_member(path, json, "database_oid"));
	copy_member(path, json, "database", registry->database_name, sizeof(registry->database_name));
	copy_member(path, json, "slot", registry->slot, sizeof(registry->slot));
	registry->generation = static_cast<uint32>(number_member(path, json, "generation"));
	registry->timeline = static_cast<TimeLineID>(number_member(path, json, "timeline"));
	registry->version = static_cast<uint64>(number_member(path, json, "version"));
	parse_history(path, json, registry);
	copy_member(path, json, "given_up", registry->given_up, sizeof(registry->given_up));
	if (json_member(json, "publication"))
	{
		copy_member(path, json, "publication", registry->publication, sizeof(registry->publication));
		copy_member(path, json, "follow_reason", registry->follow_reason, sizeof(registry->follow_reason));
	}
}

/* What is parsed is in the present context; of JSON's own, which with thousands of tables is much, nothing stays. */
static const Json *
parse_object(const char *path, char *text, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	const Json *json = json_parse(text);

	MemoryContextSwitchTo(caller);
	if (json == nullptr || json->kind != JsonKind::Object)
		registry_raise_damaged(path, "It does not hold a JSON object.");
	return json;
}

Registry *
registry_from_json(const char *path, const char *application, char *text)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "siphon JSON", ALLOCSET_DEFAULT_SIZES);
	const Json *json = parse_object(path, text, context);
	Registry *registry = static_cast<Registry *>(palloc0(sizeof(Registry)));

	parse_settings(path, json, application, registry);
	for (const Json *item = items_of(path, json, "tables", JsonKind::Object); item; item = item->next)
		registry->tables = lappend(registry->tables, parse_table(path, item));
	items_of(path, json, "removed", JsonKind::Object);
	parse_lists(path, json, registry);
	MemoryContextDelete(context);
	return registry;
}

RegistryChange
registry_change_from_json(const char *path, Registry *registry, char *text)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "siphon JSON", ALLOCSET_DEFAULT_SIZES);
	const Json *json = parse_object(path, text, context);
	RegistryChange change = {};

	parse_settings(path, json, registry->application, registry);
	parse_lists(path, json, registry);
	change.now = registry;
	for (const Json *item = items_of(path, json, "gone", JsonKind::Number); item; item = item->next)
		change.gone = lappend_oid(change.gone, static_cast<Oid>(item->number));
	for (const Json *item = items_of(path, json, "tables", JsonKind::Object); item; item = item->next)
		change.tables = lappend(change.tables, parse_table(path, item));
	MemoryContextDelete(context);
	return change;
}
