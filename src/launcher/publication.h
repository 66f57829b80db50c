/*
 * A publication's tables, as the view pg_publication_tables has them, but read from the catalogs alone: the view opens
 * each table, and waits for whoever has one locked.
 */
#ifndef SIPHON_PUBLICATION_H
#define SIPHON_PUBLICATION_H

#include "server/pg.h"

struct PublicationMember
{
	Oid relid;
	bool filtered;         /* by a WHERE clause */
	List *only_attributes; /* of int, ascending; NIL: all */
	List *exclude_columns; /* of char *: the others */
};

/* Of PublicationMember *, by OID. Without the extension's own table. In a transaction with a snapshot. */
extern List *list_publication_members(const char *publication);

/* Why a publication of this database can't be followed; NULL: it can. In a transaction. */
extern const char *publication_unsupported_reason(const char *publication);
/* What to do about that. */
extern const char *publication_unsupported_hint(const char *publication, const char *problem);

#endif
