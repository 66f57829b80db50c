/*
 * Text for the wire, which is UTF-8 whatever the database's encoding. Not all text is: a SQL_ASCII database holds any
 * bytes, and other encodings have characters that Unicode lacks. Neither may end the decoder, or reach a consumer as
 * a string that it can't read.
 */
#ifndef SIPHON_TEXT_H
#define SIPHON_TEXT_H

#include "pg.h"

/* Called once, in a transaction, before the others. */
extern void text_init(void);

/* Makes UTF-8 of text in the server's encoding. False if it can't be: then nothing is changed. */
extern bool text_to_utf8(const char **text, size_t *length);

/*
 * The same for names, where there has to be an answer: bytes of a name that has no UTF-8 are taken for LATIN1. At most
 * MAX_CONVERSION_GROWTH times as long.
 */
extern const char *name_to_utf8(const char *name, size_t *length);

/* True if it is UTF-8, which the text of foreign output functions may not be even in a database that is. */
extern bool text_is_utf8(const char *text, size_t length);

#endif
