/*
 * Held changes: a log of its own, so that no limit of the stream takes them away, consumers and mirrors don't see them, and
 * removing them costs nothing. Nothing may take messages away but drop().
 */
#ifndef SIPHON_STREAM_SPILL_H
#define SIPHON_STREAM_SPILL_H

#include "publisher/stream/log.h"

namespace siphon {

class Spill : public Log
{
public:
	/* Removes everything in front of a place, but for the last message of all. False: not yet. */
	virtual bool drop(Place in_front_of, std::string *why) = 0;
};

} // namespace siphon

#endif
