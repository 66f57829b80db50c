/*
 * Whom an error is to be blamed on: a table, of which a row cannot be published, or none. What fails each time because
 * of one table must not end each decoder, which publishes the others as well: so that table is published no further.
 *
 * What is noted here is by whom it is set, and not freed by an error.
 */
#ifndef SIPHON_BLAME_H
#define SIPHON_BLAME_H

#include "pg.h"

struct Blame
{
	Oid relid;        /* the table of which values are being converted; InvalidOid: none */
	const char *type; /* whose output function is being looked for, maybe in a library; or NULL */
	size_t size;      /* of the row or value at hand, in bytes, if it is large */
};

extern Blame blame;

/* From here on errors are this table's; */
static inline void
blame_begin(Oid relid)
{
	blame = {relid, nullptr, 0};
}

/* and from here on nobody's. */
static inline void
blame_end(void)
{
	blame = {};
}

/* Is an error about data or definitions, and not about this process or the server? Then it would come again. */
extern bool is_error_about_data(const ErrorData *error);

/*
 * After how many errors like this one, in a row and at the same place, the next attempt has to be expected to fail as
 * well, because of the table. 0: it is not the table's.
 */
extern int get_max_blamed_attempts(const ErrorData *error);

/* The error as it is told of the table, with what to do about it if that is known. In the current memory context. */
extern char *get_blame_reason(const ErrorData *error);

#endif
