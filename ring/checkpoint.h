/*
 * The checkpoint: what the publisher's streams held when it acknowledged something last. It goes with each
 * acknowledgement through the ring to the decoder, which makes it durable before the slot is confirmed past that, and
 * hands it to the next publisher, on this machine or another: a stream that does not hold it has lost its end, was
 * restored, or is another one.
 *
 * The server never looks into it. Like ring.h this is for both sides and includes nothing of PostgreSQL.
 */
#ifndef SIPHON_CHECKPOINT_H
#define SIPHON_CHECKPOINT_H

#include <cstdint>

namespace siphon {

/* All zero: there is none. */
struct Checkpoint
{
	struct End
	{
		uint64_t log;     /* which log that is, as by when it was made; 0: not known */
		uint64_t place;   /* of the last message that was acknowledged, in the log's own terms */
		uint64_t message; /* hash of that message's id */

		bool operator==(const End &) const = default;
	};

	End log;   /* the application's stream */
	End spill; /* the stream of held changes */

	bool operator==(const Checkpoint &) const = default;
};

constexpr uint32_t kCheckpointWords = 6;
static_assert(sizeof(Checkpoint) == kCheckpointWords * sizeof(uint64_t));

} // namespace siphon

#endif
