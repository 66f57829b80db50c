/*
 * The WAL that an application's slot retains on the server's disk, and reasons and hints about it and about lost slots.
 */
#ifndef SIPHON_RETAINED_WAL_H
#define SIPHON_RETAINED_WAL_H

#include "registry.h"

struct RetainedWal
{
	XLogRecPtr restart;   /* WAL is retained from here on */
	XLogRecPtr confirmed; /* what is before it was acknowledged */
	uint64 bytes;         /* from restart to this server's newest WAL */
};

/* Reads what the slot retains. Returns false if no usable slot of this name is Siphon's and of this database. */
extern bool read_retained_wal(const char *slot, Oid database, RetainedWal *retained);

extern bool retained_wal_exceeds(const RetainedWal *retained, int limit_mb);

/* The least number of bytes of WAL at which something ends a slot, or kMetricUnknown. */
extern uint64 retained_wal_limit(void);

/* That the application's slot keeps more than siphon.warn_retained_wal, or NULL; and what to do then. */
extern const char *retention_warning(const Registry *registry);
extern const char *retained_wal_warning(const RetainedWal *retained);
extern const char *const kRetentionHint;

/* What to type when an application was given up, or its slot can't be used. */
extern const char *resync_hint(const char *application);
extern const char *lost_slot_hint(const Registry *registry);

#endif
