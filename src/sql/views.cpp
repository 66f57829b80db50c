/*
 * What people look at: the set-returning functions behind the views siphon_applications, siphon_stats, siphon_tables and
 * siphon_snapshot_progress. They put the registry (what should be) and shared memory (what is) side by side.
 */
#include "application.h"
#include "registry/checks.h"
#include "launcher/publication.h"
#include "decode/decoder_stats.h"
#include "registry/retained_wal.h"
#include "server/function_version.h"
#include "snapshot/snapshot.h"
#include "decode/warnings.h"

extern "C" {
PG_FUNCTION_INFO_V1(siphon_get_applications);
PG_FUNCTION_INFO_V1(siphon_get_stats);
PG_FUNCTION_INFO_V1(siphon_get_tables);
PG_FUNCTION_INFO_V1(siphon_get_snapshots);
}

/* A publisher whose last heartbeat is older than this is not attached. */
static constexpr int64 kPublisherSilence = 5 * USECS_PER_SEC;

/* A row under construction; columns in the order of the function's OUT parameters. */
struct Row
{
	Datum values[32];
	bool nulls[32];
	int count;
};

static void
put_datum(Row *row, Datum datum)
{
	row->values[row->count] = datum;
	row->nulls[row->count++] = false;
}

static void
put_null(Row *row)
{
	row->values[row->count] = 0;
	row->nulls[row->count++] = true;
}

static void
put_text(Row *row, const char *text)
{
	if (text == nullptr || text[0] == '\0')
		put_null(row);
	else
		put_datum(row, CStringGetTextDatum(text));
}

static void
put_lsn(Row *row, uint64 lsn)
{
	if (lsn == InvalidXLogRecPtr)
		put_null(row);
	else
		put_datum(row, LSNGetDatum(lsn));
}

static void
put_count(Row *row, uint64 count)
{
	put_datum(row, Int64GetDatum(static_cast<int64>(count)));
}

/* In milliseconds, as PostgreSQL's own views have times. */
static void
put_nanoseconds(Row *row, uint64 ns)
{
	put_datum(row, Float8GetDatum(static_cast<double>(ns) / 1e6));
}

/* Shared memory's part of an application, copied out under its lock. */
struct Live
{
	AppState state;
	char reason[kReasonLength];
	char hint[kReasonLength];
	char follower_error[kReasonLength];
	pid_t decoder_pid;
	uint64 metrics[static_cast<int>(AppMetric::Count)];
};

static bool
copy_live(const char *application, Live *live)
{
	SharedApplication *app;

	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	app = shmem_find_application(application);
	if (app)
	{
		live->state = app->state;
		strlcpy(live->reason, app->reason, sizeof(live->reason));
		strlcpy(live->hint, app->hint, sizeof(live->hint));
		strlcpy(live->follower_error, app->follower_error, sizeof(live->follower_error));
		live->decoder_pid = app->decoder_pid;
		for (int i = 0; i < static_cast<int>(AppMetric::Count); i++)
			live->metrics[i] = pg_atomic_read_u64(&app->metrics[i]);
	}
	LWLockRelease(siphon_shared->lock);
	return app != nullptr;
}

static uint64
get_live_metric(const Live *live, AppMetric metric)
{
	return live->metrics[static_cast<int>(metric)];
}

