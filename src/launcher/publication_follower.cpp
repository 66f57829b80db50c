/*
 * The worker that has an application follow a publication: see publication_follower.h.
 */
#include "publication_follower.h"

#include "registry/notify.h"
#include "registry/table_list.h"
#include "server/oid_hash.h"
#include "publication.h"
#include "publication_watch.h"
#include "server/bgworker.h"
#include "snapshot/snapshot.h"

extern "C" {
#include "common/hashfn.h"
#include "utils/snapmgr.h"
}

static constexpr long kPollMs = 500;
static constexpr long kRestartMs = 2000;
static constexpr long kCheckAgainMs = 10 * 1000;
/* A table that is locked is looked at another time: we have the application locked, for which others wait. */
static constexpr int kLockPatienceMs = 20;
/* To look takes one of so many parts of the time at most. */
static constexpr int kCheckShare = 10;
/* No table leaves as early in the WAL as this. */
static constexpr XLogRecPtr kAtOnce = 1;
static const char *const kFiltered = "the publication has a row filter for it, which siphon does not apply";
static const char *const kLocked = "another session has it locked; siphon tries again";

static SharedApplication *app;

long
publication_follower_manage(Follower *follower, SharedApplication *of)
{
	TimestampTz now = GetCurrentTimestamp();
	bool runs;

	if (follower->handle && bgworker_is_running(follower->handle))
		return kCheckAgainMs;
	if (follower->handle)
		pfree(follower->handle);
	follower->handle = nullptr;
	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	runs = of->follower_pid != 0; /* an earlier launcher started it */
	LWLockRelease(siphon_shared->lock);
	if (!follower->wanted || runs)
		return kCheckAgainMs;
	if (follower->next_start > now)
		return TimestampDifferenceMilliseconds(now, follower->next_start) + 1;
	follower->next_start = TimestampTzPlusMilliseconds(now, kRestartMs);
	follower->handle = bgworker_start("follower", of->name, static_cast<int>(of - siphon_shared->apps));
	return kRestartMs;
}

/* What is to be done to the registry. */
struct FollowPlan
{
	List *leaving;  /* of RegistryRemoved *: tables that leave; */
	List *removed;  /* likewise, those of which nothing is being published */
	List *added;    /* of RegistryTable * */
	List *changed;  /* of RegistryTable *: as they are to be */
	List *left_out; /* of RegistryLeftOut *: all; */
	List *refused;  /* and those of them of which that is new */
	bool again;     /* a table was locked */
};

static void
plan_leaving_out(FollowPlan *plan, Oid relid, const char *reason)
{
	RegistryLeftOut *table = static_cast<RegistryLeftOut *>(palloc0(sizeof(RegistryLeftOut)));

	table->relid = relid;
	read_table_names(relid, table->schema, table->name);
	copy_text(table->reason, reason, sizeof(table->reason));
	/* One that was dropped meanwhile is no member any more. */
	if (table->name[0])
		plan->left_out = lappend(plan->left_out, table);
}

/* NULL: the table is refused, and why. With `locked`, because another session has it locked just now. */
static RegistryTable *
try_build_table(TableListIndex *listed, const PublicationMember *member, int partitions, const char **why, bool *locked)
{
	RegistryTable *table;
	Refusal refusal;

	*why = member->filtered ? kFiltered : publication_watch_get_refusal(member->relid);
	*locked = false;
	if (*why)
		return nullptr;
	LockTimeout = kLockPatienceMs;
	table = table_list_try_build_entry(listed, member->relid, partitions, member->exclude_columns, &refusal);
	LockTimeout = 0;
	if (table)
		return table;
	*locked = refusal.sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
	if (*locked)
		*why = kLocked;
	else
	{
		*why = refusal.hint ? psprintf("%s; %s", refusal.reason, refusal.hint) : refusal.reason;
		publication_watch_note_refusal(member->relid, *why);
	}
	return nullptr;
}

/*
 * A member as it is to be published; NULL if it is left out. `listed` has what else is published, but for the table
 * itself.
 */
static RegistryTable *
build_member_entry(TableListIndex *listed, const PublicationMember *member, int partitions, FollowPlan *plan)
{
	const char *why;
	bool locked;
	RegistryTable *table = try_build_table(listed, member, partitions, &why, &locked);

	plan->again |= locked;
	if (table == nullptr)
	{
		plan_leaving_out(plan, member->relid, why);
		return nullptr;
	}
	table->only_attributes = member->only_attributes;
	table->followed = table->rows = true;
	table->workers = siphon_snapshot_workers;
	return table;
}

