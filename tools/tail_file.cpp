/* See tail_file.h. */
#include "tools/tail_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>

#include "program/exit_codes.h"
#include "reader/file/file_options.h"
#include "reader/subject.h"

namespace siphon {

TailFile::TailFile(const TailConfig &config, const std::string &subjects) : subjects_(subjects)
{
	FileOptions options;

	path_ = parse_file_url(config.stream_url, &options) + "/" + config.application + "/log";
	directory_ = Descriptor(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (!directory_ && errno == ENOENT)
		throw Fatal(ExitCode::StreamRefused,
					"there is no " + describe() + "; its publisher makes it when it first runs");
	if (!directory_)
		throw Fatal(ExitCode::Usage, describe() + ": " + strerror(errno));

	std::vector<Place> segments;
	Place end = kNoPlace;
	Record record;

	if (!list_segments(directory_.get(), &segments))
		throw Fatal(ExitCode::Unexpected, describe() + ": " + strerror(errno));
	if (!segments.empty())
	{
		RecordReader last(directory_.get(), path_, segments.back() - 1);

		while (last.next(&record, false, UINT64_MAX) == Found::Record)
			;
		end = last.place() - 1;
	}
	reader_ = std::make_unique<RecordReader>(directory_.get(), path_, config.from_start ? kNoPlace : end);
	if (config.stop_at_end)
		end_ = end;
}

std::optional<StoredMessage>
TailFile::next()
{
	Record record;

	for (;;)
	{
		switch (reader_->next(&record, true, end_))
		{
			case Found::Record:
				if (subject_covers(subjects_, record.subject))
					return record.stored();
				break;
			case Found::End:
				return std::nullopt;
			case Found::Broken:
				/* It is being written, or its publisher died; the next one cuts it off. */
				if (!reader_->damaged())
					return std::nullopt;
				throw Fatal(ExitCode::StreamRefused, reader_->broken_at());
			case Found::Failed:
				throw Fatal(ExitCode::Unexpected, describe() + ": " + strerror(errno));
		}
	}
}

} // namespace siphon
