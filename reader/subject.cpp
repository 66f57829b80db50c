/* See subject.h. */
#include "reader/subject.h"

#include <charconv>
#include <cstdio>

namespace siphon {

std::string
encode_token(std::string_view name)
{
	static constexpr char digits[] = "0123456789ABCDEF";
	std::string token;

	token.reserve(name.size());
	for (char c : name)
	{
		unsigned char byte = static_cast<unsigned char>(c);

		if (byte <= ' ' || byte == 0x7f || c == '.' || c == '*' || c == '>' || c == '%')
		{
			token += '%';
			token += digits[byte >> 4];
			token += digits[byte & 15];
		}
		else
			token += c;
	}
	return token;
}

std::string
subject_root(const std::string &prefix, const std::string &application)
{
	return prefix + "." + application;
}

static std::string
table_subject(const std::string &root, const char *what, std::string_view schema, std::string_view table,
			  std::optional<uint32_t> partition)
{
	std::string subject = root;

	subject += what;
	subject += encode_token(schema);
	subject += '.';
	subject += encode_token(table);
	subject += '.';
	subject += partition ? std::to_string(*partition) : "*";
	return subject;
}

std::string
events_subject(const std::string &root, std::string_view schema, std::string_view table,
			   std::optional<uint32_t> partition)
{
	return table_subject(root, ".events.", schema, table, partition);
}

std::string
held_subject(const std::string &root, std::string_view schema, std::string_view table,
			 std::optional<uint32_t> partition)
{
	return table_subject(root, ".held.", schema, table, partition);
}

std::string
message_subject(const std::string &root, std::string_view prefix)
{
	return root + ".messages." + encode_token(prefix);
}

std::string
message_subjects(const std::string &root)
{
	return root + ".messages.>";
}

std::string
watermark_subject(const std::string &root)
{
	return root + ".watermark";
}

std::string
stream_name(const std::string &application)
{
	std::string name = "siphon_" + application;

	for (char &c : name)
	{
		if (c == '.')
			c = '_';
	}
	return name;
}

/* Cuts the first token off. */
static std::string_view
next_token(std::string_view *rest)
{
	size_t dot = rest->find('.');
	std::string_view token = rest->substr(0, dot);

	*rest = dot == std::string_view::npos ? std::string_view() : rest->substr(dot + 1);
	return token;
}

bool
subject_covers(std::string_view pattern, std::string_view subject)
{
	while (!pattern.empty() && !subject.empty())
	{
		std::string_view wanted = next_token(&pattern);
		std::string_view token = next_token(&subject);

		if (wanted == ">")
			return true;
		if (token == ">" || (wanted != "*" && wanted != token))
			return false;
	}
	return pattern.empty() && subject.empty();
}

bool
dotted_name_valid(std::string_view name, size_t limit)
{
	if (name.empty() || name.size() > limit || name.front() == '.' || name.back() == '.' ||
		name.find("..") != std::string_view::npos)
		return false;
	for (char c : name)
	{
		bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
					c == '-' || c == '.';

		if (!good)
			return false;
	}
	return true;
}

std::string
format_lsn(uint64_t lsn)
{
	char buffer[24];
	int length = snprintf(buffer, sizeof(buffer), "%016llX", static_cast<unsigned long long>(lsn));

	return std::string(buffer, static_cast<size_t>(length));
}

std::string
format_position(uint64_t lsn, uint64_t ordinal)
{
	char buffer[48];
	int length = snprintf(buffer, sizeof(buffer), "%016llX/%llu", static_cast<unsigned long long>(lsn),
						  static_cast<unsigned long long>(ordinal));

	return std::string(buffer, static_cast<size_t>(length));
}

std::optional<Position>
parse_position(std::string_view text)
{
	const char *end = text.data() + text.size();
	Position position{};
	auto lsn = std::from_chars(text.data(), end, position.lsn, 16);

	if (lsn.ec != std::errc() || lsn.ptr == end || *lsn.ptr != '/')
		return std::nullopt;

	auto ordinal = std::from_chars(lsn.ptr + 1, end, position.ordinal);

	if (ordinal.ec != std::errc() || ordinal.ptr != end)
		return std::nullopt;
	return position;
}

std::string
MessageId::format() const
{
	char buffer[64];
	int length = snprintf(buffer, sizeof(buffer), "%016llx-%llx-%u", static_cast<unsigned long long>(epoch),
						  static_cast<unsigned long long>(position), part);

	return std::string(buffer, static_cast<size_t>(length));
}

std::optional<MessageId>
MessageId::parse(std::string_view text)
{
	MessageId id;
	const char *end = text.data() + text.size();

	auto epoch = std::from_chars(text.data(), end, id.epoch, 16);
	if (epoch.ec != std::errc() || epoch.ptr - text.data() != 16 || epoch.ptr == end || *epoch.ptr != '-')
		return std::nullopt;
	auto position = std::from_chars(epoch.ptr + 1, end, id.position, 16);
	if (position.ec != std::errc() || position.ptr == end || *position.ptr != '-')
		return std::nullopt;
	auto part = std::from_chars(position.ptr + 1, end, id.part, 10);
	if (part.ec != std::errc() || part.ptr != end || id.part == 0)
		return std::nullopt;
	return id;
}

} // namespace siphon
