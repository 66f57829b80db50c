/* See file_log.h. */
#include "publisher/stream/file/file_log.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <random>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "program/exit_codes.h"
#include "program/log.h"
#include "publisher/stream/file/record_encoder.h"
#include "reader/cursor.h"
#include "reader/subject.h"

namespace siphon {

/* How much is read at once, so that others have their turn. */
static constexpr size_t kScanBatch = 20000;

FileLog::FileLog(const std::string &path, const std::string &fence_subject, const std::string &advice,
				 const FileOptions &options, std::function<int(std::string *why)> open, Wakeup *wakeup)
	: path_(path), fence_subject_(fence_subject), advice_(advice), options_(options), open_(std::move(open)),
	  wakeup_(*wakeup), syncer_(options.sync_file, wakeup)
{
}

/* Says what did not succeed. Always false. */
bool
FileLog::not_yet(const std::string &what, int error, std::string *why) const
{
	*why = describe() + " to " + what + " (" + strerror(error) + ")";
	return false;
}

void
FileLog::refuse(const std::string &what) const
{
	throw Fatal(ExitCode::StreamRefused, what + "; " + advice_);
}

void
FileLog::refuse_damaged(const RecordReader &reader) const
{
	refuse(reader.broken_at());
}

static int64_t
now_us()
{
	return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
		.count();
}

static uint64_t
random_number()
{
	std::random_device random;
	uint64_t number = (uint64_t{random()} << 32) | random();

	return number != 0 ? number : 1;
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

/*
 * Finds the last segment's end, and cuts off what is behind it. An empty segment goes: it was begun, and nothing came to it.
 */
bool
FileLog::recover(std::string *why)
{
	std::vector<Place> segments;

	if (!list_segments(directory_, &segments))
		return not_yet("be read", errno, why);

	segment_ = Descriptor();
	index_reader_.reset();
	recoveries_++;
	last_of_.clear();
	indexed_ = kNoPlace;
	end_ = LogEnd();
	while (!segments.empty() && end_.place == kNoPlace)
	{
		if (!recover_segment(segments.back(), why))
			return false;
		if (end_.place != kNoPlace)
			break;
		if (unlinkat(directory_, segment_name(segments.back()).c_str(), 0) != 0)
			return not_yet("be written to", errno, why);
		segments.pop_back();
		/* What is written next must not go to the file that has no name any more. */
		segment_ = Descriptor();
		end_ = LogEnd();
	}
	if (!segments.empty())
		end_.first = segments.front();
	durable_ = end_.place;
	syncer_.reset(durable_);
	keep_ = kKeepAll;
	known_ = true;
	return true;
}

/* Leaves end_.place as it is if there is no record. */
bool
FileLog::recover_segment(Place first, std::string *why)
{
	std::string name = segment_name(first);
	Descriptor fd(openat(directory_, name.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
	Descriptor reading(openat(directory_, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
	struct stat status;

	if (!fd || !reading || fstat(fd.get(), &status) != 0)
		return not_yet("be written to", errno, why);

	SegmentReader reader(std::move(reading), first);
	Record record;
	uint64_t whole = 0;
	Found found;

	while ((found = reader.next(&record, true)) == Found::Record && record.place <= keep_)
	{
		whole = reader.offset();
		end_.place = record.place;
		end_.message = MessageId::parse(record.id) ? message_hash(record.id) : 0;
		end_.cursors = record.header(kCursorsHeader);
	}
	if (found == Found::Failed)
		return not_yet("be read", errno, why);
	if (found == Found::Broken)
	{
		std::optional<bool> durable = reader.durable_behind();

		if (!durable)
			return not_yet("be read", errno, why);
		if (*durable)
			refuse(path_ + "/" + name + " is damaged at byte " + std::to_string(reader.offset()) + " (message " +
				   std::to_string(reader.place()) +
				   "), and whole messages follow: restore the file from a copy, or cut it there with truncate -s " +
				   std::to_string(reader.offset()) + " " + path_ + "/" + name);
	}

	uint64_t size = static_cast<uint64_t>(status.st_size);

	if (whole < size)
	{
		spdlog::warn(
			"truncating {} bytes of {}/{} after message {}: an incomplete message, or one that may not be durable",
			size - whole, path_, name, end_.place);
		if (ftruncate(fd.get(), static_cast<off_t>(whole)) != 0)
			return not_yet("be written to", errno, why);
	}
	/* What its publisher had no answer to. */
	if (options_.sync && options_.sync_file(fd.get()) != 0)
		return not_yet("be written to", errno, why);
	end_.identity = reader.identity();
	segment_ = std::move(fd);
	size_ = whole;
	return true;
}

std::optional<LogEnd>
FileLog::look(std::string *why)
{
	why->clear();
	if (directory_ < 0)
		directory_ = open_(why);
	if (directory_ < 0 || !syncer_.idle())
		return std::nullopt;
	note_durable();
	pending_.clear();
	fencing_ = false;
	search_.reset();
	if (!known_ && !recover(why))
		return std::nullopt;
	failure_.clear();
	return end_;
}

std::optional<bool>
FileLog::holds(Place place, uint64_t message, bool *gone, std::string *why)
{
	RecordReader reader(directory_, path_, place - 1);
	Record record;

	why->clear();
	*gone = false;
	switch (reader.next(&record, false, durable_))
	{
		case Found::Record:
			*gone = record.place != place;
			return *gone || message_hash(record.id) == message;
		case Found::Failed:
			not_yet("be read", errno, why);
			return std::nullopt;
		case Found::End:
			if (durable_ == kNoPlace)
				return false;
			[[fallthrough]];
		case Found::Broken:
			break;
	}
	refuse_damaged(reader);
}

bool
FileLog::fence(size_t, const std::string &cursors, LogEnd *end, std::string *why)
{
	why->clear();
	if (!fencing_ && failure_.empty())
	{
		Message message;
		int error = segment_ ? 0 : make_segment();

		/* Where there is no room for messages, there must not be fences upon fences. */
		if (error == 0)
			error = reserve();
		message.subject = fence_subject_;
		message.id = MessageId{random_number(), 0, 1}.format();
		message.headers = {{"Siphon-Kind", "fence"}, {kCursorsHeader, cursors}};
		fencing_ = error == 0 ? write(message) : fail(error);
	}
	note_durable();
	if (!failure_.empty())
	{
		*why = describe() + " to take messages (" + failure_ + ")";
		end->refused = failure_;
		return false;
	}
	if (durable_ < end_.place)
		return false;
	fencing_ = false;
	*end = end_;
	return true;
}

/* ---- appending ----------------------------------------------------------------------------------------------------- */

/* Nothing more is taken. Always false. */
bool
FileLog::fail(int error)
{
	failure_ = strerror(error);
	return false;
}

/* Begins another segment. Returns errno. */
int
FileLog::make_segment()
{
	Place first = end_.place + 1;
	uint64_t identity = end_.identity != 0 ? end_.identity : random_number();
	std::string name = segment_name(first);
	std::string head = encode_segment_head(identity, first);
	Descriptor fd(openat(directory_, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));

	if (!fd)
		return errno;

	ssize_t written = pwrite(fd.get(), head.data(), head.size(), 0);
	int error = written < 0 ? errno : written < static_cast<ssize_t>(head.size()) ? ENOSPC : 0;

	if (error == 0 && options_.sync && (options_.sync_file(fd.get()) != 0 || fsync(directory_) != 0))
		error = errno;
	if (error != 0)
	{
		unlinkat(directory_, name.c_str(), 0);
		return error;
	}
	segment_ = std::move(fd);
	size_ = head.size();
	end_.identity = identity;
	if (end_.first == kNoPlace)
		end_.first = first;
	return 0;
}

/* All of a segment is on the disk before the next one is there, so that a crash tears the last one alone. Returns errno. */
int
FileLog::rotate()
{
	int error;

	syncer_.finish();
	note_durable();
	syncer_.durable(&error);
	if (error != 0)
		return error;
	/* What reserve() was given and was not needed. */
	if (ftruncate(segment_.get(), static_cast<off_t>(size_)) != 0)
		return errno;
	return make_segment();
}

/* Sees to it that there is room for a message or two, as far as the file system can tell. Returns errno. */
int
FileLog::reserve()
{
	if (fallocate(segment_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(size_), 2 * kBodyLimit) == 0)
		return 0;
	return errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EROFS ? errno : 0;
}

/* False: nothing of it is there, and nothing more is taken. */
bool
FileLog::write(const Message &message)
{
	int error = size_ >= options_.segment_size && size_ > kSegmentHead ? rotate() : 0;

	if (error != 0)
		return fail(error);

	Place place = end_.place + 1;
	std::string head = encode_record_head(message, place, now_us(), options_.sync ? durable_ : end_.place);
	size_t size = head.size() + message.body.size();

	for (size_t done = 0; done < size && error == 0;)
	{
		size_t of_head = std::min(done, head.size());
		size_t of_body = done - of_head;
		iovec parts[] = {{head.data() + of_head, head.size() - of_head},
						 {const_cast<char *>(message.body.data()) + of_body, message.body.size() - of_body}};
		ssize_t written = pwritev(segment_.get(), parts, 2, static_cast<off_t>(size_ + done));

		if (written < 0 && errno != EINTR)
			error = errno;
		done += written > 0 ? static_cast<size_t>(written) : 0;
	}
	if (error != 0)
	{
		known_ = ftruncate(segment_.get(), static_cast<off_t>(size_)) == 0;
		return fail(error);
	}
	size_ += size;
	end_.place = place;
	end_.message = message_hash(message.id);
	for (const Header &header : message.headers)
	{
		if (strcmp(header.name, kCursorsHeader) == 0)
			end_.cursors = header.value;
	}
	if (options_.sync)
		syncer_.request(segment_.get(), place);
	else
		durable_ = place;
	return true;
}

bool
FileLog::append(const Message &message, uint64_t token)
{
	bool taken = failure_.empty() && write(message);

	pending_.push_back({token, taken ? end_.place : kNoPlace});
	return true;
}

/* After a failure nobody knows what is on the disk and what is not. */
void
FileLog::note_durable()
{
	int error = 0;

	if (!options_.sync || sync_failed())
		return;
	durable_ = std::max(durable_, syncer_.durable(&error));
	if (error == 0)
		return;
	fail(error);
	known_ = false;
	keep_ = durable_;
}

void
FileLog::collect(std::vector<PublishAck> *answers)
{
	note_durable();
	for (; !pending_.empty(); pending_.pop_front())
	{
		const Pending &front = pending_.front();

		if (front.place != kNoPlace && front.place <= durable_)
			answers->push_back({front.token, PublishResult::Stored, front.place, ""});
		else if (front.place == kNoPlace || sync_failed())
			answers->push_back({front.token, PublishResult::Refused, kNoPlace, failure_});
		else
			return;
	}
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

std::unique_ptr<LogReader>
FileLog::read(const std::string &subjects, Place behind, bool headers, std::string *why)
{
	why->clear();
	return std::make_unique<FileReader>(this, directory_, path_, subjects, behind, headers, &wakeup_);
}

/* Notes the last message on each subject. False: not yet. */
bool
FileLog::index(std::string *why)
{
	Record record;

	if (!index_reader_)
		index_reader_ = std::make_unique<RecordReader>(directory_, path_, indexed_);
	for (size_t scanned = 0; indexed_ < durable_; scanned++)
	{
		if (scanned == kScanBatch)
		{
			wakeup_.notify();
			return false;
		}

		Found found = index_reader_->next(&record, false, durable_);

		if (found == Found::Failed)
			return not_yet("be read", errno, why);
		if (found != Found::Record)
			refuse_damaged(*index_reader_);
		indexed_ = record.place;

		auto last = last_of_.find(record.subject);

		if (last == last_of_.end())
			last_of_.emplace(record.subject, record.place);
		else
			last->second = record.place;
	}
	return true;
}

std::optional<Place>
FileLog::last(const std::string &subjects, std::string *why)
{
	std::string prefix = subjects.substr(0, subjects.find_first_of("*>"));
	Place found = kNoPlace;

	why->clear();
	if (!index(why))
		return std::nullopt;
	for (auto entry = last_of_.lower_bound(prefix); entry != last_of_.end() && entry->first.starts_with(prefix);
		 ++entry)
	{
		if (subject_covers(subjects, entry->first))
			found = std::max(found, entry->second);
	}
	return found >= end_.first ? found : kNoPlace;
}

/* A segment a call, from the last one on: it is near the end, unless the publisher was away for long. */
bool
FileLog::find_up_to(const std::string &subject, const Position &position, Place behind,
					std::optional<StoredMessage> *found, std::string *why)
{
	why->clear();
	found->reset();
	if (!search_ || search_->subject != subject)
	{
		search_ = Search{subject, {}, durable_};
		if (!list_segments(directory_, &search_->segments))
		{
			search_.reset();
			return not_yet("be read", errno, why);
		}
	}
	if (search_->segments.empty() || search_->upto <= behind)
	{
		search_.reset();
		return true;
	}

	Place first = search_->segments.back();
	RecordReader reader(directory_, path_, std::max(first - 1, behind));
	Record record;
	Found result;

	while ((result = reader.next(&record, false, search_->upto)) == Found::Record)
	{
		if (record.subject != subject)
			continue;

		std::optional<Position> last = parse_position(record.header("Siphon-Last"));

		if (last && (last->lsn < position.lsn || (last->lsn == position.lsn && last->ordinal <= position.ordinal)))
			*found = record.stored();
	}
	if (result == Found::Failed)
	{
		search_.reset();
		return not_yet("be read", errno, why);
	}
	if (result == Found::Broken || reader.place() <= search_->upto)
		refuse_damaged(reader);
	search_->segments.pop_back();
	search_->upto = first - 1;
	if (*found)
		search_.reset();
	else
		wakeup_.notify();
	return found->has_value();
}

/* ---- the rest ------------------------------------------------------------------------------------------------------ */

/*
 * Consumers ignore what is of an earlier generation, and whoever read it as it came has seen it anyway. To take it out of
 * the middle, segments would have to be written anew.
 */
bool
FileLog::purge(const std::string &, Place, std::string *why)
{
	why->clear();
	return true;
}

/* Whole segments go. The last one, which has the last message, stays. */
bool
FileLog::drop(Place in_front_of, std::string *why)
{
	std::vector<Place> segments;
	size_t gone = 0;

	why->clear();
	if (!list_segments(directory_, &segments))
		return not_yet("be read", errno, why);
	while (gone + 1 < segments.size() && segments[gone + 1] <= std::min(in_front_of, end_.place))
	{
		if (unlinkat(directory_, segment_name(segments[gone]).c_str(), 0) != 0)
			return not_yet("drop what was moved", errno, why);
		end_.first = segments[++gone];
	}
	if (gone > 0 && options_.sync && fsync(directory_) != 0)
		return not_yet("drop what was moved", errno, why);
	return true;
}

std::optional<LogHealth>
FileLog::health(std::string *why)
{
	std::vector<Place> segments;
	LogHealth health;
	struct stat status;

	why->clear();
	if (!segment_)
		return std::nullopt;
	if (fstat(segment_.get(), &status) == 0 && status.st_nlink == 0)
		refuse(describe() + " has been deleted, or its last segment, while it was published to");
	if (!list_segments(directory_, &segments))
	{
		not_yet("be read", errno, why);
		return std::nullopt;
	}
	for (Place first : segments)
	{
		if (fstatat(directory_, segment_name(first).c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0)
			health.bytes += static_cast<uint64_t>(status.st_size);
	}
	if (!segments.empty())
		health.first = end_.first = segments.front();
	health.last = end_.place;
	health.messages = segments.empty() ? 0 : end_.place + 1 - health.first;

	RecordReader reader(directory_, path_, kNoPlace);
	Record record;

	if (reader.next(&record, false, durable_) == Found::Record)
		health.first_age = static_cast<double>(std::max<int64_t>(now_us() - record.time_us, 0)) / 1e6;
	return health;
}

} // namespace siphon
