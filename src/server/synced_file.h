/*
 * Small files that must be on disk before something else counts. All raise ERROR, with the file closed, if that can't be
 * done.
 */
#ifndef SIPHON_SYNCED_FILE_H
#define SIPHON_SYNCED_FILE_H

#include "pg.h"

/* The path of an application's file with this ending: into MAXPGPATH bytes, below the data directory. */
extern void synced_file_path(char *out, const char *application, const char *ending);

/* Closes the file, if it is open, and raises the error of errno: could not `what` the file. */
[[noreturn]] extern void synced_file_fail(int fd, const char *what, const char *path);

extern void synced_file_close(int fd, const char *path);

/* Writes at a place of an open file. Where the file had that place already, this takes one flush of the disk. */
extern void synced_file_write(int fd, const void *bytes, size_t length, off_t offset, const char *path);

/* Makes the file, which is there as a whole or not at all. */
extern void synced_file_create(const char *path, const void *bytes, size_t length);

/* A missing one is fine. */
extern void synced_file_remove(const char *path);

#endif
