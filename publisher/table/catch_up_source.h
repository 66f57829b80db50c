/*
 * Moves a table's held changes behind the rows of its snapshot: reads them back from the spill in order, leaves out
 * the events that the rows show already, and is a source of messages like a ring. How far it is, is its cursor: epoch is
 * the generation, position the place in the spill of the record's first message.
 */
#ifndef SIPHON_CATCH_UP_SOURCE_H
#define SIPHON_CATCH_UP_SOURCE_H

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "publisher/messages/message_source.h"
#include "publisher/messages/record_messages.h"
#include "publisher/stream/stream.h"
#include "publisher/table/table_state.h"
#include "reader/package_assembler.h"

namespace siphon {

class CatchUpSource : public MessageSource
{
public:
	using Clock = std::chrono::steady_clock;

	CatchUpSource(const TableState &state, const std::string &subject_root, int compression_level, Stream *stream);

	uint64_t epoch() const override { return (uint64_t{state_.oid} << 32) | state_.generation; }
	const Cursor *cursor(Target target) const override
	{
		return target == Target::Log && cursor_ ? &*cursor_ : nullptr;
	}
	void resume(const Cursor *log, const Cursor *spill) override;

	/* Gets more to move, if there is more up to the last held message, which is at last_held and stored. */
	void fetch(Place last_held, Clock::time_point now);
	/* Everything up to last_held is moved, and stored: so are all messages up to the token. */
	bool caught_up(Place last_held, uint64_t stored_token) const;
	/* Little is left to read; or what is left does not get less, because as much comes. */
	bool nearly() const { return (reader_ && reader_->pending() <= kNearly) || hot_; }
	/* Messages that are still to be moved, as far as it is known. */
	uint64_t pending() const
	{
		return reader_ && reader_->pending() != UINT64_MAX ? reader_->pending() + incoming_.size() : incoming_.size();
	}
	/* When fetch() is to try again. */
	Clock::time_point retry_at() const { return retry_at_; }

	bool prepare() override;
	size_t next_size() const override { return record_.next_size(); }
	const std::string &next_subject() const override { return record_.next_subject(); }
	uint32_t next_generation() const override { return state_.generation; }
	Built build(Message *message) override;
	void on_sent(uint64_t token) override { last_sent_ = token; }

private:
	static constexpr uint64_t kNearly = 64;

	void take_message(const StoredMessage &message);
	void start_record(const StoredMessage &last, Place begin, std::string_view payload);
	void watch_backlog(Clock::time_point now);

	const TableState state_;
	const std::string root_;
	Stream &stream_;
	std::string held_; /* subjects of all partitions */
	std::unique_ptr<LogReader> reader_;
	std::deque<StoredMessage> incoming_;
	std::vector<StoredMessage> batch_;
	std::optional<PackageAssembler> assembler_;
	std::map<std::string, Place> begins_; /* of the record that is being put together, by subject */
	RecordMessages record_;
	uint64_t record_events_ = 0;
	std::optional<Cursor> cursor_;
	std::optional<Cursor> unfinished_; /* of the record that the stream holds a part of */
	Place position_ = kNoPlace;        /* all up to here was taken from the reader and dealt with */
	Place read_ = kNoPlace;            /* and all up to here was taken from the reader */
	uint64_t last_sent_ = 0;           /* token */
	bool hot_ = false;
	bool fresh_ = false;                  /* the last pull brought something */
	uint64_t least_pending_ = UINT64_MAX; /* of all looks */
	int looks_in_vain_ = 0;
	Clock::time_point next_ring_scan_{};
	Clock::time_point retry_at_;
};

} // namespace siphon

#endif
