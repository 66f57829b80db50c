/*
 * Reading JSON as the registry has it: objects, arrays, strings and whole numbers. PostgreSQL's jsonb would do, but it
 * sorts and copies what it is given, which with thousands of tables in a registry takes most of the time of a call.
 */
#ifndef SIPHON_JSON_H
#define SIPHON_JSON_H

#include "pg.h"

enum class JsonKind { Object, Array, String, Number };

struct Json
{
	JsonKind kind;
	const char *key;  /* in an object */
	const char *text; /* String */
	int64 number;     /* Number */
	Json *first;      /* Object, Array */
	Json *next;       /* in the same one */
};

/*
 * Parses `text`, which is used up: strings are where they stood in it. The rest is in the current memory context. NULL
 * if it is no such JSON.
 */
extern Json *json_parse(char *text);

/* NULL if the object has no such key. */
extern const Json *json_member(const Json *object, const char *key);

#endif
