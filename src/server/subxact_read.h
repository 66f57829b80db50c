/*
 * Runs catalog queries in a subtransaction and rolls it back, which releases their locks at once. Otherwise a backend
 * that waits for the decoder keeps them, a VACUUM FULL queues behind them and blocks the decoder: a deadlock that
 * PostgreSQL cannot detect.
 *
 * Results have to be in the caller's memory context. An ERROR in between needs no end.
 */
#ifndef SIPHON_SUBXACT_READ_H
#define SIPHON_SUBXACT_READ_H

#include "pg.h"

extern "C" {
#include "utils/resowner.h"
}

struct SubxactRead
{
	MemoryContext context;
	ResourceOwner owner;
};

static inline SubxactRead
subxact_read_begin(void)
{
	SubxactRead read = {CurrentMemoryContext, CurrentResourceOwner};

	BeginInternalSubTransaction(nullptr);
	MemoryContextSwitchTo(read.context);
	return read;
}

static inline void
subxact_read_end(const SubxactRead *read)
{
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(read->context);
	CurrentResourceOwner = read->owner;
}

#endif
