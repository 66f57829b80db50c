/*
 * Ring files, bells and locks on a real file system, the sleep and wake protocol over real FIFOs, and what
 * becomes of a worker whose ring file is cut short.
 */
#include "ring.h"
#include "ring_fault.h"
#include "ring_file.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace siphon;

namespace {

constexpr char kApplication[] = "prd.cell1.main.1";
/* Nothing here takes long: who waits longer has missed a wake-up. */
constexpr int kHangMs = 30000;

class RingFile : public testing::Test
{
protected:
	RingFile()
	{
		std::string pattern = testing::TempDir() + "/siphon-XXXXXX";

		EXPECT_NE(mkdtemp(pattern.data()), nullptr);
		root = pattern;
		directory = root + "/rings";
	}
	~RingFile() override
	{
		ring_file_close(&worker);
		ring_file_close(&publisher);
		EXPECT_EQ(ring_directory_remove(directory.c_str(), kApplication), 0);
		ring_group_use(static_cast<gid_t>(-1));
		rmdir(directory.c_str());
		EXPECT_EQ(rmdir(root.c_str()), 0);
	}

	std::string path(const char *file) const { return directory + "/" + kApplication + "/" + file; }
	bool exists(const char *file) const { return access(path(file).c_str(), F_OK) == 0; }

	int create(size_t size = ring_file_size(kRingMinimum))
	{
		return ring_file_create(directory.c_str(), kApplication, "decoder", size, &worker);
	}
	int publish() { return ring_file_publish(directory.c_str(), kApplication, "decoder"); }
	int open() { return ring_file_open(directory.c_str(), kApplication, "decoder", &publisher); }
	bool replaced() { return ring_file_replaced(path("decoder.ring").c_str(), publisher.fd); }
	int lock(const char *file, int *fd) { return ring_lock(directory.c_str(), kApplication, file, fd); }
	int bell(const char *file, int *fd) { return bell_open(directory.c_str(), kApplication, file, fd); }

	void make_ring()
	{
		ASSERT_EQ(create(), 0);
		writer.create(worker.memory, kRingMinimum, 1, kApplication, 1);
		ASSERT_EQ(publish(), 0);
	}

