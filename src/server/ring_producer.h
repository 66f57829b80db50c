/*
 * A worker's ring: how the decoder, or a worker of a snapshot, hands records to the publisher. Each such process has
 * one. It waits for space as long as it takes, and keeps its process listening meanwhile.
 */
#ifndef SIPHON_RING_PRODUCER_H
#define SIPHON_RING_PRODUCER_H

#include "buffer.h"
#include "ring/ring.h"
#include "siphon.h"

/*
 * Makes a new ring of `capacity` bytes in place of an older one of that name ("decoder"). History: that of the
 * application, to which what it holds belongs. Again only behind ring_producer_remove().
 */
extern void ring_producer_open(const char *application, const char *ring, uint64 capacity, uint64 history);

/* Writes a record, waiting for space. */
extern void ring_producer_write(const siphon::RecordInfo &info, const siphon::WireBuffer *payload);

/*
 * Is there room for what is usually written at a time? To be asked by who holds something that others may wait for, and
 * gives it up to wait.
 */
extern bool ring_producer_has_room(void);
/* Waits until there is. */
extern void ring_producer_wait_for_room(void);

/* The position behind what the publisher has acknowledged. ERROR if the other side damaged the ring. */
extern uint64 ring_producer_get_acked(void);
/* The checkpoint that came with that; all zero if none did. */
extern const siphon::Checkpoint *ring_producer_get_checkpoint(void);
extern uint64 ring_producer_get_written(void);
/* Random; names this ring. */
extern uint64 ring_producer_get_ring_id(void);
/* Bytes that a record of one frame may have, whatever its route. */
extern uint32 ring_producer_get_frame_size(void);
/* Waits until everything written is acknowledged. */
extern void ring_producer_wait_for_acks(void);

/* Metrics, see ring_metrics.h. */
extern void ring_producer_set_metric(siphon::RingMetric metric, uint64 value);
extern void ring_producer_add_duration(siphon::RingDuration duration, uint64 ns);
extern const siphon::DurationCounts *ring_producer_get_durations(siphon::RingDuration duration);
/* Nanoseconds that were waited for the ring's space so far. */
extern uint64 ring_producer_get_time_waited(void);

/* Writes the worker's heartbeat. ERROR if another process removed or cut one of the ring's files. */
extern void ring_producer_send_heartbeat(TimestampTz now);
/* The publisher's own statements. */
extern uint32 ring_producer_get_publisher_pid(void);
extern uint64 ring_producer_get_publisher_heartbeat(void);
extern uint64 ring_producer_get_publisher_metric(siphon::PublisherMetric metric);

/* Lets the next worker make the ring, and tells the publisher: for one that ends, before it says so. */
extern void ring_producer_unlock(void);

/* Removes the ring's files; for a worker that is done with it. */
extern void ring_producer_remove(void);

#endif
