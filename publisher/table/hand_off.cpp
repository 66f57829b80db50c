/* See hand_off.h. */
#include "publisher/table/hand_off.h"

#include <algorithm>

#include "program/exit_codes.h"
#include "program/log.h"
#include "publisher/stream/state_keys.h"
#include "reader/subject.h"

namespace siphon {

static constexpr std::chrono::milliseconds kRetry{250};

std::string
HandOff::entry_key(std::string_view schema, std::string_view table)
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

/* Empty why: the answer is under way, and the wakeup says when it is there. */
bool
HandOff::retry_later(const std::string &why, Clock::time_point now)
{
	if (why.empty())
		return false;
	notice_.waiting(why, now);
	retry_at_ = now + kRetry;
	return false;
}

/* The one place that changes a state. A transition that the table does not have would be a mistake in this program. */
void
HandOff::set_state(Entry *entry, const TableState &state)
{
	bool same = entry->state.oid == state.oid && entry->state.generation == state.generation;
	bool allowed = same ? is_transition(kHandOffTransitions, {entry->state.phase}, state.phase)
						: is_transition(kHandOffTransitions, {}, state.phase);

	if (!allowed)
		throw Fatal(ExitCode::Unexpected,
					"table " + state.schema + "." + state.table + " cannot get into the phase of " + state.to_json());
	enter_state(entry, state);
}

void
HandOff::enter_state(Entry *entry, const TableState &state)
{
	bool held = holding_.contains(entry);

	entry->state = state;
	if (state.holds() && !held)
	{
		holding_.insert(entry);
		entry->since = Clock::now();
	}
	else if (!state.holds() && held)
	{
		holding_.erase(entry);
		drop_due_ = true;
	}
}

void
HandOff::note_activity(Entry *entry)
{
	if (entry->active())
		active_.insert(entry);
	else
		active_.erase(entry);
}

/* All of the table's frames that were read are acknowledged. */
bool
HandOff::acknowledged(const Entry &entry) const
{
	return entry.last_token <= ledger_.stored_token();
}

void
HandOff::make_catch_up_source(Entry *entry)
{
	retire(entry);
	entry->catch_up = std::make_unique<CatchUpSource>(entry->state, root_, compression_level_, &stream_);
	catch_ups_++;
	note_activity(entry);
}

/* Ends a move, in the middle of a turn in which its catch_up may still be asked for messages. */
void
HandOff::retire(Entry *entry)
{
	if (!entry->catch_up)
		return;
	retired_.push_back(std::move(entry->catch_up));
	catch_ups_--;
	note_activity(entry);
}

/*
 * Makes a state durable. False: not yet, to be repeated. The places in it are those of the first time, as they would be
 * others each time otherwise.
 */
bool
HandOff::store(TableState *state, Clock::time_point now)
{
	std::string key = state_key(state->schema, state->table);
	std::string why;

	if (now < retry_at_)
		return false;

	TableState &wanted = wanted_.try_emplace(key, *state).first->second;
	TableState same = *state;

	same.behind = wanted.behind;
	same.rows_behind = wanted.rows_behind;
	if (same == wanted)
		*state = wanted;
	else
		wanted = *state;
	if (!stream_.states().put(key, state->to_json(), &why))
		return retry_later(why, now);
	wanted_.erase(key);
	notice_.over();
	return true;
}

/* Makes a state durable, and only then enters it. */
bool
HandOff::save(Entry *entry, TableState state, Clock::time_point now)
{
	if (!store(&state, now))
		return false;
	set_state(entry, state);
	return true;
}

std::optional<Place>
HandOff::held_behind(const TableFrame &table) const
{
	const Entry *entry = find(table);

	if (entry == nullptr || entry->state.oid != table.oid || entry->state.generation != table.generation ||
		!entry->state.holds())
		return std::nullopt;
	return entry->state.behind;
}

bool
HandOff::holds(const TableFrame &table) const
{
	const Entry *entry = find(table);

	return entry != nullptr && entry->state.holds();
}

bool
HandOff::is_stale(const TableFrame &table) const
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
	if (entry->ending)
		return true;
	/* It may have got its name back. */
	return entry->state.phase == HandOffPhase::Removed &&
		   (table.lsn < entry->state.since || (table.kind != FrameKind::Changes && table.kind != FrameKind::Schema));
}

