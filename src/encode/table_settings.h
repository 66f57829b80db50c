/*
 * What the registry says of the published tables.
 */
#ifndef SIPHON_TABLE_SETTINGS_H
#define SIPHON_TABLE_SETTINGS_H

#include "tables.h"

/* Takes the published tables from the registry. Those of which it says something else than before are rebuilt. */
extern void tables_load(const Registry *registry);
/* Of RegistryTable *: the registry's tables, but for those that are certain to be as tables_load() has seen them. */
extern List *tables_list_changed(const Registry *registry);
/* True if tables_load() has seen the table in that generation before. */
extern bool is_table_known(Oid relid, uint32 generation);
/* For a snapshot's process: the one table that it scans. */
extern void tables_load_one(const RegistryTable *table);

#endif