	std::string root;
	std::string directory;
	RingMapping worker = {nullptr, 0, -1};
	RingMapping publisher = {nullptr, 0, -1};
	RingWriter writer;
	RingReader reader;
};

mode_t
mode(const std::string &path)
{
	struct stat status = {};

	EXPECT_EQ(lstat(path.c_str(), &status), 0) << path;
	return status.st_mode & 07777;
}

bool
readable(int fd, int timeout_ms)
{
	pollfd poll_fd = {fd, POLLIN, 0};

	return poll(&poll_fd, 1, timeout_ms) == 1;
}

TEST(RingPath, JoinsAndRefuses)
{
	char out[kRingPathMax];

	EXPECT_TRUE(ring_path(out, "/dev/shm/siphon", "prd.cell1", "decoder.ring"));
	EXPECT_STREQ(out, "/dev/shm/siphon/prd.cell1/decoder.ring");
	EXPECT_FALSE(ring_path(out, "/d", "", "f"));
	EXPECT_FALSE(ring_path(out, "/d", ".", "f"));
	EXPECT_FALSE(ring_path(out, "/d", "..", "f"));
	EXPECT_FALSE(ring_path(out, "/d", "a/b", "f"));
	EXPECT_TRUE(ring_path(out, "/d", "...", "f"));
	EXPECT_TRUE(ring_path(out, std::string(kRingPathMax - 5, 'd').c_str(), "a", "f"));
	EXPECT_FALSE(ring_path(out, std::string(kRingPathMax - 4, 'd').c_str(), "a", "f"));
}

TEST_F(RingFile, CreatedThenPublished)
{
	EXPECT_EQ(open(), ENOENT);
	ASSERT_EQ(create(), 0);
	EXPECT_EQ(worker.size, ring_file_size(kRingMinimum));
	EXPECT_EQ(mode(directory), 0700u);
	EXPECT_EQ(mode(directory + "/" + kApplication), 0700u);
	EXPECT_EQ(mode(path("decoder.ring.new")), 0600u);
	EXPECT_EQ(std::string(static_cast<char *>(worker.memory), worker.size), std::string(worker.size, '\0'));

	/* All of its space is there, so that no touch can find the file system full. */
	struct stat status;

	ASSERT_EQ(fstat(worker.fd, &status), 0);
	EXPECT_GE(static_cast<size_t>(status.st_blocks) * 512, worker.size);
	EXPECT_EQ(open(), ENOENT);

	ASSERT_EQ(publish(), 0);
	EXPECT_FALSE(exists("decoder.ring.new"));
	ASSERT_EQ(open(), 0);
	EXPECT_EQ(publisher.size, worker.size);

	uint32_t version;

	EXPECT_EQ(reader.attach(publisher.memory, publisher.size, &version), AttachResult::NotReady);
	writer.create(worker.memory, kRingMinimum, 1, kApplication, 1);
	EXPECT_EQ(reader.attach(publisher.memory, publisher.size, &version), AttachResult::Ok);

	ring_file_close(&publisher);
	EXPECT_EQ(publisher.memory, nullptr);
	EXPECT_EQ(publisher.fd, -1);
	ring_file_close(&publisher);
}

TEST_F(RingFile, ReplacedOrRemoved)
{
	make_ring();
	ASSERT_EQ(open(), 0);
	EXPECT_FALSE(replaced());

	RingMapping old = worker;

	ASSERT_EQ(create(), 0);
	EXPECT_FALSE(replaced());
	ASSERT_EQ(publish(), 0);
	EXPECT_TRUE(replaced());
	ring_file_close(&old);

	ring_file_close(&publisher);
	ASSERT_EQ(open(), 0);
	EXPECT_FALSE(replaced());
	ASSERT_EQ(ring_directory_remove(directory.c_str(), kApplication), 0);
	EXPECT_TRUE(replaced());
}

/* What has another name now, a second one, or lies in a directory that was moved, nobody finds. */
TEST_F(RingFile, MovedAway)
{
	std::string elsewhere = root + "/elsewhere";

	make_ring();
	ASSERT_EQ(open(), 0);
	ASSERT_EQ(link(path("decoder.ring").c_str(), elsewhere.c_str()), 0);
	EXPECT_FALSE(replaced());
	ASSERT_EQ(unlink(path("decoder.ring").c_str()), 0);
	EXPECT_TRUE(replaced());
	ASSERT_EQ(rename(elsewhere.c_str(), path("decoder.ring").c_str()), 0);
	EXPECT_FALSE(replaced());

	ASSERT_EQ(rename(directory.c_str(), elsewhere.c_str()), 0);
	EXPECT_TRUE(replaced());
	ASSERT_EQ(symlink(".", directory.c_str()), 0);
	EXPECT_TRUE(replaced());
	ASSERT_EQ(unlink(directory.c_str()), 0);
	ASSERT_EQ(rename(elsewhere.c_str(), directory.c_str()), 0);
	EXPECT_FALSE(replaced());
	/* Who may not look, does not know of a change. */
	if (geteuid() != 0)
	{
		ASSERT_EQ(chmod(directory.c_str(), 0), 0);
		EXPECT_FALSE(replaced());
		ASSERT_EQ(chmod(directory.c_str(), 0700), 0);
	}
}

TEST_F(RingFile, LeftOverIsReplaced)
{
	ASSERT_EQ(create(), 0);
	static_cast<char *>(worker.memory)[0] = 'x';

	RingMapping old = worker;

	ASSERT_EQ(create(), 0);
	EXPECT_EQ(static_cast<char *>(worker.memory)[0], '\0');
	ring_file_close(&old);
}

TEST_F(RingFile, NoSpaceIsAnErrorAndLeavesNothing)
{
	rlimit before;
	rlimit small;

	ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = kRingMinimum / 2;
	auto handler = signal(SIGXFSZ, SIG_IGN);

	ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
	int error = create();

	ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, handler);
	EXPECT_EQ(error, EFBIG);
	EXPECT_EQ(worker.memory, nullptr);
	EXPECT_EQ(worker.fd, -1);
	EXPECT_FALSE(exists("decoder.ring.new"));
	EXPECT_EQ(create(), 0);
}

