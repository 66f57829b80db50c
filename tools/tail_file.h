/* siphon-tail's way into a stream that is a directory of files: reads while the publisher writes, and needs no lock. */
#ifndef SIPHON_TAIL_FILE_H
#define SIPHON_TAIL_FILE_H

#include <memory>
#include <optional>
#include <string>

#include "reader/file/segment.h"
#include "tools/tail_config.h"

namespace siphon {

class TailFile
{
public:
	/*
	 * Of the subjects that match, reads those that come from now on, or all. Fatal if the stream is not there, or a part of
	 * it can't be read.
	 */
	TailFile(const TailConfig &config, const std::string &subjects);

	/* Returns the next message. nullopt: there is none yet, or the end was reached at which to stop. */
	std::optional<StoredMessage> next();

	std::string describe() const { return "directory " + path_; }

private:
	std::string path_;
	std::string subjects_;
	Descriptor directory_;
	std::unique_ptr<RecordReader> reader_;
	Place end_ = UINT64_MAX; /* nothing is read behind it */
};

} // namespace siphon

#endif
