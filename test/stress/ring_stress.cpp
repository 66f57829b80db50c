/*
 * Is nothing lost when the publisher is killed at any moment? Two processes on a real ring file: a writer
 * that writes numbered records of random sizes, some larger than a frame and some larger than the ring,
 * and a reader that checks order and content and acknowledges late. A supervisor kills the reader with
 * SIGKILL over and over. Each new one must find the lock free, and the next byte of the next record
 * exactly at acked. Both find with acked always the checkpoint that was given with it.
 *
 *   ring-stress [--seconds N] [--seed N] [--directory DIR]
 *
 * The seed fixes sizes, contents and lags, but not when the kernel runs whom. Exit code 0: all was well.
 */
#include "ring/ring.h"
#include "ring/ring_file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <poll.h>
#include <random>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vector>

using namespace siphon;

namespace {

constexpr uint64_t kCapacity = 1024 * 1024;
constexpr uint32_t kLargestRecord = 3 * 1024 * 1024;
constexpr char kApplication[] = "stress";
/* Nothing takes that long: who waits longer has missed a wake-up, or space was never freed. */
constexpr int kHangMs = 20000;

/* What comes at a position of the ring: this byte of this record. */
struct Place
{
	uint64_t position;
	uint64_t record;
	uint32_t offset;
	uint32_t part; /* payload of the record's frames */
};

/*
 * Outlives the readers. A reader writes down what comes behind the position that it is about to
 * acknowledge, then acknowledges, then declares the new place the current one. Wherever it is killed,
 * acked is one of the two.
 */
struct Notes
{
	Place places[2];
	std::atomic<uint32_t> current;
	std::atomic<uint64_t> written_records;
	std::atomic<uint64_t> frames;
	std::atomic<uint64_t> writer_waits;
};

struct Options
{
	int seconds = 15;
	uint64_t seed = std::random_device()();
	std::string directory;
};

Options options;
Notes *notes;
volatile sig_atomic_t stop;

[[noreturn]] void __attribute__((format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "ring-stress[%d]: ", static_cast<int>(getpid()));
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n");
	va_end(arguments);
	_exit(1);
}

void
check(int error, const char *what)
{
	if (error != 0)
		fail("%s: %s", what, strerror(error));
}

uint64_t
mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/* Size and content follow from the record's number alone, so that a reader can begin anywhere. */
uint32_t
record_size(uint64_t record)
{
	uint64_t random = mix(options.seed ^ record);
	uint64_t size = random >> 16;

	switch (random % 1000)
	{
		case 0:
			return static_cast<uint32_t>(size % kLargestRecord);
		case 1 ... 10:
			return static_cast<uint32_t>(size % (kCapacity / 2));
		case 11 ... 50:
			return static_cast<uint32_t>(size % 50000);
		case 51 ... 60:
			return 0;
		default:
			return static_cast<uint32_t>(size % 600);
	}
}

uint64_t
record_word(uint64_t record, uint32_t word)
{
	return (mix(options.seed + record) | 1) * (word + 1);
}

void
record_fill(uint64_t record, std::vector<char> &out)
{
	uint32_t size = record_size(record);

	out.resize((size + 7) / 8 * 8);
	for (uint32_t i = 0; i < out.size() / 8; i++)
	{
		uint64_t word = record_word(record, i);

		memcpy(&out[size_t{i} * 8], &word, 8);
	}
}

bool
record_matches(uint64_t record, uint32_t offset, const char *data, uint32_t length)
{
	for (uint32_t i = 0; i < length;)
	{
		uint64_t word = record_word(record, (offset + i) / 8);
		uint32_t skip = (offset + i) % 8;
		uint32_t bytes = std::min(8 - skip, length - i);

		if (memcmp(data + i, reinterpret_cast<char *>(&word) + skip, bytes) != 0)
			return false;
		i += bytes;
	}
	return true;
}

/* The checkpoint that goes with an acknowledgement. */
Checkpoint
checkpoint_of(uint64_t acked)
{
	if (acked == 0)
		return {};
	return {{1, acked, ~acked}, {2, acked / 2, acked << 32}};
}

/* False if nobody rang for too long. */
bool
bell_wait(int bell)
{
	pollfd poll_fd = {bell, POLLIN, 0};
	int rung;

	do
	{
		rung = poll(&poll_fd, 1, kHangMs);
	} while (rung < 0 && errno == EINTR && !stop);
	doorbell_drain(bell);
	return rung != 0;
}

class WriterProcess
{
public:
	WriterProcess()
	{
		const char *directory = options.directory.c_str();

		check(ring_lock(directory, kApplication, "decoder.lock", &lock_), "decoder.lock");
		check(doorbell_open(directory, kApplication, "decoder.bell", &bell_), "decoder.bell");
		check(doorbell_open(directory, kApplication, "publisher.bell", &publisher_), "publisher.bell");
		check(ring_file_create(directory, kApplication, "decoder", ring_file_size(kCapacity), &mapping_),
			  "ring_file_create");
		writer_.create(mapping_.memory, kCapacity, options.seed, kApplication, static_cast<uint32_t>(getpid()));
		check(ring_file_publish(directory, kApplication, "decoder"), "ring_file_publish");
	}

