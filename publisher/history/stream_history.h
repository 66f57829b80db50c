/*
 * Who may publish to the application's stream, and what continues what is in it. Two entries of the state store keep that:
 *
 *   publisher   the process that publishes; the next one writes itself in, and the one before, should it still live,
 *               finds itself replaced
 *   origin      the owner: PostgreSQL's system identifier and database; the history that the stream holds, and behind which
 *               place; the decoder's ring and the timeline that were published from last; and, while that ring may still
 *               bring what the stream has already, behind which places the logs hold it
 *
 * A decoder's ring says where it comes from (see ring/history.h). A history that is not the stream's may begin there if
 * nothing of it was ever acknowledged, and the stream is its owner's, or taken over by explicit wish; one that is may go
 * on, if its decoder descends from the one that was published from last, and the server has not lost what was published in
 * a failover. Everything else is refused, because it would be a gap, or two servers at a time. Nothing is written before
 * all checks have said yes.
 */
#ifndef SIPHON_STREAM_HISTORY_H
#define SIPHON_STREAM_HISTORY_H

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "publisher/stream/stream.h"
#include "ring/history.h"
#include "ring/ring.h"

namespace siphon {

class StreamHistory
{
public:
	/* `take_over`: the user wishes to publish to another owner's stream. in_flight: messages that may be under way. */
	StreamHistory(const std::string &application, bool take_over, size_t in_flight, Stream *stream);

	/* Reads what the state store says. Fatal(Replaced) if another publisher has taken over. False: not yet. */
	bool refresh(std::string *why);
	/* What refresh() has read in part is too old. */
	void discard_partial_answers();
	/* Takes the application over, once all checks have said yes. False: not yet. */
	bool claim(std::string *why);
	/* How many messages this publisher, or the one before it, may have had under way. */
	size_t in_flight() const { return in_flight_; }

	/*
	 * A ring whose origin was dealt with before, by a publisher before us perhaps, goes on. Fatal if the log, which ends
	 * at this place, does not hold its history any more, or was published to from another ring since.
	 */
	void check_continued(uint64_t history, uint64_t epoch, Place end) const;
	/* True: the stream's history went on from a ring that this one does not come after. */
	bool is_left_behind(const HistoryRecord &origin) const;
	/* True: a new history begins; false: the stream's goes on. Fatal: neither. */
	bool is_new(const HistoryRecord &origin, Place end) const;
	/* `newest`: the greatest position in the stream. Fatal if the server does not have what was published. */
	void check_timeline(const HistoryRecord &origin, const Position &newest) const;
	/*
	 * Makes durable that the decoder's ring of this epoch is published from; for a new history, behind which place. again:
	 * it brings what the logs have already behind the places that were noted. False: not yet.
	 */
	bool record_ring(const HistoryRecord &origin, uint64_t epoch, Place end, bool again, std::string *why);
	/* Makes durable that the history can't go on in the log, and why, so that each start says it. False: not yet. */
	bool record_refusal(const std::string &line, std::string *why);
	/*
	 * Makes durable whether the log's settings take messages away. Where they do no more, the last watermark is the first
	 * that must be there from now on, as no publisher ever removes one; as long as there is none, health->lossy stays true.
	 * False: not yet.
	 */
	bool note_limits(LogHealth *health, const std::string &watermarks, std::string *why);
	/* The ring brings nothing any more that the logs have. False: not yet. */
	bool record_caught_up(std::string *why);

	/* The history is the stream's, and was published from another ring than this last. */
	bool continues_other_ring(uint64_t history, uint64_t epoch) const
	{
		return is_current(history) && record_->epoch != epoch;
	}
	bool is_current(uint64_t history) const { return record_ && record_->history == history; }
	/* The stream holds the history behind this place. */
	Place since() const { return record_ ? record_->since : kNoPlace; }
	/* Nothing has taken away what stands from this place on, if no settings do. */
	Place kept_from() const { return record_ ? std::max(record_->since, record_->kept_from) : kNoPlace; }

	/* Places in the logs behind which they hold what the ring may bring once more. */
	struct RepeatPlaces
	{
		Place log;
		Place spill;
	};
	std::optional<RepeatPlaces> repeat_places() const { return record_ ? record_->again : std::nullopt; }
	/* Those of the decoder's ring that is about to be entered. */
	void note_repeat_places(const RepeatPlaces &places) { noted_ = places; }

private:
	struct Record
	{
		uint64_t system_identifier; /* 0: written by a release that did not know it */
		uint32_t database;
		uint64_t history;
		Place since;
		uint64_t epoch;
		uint32_t timeline;
		std::optional<RepeatPlaces> again;
		std::string refused; /* why it can't go on; empty: it can */
		bool lossy = false;  /* settings were seen to take messages away */
		Place kept_from = kNoPlace;
	};

	/* What the state store has under a key, if there is something; nullopt: not read. */
	using Entry = std::optional<std::optional<std::string>>;

	bool read_entry(const char *key, Entry *entry, std::string *why);
	void read_record(const std::optional<std::string> &text);
	bool write(const Record &record, std::string *why);
	static std::string text_of(const Record &record);
	void check_owner(const HistoryRecord &origin) const;
	void check_history(uint64_t history, Place end) const;
	[[noreturn]] void refuse_twin() const;

	const std::string application_;
	const bool take_over_;
	const size_t own_in_flight_;
	const std::string instance_; /* of this process */
	Stream &stream_;
	bool claimed_ = false;
	size_t in_flight_;
	Entry publisher_; /* while refresh() reads */
	Entry origin_;
	std::optional<Record> record_;
	std::optional<std::pair<Record, std::string>> under_way_; /* is being written, as this text */
	RepeatPlaces noted_{kNoPlace, kNoPlace};
	std::optional<Place>
		lifted_; /* where the last watermark stood when settings were seen to take nothing away any more */
};

} // namespace siphon

#endif
