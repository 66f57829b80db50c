/*
 * Packages being filled: the events of one table and one partition gather here until there are enough of
 * them (siphon.package_size) or enough time has passed (siphon.flush_interval), and then go to the ring.
 */
#ifndef SIPHON_PACKAGE_H
#define SIPHON_PACKAGE_H

#include "ring/ring.h"
#include "table.h"

/* Where packages go when they are full. May wait. */
typedef void (*RecordWriter)(const siphon::RecordInfo &info, const siphon::WireBuffer *payload,
							 TimestampTz commit_time);

/* Called once in a process. */
extern void packages_init(RecordWriter writer);

/*
 * Between these two a siphon.v1.Event of at most `bound` bytes is written to the end of the buffer. The first may write
 * packages to the ring, and so wait for its space.
 */
extern siphon::WireBuffer *package_begin_event(Table *table, int partition, size_t bound, siphon::Position position);
extern void package_end_event(Table *table, int partition, siphon::Operation operation, siphon::Position position,
							  TimestampTz commit_time);

/* Writes all open packages to the ring. */
extern void packages_write_all(void);

/* Writes a siphon.v1.TableSchema to the ring: that of the table's packages from here on, which is at this place. */
extern void package_write_schema(const Table *table, const siphon::WireBuffer *schema, XLogRecPtr lsn);
/* Writes all open packages, and that behind this commit the table comes under this name no more. */
extern void package_write_end(const Table *table, XLogRecPtr commit_lsn);

#endif
