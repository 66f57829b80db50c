/* See published_positions.h. */
#include "publisher/history/published_positions.h"

#include "program/exit_codes.h"
#include "program/log.h"
#include "reader/subject.h"

namespace siphon {

PublishedPositions::PublishedPositions(const std::string &subject_root) : root_(subject_root)
{
}

void
PublishedPositions::clear()
{
	subjects_.clear();
	watermark_ = 0;
	newest_ = {0, 0};
	active_ = false;
}

/* Is the message the last part of its package, or all of it? */
static bool
completes(const StoredMessage &message)
{
	size_t slash = message.part.find('/');

	return slash == std::string::npos || message.part.substr(0, slash) == message.part.substr(slash + 1);
}

/* The greatest position that is less. */
static Position
before(const Position &position)
{
	return position.ordinal > 0 ? Position{position.lsn, position.ordinal - 1} : Position{position.lsn - 1, UINT64_MAX};
}

void
PublishedPositions::add(const std::vector<StoredMessage> &messages, const std::string &log)
{
	for (const StoredMessage &message : messages)
	{
		bool watermark = message.kind == "watermark";

		/* What came before is of a history that is over. */
		if (message.kind == "history")
			clear();
		if (!watermark && message.kind != "changes" && message.kind != "message")
			continue;

		bool complete = completes(message);
		std::optional<Position> position = parse_position(complete ? message.last : message.first);

		if (!position)
			throw Fatal(ExitCode::StreamRefused,
						"message " + std::to_string(message.place) + " of " + log + " is not what a publisher writes");
		if (watermark)
			watermark_ = complete ? position->lsn : position->lsn - 1;
		else
		{
			/* Of one that was broken off the stream has no event, but all before it. */
			if (!complete)
				position = before(*position);
			subjects_[message.subject] = {message.place, message.generation, *position};
		}
		if (!(*position <= newest_))
			newest_ = *position;
	}
	active_ = newest_.lsn != 0;
	if (active_)
		spdlog::debug("{} has events up to {} on {} subjects", log, format_position(newest_.lsn, newest_.ordinal),
					  subjects_.size());
}

std::optional<Position>
PublishedPositions::last_position(std::string_view schema, std::string_view table, uint32_t partition,
								  uint32_t generation, std::optional<Place> held_behind, bool held) const
{
	std::optional<Position> upto;
	auto count = [&](const std::string &subject, Place behind, bool any) {
		auto found = subjects_.find(subject);

		if (found == subjects_.end() || (!any && found->second.generation != generation) ||
			found->second.place <= behind)
			return;
		if (!upto || *upto <= found->second.position)
			upto = found->second.position;
	};

	count(events_subject(root_, schema, table, partition), kNoPlace, !held);
	if (held_behind)
		count(held_subject(root_, schema, table, partition), *held_behind, false);
	return upto;
}

std::optional<Position>
PublishedPositions::last_message_position(std::string_view prefix) const
{
	auto found = subjects_.find(message_subject(root_, prefix));

	return found == subjects_.end() ? std::nullopt : std::optional(found->second.position);
}

bool
PublishedPositions::has_watermark(uint64_t commit_lsn) const
{
	return active_ && commit_lsn <= watermark_;
}

void
PublishedPositions::note_watermark()
{
	subjects_.clear();
	active_ = false;
}

} // namespace siphon
