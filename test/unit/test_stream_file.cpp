/* A directory of files as a stream: what was answered is there again, whatever became of the rest. */
#include "publisher/stream/file/file_stream.h"

#include "program/exit_codes.h"
#include "program/log.h"
#include "publisher/stream/file/record_encoder.h"
#include "publisher/stream/state_keys.h"
#include "publisher/table/table_state.h"
#include "reader/subject.h"

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>

using namespace siphon;
namespace fs = std::filesystem;

namespace {

std::atomic<int> sync_error;
std::atomic<int> syncs_before; /* so many succeed before one fails */

int
sync_or_fail(int fd)
{
	errno = syncs_before-- > 0 ? 0 : sync_error.load();
	return errno != 0 ? -1 : fdatasync(fd);
}

class FileStreamTest : public testing::Test
{
protected:
	FileStreamTest()
	{
		spdlog::set_level(spdlog::level::off);
		directory_ = fs::temp_directory_path() / ("siphon-file-" + std::to_string(getpid()));
		fs::remove_all(directory_);
		fs::create_directory(directory_);
		fs::permissions(directory_, fs::perms::owner_all);
		sync_error = 0;
		syncs_before = 0;
		options_.sync_file = sync_or_fail;
	}
	~FileStreamTest() override { fs::remove_all(directory_); }

	/* A publisher begins, and has its fence. Returns the end that it found. */
	LogEnd open()
	{
		LogEnd end = look();
		LogEnd fenced;
		std::string why;

		while (!stream_->log().fence(16, end.cursors, &fenced, &why))
			EXPECT_EQ(why, "");
		EXPECT_EQ(fenced.place, end.place + 1);
		EXPECT_EQ(fenced.cursors, end.cursors);
		return end;
	}

	LogEnd look()
	{
		std::string why;

		stream_.reset();
		stream_ = std::make_unique<FileStream>(directory_, options_, "main", "siphon.main", &wakeup_);

		std::optional<LogEnd> end = stream_->log().look(&why);

		EXPECT_TRUE(end) << why;
		return *end;
	}

	void append(const std::string &subject, const std::string &body, const std::string &last = "")
	{
		Message message;

		message.subject = subject;
		message.id = MessageId{1, ++token_, 1}.format();
		message.headers = {{"Siphon-Kind", "changes"},
						   {"Siphon-Generation", "7"},
						   {"Siphon-Last", last},
						   {"Siphon-Cursors", "decoder=" + std::to_string(token_)}};
		message.body = body;
		EXPECT_TRUE(stream_->log().append(message, token_));
	}

	/* The answers to so many messages. */
	std::vector<PublishAck> answers(size_t count)
	{
		std::vector<PublishAck> answers;

		while (answers.size() < count)
		{
			std::this_thread::sleep_for(std::chrono::milliseconds(1));
			stream_->log().collect(&answers);
		}
		return answers;
	}
	void append_some(int count, const std::string &subject = "siphon.main.events.public.t.0", size_t size = 100)
	{
		for (int i = 0; i < count; i++)
			append(subject, std::string(size, static_cast<char>('a' + i % 26)), format_position(token_ + 1, 0));
		for (const PublishAck &answer : answers(static_cast<size_t>(count)))
			EXPECT_EQ(answer.verdict, PublishResult::Stored) << answer.text;
	}

	std::vector<StoredMessage> read(const std::string &subjects = ">", Place behind = kNoPlace, bool headers = false)
	{
		std::vector<StoredMessage> messages;
		std::string why;
		std::unique_ptr<LogReader> reader = stream_->log().read(subjects, behind, headers, &why);

		do
		{
			reader->pull();
			while (reader->pulling())
				EXPECT_TRUE(reader->take(&messages));
		} while (reader->pending() > 0);
		return messages;
	}
	/* All messages but for fences, which must be those that were answered, each once. */
	void expect_messages(uint64_t count)
	{
		uint64_t next = 0;
		Place place = kNoPlace;

		for (const StoredMessage &message : read())
		{
			EXPECT_EQ(message.place, ++place);
			if (message.kind == "fence")
				continue;
			EXPECT_EQ(message.id, (MessageId{1, ++next, 1}.format()));
		}
		EXPECT_EQ(next, count);
	}

