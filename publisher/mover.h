/*
 * Moves a table's held changes behind the rows of its snapshot: reads them back from the stream in order, leaves out
 * the events that the rows show already, and is a source of messages like a ring. Its place in the held messages is
 * its cursor: epoch is the generation, position the sequence of the record's first message.
 */
#ifndef SIPHON_MOVER_H
#define SIPHON_MOVER_H

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "package_assembler.h"
#include "record_messages.h"
#include "source.h"
#include "table_state.h"

namespace siphon {

class Mover : public Source
{
public:
	using Clock = std::chrono::steady_clock;

	Mover(const TableState &state, const std::string &subject_root, int compression_level, Queue *queue);

	uint64_t epoch() const override { return (uint64_t{state_.oid} << 32) | state_.generation; }
	const Cursor *cursor() const override { return cursor_ ? &*cursor_ : nullptr; }
	void resume(const Cursor *cursor, uint64_t end_sequence) override;

	/*
	 * Gets more to move, if there is more up to the last held message, last_held. The stream is known to hold all
	 * messages up to `stored`.
	 */
	void fetch(uint64_t last_held, uint64_t stored, Clock::time_point now);
	/* Nothing more comes, although it should: last_held must be looked up anew. Said once in a while. */
	bool starved() const { return starved_; }
	/* Everything up to last_held is moved, and stored. */
	bool caught_up(uint64_t last_held, uint64_t stored) const;
	/* Little is left to read. */
	bool nearly() const { return reader_ && reader_->pending() <= kNearly; }
	/* When fetch() is to try again. */
	Clock::time_point retry_at() const { return retry_at_; }

	bool prepare() override;
	size_t next_size() const override { return record_.next_size(); }
	const std::string &next_subject() const override { return record_.next_subject(); }
	uint32_t next_generation() const override { return state_.generation; }
	Built build(Message *message) override;
	void sent(uint64_t sequence) override { last_sent_ = sequence; }

private:
	static constexpr uint64_t kNearly = 64;

	void take_message(const StoredMessage &message);
	void start_record(const StoredMessage &last, uint64_t begin, std::string_view payload);

	const TableState state_;
	const std::string root_;
	Queue &queue_;
	std::string held_; /* subjects of all partitions */
	std::unique_ptr<QueueReader> reader_;
	std::deque<StoredMessage> incoming_;
	std::vector<StoredMessage> batch_;
	std::optional<PackageAssembler> assembler_;
	std::map<std::string, uint64_t> begins_; /* of the record that is being put together, by subject */
	RecordMessages record_;
	uint64_t record_events_ = 0;
	std::optional<Cursor> cursor_;
	std::optional<Cursor> unfinished_; /* of the record that the stream holds a part of */
	uint64_t position_ = 0;            /* all before and with it were taken from the reader and dealt with */
	uint64_t last_sent_ = 0;
	static constexpr uint64_t kNever = UINT64_MAX;
	uint64_t dry_at_ = kNever; /* the stream was at this sequence when a pull brought nothing */
	bool starved_ = false;
	Clock::time_point retry_at_;
};

} // namespace siphon

#endif
