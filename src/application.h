/*
 * Applications as a whole: making one (slot, registry file, decoder) and taking it away again, from a backend
 * that runs a SQL function.
 */
#ifndef SIPHON_APPLICATION_H
#define SIPHON_APPLICATION_H

#include "registry.h"

/* Lets one backend at a time change an application, until the transaction ends. Interruptible. */
extern void application_lock(const char *application);

/* Creates slot and registry file and waits for the decoder. ERROR, with nothing left behind, if it does not come up. */
extern void application_create(const char *application);

/* Stops the decoder, drops the slot, removes registry file and rings. */
extern void application_drop(const Registry *registry);

/*
 * Tells the decoder that the registry changed and waits until it has taken the change. A decoder that does
 * not run takes it when it starts: then a WARNING says so.
 */
extern void application_notify(const char *application);

#endif
