/*
 * RingFeed's markers: frames behind which nothing is read until all their messages are stored and they have had their
 * effect. They are where a snapshot begins and ends, and what a ring continues.
 */
#include "ring_feed.h"

#include <cstring>

#include "log.h"
#include "siphon.pb.h"
#include "subject.h"

namespace siphon {

static constexpr std::chrono::milliseconds kOriginRetry{250};

/*
 * What follows continues the stream, or begins a new history in it, with a message that says so. It is the stream's
 * last when it is taken up, as what came before must be known for certain.
 */
bool
RingFeed::admit_origin(bool resuming)
{
	if (!frame_.first_of_record() || !frame_.last_of_record() || frame_.header.payload_length != sizeof(Origin))
		corrupt();
	if (!ledger_.empty())
		return false;
	memcpy(&origin_, frame_.payload, sizeof(Origin));
	check_intact();
	if (lineage_.begins(origin_, ledger_.stored_sequence()) && !resuming)
		record_.start({}, {watermark_subject(root_)},
					  {{"Siphon-Kind", "history"}, {"Siphon-History", format_lsn(origin_.history)}},
					  ring_->reader().epoch(), frame_.header.position, queue_.body_limit());
	else
		marker_waits_ = true;
	marker_last_ = 0;
	resume_.reset();
	return true;
}

/* Makes durable that this ring is published from. False: later. */
bool
RingFeed::finish_origin()
{
	HandOff::Clock::time_point now = HandOff::Clock::now();
	uint64_t end = ledger_.stored_sequence();
	bool begins = !lineage_.current(origin_.history);
	std::string why;

	if (now < origin_retry_)
		return false;
	if (begins)
	{
		published_.clear();
		hand_off_.forget(end);
		queue_.erase_tables(&why);
	}
	else if (published_.load(&queue_, lineage_.since(), end, &why))
		lineage_.check_timeline(origin_, published_.newest());
	if (!why.empty() || !lineage_.enter(origin_, epoch(), end, &why))
	{
		origin_notice_.waiting(why, now);
		origin_retry_ = now + kOriginRetry;
		return false;
	}
	origin_notice_.over();
	if (begins)
		spdlog::info("history {} of application {} begins behind sequence {}", format_lsn(origin_.history),
					 ring_->reader().application(), end);
	return true;
}

/*
 * A marker goes to several subjects, so it is put together in memory; its frames stay in the ring until it has had its
 * effect.
 */
bool
RingFeed::admit_marker(bool resuming)
{
	const FrameHeader &header = frame_.header;

	check_fits("marker");
	if (hand_off_.stale(table()))
	{
		if (frame_.last_of_record())
			spdlog::info("left out a marker of snapshot {} of table {}.{}, which is over", header.generation, schema_,
						 table_);
		if (resuming)
			resume_.reset();
		skip();
		marker_.clear();
		return true;
	}
	if (kind() == FrameKind::SnapshotBegin && !hand_off_.begin(table(), HandOff::Clock::now()))
		return false;
	if (!gather())
		return true;
	if (resume_ && !resuming)
	{
		/* Nothing follows a marker before it is acknowledged. */
		corrupt();
	}
	if (!start_marker())
		corrupt();
	if (!resuming)
		return true;

	resume_record();
	marker_first_ = 0;
	marker_last_ = resumed_at_;
	marker_waits_ = !record_.active();
	return true;
}

bool
RingFeed::start_marker()
{
	const FrameHeader &header = frame_.header;
	bool end = kind() == FrameKind::SnapshotEnd;
	std::vector<std::string> subjects;

	if (header.partition == 0)
		return false;
	if (end)
	{
		v1::SnapshotEnd message;

		if (!message.ParseFromString(marker_))
			return false;
		marker_snapshot_ = {message.snapshot_lsn(),
							message.xmin(),
							message.xmax(),
							{message.in_progress().begin(), message.in_progress().end()}};
		marker_snapshot_.sort();
	}
	for (uint32_t partition = 0; partition < header.partition; partition++)
		subjects.push_back(events_subject(root_, schema_, table_, partition));
	record_.start(std::move(marker_), std::move(subjects),
				  {{"Siphon-Kind", end ? "snapshot-end" : "snapshot-begin"},
				   {"Siphon-First", format_position(header.first.lsn, header.first.ordinal)},
				   {"Siphon-Last", format_position(header.last.lsn, header.last.ordinal)},
				   {"Siphon-Generation", std::to_string(header.generation)}},
				  ring_->reader().epoch(), header.position, queue_.body_limit());
	marker_.clear();
	marker_first_ = 0;
	return true;
}

/* Once the marker is stored everywhere. False: later. */
bool
RingFeed::finish_marker()
{
	HandOff::Clock::time_point now = HandOff::Clock::now();

	if (ledger_.stored_sequence() < marker_last_)
		return false;
	if (kind() == FrameKind::Origin          ? !finish_origin()
		: kind() == FrameKind::SnapshotBegin ? !hand_off_.begun(table(), marker_first_, now)
											 : !hand_off_.ended(table(), marker_snapshot_, now))
		return false;
	marker_waits_ = false;
	ring_->ack(frame_.end);
	return true;
}

} // namespace siphon
