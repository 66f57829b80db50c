/* See record_encoder.h. */
#include "publisher/stream/file/record_encoder.h"

#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "program/exit_codes.h"
#include "reader/file/segment.h"

namespace siphon {

template <typename Number>
static void
put(std::string *out, Number number)
{
	out->append(reinterpret_cast<const char *>(&number), sizeof(number));
}

std::string
encode_segment_head(uint64_t identity, Place first)
{
	std::string head = kSegmentMagic;

	put(&head, identity);
	put(&head, first);
	put<uint64_t>(&head, XXH3_64bits(head.data(), head.size()));
	return head;
}

std::string
encode_record_head(const Message &message, Place place, int64_t time_us, Place durable)
{
	std::string head = kRecordMagic;
	size_t size = kRecordFixed + message.subject.size() + message.id.size();

	for (const Header &header : message.headers)
		size += strlen(header.name) + header.value.size() + 3;
	if (message.subject.size() > UINT16_MAX || message.id.size() > UINT16_MAX || size > kRecordHeadMax ||
		message.body.size() > kRecordBodyMax)
		throw Fatal(ExitCode::Unexpected, "a message to " + message.subject + " is too long for a file");

	head.reserve(size);
	put(&head, static_cast<uint32_t>(size));
	put(&head, uint64_t{0});
	put(&head, place);
	put(&head, time_us);
	put(&head, durable);
	put<uint64_t>(&head, XXH3_64bits(message.body.data(), message.body.size()));
	put(&head, static_cast<uint32_t>(message.body.size()));
	put(&head, static_cast<uint16_t>(message.subject.size()));
	put(&head, static_cast<uint16_t>(message.id.size()));
	head += message.subject;
	head += message.id;
	for (const Header &header : message.headers)
	{
		head += header.name;
		head += ": ";
		head += header.value;
		head += '\n';
	}

	uint64_t checksum = XXH3_64bits(head.data() + kRecordChecked, head.size() - kRecordChecked);

	memcpy(head.data() + 8, &checksum, sizeof(checksum));
	return head;
}

} // namespace siphon
