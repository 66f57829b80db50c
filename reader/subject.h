/*
 * Names in NATS: subjects, the stream, and the identity of a message. proto/siphon.proto tells consumers
 * how subjects look; the identity is the publisher's own business.
 */
#ifndef SIPHON_SUBJECT_H
#define SIPHON_SUBJECT_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ring/ring.h"

namespace siphon {

/* One token of a subject: bytes that a token can't hold are percent-encoded. */
std::string encode_token(std::string_view name);

/* <prefix>.<application> */
std::string subject_root(const std::string &prefix, const std::string &application);
/* <prefix>.<application>.events.<schema>.<table>.<partition>; with partition nullopt, ".*" instead. */
std::string events_subject(const std::string &root, std::string_view schema, std::string_view table,
						   std::optional<uint32_t> partition);
/* The same with held instead of events: where changes wait for the end of the table's snapshot. */
std::string held_subject(const std::string &root, std::string_view schema, std::string_view table,
						 std::optional<uint32_t> partition);
/* <prefix>.<application>.messages.<message prefix> */
std::string message_subject(const std::string &root, std::string_view prefix);
/* All of them. */
std::string message_subjects(const std::string &root);
std::string watermark_subject(const std::string &root);

/* siphon_<application>, dots replaced: a stream's name can't hold them. */
std::string stream_name(const std::string &application);

/* True if every subject that `subject` can match is matched by `pattern` too. */
bool subject_covers(std::string_view pattern, std::string_view subject);

/* An application's name, or a prefix: tokens of letters, digits, "_" and "-", joined by single dots. */
bool dotted_name_valid(std::string_view name, size_t limit);

/* 16 hex digits */
std::string format_lsn(uint64_t lsn);
/* <commit LSN, 16 hex digits>/<ordinal, decimal> */
std::string format_position(uint64_t lsn, uint64_t ordinal);
/* nullopt: not written so. */
std::optional<Position> parse_position(std::string_view text);

/*
 * Which publication a message is, across restarts of the publisher: the ring, the place of the frame in
 * it, and the number of the part. Written as Nats-Msg-Id.
 */
struct MessageId
{
	uint64_t epoch;
	uint64_t position;
	uint32_t part; /* 1 for a record that is not split */

	std::string format() const;
	/* nullopt: not written by a publisher. */
	static std::optional<MessageId> parse(std::string_view text);
};

} // namespace siphon

#endif
