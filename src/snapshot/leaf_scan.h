/*
 * What the processes of a snapshot read: the blocks of a table, or of all leaves of a partitioned one, in ranges
 * that they take from a counter in shared memory.
 *
 * Each process makes the list of leaves by itself, from the catalogs as the snapshot shows them, so they agree. The
 * counter holds the number of a leaf and, in its lower half, of a block. How many blocks the leaf has they may see
 * differently, as tables grow; but where they differ there are no rows that the snapshot shows.
 */
#ifndef SIPHON_LEAF_SCAN_H
#define SIPHON_LEAF_SCAN_H

#include "server/pg.h"

struct LeafScan
{
	Relation table;
	List *leaves; /* Oids */
	int current;  /* the leaf that is open, or -1 */
	Relation leaf;
	AttrMap *map; /* where it has the table's attributes; NULL: where the table has them */
	BlockNumber blocks;
	BlockNumber end;  /* of the range */
	BlockNumber page; /* of the row that was read last, */
	bool new_page;    /* which is the first of its page */
	TableScanDesc scan;
	TupleTableSlot *row;
	TupleTableSlot *mapped; /* the row as one of the table, or NULL if there is no map */
};

/* Begins to read with the active snapshot. The table is open and stays so. */
extern void leaf_scan_begin(LeafScan *scan, Relation table);

/*
 * Locks all leaves until the end of the transaction, so that none is dropped or truncated. Returns how many blocks
 * they have; *ranges: in how many pieces processes take them. The leader's part.
 */
extern uint64 leaf_scan_lock_leaves(LeafScan *scan, uint64 *ranges);

/* Takes the next range from the counter. Returns how many blocks it has, or 0 if there are no more. */
extern BlockNumber leaf_scan_take_range(LeafScan *scan, pg_atomic_uint64 *counter);

/* The next row of the range, with the attributes of the table; NULL: there are no more. */
extern TupleTableSlot *leaf_scan_next_row(LeafScan *scan);

/*
 * Gives the first row of a page back, which comes again next, and unpins the page. VACUUM, and replay on a standby,
 * may wait for a process that holds a page pinned, so a process that waits should hold none.
 */
extern void leaf_scan_give_row_back(LeafScan *scan);

extern void leaf_scan_end(LeafScan *scan);

#endif
