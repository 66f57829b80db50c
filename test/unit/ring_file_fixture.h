/*
 * A ring's files in a directory of their own, with both sides of them.
 */
#ifndef SIPHON_RING_FILE_FIXTURE_H
#define SIPHON_RING_FILE_FIXTURE_H

#include "ring/ring.h"
#include "ring/ring_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace siphon {

constexpr char kApplication[] = "prd.cell1.main.1";

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
	bool replaced() { return is_ring_file_replaced(path("decoder.ring").c_str(), publisher.fd); }
	int lock(const char *file, int *fd) { return ring_lock(directory.c_str(), kApplication, file, fd); }
	int bell(const char *file, int *fd) { return doorbell_open(directory.c_str(), kApplication, file, fd); }

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

inline mode_t
mode(const std::string &path)
{
	struct stat status = {};

	EXPECT_EQ(lstat(path.c_str(), &status), 0) << path;
	return status.st_mode & 07777;
}

} // namespace siphon

#endif
