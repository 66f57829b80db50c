/*
 * A ring as a source of messages: reads its frames, asks where each goes, and acknowledges them. After resuming it
 * passes over what the stream has already. Behind a marker nothing is read until the marker has had its effect,
 * and only then is it acknowledged. What has an effect on the state store alone is acknowledged then, too, but others
 * do not wait for it.
 */
#ifndef SIPHON_RING_MESSAGE_SOURCE_H
#define SIPHON_RING_MESSAGE_SOURCE_H

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "publisher/history/published_positions.h"
#include "publisher/history/stream_history.h"
#include "publisher/messages/frame_messages.h"
#include "publisher/messages/ledger.h"
#include "publisher/messages/message_source.h"
#include "publisher/messages/record_messages.h"
#include "publisher/source/attached_ring.h"
#include "publisher/table/hand_off.h"
#include "publisher/table/state_writes.h"
#include "publisher/table/table_schema.h"

namespace siphon {

class RingMessageSource : public MessageSource
{
public:
	struct Context
	{
		std::string subject_root;
		int compression_level;
		Stream *stream;
		Ledger *ledger;
		HandOff *hand_off;
		StreamHistory *history;
		PublishedPositions *published;
		PublishStats *traffic;
		StateWrites *writes; /* of the decoder's ring */
	};

	RingMessageSource(const std::string &name, uint32_t number, std::unique_ptr<AttachedRing> ring,
					  const Context &context);

	AttachedRing &ring() { return *ring_; }
	const AttachedRing &ring() const { return *ring_; }
	/* Nothing is taken up: it waits for a frame, and for nothing else. */
	bool idle() const { return readable_ && !active() && !have_frame_ && !marker_waits_ && !refused_; }
	/* False: nothing is taken from it for now. */
	void set_readable(bool readable) { readable_ = readable; }
	/* Its origin was dealt with, so what it holds is published. */
	bool accepted() const { return ring_->reader().acked() > 0; }
	/* It says that something of it was published, which the stream knows nothing of. */
	void reject_history();
	/* What comes next must not be published before all that is under way is stored, and nothing else meanwhile. */
	bool must_publish_alone() const
	{
		return kind() == FrameKind::History && (have_frame_ || record_.active() || marker_waits_);
	}
	/*
	 * A message to a held subject is prepared, or the stream has a part of a record and the rest is to come; or what is
	 * stored may be read again.
	 */
	bool holding() const { return has_partial_record() || (active() && held_) || !writes_.empty(); }
	/* It is not read yet up to where the logs have it. */
	bool resuming() const { return resume_[0] || resume_[1]; }

	/* Of the table of the last frame that has one. */
	const std::string &schema() const { return schema_; }
	const std::string &table_name() const { return table_; }
	bool refused() const { return refused_; }

	uint64_t epoch() const override { return ring_->reader().ring_id(); }
	const Cursor *cursor(Target target) const override;
	void resume(const Cursor *log, const Cursor *spill) override;
	bool prepare() override;
	size_t next_size() const override;
	const std::string &next_subject() const override;
	uint32_t next_generation() const override { return frame_.header.generation; }
	Target next_target() const override { return held_ ? Target::Spill : Target::Log; }
	Built build(Message *message) override;
	void on_sent(uint64_t token) override;
	/* A message is stored, or a frame was skipped. */
	void acked(const Ledger::Ack &ack, const Checkpoint &checkpoint);

	/*
	 * What a decoder's ring says that it continues, if that is still to be dealt with. nullptr: it is not there yet, or it
	 * was dealt with.
	 */
	const HistoryRecord *peek_origin();
	/* The greatest position that was read. */
	const Position &newest() const { return newest_; }

private:
	/* What the ring holds can't be: its worker has to make another. */
	struct Corrupt
	{
	};

