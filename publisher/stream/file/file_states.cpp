/* See file_states.h. */
#include "publisher/stream/file/file_states.h"

#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>
#include <vector>

#include "publisher/stream/state_keys.h"
#include "reader/file/segment.h"
#include "reader/subject.h"

namespace siphon {

/* The ends of names are at 255 bytes. */
static constexpr size_t kNameMax = 200;
/* Begins with what no key begins with. */
static constexpr char kNew[] = ".new";

static std::string
file_name(const std::string &key)
{
	if (key.size() <= kNameMax)
		return key;
	return key.substr(0, kNameMax) + "~" + format_lsn(message_hash(key));
}

/* Says what did not succeed. Always false. */
bool
FileStates::not_yet(const std::string &what, int error, std::string *why) const
{
	*why = "directory " + path_ + " to " + what + " (" + strerror(error) + ")";
	return false;
}

bool
FileStates::usable(std::string *why)
{
	why->clear();
	if (directory_ < 0)
		directory_ = open_(why);
	return directory_ >= 0;
}

/* Returns errno. */
int
FileStates::read(const std::string &name, std::string *text) const
{
	Descriptor fd(openat(directory_, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
	char buffer[4096];
	ssize_t size;

	text->clear();
	if (!fd)
		return errno;
	while ((size = ::read(fd.get(), buffer, sizeof(buffer))) > 0 || (size < 0 && errno == EINTR))
		text->append(buffer, static_cast<size_t>(std::max<ssize_t>(size, 0)));
	return size < 0 ? errno : 0;
}

/* Returns errno; then the file is as it was. */
int
FileStates::write(const std::string &name, const std::string &text) const
{
	Descriptor fd(openat(directory_, kNew, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));

	if (!fd)
		return errno;
	for (size_t done = 0; done < text.size();)
	{
		ssize_t size = ::write(fd.get(), text.data() + done, text.size() - done);

		if (size < 0 && errno != EINTR)
			return errno;
		done += static_cast<size_t>(std::max<ssize_t>(size, 0));
	}
	if (sync_ && fsync(fd.get()) != 0)
		return errno;
	if (renameat(directory_, kNew, directory_, name.c_str()) != 0 || (sync_ && fsync(directory_) != 0))
		return errno;
	return 0;
}

std::optional<std::map<std::string, std::string>>
FileStates::load(std::string *why)
{
	std::map<std::string, std::string> entries;

	if (!usable(why))
		return std::nullopt;

	std::vector<std::string> names;
	int error = list_directory(directory_, &names);

	for (const std::string &name : names)
	{
		std::string text;

		if (error == 0 && !name.starts_with('.'))
			error = read(name, &text);
		/* Other files are none of ours. */
		if (size_t end = text.find('\n'); end != std::string::npos && file_name(text.substr(0, end)) == name)
			entries[text.substr(0, end)] = text.substr(end + 1);
	}
	if (error != 0)
	{
		not_yet("be read", error, why);
		return std::nullopt;
	}
	return entries;
}

bool
FileStates::get(const std::string &key, bool, std::optional<std::string> *value, std::string *why)
{
	std::string text;

	value->reset();
	if (!usable(why))
		return false;

	int error = read(file_name(key), &text);

	if (error != 0 && error != ENOENT)
		return not_yet("give key " + key, error, why);
	if (error == 0)
		*value = text.substr(std::min(text.find('\n'), text.size() - 1) + 1);
	return true;
}

bool
FileStates::put(const std::string &key, const std::string &value, std::string *why)
{
	std::optional<std::string> before;

	if (!get(key, true, &before, why))
		return false;
	if (before == value)
		return true;

	int error = write(file_name(key), key + "\n" + value);

	return error == 0 || not_yet("take key " + key, error, why);
}

bool
FileStates::erase(const std::string &key, std::string *why)
{
	if (!usable(why))
		return false;
	if (unlinkat(directory_, file_name(key).c_str(), 0) != 0)
		return errno == ENOENT || not_yet("erase key " + key, errno, why);
	return !sync_ || fsync(directory_) == 0 || not_yet("erase key " + key, errno, why);
}

bool
FileStates::erase_tables(std::string *why)
{
	std::vector<std::string> names;

	if (!usable(why))
		return false;

	int error = list_directory(directory_, &names);

	/* A name that was cut is a table's: others are short. */
	for (const std::string &name : names)
	{
		if (error == 0 && is_table_key(name) && !name.starts_with('.') && unlinkat(directory_, name.c_str(), 0) != 0)
			error = errno;
	}
	if (error == 0 && sync_ && fsync(directory_) != 0)
		error = errno;
	return error == 0 || not_yet("erase what tables have", error, why);
}

} // namespace siphon
