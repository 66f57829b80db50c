/*
 * What keeps a table from being published: the same rules, in this order, for who adds a table, who asks for its rows
 * anew, the process that scans it, and the decoder, which has the table as it was at each place of the WAL.
 *
 *   kind      it is no table, or not the user's
 *   storage   its changes are not in the WAL, or not as heap writes them
 *   identity  updates and deletes do not say in the WAL which row they mean; and for a table that is divided, by what
 *   leaves    the two before, of each leaf of a partitioned table
 *   columns   its key has columns that are excluded, and part of a key tells no rows apart
 *
 * All return what is in the way, in the current memory context, or NULL.
 */
#ifndef SIPHON_OBSTACLES_H
#define SIPHON_OBSTACLES_H

#include "server/siphon.h"

struct Obstacle
{
	int code; /* for an error */
	const char *message;
	const char *detail; /* or NULL */
	const char *hint;
};

extern const Obstacle *kind_obstacle(Relation relation);
extern const Obstacle *storage_obstacle(Oid relid);
extern const Obstacle *identity_obstacle(Relation relation, int partitions);
extern const Obstacle *leaves_obstacle(Relation root, bool wait);
/* `only`, `attributes` and `names` are what RegistryTable has. */
extern const Obstacle *columns_obstacle(Relation relation, const List *only, const List *attributes, const List *names);

/* Does a row of pg_class say that changes of the rows are in the WAL, as heap writes them? */
extern bool storage_is_logged(Form_pg_class form);

/* ERROR, if there is an obstacle. */
extern void check_obstacle(const Obstacle *obstacle);

/*
 * Opens a table, with AccessShareLock; NULL if there is none. Without `wait` also if somebody else has it locked: so whoever
 * holds the application's lock keeps nobody from the application for that.
 */
extern Relation open_published(Oid relid, bool wait);

/* Is a column left out, by what RegistryTable has of columns? */
extern bool is_column_excluded(const List *only_attributes, const List *exclude_attributes, const List *exclude_columns,
							   const char *column, int attnum);

#endif
