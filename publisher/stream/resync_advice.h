/* What to do about a stream that does not hold what it should. */
#ifndef SIPHON_STREAM_RESYNC_ADVICE_H
#define SIPHON_STREAM_RESYNC_ADVICE_H

#include <string>

namespace siphon {

/* Returns the end of a message: the command that starts the stream over. */
inline std::string
resync_advice(const std::string &application)
{
	return "to publish all rows anew, run on the server: SELECT siphon_resync_application('" + application + "')";
}

} // namespace siphon

#endif
