/*
 * Segments: the files in which a log keeps its messages, and how they are read. For people who write readers, this is the
 * format; numbers are little-endian.
 *
 * A log is a directory of segments. A segment is named by the place of its first message, with 20 decimal digits, and
 * ".log". Places count messages from 1 on, without a gap. Bytes are appended to the last segment; when that is full, it is
 * written to the disk as a whole and another one begins. The oldest segments of held changes are deleted.
 *
 * A segment begins with 32 bytes:
 *
 *    0  8  "siphlog1"
 *    8  8  identity of the log, a random number; a log that was deleted and made again has another one
 *   16  8  place of the first message
 *   24  8  checksum: XXH3 (64 bits) of the 24 bytes in front of it
 *
 * Records follow, each of them one message:
 *
 *    0  4  "rec1"
 *    4  4  size of the head, which is everything in front of the body
 *    8  8  checksum: XXH3 (64 bits) of the head from byte 16 on
 *   16  8  place
 *   24  8  time, in microseconds since 1970
 *   32  8  place up to which messages were durable when this one was written
 *   40  8  checksum: XXH3 (64 bits) of the body
 *   48  4  size of the body
 *   52  2  size of the subject
 *   54  2  size of the id
 *   56     subject; id, as Nats-Msg-Id; headers, "Name: value" and a line feed each; body
 *
 * The last record of the last segment may be incomplete: it is being written, or its publisher died. The next publisher
 * cuts it off. A reader waits there. Anything else that is no record is damage.
 */
#ifndef SIPHON_FILE_SEGMENT_H
#define SIPHON_FILE_SEGMENT_H

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reader/stored_message.h"

namespace siphon {

constexpr char kSegmentMagic[] = "siphlog1";
constexpr size_t kSegmentHead = 32;
constexpr char kRecordMagic[] = "rec1";
constexpr size_t kRecordFixed = 56;   /* where the subject begins */
constexpr size_t kRecordChecked = 16; /* the checksum of the head covers it from here on */
/* What a reader takes for possible. */
constexpr uint32_t kRecordHeadMax = 64 * 1024;
constexpr uint32_t kRecordBodyMax = 64 * 1024 * 1024;

/* A file descriptor that is closed in the end. */
class Descriptor
{
public:
	Descriptor() = default;
	explicit Descriptor(int fd) : fd_(fd) {}
	Descriptor(Descriptor &&other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
	Descriptor &operator=(Descriptor &&other) noexcept
	{
		std::swap(fd_, other.fd_);
		return *this;
	}
	~Descriptor();

	int get() const { return fd_; }
	explicit operator bool() const { return fd_ >= 0; }

private:
	int fd_ = -1;
};

/* Lists the names in a directory. Returns errno. */
int list_directory(int directory, std::vector<std::string> *names);

std::string segment_name(Place first);
/* Lists the places of the segments' first messages, in order. False: errno says why not. */
bool list_segments(int directory, std::vector<Place> *segments);

/* A record as it was read; the texts are valid until the next one is read. */
struct Record
{
	Place place;
	int64_t time_us;
	Place durable;
	std::string_view subject;
	std::string_view id;
	std::string_view headers;
	std::string_view body;

	/* Value of a header, "" if there is none. */
	std::string_view header(std::string_view name) const;
	StoredMessage stored() const;
};

enum class Found {
	Record,
	End,    /* of what is there */
	Broken, /* what stands there is no whole record */
	Failed  /* errno says why */
};

/* Reads the records of one segment, from its beginning. */
class SegmentReader
{
public:
	SegmentReader(Descriptor fd, Place first) : fd_(std::move(fd)), next_(first), first_(first) {}

	/* Reads and checks the next record; without its body, that is empty and is not checked. */
	Found next(Record *record, bool body);

	Place first() const { return first_; }
	/* Place of the next record, and where in the file it begins. */
	Place place() const { return next_; }
	uint64_t offset() const { return offset_; }
	uint64_t identity() const { return identity_; }

	/*
	 * Reads on to the end of the file: is there a record of a later message, which says that the next one was durable?
	 * nullopt: errno says why that can't be found out.
	 */
	std::optional<bool> durable_behind();

private:
	Found begin();
	Found fill(uint64_t offset, size_t size, const char **data);

	Descriptor fd_;
	Place next_;
	Place first_;
	uint64_t identity_ = 0;
	uint64_t offset_ = 0; /* 0: the segment's head was not read yet */
	std::string buffer_;  /* of the file, from buffer_offset_ on */
	uint64_t buffer_offset_ = 0;
};

/* Reads records over all segments, while somebody appends and deletes. */
class RecordReader
{
public:
	/* directory: stays open as long as this is there; `path` is its name. */
	RecordReader(int directory, const std::string &path, Place behind)
		: directory_(directory), path_(path), next_(behind + 1)
	{
	}

	/* Reads the next record, if its place is not greater than `last`. */
	Found next(Record *record, bool body, Place last);
	/* The next record that is not skipped because it was deleted has at least this place. */
	Place place() const { return next_; }
	/* What is broken is followed by another segment, and so is not being written. */
	bool damaged() const { return !segment_ || followed_; }
	/* Says which file is broken, and where. */
	std::string broken_at() const;

private:
	Found open();

	int directory_;
	std::string path_;
	Place next_;
	std::unique_ptr<SegmentReader> segment_;
	bool followed_ = false; /* the segment is known to be complete, as another one follows */
};

} // namespace siphon

#endif
