/* Reads messages of a log in files, as far as they are durable, a few at a time. */
#ifndef SIPHON_STREAM_FILE_READER_H
#define SIPHON_STREAM_FILE_READER_H

#include <string>
#include <vector>

#include "program/wakeup.h"
#include "reader/file/segment.h"

namespace siphon {

/* What a reader asks of the log that it reads, while that is appended to. */
class DurableLog
{
public:
	/* Messages up to here are durable, and may be read. */
	virtual Place durable() const = 0;
	/* How often the end was cut off: where readers stood there may be another file now. */
	virtual uint64_t recoveries() const = 0;
	/* Fatal: what was durable can't be read. */
	[[noreturn]] virtual void refuse_damaged(const RecordReader &reader) const = 0;

protected:
	~DurableLog() = default;
};

class FileReader : public LogReader
{
public:
	/* directory: of the log, whose name is `path`. The rest is as of Log::read(). */
	FileReader(const DurableLog *log, int directory, const std::string &path, const std::string &subjects, Place behind,
			   bool headers, Wakeup *wakeup)
		: log_(*log), recoveries_(log->recoveries()), reader_(directory, path, behind), subjects_(subjects),
		  headers_(headers), wakeup_(*wakeup)
	{
	}

	void pull() override;
	bool pulling() const override { return pulling_; }
	bool take(std::vector<StoredMessage> *messages) override;
	/* Of whatever subject, where the end was not reached. */
	uint64_t pending() const override { return pending_; }

private:
	const DurableLog &log_;
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
