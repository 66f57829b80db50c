/*
 * Open transactions: see open_transactions.h.
 */
#include "open_transactions.h"

#include "server/siphon.h"

extern "C" {
#include "access/transam.h"
#include "storage/procarray.h"
#include "storage/standby.h"
#include "utils/snapmgr.h"
}

static constexpr int kPatienceMs = 2000;
static constexpr long kPollMs = 20;
/* More than these tell nobody more. */
static constexpr int kNamed = 10;
/* Of transactions, and subtransactions, that a standby's snapshot does not list. */
static constexpr int kBehind = 1000;

/* On a standby no list of them is to be had: those that a snapshot has, and those that began behind its end. */
static int
running_on_primary(TransactionId **xids)
{
	Snapshot snapshot = GetLatestSnapshot();
	TransactionId next = XidFromFullTransactionId(ReadNextFullTransactionId());
	int count = 0;

	*xids = static_cast<TransactionId *>(palloc(sizeof(TransactionId) * (static_cast<size_t>(snapshot->subxcnt) + kBehind)));
	for (int i = 0; i < snapshot->subxcnt; i++)
		(*xids)[count++] = snapshot->subxip[i];
	for (TransactionId xid = snapshot->xmax; TransactionIdPrecedes(xid, next) && count < snapshot->subxcnt + kBehind;)
	{
		(*xids)[count++] = xid;
		TransactionIdAdvance(xid);
	}
	return count;
}

static int
running_transactions(TransactionId **xids)
{
	RunningTransactions running;

	if (RecoveryInProgress())
		return running_on_primary(xids);
	running = GetRunningTransactionData();
	LWLockRelease(ProcArrayLock);
	LWLockRelease(XidGenLock);
	*xids = static_cast<TransactionId *>(palloc(sizeof(TransactionId) * static_cast<size_t>(running->xcnt + 1)));
	memcpy(*xids, running->xids, sizeof(TransactionId) * static_cast<size_t>(running->xcnt));
	return running->xcnt;
}

/* Keeps those that are not over; returns how many they are. */
static int
is_still_running(TransactionId *xids, int count)
{
	int left = 0;

	for (int i = 0; i < count; i++)
		if (TransactionIdIsInProgress(xids[i]))
			xids[left++] = xids[i];
	return left;
}

/* NULL: it is no prepared one. */
static char *
prepared_as(TransactionId xid)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[] = {XIDOID};
	Datum values[] = {TransactionIdGetDatum(xid)};
	char *gid = nullptr;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE transaction OPERATOR(pg_catalog.=) $1", 1,
							  types, values, nullptr, true, 1) == SPI_OK_SELECT &&
		SPI_processed > 0)
		gid = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return gid;
}

static char *
name_of(TransactionId xid)
{
	int pid = RecoveryInProgress() ? 0 : BackendXidGetPid(xid);
	char *gid;

	if (pid != 0)
		return psprintf("that of process %d", pid);
	gid = RecoveryInProgress() ? nullptr : prepared_as(xid);
	return gid ? psprintf("prepared transaction %s", quote_literal_cstr(gid)) : psprintf("%u", xid);
}

void
wait_for_open_transactions(const char *what)
{
	TimestampTz since = GetCurrentTimestamp();
	StringInfoData names;
	TransactionId *xids;
	int count = running_transactions(&xids);

	count = is_still_running(xids, count);
	while (count > 0 && !TimestampDifferenceExceeds(since, GetCurrentTimestamp(), kPatienceMs))
	{
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kPollMs, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		count = is_still_running(xids, count);
	}
	if (count == 0)
		return;
	initStringInfo(&names);
	for (int i = 0; i < Min(count, kNamed); i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", name_of(xids[i]));
	if (count > kNamed)
		appendStringInfo(&names, ", and %d more", count - kNamed);
	ereport(NOTICE,
			(errmsg("%s waits for open transactions%s: %s", what, RecoveryInProgress() ? " of the primary" : "", names.data),
			 RecoveryInProgress()
				 ? errhint("On the primary: SELECT pid, backend_xid, state, query FROM pg_stat_activity WHERE backend_xid IS "
						   "NOT NULL; SELECT transaction, gid FROM pg_prepared_xacts;")
				 : errhint("COMMIT or ROLLBACK there, SELECT pg_terminate_backend() of the process, or ROLLBACK PREPARED; "
						   "until then the call waits.")));
}
