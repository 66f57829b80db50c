/* See secret_file.h. */
#include "program/secret_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program/exit_codes.h"

namespace siphon {

/* More than any of the files has; some never end. */
static constexpr size_t kFileMax = 256 * 1024;

std::string
read_file(const char *option, const std::string &path)
{
	std::string content(kFileMax, '\0');
	int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
	size_t size = 0;
	ssize_t got = file < 0 ? -1 : 1;

	while (got > 0 && size < content.size())
	{
		got = read(file, content.data() + size, content.size() - size);
		if (got > 0)
			size += static_cast<size_t>(got);
	}

	int error = errno;

	if (file >= 0)
		close(file);
	if (got < 0)
		throw Fatal(ExitCode::Usage, std::string(option) + ": can't read " + path + ": " + strerror(error));
	content.resize(size);
	return content;
}

std::string
read_secret(const char *option, const std::string &path)
{
	std::string content = read_file(option, path);

	while (!content.empty() && (content.back() == '\n' || content.back() == '\r'))
		content.pop_back();
	if (content.empty() || content.find('\n') != std::string::npos)
		throw Fatal(ExitCode::Usage, std::string(option) + ": " + path + " must have one line, and nothing else");
	return content;
}

std::string
secret_file_warning(const std::string &path)
{
	struct stat status;

	if (stat(path.c_str(), &status) != 0 || (status.st_mode & S_IROTH) == 0)
		return "";
	return "everybody on this machine can read " + path + ", which has a secret: chmod o-rwx " + path;
}

} // namespace siphon
