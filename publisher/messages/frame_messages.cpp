/* See frame_messages.h. */
#include "publisher/messages/frame_messages.h"

namespace siphon {

FrameMessages::FrameMessages(const std::string &subject_root, int compression_level)
	: root_(subject_root), compressor_(compression_level)
{
}

bool
split_route(const Frame &frame, std::string_view *schema, std::string_view *table)
{
	std::string_view route(frame.route, frame.header.route_length);
	size_t nul = route.find('\0');

	if (nul == std::string_view::npos)
		return false;
	*schema = route.substr(0, nul);
	*table = route.substr(nul + 1);
	return true;
}

bool
FrameMessages::start(const Frame &frame, uint64_t epoch, uint32_t fragment_limit, uint32_t body_limit, bool held)
{
	const FrameHeader &header = frame.header;
	std::string_view schema;
	std::string_view table;

	if (header.route_length >= fragment_limit)
		return false;

	std::optional<PartPlan> plan = plan_parts(header.record_length, header.record_offset, header.payload_length,
											  fragment_limit - header.route_length, body_limit);
	if (!plan)
		return false;

	if (!split_route(frame, &schema, &table))
		return false;
	if (header.kind == static_cast<uint16_t>(FrameKind::Message))
		subject_ = message_subject(root_, table);
	else
		subject_ = held ? held_subject(root_, schema, table, header.partition)
						: events_subject(root_, schema, table, header.partition);
	frame_ = frame;
	plan_ = *plan;
	epoch_ = epoch;
	part_ = plan_.first;
	active_ = true;
	return true;
}

std::string_view
FrameMessages::piece() const
{
	uint32_t offset = (part_ - plan_.first) * plan_.piece_size;

	return std::string_view(frame_.payload, frame_.header.payload_length).substr(offset, plan_.piece_size);
}

std::string
format_part(uint32_t part, uint32_t total)
{
	return std::to_string(part) + "/" + std::to_string(total);
}

void
FrameMessages::build(Message *message)
{
	const FrameHeader &header = frame_.header;
	bool snapshot = header.kind == static_cast<uint16_t>(FrameKind::Snapshot);
	bool logical = header.kind == static_cast<uint16_t>(FrameKind::Message);
	Compressor::Result result = compressor_.compress(piece());

	message->subject = subject_;
	message->id = MessageId{epoch_, header.position, part_}.format();
	message->body = result.body;
	message->compression_ns = result.nanoseconds;
	message->headers.clear();
	message->headers.push_back({"Siphon-Kind", logical ? "message" : snapshot ? "snapshot" : "changes"});
	message->headers.push_back({"Siphon-First", format_position(header.first.lsn, header.first.ordinal)});
	message->headers.push_back({"Siphon-Last", format_position(header.last.lsn, header.last.ordinal)});
	if (!logical)
	{
		message->headers.push_back({"Siphon-Events", std::to_string(header.events)});
		message->headers.push_back({"Siphon-Generation", std::to_string(header.generation)});
	}
	message->headers.push_back({"Siphon-Encoding", result.encoding});
	if (plan_.total > 1)
		message->headers.push_back({"Siphon-Part", format_part(part_, plan_.total)});
	part_++;
}

} // namespace siphon
