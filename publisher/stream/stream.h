/*
 * A backend as a whole: where an application's messages go. See log.h for how its parts are to be called.
 */
#ifndef SIPHON_STREAM_STREAM_H
#define SIPHON_STREAM_STREAM_H

#include "publisher/stream/log.h"
#include "publisher/stream/spill.h"
#include "publisher/stream/state_store.h"

namespace siphon {

class Stream
{
public:
	virtual ~Stream() = default;

	/* Can be talked to now. Fatal: never again. */
	virtual bool ready() = 0;
	/* Counts breaks after which answers to what is under way may never come. */
	virtual uint64_t interruptions() const = 0;
	/* Where it is, for messages to people. */
	virtual std::string describe() const = 0;

	virtual Log &log() = 0;
	virtual Spill &spill() = 0;
	virtual StateStore &states() = 0;
};

} // namespace siphon

#endif
