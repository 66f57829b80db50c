/* See file_options.h. */
#include "reader/file/file_options.h"

#include <stdexcept>

#include "program/exit_codes.h"
#include "reader/stream_options.h"

namespace siphon {

std::string
parse_file_url(const std::string &url, FileOptions *options)
{
	size_t question = url.find('?');

	if (question != std::string::npos && url.substr(question) == "?sync=none")
		options->sync = false;
	else if (question != std::string::npos && url.substr(question) != "?sync=data")
		throw Fatal(ExitCode::Usage, "--stream " + url +
										 ": behind the directory may stand ?sync=data, as it is by "
										 "default, or ?sync=none");
	try
	{
		return parse_stream_url(url.substr(0, question));
	}
	catch (const std::invalid_argument &error)
	{
		throw Fatal(ExitCode::Usage, std::string("--stream: ") + error.what());
	}
}

} // namespace siphon
