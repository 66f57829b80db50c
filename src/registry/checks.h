/*
 * What can be refused at once is refused at once, in one clear error whose hint is the command that fixes the cause.
 */
#ifndef SIPHON_CHECKS_H
#define SIPHON_CHECKS_H

#include "registry.h"

/* The library must be preloaded for anything to work. */
extern void check_preloaded(void);
extern void check_application_name(const char *application);
/* Everything about the server that decoding needs, and a free slot unless the application's own one is there already.
 */
extern void check_server(const char *application, const char *slot, bool slot_exists);
/* A slot that is synchronized to standbys. */
extern void check_failover(const char *application);
/* No slot can be created by a transaction that has written. */
extern void check_transaction(void);
extern void check_partitions(int partitions);
extern void check_workers(int workers);
/* The caller may make an application, by whatever function. */
extern void check_may_create(const char *application);
/* The caller may have all tables published, whatever others put into a publication. */
extern void check_may_publish_all(void);
/* The caller may read the whole table, and so have a say in its publication. A table that is gone is nobody's. */
extern void check_may_read(Oid relid);
/* Columns that are to be excluded exist. */
extern void check_columns(Relation relation, List *columns);
/*
 * Nothing keeps the table from being published as the registry is to have it: see obstacles.h. The relation is open.
 * Without `wait` partitions that another session has locked are skipped.
 */
extern void check_table(Relation relation, const RegistryTable *table, bool wait);
/* A NOTICE names those that are not published. */
extern void notice_virtual_columns(Relation relation);
/* Likewise of tables that inherit from a table: their rows are theirs, though a SELECT from it shows them. */
extern void notice_children(Oid relid);

#endif
