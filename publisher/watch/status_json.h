/*
 * A status as JSON, for programs and for the page. It holds no secrets: addresses come without users and passwords, and
 * there is nothing of rows.
 */
#ifndef SIPHON_STATUS_JSON_H
#define SIPHON_STATUS_JSON_H

#include <string>
#include <vector>

#include "publisher/source/ring_directory.h"
#include "publisher/watch/status.h"
#include "publisher/watch/status_history.h"

namespace siphon {

std::string status_json(const Status &status, Status::Clock::time_point now, Status::Clock::time_point started,
						const std::vector<OtherApplication> &others = {});
/* `started`: when the publisher was, seconds since 1970; what was before is not known. */
std::string history_json(const std::vector<Sample> &samples, int64_t started);

} // namespace siphon

#endif
