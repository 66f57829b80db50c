/* What HandOff finds out before anything is published: each table's state, and what is held of it; see hand_off.h. */
#include "publisher/table/hand_off.h"

#include "program/exit_codes.h"
#include "program/log.h"
#include "publisher/stream/state_keys.h"
#include "publisher/table/table_state.h"

namespace siphon {

void
HandOff::load(const std::map<std::string, std::string> &values)
{
	for (const auto &[key, value] : values)
	{
		if (!is_state_key(key))
			continue;

		std::optional<TableState> state = TableState::parse(value);

		if (!state)
		{
			spdlog::warn("ignored the state of table {} in the state store, which cannot be read: {}", key, value);
			continue;
		}
		if (state->former_layout)
			throw Fatal(ExitCode::StreamRefused,
						"changes of table " + state->schema + "." + state->table +
							" are held by a publisher of an earlier release: run that release until SELECT * FROM "
							"siphon_snapshot_progress shows nothing, then this one");
		enter_state(&entries_[entry_key(state->schema, state->table)], *state);
	}
}

bool
HandOff::find_last_held(Entry *entry, std::string *why)
{
	std::optional<Place> last;

	if (!entry->last_known)
		last = stream_.spill().last(held(entry->state), why);
	if (last)
	{
		entry->last_held = *last;
		entry->last_known = true;
	}
	return entry->last_known;
}

/*
 * That a table streams, as its last publisher has sent it, must not arrive any more: nobody would move what is held from
 * now on.
 */
bool
HandOff::renew(Entry *entry, std::string *why)
{
	if (entry->state.phase == HandOffPhase::CatchUp && !entry->renewed)
		entry->renewed =
			stream_.states().renew(state_key(entry->state.schema, entry->state.table), entry->state.to_json(), why);
	return entry->renewed || entry->state.phase != HandOffPhase::CatchUp;
}

bool
HandOff::resume(const Cursors &cursors, std::string *why)
{
	bool known = true;
	std::string reason;

	why->clear();
	held_.clear();
	/* All are asked for at once, and what has come is not asked for again. */
	for (Entry *entry : holding_)
	{
		for (auto ask : {&HandOff::find_last_held, &HandOff::renew})
		{
			reason.clear();
			if (!(this->*ask)(entry, &reason))
				known = false;
			if (!reason.empty())
				*why = reason;
		}
	}
	if (!known)
		return false;
	discard_partial_answers();
	/* Of a table that had no state, the end was under way; it comes again, and what is read again before it needs none. */
	std::erase_if(entries_, [](const auto &entry) { return entry.second.state.oid == 0; });
	for (auto &[key, entry] : entries_)
	{
		entry.closing = false;
		entry.ending = false;
		entry.last_token = 0;
		retire(&entry);
	}
	for (Entry *entry : holding_)
	{
		if (entry->state.phase != HandOffPhase::CatchUp)
			continue;
		make_catch_up_source(entry);

		auto cursor = cursors.find(entry->catch_up->name());

		entry->catch_up->resume(cursor == cursors.end() ? nullptr : &cursor->second, nullptr);
	}
	drop_due_ = true;
	return true;
}

void
HandOff::discard_partial_answers()
{
	for (Entry *entry : holding_)
		entry->last_known = entry->renewed = false;
}

void
HandOff::forget()
{
	for (auto &[key, entry] : entries_)
		retire(&entry);
	active_.clear();
	holding_.clear();
	held_.clear();
	entries_.clear();
	drop_due_ = true;
}

} // namespace siphon
