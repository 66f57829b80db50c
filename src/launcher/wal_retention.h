/*
 * Limits the WAL that an application's slot retains on the server's disk.
 *
 * While JetStream or the publisher is away, the slot retains WAL. Beyond siphon.max_retained_wal the launcher gives the
 * application up, so that its stream ends and not the disk's space. That is written into the registry first, then
 * done: decoder and snapshots end, the slot is dropped. So whatever dies in between, the next launcher finishes it, and
 * no restart continues a stream that has a gap. siphon_resync_application() starts a new history.
 */
#ifndef SIPHON_WAL_RETENTION_H
#define SIPHON_WAL_RETENTION_H

#include "registry/retained_wal.h"

/* What the launcher remembers of an application's slot. */
struct WalRetention
{
	char slot[NAMEDATALEN]; /* empty: wal_retention_init() is to be called */
	Oid database;
	bool warned;
	XLogRecPtr confirmed;     /* where the slot stood when it was looked at last, */
	TimestampTz confirmed_at; /* since when, */
	bool confirmed_moved;     /* and whether it was seen to get there */
	bool given_up;            /* the registry says so */
	bool done;                /* and all that follows is done */
	bool failure_logged;      /* that the slot can't be dropped */
	TimestampTz asked_at;     /* when decoder and snapshots were asked to end */
	char reason[kReasonLength];
};

extern void wal_retention_init(WalRetention *retention, const Registry *registry);

/*
 * The launcher's part: warns, and gives the application up, where the settings ask for it. *given_up: it is, and
 * nothing else is to be done for it. Returns when to look again, in ms. `incarnation` is that of the application meant.
 */
extern long wal_retention_manage(WalRetention *retention, SharedApplication *app, uint64 incarnation, bool *given_up);

#endif
