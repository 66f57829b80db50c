/*
 * Decides whether a table had rows when a transaction attached it as a partition. Such rows have no events, so the
 * partitioned table needs a resync. Returns true when in doubt: an unnecessary resync is better than missing rows.
 *
 * Mostly the table is empty, and its file has no blocks. Where decoding is behind, rows may have come since, with
 * events: so the rows' transactions are checked. ATTACH PARTITION lets nobody else write the table, so a row was there
 * before if its transaction was over by then; and if it was, the decoder has come past its commit already.
 *
 * A row that was there may have been updated since, and its version of then be gone. The one that is there now bears a
 * mark that it is not the first, as does one of a row that has come since. So where there are such and versions may be
 * gone, that counts as rows.
 */
#ifndef SIPHON_ATTACH_SCAN_H
#define SIPHON_ATTACH_SCAN_H

#include "server/pg.h"

/* Notes the record's transaction ID. Call for each record, before it is decoded. */
extern void attach_scan_track_xids(XLogReaderState *reader);

/*
 * Returns true if the relation had rows before the transaction whose end is being decoded; those that the transaction
 * wrote itself do not count. True also where another session keeps the table locked for long.
 */
extern bool relation_had_rows_before(const ReorderBuffer *reorder, Oid relid);

#endif