	/* Writes until told to stop, then waits until all is acknowledged. */
	void run()
	{
		std::vector<char> content;
		uint64_t record = 0;

		for (; !stop; record++)
		{
			record_fill(record, content);
			write(record, content.data());
			notes->written_records.store(record + 1);
		}
		writer_.close();
		doorbell_ring(publisher_);
		wait([&] { return writer_.acked() == writer_.written(); }, "the last acknowledgement");
		if (writer_.violations() != 0)
			fail("%lu impossible values of acked", static_cast<unsigned long>(writer_.violations()));
	}

private:
	void write(uint64_t record, const char *content)
	{
		RecordInfo info = {};
		uint32_t length = record_size(record);
		uint32_t offset = 0;

		info.kind = FrameKind::Changes;
		info.first = info.last = {record, 0};
		info.route = "public\0stress";
		info.route_length = 13;
		do
		{
			int64_t written = -1;

			wait([&] { return (written = writer_.write(info, content, length, offset)) != -1; }, "space");
			uint64_t acked = writer_.acked();

			if (writer_.checkpoint() != checkpoint_of(acked))
				fail("the checkpoint with acked %lu is another one's", static_cast<unsigned long>(acked));
			if (written < 0)
				fail("write: %ld", static_cast<long>(written));
			offset += static_cast<uint32_t>(written);
			if (writer_.clear_publisher_asleep())
				doorbell_ring(publisher_);
		} while (offset < length);
	}

	template <typename Ready> void wait(Ready ready, const char *what)
	{
		while (!ready())
		{
			writer_.set_asleep(true);
			if (ready())
			{
				writer_.set_asleep(false);
				return;
			}
			notes->writer_waits.fetch_add(1);
			if (!bell_wait(bell_))
				fail("waited in vain for %s: written %lu, acked %lu", what,
					 static_cast<unsigned long>(writer_.written()), static_cast<unsigned long>(writer_.acked()));
			writer_.set_asleep(false);
		}
	}

	RingMapping mapping_;
	RingWriter writer_;
	int lock_;
	int bell_;
	int publisher_;
};

class ReaderProcess
{
public:
	explicit ReaderProcess(uint64_t seed) : random_(seed)
	{
		const char *directory = options.directory.c_str();
		uint32_t version;

		check(ring_lock(directory, kApplication, "publisher.lock", &lock_), "publisher.lock");
		check(doorbell_open(directory, kApplication, "publisher.bell", &bell_), "publisher.bell");
		check(doorbell_open(directory, kApplication, "decoder.bell", &worker_), "decoder.bell");
		check(ring_file_open(directory, kApplication, "decoder", &mapping_), "ring_file_open");
		AttachResult result = reader_.attach(mapping_.memory, mapping_.size, &version);

		if (result != AttachResult::Ok)
			fail("attach: result %d, version %u", static_cast<int>(result), version);
		if (reader_.checkpoint() != checkpoint_of(reader_.acked()))
			fail("the checkpoint in the ring does not go with acked");
		find_place();
		/* The one before us may have cleared the flag and died before it rang. */
		doorbell_ring(worker_);
	}

