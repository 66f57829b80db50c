/*
 * The mirror: how the registry of an application gets to the server that will be the next primary. A slot with failover
 * is synchronized to standbys by PostgreSQL; the registry is a file, and files stay where they are. So the decoder of
 * such an application also writes the registry into a row of the table siphon_registry, which physical
 * replication brings to every standby. After a promotion the row becomes a file again, and decoding goes on from the
 * synchronized slot. Where a server has both, that which was changed last counts.
 *
 * The row also has the checkpoint (checkpoint.h). As that changes four times a second and has to be of use only after a
 * failover, it is written every five seconds, if it changed, and nobody waits until standbys have it. So the checkpoint
 * of a promoted standby can be older than its slot, by that, by what replication lags, and by a transaction that was
 * just being decoded. What follows: the publisher there does not notice the loss of messages that the stream had
 * acknowledged only since. It never refuses for that reason a stream that has lost nothing.
 *
 * No table of this kind exists for anybody else: the file is what Siphon works with, the row a copy that is written
 * after it, and read when a decoder starts. While a server is a standby, such applications rest there.
 */
#ifndef SIPHON_REGISTRY_MIRROR_H
#define SIPHON_REGISTRY_MIRROR_H

#include "registry/registry.h"

/*
 * The decoder's part. registry_mirror_open() is called once, in a session and before anything is decoded; it returns
 * the registry to go on with. registry_mirror_poll() writes the row, soon after the file changed and between
 * transactions that are decoded.
 */
extern Registry *registry_mirror_open(SharedApplication *app, Registry *registry);
extern void registry_mirror_poll(TimestampTz now);
/* Nothing may be decoded before the standbys that the slot waits for have WAL up to here: it has the row. */
extern XLogRecPtr registry_mirror_get_lsn(void);

/*
 * The launcher's part. Returns true if the application waits because this server is a standby, with the reason, and a
 * hint or NULL.
 */
extern bool registry_mirror_is_standby(const char *slot, bool failover, const char **reason, const char **hint);
/*
 * Has the files written of applications whose slots were synchronized to this server before it became the primary;
 * `applications` (char *) have theirs. Returns when to look again, in ms, not more than `wait`.
 */
extern long registry_mirror_restore_synced(List *applications, long wait);

/* For SQL functions: ERROR if the application is the primary's, and this is a standby. */
extern void registry_mirror_check_not_on_standby(const char *application);
/* Makes the file of the row that the application has, and returns it; NULL if there is none of this database. */
extern Registry *registry_mirror_restore(const char *application);
/* Removes the row of an application that is dropped. False if there was none. */
extern bool registry_mirror_delete(const char *application);

#endif
