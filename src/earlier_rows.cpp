/*
 * Rows that a table had before: see earlier_rows.h.
 */
#include "earlier_rows.h"

#include "decoder.h"

extern "C" {
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/indexing.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"
#include "storage/standbydefs.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
}

/* Who waits for a lock on the table, such as replay on a standby, waits no longer than it takes to look. */
static constexpr int kLockTries = 1000;
static constexpr long kLockPauseMs = 10;

static constexpr BlockNumber kServeBlocks = 64;

static TransactionId newest; /* of all transactions that wrote something up to here */

static void
follow(TransactionId xid)
{
	if (TransactionIdIsNormal(xid) && (!TransactionIdIsValid(newest) || TransactionIdFollows(xid, newest)))
		newest = xid;
}

void
earlier_rows_follow(XLogReaderState *reader)
{
	follow(XLogRecGetXid(reader));
	if (unlikely(XLogRecGetRmid(reader) == RM_STANDBY_ID &&
				 (XLogRecGetInfo(reader) & ~XLR_INFO_MASK) == XLOG_RUNNING_XACTS))
	{
		TransactionId xid = reinterpret_cast<xl_running_xacts *>(XLogRecGetData(reader))->nextXid;

		TransactionIdRetreat(xid);
		follow(xid);
	}
}

/* Does it run at the place that is decoded, or end with it? */
static bool
runs(const ReorderBuffer *reorder, TransactionId xid)
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
committed_before(const ReorderBuffer *reorder, TransactionId xid)
{
	return TransactionIdPrecedesOrEquals(xid, newest) && !runs(reorder, xid) && TransactionIdDidCommit(xid);
}

/* The ids of what is frozen may be any number of rounds old: then there is no asking whether they committed. */
static bool
frozen_before(const ReorderBuffer *reorder, TransactionId xid)
{
	bool later = TransactionIdFollows(xid, newest) && TransactionIdPrecedes(xid, ReadNextTransactionId());

	return !TransactionIdIsNormal(xid) || !(later || runs(reorder, xid));
}

static bool
is_earlier(const ReorderBuffer *reorder, HeapTupleHeader row)
{
	uint16 infomask = row->t_infomask;
	TransactionId xmin = HeapTupleHeaderGetRawXmin(row);
	TransactionId xmax;

	if (HeapTupleHeaderXminInvalid(row) ||
		!(HeapTupleHeaderXminFrozen(row) ? frozen_before(reorder, xmin) : committed_before(reorder, xmin)))
		return false;
	if ((infomask & HEAP_XMAX_INVALID) || HEAP_XMAX_IS_LOCKED_ONLY(infomask))
		return true;
	xmax = HeapTupleHeaderGetUpdateXid(row);
	return !TransactionIdIsNormal(xmax) || !committed_before(reorder, xmax);
}

static bool
page_has_earlier(const ReorderBuffer *reorder, Buffer buffer)
{
	bool found = false;
	Page page;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	for (OffsetNumber i = FirstOffsetNumber; !found && !PageIsNew(page) && i <= PageGetMaxOffsetNumber(page); i++)
	{
		ItemId item = PageGetItemId(page, i);

		found = ItemIdIsNormal(item) && is_earlier(reorder, reinterpret_cast<HeapTupleHeader>(PageGetItem(page, item)));
	}
	UnlockReleaseBuffer(buffer);
	return found;
}

/* The table's file as it is now, not as it was then: rows that were there are in that one. False: there is none. */
static bool
find_file(Oid relid, SiphonFile *file)
{
	Relation classes = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan =
		systable_beginscan(classes, ClassOidIndexId, true, GetNonHistoricCatalogSnapshot(RelationRelationId), 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_class form = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));

		*file = siphon_file(OidIsValid(form->reltablespace) ? form->reltablespace : MyDatabaseTableSpace, MyDatabaseId,
							form->relfilenode);
	}
	systable_endscan(scan);
	table_close(classes, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

static bool
lock(Oid relid)
{
	for (int i = 0; i < kLockTries; i++)
	{
		if (ConditionalLockRelationOid(relid, AccessShareLock))
			return true;
		decoder_serve(GetCurrentTimestamp());
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kLockPauseMs, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return false;
}

bool
earlier_rows(const ReorderBuffer *reorder, Oid relid)
{
	SiphonFile file;
	bool found = false;

	if (!lock(relid))
		return true;
	/* What was dropped, or emptied, since then says so when decoding comes to it. */
	if (find_file(relid, &file) && smgrexists(siphon_smgr(file), MAIN_FORKNUM))
	{
		BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
		BlockNumber blocks = smgrnblocks(siphon_smgr(file), MAIN_FORKNUM);

		for (BlockNumber i = 0; !found && i < blocks; i++)
		{
			if (i % kServeBlocks == 0)
				decoder_serve(GetCurrentTimestamp());
			found =
				page_has_earlier(reorder, ReadBufferWithoutRelcache(file, MAIN_FORKNUM, i, RBM_NORMAL, strategy, true));
		}
		FreeAccessStrategy(strategy);
	}
	UnlockRelationOid(relid, AccessShareLock);
	return found;
}
