/*
 * What the stream has of each subject, by position. Another ring of the decoder, after a restart, brings events anew
 * that were published and not yet confirmed, in other packages than before; what the stream has already is left out, event
 * by event, as the last message on each subject tells. All of it lies behind the checkpoint, so that is what is read.
 *
 * On its way to a held subject, a change counts within one generation of a table alone: an earlier one's were for other
 * rows. On the subject of events, whatever stands there came before it: changes of the table's earlier generation, or
 * of another table that has had the name. Only for a while there is anything to leave out: from the watermark on that is
 * beyond all that the stream had, nothing is looked at.
 */
#ifndef SIPHON_PUBLISHED_POSITIONS_H
#define SIPHON_PUBLISHED_POSITIONS_H

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "reader/stored_message.h"
#include "ring/ring.h"

namespace siphon {

inline bool
operator<=(const Position &a, const Position &b)
{
	return a.lsn != b.lsn ? a.lsn < b.lsn : a.ordinal <= b.ordinal;
}

class PublishedPositions
{
public:
	explicit PublishedPositions(const std::string &subject_root);

	/* Nothing was published. */
	void clear();
	/* Messages of a log as they follow each other, without bodies. `log` names it. */
	void add(const std::vector<StoredMessage> &messages, const std::string &log);

	/* Something may have to be left out. */
	bool active() const { return active_; }
	/*
	 * The stream has the events of a table's partition up to here. nullopt: none. What is held counts as well, if it
	 * stands behind held_behind and so is still to be moved. `held`: the decoder says that they are to be held.
	 */
	std::optional<Position> last_position(std::string_view schema, std::string_view table, uint32_t partition,
										  uint32_t generation, std::optional<Place> held_behind, bool held) const;
	/* The stream has the logical messages of a prefix up to here. nullopt: none. */
	std::optional<Position> last_message_position(std::string_view prefix) const;
	/* The stream has a watermark at or beyond this commit. */
	bool has_watermark(uint64_t commit_lsn) const;
	/* Nothing of what follows this commit is in the stream. */
	bool is_beyond(uint64_t commit_lsn) const { return active_ && commit_lsn >= newest_.lsn; }
	/* All up to such a commit has been dealt with, and is not read again. */
	void note_watermark();

	/* The greatest position that add() has seen. */
	const Position &newest() const { return newest_; }

private:
	struct Last
	{
		Place place;
		uint32_t generation;
		Position position;
	};

	std::string root_;
	bool active_ = false;
	std::map<std::string, Last, std::less<>> subjects_;
	uint64_t watermark_ = 0;
	Position newest_{0, 0};
};

} // namespace siphon

#endif