	std::vector<fs::path> segments(const std::string &log = "log") const
	{
		std::vector<fs::path> found;

		for (const auto &entry : fs::directory_iterator(directory_ / "main" / log))
			found.push_back(entry.path());
		std::sort(found.begin(), found.end());
		return found;
	}
	void flip(const fs::path &file, uint64_t offset)
	{
		std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
		char c;

		stream.seekg(static_cast<std::streamoff>(offset));
		stream.get(c);
		stream.seekp(static_cast<std::streamoff>(offset));
		stream.put(static_cast<char>(~c));
	}
	static ExitCode refusal(const std::function<void()> &function, std::string *text)
	{
		try
		{
			function();
		}
		catch (const Fatal &fatal)
		{
			*text = fatal.what();
			return fatal.code;
		}
		return ExitCode::Clean;
	}

	fs::path directory_;
	FileOptions options_;
	Wakeup wakeup_;
	std::unique_ptr<FileStream> stream_;
	uint64_t token_ = 0;
};

TEST_F(FileStreamTest, HasWhatWasAppended)
{
	EXPECT_EQ(open().place, kNoPlace);
	append_some(3);
	append("siphon.main.watermark", "");
	append("siphon.main.events.public.t.1", std::string(300000, 'x'));
	EXPECT_EQ(answers(2).back().place, 6u);

	LogEnd end = look();

	EXPECT_EQ(end.place, 6u);
	EXPECT_EQ(end.first, 1u);
	EXPECT_EQ(end.cursors, "decoder=5");
	EXPECT_EQ(end.message, message_hash(MessageId{1, 5, 1}.format()));
	EXPECT_NE(end.identity, 0u);
	EXPECT_EQ(open().identity, end.identity);
	expect_messages(5);

	std::vector<StoredMessage> rows = read("siphon.main.events.public.t.*", 3);

	ASSERT_EQ(rows.size(), 2u);
	EXPECT_EQ(rows[0].place, 4u);
	EXPECT_EQ(rows[0].generation, 7u);
	EXPECT_EQ(rows[0].body, std::string(100, 'c'));
	EXPECT_EQ(rows[1].body, std::string(300000, 'x'));
	EXPECT_EQ(read(">", 5, true).front().body, "");

	std::string why;
	bool gone;

	EXPECT_EQ(stream_->log().holds(6, end.message, &gone, &why), true);
	EXPECT_EQ(stream_->log().holds(5, end.message, &gone, &why), false);
	EXPECT_EQ(stream_->log().last("siphon.main.events.>", &why), 6u);
	EXPECT_EQ(stream_->log().last("siphon.main.events.public.t.0", &why), 4u);
	EXPECT_EQ(stream_->log().last("siphon.main.held.>", &why), kNoPlace);

	std::optional<LogHealth> health = stream_->log().health(&why);

	ASSERT_TRUE(health);
	EXPECT_EQ(health->messages, 7u);
	EXPECT_EQ(health->bytes, fs::file_size(segments().front()));
	EXPECT_GE(health->first_age, 0);
}

TEST_F(FileStreamTest, BeginsSegments)
{
	options_.segment_size = 2000;
	open();
	append_some(100);
	EXPECT_GT(segments().size(), 8u);
	EXPECT_EQ(segments().front().filename(), "00000000000000000001.log");
	expect_messages(100);
	EXPECT_EQ(open().place, 101u);
	append_some(1);
	expect_messages(101);
	EXPECT_EQ(read(">", 50).front().place, 51u);

	/* One that was begun, and nothing came to it. */
	std::ofstream(directory_ / "main/log" / segment_name(104)) << encode_segment_head(1, 104);
	EXPECT_EQ(look().place, 103u);
	std::ofstream(directory_ / "main/log" / segment_name(104));
	EXPECT_EQ(open().place, 103u);
	append_some(30);
	expect_messages(131);
}

TEST_F(FileStreamTest, FindsPositions)
{
	std::optional<StoredMessage> found;
	std::string why;

	options_.segment_size = 2000;
	open();
	append_some(100);
	for (uint64_t lsn : {uint64_t{1}, uint64_t{50}, uint64_t{99}, uint64_t{1000}})
	{
		while (!stream_->log().find_up_to("siphon.main.events.public.t.0", {lsn, 5}, 0, &found, &why))
			EXPECT_EQ(why, "");
		ASSERT_TRUE(found);
		EXPECT_LE(parse_position(found->last)->lsn, lsn);
		EXPECT_GE(parse_position(found->last)->lsn + 20, std::min<uint64_t>(lsn, 100));
		EXPECT_EQ(found->body, "");
	}
	while (!stream_->log().find_up_to("siphon.main.events.public.t.0", {50, 5}, 60, &found, &why))
		EXPECT_EQ(why, "");
	EXPECT_FALSE(found);
	while (!stream_->log().find_up_to("siphon.main.watermark", {50, 5}, 0, &found, &why))
		EXPECT_EQ(why, "");
	EXPECT_FALSE(found);
}

/* It dies in the middle of a record: that is not there, and all in front of it is. */
TEST_F(FileStreamTest, CutsOffTornRecord)
{
	open();
	append_some(2);
	stream_.reset();

	fs::path segment = segments().front();
	fs::path copy = directory_ / "copy";
	uint64_t whole = fs::file_size(segment);

	open();
	stream_.reset();

	uint64_t fence = fs::file_size(segment);

	open();
	append_some(1, "siphon.main.events.public.t.0", 40);
	stream_.reset();
	fs::copy_file(segment, copy);
	for (uint64_t at = whole; at < fs::file_size(copy); at++)
	{
		stream_.reset();
		fs::copy_file(copy, segment, fs::copy_options::overwrite_existing);
		fs::resize_file(segment, at);

		LogEnd end = look();
		uint64_t left = fs::file_size(segment);

		if (at < fence)
			EXPECT_EQ(end.place, 3u) << at;
		else
			EXPECT_TRUE(end.place == 4 || end.place == 5) << at;
		EXPECT_EQ(left, end.place == 3 ? whole : left) << at;
		EXPECT_LE(left, at);
		token_ = 2;
		open();
		append_some(1);
		expect_messages(3);
	}
	/* Where a file system had made room, and had not written. */
	stream_.reset();
	fs::copy_file(copy, segment, fs::copy_options::overwrite_existing);
	fs::resize_file(segment, whole);
	fs::resize_file(segment, whole + 100000);
	EXPECT_EQ(look().place, 3u);
	EXPECT_EQ(fs::file_size(segment), whole);
	/* Nothing of the first segment had come to the disk. */
	stream_.reset();
	fs::resize_file(segment, 0);
	fs::resize_file(segment, 5000);
	EXPECT_EQ(look().place, kNoPlace);
	EXPECT_TRUE(segments().empty());
	EXPECT_EQ(open().place, kNoPlace);
}

TEST_F(FileStreamTest, RefusesDamage)
{
	open();
	append_some(2);
	open();
	append_some(2);
	stream_.reset();

	fs::path segment = segments().front();
	std::string text;
	uint64_t size = fs::file_size(segment);
	int cut = 0;
	fs::path copy = directory_ / "copy";

	fs::copy_file(segment, copy);
	for (uint64_t at = 0; at < size; at++)
	{
		flip(segment, at);

		ExitCode code = refusal([&] { look(); }, &text);

		stream_.reset();
		/* Of the last ones nobody can know that they were durable. */
		if (code == ExitCode::Clean)
		{
			EXPECT_GT(at, size / 2);
			cut++;
		}
		else
		{
			EXPECT_EQ(code, ExitCode::StreamRefused);
			EXPECT_NE(text.find(segment.string() + " is damaged at byte "), std::string::npos) << text;
			EXPECT_NE(text.find("truncate -s "), std::string::npos) << text;
			EXPECT_EQ(fs::file_size(segment), size);
		}
		fs::copy_file(copy, segment, fs::copy_options::overwrite_existing);
	}
	EXPECT_GT(cut, 100);
}

TEST_F(FileStreamTest, RefusesToReadDamage)
{
	std::string text;

	options_.segment_size = 2000;
	open();
	append_some(100);
	flip(segments()[3], 1000);
	EXPECT_EQ(refusal([&] { read(); }, &text), ExitCode::StreamRefused);
	EXPECT_NE(text.find(segments()[3].string() + " is damaged at byte "), std::string::npos) << text;
	EXPECT_NE(text.find("siphon_resync_application"), std::string::npos) << text;

	/* Behind it all is well. */
	EXPECT_FALSE(read(">", 60).empty());
	flip(segments()[3], 1000);
	fs::remove(segments()[5]);
	EXPECT_EQ(refusal([&] { read(); }, &text), ExitCode::StreamRefused);
	fs::remove_all(directory_ / "main/log");
	EXPECT_EQ(refusal([&] { stream_->log().health(&text); }, &text), ExitCode::StreamRefused);
	EXPECT_NE(text.find("has been deleted"), std::string::npos) << text;
}

/* What does not fit is refused, and so is all that follows it; when there is room it goes on, and nothing is lost. */
TEST_F(FileStreamTest, WaitsForRoom)
{
	rlimit before;
	rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	open();
	append_some(10);
	limit = {6000, before.rlim_max};
	setrlimit(RLIMIT_FSIZE, &limit);
	for (int i = 0; i < 50; i++)
		append("siphon.main.events.public.t.0", std::string(i == 30 ? 1 : 100, 'x'));

	std::vector<PublishAck> some = answers(50);
	uint64_t stored = 0;

	for (const PublishAck &answer : some)
	{
		if (answer.verdict == PublishResult::Stored)
			EXPECT_EQ(answer.place, ++stored + 11);
		else
		{
			EXPECT_EQ(answer.verdict, PublishResult::Refused);
			EXPECT_EQ(answer.text, "File too large");
		}
	}
	EXPECT_GT(stored, 5u);
	EXPECT_LT(stored, 50u);

	std::string why;
	std::optional<LogEnd> end = stream_->log().look(&why);
	LogEnd fenced;

	ASSERT_TRUE(end);
	EXPECT_EQ(end->place, stored + 11);
	limit = {fs::file_size(segments().front()) + 10, before.rlim_max};
	setrlimit(RLIMIT_FSIZE, &limit);
	EXPECT_FALSE(stream_->log().fence(16, "", &fenced, &why));
	EXPECT_NE(why.find("to take messages (File too large)"), std::string::npos) << why;
	setrlimit(RLIMIT_FSIZE, &before);
	EXPECT_FALSE(stream_->log().fence(16, "", &fenced, &why));
	EXPECT_TRUE(stream_->log().look(&why));
	while (!stream_->log().fence(16, "", &fenced, &why))
		EXPECT_EQ(why, "");
	EXPECT_EQ(fenced.place, stored + 12);
	token_ = stored + 10;
	append_some(10);
	expect_messages(stored + 20);
	EXPECT_EQ(open().place, stored + 22);
	expect_messages(stored + 20);
}

/* What may not be on the disk is cut off, and comes again. */
TEST_F(FileStreamTest, ForgetsWhatCouldNotBeWrittenToDisk)
{
	std::string why;
	LogEnd fenced;

	open();
	append_some(10);
	sync_error = EIO;
	for (int i = 0; i < 5; i++)
		append("siphon.main.events.public.t.0", "x");
	for (const PublishAck &answer : answers(5))
	{
		EXPECT_EQ(answer.verdict, PublishResult::Refused);
		EXPECT_EQ(answer.text, "Input/output error");
	}
	EXPECT_EQ(read().size(), 11u);
	/* It goes on. */
	EXPECT_FALSE(stream_->log().look(&why));
	EXPECT_NE(why.find("Input/output error"), std::string::npos) << why;
	sync_error = 0;

	std::optional<LogEnd> end = stream_->log().look(&why);

	ASSERT_TRUE(end) << why;
	EXPECT_EQ(end->place, 11u);
	EXPECT_EQ(end->cursors, "decoder=10");
	while (!stream_->log().fence(16, "", &fenced, &why))
		EXPECT_EQ(why, "");
	token_ = 10;
	append_some(5);
	expect_messages(15);
}

/* Where nothing is left of the only file, it goes, and what comes next is in one that can be found. */
TEST_F(FileStreamTest, BeginsAnewWhereNothingIsOnTheDisk)
{
	std::string why;
	LogEnd fenced;

	look();
	sync_error = EIO;
	syncs_before = 1;
	while (!stream_->log().fence(16, "", &fenced, &why) && why.empty())
		std::this_thread::sleep_for(std::chrono::milliseconds(1));
	EXPECT_NE(why.find("Input/output error"), std::string::npos) << why;
	sync_error = 0;

	std::optional<LogEnd> end = stream_->log().look(&why);

	ASSERT_TRUE(end) << why;
	EXPECT_EQ(end->place, kNoPlace);
	EXPECT_EQ(end->identity, 0u);
	EXPECT_TRUE(segments().empty());
	while (!stream_->log().fence(16, "", &fenced, &why))
		EXPECT_EQ(why, "");
	EXPECT_EQ(fenced.place, 1u);
	append_some(5);
	expect_messages(5);
	EXPECT_EQ(open().place, 6u);
	expect_messages(5);
}

TEST_F(FileStreamTest, HasOneOwner)
{
	std::string text;

	open();
	EXPECT_EQ(refusal([&] { FileStream(directory_, options_, "main", "siphon.main", &wakeup_); }, &text),
			  ExitCode::Locked);
	EXPECT_NE(text.find("main/lock"), std::string::npos) << text;
	FileStream(directory_, options_, "other", "siphon.other", &wakeup_);
	stream_.reset();
	FileStream(directory_, options_, "main", "siphon.main", &wakeup_);
}

TEST_F(FileStreamTest, RefusesDirectoriesOfOthers)
{
	std::string text;
	struct stat status;

	fs::permissions(directory_, fs::perms::owner_all | fs::perms::group_write);
	EXPECT_EQ(refusal([&] { look(); }, &text), ExitCode::Usage);
	EXPECT_EQ(text, "others may write to directory " + directory_.string() + ": chmod go-w " + directory_.string());
	fs::permissions(directory_, fs::perms::owner_all);
	open();
	EXPECT_EQ(stat((directory_ / "main").c_str(), &status), 0);
	EXPECT_EQ(status.st_mode & 0777, 0700u);
	fs::permissions(directory_ / "main/log", fs::perms::owner_all | fs::perms::others_write);
	EXPECT_EQ(refusal([&] { look(); }, &text), ExitCode::Usage);
	std::ofstream(directory_ / "file");
	EXPECT_EQ(refusal([&] { FileStream(directory_ / "file", options_, "main", "siphon.main", &wakeup_); }, &text),
			  ExitCode::Usage);
	options_.user = geteuid() + 1;
	EXPECT_EQ(refusal([&] { look(); }, &text), ExitCode::Usage);
	EXPECT_NE(text.find("belongs to another user (" + std::to_string(geteuid()) + ")"), std::string::npos) << text;
	EXPECT_NE(text.find("chown -R " + std::to_string(geteuid() + 1) + " "), std::string::npos) << text;
}

TEST_F(FileStreamTest, WaitsForDirectory)
{
	std::string why;
	LogEnd end;

	if (geteuid() == 0)
		GTEST_SKIP() << "root may write anywhere";
	fs::permissions(directory_, fs::perms::owner_read | fs::perms::owner_exec);
	stream_ = std::make_unique<FileStream>(directory_, options_, "main", "siphon.main", &wakeup_);
	EXPECT_FALSE(stream_->log().look(&why));
	EXPECT_NE(why.find("Permission denied"), std::string::npos) << why;
	fs::permissions(directory_, fs::perms::owner_all);
	EXPECT_TRUE(stream_->log().look(&why)) << why;
	fs::permissions(directory_ / "main/log", fs::perms::owner_read | fs::perms::owner_exec);
	EXPECT_FALSE(stream_->log().fence(16, "", &end, &why));
	EXPECT_NE(why.find("Permission denied"), std::string::npos) << why;
	fs::permissions(directory_ / "main/log", fs::perms::owner_all);
	EXPECT_TRUE(stream_->log().look(&why)) << why;
	while (!stream_->log().fence(16, "", &end, &why))
		EXPECT_EQ(why, "");
	stream_ = std::make_unique<FileStream>(directory_ / "a/b", options_, "main", "siphon.main", &wakeup_);
	EXPECT_FALSE(stream_->log().look(&why));
	fs::create_directory(directory_ / "a");
	EXPECT_TRUE(stream_->log().look(&why)) << why;
}

TEST_F(FileStreamTest, DropsWholeSegments)
{
	std::string why;
	bool gone;

	options_.segment_size = 2000;
	open();
	append_some(100);

	size_t count = segments().size();

	EXPECT_TRUE(stream_->log().drop(1, &why));
	EXPECT_EQ(segments().size(), count);
	EXPECT_TRUE(stream_->log().drop(50, &why));
	EXPECT_LT(segments().size(), count);

	std::optional<LogHealth> health = stream_->log().health(&why);

	EXPECT_LE(health->first, 50u);
	EXPECT_GT(health->first, 30u);
	EXPECT_EQ(read().front().place, health->first);
	EXPECT_EQ(stream_->log().holds(7, 1, &gone, &why), true);
	EXPECT_TRUE(gone);
	EXPECT_TRUE(stream_->log().drop(1000, &why));
	EXPECT_EQ(segments().size(), 1u);
	EXPECT_EQ(read().back().place, 101u);
	EXPECT_EQ(stream_->log().last("siphon.main.fence", &why), kNoPlace);
	EXPECT_EQ(open().place, 101u);
	append_some(1);
}

TEST_F(FileStreamTest, NeedNotSync)
{
	options_.sync = false;
	options_.segment_size = 2000;
	sync_error = EIO;
	open();
	append_some(100);
	EXPECT_EQ(open().place, 101u);
	expect_messages(100);
}

TEST_F(FileStreamTest, KeepsStates)
{
	std::map<std::string, std::string> expected{
		{"publisher", "{}"}, {"public.t", "a\nb"}, {"public.t.schema", ""}, {state_key(std::string(63, '\xe4'), std::string(63, '\xf6')), "x"}};
	std::string why;
	std::optional<std::string> value;

	look();
	EXPECT_EQ(stream_->states().load(&why)->size(), 0u);
	for (const auto &[key, text] : expected)
	{
		EXPECT_TRUE(stream_->states().put(key, "former", &why)) << why;
		EXPECT_TRUE(stream_->states().put(key, text, &why)) << why;
		EXPECT_TRUE(stream_->states().put(key, text, &why)) << why;
	}
	std::ofstream(directory_ / "main/states/.new") << "cut";
	look();
	EXPECT_EQ(stream_->states().load(&why), expected);
	EXPECT_TRUE(stream_->states().get("public.t.schema", true, &value, &why));
	EXPECT_EQ(value, "");
	EXPECT_TRUE(stream_->states().get("public.u", true, &value, &why));
	EXPECT_FALSE(value);
	EXPECT_TRUE(stream_->states().erase("public.u", &why));
	EXPECT_TRUE(stream_->states().erase("public.t", &why));
	EXPECT_TRUE(stream_->states().get("public.t", true, &value, &why));
	EXPECT_FALSE(value);
	EXPECT_TRUE(stream_->states().erase_tables(&why)) << why;
	EXPECT_EQ(*stream_->states().load(&why), (std::map<std::string, std::string>{{"publisher", "{}"}}));
}

TEST(FileUrlTest, Parses)
{
	FileOptions options;

	EXPECT_EQ(parse_file_url("file:/srv/siphon", &options), "/srv/siphon");
	EXPECT_TRUE(options.sync);
	EXPECT_EQ(parse_file_url("file:///srv/siphon?sync=none", &options), "/srv/siphon");
	EXPECT_FALSE(options.sync);
	EXPECT_THROW(parse_file_url("file:/srv/siphon?sync=never", &options), Fatal);
	EXPECT_THROW(parse_file_url("file:?sync=none", &options), Fatal);
}

} // namespace