TEST_F(RingFile, DirectoriesOthersMayWriteToAreRefused)
{
	int fd;

	make_ring();
	for (const std::string &level : {directory, directory + "/" + kApplication})
	{
		for (mode_t bad : {0720, 0702})
		{
			RingMapping none;

			ASSERT_EQ(chmod(level.c_str(), bad), 0);
			EXPECT_EQ(ring_file_create(directory.c_str(), kApplication, "decoder", worker.size, &none), EPERM) << level;
			EXPECT_EQ(publish(), EPERM);
			EXPECT_EQ(open(), EPERM);
			EXPECT_EQ(lock("publisher.lock", &fd), EPERM);
			EXPECT_EQ(bell("publisher.bell", &fd), EPERM);
			EXPECT_EQ(ring_directory_remove(directory.c_str(), kApplication), EPERM);
		}
		ASSERT_EQ(chmod(level.c_str(), 0750), 0);
		EXPECT_EQ(open(), 0);
		ring_file_close(&publisher);
	}
}

TEST_F(RingFile, DirectoriesOwnedByOthersAreRefused)
{
	struct stat status;
	std::string theirs;

	/* Root can give one away. Anybody else looks for one; in a user namespace most are one's own. */
	ASSERT_EQ(mkdir(directory.c_str(), 0700), 0);
	if (geteuid() == 0 && chown(directory.c_str(), 1, 1) == 0)
		theirs = directory;
	for (const char *name : {"/etc", "/sys", "/proc/sys"})
	{
		if (theirs.empty() && lstat(name, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid != geteuid())
			theirs = name;
	}
	if (theirs.empty())
		GTEST_SKIP() << "all directories are ours";

	RingMapping none;

	EXPECT_EQ(ring_file_create(theirs.c_str(), kApplication, "decoder", ring_file_size(kRingMinimum), &none), EPERM) << theirs;
	EXPECT_TRUE(theirs != directory || chown(directory.c_str(), geteuid(), getegid()) == 0);
}

TEST_F(RingFile, SymbolicLinksAreNotFollowed)
{
	int fd;
	std::string elsewhere = root + "/elsewhere";

	ASSERT_EQ(mkdir(elsewhere.c_str(), 0700), 0);
	ASSERT_EQ(symlink(elsewhere.c_str(), directory.c_str()), 0);
	EXPECT_NE(create(), 0);
	ASSERT_EQ(unlink(directory.c_str()), 0);

	ASSERT_EQ(mkdir(directory.c_str(), 0700), 0);
	ASSERT_EQ(symlink(elsewhere.c_str(), (directory + "/" + kApplication).c_str()), 0);
	EXPECT_NE(create(), 0);
	EXPECT_NE(lock("decoder.lock", &fd), 0);
	ASSERT_EQ(unlink((directory + "/" + kApplication).c_str()), 0);

	make_ring();
	std::string target = elsewhere + "/target";

	for (const char *file : {"decoder.ring", "decoder.lock", "decoder.bell"})
	{
		unlink(path(file).c_str());
		ASSERT_EQ(symlink(target.c_str(), path(file).c_str()), 0);
	}
	EXPECT_EQ(open(), ELOOP);
	EXPECT_EQ(lock("decoder.lock", &fd), ELOOP);
	EXPECT_EQ(bell("decoder.bell", &fd), ELOOP);
	EXPECT_EQ(rmdir(elsewhere.c_str()), 0);
}

TEST_F(RingFile, NamesThatAreNoDirectory)
{
	int fd;

	for (const char *name : {"", ".", "..", "a/b"})
	{
		EXPECT_EQ(ring_file_create(directory.c_str(), name, "decoder", kRingMinimum, &worker), EINVAL);
		EXPECT_EQ(ring_lock(directory.c_str(), name, "decoder.lock", &fd), EINVAL);
		EXPECT_EQ(ring_directory_remove(directory.c_str(), name), EINVAL);
	}
}

TEST_F(RingFile, WhatIsNoRingIsRefused)
{
	int fd;

	make_ring();
	ASSERT_EQ(ftruncate(worker.fd, static_cast<off_t>(ring_file_size(kRingMinimum) - 1)), 0);
	EXPECT_EQ(open(), EINVAL);
	ASSERT_EQ(ftruncate(worker.fd, static_cast<off_t>(ring_file_size(kRingMinimum))), 0);
	EXPECT_EQ(open(), 0);

	ASSERT_EQ(unlink(path("decoder.ring").c_str()), 0);
	ASSERT_EQ(mkfifo(path("decoder.ring").c_str(), 0600), 0);
	ring_file_close(&publisher);
	EXPECT_EQ(open(), EINVAL);

	/* A plain file where a FIFO should be, and the other way round. */
	ASSERT_EQ(lock("decoder.lock", &fd), 0);
	close(fd);
	ASSERT_EQ(rename(path("decoder.lock").c_str(), path("decoder.bell").c_str()), 0);
	EXPECT_EQ(bell("decoder.bell", &fd), EINVAL);
	ASSERT_EQ(mkfifo(path("decoder.lock").c_str(), 0600), 0);
	EXPECT_EQ(lock("decoder.lock", &fd), EINVAL);
}

TEST_F(RingFile, VersionOfAnother)
{
	uint32_t version;

	make_ring();
	static_cast<RingHeader *>(worker.memory)->version = 9;
	ASSERT_EQ(open(), 0);
	EXPECT_EQ(reader.attach(publisher.memory, publisher.size, &version), AttachResult::WrongVersion);
	EXPECT_EQ(version, 9u);
}

TEST_F(RingFile, LocksAreExclusiveAndEndWithTheirHolder)
{
	int first;
	int second;
	int other;

	/* The publisher may come before the server, and finds no directory. */
	ASSERT_EQ(lock("publisher.lock", &first), 0);
	EXPECT_EQ(lock("publisher.lock", &second), EWOULDBLOCK);
	EXPECT_EQ(second, -1);
	ASSERT_EQ(lock("decoder.lock", &other), 0);
	close(other);
	close(first);
	ASSERT_EQ(lock("publisher.lock", &first), 0);
	EXPECT_EQ(mode(path("publisher.lock")), 0600u);
	close(first);

	/* A process that is killed lets go. */
	int ready[2];
	char byte;

	ASSERT_EQ(pipe(ready), 0);
	pid_t child = fork();

	if (child == 0)
	{
		if (lock("publisher.lock", &first) != 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	EXPECT_EQ(read(ready[0], &byte, 1), 1);
	EXPECT_EQ(lock("publisher.lock", &second), EWOULDBLOCK);
	kill(child, SIGKILL);
	ASSERT_EQ(waitpid(child, nullptr, 0), child);
	EXPECT_EQ(lock("publisher.lock", &second), 0);
	close(second);
	close(ready[0]);
}

/* The file may be removed between open and flock: whoever then locks it holds nothing. */
TEST_F(RingFile, LockOfARemovedFileIsNone)
{
	std::atomic<int> holders{0};
	std::atomic<int> at_once{0};
	std::atomic<int> left{1000};
	std::atomic<int> other_errors{0};
	std::vector<std::thread> threads;

	for (int i = 0; i < 3; i++)
		threads.emplace_back([&] {
			while (left > 0 && other_errors == 0)
			{
				int fd;
				int error = lock("publisher.lock", &fd);

				other_errors += error != 0 && error != EWOULDBLOCK;
				if (error != 0)
					continue;
				at_once += holders.fetch_add(1) > 0;
				left--;
				std::this_thread::yield();
				holders--;
				unlink(path("publisher.lock").c_str());
				close(fd);
			}
		});
	for (std::thread &thread : threads)
		thread.join();
	EXPECT_EQ(at_once, 0);
	EXPECT_EQ(other_errors, 0);
}

TEST_F(RingFile, BellRingsOnceForMany)
{
	int fd;
	int other;

	ASSERT_EQ(bell("decoder.bell", &fd), 0);
	ASSERT_EQ(bell("decoder.bell", &other), 0);
	EXPECT_EQ(mode(path("decoder.bell")), 0600u);
	EXPECT_FALSE(readable(fd, 0));

	/* Far more often than a pipe holds: the one who rings must not wait. */
	for (int i = 0; i < 100000; i++)
		bell_ring(other);
	EXPECT_TRUE(readable(fd, 0));
	bell_drain(fd);
	EXPECT_FALSE(readable(fd, 0));
	bell_ring(other);
	EXPECT_TRUE(readable(fd, 0));

	/* Nobody else has it open: neither SIGPIPE nor an end of file. */
	close(other);
	bell_ring(fd);
	bell_drain(fd);
	EXPECT_FALSE(readable(fd, 0));
	close(fd);
}

TEST_F(RingFile, RemovesWhatIsThere)
{
	int fd;

	EXPECT_EQ(ring_directory_remove(directory.c_str(), kApplication), 0);
	make_ring();
	ring_file_close(&worker);
	ASSERT_EQ(create(), 0);
	for (const char *file : {"decoder.lock", "publisher.lock"})
	{
		ASSERT_EQ(lock(file, &fd), 0);
		close(fd);
	}
	for (const char *file : {"decoder.bell", "publisher.bell"})
	{
		ASSERT_EQ(bell(file, &fd), 0);
		close(fd);
	}
	EXPECT_EQ(ring_directory_remove(directory.c_str(), kApplication), 0);
	EXPECT_NE(access((directory + "/" + kApplication).c_str(), F_OK), 0);
	EXPECT_EQ(ring_directory_remove(directory.c_str(), kApplication), 0);
}

/* What belongs to a lock that somebody holds, be it another server's, stays; the rest goes. */
TEST_F(RingFile, WhatIsHeldStays)
{
	int held;
	int publishers;
	int fd;

	make_ring();
	for (const char *ring : {"snapshot-1-0", "snapshot-2-0"})
	{
		ring_file_close(&worker);
		ASSERT_EQ(ring_file_create(directory.c_str(), kApplication, ring, ring_file_size(kRingMinimum), &worker), 0);
		ASSERT_EQ(ring_file_publish(directory.c_str(), kApplication, ring), 0);
	}
	for (const char *file : {"decoder.bell", "snapshot-1-0.bell", "snapshot-2-0.bell", "publisher.bell"})
	{
		ASSERT_EQ(bell(file, &fd), 0);
		close(fd);
	}
	ASSERT_EQ(lock("snapshot-1-0.lock", &held), 0);
	ASSERT_EQ(lock("publisher.lock", &publishers), 0);
	ASSERT_EQ(lock("decoder.lock", &fd), 0);
	EXPECT_EQ(ring_file_remove(directory.c_str(), kApplication, "decoder"), EWOULDBLOCK);
	EXPECT_TRUE(exists("decoder.ring") && exists("decoder.bell") && exists("decoder.lock"));
	close(fd);

	EXPECT_EQ(ring_directory_remove(directory.c_str(), kApplication), 0);
	for (const char *file : {"snapshot-1-0.ring", "snapshot-1-0.bell", "snapshot-1-0.lock", "publisher.bell", "publisher.lock"})
		EXPECT_TRUE(exists(file)) << file;
	for (const char *file : {"decoder.ring", "decoder.bell", "decoder.lock", "snapshot-2-0.ring", "snapshot-2-0.bell"})
		EXPECT_FALSE(exists(file)) << file;
	EXPECT_EQ(lock("snapshot-1-0.lock", &fd), EWOULDBLOCK);

	close(held);
	EXPECT_EQ(ring_file_remove(directory.c_str(), kApplication, "snapshot-1-0"), 0);
	EXPECT_FALSE(exists("snapshot-1-0.ring") || exists("snapshot-1-0.bell") || exists("snapshot-1-0.lock"));
	close(publishers);
	EXPECT_EQ(ring_directory_remove(directory.c_str(), kApplication), 0);
	EXPECT_NE(access((directory + "/" + kApplication).c_str(), F_OK), 0);
}

/*
 * Waits as either side does: announce, look again, and only then sleep until the bell rings. `ready` may
 * consume what it finds, so it is not asked again once it said yes.
 */
template <typename Ready, typename Announce>
bool
wait_for(int fd, Ready ready, Announce announce)
{
	while (!ready())
	{
		announce(true);
		if (ready())
		{
			announce(false);
			return true;
		}
		if (!readable(fd, kHangMs))
			return false;
		announce(false);
		bell_drain(fd);
	}
	return true;
}

/*
 * Every frame makes both sides go to sleep and be woken, without a timeout to save a wake-up that was
 * lost. The publisher's and the worker's side meet at a different moment each time.
 */
TEST_F(RingFile, NoWakeUpIsLost)
{
	constexpr int kRounds = 20000;
	int worker_bell;
	int publisher_bell;
	uint32_t version;
	std::atomic<bool> lost{false};

	make_ring();
	ASSERT_EQ(open(), 0);
	ASSERT_EQ(reader.attach(publisher.memory, publisher.size, &version), AttachResult::Ok);
	ASSERT_EQ(bell("decoder.bell", &worker_bell), 0);
	ASSERT_EQ(bell("publisher.bell", &publisher_bell), 0);

	std::thread thread([&] {
		RecordInfo info = {};

		info.kind = FrameKind::Changes;
		for (int i = 0; i < kRounds && !lost; i++)
		{
			writer.write(info, &i, sizeof(i), 0);
			if (writer.publisher_sleeps())
				bell_ring(publisher_bell);
			if (!wait_for(
					worker_bell, [&] { return writer.acked() == writer.written(); },
					[&](bool asleep) { writer.set_asleep(asleep); }))
				lost = true;
		}
	});

	for (int i = 0; i < kRounds && !lost; i++)
	{
		Frame frame;

		if (!wait_for(
				publisher_bell, [&] { return reader.next(&frame) == ReadResult::Frame; },
				[&](bool asleep) { reader.set_asleep(asleep); }))
		{
			lost = true;
			break;
		}
		EXPECT_EQ(memcmp(frame.payload, &i, sizeof(i)), 0);
		reader.ack(frame.end);
		if (reader.worker_sleeps())
			bell_ring(worker_bell);
	}
	thread.join();
	EXPECT_FALSE(lost);
	close(worker_bell);
	close(publisher_bell);
}

/* SIGBUS */

using RingFault = RingFile;
using RingFaultDeathTest = RingFile;

TEST_F(RingFault, TruncatedFileIsReplacedByZeros)
{
	RecordInfo info = {};
	std::string payload(10000, 'x');

	info.kind = FrameKind::Changes;
	make_ring();
	ring_fault_guard(worker.memory, worker.size);
	EXPECT_EQ(writer.write(info, payload.data(), 10000, 0), 10000);
	EXPECT_FALSE(ring_fault_seen());

	ASSERT_EQ(truncate(path("decoder.ring").c_str(), 0), 0);
	uint64_t before = writer.written();

	EXPECT_EQ(writer.write(info, payload.data(), 10000, 0), 10000);
	EXPECT_TRUE(ring_fault_seen());
	EXPECT_GT(writer.written(), before);
	EXPECT_EQ(writer.acked(), 0u);
	EXPECT_FALSE(writer.publisher_sleeps());
	writer.heartbeat(1);
	writer.close();

	/* The whole mapping is ours now, up to its last byte. */
	static_cast<volatile char *>(worker.memory)[worker.size - 1] = 'y';
	ring_fault_release(worker.memory);
	EXPECT_TRUE(ring_fault_seen());
}

TEST_F(RingFault, CutAtTheEndIsSeenWhenItIsReached)
{
	RecordInfo info = {};
	std::string payload(4096 - sizeof(FrameHeader), 'x');

	info.kind = FrameKind::Changes;
	make_ring();
	ring_fault_guard(worker.memory, worker.size);
	ASSERT_EQ(ftruncate(worker.fd, static_cast<off_t>(kRingHeaderSize + 2 * kRingPage)), 0);
	for (int i = 0; i < 2; i++)
		EXPECT_GE(writer.write(info, payload.data(), static_cast<uint32_t>(payload.size()), 0), 0);
	EXPECT_FALSE(ring_fault_seen());
	EXPECT_GE(writer.write(info, payload.data(), static_cast<uint32_t>(payload.size()), 0), 0);
	EXPECT_TRUE(ring_fault_seen());

	/* The next ring starts with a clean flag, and is guarded in turn. */
	ring_fault_release(worker.memory);
	ring_file_close(&worker);
	make_ring();
	ring_fault_guard(worker.memory, worker.size);
	EXPECT_FALSE(ring_fault_seen());
	ASSERT_EQ(ftruncate(worker.fd, 0), 0);
	EXPECT_GE(writer.write(info, payload.data(), static_cast<uint32_t>(payload.size()), 0), 0);
	EXPECT_TRUE(ring_fault_seen());
	ring_fault_release(worker.memory);
}

TEST_F(RingFault, EachOfSeveralMappingsIsGuarded)
{
	make_ring();
	ASSERT_EQ(open(), 0);
	ring_fault_guard(worker.memory, worker.size);
	ring_fault_guard(publisher.memory, publisher.size);
	ASSERT_EQ(ftruncate(worker.fd, 0), 0);
	static_cast<volatile char *>(publisher.memory)[0] = 'x';
	EXPECT_TRUE(ring_fault_seen());
	ring_fault_release(publisher.memory);
	/* The other is still what it was, and guarded. */
	EXPECT_NE(static_cast<volatile char *>(worker.memory)[0], 'x');
	ring_fault_release(worker.memory);
}

volatile sig_atomic_t others;

TEST_F(RingFault, OtherSignalsGoToTheHandlerBefore)
{
	struct sigaction count = {};
	struct sigaction before;
	struct sigaction now;

	others = 0;
	count.sa_handler = [](int) {
		/* A fault that is left to us is repeated for ever. */
		others = others + 1;
		if (others > 10)
			_exit(1);
	};
	ASSERT_EQ(sigaction(SIGBUS, &count, &before), 0);
	make_ring();
	ring_fault_guard(worker.memory, worker.size);
	raise(SIGBUS);
	EXPECT_EQ(others, 1);
	EXPECT_FALSE(ring_fault_seen());

	/* That took our handler away; guarding again brings it back, and ending restores the one before. */
	ring_fault_release(worker.memory);
	ring_fault_guard(worker.memory, worker.size);
	ASSERT_EQ(ftruncate(worker.fd, 0), 0);
	writer.heartbeat(1);
	EXPECT_TRUE(ring_fault_seen());
	ring_fault_release(worker.memory);
	ASSERT_EQ(sigaction(SIGBUS, &before, &now), 0);
	EXPECT_EQ(now.sa_handler, count.sa_handler);
	EXPECT_EQ(others, 1);
}

class RingGroup : public RingFile
{
protected:
	std::string shown(const std::string &name)
	{
		struct stat status = {};
		char text[64];

		EXPECT_EQ(lstat(name.c_str(), &status), 0) << name;
		snprintf(text, sizeof(text), "%o of %u", status.st_mode & 07777u, status.st_gid);
		return text;
	}
};

TEST_F(RingGroup, AllIsTheGroupsAndNobodyElses)
{
	std::string of = " of " + std::to_string(getegid());
	mode_t before = umask(077);
	int fd;

	/* What was there before becomes so too. */
	ASSERT_EQ(lock("decoder.lock", &fd), 0);
	close(fd);
	ring_group_use(getegid());
	make_ring();
	for (const char *file : {"decoder.lock", "publisher.lock"})
	{
		ASSERT_EQ(lock(file, &fd), 0);
		close(fd);
	}
	ASSERT_EQ(bell("decoder.bell", &fd), 0);
	close(fd);
	umask(before);
	EXPECT_EQ(shown(directory), "2770" + of);
	EXPECT_EQ(shown(directory + "/" + kApplication), "2770" + of);
	for (const char *file : {"decoder.ring", "decoder.lock", "publisher.lock", "decoder.bell"})
		EXPECT_EQ(shown(path(file)), "660" + of) << file;
}

/* What systemd's RestrictSUIDSGID does to fchmod() with the set-group-ID bit. */
static bool
refuse_set_group_id()
{
	sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fchmod, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, S_ISGID, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST_F(RingGroup, WithoutSetGroupIdBit)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0)
	{
		int fd;

		ring_group_use(getegid());
		_exit(refuse_set_group_id() ? bell("publisher.bell", &fd) : 255);
	}
	waitpid(child, &status, 0);
	EXPECT_EQ(WEXITSTATUS(status), 0);
	EXPECT_EQ(shown(directory), "770 of " + std::to_string(getegid()));
	/* The server comes later, and may. */
	ring_group_use(getegid());
	make_ring();
	EXPECT_EQ(shown(directory), "2770 of " + std::to_string(getegid()));
}

TEST_F(RingGroup, LinksToOtherFilesAreRefused)
{
	int fd;

	ring_group_use(getegid());
	make_ring();
	ASSERT_EQ(lock("decoder.lock", &fd), 0);
	close(fd);
	ASSERT_EQ(link(path("decoder.lock").c_str(), path("publisher.lock").c_str()), 0);
	EXPECT_EQ(lock("publisher.lock", &fd), EPERM);
}

TEST_F(RingGroup, GroupsAreFound)
{
	gid_t found = 0;

	EXPECT_EQ(ring_group_find(std::to_string(getegid()).c_str(), &found), 0);
	EXPECT_EQ(found, getegid());
	EXPECT_EQ(ring_group_find("no such group", &found), ENOENT);
	EXPECT_EQ(ring_group_find("", &found), ENOENT);
	EXPECT_EQ(ring_group_find("54321", &found), EPERM);
}

/* What another user makes of it, as an exit code: 0, or the errno value of what failed. */
template <typename Act>
static int
as_user(uid_t user, gid_t member_of, Act act)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0)
		_exit(setgroups(1, &member_of) != 0 || setgid(user) != 0 || setuid(user) != 0 ? 255 : act());
	waitpid(child, &status, 0);
	return WEXITSTATUS(status);
}

