/*
 * What the registry says of a published table.
 */
#ifndef SIPHON_TABLE_SETTINGS_H
#define SIPHON_TABLE_SETTINGS_H

#include "table.h"

/* Takes the registry's settings of the table. False: they are what they were. */
extern bool table_take_settings(Table *table, const RegistryTable *listed);

#endif
