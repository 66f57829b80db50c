/*
 * SourceScheduler a whole record, which is in memory, into messages: a watermark, a marker that goes to every partition's
 * subject, or held changes that are moved. (Packages fresh from a ring go frame by frame, see frame_messages.h.) The
 * messages of all subjects are numbered through, for the cursor.
 */
#ifndef SIPHON_RECORD_MESSAGES_H
#define SIPHON_RECORD_MESSAGES_H

#include <string>
#include <string_view>
#include <vector>

#include "publisher/stream/log.h"
#include "reader/compression.h"
#include "reader/cursor.h"

namespace siphon {

class RecordMessages
{
public:
	explicit RecordMessages(int compression_level) : compressor_(compression_level) {}

	/* Headers: those that all messages have. Epoch and position identify the record. */
	void start(std::string payload, std::vector<std::string> subjects, std::vector<Header> headers, uint64_t epoch,
			   uint64_t position, uint32_t body_limit);
	/* Leaves the messages up to and with this one out. */
	void skip_to(uint32_t last) { next_ = last + 1; }
	void clear() { subjects_.clear(); }

	bool active() const { return !subjects_.empty() && next_ <= total_; }
	uint32_t total() const { return total_; }
	/* Number of the message that build() makes next. */
	uint32_t next() const { return next_; }
	size_t next_size() const { return piece().size(); }
	const std::string &next_subject() const { return subjects_[(next_ - 1) / parts_]; }
	/* Is the message that build() makes next the last of its subject? */
	bool next_is_last_part() const { return (next_ - 1) % parts_ + 1 == parts_; }
	/* Fills in all of it. The body is good until the next call. */
	Cursor build(Message *message);

private:
	std::string_view piece() const;

	Compressor compressor_;
	std::string payload_;
	std::vector<std::string> subjects_;
	std::vector<Header> headers_;
	uint64_t epoch_ = 0;
	uint64_t position_ = 0;
	uint32_t piece_size_ = 0;
	uint32_t parts_ = 1; /* on each subject */
	uint32_t total_ = 0;
	uint32_t next_ = 1;
};

} // namespace siphon

#endif
