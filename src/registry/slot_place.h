/*
 * How far Siphon has confirmed an application's slot, on disk: <data directory>/siphon/<application>.confirmed. A slot
 * that is further was moved by another session, as by pg_replication_slot_advance(), and what lies between was never
 * decoded. PostgreSQL keeps no note of who moved a slot.
 *
 * It counts on the server and on the timeline on which it was written: a standby's slot follows the primary's by
 * itself.
 */
#ifndef SIPHON_SLOT_PLACE_H
#define SIPHON_SLOT_PLACE_H

#include "server/pg.h"

/* Of this history; 0: not known. */
extern XLogRecPtr slot_place_load(const char *application, uint64 history);
/* Makes it durable; to be called before the slot is confirmed to there. ERROR if that can't be done. */
extern void slot_place_save(const char *application, uint64 history, XLogRecPtr confirmed);
/* Removes the file; a missing one is fine. */
extern void slot_place_remove(const char *application);

#endif