/* Reads a registry for a view. A damaged one becomes a row of its own, not the end of the view. */
static Registry *
read_for_view(const char *application, char **error)
{
	Registry *volatile registry = nullptr;
	MemoryContext context = CurrentMemoryContext;

	*error = nullptr;
	PG_TRY();
	{
		registry = registry_read(application);
	}
	PG_CATCH();
	{
		ErrorData *data;

		MemoryContextSwitchTo(context);
		data = CopyErrorData();
		if (data->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
		*error = data->message;
	}
	PG_END_TRY();
	return registry;
}

static void
put_live(Row *row, const Live *live, const Registry *registry)
{
	RetainedWal retained;
	XLogRecPtr now = get_received_wal();
	XLogRecPtr confirmed = get_live_metric(live, AppMetric::Confirmed);
	bool attached =
		live->decoder_pid != 0 && get_live_metric(live, AppMetric::PublisherSeen) != 0 &&
		unix_microseconds(GetCurrentTimestamp()) - static_cast<int64>(get_live_metric(live, AppMetric::PublisherSeen)) <
			kPublisherSilence;

	if (live->decoder_pid)
		put_datum(row, Int32GetDatum(live->decoder_pid));
	else
		put_null(row);
	put_datum(row, BoolGetDatum(attached));
	put_lsn(row, get_live_metric(live, AppMetric::Decoded));
	put_lsn(row, confirmed);
	if (confirmed != InvalidXLogRecPtr)
		put_count(row, now > confirmed ? now - confirmed : 0);
	else
		put_null(row);
	if (registry && read_retained_wal(registry->slot, registry->database, &retained))
		put_count(row, retained.bytes);
	else
		put_null(row);
	put_count(row, get_live_metric(live, AppMetric::RingSize));
	put_count(row, get_live_metric(live, AppMetric::RingUsed));
	put_count(row, get_live_metric(live, AppMetric::Transactions));
	put_count(row, get_live_metric(live, AppMetric::Events));
	put_count(row, get_live_metric(live, AppMetric::Packages));
	put_count(row, get_live_metric(live, AppMetric::Bytes));
	if (get_live_metric(live, AppMetric::LastEvent))
		put_datum(row, TimestampTzGetDatum(static_cast<TimestampTz>(get_live_metric(live, AppMetric::LastEvent))));
	else
		put_null(row);
	put_count(row, get_live_metric(live, AppMetric::Restarts));
	put_text(row, registry ? registry->publication : nullptr);
}

/* NULL: the application follows its publication, or none. */
static const char *
get_follow_problem(const Registry *registry, const char *error, const char **hint)
{
	if (registry->follow_reason[0])
	{
		*hint = psprintf("%s Or: SELECT siphon_unfollow_publication('%s');",
						 publication_unsupported_hint(registry->publication, registry->follow_reason),
						 registry->application);
		return registry->follow_reason;
	}
	if (registry->publication[0] == '\0' || error[0] == '\0')
		return nullptr;
	return psprintf("it does not follow its publication: %s", error);
}

/*
 * Why the application does not go on, and the hint; where it does, what else is wrong. `error`: of its registry; `live`:
 * NULL if it is not in shared memory.
 */
static void
put_reason(Row *row, const Registry *registry, const char *error, const Live *live)
{
	const char *reason = error ? error : live ? live->reason : "";
	const char *hint = live ? live->hint : nullptr;

	if (reason[0] == '\0' && registry)
	{
		uint64 warnings = live && live->decoder_pid != 0 ? get_live_metric(live, AppMetric::Warnings) : 0;

		reason = live ? retention_warning(registry) : nullptr;
		if (reason)
			hint = kRetentionHint;
		else if ((reason = get_follow_problem(registry, live ? live->follower_error : "", &hint)) == nullptr)
			reason = get_warning_reason(warnings, &hint);
	}
	put_text(row, reason);
	put_text(row, hint);
}

extern "C" Datum
siphon_get_applications(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result;
	ListCell *lc;
	List *names;

	check_preloaded();
	result = begin_rows(fcinfo, "siphon_get_applications", 22);
	names = registry_list_applications();
	foreach (lc, names)
	{
		const char *name = static_cast<char *>(lfirst(lc));
		char *error;
		Registry *registry = read_for_view(name, &error);
		Row row = {};
		Live live;
		bool known = copy_live(name, &live);

		if (registry == nullptr && error == nullptr)
			continue; /* dropped meanwhile */
		put_text(&row, name);
		put_text(&row, registry ? registry_get_database_name(registry) : nullptr);
		put_text(&row, registry ? registry->slot : nullptr);
		if (registry && registry->given_up[0])
		{
			put_text(&row, app_state_name(AppState::GivenUp));
			put_text(&row, registry->given_up);
			put_text(&row, resync_hint(name));
		}
		else
		{
			put_text(&row, error ? "failed" : known ? app_state_name(live.state) : "starting");
			put_reason(&row, registry, error, known ? &live : nullptr);
		}
		put_count(&row, registry ? static_cast<uint64>(list_length(registry->tables)) : 0);
		if (!known)
			memset(&live, 0, sizeof(live));
		put_live(&row, &live, registry);
		tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
	}
	return static_cast<Datum>(0);
}

/* How the decoder fares; and, as it says itself in the ring, the publisher. */
static void
put_stats(Row *row, const Live *live, const Registry *registry)
{
	using siphon::PublisherMetric;
	using siphon::RingDuration;

	uint64 other = get_live_metric(live, AppMetric::Events);
	uint64 lag = get_live_metric(live, AppMetric::Lag);
	uint64 limit = retained_wal_limit();
	RetainedWal retained;

	for (int i = 0; i < siphon::kCountedOperations; i++)
	{
		put_count(row, get_live_metric(live, AppMetric::Operations + i));
		other -= get_live_metric(live, AppMetric::Operations + i);
	}
	put_count(row, other);
	for (int i = 0; i < static_cast<int>(RingDuration::Count); i++)
	{
		put_count(row, get_live_metric(live, AppMetric::Durations + 2 * i));
		put_nanoseconds(row, get_live_metric(live, AppMetric::Durations + (2 * i + 1)));
	}
	if (live->decoder_pid != 0 && lag != siphon::kMetricUnknown)
	{
		Interval *interval = static_cast<Interval *>(palloc0(sizeof(Interval)));

		interval->time = static_cast<TimeOffset>(lag);
		put_datum(row, IntervalPGetDatum(interval));
	}
	else
		put_null(row);
	if (limit != siphon::kMetricUnknown && read_retained_wal(registry->slot, registry->database, &retained))
		put_count(row, limit > retained.bytes ? limit - retained.bytes : 0);
	else
		put_null(row);
	for (int i = 0; i < static_cast<int>(PublisherMetric::Count); i++)
	{
		uint64 value = get_live_metric(live, AppMetric::Publisher + i);

		switch (static_cast<PublisherMetric>(i))
		{
			case PublisherMetric::CompressionTime:
			case PublisherMetric::PublishTime:
			case PublisherMetric::CommitTime:
				put_nanoseconds(row, value);
				break;
			default:
				put_count(row, value);
		}
	}
}

extern "C" Datum
siphon_get_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result;
	ListCell *lc;
	List *names;

	check_preloaded();
	result = begin_rows(fcinfo, "siphon_get_stats", 28);
	names = registry_list_applications();
	foreach (lc, names)
	{
		const char *name = static_cast<char *>(lfirst(lc));
		char *error;
		Registry *registry = read_for_view(name, &error);
		Row row = {};
		Live live;

		if (registry == nullptr || !copy_live(name, &live))
			continue; /* siphon_applications tells why */
		put_text(&row, name);
		put_stats(&row, &live, registry);
		tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
	}
	return static_cast<Datum>(0);
}

