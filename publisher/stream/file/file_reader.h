/* Reads messages of a log in files, as far as they are durable, a few at a time. */
#ifndef SIPHON_STREAM_FILE_READER_H
#define SIPHON_STREAM_FILE_READER_H

#include <string>
#include <vector>

#include "publisher/stream/file/file_log.h"

namespace siphon {

class FileReader : public LogReader
{
public:
	/* directory: of the log, whose name is `path`. The rest is as of Log::read(). */
	FileReader(const FileLog *log, int directory, const std::string &path, const std::string &subjects, Place behind,
			   bool headers, Wakeup *wakeup)
		: log_(*log), recoveries_(log->recoveries()), reader_(directory, path, behind), subjects_(subjects), headers_(headers), wakeup_(*wakeup)
	{
	}

	void pull() override;
	bool pulling() const override { return pulling_; }
	bool take(std::vector<StoredMessage> *messages) override;
	/* Of whatever subject, where the end was not reached. */
	uint64_t pending() const override { return pending_; }

private:
	const FileLog &log_;
	const uint64_t recoveries_; /* of the log, when it began */
	RecordReader reader_;
	const std::string subjects_;
	const bool headers_;
	Wakeup &wakeup_;
	bool pulling_ = false;
	uint64_t pending_ = UINT64_MAX;
};

} // namespace siphon

#endif