static RegistryRemoved *
copy_names(const RegistryTable *table)
{
	RegistryRemoved *names = static_cast<RegistryRemoved *>(palloc0(sizeof(RegistryRemoved)));

	names->relid = table->relid;
	strlcpy(names->schema, table->schema, sizeof(names->schema));
	strlcpy(names->name, table->name, sizeof(names->name));
	return names;
}

/*
 * A listed table that the publication does not have any more, or not as it was. What was committed before is published
 * still, so one whose changes are being published leaves at a place of the WAL: see removed_tables.h. True if it stays.
 */
static bool
plan_change(FollowPlan *plan, const RegistryTable *table, const PublicationMember *member)
{
	FollowPlan tried = {};
	bool publishes = table->phase == TablePhase::Streaming;
	RegistryTable *changed = member ? build_member_entry(nullptr, member, table->partitions, &tried) : nullptr;

	if (tried.again)
	{
		plan->again = true;
		return true;
	}
	if (!publishes)
		plan->left_out = list_concat(plan->left_out, tried.left_out);
	if (changed)
	{
		changed->workers = table->workers;
		plan->changed = lappend(plan->changed, changed);
	}
	else if (publishes)
		plan->leaving = lappend(plan->leaving, copy_names(table));
	else
		plan->removed = lappend(plan->removed, copy_names(table));
	return changed != nullptr;
}

struct MemberEntry
{
	Oid relid; /* hash key */
	const PublicationMember *member;
};

static HTAB *
members_by_oid(List *members)
{
	HTAB *by_oid = oid_hash_make<MemberEntry>("siphon members", CurrentMemoryContext);
	ListCell *lc;

	foreach (lc, members)
	{
		const PublicationMember *member = static_cast<PublicationMember *>(lfirst(lc));

		oid_hash_enter<MemberEntry>(by_oid, member->relid)->member = member;
	}
	return by_oid;
}

static bool
is_as_listed(const PublicationMember *member, const RegistryTable *table)
{
	return member && !member->filtered && equal(member->only_attributes, table->only_attributes);
}

static FollowPlan
make_follow_plan(const Registry *registry, List *members)
{
	Registry none = *registry;
	FollowPlan plan = {};
	bool waits = false;
	HTAB *by_oid = members_by_oid(members);
	HTAB *tables = index_tables_by_oid(registry);
	TableListIndex *staying;
	ListCell *lc;

	none.tables = NIL;
	staying = table_list_index_create(&none);
	foreach (lc, registry->tables)
	{
		RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));
		const MemberEntry *entry = oid_hash_find<MemberEntry>(by_oid, table->relid);
		const PublicationMember *member = entry ? entry->member : nullptr;
		bool leaves = is_table_leaving(table);

		waits |= leaves;
		if (!leaves && table->followed && !is_as_listed(member, table))
			leaves = !plan_change(&plan, table, member);
		if (!leaves)
			table_list_index_add(staying, table);
	}
	/* A root may take the place of its partitions, and a table that leaves come back: so these come behind those. */
	waits |= plan.leaving != NIL;
	foreach (lc, members)
	{
		const PublicationMember *member = static_cast<PublicationMember *>(lfirst(lc));
		RegistryTable *table;

		if (find_table_by_oid(tables, member->relid))
			continue;
		table = build_member_entry(staying, member, 1, &plan);
		if (table == nullptr)
			continue;
		if (!waits)
			plan.added = lappend(plan.added, table);
		table_list_index_add(staying, table);
	}
	return plan;
}

static bool
is_same_left_out(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(RegistryLeftOut)) == 0;
}

