/*
 * Where rings live: files in a directory that the server and the publisher share.
 *
 *   <ring_directory>/<application>/
 *     <ring>.ring        a worker's ring, replaced (renamed over) at every start of the worker
 *     <ring>.bell        FIFO: the publisher wakes the worker
 *     <ring>.lock        flock held by the worker
 *     publisher.bell     FIFO: workers wake the publisher
 *     publisher.lock     flock held by the publisher
 *
 * <ring> is "decoder", or "snapshot-<table's OID>-<worker>" while the table's snapshot runs.
 *
 * All of it is for the server's user alone (directories 0700, files 0600), or, with a group, for its members too (2770,
 * 0660), so that the publisher can be another user. Never for everybody.
 *
 * A ring belongs to who holds its lock, and nobody else replaces or removes it. The lock file says whose it is, for
 * people: the server's data directory.
 *
 * Doorbells are FIFOs because a backend waits on its latch and a file descriptor at once and can't wait on
 * a futex; they work across containers that share the directory. Locks are flock()s: a death releases them.
 * Like ring.h this includes nothing of PostgreSQL, throws nothing; errors are errno values.
 */
#ifndef SIPHON_RING_FILE_H
#define SIPHON_RING_FILE_H

#include <cstddef>
#include <cstdint>

#include "ring_access.h"

namespace siphon {

constexpr size_t kRingPathMax = 1024;

/*
 * Joins directory, application and file name, for messages. False if it does not fit into kRingPathMax, or the
 * application can't be the name of a directory ("", ".", "..", with a slash), which the others call EINVAL.
 */
bool ring_path(char *out, const char *directory, const char *application, const char *file);

struct RingMapping
{
	void *memory; /* nullptr: not mapped */
	size_t size;
	int fd; /* -1: none */
};

/*
 * Worker: makes the directories, and a new zeroed file of `size` bytes under a temporary name,
 * with all of its space allocated so that a full file system is an error here and not a SIGBUS later.
 * Mapped, not yet visible: lay the ring out, then ring_file_publish(). Returns 0 or an errno value;
 * EPERM where a directory belongs to another user or others may write to it (but for the group), as in all that
 * follows.
 */
int ring_file_create(const char *directory, const char *application, const char *ring, size_t size,
					 RingMapping *mapping);
/* Worker: renames the temporary file over <ring>.ring. 0 or errno. */
int ring_file_publish(const char *directory, const char *application, const char *ring);
/*
 * Worker: takes <ring>.ring and its doorbell and lock away again; missing ones are fine. 0 or errno; EWOULDBLOCK, and
 * nothing is touched, if a process holds the lock, be it the caller.
 */
int ring_file_remove(const char *directory, const char *application, const char *ring);

/* Publisher: maps the existing <ring>.ring. 0 or errno (ENOENT: not there yet; EINVAL: too short for a ring). */
int ring_file_open(const char *directory, const char *application, const char *ring, RingMapping *mapping);
/* Publisher: calls found() with the name of each ring of the application. 0 or errno. */
int ring_file_list(const char *directory, const char *application, void (*found)(void *closure, const char *ring),
				   void *closure);
/*
 * Either: true when the open file is no longer the one under its path: it was replaced or removed, or the directory was,
 * or moved. Whoever goes by the path then meets another, or none.
 */
bool is_ring_file_replaced(const char *path, int fd);
/* Worker: true when the mapped file was made shorter, before anything meets what is not there any more. */
bool is_ring_file_cut(const RingMapping *mapping);
void ring_file_close(RingMapping *mapping);

/*
 * Either: takes the lock file `file` ("decoder.lock", "publisher.lock"), creating it. 0 with *fd, EWOULDBLOCK if held.
 * Like doorbell_open() it makes the directories, so that either side may come first.
 */
int ring_lock(const char *directory, const char *application, const char *file, int *fd);

/* Either: opens the FIFO `file` for both ends, creating it if missing; non-blocking. 0 with *fd, or errno. */
int doorbell_open(const char *directory, const char *application, const char *file, int *fd);
void doorbell_ring(int fd);
/* Empties what was rung so far. Bounded work, whatever the other side does. */
void doorbell_drain(int fd);

/*
 * Removes an application's files and its directory; missing ones are fine. 0 or errno. What belongs to a lock that
 * somebody holds stays: another server may use the same directory, and a publisher waits there for the next ring.
 */
int ring_directory_remove(const char *directory, const char *application);

} // namespace siphon

#endif
