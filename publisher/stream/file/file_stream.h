/*
 * A directory of files as the place where messages go: for tests, for export to where no network leads, and for those who
 * want no broker.
 *
 *   DIR/<application>/log/      the application's messages, see reader/file/segment.h
 *   DIR/<application>/held/     held changes, likewise
 *   DIR/<application>/states/   table states and the rest, see file_states.h
 *   DIR/<application>/lock      locked by the one who publishes there
 *
 * What is only to be read needs no lock.
 */
#ifndef SIPHON_STREAM_FILE_STREAM_H
#define SIPHON_STREAM_FILE_STREAM_H

#include <string>

#include "publisher/stream/file/file_log.h"
#include "publisher/stream/file/file_states.h"
#include "publisher/stream/stream.h"

namespace siphon {

class FileStream : public Stream
{
public:
	/*
	 * Fatal(Locked) if another publisher has the directory, Fatal(Usage) if it is not to be used. Where it is not there, or
	 * can't be written to, it is tried again by look().
	 */
	FileStream(const std::string &directory, const FileOptions &options, const std::string &application,
			   const std::string &subject_root, Wakeup *wakeup);

	bool ready() override { return true; }
	uint64_t interruptions() const override { return 0; }
	std::string describe() const override { return "directory " + path_; }
	FileLog &log() override { return log_; }
	FileLog &spill() override { return spill_; }
	FileStates &states() override { return states_; }

private:
	bool open(std::string *why);
	int open_part(const char *name, Descriptor *part, std::string *why);

	const std::string directory_;
	const std::string path_;
	const std::string application_;
	const uid_t user_;
	Descriptor top_;
	Descriptor lock_;
	Descriptor log_directory_;
	Descriptor spill_directory_;
	Descriptor states_directory_;
	/* Destroyed in front of the directories. */
	FileLog log_;
	FileLog spill_;
	FileStates states_;
};

} // namespace siphon

#endif
