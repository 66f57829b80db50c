/*
 * The worker that has an application follow a publication: see follower.h.
 */
#include "follower.h"

#include "application.h"
#include "listing.h"
#include "session.h"
#include "snapshot.h"

extern "C" {
#include "catalog/pg_publication.h"
#include "utils/snapmgr.h"
}

static constexpr long kPollMs = 500;
static constexpr long kRestartMs = 2000;
static constexpr long kLookAgainMs = 10 * 1000;
static const char *const kMissing = "the publication does not exist";
static const char *const kPartly = "the publication does not publish all of insert, update, delete and truncate";

static App *app;
static bool catalogs_changed = true;

long
follower_look_after(Follower *follower, App *of)
{
	TimestampTz now = GetCurrentTimestamp();
	bool runs;

	if (follower->handle && worker_alive(follower->handle))
		return kLookAgainMs;
	if (follower->handle)
		pfree(follower->handle);
	follower->handle = nullptr;
	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	runs = of->follower_pid != 0; /* an earlier launcher started it */
	LWLockRelease(siphon_shared->lock);
	if (!follower->wanted || runs)
		return kLookAgainMs;
	if (follower->next_start > now)
		return TimestampDifferenceMilliseconds(now, follower->next_start) + 1;
	follower->next_start = TimestampTzPlusMilliseconds(now, kRestartMs);
	follower->handle = worker_start("follower", of->name, static_cast<int>(of - siphon_shared->apps));
	return kRestartMs;
}

const char *
follow_problem(const char *name)
{
	Publication *publication = GetPublicationByName(name, true);

	if (publication == nullptr)
		return kMissing;
	if (!publication->pubactions.pubinsert || !publication->pubactions.pubupdate ||
		!publication->pubactions.pubdelete || !publication->pubactions.pubtruncate)
		return kPartly;
	return nullptr;
}

const char *
follow_hint(const char *publication, const char *problem)
{
	const char *name = quote_identifier(publication);

	if (strcmp(problem, kPartly) == 0)
		return psprintf("ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate');", name);
	return psprintf("CREATE PUBLICATION %s FOR TABLE ...; on the primary.", name);
}

/* A table as the publication has it. */
struct Member
{
	Oid relid;
	bool filtered;         /* by a WHERE clause */
	List *only_attributes; /* of int, ascending; NIL: all */
	List *exclude_columns; /* of char *: the others */
};

/* With a column list, those of the table's columns that are in it, and the names of the others. */
static void
read_columns(Member *member, Datum list)
{
	ArrayType *array = DatumGetArrayTypeP(list);
	const int16 *numbers = reinterpret_cast<const int16 *>(ARR_DATA_PTR(array));
	int count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	HeapTuple relation = SearchSysCache1(RELOID, ObjectIdGetDatum(member->relid));
	int natts = 0;

	if (HeapTupleIsValid(relation))
	{
		natts = reinterpret_cast<Form_pg_class>(GETSTRUCT(relation))->relnatts;
		ReleaseSysCache(relation);
	}
	for (int i = 0; i < count; i++)
		member->only_attributes = lappend_int(member->only_attributes, numbers[i]);
	list_sort(member->only_attributes, list_int_cmp);
	for (int i = 1; i <= natts; i++)
	{
		HeapTuple column = SearchSysCacheAttNum(member->relid, static_cast<int16>(i));

		if (!HeapTupleIsValid(column))
			continue; /* dropped */
		if (!list_member_int(member->only_attributes, i))
			member->exclude_columns =
				lappend(member->exclude_columns,
						pstrdup(NameStr(reinterpret_cast<Form_pg_attribute>(GETSTRUCT(column))->attname)));
		ReleaseSysCache(column);
	}
}

/* PostgreSQL's own view knows what all tables, schemas and publish_via_partition_root come to. */
static List *
read_members(const char *publication)
{
	static const char query[] =
		"SELECT c.oid, t.rowfilter IS NOT NULL, r.prattrs::pg_catalog.int2[]"
		" FROM pg_catalog.pg_publication_tables t"
		" JOIN pg_catalog.pg_publication p ON p.pubname = t.pubname"
		" JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname"
		" JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename"
		" LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid AND NOT p.puballtables"
		" WHERE t.pubname = $1 AND NOT EXISTS (" /* siphon's own table */
		"  SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid"
		"   WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'"
		"     AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.extname = 'siphon')"
		" ORDER BY c.oid";
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(publication)};
	MemoryContext caller = CurrentMemoryContext;
	List *members = NIL;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(query, 1, types, values, nullptr, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read publication \"%s\"", publication);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);
		Member *member = static_cast<Member *>(palloc0(sizeof(Member)));
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		Datum columns;

		member->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
		member->filtered = DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull));
		columns = SPI_getbinval(tuple, desc, 3, &isnull);
		if (!isnull)
			read_columns(member, columns);
		members = lappend(members, member);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return members;
}

