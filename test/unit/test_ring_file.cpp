/*
 * Ring files and bells on a real file system, and the sleep and wake protocol over real FIFOs.
 */
#include "ring_file_fixture.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <poll.h>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

using namespace siphon;

namespace {

/* Nothing here takes long: who waits longer has missed a wake-up. */
constexpr int kHangMs = 30000;

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
		doorbell_ring(other);
	EXPECT_TRUE(readable(fd, 0));
	doorbell_drain(fd);
	EXPECT_FALSE(readable(fd, 0));
	doorbell_ring(other);
	EXPECT_TRUE(readable(fd, 0));

	/* Nobody else has it open: neither SIGPIPE nor an end of file. */
	close(other);
	doorbell_ring(fd);
	doorbell_drain(fd);
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
		doorbell_drain(fd);
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
			if (writer.clear_publisher_asleep())
				doorbell_ring(publisher_bell);
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
		if (reader.clear_worker_asleep())
			doorbell_ring(worker_bell);
	}
	thread.join();
	EXPECT_FALSE(lost);
	close(worker_bell);
	close(publisher_bell);
}

} // namespace
