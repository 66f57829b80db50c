/*
 * Metrics: what a worker says of itself in its page of the ring's header, which the publisher shows. So whoever watches
 * needs no connection to the database. And what the publisher says of itself, in its page of the decoder's ring, which
 * the view siphon_stats shows to those who have one.
 *
 * Nothing is decided by them, on either side: whoever scribbles over them makes a wrong picture and no other harm. Each
 * side keeps its own counts and only stores them there; the other takes each as a number that may be anything.
 */
#ifndef SIPHON_RING_METRICS_H
#define SIPHON_RING_METRICS_H

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>

namespace siphon {

enum class RingMetric : uint32_t {
	Ended, /* 1: the worker has ended, and another has to make the next ring */
	/* the decoder's */
	Transactions,  /* decoded, with or without events */
	Restarts,      /* of the decoder, after failures */
	Tables,        /* in the registry, */
	TablesWaiting, /* of these: for their snapshot, or it runs */
	TablesFailed,  /* can't be published, or need a resync */
	Newest,        /* LSNs: the server's newest WAL, */
	Decoded,       /* WAL that was decoded, */
	Confirmed,     /* and WAL of which everything is acknowledged */
	Retained,      /* bytes of WAL that the slot keeps */
	RetainedLimit, /* and how many it may, before it is invalidated or the application given up */
	LagTime,       /* microseconds since the commit of the oldest transaction that is not acknowledged */
	CatalogAge,    /* transactions that began since the oldest of which the slot keeps rows of catalogs */
	Warnings,      /* RingWarnings, each a bit */
	/* of a snapshot's leader */
	SnapshotPhase, /* 1: preparing, 2: scanning, 3: catch-up of held changes */
	BlocksDone,
	BlocksTotal,
	Rows,
	RowBytes,
	HeldEvents,
	Workers,
	Count
};

/* What is wrong around a decoder that works; src/decode/warnings.h has more of each. */
enum class RingWarning : uint64_t {
	NoStandbySlot = 1, /* its slot has failover, and no standby has it ready */
	ReplayPaused = 2,  /* it decodes on a standby whose replay is paused, */
	ReplayDelayed = 4, /* or delayed, */
	NoReceiver = 8,    /* or that receives nothing */
	NoExtension = 16,  /* its database has the extension no more */
	TableReplaced = 32 /* a listed table was dropped, and one that is not listed has its name */
};

/* The publisher's, since it started. */
enum class PublisherMetric : uint32_t {
	Messages, /* acknowledged, of all kinds */
	Events,   /* acknowledged, those of snapshots included */
	Packages,
	HeldEvents,
	RawBytes,
	PublishedBytes,
	CompressionTime, /* nanoseconds, of all messages together */
	PublishTime,     /* likewise: from sending until all up to it was acknowledged */
	CommitTime,      /* likewise of packages: from the oldest event's commit */
	InFlight,
	InFlightBytes,
	Disconnects,
	Refusals,
	Timeouts,
	Count
};

/* A metric that is not known, or a limit that is not set. */
constexpr uint64_t kMetricUnknown = UINT64_MAX;

/* Durations that a worker counts. */
enum class RingDuration : uint32_t {
	Decode,   /* of a transaction: handing out its changes, from its commit record on */
	Encode,   /* of a change; of some, as looking at the clock takes time too */
	RingWait, /* for space in the ring */
	Count
};

/* Durations are counted by powers of two of nanoseconds: bucket i holds those below 2^(i + kFirstBit). */
constexpr uint32_t kDurationBuckets = 30;
constexpr uint32_t kFirstBit = 8;

/* Counts by bucket (the last takes all that are longer), and the sum. */
struct DurationCounts
{
	uint64_t counts[kDurationBuckets];
	uint64_t sum_ns;

	static uint32_t bucket(uint64_t ns)
	{
		uint32_t bits = static_cast<uint32_t>(std::bit_width(ns));

		return std::min(bits > kFirstBit ? bits - kFirstBit : 0, kDurationBuckets - 1);
	}
	/* In ns; of the last bucket there is none. */
	static uint64_t upper_bound(uint32_t bucket) { return uint64_t{1} << (bucket + kFirstBit); }
	void add(uint64_t ns)
	{
		counts[bucket(ns)]++;
		sum_ns += ns;
	}
};

struct RingMetrics
{
	std::atomic<uint64_t> values[static_cast<uint32_t>(RingMetric::Count)];
	struct
	{
		std::atomic<uint64_t> counts[kDurationBuckets];
		std::atomic<uint64_t> sum_ns;
	} durations[static_cast<uint32_t>(RingDuration::Count)];
};

} // namespace siphon

#endif
