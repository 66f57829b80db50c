/*
 * Removed tables: tells the publisher, through the ring, that a table is no longer published. The Removed frame is
 * behind the last of the table's events, so that the publisher ends what runs for it, a snapshot above all. A removed
 * table stays in the registry until the publisher acknowledges its Removed frame, so a crash cannot lose it.
 *
 * A table that a publication lost leaves at a place of the WAL: what was committed before is published however late it
 * is decoded, and decoded once more should the decoder start again before it is acknowledged. So it stays in the
 * registry's list, with that place, until the slot is confirmed beyond it.
 */
#ifndef SIPHON_REMOVED_TABLES_H
#define SIPHON_REMOVED_TABLES_H

#include "registry/registry.h"

/* Takes the removed tables from the registry. Returns true if there are some without a Removed frame. */
extern bool removed_tables_load(const Registry *registry);

/*
 * Writes a Removed frame for each table that has none yet: none of its events has a commit LSN of decoded_lsn or more.
 * Call between two records only. Waits for ring space.
 */
extern void removed_tables_write(XLogRecPtr decoded_lsn);

/* Deletes acknowledged tables from the registry. Never waits for the publisher. Cheap; call often. */
extern void removed_tables_poll_acks(const char *application);

/*
 * Deletes tables whose end_lsn the slot has confirmed. Returns true if the caller must reload the registry. Cheap; call
 * often.
 */
extern bool removed_tables_drop_confirmed(const char *application, XLogRecPtr confirmed_lsn);

#endif