/* A generation begins with its first frame, whether that is the marker or a change that is held. */
bool
HandOff::begin_generation(const TableFrame &table, Clock::time_point now)
{
	const Entry *before = find(table);
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
	state.behind = ledger_.end(Target::Spill).place;
	state.rows_behind = ledger_.end(Target::Log).place;
	if (!store(&state, now))
		return false;
	spdlog::info("snapshot {} of table {}.{}: changes are held", table.generation, table.schema, table.table);

	Entry &entry = entries_[entry_key(table.schema, table.table)];

	retire(&entry);
	entry.last_held = kNoPlace;
	entry.closing = entry.ending = false;
	entry.leftover = kNoPlace;
	note_activity(&entry);
	holding_.erase(&entry);
	set_state(&entry, state);
	return true;
}

/* A table that had a snapshot, was removed, and was added again without one; or one that gets a name that was left. */
bool
HandOff::begin_without_snapshot(Entry *entry, const TableFrame &table, Clock::time_point now)
{
	TableState state = entry->state;

	if (state.oid != table.oid)
		state.since = table.lsn;
	state.schema = table.schema;
	state.table = table.table;
	state.oid = table.oid;
	state.generation = table.generation;
	state.phase = HandOffPhase::Streaming;
	state.behind = ledger_.end(Target::Spill).place;
	state.snapshot = {};
	if (!save(entry, state, now))
		return false;
	retire(entry);
	return true;
}

HandOff::Route
HandOff::route(const TableFrame &table, bool may_wait, const Position &first, bool calm, Clock::time_point now)
{
	Entry *entry = find(table);

	if (table.kind == FrameKind::Dropped)
		return route_drop(table, now);
	if (is_stale(table))
		return Route::Drop;
	if (table.kind == FrameKind::Snapshot)
		return Route::Events;
	if (!take_name(table, now))
		return Route::Wait;
	if (entry == nullptr || entry->state.oid != table.oid || entry->state.generation < table.generation ||
		entry->state.phase == HandOffPhase::Removed)
	{
		/* A generation that fails before it begins may have a RENAME, behind all that its predecessor has to move. */
		if (entry != nullptr && table.kind == FrameKind::Changes && entry->state.phase == HandOffPhase::CatchUp)
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
		case HandOffPhase::Snapshot:
			return Route::Held;
		case HandOffPhase::CatchUp:
			return entry->closing && may_wait ? Route::Wait : Route::Held;
		case HandOffPhase::Streaming:
		case HandOffPhase::Removed: /* has begun anew, or is stale */
			break;
	}
	if (first.lsn >= entry->state.snapshot.lsn)
		return Route::Events;

	if (!calm)
		return Route::Wait;

	TableState state = entry->state;

	state.behind = ledger_.end(Target::Spill).place;
	return begin_catch_up(entry, state, now) ? Route::Held : Route::Wait;
}

void
HandOff::on_sent(const TableFrame &table, Target target, uint64_t token)
{
	Entry *entry = find(table);

	if (entry == nullptr)
		return;
	entry->last_token = token;
	if (target == Target::Log)
		return;
	held_.push_back({token, entry});
}

void
HandOff::note_skipped(const TableFrame &table)
{
	Entry *entry = find(table);

	if (entry != nullptr)
		entry->last_token = std::max(entry->last_token, ledger_.next_token() - 1);
}

