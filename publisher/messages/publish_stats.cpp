/* See publish_stats.h. */
#include "publisher/messages/publish_stats.h"

namespace siphon {

/* What all tables beyond the limit are called. */
static const std::pair<std::string, std::string> kOtherTables{"", "other tables"};

const char *
operation_name(CountedOperation operation)
{
	static constexpr std::array<const char *, kOperations> names{"insert",   "update", "delete",
																 "truncate", "other",  "snapshot"};

	return names[static_cast<size_t>(operation)];
}

const char *
message_kind_name(MessageKind kind)
{
	static constexpr std::array<const char *, kMessageKinds> names{"changes", "held",   "moved",    "snapshot",
																   "message", "marker", "watermark"};

	return names[static_cast<size_t>(kind)];
}

TableStats *
PublishStats::table(std::string_view schema, std::string_view name)
{
	std::pair<std::string, std::string> key(schema, name);

	if (tables_.size() >= kTablesMax && !tables_.contains(key))
		key = kOtherTables;
	return &tables_[key];
}

void
PublishStats::sent(uint64_t token, const MessageStats &load, size_t raw, size_t body, uint64_t compression_ns,
				   Clock::time_point now)
{
	if (compression_ns > 0)
		totals_.compression.add(compression_ns);
	under_way_.push_back({token, load, raw, body, now});
}

static int64_t
unix_microseconds()
{
	auto now = std::chrono::system_clock::now().time_since_epoch();

	return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

void
PublishStats::count(const UnderWay &message, Clock::time_point now, int64_t now_us)
{
	const MessageStats &load = message.load;
	auto on_the_way = std::chrono::duration_cast<std::chrono::nanoseconds>(now - message.sent).count();

	totals_.messages[static_cast<size_t>(load.kind)]++;
	totals_.raw_bytes += message.raw;
	totals_.body_bytes += message.body;
	totals_.publish_to_ack.add(static_cast<uint64_t>(std::max<int64_t>(on_the_way, 0)));
	if (load.table != nullptr)
	{
		load.table->raw_bytes += message.raw;
		load.table->body_bytes += message.body;
	}
	if (!load.completes)
		return;

	if (load.first_commit > 0)
	{
		/* A clock that differs from the server's may make it less than nothing. */
		int64_t age = std::max<int64_t>(now_us - load.first_commit, 0);

		totals_.commit_to_ack.add(static_cast<uint64_t>(std::min<int64_t>(age, INT64_MAX / 1000)) * 1000);
		totals_.last_commit = load.last_commit;
	}
	if (load.table == nullptr)
		return;

	uint64_t other = load.events;
	auto add = [&](CountedOperation operation, uint64_t events) {
		load.table->events[static_cast<size_t>(operation)] += events;
		totals_.events[static_cast<size_t>(operation)] += events;
	};

	totals_.packages++;
	load.table->packages++;
	if (load.kind == MessageKind::Snapshot)
	{
		add(CountedOperation::Snapshot, load.events);
		return;
	}
	for (size_t i = 0; i < load.operations.size(); i++)
	{
		add(static_cast<CountedOperation>(i), load.operations[i]);
		other -= std::min<uint64_t>(other, load.operations[i]);
	}
	add(CountedOperation::Other, other);
	if (load.kind == MessageKind::Held)
		totals_.held_events += load.events;
	load.table->last_commit = load.last_commit;
}

void
PublishStats::stored(uint64_t token, Clock::time_point now)
{
	if (under_way_.empty() || under_way_.front().token > token)
		return;

	int64_t now_us = unix_microseconds();

	for (; !under_way_.empty() && under_way_.front().token <= token; under_way_.pop_front())
		count(under_way_.front(), now, now_us);
}

void
PublishStats::forget_in_flight()
{
	under_way_.clear();
}

} // namespace siphon
