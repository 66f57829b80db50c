/*
 * The processes of a snapshot: see snapshot.h and snapshot_process.h.
 */
#include "snapshot_process.h"

#include "server/blame.h"
#include "server/catalog_scan.h"
#include "encode/encoder.h"
#include "catalogs/obstacles.h"
#include "encode/package.h"
#include "server/ring_producer.h"
#include "server/bgworker.h"
#include "encode/table_settings.h"
#include "server/worker.h"

extern "C" {
#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/indexing.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_description.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/ps_status.h"
#include "utils/snapmgr.h"
}

/* A scan waits for nobody but the publisher: a longer queue would only take memory from the processors' caches. */
static constexpr uint64 kLargestRing = 16 * 1024 * 1024;
static constexpr uint64 kSmallestRing = 256 * 1024;

/* Of a column's description, without comment and default: names of itself and of types, in UTF-8. */
static constexpr uint64 kColumnBytes = 2048;
static constexpr uint64 kTransactionBytes = 16;

/* What is wrong with a definition or a page may be fixed meanwhile, a value will not be another one. */
static constexpr int kAttempts = 5;

/* A leader waits so long for the next table, and ends with so many: what it knows of each takes memory. */
static constexpr long kNextMs = 200;
static constexpr int kTablesOfLeader = 100;

SnapshotJob *snapshot_job;
MemoryContext snapshot_context;
static int worker_number; /* 0: the leader */

/* The leader speaks for all; see ring_metrics.h. */
static void
publish_metrics(void)
{
	using siphon::RingMetric;

	ring_producer_set_metric(RingMetric::SnapshotPhase, static_cast<uint64>(snapshot_job->phase) + 1);
	ring_producer_set_metric(RingMetric::BlocksTotal, pg_atomic_read_u64(&snapshot_job->blocks_total));
	ring_producer_set_metric(RingMetric::BlocksDone, pg_atomic_read_u64(&snapshot_job->blocks_done));
	ring_producer_set_metric(RingMetric::Rows, pg_atomic_read_u64(&snapshot_job->rows));
	ring_producer_set_metric(RingMetric::RowBytes, pg_atomic_read_u64(&snapshot_job->bytes));
	ring_producer_set_metric(RingMetric::HeldEvents, pg_atomic_read_u64(&snapshot_job->held_events));
	ring_producer_set_metric(RingMetric::Workers, static_cast<uint64>(snapshot_job->workers));
}

void
snapshot_poll(TimestampTz now)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		int rate = siphon_snapshot_rate_kb;

		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		if (rate != siphon_snapshot_rate_kb)
			pg_atomic_write_u64(&snapshot_job->busy_until, 0);
	}
	ring_producer_send_heartbeat(now);
	if (worker_number == 0)
		publish_metrics();
	if (*const_cast<volatile bool *>(&snapshot_job->cancel))
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the snapshot was ended by a command")));
	if (*const_cast<volatile SnapshotPhase *>(&snapshot_job->phase) == SnapshotPhase::Failed)
		ereport(ERROR, (errmsg("a worker failed: %s", snapshot_job->error)));
}

void
snapshot_set_phase(SnapshotPhase phase)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	snapshot_job_set_phase(snapshot_job, phase);
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&snapshot_job->changed);
}

void
snapshot_begin_transaction(void)
{
	StartTransactionCommand();
	XactIsoLevel = XACT_REPEATABLE_READ;
	XactReadOnly = true;
}

[[noreturn]] static void
raise_table_gone(void)
{
	snapshot_job->table_gone = true;
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the table does not exist any more")));
}

/* The table's present name. No generation begins, or goes on, for one that was dropped. */
void
snapshot_find_names(char *schema, char *name)
{
	const char *found = get_rel_name(snapshot_job->relid);
	const char *found_schema = found ? get_namespace_name(get_rel_namespace(snapshot_job->relid)) : nullptr;

	if (found_schema == nullptr)
		raise_table_gone();
	strlcpy(schema, found_schema, NAMEDATALEN);
	strlcpy(name, found, NAMEDATALEN);
}

static void
check_names(const RegistryTable *listed)
{
	char schema[NAMEDATALEN];
	char name[NAMEDATALEN];

	/* A schema is renamed without the table's lock. */
	AcceptInvalidationMessages();
	snapshot_find_names(schema, name);
	if (strcmp(listed->schema, schema) != 0 || strcmp(listed->name, name) != 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the table was renamed to \"%s.%s\"", schema, name)));
}

Relation
snapshot_open_table(const RegistryTable *listed, Table **table)
{
	Relation relation = try_table_open(snapshot_job->relid, AccessShareLock);

	if (relation == nullptr)
		raise_table_gone();
	check_names(listed);
	*table = table_for_snapshot(relation, snapshot_job->lsn);
	check_obstacle((*table)->obstacle);
	return relation;
}