void
HandOff::held_stored(uint64_t token, Place place)
{
	for (; !held_.empty() && held_.front().first <= token; held_.pop_front())
	{
		if (held_.front().first == token && place > held_.front().second->last_held)
			held_.front().second->last_held = place;
	}
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
HandOff::purge_events(const TableState &state, Place before, std::string *why)
{
	return state.shared ||
		   stream_.log().purge(events_subject(root_, state.schema, state.table, std::nullopt), before, why);
}

bool
HandOff::on_snapshot_begin_stored(const TableFrame &table, Place first, Clock::time_point now)
{
	const Entry *entry = find(table);
	std::string why;

	if (entry == nullptr || entry->state.oid != table.oid || entry->state.generation != table.generation ||
		is_stale(table))
		return true;
	if (now < retry_at_)
		return false;
	/* Of markers published by a publisher before us the place is not known; what little is between stays. */
	if (!purge_events(entry->state, first != kNoPlace ? first : entry->state.rows_behind + 1, &why))
		return retry_later(why, now);
	spdlog::info("snapshot {} of table {}.{} begins", table.generation, table.schema, table.table);
	return true;
}

bool
HandOff::begin_catch_up(Entry *entry, TableState state, Clock::time_point now)
{
	state.phase = HandOffPhase::CatchUp;
	if (!save(entry, state, now))
		return false;
	entry->closing = false;
	make_catch_up_source(entry);
	catch_up_begun_ = true;
	return true;
}

bool
HandOff::on_snapshot_end_stored(const TableFrame &table, const Visibility &snapshot, Clock::time_point now)
{
	Entry *entry = find(table);

	if (entry == nullptr)
	{
		/* The bucket has lost its state. What is held is moved all the same. */
		if (!begin_generation(table, now))
			return false;
		entry = find(table);
		entry->state.behind = kNoPlace;
	}
	if (is_stale(table) || entry->state.generation != table.generation || entry->state.phase == HandOffPhase::Streaming)
		return true;
	if (entry->state.phase == HandOffPhase::CatchUp)
		return false;

	TableState state = entry->state;

	state.snapshot = snapshot;
	if (begin_catch_up(entry, state, now))
		spdlog::info("snapshot {} of table {}.{} is complete; its held changes are published now", table.generation,
					 table.schema, table.table);
	return false;
}

/*
 * All that was held is moved and stored, and no change comes between, or nobody would move it once the state is durable:
 * from the next frame on changes go directly.
 */
void
HandOff::finish_catch_up(Entry *entry, Clock::time_point now)
{
	entry->closing = true;

	TableState state = entry->state;

	state.phase = HandOffPhase::Streaming;
	state.behind = ledger_.end(Target::Spill).place;
	if (!save(entry, state, now))
		return;
	retire(entry);
	entry->closing = false;
	spdlog::info("table {}.{} is streaming", state.schema, state.table);
}

/* What is held by no table any more leaves the spill. */
void
HandOff::drop_published(Clock::time_point now)
{
	Place lowest = lowest_held().value_or(ledger_.end(Target::Spill).place);
	std::string why;

	if (lowest > dropped_)
	{
		if (!stream_.spill().drop(lowest, &why))
		{
			retry_later(why, now);
			return;
		}
		dropped_ = lowest;
	}
	drop_due_ = false;
}

void
HandOff::step(bool holding, Clock::time_point now)
{
	retired_.clear();
	catch_up_begun_ = false;
	if (drop_due_ && now >= retry_at_)
		drop_published(now);
	for (auto next = active_.begin(); next != active_.end();)
	{
		/* It may leave the set. */
		Entry &entry = **next++;

		if (entry.leftover != kNoPlace && ledger_.end(Target::Log).place > entry.leftover && now >= retry_at_)
			purge_leftover(&entry, now);
		if (!entry.catch_up)
			continue;

		CatchUpSource &catch_up = *entry.catch_up;

		catch_up.fetch(entry.last_held, now);
		if (catch_up.nearly())
			entry.closing = true;
		if (!holding && now >= retry_at_ && acknowledged(entry) &&
			catch_up.caught_up(entry.last_held, ledger_.stored_token()))
			finish_catch_up(&entry, now);
	}
}

void
HandOff::append_catch_up_sources(std::vector<MessageSource *> *sources)
{
	for (Entry *entry : active_)
	{
		if (entry->catch_up)
			sources->push_back(entry->catch_up.get());
	}
}

HandOff::Clock::time_point
HandOff::step_at(Clock::time_point latest) const
{
	Clock::time_point now = Clock::now();

	/* Nobody else wakes us for it, if nothing was held. */
	if (catch_up_begun_)
		return now;
	if (retry_at_ > now)
		latest = std::min(latest, retry_at_);
	for (const Entry *entry : active_)
	{
		if (entry->catch_up && entry->catch_up->retry_at() > now)
			latest = std::min(latest, entry->catch_up->retry_at());
	}
	return latest;
}

std::vector<HandOff::Holding>
HandOff::holding() const
{
	std::vector<Holding> tables;

	for (const Entry *entry : holding_)
		tables.push_back({entry->state.schema, entry->state.table, entry->state.phase == HandOffPhase::CatchUp,
						  entry->catch_up ? entry->catch_up->pending() : 0, entry->since});
	return tables;
}

std::optional<Place>
HandOff::lowest_held() const
{
	std::optional<Place> lowest;

	for (const Entry *entry : holding_)
		lowest = std::min(lowest.value_or(entry->state.behind), entry->state.behind);
	return lowest;
}

} // namespace siphon
