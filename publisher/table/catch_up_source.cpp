/* See catch_up_source.h. */
#include "publisher/table/catch_up_source.h"

#include <algorithm>
#include <charconv>

#include "program/exit_codes.h"
#include "program/log.h"
#include "reader/subject.h"
#include "siphon.pb.h"

namespace siphon {

static constexpr std::chrono::milliseconds kRetry{100};
/* Messages that are read ahead of what is published. */
static constexpr size_t kReadAhead = 64;
/* How often to look whether less is left, and how often it may not be. */
static constexpr std::chrono::seconds kBacklogLook{5};
static constexpr int kLooksInVain = 3;

CatchUpSource::CatchUpSource(const TableState &state, const std::string &subject_root, int compression_level,
							 Stream *stream)
	: MessageSource("moved-" + std::to_string(state.oid), 0, false), state_(state), root_(subject_root),
	  stream_(*stream), held_(held_subject(subject_root, state.schema, state.table, std::nullopt)),
	  record_(compression_level)
{
	resume(nullptr, nullptr);
}

void
CatchUpSource::resume(const Cursor *cursor, const Cursor *)
{
	reader_.reset();
	incoming_.clear();
	assembler_.emplace();
	begins_.clear();
	record_.clear();
	cursor_.reset();
	unfinished_.reset();
	last_sent_ = 0;
	retry_at_ = {};
	position_ = read_ = state_.behind;
	end_partial_record();

	/* One of an earlier move is none of ours. */
	if (cursor == nullptr || cursor->epoch != state_.generation || cursor->position <= state_.behind)
		return;
	cursor_ = *cursor;
	position_ = read_ = cursor->position;
	if (cursor->last_part())
		return;
	/* Behind the greatest place that is less stands the record's first message. */
	position_ = read_ = cursor->position - 1;
	unfinished_ = *cursor;
}

/* While changes come as fast as they are moved there is no end, unless they wait. */
void
CatchUpSource::watch_backlog(Clock::time_point now)
{
	if (now < next_ring_scan_ || !reader_ || reader_->pending() == UINT64_MAX)
		return;
	next_ring_scan_ = now + kBacklogLook;
	if (reader_->pending() < least_pending_ - least_pending_ / 8)
	{
		least_pending_ = reader_->pending();
		looks_in_vain_ = 0;
	}
	else if (++looks_in_vain_ >= kLooksInVain)
		hot_ = true;
}

void
CatchUpSource::fetch(Place last_held, Clock::time_point now)
{
	std::string why;

	if (now < retry_at_ || incoming_.size() >= kReadAhead || (read_ >= last_held && (!reader_ || !reader_->pulling())))
		return;
	retry_at_ = {};
	if (!reader_)
	{
		reader_ = stream_.spill().read(held_, read_, false, &why);
		if (!reader_)
		{
			if (!why.empty())
			{
				spdlog::debug("waiting for {}", why);
				retry_at_ = now + kRetry;
			}
			return;
		}
	}

	batch_.clear();

	/* What came before it broke off is good. */
	bool sound = reader_->take(&batch_);

	for (StoredMessage &message : batch_)
	{
		read_ = message.place;
		incoming_.push_back(std::move(message));
	}
	watch_backlog(now);
	if (!sound)
	{
		reader_.reset();
		retry_at_ = now + kRetry;
		return;
	}
	if (reader_->pulling() || read_ >= last_held)
		return;
	/* One that is at its end, while there is more, looks at a replica that lags behind: it is asked now and then. */
	if (batch_.empty() && reader_->pending() == 0 && !fresh_)
		retry_at_ = now + kRetry;
	fresh_ = !batch_.empty();
	reader_->pull();
}

bool
CatchUpSource::caught_up(Place last_held, uint64_t stored_token) const
{
	return position_ >= last_held && last_sent_ <= stored_token && incoming_.empty() && !record_.active();
}

bool
CatchUpSource::prepare()
{
	while (!record_.active() && !incoming_.empty())
	{
		StoredMessage message = std::move(incoming_.front());

		incoming_.pop_front();
		take_message(message);
		position_ = message.place;
	}
	return record_.active();
}

void
CatchUpSource::take_message(const StoredMessage &message)
{
	std::string_view payload;

	/* Of a snapshot that failed. */
	if (message.generation != state_.generation)
		return;
	if (message.part.empty() || message.part.starts_with("1/"))
		begins_[message.subject] = message.place;

	switch (assembler_->add(message.subject, message.part, message.encoding, message.body, &payload))
	{
		case PackageAssembler::Result::Incomplete:
			return;
		case PackageAssembler::Result::Complete:
			start_record(message, begins_[message.subject], payload);
			return;
		case PackageAssembler::Result::Invalid:
			break;
	}
	throw Fatal(ExitCode::StreamRefused, "message " + std::to_string(message.place) + " of " +
											 stream_.spill().describe() + " is not what a publisher writes");
}

static uint64_t
lsn_of(const std::string &position)
{
	uint64_t lsn = 0;

	std::from_chars(position.data(), position.data() + position.size(), lsn, 16);
	return lsn;
}

/* Leaves out the events that the snapshot shows. False: nothing is left. */
static bool
leave_out_shown(const Visibility &snapshot, v1::Package *package)
{
	auto *events = package->mutable_events();

	events->erase(
		std::remove_if(events->begin(), events->end(),
					   [&](const v1::Event &event) { return snapshot.shows(event.commit_lsn(), event.xid()); }),
		events->end());
	return !events->empty();
}

void
CatchUpSource::start_record(const StoredMessage &message, Place begin, std::string_view payload)
{
	std::string first = message.first;
	std::string last = message.last;
	std::string kept(payload);

	record_events_ = 0;
	std::from_chars(message.events.data(), message.events.data() + message.events.size(), record_events_);
	if (lsn_of(first) < state_.snapshot.lsn)
	{
		v1::Package package;

		if (!package.ParseFromArray(payload.data(), static_cast<int>(payload.size())))
			throw Fatal(ExitCode::StreamRefused, "message " + std::to_string(message.place) + " of " +
													 stream_.spill().describe() + " holds no package");

		int before = package.events_size();

		if (!leave_out_shown(state_.snapshot, &package))
			return;
		if (package.events_size() != before)
		{
			const v1::Event &front = package.events(0);
			const v1::Event &back = *package.events().rbegin();

			first = format_position(front.commit_lsn(), front.ordinal());
			last = format_position(back.commit_lsn(), back.ordinal());
			record_events_ = static_cast<uint64_t>(package.events_size());
			kept = package.SerializeAsString();
		}
	}

	std::string held = held_.substr(0, held_.size() - 1);
	std::string events = events_subject(root_, state_.schema, state_.table, std::nullopt);
	std::string subject = events.substr(0, events.size() - 1) + message.subject.substr(held.size());

	record_.start(std::move(kept), {subject},
				  {{"Siphon-Kind", "changes"},
				   {"Siphon-First", first},
				   {"Siphon-Last", last},
				   {"Siphon-Events", std::to_string(record_events_)},
				   {"Siphon-Generation", std::to_string(state_.generation)},
				   {"Siphon-Moved", std::to_string(begin)}},
				  epoch(), begin, stream_.log().body_limit());
	if (unfinished_ && unfinished_->position == begin)
	{
		if (record_.total() != unfinished_->total)
			throw Fatal(ExitCode::StreamRefused,
						stream_.describe() + " holds the beginning of a package in " +
							std::to_string(unfinished_->total) + " parts, which would now have " +
							std::to_string(record_.total()) +
							": set the server's max_payload back until the package is through");
		record_.skip_to(unfinished_->part);
	}
	unfinished_.reset();
}

MessageSource::Built
CatchUpSource::build(Message *message)
{
	Built built;
	bool last = record_.next_is_last_part();

	if (last)
		end_partial_record();
	else
		begin_partial_record(record_.next_subject(), state_.generation);
	cursor_ = record_.build(message);
	cursor_->epoch = state_.generation;
	built.events = last ? record_events_ : 0;
	return built;
}

} // namespace siphon
