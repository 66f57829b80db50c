/*
 * What becomes of a worker whose ring file is cut short.
 */
#include "ring/ring_fault.h"
#include "ring_file_fixture.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

using namespace siphon;

namespace {

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
	EXPECT_FALSE(has_ring_fault());

	ASSERT_EQ(truncate(path("decoder.ring").c_str(), 0), 0);
	uint64_t before = writer.written();

	EXPECT_EQ(writer.write(info, payload.data(), 10000, 0), 10000);
	EXPECT_TRUE(has_ring_fault());
	EXPECT_GT(writer.written(), before);
	EXPECT_EQ(writer.acked(), 0u);
	EXPECT_FALSE(writer.clear_publisher_asleep());
	writer.heartbeat(1);
	writer.close();

	/* The whole mapping is ours now, up to its last byte. */
	static_cast<volatile char *>(worker.memory)[worker.size - 1] = 'y';
	ring_fault_release(worker.memory);
	EXPECT_TRUE(has_ring_fault());
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
	EXPECT_FALSE(has_ring_fault());
	EXPECT_GE(writer.write(info, payload.data(), static_cast<uint32_t>(payload.size()), 0), 0);
	EXPECT_TRUE(has_ring_fault());

	/* The next ring starts with a clean flag, and is guarded in turn. */
	ring_fault_release(worker.memory);
	ring_file_close(&worker);
	make_ring();
	ring_fault_guard(worker.memory, worker.size);
	EXPECT_FALSE(has_ring_fault());
	ASSERT_EQ(ftruncate(worker.fd, 0), 0);
	EXPECT_GE(writer.write(info, payload.data(), static_cast<uint32_t>(payload.size()), 0), 0);
	EXPECT_TRUE(has_ring_fault());
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
	EXPECT_TRUE(has_ring_fault());
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
	EXPECT_FALSE(has_ring_fault());

	/* That took our handler away; guarding again brings it back, and ending restores the one before. */
	ring_fault_release(worker.memory);
	ring_fault_guard(worker.memory, worker.size);
	ASSERT_EQ(ftruncate(worker.fd, 0), 0);
	writer.heartbeat(1);
	EXPECT_TRUE(has_ring_fault());
	ring_fault_release(worker.memory);
	ASSERT_EQ(sigaction(SIGBUS, &before, &now), 0);
	EXPECT_EQ(now.sa_handler, count.sa_handler);
	EXPECT_EQ(others, 1);
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
