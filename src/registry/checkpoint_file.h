/*
 * The checkpoint on disk. <data directory>/siphon/<application>.checkpoint has the newest checkpoint (checkpoint.h)
 * that the publisher gave with an acknowledgement, before the slot is confirmed past that.
 *
 * It changes up to four times a second, so it is not in the registry, which is megabytes where there are many tables.
 * The file has room for two: the older one is overwritten in place and synced, which takes one flush of the disk, and
 * no space on one that is full. What a crash leaves of it is noticed by a checksum, and the other one counts.
 *
 * A copy of the server has the file as well, like the registry; what is in it is true there, too: the stream held that.
 * Of another history it counts for nothing.
 */
#ifndef SIPHON_CHECKPOINT_FILE_H
#define SIPHON_CHECKPOINT_FILE_H

#include "ring/checkpoint.h"
#include "server/pg.h"

struct SavedCheckpoint
{
	uint64 history;      /* of the registry */
	TimeLineID timeline; /* on which it was written, */
	uint32 reserved;
	uint64 number; /* and its number: see checkpoint_newer() */
	siphon::Checkpoint checkpoint;
};

/*
 * Reads what an application's file has of this history. False, and all zero, if there is nothing. What it returns is
 * durable. ERROR if the file can't be read, or is damaged.
 */
extern bool checkpoint_load(const char *application, uint64 history, SavedCheckpoint *saved);

/*
 * Makes it durable, with the next number. ERROR if that can't be done. Only one process at a time may do so: the
 * decoder, or before it starts whoever holds registry_lock() exclusively.
 */
extern void checkpoint_save(const char *application, SavedCheckpoint *saved);

/*
 * Takes over what the application's former server had, if it is of this history and newer than what the file has.
 * Caller holds registry_lock() exclusively, and no decoder has begun.
 */
extern void checkpoint_adopt(const char *application, uint64 history, const SavedCheckpoint *other);

/* A line of text, and a checkpoint from one; false, and all zero, if it is none. */
extern char *checkpoint_to_text(const SavedCheckpoint *saved);
extern bool checkpoint_from_text(const char *text, SavedCheckpoint *saved);

/* Removes the file; a missing one is fine. */
extern void checkpoint_remove(const char *application);

#endif
