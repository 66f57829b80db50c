/*
 * Rows of a catalog by an OID in one of their columns, as whichever snapshot shows them: also those that are replaced
 * or removed, which syscaches don't have.
 */
#ifndef SIPHON_CATALOG_SCAN_H
#define SIPHON_CATALOG_SCAN_H

#include "pg.h"

struct CatalogScan
{
	Relation catalog;
	SysScanDesc scan;
};

/* With SnapshotAny all versions that are there; with NULL the current ones, in a decoder those of where it is. */
extern CatalogScan catalog_scan_begin(Oid catalog, Oid index, AttrNumber attribute, Oid value, Snapshot snapshot);
extern void catalog_scan_end(CatalogScan *scan);

static inline HeapTuple
catalog_scan_next(const CatalogScan *scan)
{
	return systable_getnext(scan->scan);
}

#endif
