/*
 * The checkpoint's part of the mirror: a column of siphon_registry, which the decoder writes by itself, see
 * registry_mirror.h.
 */
#ifndef SIPHON_REGISTRY_MIRROR_CHECKPOINT_H
#define SIPHON_REGISTRY_MIRROR_CHECKPOINT_H

#include "registry/checkpoint_file.h"

/* What to select of the table for the checkpoint: its column, or NULL where 1.0 made the table. In a transaction. */
extern const char *registry_mirror_checkpoint_column(Oid table);

/*
 * Writes the checkpoint into the application's row, if there is one, and nothing else of it. In a transaction with a
 * snapshot. False if it can't be done now, as another session has the table locked. Leaks into the current memory
 * context.
 */
extern bool registry_mirror_write_checkpoint(Oid table, const char *application, const SavedCheckpoint *saved);

#endif
