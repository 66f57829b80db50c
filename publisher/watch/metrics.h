/*
 * A status as Prometheus reads it. Families are made anew for each scrape, from a copy: a registry of live counters would
 * have the loop and a scrape wait for each other's locks.
 */
#ifndef SIPHON_METRICS_H
#define SIPHON_METRICS_H

#include <string>

#include "publisher/watch/status.h"

namespace siphon {

/* Text in Prometheus' exposition format. per_table: false leaves out the labels that name tables. */
std::string metrics_text(const Status &status, Status::Clock::time_point now, bool per_table);

} // namespace siphon

#endif
