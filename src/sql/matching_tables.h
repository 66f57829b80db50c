/*
 * Tables by a pattern of their names: which of a schema's there are, and which of them can be published. One that can't
 * be is left out with what siphon_add_table() would have said, so that it does not keep others from being added.
 */
#ifndef SIPHON_MATCHING_TABLES_H
#define SIPHON_MATCHING_TABLES_H

#include "registry/registry.h"

struct MatchingTable
{
	Oid relid;
	RegistryTable *table; /* NULL: left out */
	char *reason;
	char *hint;
};

/*
 * Of MatchingTable *, by name. Each goes without those of the columns that it has; ERROR if none has one of them, or
 * there is no such schema. The registry may be NULL.
 */
extern List *matching_tables(const Registry *registry, const char *schema, const char *pattern, int partitions,
							 List *exclude_columns);

#endif
