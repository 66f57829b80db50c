/*
 * The decoder's part of history.h: it tells the publisher what its events continue.
 */
#ifndef SIPHON_DECODER_HISTORY_H
#define SIPHON_DECODER_HISTORY_H

#include "server/pg.h"

/*
 * The first writes the history record to the ring, before anything else; the second writes it once more when decoding
 * has come to a later timeline, between two records; the third notes in the registry that the publisher has
 * acknowledged it.
 */
extern void history_write(const char *application);
extern void history_write_timeline(const char *application, TimeLineID now);
extern void history_poll(const char *application);

#endif
