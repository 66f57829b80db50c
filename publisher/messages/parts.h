/*
 * How a record becomes messages. A ring record comes as frames (fragments), each of which is published by
 * itself; a fragment larger than a message body may be is cut into pieces. All messages of a record are
 * numbered through, 1 to m, and every fragment must come to the same numbers without having seen the
 * others: that is the arithmetic here.
 */
#ifndef SIPHON_PARTS_H
#define SIPHON_PARTS_H

#include <cstdint>
#include <optional>

namespace siphon {

/* Where the messages of one fragment stand in their record. */
struct PartPlan
{
	uint32_t first;      /* number of this fragment's first message, from 1 */
	uint32_t count;      /* messages of this fragment */
	uint32_t total;      /* messages of the whole record */
	uint32_t piece_size; /* payload bytes in every message of the fragment but its last */

	uint32_t last() const { return first + count - 1; }
};

/*
 * record_length, offset and length place the fragment; fragment_limit is the payload size of every
 * fragment of the record but the last; body_limit (> 0) that of a message. nullopt: the fragment can't be
 * one of that record, so the ring is corrupt.
 */
std::optional<PartPlan> plan_parts(uint32_t record_length, uint32_t offset, uint32_t length, uint32_t fragment_limit,
								   uint32_t body_limit);

} // namespace siphon

#endif