static Member *
find_member(List *members, Oid relid)
{
	ListCell *lc;

	foreach (lc, members)
	{
		Member *member = static_cast<Member *>(lfirst(lc));

		if (member->relid == relid)
			return member;
	}
	return nullptr;
}

/* What is to be done to the registry. */
struct Changes
{
	List *leaving;  /* of RegistryRemoved *: tables that leave; */
	List *removed;  /* likewise, those of which nothing is being published */
	List *added;    /* of RegistryTable * */
	List *changed;  /* of RegistryTable *: as they are to be */
	List *left_out; /* of RegistryLeftOut * */
};

static void
leave_out(Changes *plan, Oid relid, const char *reason)
{
	RegistryLeftOut *table = static_cast<RegistryLeftOut *>(palloc0(sizeof(RegistryLeftOut)));

	table->relid = relid;
	listing_names(relid, table->schema, table->name);
	copy_text(table->reason, reason, sizeof(table->reason));
	plan->left_out = lappend(plan->left_out, table);
}

/*
 * A member as it is to be published; NULL if it is left out. `registry` has what else is published, but for the table
 * itself.
 */
static RegistryTable *
describe(const Registry *registry, const Member *member, int partitions, Changes *plan)
{
	RegistryTable *table;
	char *reason;
	char *hint;

	if (member->filtered)
	{
		leave_out(plan, member->relid, "the publication has a row filter for it, which siphon does not apply");
		return nullptr;
	}
	table = listing_try(registry, member->relid, partitions, member->exclude_columns, &reason, &hint);
	if (table == nullptr)
	{
		leave_out(plan, member->relid, hint ? psprintf("%s; %s", reason, hint) : reason);
		return nullptr;
	}
	table->only_attributes = member->only_attributes;
	table->followed = table->rows = true;
	table->workers = siphon_snapshot_workers;
	return table;
}

static RegistryRemoved *
listed_names(const RegistryTable *table)
{
	RegistryRemoved *names = static_cast<RegistryRemoved *>(palloc0(sizeof(RegistryRemoved)));

	names->relid = table->relid;
	strlcpy(names->schema, table->schema, sizeof(names->schema));
	strlcpy(names->name, table->name, sizeof(names->name));
	return names;
}

/*
 * A listed table that the publication does not have any more, or not as it was. What was committed before is published
 * still, so one whose changes are being published leaves at a place of the WAL: see removals.h. True if it stays.
 */
static bool
plan_change(Changes *plan, const RegistryTable *table, const Member *member)
{
	Registry others = {};
	Changes unsaid = {};
	bool publishes = table->phase == Phase::Streaming;
	RegistryTable *changed =
		member ? describe(&others, member, table->partitions, publishes ? &unsaid : plan) : nullptr;

	if (changed)
	{
		changed->workers = table->workers;
		plan->changed = lappend(plan->changed, changed);
	}
	else if (publishes)
		plan->leaving = lappend(plan->leaving, listed_names(table));
	else
		plan->removed = lappend(plan->removed, listed_names(table));
	return changed != nullptr;
}

/* What is to be done to the registry, which is changed to make trials with. */
static Changes
make_plan(Registry *working, List *members)
{
	List *listed = working->tables;
	Changes plan = {};
	bool waits = false;
	ListCell *lc;

	working->tables = NIL;
	foreach (lc, listed)
	{
		RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));
		const Member *member = find_member(members, table->relid);
		bool leaves = table->until != InvalidXLogRecPtr;

		waits |= leaves;
		if (!leaves && table->followed &&
			(member == nullptr || member->filtered || !equal(member->only_attributes, table->only_attributes)))
			leaves = !plan_change(&plan, table, member);
		if (!leaves)
			working->tables = lappend(working->tables, table);
	}
	/* A root may take the place of its partitions, and a table that leaves come back: so these come behind those. */
	waits |= plan.leaving != NIL;
	foreach (lc, members)
	{
		const Member *member = static_cast<Member *>(lfirst(lc));
		RegistryTable *table;
		bool known = false;
		ListCell *lc2;

		foreach (lc2, listed)
			known |= static_cast<RegistryTable *>(lfirst(lc2))->relid == member->relid;
		if (known)
			continue;
		table = describe(working, member, 1, &plan);
		if (table == nullptr)
			continue;
		if (!waits)
			plan.added = lappend(plan.added, table);
		working->tables = lappend(working->tables, table);
	}
	return plan;
}

