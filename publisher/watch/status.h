/*
 * What the publisher knows of itself, of its rings and of their workers, at one moment: written by its loop once a second,
 * then never changed, and read by whoever answers questions over HTTP. Plain data.
 */
#ifndef SIPHON_STATUS_H
#define SIPHON_STATUS_H

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "publisher/messages/publish_stats.h"
#include "ring/ring.h"

namespace siphon {

struct RingStatus
{
	std::string name; /* "decoder", or "snapshot-<OID>-<worker>" */
	uint64_t epoch = 0;
	uint64_t capacity = 0;
	uint64_t used = 0;   /* bytes that are not acknowledged */
	uint64_t unread = 0; /* bytes of these that were not even read */
	double silence = 0;  /* seconds since its worker gave a sign of life */
	std::string schema;  /* of the table that was read of last */
	std::string table;
	std::array<uint64_t, static_cast<size_t>(RingMetric::Count)> metrics{};
	std::array<DurationCounts, static_cast<size_t>(RingDuration::Count)> durations{};

	uint64_t metric(RingMetric metric) const { return metrics[static_cast<size_t>(metric)]; }
	const DurationCounts &duration(RingDuration duration) const { return durations[static_cast<size_t>(duration)]; }
};

struct TableStatus
{
	std::string schema;
	std::string name;
	TableStats traffic;
	bool held; /* its changes wait behind its snapshot */
};

/* What went wrong, and mended itself. */
struct Incidents
{
	uint64_t settlings = 0;    /* how often the queue's end had to be read, the first time included */
	uint64_t refusals = 0;     /* messages that the queue did not take */
	uint64_t out_of_order = 0; /* messages that came to a place where another stood, or to none */
	uint64_t timeouts = 0;     /* answers that did not come */
	uint64_t attached = 0;     /* rings */
	uint64_t corrupt = 0;      /* rings of which another was asked for */
};

/* A step of resuming: while it lasts nothing is published, and yet the publisher does not hang. */
struct ResumingStatus
{
	std::string step; /* what it does, as "reading the end of the stream"; empty: it does not resume */
	std::chrono::steady_clock::time_point since;
	uint64_t done = 0;  /* messages that were read of what may come once more */
	uint64_t total = 0; /* that there are; 0: not known */
};

/* A further copy of a stream, as its leader knows it. */
struct ReplicaStatus
{
	std::string name;
	bool current = false;
	bool offline = false;
	uint64_t lag = 0; /* operations that it has not confirmed */
};

/* A stream, as it said when it was last asked. */
struct StreamStatus
{
	bool known = false; /* it was asked, and what follows is so; where it is not, there are no metrics */
	std::string name;
	uint64_t messages = 0;
	uint64_t bytes = 0;
	uint64_t max_bytes = 0;   /* 0: no limit */
	bool discard_new = false; /* at the limit, and not old ones */
	double max_age = 0;       /* seconds; 0: no limit */
	bool lossy = false;       /* its settings take messages away */
	double first_age = -1;    /* seconds since its first message was stored; below 0: it has none */
	uint64_t replicas = 1;    /* configured */
	std::string leader;       /* empty: there is none, or it is no cluster */
	std::vector<ReplicaStatus> followers;
};

/* A table whose changes are held. */
struct HoldingStatus
{
	std::string schema;
	std::string name;
	bool catching_up = false;          /* its snapshot is complete, and held changes are published behind it */
	double seconds = 0;                /* since its changes are held */
	uint64_t backlog = kMetricUnknown; /* held messages that are to be published yet; kMetricUnknown: not known */
};

struct Status
{
	using Clock = std::chrono::steady_clock;

	Clock::time_point at;
	std::string application;
	std::string ring_directory;
	std::string queue;    /* where the messages go */
	bool files = false;   /* that is a directory, and not NATS */
	bool starting = true; /* the loop does not turn yet */
	bool connected = false;
	bool settled = false;
	std::string waiting_for; /* while it is not settled, or not attached; may be empty */
	std::string refusal;     /* that the queue gave last, until it takes messages again */
	double stalled = 0;      /* seconds without an acknowledgement, though there is something to acknowledge */
	uint64_t reconnects = 0;
	uint64_t in_flight = 0;
	uint64_t in_flight_bytes = 0;
	uint64_t max_in_flight = 0;
	Incidents incidents;
	PublishTotals totals;
	std::vector<TableStatus> tables;
	std::vector<RingStatus> rings;
	ResumingStatus resuming;
	StreamStatus stream;      /* of events */
	StreamStatus held_stream; /* of held changes */
	std::vector<HoldingStatus> holding;

	/* nullptr: there is none. */
	const RingStatus *decoder() const
	{
		for (const RingStatus &ring : rings)
		{
			if (ring.name == "decoder")
				return &ring;
		}
		return nullptr;
	}
};

} // namespace siphon

#endif
