/*
 * Slots of applications that are not here: pg_upgrade takes slots along (from 17 on), but not what is in the data
 * directory beside PostgreSQL's own files, and an operator may have removed a registry. Such a slot retains WAL, and
 * nothing will ever read it.
 */
#ifndef SIPHON_LEFT_SLOTS_H
#define SIPHON_LEFT_SLOTS_H

#include "server/siphon.h"

/*
 * The launcher's: logs each of them once. `applications` (char *) are those that there are. Returns when to look again, in
 * ms, not more than `wait`.
 */
extern long log_left_slots(List *applications, long wait);

#endif
