/*
 * The decoder's process: start-up, the loop over WAL records, and what is done in between.
 *
 * It decodes outside of a transaction, as walsender does, so that it pins no snapshot. An error ends the
 * process: that is the one way out of logical decoding that leaves nothing behind, and the launcher starts it again.
 */
#include "decoder.h"

#include "server/blame.h"
#include "decoder_history.h"
#include "catalogs/attach_scan.h"
#include "encode/leaves.h"
#include "registry/table_list.h"
#include "registry_mirror.h"
#include "decoder_output.h"
#include "encode/package.h"
#include "removed_tables.h"
#include "decoder_stats.h"
#include "registry/retained_wal.h"
#include "server/ring_producer.h"
#include "server/bgworker.h"
#include "registry/slot_place.h"
#include "standby_wait.h"
#include "encode/table_settings.h"
#include "warnings.h"
#include "server/worker.h"

bool decoder_running = false;

/* The one of this process. */
struct Decoder
{
	SharedApplication *app;
	uint64 registry_loaded; /* the version that was */
	MemoryContext registry_context;
	XLogRecPtr decoded_lsn;         /* WAL up to here was decoded */
	XLogRecPtr transaction_end_lsn; /* of the transaction whose changes are being handed out, or 0 */
	XLogRecPtr last_commit_lsn;     /* of the last transaction with events */
	TimestampTz last_commit_time;
	XLogRecPtr watermark_lsn;  /* commit LSN of the last watermark */
	TimestampTz pending_since; /* when the first event was added since the last flush, or 0 */
	uint32 ticks;
	bool invalidating; /* a transaction has ended, and PostgreSQL forgets what it has changed in catalogs */
};

static Decoder decoder;

/* With siphon.flush_interval = 0 and WAL that is never drained, events still do not wait for longer than this. */
static constexpr int kBusyFlushMs = 10;
/*
 * Nor for less than this while earlier ones are in flight: packages of few events cost publisher and stream too much.
 */
static constexpr int kGatherMs = 2;
static constexpr long kIdleWaitMs = 500;

/* True if that changed the registry. */
static bool
begin_new_tables_here(const Registry *registry)
{
	XLogRecPtr here = decoder.transaction_end_lsn ? decoder.transaction_end_lsn : decoder.decoded_lsn;
	Registry *changed = nullptr;
	ListCell *lc;

	foreach (lc, tables_list_changed(registry))
	{
		const RegistryTable *table = static_cast<RegistryTable *>(lfirst(lc));

		if (!is_published_phase(table->phase) || table->start_lsn >= here ||
			is_table_known(table->relid, table->generation))
			continue;
		if (changed == nullptr)
			changed = registry_copy(registry, InvalidOid);
		registry_find_table(changed, table->relid)->start_lsn = here;
	}
	if (changed)
		registry_write(changed);
	return changed != nullptr;
}

/*
 * Takes the registry's tables. One that is new to this process is published from where decoding stands,
 * if that is later than the registry says: its earlier transactions were decoded without it, and must not come
 * up after a restart either. So that is made durable before the caller of siphon_add_table() hears of it.
 */
static void
load_registry(bool first)
{
	uint64 wanted = pg_atomic_read_u64(&decoder.app->registry_wanted);
	MemoryContext caller = MemoryContextSwitchTo(decoder.registry_context);
	const Registry *registry;

	LWLockAcquire(registry_lock(decoder.app->name), LW_EXCLUSIVE);
	registry = registry_get(decoder.app->name);
	if (registry && !first && begin_new_tables_here(registry))
		registry = registry_get(decoder.app->name);
	if (registry == nullptr)
		ereport(FATAL, (errmsg("siphon: application \"%s\" was dropped", decoder.app->name)));
	LWLockRelease(registry_lock(decoder.app->name));

	tables_load(registry);
	decoder_stats_count_tables(registry);
	if (removed_tables_load(registry))
		decoder_note_events();
	MemoryContextSwitchTo(caller);
	MemoryContextReset(decoder.registry_context);

	/* So that what a call returns from is soon on the standbys too. */
	registry_mirror_poll(GetCurrentTimestamp());
	decoder.registry_loaded = wanted;
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	decoder.app->registry_loaded = wanted;
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&decoder.app->changed);
}

