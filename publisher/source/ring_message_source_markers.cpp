/*
 * RingMessageSource's markers: frames behind which nothing is read until all their messages are stored and they have had their
 * effect. They are where a snapshot begins and ends, and what a ring continues.
 */
#include "publisher/source/ring_message_source.h"

#include <cstring>

#include "program/log.h"
#include "reader/subject.h"
#include "siphon.pb.h"

namespace siphon {

static constexpr std::chrono::milliseconds kOriginRetry{250};

const HistoryRecord *
RingMessageSource::peek_origin()
{
	if (accepted() || refused_)
		return nullptr;
	try
	{
		/* What was read before, and is to be read again, is of no use. */
		if (!peeked_)
			resume(nullptr, nullptr);
		if (!have_frame_ && !read_frame())
			return nullptr;
		peeked_ = true;
		take_origin();
		return &origin_;
	}
	catch (const Corrupt &)
	{
		refuse("in front of its first frame");
		return nullptr;
	}
}

void
RingMessageSource::take_origin()
{
	if (kind() != FrameKind::History || !frame_.first_of_record() || !frame_.last_of_record() ||
		frame_.header.payload_length != sizeof(HistoryRecord))
		corrupt();
	memcpy(&origin_, frame_.payload, sizeof(HistoryRecord));
	check_intact();
}

/*
 * What follows continues the stream, or begins a new history in it, with a message that says so. It is the stream's
 * last when it is taken up, as what came before must be known for certain.
 */
bool
RingMessageSource::admit_origin()
{
	if (!ledger_.empty())
		return false;
	take_origin();
	held_ = false;
	if (history_.is_new(origin_, ledger_.end(Target::Log).place) && resumes(Target::Log) == nullptr)
		record_.start({}, {watermark_subject(root_)},
					  {{"Siphon-Kind", "history"}, {"Siphon-History", format_lsn(origin_.history)}},
					  ring_->reader().ring_id(), frame_.header.position, stream_.log().body_limit());
	else
		marker_waits_ = true;
	marker_last_token_ = 0;
	return true;
}

/* Makes durable that this ring is published from. False: later. */
bool
RingMessageSource::finish_origin()
{
	HandOff::Clock::time_point now = HandOff::Clock::now();
	Place end = ledger_.end(Target::Log).place;
	bool begins = !history_.is_current(origin_.history);
	std::string why;

	if (now < origin_retry_)
		return false;
	if (begins)
	{
		published_.clear();
		hand_off_.forget();
	}
	else
		history_.check_timeline(origin_, published_.newest() <= newest_ ? newest_ : published_.newest());
	if ((begins && !stream_.states().erase_tables(&why)) ||
		!history_.record_ring(origin_, epoch(), end, published_.active(), &why))
	{
		if (why.empty())
			return false;
		origin_notice_.waiting(why, now);
		origin_retry_ = now + kOriginRetry;
		return false;
	}
	origin_notice_.over();
	if (begins)
		spdlog::info("history {} of application {} starts after sequence {}", format_lsn(origin_.history),
					 ring_->reader().application(), end);
	return true;
}

/*
 * A marker goes to several subjects, so it is put together in memory; its frames stay in the ring until it has had its
 * effect.
 */
bool
RingMessageSource::admit_marker()
{
	const FrameHeader &header = frame_.header;

	check_fits("marker");
	if (hand_off_.is_stale(table()))
	{
		if (frame_.last_of_record())
			spdlog::info("skipped a marker of snapshot {} of table {}.{}, which is over", header.generation, schema_,
						 table_);
		skip();
		marker_.clear();
		return true;
	}
	if (kind() == FrameKind::SnapshotBegin && !hand_off_.begin(table(), HandOff::Clock::now()))
		return false;
	if (!gather())
		return true;

	const Cursor *resume = resumes(Target::Log);

	/* Nothing follows a marker before it is acknowledged. */
	if ((resuming() && resume == nullptr) || !start_marker())
		corrupt();
	if (resume == nullptr)
		return true;
	resume_record(*resume);
	marker_waits_ = !record_.active();
	return true;
}

bool
RingMessageSource::start_marker()
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
				  ring_->reader().ring_id(), header.position, stream_.log().body_limit());
	marker_.clear();
	marker_first_ = kNoPlace;
	marker_first_token_ = marker_last_token_ = 0;
	held_ = false;
	return true;
}

/* Once the marker is stored everywhere. False: later. */
bool
RingMessageSource::finish_marker()
{
	HandOff::Clock::time_point now = HandOff::Clock::now();

	if (ledger_.stored_token() < marker_last_token_)
		return false;
	if (kind() == FrameKind::History         ? !finish_origin()
		: kind() == FrameKind::SnapshotBegin ? !hand_off_.on_snapshot_begin_stored(table(), marker_first_, now)
											 : !hand_off_.on_snapshot_end_stored(table(), marker_snapshot_, now))
		return false;
	marker_waits_ = false;
	skip();
	return true;
}

} // namespace siphon
