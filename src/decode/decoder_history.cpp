/*
 * The decoder's part of history.h: tells the publisher what the decoder's events continue, and makes durable that
 * it was told, so that the next decoder is known for this one's successor.
 */
#include "decoder_history.h"

#include "registry_mirror.h"
#include "ring/history.h"
#include "decoder_output.h"
#include "registry/registry.h"
#include "server/ring_producer.h"
#include "standby_wait.h"

extern "C" {
#include "access/timeline.h"
}

static_assert(kMaxRingIds == siphon::kHistoryRings);

static TimeLineID timeline;
static XLogRecPtr confirmed; /* when this process began */
static uint64 ring_id;
static bool is_acknowledged;

static void
write_record(const Registry *registry)
{
	siphon::HistoryRecord record = {};
	ListCell *lc;

	record.system_identifier = GetSystemIdentifier();
	record.database = MyDatabaseId;
	record.take_over = registry->take_over ? 1 : 0;
	record.checkpoint = decoder_output_get_checkpoint()->checkpoint;
	record.confirmed = confirmed;
	record.history = registry->history;
	record.acknowledged = registry->acknowledged ? 1 : 0;
	foreach (lc, registry->ring_ids)
		if (record.ring_id_count < siphon::kHistoryRings)
			record.ring_ids[record.ring_id_count++] = *static_cast<uint64 *>(lfirst(lc));
	foreach (lc, readTimeLineHistory(timeline))
	{
		const TimeLineHistoryEntry *entry = static_cast<TimeLineHistoryEntry *>(lfirst(lc));

		if (record.timeline_count < siphon::kHistoryTimelines)
			record.timelines[record.timeline_count++] = {entry->begin, entry->tli, 0};
	}
	decoder_output_write_history(&record);
}

/*
 * In the registry the first ring ID is of the ring from which JetStream has something for certain; those that follow
 * are of decoders that may not have come so far. Where there are too many, these give way.
 */
static void
record_ring_id(Registry *registry)
{
	uint64 *entry = static_cast<uint64 *>(palloc(sizeof(uint64)));

	*entry = ring_id;
	while (list_length(registry->ring_ids) >= kMaxRingIds)
		registry->ring_ids = list_delete_nth_cell(registry->ring_ids, 1);
	registry->ring_ids = lappend(registry->ring_ids, entry);
}

void
history_write(const char *application)
{
	Registry *registry = registry_begin_change(application);

	if (registry == nullptr)
		ereport(FATAL, (errmsg("siphon: application \"%s\" was dropped", application)));
	timeline = siphon_current_timeline();
	confirmed = MyReplicationSlot->data.confirmed_flush;
	ring_id = ring_producer_get_ring_id();
	is_acknowledged = false;
	record_ring_id(registry);
	registry_end_change(registry);
	/* A server that takes over must know for its own what is published from here on. */
	registry_mirror_poll(GetCurrentTimestamp());
	wait_for_standbys(registry_mirror_get_lsn(), nullptr);
	write_record(registry);
}

void
history_write_timeline(const char *application, TimeLineID now)
{
	Registry *registry;

	if (likely(now <= timeline))
		return;
	registry = registry_read(application);
	if (registry == nullptr)
		return;
	ereport(LOG, (errmsg("siphon: application \"%s\" follows the server to timeline %u", application, now)));
	timeline = now;
	write_record(registry);
}

void
history_poll(const char *application)
{
	Registry *registry;

	if (likely(is_acknowledged) || ring_producer_get_acked() == 0)
		return;
	is_acknowledged = true;
	registry = registry_begin_change(application);
	if (registry == nullptr)
		return;
	registry->acknowledged = true;
	registry->take_over = false;
	registry->ring_ids = NIL;
	record_ring_id(registry);
	registry_end_change(registry);
}
