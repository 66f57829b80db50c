/*
 * A log in a directory of segments, and a spill. See reader/file/segment.h for what the files hold.
 *
 * The directory is locked, so that whatever is appended comes to its place. append() writes, a thread makes durable, and
 * collect() answers what is. Should either fail, nothing more is taken until look() has cut off what is not durable, so
 * that nobody knows of it.
 */
#ifndef SIPHON_STREAM_FILE_LOG_H
#define SIPHON_STREAM_FILE_LOG_H

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "program/wakeup.h"
#include "publisher/stream/file/file_reader.h"
#include "publisher/stream/file/syncer.h"
#include "publisher/stream/spill.h"
#include "reader/file/file_options.h"
#include "reader/file/segment.h"

namespace siphon {

class FileLog : public Spill, public DurableLog
{
public:
	/*
	 * `open`: gives the directory, once it can be used; -1: not yet, with the reason. `path` is its name for people. advice:
	 * what to do about a log that has lost something.
	 */
	FileLog(const std::string &path, const std::string &fence_subject, const std::string &advice,
			const FileOptions &options, std::function<int(std::string *why)> open, Wakeup *wakeup);

	std::string describe() const override { return "directory " + path_; }
	std::string name() const override { return path_; }
	std::optional<LogEnd> look(std::string *why) override;
	std::optional<bool> holds(Place place, uint64_t message, bool *gone, std::string *why) override;
	bool fence(size_t in_flight, const std::string &cursors, LogEnd *end, std::string *why) override;
	uint32_t body_limit() const override { return kBodyLimit; }
	bool append(const Message &message, uint64_t token) override;
	void collect(std::vector<PublishAck> *answers) override;
	std::unique_ptr<LogReader> read(const std::string &subjects, Place behind, bool headers, std::string *why) override;
	std::optional<Place> last(const std::string &subjects, std::string *why) override;
	bool find_up_to(const std::string &subject, const Position &position, Place behind,
					std::optional<StoredMessage> *found, std::string *why) override;
	bool purge(const std::string &subjects, Place in_front_of, std::string *why) override;
	std::optional<LogHealth> health(std::string *why) override;
	bool drop(Place in_front_of, std::string *why) override;

	Place durable() const override { return durable_; }
	uint64_t recoveries() const override { return recoveries_; }
	[[noreturn]] void refuse_damaged(const RecordReader &reader) const final;

private:
	static constexpr uint32_t kBodyLimit = 1024 * 1024;
	static constexpr Place kKeepAll = UINT64_MAX;

	/* A message that was appended and has no answer. */
	struct Pending
	{
		uint64_t token;
		Place place; /* kNoPlace: it was not taken */
	};
	/* While find_up_to() is at work: segments that were not searched yet. */
	struct Search
	{
		std::string subject;
		std::vector<Place> segments;
		Place upto; /* everything behind it was searched */
	};

	bool recover(std::string *why);
	bool recover_segment(Place first, std::string *why);
	int make_segment();
	int rotate();
	int reserve();
	bool write(const Message &message);
	bool fail(int error);
	void note_durable();
	bool sync_failed() const { return keep_ != kKeepAll; }
	bool index(std::string *why);
	bool not_yet(const std::string &what, int error, std::string *why) const;
	[[noreturn]] void refuse(const std::string &what) const;

	const std::string path_;
	const std::string fence_subject_;
	const std::string advice_;
	const FileOptions options_;
	const std::function<int(std::string *)> open_;
	Wakeup &wakeup_;

	int directory_ = -1;
	Descriptor segment_; /* the last one */
	uint64_t size_ = 0;  /* of it */
	LogEnd end_;
	Place durable_ = kNoPlace;
	uint64_t recoveries_ = 0;
	bool known_ = false;    /* the end of what is there is known, and nothing stands behind it */
	Place keep_ = kKeepAll; /* what stands behind this place must be cut off, as it may not be durable */
	std::string failure_;   /* nothing is taken until look(), because of this */
	std::deque<Pending> pending_;
	bool fencing_ = false;

	std::optional<Search> search_;
	/* For last(): by subject, of messages up to indexed_. */
	std::map<std::string, Place, std::less<>> last_of_;
	Place indexed_ = kNoPlace;
	std::unique_ptr<RecordReader> index_reader_;

	Syncer syncer_; /* ends first */
};

} // namespace siphon

#endif
