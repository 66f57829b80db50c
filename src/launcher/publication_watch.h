/*
 * Has anything changed that says which tables a publication has, or that removes what keeps one of them out?
 *
 * PostgreSQL says of each relation of the database that it changed, also where VACUUM has counted its rows. To look at
 * all tables each time would take a core where there are thousands. So this remembers of each relation what decides
 * about its membership, and of each table that was refused why; and forgets that when the table, or a partition of it,
 * has changed.
 */
#ifndef SIPHON_PUBLICATION_WATCH_H
#define SIPHON_PUBLICATION_WATCH_H

#include "server/pg.h"

extern void publication_watch_init(void);

/*
 * In a transaction, whose begin took what others said: True if there is something to look at since
 * publication_watch_begin().
 */
extern bool publication_watch_has_news(void);
/* What is read from here on is as new as all that there was news of. In a transaction. */
extern void publication_watch_begin(void);

/* Why the table was refused; NULL: it was not, or may be no more. */
extern const char *publication_watch_get_refusal(Oid relid);
extern void publication_watch_note_refusal(Oid relid, const char *reason);
/* What is published changed, on which refusals may depend. */
extern void publication_watch_forget_refusals(void);

#endif