	bool active() const { return frame_messages_.active() || record_.active(); }
	FrameKind kind() const { return static_cast<FrameKind>(frame_.header.kind); }
	bool decodes() const { return !bulk(); }
	bool marker() const
	{
		return kind() == FrameKind::SnapshotBegin || kind() == FrameKind::SnapshotEnd || kind() == FrameKind::History;
	}
	bool read_frame();
	bool prepare_frames();
	void abandon();
	bool admit();
	bool admit_package();
	bool admit_message();
	void start_frame();
	bool admit_marker();
	void check_fits(const char *what) const;
	bool gather();
	bool admit_schema(bool over);
	bool admit_end(StateWrites::End end);
	bool admit_watermark();
	bool admit_origin();
	void take_origin();
	bool finish_origin();
	bool admit_rest(const Position &upto);
	void skip();
	void acknowledge();
	void resume_record(const Cursor &cursor);
	bool start_marker();
	bool finish_marker();
	bool is_behind_cursor(Target target) const;
	const Cursor *resumes(Target target) const;
	void check_total(uint32_t total) const;
	[[noreturn]] void corrupt() const;
	void check_intact() const;
	void refuse(const std::string &what);
	TableFrame table() const;
	MessageStats load(bool completes) const;

	std::unique_ptr<AttachedRing> ring_;
	const std::string root_;
	Stream &stream_;
	Ledger &ledger_;
	HandOff &hand_off_;
	StreamHistory &history_;
	PublishedPositions &published_;
	PublishStats &stats_;

	FrameMessages frame_messages_;
	RecordMessages record_;   /* of a watermark, a marker, or what is left of a package */
	Frame frame_{};           /* the last that was read */
	bool have_frame_ = false; /* and not yet admitted */
	bool readable_ = true;
	bool refused_ = false; /* the ring is damaged: nothing more is read */
	bool held_ = false;    /* its messages go to a held subject */
	std::string schema_;   /* of its route */
	std::string table_;
	TableStats *counted_ = nullptr;                         /* of that table; nullptr: not looked up */
	std::array<uint32_t, kCountedOperations> operations_{}; /* of the frame's record, as far as it is published */

	uint64_t record_events_ = 0; /* of what is left of a package */
	HistoryRecord origin_{};
	HandOff::Clock::time_point origin_retry_{};
	WaitNotice origin_notice_;
	StateWrites &writes_;
	TableSchemas schemas_;    /* for a snapshot's ring */
	uint64_t stored_end_ = 0; /* the ledger says that the ring may be acknowledged up to here */
	uint64_t beyond_ = 0;     /* behind a watermark beyond all that the stream had of earlier rings; 0: none was read */
	std::string marker_;      /* of a marker or a schema: payload, as far as its frames were read */
	Visibility marker_snapshot_;
	bool marker_waits_ = false;       /* all published, waits for its effect */
	Place marker_first_ = kNoPlace;   /* of its first message; kNoPlace: not known */
	uint64_t marker_first_token_ = 0; /* of its messages; 0: not sent by us */
	uint64_t marker_last_token_ = 0;
	uint64_t last_token_ = 0; /* of the last message; 0: none since the last resume() */
	Position newest_{0, 0};
	uint64_t previous_end_ = 0; /* behind the frame before frame_ */
	uint64_t record_begin_ = 0; /* behind the record before the one that is gathered */
	/*
	 * Of this table a DROP was read, and not yet its end; 0: of none. The ring is not acknowledged beyond drop_begin_
	 * until the end is entered and done: whoever reads the end again has to know what it follows.
	 */
	uint32_t dropped_ = 0;
	uint64_t drop_begin_ = 0;
	uint64_t built_end_ = 0; /* behind the last frame of which all messages were built */
	bool peeked_ = false;    /* frame_ was read by peek_origin() */

	/* By log: */
	std::optional<Cursor> cursor_[2];
	std::optional<Cursor> resume_[2]; /* the log has the messages up to here */
	uint32_t record_total_ = 0;       /* parts of a record that the log has the beginning of; 0: none */
};

} // namespace siphon

#endif
