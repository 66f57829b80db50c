/*
 * Scans of a snapshot: see leaf_scan.h.
 */
#include "leaf_scan.h"

#include "catalogs/obstacles.h"
#include "catalogs/partition_tree.h"

extern "C" {
#include "access/heapam.h"
#include "access/tableam.h"
#include "access/tupconvert.h"
#include "utils/snapmgr.h"
}

/* Blocks that a process takes at a time: 1 MB, so that read-ahead has room and processes end together. */
static constexpr BlockNumber kRangeBlocks = 128;

void
leaf_scan_begin(LeafScan *scan, Relation table)
{
	memset(scan, 0, sizeof(*scan));
	scan->table = table;
	scan->leaves = leaves_of(table, GetActiveSnapshot());
	scan->current = -1;
}

static Relation
open_leaf(const LeafScan *scan, int index)
{
	Relation leaf = try_table_open(list_nth_oid(scan->leaves, index), AccessShareLock);

	if (leaf == nullptr)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("a partition of table \"%s\" does not exist any more",
																 RelationGetRelationName(scan->table))));
	return leaf;
}

uint64
leaf_scan_lock_leaves(LeafScan *scan, uint64 *ranges)
{
	uint64 blocks = 0;

	*ranges = 0;
	for (int i = 0; i < list_length(scan->leaves); i++)
	{
		Relation leaf = open_leaf(scan, i);
		BlockNumber count;

		/* One may have been attached since the table was added. */
		check_obstacle(kind_obstacle(leaf));
		check_obstacle(storage_obstacle(RelationGetRelid(leaf)));
		count = RelationGetNumberOfBlocks(leaf);
		blocks += count;
		*ranges += count / kRangeBlocks + (count % kRangeBlocks > 0);
		table_close(leaf, NoLock);
	}
	return blocks;
}

static void
close_current(LeafScan *scan)
{
	if (scan->current < 0)
		return;
	if (scan->mapped)
		ExecDropSingleTupleTableSlot(scan->mapped);
	ExecDropSingleTupleTableSlot(scan->row);
	table_endscan(scan->scan);
	if (scan->map)
		free_attrmap(scan->map);
	/* The leader's lock remains. */
	table_close(scan->leaf, AccessShareLock);
	scan->current = -1;
}

static void
open_current(LeafScan *scan, int index)
{
	if (scan->current == index)
		return;
	close_current(scan);
	scan->leaf = open_leaf(scan, index);
	scan->map = siphon_attribute_map(RelationGetDescr(scan->leaf), RelationGetDescr(scan->table));
	scan->blocks = RelationGetNumberOfBlocks(scan->leaf);
	/* A large table is read through a small circle of buffers, so that it does not push others out of the cache. */
	scan->scan = table_beginscan_strat(scan->leaf, GetActiveSnapshot(), 0, nullptr, true, false);
	scan->row = table_slot_create(scan->leaf, nullptr);
	scan->mapped = scan->map ? MakeSingleTupleTableSlot(RelationGetDescr(scan->table), &TTSOpsVirtual) : nullptr;
	scan->current = index;
}

static void
set_range(LeafScan *scan, BlockNumber first, BlockNumber end)
{
	table_rescan(scan->scan, nullptr);
	heap_setscanlimits(scan->scan, first, end - first);
	scan->end = end;
	scan->page = InvalidBlockNumber;
}

BlockNumber
leaf_scan_take_range(LeafScan *scan, pg_atomic_uint64 *counter)
{
	uint64 position = pg_atomic_read_u64(counter);

	for (;;)
	{
		uint64 index = position >> 32;
		BlockNumber first = static_cast<BlockNumber>(position);
		BlockNumber count;

		if (index >= static_cast<uint64>(list_length(scan->leaves)))
			return 0;
		open_current(scan, static_cast<int>(index));
		count = first < scan->blocks ? Min(kRangeBlocks, scan->blocks - first) : 0;
		/* If another was faster, this loads what it has left in `position`. */
		if (!pg_atomic_compare_exchange_u64(counter, &position, count ? position + count : (index + 1) << 32))
			continue;
		if (count)
		{
			set_range(scan, first, first + count);
			return count;
		}
		position = (index + 1) << 32;
	}
}

TupleTableSlot *
leaf_scan_next_row(LeafScan *scan)
{
	BlockNumber page;

	if (!table_scan_getnextslot(scan->scan, ForwardScanDirection, scan->row))
		return nullptr;
	page = ItemPointerGetBlockNumber(&scan->row->tts_tid);
	scan->new_page = page != scan->page;
	scan->page = page;
	return scan->map ? execute_attr_map_slot(scan->map, scan->row, scan->mapped) : scan->row;
}

void
leaf_scan_give_row_back(LeafScan *scan)
{
	Assert(scan->new_page);
	if (scan->mapped)
		ExecClearTuple(scan->mapped);
	ExecClearTuple(scan->row);
	set_range(scan, scan->page, scan->end);
}

void
leaf_scan_end(LeafScan *scan)
{
	close_current(scan);
	list_free(scan->leaves);
}
