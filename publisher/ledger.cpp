/* See ledger.h. */
#include "ledger.h"

namespace siphon {

void
Ledger::settle(uint64_t last_sequence, uint64_t acked)
{
	first_token_ += messages_.size();
	messages_.clear();
	first_sequence_ = last_sequence + 1;
	acked_ = acked;
	bytes_ = 0;
	unanswered_ = 0;
	broken_ = false;
}

bool
Ledger::room(size_t bytes) const
{
	if (messages_.empty())
		return true;
	return messages_.size() < max_messages_ && bytes_ + bytes <= max_bytes_;
}

void
Ledger::add(size_t bytes, uint64_t frame_end, Clock::time_point now)
{
	messages_.push_back({frame_end, now, bytes, false, false});
	bytes_ += bytes;
	unanswered_++;
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

		if (front.frame_end != 0)
			acked_ = front.frame_end;
		bytes_ -= front.bytes;
		messages_.pop_front();
		first_token_++;
		first_sequence_++;
	}
}

} // namespace siphon
