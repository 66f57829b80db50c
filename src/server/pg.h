/*
 * The one way into PostgreSQL's headers: C linkage, quiet about what they do that C++ frowns at, and
 * all differences between PostgreSQL versions (15 to 18) in one place.
 *
 * Include C++ headers before this one: postgres.h redefines names such as printf.
 *
 * Rules for C++ in a backend. ereport(ERROR) leaves by longjmp, which runs no destructors; an exception
 * that crosses a PostgreSQL frame leaves its error stack dangling. So, in every file that includes this:
 * nothing throws, locals that live across PostgreSQL calls are trivially destructible, and memory
 * comes from memory contexts.
 */
#ifndef SIPHON_PG_H
#define SIPHON_PG_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wregister"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wdeprecated"
extern "C" {
#include "postgres.h"

#include "access/attmap.h"
#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogrecovery.h"
#include "access/xlogutils.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/decode.h"
#include "replication/logical.h"
#include "replication/output_plugin.h"
#include "replication/reorderbuffer.h"
#include "replication/slot.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/condition_variable.h"
#include "storage/dsm.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "storage/shmem.h"
#include "storage/smgr.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/wait_event.h"
#if PG_VERSION_NUM >= 160000
#include "utils/guc_hooks.h"
#include "varatt.h"
#endif
}
#pragma GCC diagnostic pop

#if PG_VERSION_NUM < 150000
#error "siphon needs PostgreSQL 15 or later"
#endif

/* Compile-time checks in C alone: C++ has no __builtin_types_compatible_p. */
#undef AssertVariableIsOfType
#define AssertVariableIsOfType(varname, typename) static_assert(sizeof(varname) == sizeof(typename))
#undef AssertVariableIsOfTypeMacro
#define AssertVariableIsOfTypeMacro(varname, typename) (static_cast<void>(0))

/* 17 hands decoded tuples out as they are; before, they were wrapped in a buffer. */
#if PG_VERSION_NUM >= 170000
#define siphon_change_tuple(t) (t)
#else
#define siphon_change_tuple(t) ((t) ? &(t)->tuple : nullptr)
#endif

/* Where rows like `from` have the attributes of `to`, by name; NULL: in the same places. 16 added a parameter. */
static inline AttrMap *
siphon_attribute_map(TupleDesc from, TupleDesc to)
{
#if PG_VERSION_NUM >= 160000
	return build_attrmap_by_name_if_req(from, to, false);
#else
	return build_attrmap_by_name_if_req(from, to);
#endif
}

/* A permanent relation's file; 16 has other names for that. */
#if PG_VERSION_NUM >= 160000
using SiphonFile = RelFileLocator;
#else
using SiphonFile = RelFileNode;
#endif

static inline SiphonFile
siphon_file(Oid tablespace, Oid database, Oid number)
{
	return {tablespace, database, number};
}

static inline SMgrRelation
siphon_smgr(SiphonFile file)
{
#if PG_VERSION_NUM >= 170000
	return smgropen(file, INVALID_PROC_NUMBER);
#else
	return smgropen(file, InvalidBackendId);
#endif
}

/* Logical decoding on a standby, and condition variables that wake for WAL, came with 16. */
#if PG_VERSION_NUM >= 160000
#define SIPHON_STANDBY_DECODING 1
#else
#define SIPHON_STANDBY_DECODING 0
#endif

/* Slots that are synchronized to standbys came with 17. */
#if PG_VERSION_NUM >= 170000
#define SIPHON_FAILOVER 1
#define siphon_slot_failover(slot) ((slot)->data.failover)
#define siphon_slot_synced(slot) ((slot)->data.synced != 0)
#else
#define SIPHON_FAILOVER 0
#define siphon_slot_failover(slot) (static_cast<void>(slot), false)
#define siphon_slot_synced(slot) (static_cast<void>(slot), false)
#endif

/* The timeline that this server writes, or replays. */
static inline TimeLineID
siphon_current_timeline(void)
{
	TimeLineID timeline;

	if (!RecoveryInProgress())
		return GetWALInsertionTimeLine();
	GetXLogReplayRecPtr(&timeline);
	return timeline;
}

/* The end of this server's WAL; on a standby of what it has replayed. */
static inline XLogRecPtr
siphon_newest_wal(void)
{
	return RecoveryInProgress() ? GetXLogReplayRecPtr(nullptr) : GetXLogInsertRecPtr();
}

/*
 * Behind the commit records of all that a snapshot shows which was taken before. In recovery a transaction becomes
 * visible while its commit record is being replayed, so the end of that record counts.
 */
static inline XLogRecPtr
siphon_visible_wal(void)
{
	return RecoveryInProgress() ? GetCurrentReplayRecPtr(nullptr) : GetXLogInsertRecPtr();
}

static inline void
siphon_slot_acquire(const char *name)
{
#if PG_VERSION_NUM >= 180000
	ReplicationSlotAcquire(name, true, true);
#else
	ReplicationSlotAcquire(name, true);
#endif
}

/* May the user call the function? 16 has one function for all kinds of objects. */
static inline bool
siphon_may_execute(Oid function, Oid user)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, user, ACL_EXECUTE) == ACLCHECK_OK;
#else
	return pg_proc_aclcheck(function, user, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

/* Why a slot can no longer be used, or NULL if it can. Caller holds ReplicationSlotControlLock. */
static inline const char *
siphon_slot_invalidation(const ReplicationSlot *slot)
{
#if PG_VERSION_NUM >= 160000
	switch (slot->data.invalidated)
	{
		case RS_INVAL_NONE:
			return nullptr;
		case RS_INVAL_WAL_REMOVED:
			return "the WAL that it needs was removed (max_slot_wal_keep_size)";
		case RS_INVAL_HORIZON:
			return "rows that it needs were removed (recovery conflict; see hot_standby_feedback)";
		case RS_INVAL_WAL_LEVEL:
			return "wal_level was set below logical on the primary";
#if PG_VERSION_NUM >= 180000
		case RS_INVAL_IDLE_TIMEOUT:
			return "no decoder used it for too long (idle_replication_slot_timeout)";
#endif
		default:
			return "it was invalidated; see pg_replication_slots";
	}
#else
	if (slot->data.restart_lsn == InvalidXLogRecPtr && slot->data.invalidated_at != InvalidXLogRecPtr)
		return "the WAL that it needs was removed (max_slot_wal_keep_size)";
	return nullptr;
#endif
}

#endif
