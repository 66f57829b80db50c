/* How RingMessageSource takes up packages and logical messages: as they are, in part, or not at all; see ring_message_source.h. */
#include "publisher/source/ring_message_source.h"

#include <algorithm>

#include "program/exit_codes.h"
#include "reader/subject.h"
#include "siphon.pb.h"

namespace siphon {

void
RingMessageSource::check_total(uint32_t total) const
{
	if (record_total_ != 0 && total != record_total_)
		throw Fatal(ExitCode::StreamRefused, stream_.describe() + " holds the beginning of a package in " +
												 std::to_string(record_total_) + " parts, which would now have " +
												 std::to_string(total) +
												 ": set the server's max_payload back until the package is through");
}

/* Leaves out the messages of a record in memory that the log has. */
void
RingMessageSource::resume_record(const Cursor &cursor)
{
	record_total_ = cursor.total;
	check_total(record_.total());
	record_.skip_to(cursor.part);
}

bool
RingMessageSource::admit_package()
{
	const FrameHeader &header = frame_.header;
	std::optional<Position> upto;

	if (kind() == FrameKind::Dropped && dropped_ == 0)
	{
		dropped_ = header.table;
		drop_begin_ = previous_end_;
	}

	std::optional<Place> held_behind = hand_off_.held_behind(table());

	/* Where it went to before, that is where it would go now. */
	if ((is_behind_cursor(Target::Log) && is_behind_cursor(Target::Spill)) ||
		(held_behind && kind() != FrameKind::Snapshot && kind() != FrameKind::Dropped &&
		 is_behind_cursor(Target::Spill)))
	{
		hand_off_.note_skipped(table());
		skip();
		return true;
	}

	/* Of an earlier ring the stream may have these events already. */
	if (published_.active() && kind() != FrameKind::Snapshot)
		upto = published_.last_position(schema_, table_, header.partition, header.generation, held_behind,
										kind() == FrameKind::Held);

	bool whole = !upto || !(header.first <= *upto);
	bool known = upto && header.last <= *upto;
	bool calm = ring_->reader().acked() >= previous_end_ && !resuming();
	/* What the spill may have a part of must not wait for what waits for it. */
	bool may_wait = frame_.first_of_record() && !resuming();
	HandOff::Route route =
		known ? HandOff::Route::Drop
			  : hand_off_.route(table(), may_wait, whole ? header.first : *upto, calm, HandOff::Clock::now());

	if (route == HandOff::Route::Wait)
		return false;

	Target target = route == HandOff::Route::Held ? Target::Spill : Target::Log;

	if (route == HandOff::Route::Drop || is_behind_cursor(target))
	{
		hand_off_.note_skipped(table());
		end_partial_record();
		skip();
		return true;
	}

	held_ = target == Target::Spill;
	if (!whole)
		return admit_rest(*upto);
	start_frame();
	return true;
}

/* A logical message has one position, so the stream has it, or has not. */
bool
RingMessageSource::admit_message()
{
	std::optional<Position> upto;

	held_ = false;
	if (published_.active())
		upto = published_.last_message_position(table_);
	if (upto && frame_.header.last <= *upto)
	{
		end_partial_record();
		skip();
		return true;
	}
	start_frame();
	return true;
}

/* Publishes the frame as it is, from where the log ends. */
void
RingMessageSource::start_frame()
{
	const Cursor *resume = resumes(next_target());

	if (!frame_messages_.start(frame_, ring_->reader().ring_id(), ring_->reader().max_frame_payload(),
							   stream_.log().body_limit(), held_))
		corrupt();
	if (resume != nullptr)
		record_total_ = resume->total;
	else if (frame_.first_of_record())
		record_total_ = 0;
	check_total(frame_messages_.plan().total);
	if (resume == nullptr)
	{
		/* The log has the record's beginning, of which the ring knows no more where it is acknowledged up to here. */
		if (!frame_.first_of_record())
			begin_partial_record(frame_messages_.subject(), frame_.header.generation);
		return;
	}
	if (resume->part < frame_messages_.plan().total)
		begin_partial_record(frame_messages_.subject(), frame_.header.generation);
	if (resume->part < frame_messages_.plan().last())
		frame_messages_.skip_to(resume->part);
	else
	{
		frame_messages_.clear();
		hand_off_.note_skipped(table());
		skip();
	}
}

/* Publishes the events of the package that are beyond what the stream has. One of several events is one frame. */
bool
RingMessageSource::admit_rest(const Position &upto)
{
	const FrameHeader &header = frame_.header;
	v1::Package package;

	if (!frame_.first_of_record() || !frame_.last_of_record() ||
		!package.ParseFromArray(frame_.payload, static_cast<int>(header.payload_length)))
		corrupt();
	check_intact();

	auto *events = package.mutable_events();
	auto rest = std::find_if(events->begin(), events->end(), [&](const v1::Event &event) {
		return !(Position{event.commit_lsn(), event.ordinal()} <= upto);
	});

	events->erase(events->begin(), rest);
	if (events->empty())
		corrupt();
	record_events_ = static_cast<uint64_t>(events->size());
	operations_ = {};
	for (const v1::Event &event : *events)
	{
		if (event.operation() >= 1 && event.operation() <= kCountedOperations)
			operations_[static_cast<size_t>(event.operation() - 1)]++;
	}
	record_.start(package.SerializeAsString(),
				  {held_ ? held_subject(root_, schema_, table_, header.partition)
						 : events_subject(root_, schema_, table_, header.partition)},
				  {{"Siphon-Kind", "changes"},
				   {"Siphon-First", format_position((*events)[0].commit_lsn(), (*events)[0].ordinal())},
				   {"Siphon-Last", format_position(header.last.lsn, header.last.ordinal)},
				   {"Siphon-Events", std::to_string(record_events_)},
				   {"Siphon-Generation", std::to_string(header.generation)}},
				  ring_->reader().ring_id(), header.position, stream_.log().body_limit());

	const Cursor *resume = resumes(next_target());

	if (resume == nullptr)
		return true;
	resume_record(*resume);
	if (record_.active())
		begin_partial_record(record_.next_subject(), header.generation);
	else
	{
		hand_off_.note_skipped(table());
		skip();
	}
	return true;
}

} // namespace siphon
