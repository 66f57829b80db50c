/*
 * Tables that are published no more: the decoder tells the publisher of each through its ring, behind the last of
 * the table's events, so that it ends what is under way for it, a snapshot above all. The registry keeps
 * such a table until the publisher has acknowledged that, so that no crash in between lets it be forgotten.
 *
 * A table that a publication lost leaves at a place of the WAL: what was committed before is published however late it
 * is decoded, and decoded once more should the decoder start again before it is acknowledged. So it stays in the
 * registry's list, with that place, until the slot is confirmed beyond it.
 */
#ifndef SIPHON_REMOVED_TABLES_H
#define SIPHON_REMOVED_TABLES_H

#include "registry/registry.h"

/* Takes the removed tables from the registry. True if there are some that the ring has to be told of. */
extern bool removed_tables_load(const Registry *registry);

/*
 * Writes what is to be told: nothing of the table comes that was committed at `decoded` or later. The ring is between
 * two records. May wait for its space.
 */
extern void removed_tables_write(XLogRecPtr decoded);

/* Takes those out of the registry that were acknowledged. Called often. */
extern void removed_tables_poll_acks(const char *application);

/* Removes tables whose place to leave is confirmed. True if there were some: the registry is to be loaded. Likewise. */
extern bool removed_tables_drop_confirmed(const char *application, XLogRecPtr confirmed);

#endif
