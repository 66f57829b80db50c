/* See ledger.h. */
#include "publisher/messages/ledger.h"

namespace siphon {

void
Ledger::reset_to(const End &log, const End &spill)
{
	first_token_ += messages_.size();
	messages_.clear();
	acks_.clear();
	ends_[static_cast<int>(Target::Log)] = log;
	ends_[static_cast<int>(Target::Spill)] = spill;
	bytes_ = 0;
	bulk_messages_ = 0;
	bulk_bytes_ = 0;
	unanswered_ = 0;
	broken_ = false;
}

bool
Ledger::room(size_t bytes, bool bulk) const
{
	if (messages_.empty())
		return true;
	if (bulk && bulk_messages_ > 0 &&
		(bulk_messages_ >= max_messages_ / kBulkShare || bulk_bytes_ + bytes > max_bytes_ / kBulkShare))
		return false;
	return messages_.size() < max_messages_ && bytes_ + bytes <= max_bytes_;
}

void
Ledger::add(size_t bytes, uint32_t source, uint64_t frame_end, bool bulk, Target target, uint64_t message,
			Clock::time_point now)
{
	messages_.push_back({frame_end, now, bytes, message, kNoPlace, source, target, bulk, false, false});
	bytes_ += bytes;
	bulk_messages_ += bulk ? 1 : 0;
	bulk_bytes_ += bulk ? bytes : 0;
	unanswered_++;
}

void
Ledger::skip(uint32_t source, uint64_t frame_end)
{
	for (auto entry = messages_.rbegin(); entry != messages_.rend(); ++entry)
	{
		if (entry->source == source)
		{
			entry->frame_end = frame_end;
			return;
		}
	}
	acks_.push_back({source, 0, Target::Log, kNoPlace, frame_end});
}

void
Ledger::take_acks(std::vector<Ack> *acks)
{
	acks->clear();
	acks->swap(acks_);
}

/* The entry of a token that had no answer yet. */
Ledger::Entry *
Ledger::answer(uint64_t token)
{
	if (token < first_token_ || token - first_token_ >= messages_.size())
		return nullptr;

	Entry *entry = &messages_[token - first_token_];

	if (entry->answered)
		return nullptr;
	entry->answered = true;
	unanswered_--;
	return entry;
}

void
Ledger::stored(uint64_t token, Place place)
{
	Entry *entry = answer(token);

	if (entry == nullptr)
		return;
	entry->stored = true;
	entry->place = place;
	advance();
}

void
Ledger::duplicate(uint64_t token)
{
	Entry *entry = answer(token);

	if (entry == nullptr)
		return;
	broken_ = true;
	entry->stored = true;
	advance();
}

void
Ledger::refused(uint64_t token)
{
	if (answer(token) != nullptr)
		broken_ = true;
}

void
Ledger::advance()
{
	while (!messages_.empty() && messages_.front().stored)
	{
		const Entry &front = messages_.front();

		acks_.push_back({front.source, first_token_, front.target, front.place, front.frame_end});
		if (front.place != kNoPlace)
			ends_[static_cast<int>(front.target)] = {front.place, front.message};
		bytes_ -= front.bytes;
		bulk_messages_ -= front.bulk ? 1 : 0;
		bulk_bytes_ -= front.bulk ? front.bytes : 0;
		messages_.pop_front();
		first_token_++;
	}
}

} // namespace siphon
