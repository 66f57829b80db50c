/*
 * Rows of a catalog by an OID: see catalog_scan.h.
 */
#include "catalog_scan.h"

extern "C" {
#include "utils/fmgroids.h"
}

CatalogScan
catalog_scan_begin(Oid catalog, Oid index, AttrNumber attribute, Oid value, Snapshot snapshot)
{
	CatalogScan scan;
	ScanKeyData key;

	scan.catalog = table_open(catalog, AccessShareLock);
	ScanKeyInit(&key, attribute, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(value));
	scan.scan = systable_beginscan(scan.catalog, index, true, snapshot, 1, &key);
	return scan;
}

void
catalog_scan_end(CatalogScan *scan)
{
	systable_endscan(scan->scan);
	table_close(scan->catalog, AccessShareLock);
}
