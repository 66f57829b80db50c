/*
 * A log line as JSON, one object each, for collectors. Its fields never change their names: time, level, application,
 * message.
 */
#ifndef SIPHON_LOG_JSON_H
#define SIPHON_LOG_JSON_H

#include <memory>
#include <string>

#include <spdlog/formatter.h>

namespace siphon {

std::unique_ptr<spdlog::formatter> json_formatter(const std::string &application);

} // namespace siphon

#endif