static void
poll_removed_tables(void)
{
	MemoryContext caller = MemoryContextSwitchTo(decoder.registry_context);

	removed_tables_poll_acks(decoder.app->name);
	if (removed_tables_drop_confirmed(decoder.app->name, app_metric_get(decoder.app, AppMetric::Confirmed)))
		pg_atomic_fetch_add_u64(&decoder.app->registry_wanted, 1);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(decoder.registry_context);
}

void
decoder_poll(TimestampTz now)
{
	CHECK_FOR_INTERRUPTS();
	if (*const_cast<volatile bool *>(&decoder.app->stop))
	{
		ereport(LOG,
				(errmsg("siphon: application \"%s\" stops: it is being dropped or resynchronized", decoder.app->name)));
		proc_exit(0);
	}
	/* The launcher has said so in the log. */
	if (*const_cast<volatile bool *>(&decoder.app->giving_up))
		proc_exit(0);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	poll_removed_tables();
	if (pg_atomic_read_u64(&decoder.app->registry_wanted) != decoder.registry_loaded)
		load_registry(false);
	history_poll(decoder.app->name);
	registry_mirror_poll(now);
	decoder_output_confirm(now, decoder.pending_since == 0 && decoder.transaction_end_lsn == 0, decoder.decoded_lsn);
}

/* Writes out all packages, and the watermark of the last transaction that is complete in them. */
static void
flush_packages(void)
{
	packages_write_all();
	removed_tables_write(decoder.decoded_lsn);
	if (decoder.last_commit_lsn > decoder.watermark_lsn)
	{
		decoder_output_write_watermark(decoder.last_commit_lsn, decoder.last_commit_time, decoder.decoded_lsn);
		decoder.watermark_lsn = decoder.last_commit_lsn;
	}
	decoder.pending_since = 0;
}

void
decoder_tick(void)
{
	TimestampTz now;

	decoder.invalidating = false;
	if (likely((++decoder.ticks & 63) != 0))
		return;
	now = GetCurrentTimestamp();
	decoder_poll(now);
	if (decoder.pending_since &&
		now - decoder.pending_since >= int64{1000} * Max(siphon_flush_interval_ms, kBusyFlushMs))
		flush_packages();
}

long
decoder_write_due(TimestampTz now)
{
	decoder_poll(now);
	if (decoder.pending_since)
	{
		int interval =
			decoder_output_has_unacked() ? Max(siphon_flush_interval_ms, kGatherMs) : siphon_flush_interval_ms;
		int64 left = decoder.pending_since + int64{1000} * interval - now;

		if (left > 0)
			return Min(static_cast<long>(left / 1000 + 1), kIdleWaitMs);
		flush_packages();
	}
	return kIdleWaitMs;
}

long
decoder_note_caught_up(XLogRecPtr available)
{
	TimestampTz now = GetCurrentTimestamp();

	decoder_output_note_caught_up(now, available);
	return decoder_write_due(now);
}

void
decoder_transaction_begin(XLogRecPtr end)
{
	decoder.transaction_end_lsn = end;
	decoder_stats_begin_transaction();
}

void
decoder_transaction_end(XLogRecPtr commit_lsn, TimestampTz commit_time, bool with_events)
{
	decoder.transaction_end_lsn = 0;
	decoder.invalidating = true;
	decoder_stats_end_transaction();
	app_metric_add(decoder.app, AppMetric::Transactions, 1);
	if (!with_events)
		return;
	decoder.last_commit_lsn = commit_lsn;
	decoder.last_commit_time = commit_time;
	decoder_note_events();
}

void
decoder_note_events(void)
{
	if (decoder.pending_since == 0)
		decoder.pending_since = GetCurrentTimestamp();
}

void
decoder_note_message(XLogRecPtr lsn)
{
	decoder.last_commit_lsn = lsn;
	decoder_note_events();
}

