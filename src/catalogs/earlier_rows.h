/*
 * Had a table rows before a transaction that made it a partition? Those come without events.
 *
 * Mostly the table is empty, and its file has no blocks. Where decoding is behind, rows may have come since, with
 * events: so the rows' transactions are asked for. ATTACH PARTITION lets nobody else write the table, so a row was
 * there before if its transaction was over by then; and if it was, the decoder has come past its commit already.
 *
 * A row that was there may have been updated since, and its version of then be gone. The one that is there now bears a
 * mark that it is not the first, as does one of a row that has come since. So where there are such and versions may be
 * gone, that counts as rows: rather are some brought out for nothing than missed.
 */
#ifndef SIPHON_EARLIER_ROWS_H
#define SIPHON_EARLIER_ROWS_H

#include "server/pg.h"

/* Notes which transactions there are. To be called for each record, before it is decoded. */
extern void earlier_rows_follow(XLogReaderState *reader);

/*
 * To be called while the transaction's end is decoded. What it wrote itself does not count. True also where it can't be
 * told, as somebody has the table locked for long.
 */
extern bool earlier_rows(const ReorderBuffer *reorder, Oid relid);

#endif
