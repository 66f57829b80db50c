/*
 * What the publisher has published, counted for people: by table and operation, by kind of message, and how long it took.
 * A message counts when the log is known to hold it, so that what is sent a second time counts once. The loop alone calls;
 * others get copies.
 */
#ifndef SIPHON_PUBLISH_STATS_H
#define SIPHON_PUBLISH_STATS_H

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>

#include "ring/ring.h"

namespace siphon {

/* Operations by which events are counted; the first are those that frames count. */
enum class CountedOperation { Insert, Update, Delete, Truncate, Other, Snapshot, Count };
constexpr size_t kOperations = static_cast<size_t>(CountedOperation::Count);
static_assert(static_cast<int>(CountedOperation::Other) == kCountedOperations);

enum class MessageKind { Changes, Held, Moved, Snapshot, Message, Marker, Watermark, Count };
constexpr size_t kMessageKinds = static_cast<size_t>(MessageKind::Count);

const char *operation_name(CountedOperation operation);
const char *message_kind_name(MessageKind kind);

struct TableStats
{
	std::array<uint64_t, kOperations> events{};
	uint64_t packages = 0;
	uint64_t raw_bytes = 0;
	uint64_t body_bytes = 0;
	int64_t last_commit = 0; /* of the last event, microseconds since 1970; 0: there was none */
};

/* What a message carries, as its source says. */
struct MessageStats
{
	MessageKind kind = MessageKind::Moved;
	TableStats *table = nullptr;
	bool completes = false; /* a record; then the following hold for all of that */
	uint64_t events = 0;
	std::array<uint32_t, kCountedOperations> operations{};
	int64_t first_commit = 0;
	int64_t last_commit = 0;
};

/* Counts and times of everything, whatever the table. */
struct PublishTotals
{
	std::array<uint64_t, kMessageKinds> messages{};
	std::array<uint64_t, kOperations> events{};
	uint64_t packages = 0;
	uint64_t raw_bytes = 0;
	uint64_t body_bytes = 0;
	uint64_t held_events = 0; /* of `events`, those that wait behind a snapshot */
	int64_t last_commit = 0;
	DurationCounts compression{};
	DurationCounts publish_to_ack{}; /* of messages */
	DurationCounts commit_to_ack{};  /* of packages: from the commit of the oldest event */
};

class PublishStats
{
public:
	using Clock = std::chrono::steady_clock;

	/* Beyond so many tables, all others are one. */
	static constexpr size_t kTablesMax = 10000;
	/* By schema and name. */
	using Tables = std::map<std::pair<std::string, std::string>, TableStats>;

	/* The table's, which stays where it is. */
	TableStats *table(std::string_view schema, std::string_view name);

	void sent(uint64_t token, const MessageStats &load, size_t raw, size_t body, uint64_t compression_ns,
			  Clock::time_point now);
	/* The log is known to hold our messages up to this token. */
	void stored(uint64_t token, Clock::time_point now);
	/* What has no answer, and never gets one, is forgotten. */
	void forget_in_flight();

	const Tables &tables() const { return tables_; }
	const PublishTotals &totals() const { return totals_; }

private:
	struct UnderWay
	{
		uint64_t token;
		MessageStats load;
		size_t raw;
		size_t body;
		Clock::time_point sent;
	};

	void count(const UnderWay &message, Clock::time_point now, int64_t now_us);

	Tables tables_;
	PublishTotals totals_;
	std::deque<UnderWay> under_way_;
};

} // namespace siphon

#endif