	/* Reads until the ring is closed and empty. */
	void run()
	{
		for (;;)
		{
			bool closed = reader_.closed();

			if (read())
			{
				if (random_() % 8 == 0 || pending_bytes() > kCapacity / 2)
					acknowledge(random_() % (pending_.size() + 1));
				continue;
			}
			acknowledge(pending_.size());
			if (closed)
				return;
			reader_.set_asleep(true);
			if (reader_.written() == reader_.read_position() && !reader_.closed() && !bell_wait(bell_))
				fail("waited in vain for a frame at %lu", static_cast<unsigned long>(reader_.read_position()));
			reader_.set_asleep(false);
		}
	}

private:
	void find_place()
	{
		uint32_t current = notes->current.load();

		if (reader_.acked() == notes->places[1 - current].position &&
			reader_.acked() != notes->places[current].position)
		{
			current = 1 - current;
			notes->current.store(current);
		}
		next_ = notes->places[current];
		if (reader_.acked() != next_.position)
			fail("acked is %lu, but %lu or %lu was acknowledged", static_cast<unsigned long>(reader_.acked()),
				 static_cast<unsigned long>(notes->places[0].position),
				 static_cast<unsigned long>(notes->places[1].position));
	}

	/* Takes one frame, which must be the next one. */
	bool read()
	{
		Frame frame;
		ReadResult result = reader_.next(&frame);

		if (result == ReadResult::Empty)
			return false;

		const FrameHeader &header = frame.header;
		const char *wrong = nullptr;

		if (result == ReadResult::Corrupt)
			wrong = "corrupt frame";
		else if (header.first.lsn != next_.record || header.record_offset != next_.offset)
			wrong = "out of order";
		else if (header.record_length != record_size(next_.record))
			wrong = "wrong size";
		else if (header.record_offset > 0 && !frame.last_of_record() && header.payload_length != next_.part)
			wrong = "frames of different sizes";
		else if (!record_matches(next_.record, next_.offset, frame.payload, header.payload_length))
			wrong = "wrong content";
		if (wrong != nullptr)
			fail("%s at %lu: record %lu offset %u expected, record %lu offset %u found", wrong,
				 static_cast<unsigned long>(reader_.read_position()), static_cast<unsigned long>(next_.record),
				 next_.offset, static_cast<unsigned long>(header.first.lsn), header.record_offset);

		if (frame.last_of_record())
			next_ = {frame.end, next_.record + 1, 0, 0};
		else
			next_ = {frame.end, next_.record, next_.offset + header.payload_length, header.payload_length};
		pending_.push_back(next_);
		notes->frames.fetch_add(1);
		return true;
	}

	uint64_t pending_bytes() const { return reader_.read_position() - reader_.acked(); }

	/* Acknowledges the oldest so many frames. */
	void acknowledge(size_t count)
	{
		if (count == 0)
			return;

		uint32_t other = 1 - notes->current.load();

		notes->places[other] = pending_[count - 1];
		pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(count));
		/* Not before what it refers to is written down, for the compiler too. */
		std::atomic_thread_fence(std::memory_order_seq_cst);
		reader_.set_checkpoint(checkpoint_of(notes->places[other].position));
		reader_.ack(notes->places[other].position);
		notes->current.store(other);
		if (reader_.clear_worker_asleep())
			doorbell_ring(worker_);
	}

	std::mt19937_64 random_;
	RingMapping mapping_;
	RingReader reader_;
	Place next_;
	std::deque<Place> pending_;
	int lock_;
	int bell_;
	int worker_;
};

template <typename Body>
pid_t
spawn(Body body)
{
	pid_t child = fork();

	if (child < 0)
		fail("fork: %s", strerror(errno));
	if (child == 0)
	{
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		body();
		_exit(0);
	}
	return child;
}

/* True if the child ended well by itself. */
bool
ended_well(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child)
		fail("waitpid: %s", strerror(errno));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Kills the reader after a random time, unless it ended before, which it never should. */
