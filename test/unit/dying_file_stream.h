/*
 * A directory of files as the stream of a publisher that dies, also in the middle of what it asks, and with it some of what
 * was not durable; and of a disk that fails now and then. Looks like MemoryStream to those who run publishers against both.
 */
#ifndef SIPHON_TEST_DYING_FILE_STREAM_H
#define SIPHON_TEST_DYING_FILE_STREAM_H

#include "stream/file/file_stream.h"
#include "stream/memory/memory_stream.h"
#include "subject.h"
#include "table_state.h"

#include <atomic>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <string>

namespace siphon {

class DyingFileStream : public Stream
{
public:
	class DyingLog : public Spill
	{
	public:
		explicit DyingLog(DyingFileStream *stream) : stream_(*stream) {}

		std::string describe() const override { return log->describe(); }
		std::string name() const override { return log->name(); }
		std::optional<LogEnd> look(std::string *why) override { return asked().look(why); }
		std::optional<bool> holds(Place place, uint64_t message, bool *gone, std::string *why) override
		{
			return asked().holds(place, message, gone, why);
		}
		bool fence(size_t in_flight, const std::string &cursors, LogEnd *end, std::string *why) override
		{
			return asked().fence(in_flight, cursors, end, why);
		}
		uint32_t body_limit() const override { return 300; }
		bool append(const Message &message, uint64_t token) override
		{
			if (stream_.dice.percent(stream_.crash_percent / 5))
				throw Crash();
			return log->append(message, token);
		}
		void collect(std::vector<Answer> *answers) override
		{
			size_t before = answers->size();

			if (this == &stream_.log_)
				stream_.live();
			log->collect(answers);
			for (size_t i = before; i < answers->size(); i++)
				stored = std::max(stored, (*answers)[i].place);
		}
		std::unique_ptr<LogReader> read(const std::string &subjects, Place behind, bool headers,
										std::string *why) override
		{
			return asked().read(subjects, behind, headers, why);
		}
		std::optional<Place> last(const std::string &subjects, std::string *why) override
		{
			return asked().last(subjects, why);
		}
		bool find_up_to(const std::string &subject, const Position &position, Place behind,
						std::optional<StoredMessage> *found, std::string *why) override
		{
			return asked().find_up_to(subject, position, behind, found, why);
		}
		bool purge(const std::string &subjects, Place in_front_of, std::string *why) override
		{
			bool done = asked().purge(subjects, in_front_of, why);

			purges.push_back({subjects, in_front_of});
			stream_.trouble();
			return done;
		}
		bool drop(Place in_front_of, std::string *why) override
		{
			bool done = asked().drop(in_front_of, why);

			if (done)
				dropped = in_front_of;
			stream_.trouble();
			return done;
		}
		std::optional<LogHealth> health(std::string *why) override { return log->health(why); }

		FileLog *log = nullptr;
		Place stored = kNoPlace;
		Place dropped = kNoPlace;
		std::vector<std::pair<std::string, Place>> purges;

	private:
		FileLog &asked()
		{
			stream_.trouble();
			return *log;
		}

		DyingFileStream &stream_;
	};

	class DyingStates : public StateStore
	{
	public:
		explicit DyingStates(DyingFileStream *stream) : stream_(*stream) {}

		std::optional<std::map<std::string, std::string>> load(std::string *why) override
		{
			return stream_.file_->states().load(why);
		}
		bool get(const std::string &key, bool adopt, std::optional<std::string> *value, std::string *why) override
		{
			stream_.trouble();
			return stream_.file_->states().get(key, adopt, value, why);
		}
		bool put(const std::string &key, const std::string &value, std::string *why) override
		{
			stream_.trouble();

			bool done = stream_.file_->states().put(key, value, why);

			stream_.trouble();
			return done;
		}
		bool erase(const std::string &key, std::string *why) override
		{
			stream_.trouble();
			return stream_.file_->states().erase(key, why);
		}
		bool erase_tables(std::string *why) override
		{
			stream_.trouble();
			return stream_.file_->states().erase_tables(why);
		}

	private:
		DyingFileStream &stream_;
	};

