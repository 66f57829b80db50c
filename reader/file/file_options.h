/* How a directory of files is to be used as a stream, as --stream says it. */
#ifndef SIPHON_FILE_OPTIONS_H
#define SIPHON_FILE_OPTIONS_H

#include <cstdint>
#include <string>
#include <unistd.h>

namespace siphon {

struct FileOptions
{
	bool sync = true;                         /* what is answered survives a power cut, too */
	uint64_t segment_size = 64 * 1024 * 1024; /* at which the next segment begins */
	/* Tests let it fail, and be another user. */
	int (*sync_file)(int fd) = fdatasync;
	uid_t user = geteuid();
};

/* Returns the directory of "file:DIR" or "file:DIR?sync=none". Fatal(Usage) if it is written in another way. */
std::string parse_file_url(const std::string &url, FileOptions *options);

} // namespace siphon

#endif
