/*
 * How siphon-publisher and siphon-tail end. Supervisors decide by these numbers whether a restart can
 * help, so they are part of the interface: --help lists them, and a number never changes its meaning.
 *
 * Whoever meets a condition that no waiting mends throws Fatal; main() prints its one line and exits.
 */
#ifndef SIPHON_EXIT_CODES_H
#define SIPHON_EXIT_CODES_H

#include <stdexcept>
#include <string>

namespace siphon {

enum class ExitCode {
	Clean = 0,         /* stopped as asked */
	Unexpected = 1,    /* an error that has no number of its own */
	Usage = 2,         /* wrong option, configuration, directory, permission or credentials */
	Locked = 3,        /* another publisher runs for this application */
	StreamRefused = 4, /* the stream is not as it must be, or is another database's */
	RingRefused = 5,   /* the ring is of another version, or none at all */
	AttachTimeout = 6, /* no ring within --attach-timeout */
	Replaced = 7,      /* another publisher of the same database publishes to the stream now */
};

constexpr const char kExitCodesHelp[] = "Exit codes:\n"
										"  0  stopped as asked\n"
										"  1  unexpected error\n"
										"  2  wrong option, configuration, directory, permission or credentials\n"
										"  3  another publisher runs for this application\n"
										"  4  the stream is not as it must be, or is another database's\n"
										"  5  the ring is of another version, or none at all\n"
										"  6  no ring within --attach-timeout\n"
										"  7  replaced: another publisher publishes to the stream now\n";

struct Fatal : std::runtime_error
{
	Fatal(ExitCode exit_code, const std::string &line) : std::runtime_error(line), code(exit_code) {}

	ExitCode code;
};

} // namespace siphon

#endif
