/*
 * Logical messages: what pg_logical_emit_message() writes with a prefix that is Siphon's leaves as a siphon.v1.Message,
 * a record of its own.
 */
#ifndef SIPHON_MESSAGE_H
#define SIPHON_MESSAGE_H

#include "encode/encoder.h"

/*
 * Is the prefix "siphon", or does it begin with "siphon."? Nothing that depends on settings or on what is published, as
 * such messages count in their transaction's ordinals.
 */
extern bool message_is_ours(const char *prefix);

/*
 * Writes the message to the ring, waiting for space. `transaction` is NULL for one that belongs to none. One that can't
 * be published is named in the server's log. False then.
 */
extern bool message_write(const char *application, const char *prefix, const char *content, size_t length,
						  const Transaction *transaction, siphon::Position position);

#endif
