/*
 * Whether a table had rows before it was attached: see attach_scan.h.
 */
#include "attach_scan.h"

#include "server/catalog_scan.h"
#include "server/worker.h"

extern "C" {
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/indexing.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"
#include "storage/standbydefs.h"
#include "utils/snapmgr.h"
}

/* Who waits for a lock on the table, such as replay on a standby, waits no longer than it takes to look. */
static constexpr int kLockTries = 1000;
static constexpr long kLockPauseMs = 10;

static constexpr BlockNumber kPollBlocks = 64;

static TransactionId newest_xid; /* of all transactions that wrote something up to here */

static void
track_xid(TransactionId xid)
{
	if (TransactionIdIsNormal(xid) && (!TransactionIdIsValid(newest_xid) || TransactionIdFollows(xid, newest_xid)))
		newest_xid = xid;
}

void
attach_scan_track_xids(XLogReaderState *reader)
{
	track_xid(XLogRecGetXid(reader));
	if (unlikely(XLogRecGetRmid(reader) == RM_STANDBY_ID &&
				 (XLogRecGetInfo(reader) & ~XLR_INFO_MASK) == XLOG_RUNNING_XACTS))
	{
		TransactionId xid = reinterpret_cast<xl_running_xacts *>(XLogRecGetData(reader))->nextXid;

		TransactionIdRetreat(xid);
		track_xid(xid);
	}
}

/* Does it run at the place that is decoded, or end with it? */
static bool
is_running(const ReorderBuffer *reorder, TransactionId xid)
{
	dlist_iter top;

	dlist_foreach (top, const_cast<dlist_head *>(&reorder->toplevel_by_lsn))
	{
		ReorderBufferTXN *txn = dlist_container(ReorderBufferTXN, node, top.cur);
		dlist_iter sub;

		if (txn->xid == xid)
			return true;
		dlist_foreach (sub, &txn->subtxns)
			if (dlist_container(ReorderBufferTXN, node, sub.cur)->xid == xid)
				return true;
	}
	return false;
}

static bool
is_committed_before(const ReorderBuffer *reorder, TransactionId xid)
{
	return TransactionIdPrecedesOrEquals(xid, newest_xid) && !is_running(reorder, xid) && TransactionIdDidCommit(xid);
}

/* The ids of what is frozen may be any number of rounds old: then there is no asking whether they committed. */
static bool
is_frozen_before(const ReorderBuffer *reorder, TransactionId xid)
{
	bool later = TransactionIdFollows(xid, newest_xid) && TransactionIdPrecedes(xid, ReadNextTransactionId());

	return !TransactionIdIsNormal(xid) || !(later || is_running(reorder, xid));
}

static bool
is_inserted_before(const ReorderBuffer *reorder, HeapTupleHeader row)
{
	TransactionId xmin = HeapTupleHeaderGetRawXmin(row);

	return HeapTupleHeaderXminFrozen(row) ? is_frozen_before(reorder, xmin) : is_committed_before(reorder, xmin);
}

static bool
is_removed_before(const ReorderBuffer *reorder, HeapTupleHeader row)
{
	uint16 infomask = row->t_infomask;
	TransactionId xmax;

	if ((infomask & HEAP_XMAX_INVALID) || HEAP_XMAX_IS_LOCKED_ONLY(infomask))
		return false;
	xmax = HeapTupleHeaderGetUpdateXid(row);
	return TransactionIdIsNormal(xmax) && is_committed_before(reorder, xmax);
}

/* Not the first version of its row. */
static bool
is_update(HeapTupleHeader row)
{
	return (row->t_infomask & HEAP_UPDATED) &&
		   (HeapTupleHeaderXminFrozen(row) || TransactionIdDidCommit(HeapTupleHeaderGetRawXmin(row)));
}

/* What a table's pages show. */
struct AttachScanResult
{
	bool earlier; /* there is a row of before; */
	bool updated; /* one that has replaced another since, */
	bool pruned;  /* and a place whose row was taken away */
};