void
kill_reader(pid_t reader, long microseconds)
{
	timespec pause = {0, microseconds * 1000};
	int status;

	nanosleep(&pause, nullptr);
	kill(reader, SIGKILL);
	if (waitpid(reader, &status, 0) != reader)
		fail("waitpid: %s", strerror(errno));
	if (!WIFSIGNALED(status))
		fail("a reader ended by itself");
}

/* Kills readers until the time is up, then lets one finish. Returns the number killed. */
int
supervise(pid_t writer)
{
	std::mt19937_64 random(options.seed);
	auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options.seconds);
	int kills = 0;
	int status;

	while (std::chrono::steady_clock::now() < end)
	{
		/* Mostly soon after its start, where attaching and the first acknowledgements are. */
		long microseconds = static_cast<long>(random() % (random() % 4 == 0 ? 50000 : 3000));
		uint64_t seed = random();

		kill_reader(spawn([&] { ReaderProcess(seed).run(); }), microseconds);
		kills++;
		if (waitpid(writer, &status, WNOHANG) != 0)
			fail("the writer ended by itself");
	}

	pid_t reader = spawn([&] { ReaderProcess(random()).run(); });

	kill(writer, SIGTERM);
	if (!ended_well(reader))
		fail("the last reader failed");
	if (!ended_well(writer))
		fail("the writer failed");
	return kills;
}

void
parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		std::string name = argv[i];
		const char *value = i + 1 < argc ? argv[++i] : nullptr;

		if (value != nullptr && name == "--seconds")
			options.seconds = atoi(value);
		else if (value != nullptr && name == "--seed")
			options.seed = strtoull(value, nullptr, 10);
		else if (value != nullptr && name == "--directory")
			options.directory = value;
		else
		{
			fprintf(stderr, "usage: ring-stress [--seconds N] [--seed N] [--directory DIR]\n");
			exit(2);
		}
	}
}

} // namespace

int
main(int argc, char **argv)
{
	parse(argc, argv);

	std::string temporary = "/dev/shm/ring-stress-XXXXXX";
	bool made = options.directory.empty();

	if (made)
	{
		if (mkdtemp(temporary.data()) == nullptr)
			fail("mkdtemp: %s", strerror(errno));
		options.directory = temporary;
	}
	printf("ring-stress --seconds %d --seed %lu (in %s)\n", options.seconds, static_cast<unsigned long>(options.seed),
		   options.directory.c_str());
	fflush(stdout);

	void *memory = mmap(nullptr, sizeof(Notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	notes = new (memory) Notes{};

	/* Without SA_RESTART, so that a writer that waits wakes up. */
	struct sigaction action = {};

	action.sa_handler = [](int) { stop = 1; };
	sigaction(SIGTERM, &action, nullptr);

	int ready[2];
	char byte;

	if (pipe(ready) != 0)
		fail("pipe: %s", strerror(errno));
	pid_t writer = spawn([&] {
		WriterProcess process;

		if (write(ready[1], "", 1) != 1)
			fail("pipe: %s", strerror(errno));
		close(ready[1]);
		process.run();
	});

	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		fail("the writer did not start");

	int kills = supervise(writer);
	const Place &last = notes->places[notes->current.load()];

	if (last.record != notes->written_records.load() || last.offset != 0)
		fail("%lu records written, acknowledged up to record %lu offset %u",
			 static_cast<unsigned long>(notes->written_records.load()), static_cast<unsigned long>(last.record),
			 last.offset);
	printf("%lu records, %lu bytes of ring, %lu frames read, %d readers killed, writer waited %lu times\n",
		   static_cast<unsigned long>(last.record), static_cast<unsigned long>(last.position),
		   static_cast<unsigned long>(notes->frames.load()), kills,
		   static_cast<unsigned long>(notes->writer_waits.load()));

	check(ring_directory_remove(options.directory.c_str(), kApplication), "ring_directory_remove");
	if (made && rmdir(options.directory.c_str()) != 0)
		fail("rmdir: %s", strerror(errno));
	/* A stress without stress proves nothing. */
	if (options.seconds > 0 && (kills < 10 || notes->writer_waits.load() == 0))
		fail("only %d kills, or the ring was never full", kills);
	return 0;
}
