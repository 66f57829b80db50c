/*
 * Logical messages: see message.h.
 *
 * A prefix is ASCII, so that its subject is the same whatever the server's encoding, and the content is bytes.
 */
#include "message.h"

#include "decoder_output.h"

static constexpr char kPrefix[] = "siphon";
static constexpr size_t kPrefixLength = sizeof(kPrefix) - 1;
/* Percent-encoded it becomes three times as long, and must fit into a subject. */
static constexpr size_t kPrefixMax = 255;
/* The fields around prefix and content. */
static constexpr size_t kMessageOverhead = 128 + kApplicationLength;

bool
message_is_ours(const char *prefix)
{
	return strncmp(prefix, kPrefix, kPrefixLength) == 0 &&
		   (prefix[kPrefixLength] == '\0' || prefix[kPrefixLength] == '.');
}

static bool
is_valid_prefix(const char *prefix)
{
	size_t length = strlen(prefix);

	for (size_t i = 0; i < length; i++)
		if (IS_HIGHBIT_SET(prefix[i]))
			return false;
	return length <= kPrefixMax;
}

bool
message_write(const char *application, const char *prefix, const char *content, size_t length,
			  const Transaction *transaction, siphon::Position position)
{
	siphon::RecordInfo info = {};
	siphon::WireBuffer payload;
	char route[1 + kPrefixMax];
	size_t prefix_length = strlen(prefix);
	TimestampTz commit_time = transaction ? transaction->commit_time : GetCurrentTimestamp();

	if (!is_valid_prefix(prefix))
	{
		ereport(LOG, (errmsg("siphon: the message at %X/%X is not published", LSN_FORMAT_ARGS(position.lsn)),
					  errdetail("Its prefix is longer than %zu bytes, or not ASCII.", kPrefixMax)));
		return false;
	}

	buffer_init(&payload, 1024);
	buffer_reserve(&payload, kMessageOverhead + prefix_length + length);
	siphon::Wire wire(&payload);
	wire.string_field(siphon::field::kMessageApplication, application);
	wire.bytes_field(siphon::field::kMessagePrefix, prefix, prefix_length);
	wire.bytes_field(siphon::field::kMessageContent, content, length);
	wire.fixed64_field(siphon::field::kMessageCommitLsn, position.lsn);
	if (transaction)
	{
		wire.varint_field(siphon::field::kMessageOrdinal, position.ordinal);
		wire.varint_field(siphon::field::kMessageXid, transaction->xid);
		wire.sint_field(siphon::field::kMessageCommitTimestamp, unix_microseconds(transaction->origin_time));
		wire.varint_field(siphon::field::kMessageTransactional, 1);
	}
	wire.commit();

	route[0] = '\0';
	memcpy(route + 1, prefix, prefix_length);
	info.kind = siphon::FrameKind::Message;
	info.first_commit = info.last_commit = unix_microseconds(commit_time);
	info.events = 1;
	info.first = info.last = position;
	info.route = route;
	info.route_length = static_cast<uint16>(1 + prefix_length);
	decoder_output_write(info, &payload, commit_time);
	pfree(payload.data);
	return true;
}
