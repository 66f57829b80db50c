/*
 * What options are given as: numbers, durations, sizes, choices and addresses. Each function throws
 * std::invalid_argument with a line that repeats the text and says what it should be; CommandLine puts the option's
 * name in front.
 */
#ifndef SIPHON_OPTION_VALUES_H
#define SIPHON_OPTION_VALUES_H

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace siphon {

int64_t parse_integer(const std::string &text, int64_t low, int64_t high);
/* "10s", "5min", "100ms", "2h", "7d"; a number without unit is seconds. */
std::chrono::milliseconds parse_duration(const std::string &text);
/* "64MB", "64MiB", "1GB", as PostgreSQL has them: units are powers of 1024. */
uint64_t parse_bytes(const std::string &text);
/* Returns the text, if it is one of the choices. */
std::string parse_choice(const std::string &text, std::initializer_list<const char *> choices);
/* The parts of "127.0.0.1:9711" or "[::1]:9711". */
void split_listen(const std::string &text, std::string *host, int *port);

} // namespace siphon

#endif
