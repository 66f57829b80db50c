/*
 * Which transactions a snapshot shows, as proto/siphon.proto has it in SnapshotEnd: what they did is in the rows, so
 * their changes must not follow them.
 */
#ifndef SIPHON_VISIBILITY_H
#define SIPHON_VISIBILITY_H

#include <algorithm>
#include <cstdint>
#include <vector>

namespace siphon {

struct Visibility
{
	uint64_t lsn = 0; /* what commits here or later is not shown */
	uint32_t xmin = 0;
	uint32_t xmax = 0;
	std::vector<uint32_t> in_progress; /* sorted by sort(); as numbers, for finding only */

	void sort() { std::sort(in_progress.begin(), in_progress.end()); }

	/* Transaction ids wrap around: one precedes the 2^31 that follow it. */
	static bool precedes(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

	/* The rows show already what this transaction did. */
	bool shows(uint64_t commit_lsn, uint32_t xid) const
	{
		if (commit_lsn >= lsn || !precedes(xid, xmax))
			return false;
		return !std::binary_search(in_progress.begin(), in_progress.end(), xid);
	}

	bool operator==(const Visibility &) const = default;
};

} // namespace siphon

#endif
