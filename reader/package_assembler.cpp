/* See package_assembler.h. */
#include "reader/package_assembler.h"

#include <charconv>

namespace siphon {

static bool
parse_part(std::string_view text, uint32_t *part, uint32_t *total)
{
	const char *end = text.data() + text.size();
	auto number = std::from_chars(text.data(), end, *part);

	if (number.ec != std::errc() || number.ptr == end || *number.ptr != '/')
		return false;
	auto all = std::from_chars(number.ptr + 1, end, *total);
	return all.ec == std::errc() && all.ptr == end && *part >= 1 && *part <= *total;
}

PackageAssembler::Result
PackageAssembler::add(const std::string &subject, std::string_view part, std::string_view encoding,
					  std::string_view body, std::string_view *payload)
{
	uint32_t number = 1;
	uint32_t total = 1;

	if (!part.empty() && !parse_part(part, &number, &total))
		return Result::Invalid;

	if (total == 1)
	{
		unfinished_.erase(subject);
		payload_.clear();
		if (!decompressor_.decompress(body, encoding, &payload_))
			return Result::Invalid;
		*payload = payload_;
		return Result::Complete;
	}

	Record &record = unfinished_[subject];

	/* A record that was broken off, as a decoder that is killed leaves one, begins again with its part 1. */
	if (number == 1)
		record = Record{0, total, {}};
	if (number != record.parts + 1 || total != record.total)
	{
		unfinished_.erase(subject);
		return Result::Incomplete;
	}
	record.parts = number;
	if (!decompressor_.decompress(body, encoding, &record.payload))
		return Result::Invalid;
	if (number < total)
		return Result::Incomplete;

	payload_ = std::move(record.payload);
	unfinished_.erase(subject);
	*payload = payload_;
	return Result::Complete;
}

} // namespace siphon
