/*
 * Memory of a WireBuffer: a chunk of the memory context that was current when it was made, growing by
 * doubling. May exceed PostgreSQL's 1 GB palloc limit, as an event with old and new row can.
 */
#ifndef SIPHON_BUFFER_H
#define SIPHON_BUFFER_H

#include "wire.h"

#include "pg.h"

/* A protobuf message may not be larger. */
constexpr size_t kMessageLimit = (size_t{1} << 31) - 1;

static inline void
buffer_init(siphon::WireBuffer *buffer, size_t capacity)
{
	buffer->data = static_cast<char *>(palloc(capacity));
	buffer->size = 0;
	buffer->capacity = capacity;
}

extern void buffer_grow(siphon::WireBuffer *buffer, size_t more);

/* Makes room for `more` bytes. */
static inline void
buffer_reserve(siphon::WireBuffer *buffer, size_t more)
{
	if (unlikely(buffer->capacity - buffer->size < more))
		buffer_grow(buffer, more);
}

#endif
