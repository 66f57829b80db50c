/* See record_messages.h. */
#include "publisher/messages/record_messages.h"

#include "publisher/messages/frame_messages.h"
#include "reader/subject.h"

namespace siphon {

void
RecordMessages::start(std::string payload, std::vector<std::string> subjects, std::vector<Header> headers,
					  uint64_t epoch, uint64_t position, uint32_t body_limit)
{
	payload_ = std::move(payload);
	subjects_ = std::move(subjects);
	headers_ = std::move(headers);
	epoch_ = epoch;
	position_ = position;
	piece_size_ = body_limit;
	parts_ = payload_.empty() ? 1 : static_cast<uint32_t>((payload_.size() - 1) / body_limit + 1);
	total_ = parts_ * static_cast<uint32_t>(subjects_.size());
	next_ = 1;
}

std::string_view
RecordMessages::piece() const
{
	size_t offset = size_t{(next_ - 1) % parts_} * piece_size_;

	return std::string_view(payload_).substr(offset, piece_size_);
}

Cursor
RecordMessages::build(Message *message)
{
	Compressor::Result result = compressor_.compress(piece());
	Cursor cursor{epoch_, position_, next_, total_};

	message->subject = next_subject();
	message->id = MessageId{epoch_, position_, next_}.format();
	message->body = result.body;
	message->compression_ns = result.nanoseconds;
	message->headers = headers_;
	message->headers.push_back({"Siphon-Encoding", result.encoding});
	if (parts_ > 1)
		message->headers.push_back({"Siphon-Part", format_part((next_ - 1) % parts_ + 1, parts_)});
	next_++;
	return cursor;
}

} // namespace siphon
