/*
 * What if another process truncates the ring file while the worker has it mapped? The next touch behind
 * the new end raises SIGBUS, and a background worker that dies of a signal restarts the whole cluster.
 *
 * So, as Wayland's compositors do with their clients' buffers: when SIGBUS strikes inside of the ring,
 * zero pages of our own are put in the place of the whole mapping, and the worker goes on as if nothing
 * had happened, until it asks has_ring_fault() and ends in an orderly way. Any other SIGBUS is left to
 * whoever handled it before.
 */
#ifndef SIPHON_RING_FAULT_H
#define SIPHON_RING_FAULT_H

#include <cstddef>

namespace siphon {

/* How many mappings can be guarded at a time; more are not. */
constexpr size_t kGuardedMappings = 256;

/* Guards this mapping, which is page-aligned. */
void ring_fault_guard(void *memory, size_t size);
/* Ends that; do so before munmap. */
void ring_fault_release(void *memory);

/* True if a mapping has been replaced by zeros since the last was guarded: what was or is written there is lost. */
bool has_ring_fault();

} // namespace siphon

#endif
