/* How a table, or its name, ends: the part of HandOff that takes away what is left of it; see hand_off.h. */
#include "publisher/table/hand_off.h"

#include "program/log.h"
#include "reader/subject.h"

namespace siphon {

/*
 * Ends what there still is of another table under the name, which has lost it. To be repeated until it is true. The other
 * table's last event is stored by then: a publisher that finds the name taken leaves out what the ring brings of it.
 */
bool
HandOff::take_name(const TableFrame &table, Clock::time_point now)
{
	Entry *entry = find(table);

	if (entry == nullptr || entry->state.oid == table.oid)
		return true;
	if (entry->state.phase == HandOffPhase::Removed)
		return acknowledged(*entry);

	TableFrame other = table;

	other.oid = entry->state.oid;
	other.generation = entry->state.generation;
	return remove(entry, other, table.lsn, now, true);
}

/* What there is of the table comes to its end first; nothing is held behind rows that will never be complete. */
HandOff::Route
HandOff::route_drop(const TableFrame &table, Clock::time_point now)
{
	Entry *entry = find(table);
	bool own = entry != nullptr && entry->state.oid == table.oid;

	if (own && entry->state.generation == table.generation && entry->state.phase == HandOffPhase::Removed)
		return Route::Events;
	if (own ? entry->state.generation > table.generation : is_stale(table))
		return Route::Drop;
	/* What streams has nothing to come to an end before. Of what has no state, a snapshot may be about to begin. */
	if (own && entry->state.generation == table.generation && entry->state.phase == HandOffPhase::Streaming &&
		!entry->ending)
		return Route::Events;
	return end(entry, table, now, false) ? Route::Events : Route::Wait;
}

/* The table or its name ends with this commit, and what is being moved before that. To be repeated until it is true. */
bool
HandOff::end(Entry *entry, const TableFrame &table, Clock::time_point now, bool lives_on)
{
	if (entry != nullptr && entry->state.oid == table.oid && entry->state.phase == HandOffPhase::CatchUp)
	{
		entry->closing = true;
		return false;
	}
	/* Nothing of it is held or incomplete. */
	if (entry == nullptr)
	{
		entry = &entries_[entry_key(table.schema, table.table)];
		entry->state.phase = HandOffPhase::Removed;
		entry->last_token = ledger_.next_token() - 1;
	}
	return remove(entry, table, table.lsn + 1, now, lives_on);
}

bool
HandOff::on_table_removed(const TableFrame &table, Clock::time_point now)
{
	Entry *entry = find(table);

	if (entry == nullptr || entry->state.oid != table.oid || entry->state.generation > table.generation ||
		entry->state.phase == HandOffPhase::Removed)
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
	bool incomplete = state.phase == HandOffPhase::Snapshot && !state.shared;
	Place last = ledger_.end(Target::Log).place;
	std::string why;

	/*
	 * From here on nothing of it is taken up. What is under way of its rows could arrive behind the purge; and of what
	 * streams, a publisher that reads the ring again would leave it out.
	 */
	if (!entry->ending)
	{
		entry->ending = true;
		entry->ends_behind = state.holds() ? ledger_.next_token() - 1 : entry->last_token;
	}
	if (ledger_.stored_token() < entry->ends_behind || now < retry_at_)
		return false;
	state.schema = table.schema;
	state.table = table.table;
	state.oid = table.oid;
	/* The stream's last message stays for now, because its cursors tell the next publisher where to go on. */
	if (state.phase == HandOffPhase::Snapshot && !purge_events(state, last, &why))
		return retry_later(why, now);
	state.generation = table.generation;
	state.since = since;
	state.shared = state.shared || lives_on;
	state.phase = HandOffPhase::Removed;
	if (!save(entry, state, now))
		return false;
	entry->ending = false;
	entry->leftover = incomplete ? last : kNoPlace;
	retire(entry);
	note_activity(entry);
	spdlog::info("table {}.{} is no longer published under this name", state.schema, state.table);
	return true;
}

/* When the stream goes on. If this publisher ends before, the next snapshot of the name does it. */
void
HandOff::purge_leftover(Entry *entry, Clock::time_point now)
{
	const TableState &state = entry->state;
	std::string why;

	if (!stream_.log().purge(events_subject(root_, state.schema, state.table, std::nullopt), entry->leftover + 1, &why))
		retry_later(why, now);
	else
		entry->leftover = kNoPlace;
	note_activity(entry);
}

/* Unless that has happened, or another table has the name by now. */
bool
HandOff::end_name(const TableFrame &table, Clock::time_point now, bool lives_on)
{
	Entry *entry = find(table);

	if (entry != nullptr && entry->state.oid != table.oid &&
		(entry->state.phase != HandOffPhase::Removed || table.lsn < entry->state.since))
		return true;
	if (entry != nullptr && entry->state.oid == table.oid &&
		(entry->state.phase == HandOffPhase::Removed || entry->state.generation != table.generation))
		return true;
	return end(entry, table, now, lives_on);
}

/* Rows that are not complete never will be: they come anew, under the other name. */
bool
HandOff::on_table_renamed(const TableFrame &table, Clock::time_point now)
{
	return end_name(table, now, true);
}

bool
HandOff::on_table_dropped(const TableFrame &table, Clock::time_point now)
{
	return end_name(table, now, false);
}

} // namespace siphon
