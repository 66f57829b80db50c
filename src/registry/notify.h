/*
 * Changes of an application as its users make them, one at a time: and that decoder and launcher hear of them.
 */
#ifndef SIPHON_NOTIFY_H
#define SIPHON_NOTIFY_H

#include "registry.h"

/* Lets one backend at a time change an application, until the transaction ends. Interruptible. */
extern void application_lock(const char *application);
/* The same without waiting. Returns false if another backend has it locked. */
extern bool application_try_lock(const char *application);

/* Wakes the decoder, if it runs, as the registry changed. */
extern void application_wake_decoder(SharedApplication *app);
/*
 * The same, and waits until it has taken the change. False if it does not run, with the reason in `reason`
 * (kReasonLength bytes): it will take the change when it starts. Callers keep no locks on catalogs: see subxact_read.h.
 */
extern bool application_notify(const char *application, char *reason);
/* The same, for a person: what was asked for takes effect later if the decoder does not run, and a WARNING says so. */
extern void application_notify_or_warn(const char *application);

/* There has been no launcher for longer than its restart takes: nobody will do what we wait for. */
extern bool is_launcher_missing(TimestampTz since);

/* What siphon_applications says of one that is stopped. */
constexpr char kStoppedReason[] = "siphon_stop_application() stopped it";
extern const char *application_start_hint(const char *application);

#endif