void
decoder_request_registry_load(void)
{
	pg_atomic_fetch_add_u64(&decoder.app->registry_wanted, 1);
}

const char *
decoder_get_application(void)
{
	return decoder.app->name;
}

/*
 * With `resync`, consumers that have the table's rows get a new snapshot. One that is running may end, and what follows
 * it is the next generation.
 */
static void
note_unpublishable_change(Oid relid, const char *what, bool resync)
{
	const char *name = get_quoted_table_name(relid);
	Registry *registry = registry_begin_change(decoder.app->name);
	RegistryTable *table = registry ? registry_find_table(registry, relid) : nullptr;
	bool requested = table && table->rows && resync && table->end_lsn == InvalidXLogRecPtr;

	/* If a new snapshot is due or runs already, it may be from before this. */
	if (requested)
		table_list_request_snapshot(registry, table);
	if (table)
		copy_text(table->reason, what, sizeof(table->reason));
	if (registry)
	{
		registry_end_change(registry);
		decoder_stats_count_tables(registry);
	}
	ereport(LOG, (errmsg("siphon: table %s needs a resync: it %s", name, what),
				  requested ? errdetail("A new snapshot of the table has been scheduled.")
							: errhint("Run SELECT siphon_resync_table(%s, '%s') to take a new snapshot.",
									  quote_literal_cstr(name), decoder.app->name)));
	if (requested)
	{
		pg_atomic_fetch_add_u64(&decoder.app->registry_wanted, 1);
		load_registry(false);
		wake_launcher();
	}
}

void
decoder_request_resync(Oid relid, const char *what)
{
	note_unpublishable_change(relid, what, true);
}

void
decoder_report_unpublishable_change(Oid relid, const char *what)
{
	note_unpublishable_change(relid, what, false);
}

void
decoder_report_obstacle(Oid relid, const Obstacle *obstacle)
{
	Registry *registry = registry_begin_change(decoder.app->name);
	RegistryTable *table = registry ? registry_find_table(registry, relid) : nullptr;
	char reason[sizeof(table->reason)];

	copy_text(reason, psprintf("%s (%s)", obstacle->message, obstacle->hint), sizeof(reason));
	/* It may be come upon again and again. */
	if (table == nullptr || strcmp(table->reason, reason) == 0)
	{
		if (registry)
			registry_cancel_change(registry);
		return;
	}
	copy_text(table->reason, reason, sizeof(table->reason));
	registry_end_change(registry);
	decoder_stats_count_tables(registry);
	ereport(LOG, (errmsg("siphon: table %s is not published any more as it should be: %s",
						 quote_qualified_identifier(table->schema, table->name), obstacle->message),
				  obstacle->detail ? errdetail("%s", obstacle->detail) : 0, errhint("%s", obstacle->hint)));
}

/* Counts failures in a row of the same table in the same transaction. */
static int
count_failure(void)
{
	int failures;

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	if (decoder.app->failed_table != blame.relid || decoder.app->failed_at != decoder.transaction_end_lsn)
		decoder.app->failures = 0;
	decoder.app->failed_table = blame.relid;
	decoder.app->failed_at = decoder.transaction_end_lsn;
	failures = ++decoder.app->failures;
	LWLockRelease(siphon_shared->lock);
	return failures;
}

/*
 * A value that its type can't print, as an extension's type may, would end each decoder that comes to it. So its table
 * is published no further, and the others go on. The process ends all the same: nothing else cleans up behind an error.
 */
static void
blame_table(const ErrorData *error)
{
	const char *reason = psprintf("a row cannot be published: %s", get_blame_reason(error));
	int failures = count_failure();
	Registry *registry = registry_begin_change(decoder.app->name);
	RegistryTable *table = registry ? registry_find_table(registry, blame.relid) : nullptr;
	/* Unless it has a resync already. */
	bool stop = table && is_published_phase(table->phase) && failures >= get_max_blamed_attempts(error);

	if (stop)
	{
		table_list_stop_table(registry, table, reason);
		registry_end_change(registry);
	}
	else if (registry)
		registry_cancel_change(registry);
	if (table)
		set_application_state(decoder.app, AppState::Restarting,
							  psprintf("table %s: %s", quote_qualified_identifier(table->schema, table->name), reason),
							  nullptr);
}

