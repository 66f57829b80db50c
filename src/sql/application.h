/*
 * Applications as a whole: making one (slot, registry file, decoder) and taking it away again, from a backend
 * that runs a SQL function.
 */
#ifndef SIPHON_APPLICATION_H
#define SIPHON_APPLICATION_H

#include "registry/notify.h"

/*
 * Creates slot and registry file and waits for the decoder. ERROR, with nothing left behind, if it does not come up.
 * With failover, standbys synchronize the slot: see registry_mirror.h. With take_over, it takes the stream over from
 * another owner: see history.h.
 */
extern void application_create(const char *application, bool failover, bool take_over);

/*
 * Makes a new slot and begins a new history: what was published before is not continued, and all tables whose
 * rows are published get a resync. Whatever state the application is in. After an ERROR it is given up, and this can be
 * repeated. With take_over, the new history takes the stream over from another owner.
 */
extern void application_resync(const Registry *registry, bool take_over);

/*
 * Ends decoder, follower and snapshots, which do not come back before application_start(), also after a restart of the
 * server: nobody is in the database, and the slot keeps its place. application_start() waits for the decoder; ERROR if it
 * does not come up.
 */
extern void application_stop(const Registry *registry);
extern void application_start(const Registry *registry);
/* Stops the decoder, drops the slot, removes registry file and rings. */
extern void application_drop(const Registry *registry);

#endif