static void
scan_page(const ReorderBuffer *reorder, Buffer buffer, AttachScanResult *result)
{
	Page page;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	for (OffsetNumber i = FirstOffsetNumber; !result->earlier && !PageIsNew(page) && i <= PageGetMaxOffsetNumber(page);
		 i++)
	{
		ItemId item = PageGetItemId(page, i);
		HeapTupleHeader row;

		if (!ItemIdIsNormal(item))
		{
			result->pruned = true;
			continue;
		}
		row = reinterpret_cast<HeapTupleHeader>(PageGetItem(page, item));
		if (HeapTupleHeaderXminInvalid(row))
			continue;
		if (is_inserted_before(reorder, row))
			result->earlier = !is_removed_before(reorder, row);
		else if (!result->updated)
			result->updated = is_update(row);
	}
	UnlockReleaseBuffer(buffer);
}

/*
 * The table's file as it is now, not as it was then: rows that were there are in that one. `vacuumed`: was it looked
 * over by VACUUM or ANALYZE? False: there is none.
 */
static bool
find_file(Oid relid, SiphonFile *file, bool *vacuumed)
{
	/* Invalidations that are taken meanwhile end one that nobody has registered. */
	Snapshot snapshot = RegisterSnapshot(GetNonHistoricCatalogSnapshot(RelationRelationId));
	CatalogScan scan = catalog_scan_begin(RelationRelationId, ClassOidIndexId, Anum_pg_class_oid, relid, snapshot);
	HeapTuple tuple = catalog_scan_next(&scan);
	bool found = HeapTupleIsValid(tuple);

	if (found)
	{
		Form_pg_class form = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));

		*file = siphon_file(OidIsValid(form->reltablespace) ? form->reltablespace : MyDatabaseTableSpace, MyDatabaseId,
							form->relfilenode);
		*vacuumed = form->reltuples >= 0;
	}
	catalog_scan_end(&scan);
	UnregisterSnapshot(snapshot);
	return found;
}

static bool
lock_relation(Oid relid)
{
	for (int i = 0; i < kLockTries; i++)
	{
		if (ConditionalLockRelationOid(relid, AccessShareLock))
			return true;
		worker_poll(GetCurrentTimestamp());
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kLockPauseMs, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return false;
}

/* Might VACUUM, or who reads a page, have taken away what a row was before it was updated? */
static bool
has_missing_versions(Oid relid, const AttachScanResult *result)
{
	SiphonFile file;
	bool vacuumed;

	/* One that runs makes the map first, and counts rows in the end. */
	return result->pruned || !find_file(relid, &file, &vacuumed) || vacuumed ||
		   smgrexists(siphon_smgr(file), VISIBILITYMAP_FORKNUM);
}

bool
relation_had_rows_before(const ReorderBuffer *reorder, Oid relid)
{
	SiphonFile file;
	bool vacuumed;
	AttachScanResult result = {};

	if (!lock_relation(relid))
		return true;
	/* What was dropped, or emptied, since then says so when decoding comes to it. */
	if (find_file(relid, &file, &vacuumed) && smgrexists(siphon_smgr(file), MAIN_FORKNUM))
	{
		BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
		BlockNumber blocks = smgrnblocks(siphon_smgr(file), MAIN_FORKNUM);

		for (BlockNumber i = 0; !result.earlier && i < blocks; i++)
		{
			if (i % kPollBlocks == 0)
				worker_poll(GetCurrentTimestamp());
			scan_page(reorder, ReadBufferWithoutRelcache(file, MAIN_FORKNUM, i, RBM_NORMAL, strategy, true), &result);
		}
		FreeAccessStrategy(strategy);
	}
	if (result.updated && has_missing_versions(relid, &result))
		result.earlier = true;
	UnlockRelationOid(relid, AccessShareLock);
	return result.earlier;
}