static bool
same_left_out(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(RegistryLeftOut)) == 0;
}

static void
say(const char *what, const char *schema, const char *name, const char *reason)
{
	ereport(LOG, (errmsg("siphon: application \"%s\" follows its publication: table \"%s.%s\" %s", app->name, schema,
						 name, what),
				  reason ? errdetail("%s", reason) : 0));
}

/*
 * Where tables leave that are seen to have left. Flushed, so that decoding comes there also when nobody writes; behind
 * the header of a page there is nothing yet that would be decoded.
 */
static XLogRecPtr
place_to_leave(void)
{
	XLogRecPtr place = siphon_visible_wal();
	uint32 header = XLogSegmentOffset(place, wal_segment_size) < XLOG_BLCKSZ ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;

	if (place % XLOG_BLCKSZ == header)
		place -= header;
	if (!RecoveryInProgress())
		XLogFlush(place);
	return place;
}

/* Does what is planned, in one change of the registry. The application is locked, so nobody else adds or removes. */
static void
apply_plan(const Changes *plan, const char *problem)
{
	XLogRecPtr place = plan->leaving ? place_to_leave() : InvalidXLogRecPtr;
	Registry *registry = registry_begin_change(app->name);
	RegistryTable *table;
	ListCell *lc;

	if (registry == nullptr)
		return;
	copy_text(registry->follow_reason, problem, sizeof(registry->follow_reason));
	if (problem == nullptr)
		registry->left_out = plan->left_out;
	foreach (lc, plan->leaving)
	{
		const RegistryRemoved *leaving = static_cast<RegistryRemoved *>(lfirst(lc));

		if ((table = registry_find(registry, leaving->relid)) != nullptr)
			table->until = place;
	}
	foreach (lc, plan->removed)
	{
		const RegistryRemoved *removed = static_cast<RegistryRemoved *>(lfirst(lc));

		if ((table = registry_find(registry, removed->relid)) != nullptr)
			listing_remove(registry, table);
	}
	foreach (lc, plan->changed)
	{
		const RegistryTable *changed = static_cast<RegistryTable *>(lfirst(lc));

		if ((table = registry_find(registry, changed->relid)) != nullptr)
			listing_change(registry, table, changed, Effect::Resync);
	}
	foreach (lc, plan->added)
		listing_add(registry, static_cast<RegistryTable *>(lfirst(lc)));
	registry_end_change(registry);
}

/*
 * What follows from it for those that run, outside of a transaction: it waits for processes that read catalogs, and a
 * lock on one of those could be what they wait for, behind somebody who wants all of it.
 */
static void
tell(const Changes *plan)
{
	ListCell *lc;

	foreach (lc, plan->leaving)
	{
		const RegistryRemoved *table = static_cast<RegistryRemoved *>(lfirst(lc));

		say("left", table->schema, table->name, "What was committed before is published.");
	}
	foreach (lc, plan->removed)
	{
		const RegistryRemoved *removed = static_cast<RegistryRemoved *>(lfirst(lc));

		snapshot_cancel(app->name, removed->relid);
		say("left", removed->schema, removed->name, nullptr);
	}
	foreach (lc, plan->changed)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		snapshot_cancel(app->name, table->relid);
		say("has other columns", table->schema, table->name, nullptr);
	}
	foreach (lc, plan->added)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		say("entered", table->schema, table->name, nullptr);
	}
	foreach (lc, plan->left_out)
	{
		const RegistryLeftOut *table = static_cast<RegistryLeftOut *>(lfirst(lc));

		say("is left out", table->schema, table->name, table->reason);
	}
}

enum class Outcome {
	Nothing, /* was to be done */
	Busy,    /* the application is; look again */
	Changed,
	Over /* the application follows no publication any more */
};

