/*
 * Tables that are published no more: the decoder tells the publisher of each through its ring, behind the last of
 * the table's events, so that it ends what is under way for it, a snapshot above all. The registry keeps
 * such a table until the publisher has acknowledged that, so that no crash in between lets it be forgotten.
 *
 * A table that a publication lost leaves at a place of the WAL: what was committed before is published however late it
 * is decoded, and decoded once more should the decoder start again before it is acknowledged. So it stays in the
 * registry's list, with that place, until the slot is confirmed beyond it.
 */
#ifndef SIPHON_REMOVALS_H
#define SIPHON_REMOVALS_H

#include "registry/registry.h"

/* Takes the removed tables from the registry. True if there are some that the ring has to be told of. */
extern bool removals_load(const Registry *registry);

/*
 * Writes what is to be told: nothing of the table comes that was committed at `decoded` or later. The ring is between two
 * records. May wait for its space.
 */
extern void removals_write(XLogRecPtr decoded);

/* Takes those out of the registry that were acknowledged. Called often. */
extern void removals_serve(const char *application);

/* Removes tables whose place to leave is confirmed. True if there were some: the registry is to be loaded. Likewise. */
extern bool removals_leave(const char *application, XLogRecPtr confirmed);

#endif