/* An error that is no table's, as far as is known. The row that is being put together, PostgreSQL does not name. */
static void
report_error(const ErrorData *error)
{
	if (error->sqlerrcode != ERRCODE_OUT_OF_MEMORY)
		set_application_state(decoder.app, AppState::Restarting, error->message, error->hint);
	else
		set_application_state(
			decoder.app, AppState::Restarting,
			psprintf("%s to decode %s %X/%X: %s", error->message,
					 decoder.transaction_end_lsn ? "the transaction that ends at" : "WAL at",
					 LSN_FORMAT_ARGS(decoder.transaction_end_lsn ? decoder.transaction_end_lsn : decoder.decoded_lsn),
					 error->detail ? error->detail : ""),
			"Give the server more memory: decoding takes that of the largest row three times.");
}

/* Leaves the application to the launcher, with the state that the decoder set last. */
static void
detach_from_application(int, Datum)
{
	ring_producer_unlock();
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	decoder.app->decoder_pid = 0;
	decoder.app->decoder_latch = nullptr;
	if (decoder.app->state == AppState::Streaming || decoder.app->state == AppState::Starting)
	{
		decoder.app->state = AppState::Restarting;
		strlcpy(decoder.app->reason, "the decoder ended; see the server's log", sizeof(decoder.app->reason));
		decoder.app->hint[0] = '\0';
	}
	if (siphon_shared->launcher_latch)
		SetLatch(siphon_shared->launcher_latch);
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&decoder.app->changed);
}

static void
attach_to_application(int index)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	decoder.app = &siphon_shared->apps[index];
	if (!decoder.app->in_use || decoder.app->stop || decoder.app->giving_up ||
		decoder.app->state == AppState::GivenUp || decoder.app->state == AppState::Stopped ||
		decoder.app->decoder_pid != 0)
	{
		LWLockRelease(siphon_shared->lock);
		proc_exit(0);
	}
	decoder.app->decoder_pid = MyProcPid;
	decoder.app->decoder_latch = MyLatch;
	decoder.app->decoder_started = GetCurrentTimestamp();
	decoder.app->state = AppState::Starting;
	LWLockRelease(siphon_shared->lock);
	/* After the callback that releases the slot, so that who waits for our end finds it free. */
	on_shmem_exit(detach_from_application, 0);
}

/* Ends the process: the application is failed until an operator acts. */
[[noreturn]] static void
fail_application(const char *reason, const char *hint)
{
	set_application_state(decoder.app, AppState::Failed, reason, hint);
	ereport(LOG, (errmsg("siphon: application \"%s\" stopped: %s", decoder.app->name, reason), errhint("%s", hint)));
	proc_exit(0);
}

/*
 * A slot that is gone or invalid will not come back: that is a state to report, not a reason to try again.
 */
static void
check_slot(const Registry *registry)
{
	bool exists;
	const char *why = registry_get_slot_problem(registry, &exists);

	if (why)
		fail_application(psprintf("replication slot \"%s\" cannot be used: %s", registry->slot, why),
						 lost_slot_hint(registry));
}

/* Nor does what was committed while another session moved the slot. It is acquired. */
static void
check_slot_place(const Registry *registry)
{
	XLogRecPtr place = slot_place_load(decoder.app->name, registry->history);
	XLogRecPtr confirmed = MyReplicationSlot->data.confirmed_flush;

	if (place != InvalidXLogRecPtr && confirmed > place)
		fail_application(
			psprintf(
				"replication slot \"%s\" was moved from %X/%X to %X/%X by another session, and what was committed in "
				"between is not published",
				registry->slot, LSN_FORMAT_ARGS(place), LSN_FORMAT_ARGS(confirmed)),
			resync_hint(decoder.app->name));
}

/*
 * Called while a transaction is decoded that has nothing for the output plugin, such as the rewrite of a table: once in a
 * hundred changes, which may take long, as those of the catalogs do that drop thousands of tables.
 */