const Registry *
snapshot_get_registry(void)
{
	const Registry *registry = registry_get(snapshot_job->app->name);

	if (registry == nullptr)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the application was dropped")));
	return registry;
}

/* ---- a worker ---- */

static void
take_leaders_snapshot(void)
{
	dsm_segment *segment = dsm_attach(snapshot_job->segment);

	if (segment == nullptr)
		ereport(ERROR, (errmsg("the snapshot's leader has ended")));
	RestoreTransactionSnapshot(RestoreSnapshot(static_cast<char *>(dsm_segment_address(segment))),
							   snapshot_job->leader);
	dsm_detach(segment);
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
scan_as_worker(void)
{
	RegistryTable *listed = registry_find_table(snapshot_get_registry(), snapshot_job->relid);
	Relation relation;
	Table *table;
	LeafScan scan;

	if (listed == nullptr || listed->generation != snapshot_job->generation || listed->phase != TablePhase::Scanning)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the table is not published any more")));
	tables_load_one(listed);
	snapshot_begin_transaction();
	take_leaders_snapshot();
	relation = snapshot_open_table(listed, &table);
	leaf_scan_begin(&scan, relation);
	snapshot_scan(&scan, table);
	table_close(relation, NoLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* ---- start and end ---- */

/* Our own errors, which have no code, are about what goes on elsewhere. */
static int
get_max_attempts(const ErrorData *error)
{
	int attempts = get_max_blamed_attempts(error);

	if (!is_error_about_data(error))
		return attempts;
	/* What is wrong with a page is not the value's fault. */
	if (attempts > 0 && error->sqlerrcode != ERRCODE_DATA_CORRUPTED)
		return attempts;
	return error->sqlerrcode == ERRCODE_INTERNAL_ERROR ? 0 : kAttempts;
}

static bool finished = false;

static void
detach_from_job(int, Datum)
{
	ring_producer_unlock();
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	if (worker_number == 0)
	{
		snapshot_job->leader_pid = 0;
		snapshot_job->idle = false;
	}
	if (!finished && snapshot_job->phase != SnapshotPhase::Failed)
	{
		snapshot_job_set_phase(snapshot_job, SnapshotPhase::Failed);
		if (snapshot_job->error[0] == '\0')
			strlcpy(snapshot_job->error, "a process of the snapshot ended; see the server's log",
					sizeof(snapshot_job->error));
	}
	if (siphon_shared->launcher_latch)
		SetLatch(siphon_shared->launcher_latch);
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&snapshot_job->changed);
}

static void
attach_to_job(int index)
{
	bool wanted;

	snapshot_job = &siphon_snapshots[index / kMaxSnapshotWorkers];
	worker_number = index % kMaxSnapshotWorkers;
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	if (worker_number == 0)
		wanted =
			snapshot_job->in_use && snapshot_job->leader_pid == 0 && snapshot_job->phase == SnapshotPhase::Preparing;
	else
		wanted =
			snapshot_job->in_use && snapshot_job->leader_pid != 0 && snapshot_job->phase == SnapshotPhase::Scanning;
	if (wanted && worker_number == 0)
	{
		snapshot_job->leader_pid = MyProcPid;
		snapshot_job->leader = MyProc;
	}
	LWLockRelease(siphon_shared->lock);
	if (!wanted)
		proc_exit(0);
	on_shmem_exit(detach_from_job, 0);
	/* As in a parallel query. Or a worker would wait for its lock behind an ALTER TABLE that waits for the leader's. */
	if (worker_number == 0)
		BecomeLockGroupLeader();
	else if (!BecomeLockGroupMember(snapshot_job->leader, snapshot_job->leader_pid))
		proc_exit(0);
}

/* Bytes of an attribute in the rows of a catalog that are of the relation. */
static uint64
count_catalog_bytes(Oid catalog, Oid index, AttrNumber key, Oid relid, AttrNumber attribute)
{
	CatalogScan scan = catalog_scan_begin(catalog, index, key, relid, nullptr);
	uint64 bytes = 0;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		bool isnull;
		Datum value = heap_getattr(tuple, attribute, RelationGetDescr(scan.catalog), &isnull);

		bytes += isnull ? 0 : toast_raw_datum_size(value);
	}
	catalog_scan_end(&scan);
	return bytes;
}

/*
 * Most bytes of a record that is not of rows: the schema, with comments and defaults; and the markers, with all columns,
 * and with the transactions that were running. Those the publisher takes as a whole, up to half a ring.
 */
static uint64
get_largest_record(Relation relation)
{
	uint64 texts = count_catalog_bytes(DescriptionRelationId, DescriptionObjIndexId, Anum_pg_description_objoid,
									   RelationGetRelid(relation), Anum_pg_description_description) +
				   count_catalog_bytes(AttrDefaultRelationId, AttrDefaultIndexId, Anum_pg_attrdef_adrelid,
									   RelationGetRelid(relation), Anum_pg_attrdef_adbin);
	uint64 transactions = RecoveryInProgress() ? static_cast<uint64>(GetMaxSnapshotSubxidCount())
											   : static_cast<uint64>(GetMaxSnapshotXidCount());

	return static_cast<uint64>(RelationGetNumberOfAttributes(relation)) * kColumnBytes + texts * MAX_CONVERSION_GROWTH +
		   transactions * kTransactionBytes;
}

/*
 * A small table needs no large ring, which takes longer to make than the table to scan. Whatever is in the way of knowing
 * its size, it is large. A scan through a ring that is too small waits more often.
 */
static uint64
choose_ring_size(void)
{
	uint64 size = Min(static_cast<uint64>(siphon_ring_size_kb) * 1024, kLargestRing);
	uint64 blocks = 0;
	uint64 record = 0;
	bool known = false;

	StartTransactionCommand();
	if (ConditionalLockRelationOid(snapshot_job->relid, AccessShareLock))
	{
		Relation relation = RelationIdGetRelation(snapshot_job->relid);
		Oid toast = relation ? relation->rd_rel->reltoastrelid : InvalidOid;

		known = relation && relation->rd_rel->relkind == RELKIND_RELATION && RelationIsPermanent(relation);
		if (known)
		{
			blocks = RelationGetNumberOfBlocks(relation);
			record = get_largest_record(relation);
		}
		if (relation)
			RelationClose(relation);
		relation = known && OidIsValid(toast) ? RelationIdGetRelation(toast) : nullptr;
		if (relation)
		{
			blocks += RelationGetNumberOfBlocks(relation);
			RelationClose(relation);
		}
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(snapshot_context);
	while (known && size / 2 >= Max(kSmallestRing, 4 * blocks * BLCKSZ + 4 * record))
		size /= 2;
	return size;
}

/* Its history tells the publisher which decoder's changes go with what the ring holds. */
static void
open_ring(void)
{
	char ring[NAMEDATALEN];

	if (worker_number == 0)
		snapshot_job->history = snapshot_get_registry()->history;
	snprintf(ring, sizeof(ring), "snapshot-%u-%d", snapshot_job->relid, worker_number);
	ring_producer_open(snapshot_job->app->name, ring, choose_ring_size(), snapshot_job->history);
}

/*
 * The leader's table is done, and the launcher may give it another one: to start a process takes longer than to scan a
 * small table. False if it does not.
 */
static bool
wait_for_next_table(void)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kNextMs);
	bool idle = true;
	bool given = false;

	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	snapshot_job->relid = InvalidOid;
	snapshot_job->idle = true;
	if (siphon_shared->launcher_latch)
		SetLatch(siphon_shared->launcher_latch);
	LWLockRelease(siphon_shared->lock);
	/* Who waits for the table's snapshot to end. */
	ConditionVariableBroadcast(&snapshot_job->changed);
	for (;;)
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
		if (left == 0 || snapshot_job->cancel)
			snapshot_job->idle = false;
		idle = snapshot_job->idle;
		given = OidIsValid(snapshot_job->relid);
		LWLockRelease(siphon_shared->lock);
		if (!idle)
			break;
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	/* The process has the name of its first table. */
	if (given)
		set_ps_display(psprintf("now of %u", snapshot_job->relid));
	return given;
}

