/*
 * The part of siphon-publisher check that asks NATS: whether it lets us in, and whether the application's streams are
 * as they must be, are this database's, and have what was acknowledged. What it can't look at it says.
 */
#ifndef SIPHON_CHECK_NATS_H
#define SIPHON_CHECK_NATS_H

#include <cstdint>

#include "publisher/check_findings.h"
#include "publisher/config/config.h"
#include "ring/checkpoint.h"

namespace siphon {

/* What the decoder's ring says of the stream. */
struct RingIdentity
{
	uint64_t history = 0; /* 0: there is no ring */
	Checkpoint acknowledged{};
};

void look_at_nats(const Config &config, const RingIdentity &ring, Findings *findings);

} // namespace siphon

#endif