static void
log_table_change(const char *what, const char *schema, const char *name, const char *reason)
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
get_end_lsn(void)
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
apply_plan(const FollowPlan *plan, const char *problem)
{
	XLogRecPtr place = plan->leaving ? get_end_lsn() : InvalidXLogRecPtr;
	Registry *registry = registry_begin_change(app->name);
	RegistryTable *table;
	HTAB *tables;
	ListCell *lc;

	if (registry == nullptr)
		return;
	tables = index_tables_by_oid(registry);
	copy_text(registry->follow_reason, problem, sizeof(registry->follow_reason));
	if (problem == nullptr)
		registry->left_out = plan->left_out;
	foreach (lc, plan->leaving)
	{
		const RegistryRemoved *leaving = static_cast<RegistryRemoved *>(lfirst(lc));

		if ((table = find_table_by_oid(tables, leaving->relid)) != nullptr)
			table->end_lsn = place;
	}
	foreach (lc, plan->removed)
	{
		const RegistryRemoved *removed = static_cast<RegistryRemoved *>(lfirst(lc));

		if ((table = find_table_by_oid(tables, removed->relid)) != nullptr)
			table->end_lsn = kAtOnce;
	}
	table_list_remove_confirmed(registry, kAtOnce);
	foreach (lc, plan->changed)
	{
		const RegistryTable *changed = static_cast<RegistryTable *>(lfirst(lc));

		if ((table = find_table_by_oid(tables, changed->relid)) != nullptr)
			table_list_alter(registry, table, changed, AlterEffect::Resync);
	}
	foreach (lc, plan->added)
		table_list_add(registry, static_cast<RegistryTable *>(lfirst(lc)));
	registry_end_change(registry);
}

/*
 * What follows from it for those that run, outside of a transaction: it waits for processes that read catalogs, and a
 * lock on one of those could be what they wait for, behind a session that wants all of it.
 */
static void
apply_to_running(const FollowPlan *plan)
{
	ListCell *lc;

	foreach (lc, plan->leaving)
	{
		const RegistryRemoved *table = static_cast<RegistryRemoved *>(lfirst(lc));

		log_table_change("left", table->schema, table->name, "What was committed before is published.");
	}
	foreach (lc, plan->removed)
	{
		const RegistryRemoved *removed = static_cast<RegistryRemoved *>(lfirst(lc));

		snapshot_cancel(app->name, removed->relid);
		log_table_change("left", removed->schema, removed->name, nullptr);
	}
	foreach (lc, plan->changed)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		snapshot_cancel(app->name, table->relid);
		log_table_change("has other columns", table->schema, table->name, nullptr);
	}
	foreach (lc, plan->added)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		log_table_change("entered", table->schema, table->name, nullptr);
	}
	foreach (lc, plan->refused)
	{
		const RegistryLeftOut *table = static_cast<RegistryLeftOut *>(lfirst(lc));

		log_table_change("is left out", table->schema, table->name, table->reason);
	}
}

enum class Outcome {
	Nothing, /* was to be done */
	Busy,    /* the application is; look again */
	Changed,
	Over /* the application follows no publication any more */
};

struct LeftOutEntry
{
	Oid relid; /* hash key */
	const RegistryLeftOut *table;
};

/* Those that are not among the others, or not for the same reason. */
static List *
list_new_left_out(List *left_out, List *others)
{
	HTAB *by_oid = oid_hash_make<LeftOutEntry>("siphon left out", CurrentMemoryContext);
	List *found = NIL;
	ListCell *lc;

	foreach (lc, others)
	{
		const RegistryLeftOut *table = static_cast<RegistryLeftOut *>(lfirst(lc));

		oid_hash_enter<LeftOutEntry>(by_oid, table->relid)->table = table;
	}
	foreach (lc, left_out)
	{
		const RegistryLeftOut *table = static_cast<RegistryLeftOut *>(lfirst(lc));
		const LeftOutEntry *entry = oid_hash_find<LeftOutEntry>(by_oid, table->relid);

		if (entry == nullptr || !is_same_left_out(entry->table, table))
			found = lappend(found, lfirst(lc));
	}
	return found;
}

/* Which tables are listed may keep others out. */
static void
forget_refusals_if_list_changed(const Registry *registry)
{
	static uint64 last;
	uint64 listed = 0;
	ListCell *lc;

	foreach (lc, registry->tables)
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		listed = hash_combine64(listed, uint64{table->relid} * 2 + is_table_leaving(table));
	}
	if (listed != last)
		publication_watch_forget_refusals();
	last = listed;
}

