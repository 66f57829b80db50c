/*
 * The decoder's part of origin.h: it tells the publisher what its events continue.
 */
#ifndef SIPHON_DECODER_ORIGIN_H
#define SIPHON_DECODER_ORIGIN_H

#include "server/pg.h"

/*
 * The first writes the origin record to the ring, before anything else; the second once more
 * when decoding has come to a later timeline, between two records; the third notes that the publisher has it.
 */
extern void origin_begin(const char *application);
extern void origin_follow_timeline(const char *application, TimeLineID now);
extern void origin_serve(const char *application);

#endif
