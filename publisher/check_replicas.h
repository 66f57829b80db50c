/*
 * Whether each copy of a stream has what its leader has. A copy that refuses what comes is "current" for the leader;
 * the node itself tells, on its monitoring port.
 */
#ifndef SIPHON_CHECK_REPLICAS_H
#define SIPHON_CHECK_REPLICAS_H

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "publisher/check_findings.h"

namespace siphon {

struct StreamInfo
{
	std::string name;
	nlohmann::json info; /* as STREAM.INFO gave it */
};

/* `urls`: http://host:port of each node's monitoring port, separated by commas; empty: what was not looked at is said.
 */
void look_at_replicas(const std::vector<StreamInfo> &streams, const std::string &urls, Findings *findings);

} // namespace siphon

#endif
