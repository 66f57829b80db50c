/*
 * What background workers have in common: how they are started, and their database session, with the settings that what
 * is sent depends on.
 */
#ifndef SIPHON_BGWORKER_H
#define SIPHON_BGWORKER_H

#include "pg.h"

/*
 * Starts a worker, which runs siphon_<kind>_main(index) and is listed as "siphon <kind> <name>". The handle lives until
 * it is freed; the caller's latch is set when the worker starts and ends. NULL: no background worker is free.
 */
extern BackgroundWorkerHandle *bgworker_start(const char *kind, const char *name, int index);

/* True if it runs or is about to. False also for one that could not be started in the end. */
extern bool bgworker_is_running(BackgroundWorkerHandle *handle);

/* Connects the background worker to a database, under a name for pg_stat_activity. */
extern void bgworker_connect(Oid database, const char *name);

#endif