void
siphon_snapshot_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	worker_init(snapshot_poll);
	attach_to_job(DatumGetInt32(arg));
	MemoryContextSwitchTo(TopMemoryContext);
	bgworker_connect(snapshot_job->app->database, "siphon snapshot");
	if (worker_number == 0)
		before_shmem_exit(snapshot_stop_workers, 0);

	PG_TRY();
	{
		tables_init(snapshot_job->app->name);
		packages_init(snapshot_write_record);
		encoder_init();
		snapshot_context = AllocSetContextCreate(TopMemoryContext, "siphon snapshot", ALLOCSET_DEFAULT_SIZES);
		for (int tables = 1;; tables++)
		{
			MemoryContextSwitchTo(snapshot_context);
			open_ring();
			if (worker_number == 0)
				snapshot_leader_run();
			else
				scan_as_worker();
			ring_producer_remove();
			finished = true;
			MemoryContextSwitchTo(TopMemoryContext);
			MemoryContextReset(snapshot_context);
			if (worker_number != 0 || tables == kTablesOfLeader || !wait_for_next_table())
				break;
			finished = false;
		}
	}
	PG_CATCH();
	{
		ErrorData *error;
		char *text;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		text = get_blame_reason(error);
		LWLockReleaseAll();
		LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
		if (snapshot_job->phase != SnapshotPhase::Failed)
		{
			snapshot_job->attempts = get_max_attempts(error);
			copy_text(snapshot_job->error, text, sizeof(snapshot_job->error));
		}
		LWLockRelease(siphon_shared->lock);
		/* No error of anybody's; the launcher says so. */
		if (snapshot_job->table_gone)
			proc_exit(0);
		PG_RE_THROW();
	}
	PG_END_TRY();
}
