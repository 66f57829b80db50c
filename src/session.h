/*
 * The database session of a worker: connected, and with the settings that what is sent depends on.
 */
#ifndef SIPHON_SESSION_H
#define SIPHON_SESSION_H

#include "pg.h"

/* Connects the background worker to a database, under a name for pg_stat_activity. */
extern void session_connect(Oid database, const char *name);

#endif