TEST_F(RingGroup, MembersAttachAndOthersDoNot)
{
	constexpr gid_t kGroup = 54321;
	auto attach = [this] {
		int fd;
		int error = lock("publisher.lock", &fd);

		if (error == 0)
			error = bell("decoder.bell", &fd);
		if (error == 0)
			error = bell("publisher.bell", &fd);
		if (error == 0)
			error = open();
		return error;
	};

	if (geteuid() != 0 || chown(root.c_str(), 0, kGroup) != 0)
		GTEST_SKIP() << "there is no other user here";
	ASSERT_EQ(chmod(root.c_str(), 0711), 0);
	ring_group_use(kGroup);
	/* The publisher may come first in the application's directory, and the server takes what it made. */
	make_ring();
	EXPECT_EQ(as_user(20001, kGroup, attach), 0);
	int fd;
	EXPECT_EQ(bell("publisher.bell", &fd), 0);
	close(fd);
	EXPECT_EQ(as_user(20001, 20001, attach), EACCES);
	EXPECT_EQ(as_user(20001, kGroup, [&] { ring_group_use(static_cast<gid_t>(-1)); return attach(); }), EPERM);
}

TEST_F(RingFaultDeathTest, FaultElsewhereIsNotOurs)
{
	GTEST_FLAG_SET(death_test_style, "threadsafe");
	make_ring();
	ASSERT_EQ(open(), 0);
	EXPECT_EXIT(
		{
			struct sigaction leave = {};

			leave.sa_handler = [](int) { _exit(42); };
			sigaction(SIGBUS, &leave, nullptr);
			ring_fault_guard(worker.memory, worker.size);
			if (ftruncate(worker.fd, 0) == 0)
				static_cast<volatile char *>(publisher.memory)[0] = 'x';
			_exit(0);
		},
		testing::ExitedWithCode(42), "");
}

} // namespace
