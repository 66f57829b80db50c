/* See ring_message_source.h. */
#include "publisher/source/ring_message_source.h"

#include <algorithm>

#include "program/exit_codes.h"
#include "program/log.h"
#include "reader/subject.h"
#include "siphon.pb.h"

namespace siphon {

RingMessageSource::RingMessageSource(const std::string &name, uint32_t number, std::unique_ptr<AttachedRing> ring,
									 const Context &context)
	: MessageSource(name, number, name != kDecoderRing), ring_(std::move(ring)), root_(context.subject_root),
	  stream_(*context.stream), ledger_(*context.ledger), hand_off_(*context.hand_off), history_(*context.history),
	  published_(*context.published), stats_(*context.traffic),
	  frame_messages_(context.subject_root, context.compression_level), record_(context.compression_level),
	  writes_(*context.writes), schemas_(&context.stream->states())
{
}

void
RingMessageSource::corrupt() const
{
	throw Corrupt();
}

/* What was read of the frame's payload is what the worker wrote. */
void
RingMessageSource::check_intact() const
{
	if (!ring_->reader().intact(frame_))
		corrupt();
}

void
RingMessageSource::refuse(const std::string &what)
{
	spdlog::error("{} {}; nothing after that was published, and a new ring was requested from its worker",
				  ring_->path(), what);
	refused_ = true;
	have_frame_ = false;
	marker_waits_ = false;
	frame_messages_.clear();
	record_.clear();
	end_partial_record();
	ring_->refuse();
}

void
RingMessageSource::reject_history()
{
	if (!refused_)
		refuse("says that it was published from up to position " + std::to_string(ring_->reader().acked()) + ", and " +
			   stream_.describe() + " went on from another ring");
}

/* Once the frame is acknowledged, the ring itself tells. */
const Cursor *
RingMessageSource::cursor(Target target) const
{
	const std::optional<Cursor> &cursor = cursor_[static_cast<int>(target)];

	return cursor && cursor->position >= ring_->reader().acked() ? &*cursor : nullptr;
}

void
RingMessageSource::resume(const Cursor *log, const Cursor *spill)
{
	ring_->reader().rewind();
	frame_messages_.clear();
	record_.clear();
	have_frame_ = false;
	peeked_ = false;
	held_ = false;
	marker_waits_ = false;
	marker_.clear();
	record_total_ = 0;
	last_token_ = marker_first_token_ = marker_last_token_ = 0;
	marker_first_ = kNoPlace;
	previous_end_ = stored_end_ = ring_->reader().acked();
	if (decodes())
		writes_.clear();
	beyond_ = 0;
	dropped_ = 0;
	/* Where all that was published is stored, and ends within a record, the rest may be still to come. */
	if (built_end_ != ring_->reader().acked())
		end_partial_record();
	for (Target target : {Target::Log, Target::Spill})
	{
		const Cursor *cursor = target == Target::Log ? log : spill;
		int i = static_cast<int>(target);

		cursor_[i].reset();
		resume_[i].reset();
		if (cursor == nullptr || cursor->epoch != ring_->reader().ring_id())
			continue;
		if (cursor->position >= ring_->reader().acked())
			cursor_[i] = resume_[i] = *cursor;
		/* Likewise, of a publisher before this one: what is held is not moved up to here. */
		else if (target == Target::Spill && !cursor->last_part() && !has_partial_record())
			begin_partial_record("", frame_.header.generation);
	}
}

static bool
carries_events(FrameKind kind)
{
	return kind == FrameKind::Changes || kind == FrameKind::Held || kind == FrameKind::Snapshot ||
		   kind == FrameKind::Dropped;
}

/* What the message that is being built carries; completes: it is its record's last. */
MessageStats
RingMessageSource::load(bool completes) const
{
	const FrameHeader &header = frame_.header;
	MessageStats load;

	load.kind = marker()                         ? MessageKind::Marker
				: kind() == FrameKind::Watermark ? MessageKind::Watermark
				: kind() == FrameKind::Message   ? MessageKind::Message
				: kind() == FrameKind::Snapshot  ? MessageKind::Snapshot
				: held_                          ? MessageKind::Held
												 : MessageKind::Changes;
	load.completes = completes;
	if (carries_events(kind()))
	{
		load.table = counted_;
		load.events = header.events;
		load.operations = operations_;
	}
	load.first_commit = header.first_commit;
	load.last_commit = header.last_commit;
	return load;
}

/* False: the ring is empty. */
bool
RingMessageSource::read_frame()
{
	switch (ring_->reader().next(&frame_))
	{
		case ReadResult::Empty:
			/* A log has a message of a frame that is not there. */
			if (resuming())
				corrupt();
			return false;
		case ReadResult::Corrupt:
			corrupt();
		case ReadResult::Frame:
			break;
	}
	if (frame_.first_of_record())
		end_partial_record();
	if (kind() != FrameKind::Watermark && kind() != FrameKind::History)
	{
		std::string_view schema;
		std::string_view table;

		if (!split_route(frame_, &schema, &table))
			corrupt();
		if (schema != schema_ || table != table_)
		{
			schema_ = schema;
			table_ = table;
			counted_ = nullptr;
		}
		if (counted_ == nullptr && carries_events(kind()))
			counted_ = stats_.table(schema, table);
	}
	if (!(frame_.header.last <= newest_))
		newest_ = frame_.header.last;
	std::copy(std::begin(frame_.header.operations), std::end(frame_.header.operations), operations_.begin());
	have_frame_ = true;
	return true;
}

TableFrame
RingMessageSource::table() const
{
	return {schema_, table_, frame_.header.table, frame_.header.generation, kind(), frame_.header.first.lsn};
}

bool
RingMessageSource::prepare()
{
	if (refused_ || !readable_)
		return false;
	try
	{
		return prepare_frames();
	}
	catch (const Corrupt &)
	{
		refuse("is corrupt behind position " + std::to_string(ring_->reader().read_position()));
		return false;
	}
}

bool
RingMessageSource::prepare_frames()
{
	if (decodes() && !writes_.empty())
	{
		writes_.step(HandOff::Clock::now());
		acknowledge();
	}
	if (active() && bulk() && hand_off_.is_stale(table()))
		abandon();
	if (active())
		return true;
	if (marker_waits_ && !finish_marker())
		return false;
	while (have_frame_ || read_frame())
	{
		uint64_t position = frame_.header.position;

		if (!admit())
			return false;
		have_frame_ = peeked_ = false;
		previous_end_ = frame_.end;
		/* What the logs have of this frame was taken into account. */
		for (std::optional<Cursor> &resume : resume_)
		{
			if (resume && resume->position == position)
				resume.reset();
		}
		if (active())
			return true;
		if (marker_waits_)
			return false;
	}
	return false;
}

/* What is left of a frame of a snapshot must not come behind the end of its table. */
void
RingMessageSource::abandon()
{
	frame_messages_.clear();
	record_.clear();
	end_partial_record();
	skip();
}

/* Does the log have all of the frame? */
bool
RingMessageSource::is_behind_cursor(Target target) const
{
	const std::optional<Cursor> &resume = resume_[static_cast<int>(target)];

	return resume && frame_.header.position < resume->position;
}

/* Does the log have a part of the frame, or all of it, and nothing behind it? That is where it goes on. */
const Cursor *
RingMessageSource::resumes(Target target) const
{
	const std::optional<Cursor> &resume = resume_[static_cast<int>(target)];

	return resume && frame_.header.position == resume->position ? &*resume : nullptr;
}

/* Takes the frame up, or passes over it. False: it has to wait. */
bool
RingMessageSource::admit()
{
	for (const std::optional<Cursor> &resume : resume_)
	{
		/* A log has a message of a frame that is not there. */
		if (resume && frame_.header.position > resume->position)
			corrupt();
	}

	StateWrites::Turn turn = StateWrites::Turn::Now;

	/* Rows must not wait: what the stream has a part of is to be known before others follow, see Publisher. */
	if (!writes_.empty() && (decodes() ? kind() != FrameKind::Watermark && kind() != FrameKind::History
									   : (kind() == FrameKind::SnapshotBegin || kind() == FrameKind::Schema) &&
											 !is_behind_cursor(Target::Log)))
		turn = writes_.turn(table(), HandOff::Clock::now());
	if (turn == StateWrites::Turn::Later)
		return false;
	if (frame_.header.table != dropped_)
		dropped_ = 0;
	switch (kind())
	{
		case FrameKind::Schema:
			return admit_schema(turn == StateWrites::Turn::Never);
		case FrameKind::Removed:
			return admit_end(&HandOff::on_table_removed);
		case FrameKind::SnapshotBegin:
		case FrameKind::SnapshotEnd:
			/* Of a marker all frames are needed. */
			return admit_marker();
		case FrameKind::Changes:
		case FrameKind::Held:
		case FrameKind::Snapshot:
		case FrameKind::Dropped:
			return admit_package();
		default:
			break;
	}
	if (is_behind_cursor(Target::Log))
	{
		skip();
		return true;
	}
	switch (kind())
	{
		case FrameKind::Watermark:
			return admit_watermark();
		case FrameKind::History:
			return admit_origin();
		case FrameKind::Message:
			return admit_message();
		default:
			corrupt();
	}
}

/* A record that is put together in memory stays in the ring meanwhile, and must leave room for others. */
void
RingMessageSource::check_fits(const char *what) const
{
	if (frame_.header.record_length > ring_->reader().capacity() / 2)
		throw Fatal(ExitCode::RingRefused, ring_->path() + " is too small for a " + what + " of " +
											   std::to_string(frame_.header.record_length) +
											   " bytes: increase siphon.ring_size");
}

/* Adds a frame to the record in memory. True: it is complete. */
bool
RingMessageSource::gather()
{
	if (frame_.first_of_record())
		marker_.clear();
	if (marker_.size() != frame_.header.record_offset)
		corrupt();
	marker_.append(frame_.payload, frame_.header.payload_length);
	check_intact();
	return frame_.last_of_record();
}

/*
 * Puts the table's schema into the bucket before anything of it that follows is published, unless the table's end is on
 * its way there (`over`). Written a second time, after a restart, it does no harm. Like a marker, it is passed when all its
 * frames are. What follows it in a snapshot's ring is of the same table, and waits.
 */
bool
RingMessageSource::admit_schema(bool over)
{
	check_fits("schema");
	if (frame_.header.record_length == 0 && !over)
		return admit_end(frame_.header.table == dropped_ ? &HandOff::on_table_dropped : &HandOff::on_table_renamed);
	if (!writes_.room())
		return false;
	if (frame_.first_of_record())
		record_begin_ = previous_end_;
	if (!gather())
		return true;

	std::optional<std::string> json = schema_json(marker_);

	if (!json)
		corrupt();
	if (!over && !hand_off_.is_stale(table()))
	{
		if (decodes())
			writes_.enter_schema(table(), std::move(*json), record_begin_);
		else if (!schemas_.write(schema_, table_, *json, stream_.log().body_limit(), HandOff::Clock::now()))
		{
			/* This frame comes once more. */
			marker_.resize(frame_.header.record_offset);
			return false;
		}
	}
	marker_.clear();
	skip();
	return true;
}

/*
 * The table, or its name, ends here, once everything of it is in the stream. While changes are held, others wait for
 * that: what comes of the table under another name must not come in front of them.
 */
bool
RingMessageSource::admit_end(StateWrites::End end)
{
	if (!writes_.room())
		return false;
	if (hand_off_.holds(table()) &&
		(ledger_.stored_token() < last_token_ || !(hand_off_.*end)(table(), HandOff::Clock::now())))
		return false;
	writes_.end_table(table(), end, last_token_, dropped_ != 0 ? drop_begin_ : previous_end_);
	dropped_ = 0;
	skip();
	return true;
}

/* Nothing of the frame is published. */
void
RingMessageSource::skip()
{
	ledger_.skip(number(), frame_.end);
}

/*
 * A watermark doesn't speak for tables whose changes are held. It tells the publisher of a later ring, which begins behind
 * it, where to look for what the logs have beyond its position: behind it in the log and behind Siphon-Held in the spill;
 * while this ring brings what they have from an earlier one already, behind Siphon-Behind in the log, where that began.
 */
bool
RingMessageSource::admit_watermark()
{
	const FrameHeader &header = frame_.header;
	const Cursor *resume = resumes(Target::Log);
	std::optional<StreamHistory::RepeatPlaces> again;
	std::vector<Header> headers;
	v1::Watermark held;

	held_ = false;
	if (!frame_.first_of_record() || !frame_.last_of_record())
		corrupt();

	bool known = published_.has_watermark(header.last.lsn);

	if (beyond_ == 0 && published_.is_beyond(header.last.lsn))
		beyond_ = frame_.end;
	if (known && resume == nullptr)
	{
		skip();
		return true;
	}
	for (const HandOff::Holding &table : hand_off_.holding())
	{
		v1::HeldTable *entry = held.add_held();

		held.add_held_tables(table.schema + "." + table.table);
		entry->set_schema(table.schema);
		entry->set_table(table.table);
	}
	if (published_.active())
		again = history_.repeat_places();
	headers = {{"Siphon-Kind", "watermark"},
			   {"Siphon-First", format_position(header.first.lsn, header.first.ordinal)},
			   {"Siphon-Last", format_position(header.last.lsn, header.last.ordinal)},
			   {"Siphon-Held", std::to_string(again ? again->spill : ledger_.end(Target::Spill).place)}};
	if (again)
		headers.push_back({"Siphon-Behind", std::to_string(again->log)});
	/* In protobuf, what is appended is merged. */
	record_.start(std::string(frame_.payload, header.payload_length) + held.SerializePartialAsString(),
				  {watermark_subject(root_)}, headers, ring_->reader().ring_id(), header.position,
				  stream_.log().body_limit());
	check_intact();
	if (resume == nullptr)
		return true;
	record_.skip_to(resume->part);
	if (!record_.active())
		skip();
	return true;
}

size_t
RingMessageSource::next_size() const
{
	return record_.active() ? record_.next_size() : frame_messages_.next_size();
}

const std::string &
RingMessageSource::next_subject() const
{
	return record_.active() ? record_.next_subject() : frame_messages_.subject();
}

MessageSource::Built
RingMessageSource::build(Message *message)
{
	Built built;
	bool last_of_record = record_.active() ? record_.next_is_last_part() : frame_messages_.last_of_record();

	if (last_of_record)
		end_partial_record();
	else
		begin_partial_record(next_subject(), frame_.header.generation);

	if (record_.active())
	{
		bool last_of_all = record_.total() == record_.next();

		cursor_[static_cast<int>(next_target())] = record_.build(message);
		built.load = load(last_of_all && !marker());
		built.load.events = record_events_;
		if (record_.active())
			return built;
		if (marker())
			marker_waits_ = true;
		else
		{
			built.ack = frame_.end;
			built.events = kind() == FrameKind::Watermark ? 0 : record_events_;
		}
		return built;
	}

	bool last_of_frame = frame_messages_.last_of_frame();
	std::optional<Cursor> &cursor = cursor_[static_cast<int>(next_target())];
	std::optional<Cursor> before = cursor;

	cursor = {ring_->reader().ring_id(), frame_.header.position, frame_messages_.next_part(),
			  frame_messages_.plan().total};
	built.ack = last_of_frame ? frame_.end : 0;
	built.events = last_of_record ? frame_.header.events : 0;
	built.load = load(last_of_record);
	frame_messages_.build(message);
	if (!ring_->reader().intact(frame_))
	{
		cursor = before;
		refuse("is corrupt in the frame at position " + std::to_string(frame_.header.position));
		built.none = true;
		return built;
	}
	if (last_of_frame)
	{
		built_end_ = frame_.end;
		frame_messages_.clear();
	}
	return built;
}

void
RingMessageSource::on_sent(uint64_t token)
{
	last_token_ = token;
	if (marker())
	{
		if (cursor_[static_cast<int>(Target::Log)]->part == 1)
			marker_first_token_ = token;
		marker_last_token_ = token;
	}
	else if (carries_events(kind()) && kind() != FrameKind::Snapshot)
		hand_off_.on_sent(table(), next_target(), token);
}

void
RingMessageSource::acked(const Ledger::Ack &ack, const Checkpoint &checkpoint)
{
	if (ack.token != 0 && ack.token == marker_first_token_)
		marker_first_ = ack.place;
	if (ack.target == Target::Spill)
		hand_off_.held_stored(ack.token, ack.place);
	if (ack.frame_end == 0)
		return;
	ring_->reader().set_checkpoint(checkpoint);
	stored_end_ = ack.frame_end;
	acknowledge();
}

/* What is behind a write that is not done may have to be read again. */
void
RingMessageSource::acknowledge()
{
	uint64_t end = stored_end_;

	if (decodes() && !writes_.empty())
		end = std::min(end, writes_.position());
	if (dropped_ != 0)
		end = std::min(end, drop_begin_);
	if (end > ring_->reader().acked())
		ring_->ack(end);
	if (beyond_ != 0 && ring_->reader().acked() >= beyond_)
	{
		published_.note_watermark();
		beyond_ = 0;
	}
}

} // namespace siphon