/* In a transaction, and in a memory context that outlives it. */
static Outcome
follow(Changes *plan)
{
	const char *problem;
	Registry *registry;
	Registry working;

	/* Who has it locked may wait for us to end. */
	if (!application_try_lock(app->name))
		return Outcome::Busy;
	registry = registry_read(app->name);
	if (registry == nullptr || registry->publication[0] == '\0' || registry->database != MyDatabaseId)
		return Outcome::Over;
	PushActiveSnapshot(GetTransactionSnapshot());
	problem = follow_problem(registry->publication);
	working = *registry;
	if (problem == nullptr)
		*plan = make_plan(&working, read_members(registry->publication));
	PopActiveSnapshot();
	if (plan->leaving == NIL && plan->removed == NIL && plan->added == NIL && plan->changed == NIL &&
		(problem || listing_same(plan->left_out, registry->left_out, same_left_out)) &&
		strcmp(registry->follow_reason, problem ? problem : "") == 0)
		return Outcome::Nothing;
	if (problem)
		ereport(LOG, (errmsg("siphon: application \"%s\" can't follow publication \"%s\": %s", app->name,
							 registry->publication, problem),
					  errdetail("Its tables stay as they are."),
					  errhint("%s", follow_hint(registry->publication, problem))));
	apply_plan(plan, problem);
	application_tell(app);
	return Outcome::Changed;
}

static void
note_relation(Datum, Oid)
{
	catalogs_changed = true;
}

static void
note_publication(Datum, int, uint32)
{
	catalogs_changed = true;
}

static void
detach(int, Datum)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app->follower_pid = 0;
	app->follower_latch = nullptr;
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&app->changed);
	shared_wake_launcher();
}

/* Becomes the application's follower, unless it has one, or is being dropped. Returns its database. */
static Oid
attach(int index)
{
	Oid database;

	app = &siphon_shared->apps[index];
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	database = app->database;
	if (!app->in_use || app->stop || app->follower_pid != 0 || !OidIsValid(database))
	{
		LWLockRelease(siphon_shared->lock);
		proc_exit(0);
	}
	app->follower_pid = MyProcPid;
	app->follower_latch = MyLatch;
	LWLockRelease(siphon_shared->lock);
	on_shmem_exit(detach, 0);
	return database;
}

/* So that people see why nothing is followed. NULL: it is. */
static void
say_error(const char *message)
{
	if (message == nullptr && app->follower_error[0] == '\0')
		return;
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	copy_text(app->follower_error, message, sizeof(app->follower_error));
	LWLockRelease(siphon_shared->lock);
}

/* Looks at the publication if something changed. False if there is none to follow. */
static bool
look(MemoryContext context)
{
	static uint64 seen;
	uint64 writes = pg_atomic_read_u64(&siphon_shared->registry_writes);
	Outcome outcome = Outcome::Nothing;
	Changes plan = {};

	/* Its begin takes what others, or the WAL that is replayed, said of catalogs. */
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	if (catalogs_changed || writes != seen)
	{
		catalogs_changed = false;
		outcome = follow(&plan);
		if (outcome == Outcome::Busy)
			catalogs_changed = true;
		seen = writes;
	}
	CommitTransactionCommand();
	say_error(nullptr);
	if (outcome == Outcome::Changed)
	{
		tell(&plan);
		shared_wake_launcher();
	}
	MemoryContextReset(context);
	return outcome != Outcome::Over;
}

static void
follow_on(MemoryContext context)
{
	while (!*const_cast<volatile bool *>(&app->stop) && look(context))
	{
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kPollMs, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

void
siphon_follower_main(Datum arg)
{
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	session_connect(attach(DatumGetInt32(arg)), "siphon follower");
	CacheRegisterRelcacheCallback(note_relation, 0);
	CacheRegisterSyscacheCallback(PUBLICATIONOID, note_publication, 0);
	CacheRegisterSyscacheCallback(PUBLICATIONRELMAP, note_publication, 0);
	CacheRegisterSyscacheCallback(PUBLICATIONNAMESPACEMAP, note_publication, 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, note_publication, 0);
	context = AllocSetContextCreate(TopMemoryContext, "siphon follower", ALLOCSET_DEFAULT_SIZES);

	PG_TRY();
	{
		follow_on(context);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		LWLockReleaseAll();
		say_error(CopyErrorData()->message);
		PG_RE_THROW();
	}
	PG_END_TRY();
	proc_exit(0);
}
