/*
 * What siphon-tail is asked for: by a flag, or by its environment variable. Anything wrong is a Fatal(Usage) that names
 * the option.
 */
#ifndef SIPHON_TAIL_CONFIG_H
#define SIPHON_TAIL_CONFIG_H

#include <cstdint>
#include <optional>
#include <string>

#include "reader/stream_options.h"

namespace siphon {

struct TailConfig : StreamOptions
{
	std::string table; /* schema.table, or empty for all */
	bool from_start = false;
	bool stop_at_end = false;
	bool watermarks = false;
	bool messages = false;
	bool columns = false;
	uint64_t count = 0; /* 0: no limit */
};

/* Returns nullopt if --help or --version was asked for, and has been printed. */
std::optional<TailConfig> read_tail_config(int argc, const char *const *argv);

} // namespace siphon

#endif
