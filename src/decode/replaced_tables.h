/*
 * Listed tables that were dropped, and of whose name there is another one by now, which is not listed: somebody has made the
 * table again, and takes it for published. The decoder knows which were dropped; it looks for others of their names where
 * a transaction has changed definitions.
 */
#ifndef SIPHON_REPLACED_TABLES_H
#define SIPHON_REPLACED_TABLES_H

#include "registry/registry.h"

/* When the decoder starts: notes those that are gone by now. In a transaction. */
extern void replaced_tables_init(const Registry *registry);
/* A table was dropped that had this name. */
extern void replaced_tables_note_dropped(Oid relid, const RegistryName &name);
/* Looks for others of their names, by the catalogs that the caller sees. */
extern void replaced_tables_search(void);
/* True if there is one. */
extern bool has_replaced_tables(void);

#endif