static void
update_progress(LogicalDecodingContext *, XLogRecPtr, TransactionId, bool)
{
	decoder.ticks |= 63; /* so that this one counts */
	decoder_tick();
}

/*
 * Behind a transaction PostgreSQL walks over all relations whose changes were decoded, for each relation that the
 * transaction changed: where a schema of thousands of tables was dropped, for a second or more. The catalogs can't be
 * read there, so that interrupts and acknowledgements are served, and no more.
 */
static void
poll_while_invalidating(Datum, Oid)
{
	if (!decoder.invalidating || (++decoder.ticks & 63) != 0)
		return;
	/* Behind an error PostgreSQL forgets once more. */
	decoder.invalidating = false;
	CHECK_FOR_INTERRUPTS();
	decoder_output_confirm(GetCurrentTimestamp(), false, decoder.decoded_lsn);
	decoder.invalidating = true;
}

/* Outside of decoding catalogs are looked at in a transaction. */
static void
init_warnings(const Registry *registry)
{
	MemoryContext caller = CurrentMemoryContext;

	StartTransactionCommand();
	warnings_init(registry);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

static void
run_decoding(void)
{
	Registry *registry;
	LogicalDecodingContext *context;
	TimeLineID timeline = 0;

	/* Before connecting: a database that was dropped took the slot with it, and that is a state to report too. */
	registry = registry_read(decoder.app->name);
	if (registry == nullptr)
		proc_exit(0);
	check_slot(registry);
	bgworker_connect(registry->database, "siphon decoder");
	registry = registry_mirror_open(decoder.app, registry);
	standby_wait_init(decoder.app);
	tables_init(decoder.app->name);
	leaves_init();
	CacheRegisterRelcacheCallback(poll_while_invalidating, 0);
	packages_init(decoder_output_write);
	load_registry(true);
	init_warnings(registry);

	siphon_slot_acquire(registry->slot);
	/* Once more, now that nobody can put another in its place. */
	check_slot(registry);
	check_slot_place(registry);
	decoder_output_open(decoder.app, registry->history);
	CheckLogicalDecodingRequirements();
	context =
		CreateDecodingContext(InvalidXLogRecPtr, NIL, false, &wal_reader_routine, nullptr, nullptr, update_progress);
	XLogBeginRead(context->reader, MyReplicationSlot->data.restart_lsn);
	decoder.decoded_lsn = MyReplicationSlot->data.confirmed_flush;
	set_application_state(decoder.app, AppState::Streaming, nullptr, nullptr);
	ereport(LOG, (errmsg("siphon: application \"%s\" is streaming from %X/%X", decoder.app->name,
						 LSN_FORMAT_ARGS(decoder.decoded_lsn))));
	history_write(decoder.app->name);

	for (;;)
	{
		char *error = nullptr;
		XLogRecord *record = XLogReadRecord(context->reader, &error);

		if (error)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("could not read WAL: %s", error)));
		if (record)
		{
			if (unlikely(context->reader->currTLI != timeline))
			{
				timeline = context->reader->currTLI;
				flush_packages();
				history_write_timeline(decoder.app->name, timeline);
			}
			attach_scan_track_xids(context->reader);
			LogicalDecodingProcessRecord(context, context->reader);
			/* Until decoding has come back to where it was, records are only read for their bookkeeping. */
			decoder.decoded_lsn = Max(decoder.decoded_lsn, context->reader->EndRecPtr);
		}
		decoder_tick();
	}
}

void
siphon_decoder_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	attach_to_application(DatumGetInt32(arg));
	decoder_running = true;
	worker_init(decoder_poll);
	decoder.registry_context = AllocSetContextCreate(TopMemoryContext, "siphon registry", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(TopMemoryContext);

	PG_TRY();
	{
		run_decoding();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		LWLockReleaseAll();
		report_error(error);
		if (get_max_blamed_attempts(error) > 0)
			blame_table(error);
		PG_RE_THROW();
	}
	PG_END_TRY();
}