/* In a transaction, and in a memory context that outlives it. */
static Outcome
update_from_publication(FollowPlan *plan)
{
	const char *problem;
	Registry *registry;

	/* Who has it locked may wait for us to end. */
	if (!application_try_lock(app->name))
		return Outcome::Busy;
	publication_watch_begin();
	registry = registry_read(app->name);
	if (registry == nullptr || registry->publication[0] == '\0' || registry->database != MyDatabaseId)
		return Outcome::Over;
	forget_refusals_if_list_changed(registry);
	PushActiveSnapshot(GetTransactionSnapshot());
	problem = publication_unsupported_reason(registry->publication);
	if (problem == nullptr)
		*plan = make_follow_plan(registry, list_publication_members(registry->publication));
	PopActiveSnapshot();
	plan->refused = list_new_left_out(plan->left_out, registry->left_out);
	if (plan->leaving == NIL && plan->removed == NIL && plan->added == NIL && plan->changed == NIL &&
		(problem || (plan->refused == NIL && list_length(plan->left_out) == list_length(registry->left_out))) &&
		strcmp(registry->follow_reason, problem ? problem : "") == 0)
		return Outcome::Nothing;
	if (problem)
		ereport(LOG, (errmsg("siphon: application \"%s\" cannot follow publication \"%s\": %s", app->name,
							 registry->publication, problem),
					  errdetail("Its tables stay as they are."),
					  errhint("%s", publication_unsupported_hint(registry->publication, problem))));
	apply_plan(plan, problem);
	application_wake_decoder(app);
	return Outcome::Changed;
}

static void
detach_from_application(int, Datum)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app->follower_pid = 0;
	app->follower_latch = nullptr;
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&app->changed);
	wake_launcher();
}

/* Becomes the application's follower, unless it has one, is being dropped, or was stopped. Returns its database. */
static Oid
attach_to_application(int index)
{
	Oid database;

	app = &siphon_shared->apps[index];
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	database = app->database;
	/* One that the launcher began to start before the application was stopped sees one of the two. */
	if (!app->in_use || app->stop || app->state == AppState::Stopped || app->follower_pid != 0 || !OidIsValid(database))
	{
		LWLockRelease(siphon_shared->lock);
		proc_exit(0);
	}
	app->follower_pid = MyProcPid;
	app->follower_latch = MyLatch;
	LWLockRelease(siphon_shared->lock);
	on_shmem_exit(detach_from_application, 0);
	return database;
}

/* So that people see why nothing is followed. NULL: it is. */
static void
set_follower_error(const char *message)
{
	if (message == nullptr && app->follower_error[0] == '\0')
		return;
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	copy_text(app->follower_error, message, sizeof(app->follower_error));
	LWLockRelease(siphon_shared->lock);
}

/* Looks at the publication if something changed. False if there is none to follow. */
static bool
check_publication(MemoryContext context)
{
	static uint64 seen;
	static bool due = true;
	static TimestampTz rests_until;
	uint64 writes = pg_atomic_read_u64(registry_get_write_counter(app->name));
	TimestampTz now = GetCurrentTimestamp();
	Outcome outcome = Outcome::Nothing;
	FollowPlan plan = {};

	/* Its begin takes what others, or the WAL that is replayed, said of catalogs. */
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	due |= publication_watch_has_news() || writes != seen;
	if (due && now >= rests_until)
	{
		outcome = update_from_publication(&plan);
		due = outcome == Outcome::Busy || plan.again;
		if (outcome != Outcome::Busy)
			seen = writes;
		rests_until = now + (kCheckShare - 1) * (GetCurrentTimestamp() - now);
	}
	CommitTransactionCommand();
	set_follower_error(nullptr);
	if (outcome == Outcome::Changed)
	{
		apply_to_running(&plan);
		wake_launcher();
	}
	MemoryContextReset(context);
	return outcome != Outcome::Over;
}

static void
follow_publication(MemoryContext context)
{
	while (!*const_cast<volatile bool *>(&app->stop) && check_publication(context))
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
	bgworker_connect(attach_to_application(DatumGetInt32(arg)), "siphon follower");
	publication_watch_init();
	context = AllocSetContextCreate(TopMemoryContext, "siphon follower", ALLOCSET_DEFAULT_SIZES);

	PG_TRY();
	{
		follow_publication(context);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		LWLockReleaseAll();
		set_follower_error(CopyErrorData()->message);
		PG_RE_THROW();
	}
	PG_END_TRY();
	proc_exit(0);
}
