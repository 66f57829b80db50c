/* See ledger.h. */
#include "ledger.h"

namespace siphon {

void
Ledger::settle(uint64_t last_sequence)
{
	first_token_ += messages_.size();
	messages_.clear();
	acks_.clear();
	first_sequence_ = last_sequence + 1;
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
Ledger::add(size_t bytes, uint32_t source, uint64_t frame_end, bool bulk, Clock::time_point now)
{
	messages_.push_back({frame_end, now, bytes, source, bulk, false, false, false});
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
	acks_.push_back({source, frame_end});
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
Ledger::stored(uint64_t token, uint64_t sequence)
{
	uint64_t expected = first_sequence_ + (token - first_token_);
	Entry *entry = answer(token);

	if (entry == nullptr)
		return;
	if (sequence != expected)
	{
		broken_ = true;
		return;
	}
	entry->stored = entry->placed = true;
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
		bool placed = front.placed;

		if (front.frame_end != 0)
			acks_.push_back({front.source, front.frame_end});
		bytes_ -= front.bytes;
		bulk_messages_ -= front.bulk ? 1 : 0;
		bulk_bytes_ -= front.bulk ? front.bytes : 0;
		messages_.pop_front();
		first_token_++;
		first_sequence_ += placed ? 1 : 0;
	}
}

} // namespace siphon
