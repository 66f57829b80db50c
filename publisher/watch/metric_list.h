/*
 * The metrics of an application, a row for each: /metrics and /status are both made from these lists. To add a
 * metric, add it to the struct that it is counted in, and a row here. Families with labels of their own (operations,
 * kinds of messages, states, rings, replicas) are in metrics.cpp and status_json.cpp.
 */
#ifndef SIPHON_METRIC_LIST_H
#define SIPHON_METRIC_LIST_H

#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "publisher/watch/status.h"

namespace siphon {

enum class MetricType { Counter, Gauge, Histogram };

/* /metrics shows a bool as 1 or 0. */
using Number = std::variant<uint64_t, double, bool>;

/* A number that is read from a Subject. */
template <typename Subject> struct Metric
{
	const char *name; /* in /metrics; nullptr: it is in /status alone */
	MetricType type;
	const char *help;
	/* In /status, relative to the subject, as a JSON pointer; nullptr: it is in /metrics alone. */
	const char *path;
	/* nullopt: not known. /metrics leaves it out, /status says null. `age`: of the status, in seconds. */
	std::optional<Number> (*value)(const Subject &subject, double age);
};

/* Durations that are read from a Subject: a histogram in /metrics, count, mean, p50 and p99 in /status. */
template <typename Subject> struct DurationMetric
{
	const char *name;
	const char *help;
	const char *path;
	const DurationCounts &(*counts)(const Subject &subject);
};

/* What is counted for each table, and for all together. */
struct TableMetric
{
	const char *name;
	const char *help;
	const char *path;
	uint64_t TableStats::*of_table;
	uint64_t PublishTotals::*total;
};

extern const std::span<const Metric<Status>> kPublisherMetrics;
extern const std::span<const DurationMetric<Status>> kPublisherDurations;
/* Of the decoder's ring. */
extern const std::span<const Metric<RingStatus>> kDecoderMetrics;
extern const std::span<const DurationMetric<RingStatus>> kDecoderDurations;
/* Of the ring of a snapshot's leader. */
extern const std::span<const Metric<RingStatus>> kSnapshotMetrics;
extern const std::span<const Metric<StreamStatus>> kStreamMetrics;
extern const std::span<const TableMetric> kTableMetrics;

} // namespace siphon

#endif