static Datum
name_array(List *names)
{
	Datum *elements = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<size_t>(Max(list_length(names), 1))));
	int count = 0;
	ListCell *lc;

	foreach (lc, names)
	{
		Name name = static_cast<Name>(palloc0(sizeof(NameData)));

		namestrcpy(name, static_cast<char *>(lfirst(lc)));
		elements[count++] = NameGetDatum(name);
	}
	return PointerGetDatum(construct_array(elements, count, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR));
}

static const char *
table_state(const Registry *registry, const RegistryTable *table, AppState state)
{
	if (registry->given_up[0])
		return "resync needed";
	if (table->dropped)
		return "dropped";
	if (table->phase == TablePhase::Stopped)
		return "failed";
	if (table->end_lsn != InvalidXLogRecPtr)
		return "leaving";
	if (is_table_broken(table))
		return "resync needed";
	if (table->paused && table->phase != TablePhase::Streaming)
		return "paused";
	if (table->phase == TablePhase::Waiting)
		return "waiting for snapshot";
	if (table->phase == TablePhase::Scanning)
		return "snapshot";
	return app_state_name(state);
}

extern "C" Datum
siphon_get_tables(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result;
	ListCell *lc;
	ListCell *lc2;
	List *names;

	check_preloaded();
	result = begin_rows(fcinfo, "siphon_get_tables", 11);
	names = registry_list_applications();
	foreach (lc, names)
	{
		const char *name = static_cast<char *>(lfirst(lc));
		char *error;
		Registry *registry = read_for_view(name, &error);

		if (registry == nullptr)
			continue; /* siphon_applications tells why */
		foreach (lc2, registry->left_out)
		{
			const RegistryLeftOut *table = static_cast<RegistryLeftOut *>(lfirst(lc2));
			Row row = {};

			put_text(&row, name);
			put_text(&row, registry_get_database_name(registry));
			put_datum(&row, ObjectIdGetDatum(table->relid));
			put_text(&row, table->schema);
			put_text(&row, table->name);
			put_null(&row);
			put_null(&row);
			put_text(&row, "left out");
			put_text(&row, table->reason);
			put_null(&row);
			put_null(&row);
			tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
		}
		foreach (lc2, registry->tables)
		{
			const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc2));
			Row row = {};
			Live live;

			put_text(&row, name);
			put_text(&row, registry_get_database_name(registry));
			put_datum(&row, ObjectIdGetDatum(table->relid));
			put_text(&row, table->schema);
			put_text(&row, table->name);
			put_datum(&row, Int32GetDatum(table->partitions));
			put_datum(&row, name_array(table->exclude_columns));
			put_text(&row, table_state(registry, table, copy_live(name, &live) ? live.state : AppState::Starting));
			put_text(&row, table->reason);
			put_datum(&row, Int32GetDatum(static_cast<int32>(table->generation)));
			put_lsn(&row, table->phase == TablePhase::Waiting ? InvalidXLogRecPtr : table->start_lsn);
			tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
		}
	}
	return static_cast<Datum>(0);
}

