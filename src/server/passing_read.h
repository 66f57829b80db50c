/*
 * Reading by SQL in passing. A query's locks stay until the transaction ends, those of catalogs too. A function that
 * reads and then waits for the decoder would keep them meanwhile: should somebody want all of such a table, as VACUUM
 * FULL does, the decoder could queue behind that, and that behind us, which no deadlock detection sees. What is read
 * in a subtransaction that is rolled back leaves no locks.
 *
 * Results have to be in the caller's memory context. An ERROR in between needs no end.
 */
#ifndef SIPHON_PASSING_READ_H
#define SIPHON_PASSING_READ_H

#include "pg.h"

extern "C" {
#include "utils/resowner.h"
}

struct PassingRead
{
	MemoryContext context;
	ResourceOwner owner;
};

static inline PassingRead
passing_read_begin(void)
{
	PassingRead read = {CurrentMemoryContext, CurrentResourceOwner};

	BeginInternalSubTransaction(nullptr);
	MemoryContextSwitchTo(read.context);
	return read;
}

static inline void
passing_read_end(const PassingRead *read)
{
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(read->context);
	CurrentResourceOwner = read->owner;
}

#endif