	DyingFileStream(Dice *for_dice, std::function<void()>, bool sync)
		: dice(*for_dice), log_(this), spill_(this), states_(this),
		  directory_(std::filesystem::temp_directory_path() / ("siphon-unit-files-" + std::to_string(getpid())))
	{
		std::filesystem::remove_all(directory_);
		options_.sync = sync;
		options_.segment_size = 3000 + dice.below(20000);
		options_.sync_file = sync_or_fail;
		open();
	}
	~DyingFileStream() override
	{
		file_.reset();
		std::filesystem::remove_all(directory_);
	}

	bool ready() override { return true; }
	uint64_t interruptions() const override { return 0; }
	std::string describe() const override { return file_->describe(); }
	DyingLog &log() override { return log_; }
	DyingLog &spill() override { return spill_; }
	DyingStates &states() override { return states_; }

	/* The publisher died; another may come. */
	void begin_anew()
	{
		Place durable[] = {file_->log().durable(), file_->spill().durable()};

		file_.reset();
		tear("log", durable[0]);
		tear("held", durable[1]);
		open();
	}

	/* Everything that consumers would take for it. */
	void copy_to(MemoryStream *copy)
	{
		std::string path = (directory_ / "main/log").string();
		Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY));
		RecordReader reader(directory.get(), path, kNoPlace);
		std::string why;
		Record record;

		while (reader.next(&record, true, UINT64_MAX) == Found::Record)
		{
			Logged message;

			message.subject = record.subject;
			message.id = record.id;
			for (const char *name : {"Siphon-Kind", "Siphon-Part", "Siphon-Encoding", "Siphon-Generation", "Siphon-Events"})
			{
				if (!record.header(name).empty())
					message.headers[name] = record.header(name);
			}
			message.body = record.body;
			copy->log().put(message);
		}
		for (const auto &[subjects, in_front_of] : log_.purges)
			std::erase_if(copy->log().messages, [&](const auto &entry) {
				return entry.first < in_front_of && subject_covers(subjects, entry.second.subject);
			});

		std::map<std::string, std::string> states = file_->states().load(&why).value();

		for (const auto &[key, value] : states)
			copy->states().write(key, value);
	}
	/* How the publisher sees the table. */
	TablePhase phase(const std::string &key)
	{
		std::optional<std::string> value;
		std::string why;

		return file_->states().get(key, true, &value, &why) && value ? TableState::parse(*value)->phase
																	 : TablePhase::Snapshot;
	}

	Dice &dice;
	std::function<void()> live = [] {}; /* called while the publisher waits */
	uint32_t crash_percent = 0;         /* how often the publisher dies when it asks for something */
	uint32_t breaks_left = 0;           /* of the disk */

private:
	inline static std::atomic<int> failures_left = 0;

	static int sync_or_fail(int fd)
	{
		if (fd % 3 == 0 && failures_left > 0 && failures_left-- > 0)
		{
			errno = EIO;
			return -1;
		}
		return fdatasync(fd);
	}

	void trouble()
	{
		if (breaks_left > 0 && dice.percent(1))
		{
			breaks_left--;
			failures_left = 1;
		}
		if (dice.percent(crash_percent))
			throw Crash();
	}

	void open()
	{
		file_ = std::make_unique<FileStream>(directory_, options_, "main", "siphon.main", &wakeup_);
		log_.log = &file_->log();
		spill_.log = &file_->spill();
	}

	/* As when the power fails: of what was not durable, some is there. */
	void tear(const std::string &name, Place durable)
	{
		std::string path = (directory_ / "main" / name).string();
		Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY));
		std::vector<Place> segments;

		if (!directory || !list_segments(directory.get(), &segments) || segments.empty() || !dice.percent(50))
			return;

		std::string file = path + "/" + segment_name(segments.back());
		SegmentReader reader(Descriptor(::open(file.c_str(), O_RDONLY)), segments.back());
		Record record;
		uint64_t size = std::filesystem::file_size(file);

		while (reader.place() <= durable && reader.next(&record, false) == Found::Record)
			;
		if (reader.offset() < size)
			std::filesystem::resize_file(file, reader.offset() + dice.below(static_cast<uint32_t>(size - reader.offset())));
	}

	DyingLog log_;
	DyingLog spill_;
	DyingStates states_;
	std::filesystem::path directory_;
	FileOptions options_;
	Wakeup wakeup_;
	std::unique_ptr<FileStream> file_;
};

} // namespace siphon

#endif
