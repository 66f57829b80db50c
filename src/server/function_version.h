/*
 * Is a function of the catalog the one that this library has? The catalog has what CREATE or ALTER EXTENSION made, the
 * library is the one that the server was started with. They are of different versions between the installation of a
 * package and what has to follow it, and on a standby, whose catalog is its primary's. An argument that was not passed,
 * or a column that the library doesn't know, would be read from where nothing is.
 */
#ifndef SIPHON_FUNCTION_VERSION_H
#define SIPHON_FUNCTION_VERSION_H

#include "pg.h"

/* Does the function have this number of arguments? */
extern void check_argument_count(FunctionCallInfo fcinfo, const char *function, int arguments);
/* Begins the rows of a set-returning function, which has this number of columns. */
extern ReturnSetInfo *begin_rows(FunctionCallInfo fcinfo, const char *function, int columns);

#endif
