/* See hand_off.h. */
#include "hand_off.h"

#include <algorithm>

#include "log.h"
#include "subject.h"

namespace siphon {

static constexpr std::chrono::milliseconds kRetry{250};

static std::string
entry_key(std::string_view schema, std::string_view table)
{
	std::string key(schema);

	key += '\0';
	key += table;
	return key;
}

const HandOff::Entry *
HandOff::find(const TableFrame &table) const
{
	if (entries_.empty())
		return nullptr;

	auto entry = entries_.find(entry_key(table.schema, table.table));

	return entry == entries_.end() ? nullptr : &entry->second;
}

HandOff::Entry *
HandOff::find(const TableFrame &table)
{
	return const_cast<Entry *>(static_cast<const HandOff *>(this)->find(table));
}

std::string
HandOff::held(const TableState &state) const
{
	return held_subject(root_, state.schema, state.table, std::nullopt);
}

bool
HandOff::not_now(const std::string &why, Clock::time_point now)
{
	notice_.waiting(why, now);
	retry_at_ = now + kRetry;
	return false;
}

bool
HandOff::load(std::string *why)
{
	auto states = queue_.read_states(why);

	if (!states)
		return false;
	for (const auto &[key, value] : *states)
	{
		if (!is_state_key(key))
			continue;

		std::optional<TableState> state = TableState::parse(value);

		if (!state)
		{
			spdlog::warn("the state of table {} in the key-value bucket can't be read, and is ignored: {}", key, value);
			continue;
		}

		Entry &entry = entries_[entry_key(state->schema, state->table)];

		entry.state = *state;
	}
	loaded_ = true;
	return true;
}

/*
 * A held message of a publisher before us, or of a lost connection, may have arrived when its table had just come to
 * stream, as nothing of ours was stored yet that would have kept it out. It is moved before anything follows.
 */
bool
HandOff::find_late(const std::vector<StoredMessage> &messages, std::string *why)
{
	const std::string held_subjects = root_ + ".held.>";

	for (const StoredMessage &message : messages)
	{
		if (!subject_covers(held_subjects, message.subject))
			continue;
		for (auto &[key, entry] : entries_)
		{
			if (entry.state.phase != TablePhase::Streaming || message.generation != entry.state.generation ||
				message.sequence < entry.state.from || !subject_covers(held(entry.state), message.subject))
				continue;

			TableState state = entry.state;

			state.phase = TablePhase::Moving;
			if (!queue_.write_state(state_key(state.schema, state.table), state.to_json(), why))
				return false;
			entry.state = state;
		}
	}
	return true;
}

bool
HandOff::settle(const Cursors &cursors, uint64_t since, const std::vector<StoredMessage> &messages, std::string *why)
{
	if (!loaded_ && !load(why))
		return false;
	forget(since);
	if (!find_late(messages, why))
		return false;
	for (auto &[key, entry] : entries_)
	{
		entry.closing = false;
		entry.ends_at = 0;
		retire(&entry);
		if (!entry.state.holds())
			continue;

		std::optional<uint64_t> last = queue_.last_sequence(held(entry.state), why);

		if (!last)
			return false;
		entry.last_held = *last;
		if (entry.state.phase != TablePhase::Moving)
			continue;
		entry.mover = std::make_unique<Mover>(entry.state, root_, compression_level_, &queue_);

		auto cursor = cursors.find(entry.mover->name());

		entry.mover->resume(cursor == cursors.end() ? nullptr : &cursor->second, 0);
	}
	return true;
}

void
HandOff::forget(uint64_t since)
{
	since_ = since;
	for (auto entry = entries_.begin(); entry != entries_.end();)
	{
		if (entry->second.state.from > since)
		{
			++entry;
			continue;
		}
		retire(&entry->second);
		entry = entries_.erase(entry);
	}
}

/* Ends a move, in the middle of a turn in which its mover may still be asked for messages. */
void
HandOff::retire(Entry *entry)
{
	if (entry->mover)
		retired_.push_back(std::move(entry->mover));
}

/* Makes a state durable, and only then enters it. */
bool
HandOff::save(Entry *entry, const TableState &state, Clock::time_point now)
{
	std::string why;

	if (now < retry_at_)
		return false;
	if (!queue_.write_state(state_key(state.schema, state.table), state.to_json(), &why))
		return not_now(why, now);
	notice_.over();
	entry->state = state;
	return true;
}

std::optional<uint64_t>
HandOff::held_from(const TableFrame &table) const
{
	const Entry *entry = find(table);

	if (entry == nullptr || entry->state.oid != table.oid || entry->state.generation != table.generation ||
		!entry->state.holds())
		return std::nullopt;
	return entry->state.from;
}

bool
HandOff::stale(const TableFrame &table) const
{
	const Entry *entry = find(table);

	if (entry == nullptr)
		return false;
	/* Rows, and what ends them, follow their beginning, with which the table has had the name. */
	if (entry->state.oid != table.oid)
		return table.lsn < entry->state.since || table.kind == FrameKind::Snapshot ||
			   table.kind == FrameKind::SnapshotEnd;
	if (entry->state.generation != table.generation)
		return entry->state.generation > table.generation;
	if (entry->ends_at != 0)
		return true;
	/* It may have got its name back. */
	return entry->state.phase == TablePhase::Removed &&
		   (table.lsn < entry->state.since || (table.kind != FrameKind::Changes && table.kind != FrameKind::Schema));
}

/* Ends what there still is of another table under the name, which has lost it. To be repeated until it is true. */
bool
HandOff::take_name(const TableFrame &table, Clock::time_point now)
{
	Entry *entry = find(table);

	if (entry == nullptr || entry->state.oid == table.oid || entry->state.phase == TablePhase::Removed)
		return true;

	TableFrame other = table;

	other.oid = entry->state.oid;
	other.generation = entry->state.generation;
	return remove(entry, other, table.lsn, now, true);
}

/* A generation begins with its first frame, whether that is the marker or a change that is held. */
bool
HandOff::begin_generation(const TableFrame &table, Clock::time_point now)
{
	const Entry *before = find(table);
	Entry entry;
	TableState state;

	if (before != nullptr)
	{
		state.since = before->state.oid == table.oid ? before->state.since : table.lsn;
		state.shared = before->state.shared;
	}
	state.schema = table.schema;
	state.table = table.table;
	state.oid = table.oid;
	state.generation = table.generation;
	state.from = next_possible();
	if (!save(&entry, state, now))
		return false;
	spdlog::info("snapshot {} of table {}.{}: changes are held", table.generation, table.schema, table.table);

	Entry &place = entries_[entry_key(table.schema, table.table)];

	retire(&place);
	place = std::move(entry);
	return true;
}

/* A table that had a snapshot, was removed, and was added again without one; or one that gets a name that was left. */
bool
HandOff::begin_without_snapshot(Entry *entry, const TableFrame &table, Clock::time_point now)
{
	TableState state = entry->state;

	if (state.oid != table.oid)
		state.since = table.lsn;
	state.oid = table.oid;
	state.generation = table.generation;
	state.phase = TablePhase::Streaming;
	state.from = next_possible();
	state.snapshot = {};
	if (!save(entry, state, now))
		return false;
	retire(entry);
	return true;
}

HandOff::Route
HandOff::route(const TableFrame &table, bool first_of_record, const Position &first, Clock::time_point now)
{
	Entry *entry = find(table);

	if (table.kind == FrameKind::Dropped)
		return route_drop(table, now);
	if (stale(table))
		return Route::Drop;
	if (table.kind == FrameKind::Snapshot)
		return Route::Events;
	if (!take_name(table, now))
		return Route::Wait;
	if (entry == nullptr || entry->state.oid != table.oid || entry->state.generation < table.generation ||
		entry->state.phase == TablePhase::Removed)
	{
		/* A generation that fails before it begins may have a RENAME, behind all that its predecessor has to move. */
		if (entry != nullptr && table.kind == FrameKind::Changes && entry->state.phase == TablePhase::Moving)
		{
			entry->closing = true;
			return Route::Wait;
		}
		if (table.kind == FrameKind::Changes)
			return entry == nullptr || begin_without_snapshot(entry, table, now) ? Route::Events : Route::Wait;
		return begin_generation(table, now) ? Route::Held : Route::Wait;
	}

	switch (entry->state.phase)
	{
		case TablePhase::Snapshot:
			return Route::Held;
		case TablePhase::Moving:
			return entry->closing && first_of_record ? Route::Wait : Route::Held;
		case TablePhase::Streaming:
		case TablePhase::Removed: /* has begun anew, or is stale */
			break;
	}
	if (first.lsn >= entry->state.snapshot.lsn)
		return Route::Events;

	TableState state = entry->state;

	state.from = next_possible();
	return begin_moving(entry, state, now) ? Route::Held : Route::Wait;
}

/* What there is of the table comes to its end first; nothing is held behind rows that will never be complete. */
HandOff::Route
HandOff::route_drop(const TableFrame &table, Clock::time_point now)
{
	Entry *entry = find(table);
	bool own = entry != nullptr && entry->state.oid == table.oid;

	if (own && entry->state.generation == table.generation && entry->state.phase == TablePhase::Removed)
		return Route::Events;
	if (own ? entry->state.generation > table.generation : stale(table))
		return Route::Drop;
	return end(entry, table, now, false) ? Route::Events : Route::Wait;
}

/* The table or its name ends with this commit, and what is being moved before that. To be repeated until it is true. */
bool
HandOff::end(Entry *entry, const TableFrame &table, Clock::time_point now, bool lives_on)
{
	if (entry != nullptr && entry->state.oid == table.oid && entry->state.phase == TablePhase::Moving)
	{
		entry->closing = true;
		return false;
	}
	/* Nothing of it is held or incomplete. */
	if (entry == nullptr)
	{
		entry = &entries_[entry_key(table.schema, table.table)];
		entry->state.phase = TablePhase::Removed;
	}
	return remove(entry, table, table.lsn + 1, now, lives_on);
}

void
HandOff::held_sent(const TableFrame &table, uint64_t sequence)
{
	Entry *entry = find(table);

	if (entry != nullptr)
		entry->last_held = sequence;
}

bool
HandOff::begin(const TableFrame &table, Clock::time_point now)
{
	const Entry *entry = find(table);

	if (entry != nullptr && entry->state.oid == table.oid && entry->state.generation >= table.generation)
		return true;
	return take_name(table, now) && begin_generation(table, now);
}

/* Consumers that are behind may still need what is there of another table, up to its RENAME. */
bool
HandOff::purge_events(const TableState &state, uint64_t before, std::string *why)
{
	return state.shared ||
		   queue_.purge(events_subject(root_, state.schema, state.table, std::nullopt), before, why);
}

bool
HandOff::begun(const TableFrame &table, uint64_t sequence, Clock::time_point now)
{
	const Entry *entry = find(table);
	std::string why;

	if (entry == nullptr || entry->state.oid != table.oid || entry->state.generation != table.generation || stale(table))
		return true;
	if (now < retry_at_)
		return false;

	const TableState &state = entry->state;

	/* Markers published by a publisher before us stand somewhere behind `from`; what little is between stays. */
	if (!purge_events(state, sequence != 0 ? sequence : state.from, &why) ||
		!queue_.purge(held(state), state.from, &why))
		return not_now(why, now);
	spdlog::info("snapshot {} of table {}.{} begins", table.generation, table.schema, table.table);
	return true;
}

bool
HandOff::begin_moving(Entry *entry, TableState state, Clock::time_point now)
{
	state.phase = TablePhase::Moving;
	if (!save(entry, state, now))
		return false;
	entry->closing = false;
	retire(entry);
	entry->mover = std::make_unique<Mover>(state, root_, compression_level_, &queue_);
	begun_moving_ = true;
	return true;
}

bool
HandOff::ended(const TableFrame &table, const Visibility &snapshot, Clock::time_point now)
{
	Entry *entry = find(table);

	if (entry == nullptr)
	{
		/* The bucket has lost its state. What is held is moved all the same. */
		if (!begin_generation(table, now))
			return false;
		entry = find(table);
		entry->state.from = since_ + 1;
	}
	if (stale(table) || entry->state.generation != table.generation || entry->state.phase == TablePhase::Streaming)
		return true;
	if (entry->state.phase == TablePhase::Moving)
		return false;

	TableState state = entry->state;

	state.snapshot = snapshot;
	if (begin_moving(entry, state, now))
		spdlog::info("snapshot {} of table {}.{} is complete, its held changes are moved behind it", table.generation,
					 table.schema, table.table);
	return false;
}

/*
 * All that was held is moved and stored, and no change came between: from the next frame on changes go directly. The
 * stream's last message stays whatever it is, because its cursors tell the next publisher where to go on.
 */
void
HandOff::finish_moving(Entry *entry, Clock::time_point now)
{
	TableState state = entry->state;
	std::string why;

	state.phase = TablePhase::Streaming;
	state.from = next_possible();
	if (!save(entry, state, now))
		return;
	entry->mover.reset();
	entry->closing = false;
	spdlog::info("table {}.{} streams", state.schema, state.table);
	/* If this fails, the next snapshot of the table does it. */
	if (!queue_.purge(held(state), ledger_.stored_sequence(), &why))
		spdlog::warn("held changes of table {}.{} that were moved are still in the stream: waited for {}", state.schema,
					 state.table, why);
}

bool
HandOff::removed(const TableFrame &table, Clock::time_point now)
{
	Entry *entry = find(table);

	if (entry == nullptr || entry->state.oid != table.oid || entry->state.generation > table.generation ||
		entry->state.phase == TablePhase::Removed)
		return true;
	return remove(entry, table, table.lsn, now, false);
}

/*
 * From `since` on another table may have the name. lives_on: under another one, so consumers need what was published. To
 * be repeated until it is true.
 */
bool
HandOff::remove(Entry *entry, const TableFrame &table, uint64_t since, Clock::time_point now, bool lives_on)
{
	TableState state = entry->state;
	bool held_some = state.holds();
	bool incomplete = state.phase == TablePhase::Snapshot && !state.shared;
	std::string why;

	/* From here on nothing of it is taken up. What is under way could arrive behind the purge. */
	if (entry->ends_at == 0)
		entry->ends_at = ledger_.next_sequence();
	if (next_possible() < entry->ends_at || now < retry_at_)
		return false;
	state.schema = table.schema;
	state.table = table.table;
	state.oid = table.oid;
	/* The stream's last message stays for now, see finish_moving() and purge_leftover(). */
	if (held_some && !queue_.purge(held(state), ledger_.stored_sequence(), &why))
		return not_now(why, now);
	if (state.phase == TablePhase::Snapshot && !purge_events(state, ledger_.stored_sequence(), &why))
		return not_now(why, now);
	state.generation = table.generation;
	state.since = since;
	state.shared = state.shared || lives_on;
	state.phase = TablePhase::Removed;
	state.from = next_possible();
	if (!save(entry, state, now))
		return false;
	entry->ends_at = 0;
	entry->leftover = held_some ? ledger_.stored_sequence() : 0;
	entry->leftover_rows = incomplete;
	retire(entry);
	spdlog::info("table {}.{} is not published under this name any more", state.schema, state.table);
	return true;
}

/* When the stream goes on. If this publisher ends before, the next snapshot of the name does it. */
void
HandOff::purge_leftover(Entry *entry, Clock::time_point now)
{
	const TableState &state = entry->state;
	uint64_t behind = entry->leftover + 1;
	std::string why;

	if (!queue_.purge(held(state), behind, &why) ||
		(entry->leftover_rows && !queue_.purge(events_subject(root_, state.schema, state.table, std::nullopt), behind, &why)))
		not_now(why, now);
	else
		entry->leftover = 0;
}

/* Rows that are not complete never will be: they come anew, under the other name. */
bool
HandOff::left(const TableFrame &table, Clock::time_point now)
{
	Entry *entry = find(table);

	if (entry != nullptr && entry->state.oid != table.oid &&
		(entry->state.phase != TablePhase::Removed || table.lsn < entry->state.since))
		return true;
	if (entry != nullptr && entry->state.oid == table.oid &&
		(entry->state.phase == TablePhase::Removed || entry->state.generation != table.generation))
		return true;
	return end(entry, table, now, true);
}

void
HandOff::step(bool holding, Clock::time_point now)
{
	retired_.clear();
	begun_moving_ = false;
	for (auto &[key, entry] : entries_)
	{
		if (entry.leftover != 0 && ledger_.stored_sequence() > entry.leftover && now >= retry_at_)
			purge_leftover(&entry, now);
		if (!entry.mover)
			continue;

		Mover &mover = *entry.mover;
		uint64_t stored = ledger_.stored_sequence();

		mover.fetch(entry.last_held, stored, now);
		if (mover.starved())
		{
			std::string why;
			std::optional<uint64_t> last = queue_.last_sequence(held(entry.state), &why);

			if (last)
				entry.last_held = std::min(entry.last_held, *last);
		}
		if (mover.nearly())
			entry.closing = true;
		if (!holding && now >= retry_at_ && mover.caught_up(entry.last_held, stored))
			finish_moving(&entry, now);
	}
}

void
HandOff::append_movers(std::vector<Source *> *sources)
{
	for (auto &[key, entry] : entries_)
	{
		if (entry.mover)
			sources->push_back(entry.mover.get());
	}
}

HandOff::Clock::time_point
HandOff::step_at(Clock::time_point latest) const
{
	Clock::time_point now = Clock::now();

	/* Nobody else wakes us for it, if nothing was held. */
	if (begun_moving_)
		return now;
	if (retry_at_ > now)
		latest = std::min(latest, retry_at_);
	for (const auto &[key, entry] : entries_)
	{
		if (entry.mover && entry.mover->retry_at() > now)
			latest = std::min(latest, entry.mover->retry_at());
	}
	return latest;
}

std::vector<std::string>
HandOff::held_tables() const
{
	std::vector<std::string> tables;

	for (const auto &[key, entry] : entries_)
	{
		if (entry.state.holds())
			tables.push_back(entry.state.schema + "." + entry.state.table);
	}
	return tables;
}

} // namespace siphon
