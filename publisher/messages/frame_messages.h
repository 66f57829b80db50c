/*
 * SourceScheduler one frame of the ring that carries (a part of) a package, or of a logical message, into the messages that are
 * published: subject, headers, body, identity. Knows the contract of proto/siphon.proto, and neither the ring nor the
 * log beyond their data.
 */
#ifndef SIPHON_FRAME_MESSAGES_H
#define SIPHON_FRAME_MESSAGES_H

#include <cstdint>
#include <string>
#include <string_view>

#include "publisher/messages/parts.h"
#include "publisher/stream/log.h"
#include "reader/compression.h"
#include "reader/subject.h"
#include "ring/ring.h"

namespace siphon {

class FrameMessages
{
public:
	FrameMessages(const std::string &subject_root, int compression_level);

	/*
	 * Takes a frame up; its bytes must stay where they are until done(). fragment_limit is the payload of
	 * a frame together with its route. held: goes to the held subject. False: the frame is no fragment of its
	 * record.
	 */
	bool start(const Frame &frame, uint64_t epoch, uint32_t fragment_limit, uint32_t body_limit, bool held = false);
	/* Leaves the messages up to and with this part out. */
	void skip_to(uint32_t last_part) { part_ = last_part + 1; }
	/* Drops the frame. */
	void clear() { active_ = false; }

	bool active() const { return active_; }
	bool done() const { return part_ > plan_.last(); }
	const Frame &frame() const { return frame_; }
	const PartPlan &plan() const { return plan_; }

	/* Where the frame's messages go. */
	const std::string &subject() const { return subject_; }
	/* Number of the part that build() makes next. */
	uint32_t next_part() const { return part_; }
	/* Payload of the message that build() makes next, before compression. */
	size_t next_size() const { return piece().size(); }
	/* Is the message that build() makes next the frame's last? And the record's? */
	bool last_of_frame() const { return part_ == plan_.last(); }
	bool last_of_record() const { return part_ == plan_.total; }
	/* Fills in all of it. The body is good until the next call or done(). */
	void build(Message *message);

private:
	std::string_view piece() const;

	std::string root_;
	Compressor compressor_;
	Frame frame_{};
	PartPlan plan_{};
	uint64_t epoch_ = 0;
	uint32_t part_ = 1; /* the next to build */
	bool active_ = false;
	std::string subject_;
};

/* Names in a frame's route; of a logical message its prefix, as the table. False: it has none. */
bool split_route(const Frame &frame, std::string_view *schema, std::string_view *table);

/* The value of the header Siphon-Part. */
std::string format_part(uint32_t part, uint32_t total);

} // namespace siphon

#endif
