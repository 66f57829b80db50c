/*
 * jsonb as text, exactly as jsonb_out() writes it, in one pass over its bytes. Through the server's iterator and its
 * string buffer it took more than half of a decoder's time with a table that has a small jsonb.
 */
#ifndef SIPHON_JSONB_TEXT_H
#define SIPHON_JSONB_TEXT_H

#include "server/buffer.h"

/*
 * Appends the text, in the server's encoding, of a jsonb that is not toasted, but may have a short header. False if it
 * is nested too deeply for this; what was appended then means nothing.
 */
extern bool jsonb_text(siphon::WireBuffer *out, const void *jsonb);

#endif
