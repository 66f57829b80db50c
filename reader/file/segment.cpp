/* See segment.h. */
#include "reader/file/segment.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace siphon {

static constexpr char kEnding[] = ".log";
static constexpr size_t kReadAhead = 128 * 1024;

/* ---- the format ---------------------------------------------------------------------------------------------------- */

template <typename Number>
static Number
get(const char *data)
{
	Number number;

	memcpy(&number, data, sizeof(number));
	return number;
}

/* The sizes that a head gives, from its fixed part. False: it is none. */
static bool
read_sizes(const char *data, uint32_t *head, uint32_t *body)
{
	*head = get<uint32_t>(data + 4);
	*body = get<uint32_t>(data + 48);
	return memcmp(data, kRecordMagic, 4) == 0 && *head <= kRecordHeadMax && *body <= kRecordBodyMax &&
		   *head >= kRecordFixed + get<uint16_t>(data + 52) + get<uint16_t>(data + 54);
}

/* False: the head is damaged. */
static bool
read_head(const char *data, uint32_t size, Record *record)
{
	size_t subject = get<uint16_t>(data + 52);
	size_t id = get<uint16_t>(data + 54);

	record->place = get<Place>(data + 16);
	record->time_us = get<int64_t>(data + 24);
	record->durable = get<Place>(data + 32);
	record->subject = {data + kRecordFixed, subject};
	record->id = {data + kRecordFixed + subject, id};
	record->headers = {data + kRecordFixed + subject + id, size - kRecordFixed - subject - id};
	record->body = {};
	return get<uint64_t>(data + 8) == XXH3_64bits(data + kRecordChecked, size - kRecordChecked);
}

std::string_view
Record::header(std::string_view name) const
{
	for (std::string_view rest = headers; !rest.empty();)
	{
		std::string_view line = rest.substr(0, rest.find('\n'));

		rest.remove_prefix(std::min(line.size() + 1, rest.size()));
		if (line.size() >= name.size() + 2 && line.starts_with(name) && line.substr(name.size(), 2) == ": ")
			return line.substr(name.size() + 2);
	}
	return {};
}

StoredMessage
Record::stored() const
{
	StoredMessage message = from_headers([this](const char *name) { return std::string(header(name)); });

	message.place = place;
	message.subject = subject;
	message.id = id;
	message.body = body;
	return message;
}

/* ---- files --------------------------------------------------------------------------------------------------------- */

Descriptor::~Descriptor()
{
	if (fd_ >= 0)
		close(fd_);
}

std::string
segment_name(Place first)
{
	char name[32];

	snprintf(name, sizeof(name), "%020llu%s", static_cast<unsigned long long>(first), kEnding);
	return name;
}

int
list_directory(int directory, std::vector<std::string> *names)
{
	/* A descriptor of its own has a position of its own. */
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? nullptr : fdopendir(fd);

	names->clear();
	if (list == nullptr)
	{
		int error = errno;

		if (fd >= 0)
			close(fd);
		return error;
	}
	errno = 0;
	while (const dirent *entry = readdir(list))
		names->push_back(entry->d_name);

	int error = errno;

	closedir(list);
	return error;
}

bool
list_segments(int directory, std::vector<Place> *segments)
{
	std::vector<std::string> names;
	int error = list_directory(directory, &names);

	segments->clear();
	for (const std::string &name : names)
	{
		Place first = kNoPlace;

		std::from_chars(name.data(), name.data() + name.size(), first);
		if (first != kNoPlace && name == segment_name(first))
			segments->push_back(first);
	}
	std::sort(segments->begin(), segments->end());
	errno = error;
	return error == 0;
}

/* ---- one segment --------------------------------------------------------------------------------------------------- */

/* Gives so many bytes of the file. End: there are none; Broken: there are some. */
Found
SegmentReader::fill(uint64_t offset, size_t size, const char **data)
{
	if (offset < buffer_offset_ || offset + size > buffer_offset_ + buffer_.size())
	{
		size_t done = 0;

		buffer_.resize(std::max(size, kReadAhead));
		buffer_offset_ = offset;
		while (done < size)
		{
			ssize_t part =
				pread(fd_.get(), buffer_.data() + done, buffer_.size() - done, static_cast<off_t>(offset + done));

			if (part < 0 && errno == EINTR)
				continue;
			if (part <= 0)
			{
				int error = errno;

				buffer_.resize(done);
				errno = error;
				return part < 0 ? Found::Failed : done == 0 ? Found::End : Found::Broken;
			}
			done += static_cast<size_t>(part);
		}
		buffer_.resize(done);
	}
	*data = buffer_.data() + (offset - buffer_offset_);
	return Found::Record;
}