extern "C" Datum
siphon_get_snapshots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result;

	check_preloaded();
	result = begin_rows(fcinfo, "siphon_get_snapshots", 13);
	for (int i = 0; i < siphon_max_snapshots; i++)
	{
		SnapshotJob *job = &siphon_snapshots[i];
		Row row = {};
		char application[kApplicationLength];
		SnapshotPhase phase;
		int workers;
		uint64 total = pg_atomic_read_u64(&job->blocks_total);
		/* A table that grew while its scan began has a few more. */
		uint64 done = Min(pg_atomic_read_u64(&job->blocks_done), total);
		uint64 bytes = pg_atomic_read_u64(&job->bytes);
		TimestampTz started;
		double seconds;
		bool paused;

		LWLockAcquire(siphon_shared->lock, LW_SHARED);
		if (!job->in_use || job->idle)
		{
			LWLockRelease(siphon_shared->lock);
			continue;
		}
		strlcpy(application, job->app->name, sizeof(application));
		put_text(&row, application);
		put_datum(&row, ObjectIdGetDatum(job->relid));
		put_datum(&row, Int32GetDatum(static_cast<int32>(job->generation)));
		phase = job->phase;
		workers = job->workers;
		started = job->started;
		paused = job->paused;
		LWLockRelease(siphon_shared->lock);
		seconds = static_cast<double>(GetCurrentTimestamp() - started) / USECS_PER_SEC;
		put_text(&row, snapshot_phase_name(phase));
		put_count(&row, done);
		put_count(&row, total);
		put_count(&row, pg_atomic_read_u64(&job->rows));
		put_count(&row, bytes);
		put_count(&row, seconds > 0 ? static_cast<uint64>(static_cast<double>(bytes) / seconds) : 0);
		if (phase == SnapshotPhase::Scanning && done > 0 && !paused)
			put_datum(&row,
					  TimestampTzGetDatum(GetCurrentTimestamp() +
										  static_cast<int64>(seconds * static_cast<double>(total - Min(done, total)) /
															 static_cast<double>(done) * USECS_PER_SEC)));
		else
			put_null(&row);
		put_datum(&row, Int32GetDatum(workers));
		put_count(&row, pg_atomic_read_u64(&job->held_events));
		put_datum(&row, TimestampTzGetDatum(started));
		tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
	}
	return static_cast<Datum>(0);
}
