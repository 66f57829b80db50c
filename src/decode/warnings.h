/*
 * What is wrong around a decoder that works: it goes on, and yet an operator would rather know. The decoder looks twice
 * a second, at what this server knows by itself; the views and, through the ring, the publisher show it.
 */
#ifndef SIPHON_WARNINGS_H
#define SIPHON_WARNINGS_H

#include "registry/registry.h"

/*
 * RingWarnings, each a bit. Called by the decoder, which has its slot. Sets the application's metric, and logs what
 * lasts for ten seconds.
 */
extern uint64 warnings_check(SharedApplication *app);

/*
 * What only the catalogs say. Called when the decoder starts, in a transaction, and by the output plugin where a transaction
 * has changed catalogs.
 */
extern void warnings_init(const Registry *registry);
extern void warnings_check_catalogs(void);

/* Returns the gravest of them as a reason, and its hint; NULL if there is none. */
extern const char *get_warning_reason(uint64 warnings, const char **hint);

#endif
