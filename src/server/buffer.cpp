/*
 * Memory of a WireBuffer: see buffer.h.
 */
#include "buffer.h"

void
buffer_grow(siphon::WireBuffer *buffer, size_t more)
{
	size_t needed = buffer->size + more;
	size_t capacity = buffer->capacity;

	if (needed > kMessageLimit)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a row of %zu bytes is too large for a package", needed),
						errhint("Remove the table with siphon_remove_table().")));
	while (capacity < needed)
		capacity *= 2;
	buffer->data = static_cast<char *>(repalloc_huge(buffer->data, capacity));
	buffer->capacity = capacity;
}
