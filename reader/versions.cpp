/* See versions.h. */
#include "reader/versions.h"

#include <nats/nats.h>
#include <zstd.h>

#include "ring/ring.h"

namespace siphon {

std::string
library_versions()
{
	return "ring version " + std::to_string(kRingVersion) + ", nats.c " + nats_GetVersion() + ", zstd " +
		   ZSTD_versionString();
}

} // namespace siphon
