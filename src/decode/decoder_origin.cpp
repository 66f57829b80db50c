/*
 * The decoder's part of origin.h: tells the publisher what the decoder's events continue, and makes durable that
 * it was told, so that the next decoder is known for this one's successor.
 */
#include "decoder_origin.h"

#include "mirror.h"
#include "ring/origin.h"
#include "outlet.h"
#include "registry/registry.h"
#include "server/ring_output.h"
#include "standbys.h"

extern "C" {
#include "access/timeline.h"
}

static_assert(kMaxEpochs == siphon::kOriginEpochs);

static TimeLineID timeline;
static XLogRecPtr confirmed; /* when this process began */
static uint64 epoch;
static bool accepted;

static void
write_origin(const Registry *registry)
{
	siphon::Origin origin = {};
	ListCell *lc;

	origin.system_identifier = GetSystemIdentifier();
	origin.database = MyDatabaseId;
	origin.take_over = registry->take_over ? 1 : 0;
	origin.checkpoint = outlet_checkpoint()->checkpoint;
	origin.confirmed = confirmed;
	origin.history = registry->history;
	origin.acknowledged = registry->acknowledged ? 1 : 0;
	foreach (lc, registry->epochs)
		if (origin.epoch_count < siphon::kOriginEpochs)
			origin.epochs[origin.epoch_count++] = *static_cast<uint64 *>(lfirst(lc));
	foreach (lc, readTimeLineHistory(timeline))
	{
		const TimeLineHistoryEntry *entry = static_cast<TimeLineHistoryEntry *>(lfirst(lc));

		if (origin.timeline_count < siphon::kOriginTimelines)
			origin.timelines[origin.timeline_count++] = {entry->begin, entry->tli, 0};
	}
	outlet_origin(&origin);
}

/*
 * In the registry the first epoch is of the ring from which JetStream has something for certain; those that follow are
 * of decoders that may not have come so far. Where there are too many, these give way.
 */
static void
enter_epoch(Registry *registry)
{
	uint64 *entry = static_cast<uint64 *>(palloc(sizeof(uint64)));

	*entry = epoch;
	while (list_length(registry->epochs) >= kMaxEpochs)
		registry->epochs = list_delete_nth_cell(registry->epochs, 1);
	registry->epochs = lappend(registry->epochs, entry);
}

void
origin_begin(const char *application)
{
	Registry *registry = registry_begin_change(application);

	if (registry == nullptr)
		ereport(FATAL, (errmsg("siphon: application \"%s\" is gone", application)));
	timeline = siphon_current_timeline();
	confirmed = MyReplicationSlot->data.confirmed_flush;
	epoch = ring_output_epoch();
	accepted = false;
	enter_epoch(registry);
	registry_end_change(registry);
	/* A server that takes over must know for its own what is published from here on. */
	mirror_serve(GetCurrentTimestamp());
	standbys_await(mirror_position(), nullptr);
	write_origin(registry);
}

void
origin_follow_timeline(const char *application, TimeLineID now)
{
	Registry *registry;

	if (likely(now <= timeline))
		return;
	registry = registry_read(application);
	if (registry == nullptr)
		return;
	ereport(LOG, (errmsg("siphon: application \"%s\" follows the server to timeline %u", application, now)));
	timeline = now;
	write_origin(registry);
}

void
origin_serve(const char *application)
{
	Registry *registry;

	if (likely(accepted) || ring_output_acked() == 0)
		return;
	accepted = true;
	registry = registry_begin_change(application);
	if (registry == nullptr)
		return;
	registry->acknowledged = true;
	registry->take_over = false;
	registry->epochs = NIL;
	enter_epoch(registry);
	registry_end_change(registry);
}
