/*
 * A status as JSON, for programs and for the page. It holds no secrets: addresses come without users and passwords, and
 * there is nothing of rows.
 */
#ifndef SIPHON_STATUS_JSON_H
#define SIPHON_STATUS_JSON_H

#include <string>
#include <vector>

#include "monitor.h"
#include "status.h"

namespace siphon {

std::string status_json(const Status &status, Status::Clock::time_point now, Status::Clock::time_point started);
std::string history_json(const std::vector<Sample> &samples);

} // namespace siphon

#endif
