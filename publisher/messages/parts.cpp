/* See parts.h. */
#include "publisher/messages/parts.h"

namespace siphon {

static uint32_t
pieces(uint32_t length, uint32_t size)
{
	return length == 0 ? 1 : (length - 1) / size + 1;
}

std::optional<PartPlan>
plan_parts(uint32_t record_length, uint32_t offset, uint32_t length, uint32_t fragment_limit, uint32_t body_limit)
{
	if (fragment_limit == 0 || body_limit == 0 || offset > record_length || length > record_length - offset)
		return std::nullopt;
	if (offset % fragment_limit != 0 || length > fragment_limit)
		return std::nullopt;
	/* Only the last fragment may be shorter, and only an empty record has an empty one. */
	if (length < fragment_limit && length < record_length - offset)
		return std::nullopt;
	if (length == 0 && record_length > 0)
		return std::nullopt;

	uint32_t full_fragments = record_length == 0 ? 0 : (record_length - 1) / fragment_limit;
	uint64_t per_fragment = pieces(fragment_limit, body_limit);
	uint32_t last_length = record_length - full_fragments * fragment_limit;
	uint64_t total = full_fragments * per_fragment + pieces(last_length, body_limit);

	if (total > UINT32_MAX)
		return std::nullopt;

	PartPlan plan;

	plan.first = static_cast<uint32_t>(offset / fragment_limit * per_fragment) + 1;
	plan.count = pieces(length, body_limit);
	plan.total = static_cast<uint32_t>(total);
	plan.piece_size = body_limit;
	return plan;
}

} // namespace siphon
