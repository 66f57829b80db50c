/*
 * The consumer's half of Siphon-Part: bodies in, payloads of whole records out.
 */
#ifndef SIPHON_PACKAGE_ASSEMBLER_H
#define SIPHON_PACKAGE_ASSEMBLER_H

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "reader/compression.h"

namespace siphon {

class PackageAssembler
{
public:
	enum class Result {
		Complete,
		Incomplete, /* more parts are to come, or the beginning was missed */
		Invalid     /* not what a publisher writes */
	};

	/*
	 * Takes one message of a subject. `part` is its Siphon-Part, "" if it has none. When Complete,
	 * *payload is the record, good until the next call.
	 */
	Result add(const std::string &subject, std::string_view part, std::string_view encoding, std::string_view body,
			   std::string_view *payload);

private:
	struct Record
	{
		uint32_t parts = 0; /* so far */
		uint32_t total = 0;
		std::string payload;
	};

	Decompressor decompressor_;
	std::map<std::string, Record> unfinished_;
	std::string payload_;
};

} // namespace siphon

#endif