/* Reads the segment's head. */
Found
SegmentReader::begin()
{
	const char *data;
	Found found = fill(0, kSegmentHead, &data);

	if (found != Found::Record)
		return found;
	if (memcmp(data, kSegmentMagic, 8) != 0 || get<Place>(data + 16) != first_ ||
		get<uint64_t>(data + 24) != XXH3_64bits(data, 24))
		return Found::Broken;
	identity_ = get<uint64_t>(data + 8);
	offset_ = kSegmentHead;
	return Found::Record;
}

Found
SegmentReader::next(Record *record, bool body)
{
	const char *data;
	uint32_t head_size;
	uint32_t body_size;
	Found found = offset_ == 0 ? begin() : Found::Record;

	/* What was read before may have been cut short. */
	if (found == Found::Record)
		found = fill(offset_, kRecordFixed, &data);
	if (found != Found::Record)
		return found;
	if (!read_sizes(data, &head_size, &body_size))
	{
		buffer_.clear();
		return Found::Broken;
	}
	found = fill(offset_, head_size + (body ? body_size : 0), &data);
	if (found != Found::Record)
		return found == Found::End ? Found::Broken : found;
	if (!read_head(data, head_size, record) || record->place != next_ ||
		(body && get<uint64_t>(data + 40) != XXH3_64bits(data + head_size, body_size)))
	{
		/* It may be in the middle of being written. */
		buffer_.clear();
		return Found::Broken;
	}
	if (body)
		record->body = {data + head_size, body_size};
	offset_ += head_size + uint64_t{body_size};
	next_++;
	return Found::Record;
}

std::optional<bool>
SegmentReader::durable_behind()
{
	static constexpr size_t kWindow = 1024 * 1024;
	Record record;

	for (uint64_t at = offset_ + 1;; at += kWindow - 3)
	{
		const char *data;

		buffer_.clear();
		if (fill(at, kWindow, &data) == Found::Failed)
			return std::nullopt;

		std::string window = buffer_;

		for (size_t i = window.find(kRecordMagic); i != std::string::npos; i = window.find(kRecordMagic, i + 1))
		{
			uint32_t head_size;
			uint32_t body_size;

			if (fill(at + i, kRecordFixed, &data) == Found::Record && read_sizes(data, &head_size, &body_size) &&
				fill(at + i, head_size, &data) == Found::Record && read_head(data, head_size, &record) &&
				record.place > next_ && record.durable >= next_)
				return true;
		}
		if (window.size() < kWindow)
			return false;
	}
}

/* ---- all segments -------------------------------------------------------------------------------------------------- */

/* Opens the segment that the next record is in; or the first behind it, as segments may have been deleted. */
Found
RecordReader::open()
{
	std::vector<Place> segments;

	if (!list_segments(directory_, &segments))
		return Found::Failed;
	if (segments.empty())
		return Found::End;

	auto segment = std::upper_bound(segments.begin(), segments.end(), next_);

	if (segment != segments.begin())
		--segment;

	Descriptor fd(openat(directory_, segment_name(*segment).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));

	/* One that is deleted just now is not there at the next try. */
	if (!fd)
		return errno == ENOENT ? Found::End : Found::Failed;
	next_ = std::max(next_, *segment);
	segment_ = std::make_unique<SegmentReader>(std::move(fd), *segment);
	followed_ = false;
	return Found::Record;
}

Found
RecordReader::next(Record *record, bool body, Place last)
{
	for (;;)
	{
		if (next_ > last)
			return Found::End;
		if (!segment_)
		{
			Found opened = open();

			if (opened != Found::Record)
				return opened;
			continue;
		}

		bool skip = segment_->place() < next_;
		Found found = segment_->next(record, body && !skip);

		if (found == Found::Record && skip)
			continue;
		if (found == Found::Record)
			next_ = record->place + 1;
		if (found == Found::Record || found == Found::Failed)
			return found;

		/* Before another segment began this one was completed, maybe since it was read. */
		if (!followed_)
		{
			std::vector<Place> segments;

			if (!list_segments(directory_, &segments))
				return Found::Failed;
			followed_ = std::upper_bound(segments.begin(), segments.end(), segment_->first()) != segments.end();
			if (followed_)
				continue;
			return found;
		}
		if (found == Found::Broken)
			return found;

		/* A reader that skips to its place may find that this has not been written. */
		Place end = segment_->place();

		if (faccessat(directory_, segment_name(end).c_str(), F_OK, 0) != 0)
			return errno == ENOENT ? Found::Broken : Found::Failed;
		next_ = std::max(next_, end);
		segment_.reset();
	}
}

std::string
RecordReader::broken_at() const
{
	if (!segment_)
		return "message " + std::to_string(next_) + " is missing in " + path_;
	return path_ + "/" + segment_name(segment_->first()) + " is damaged at byte " + std::to_string(segment_->offset()) +
		   " (message " + std::to_string(segment_->place()) + ")";
}

} // namespace siphon
