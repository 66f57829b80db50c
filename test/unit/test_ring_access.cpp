/*
 * Who may come at a ring's files: directories, links, locks, and a group of readers.
 */
#include "ring/ring_access.h"
#include "ring_file_fixture.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace siphon;

namespace {

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

} // namespace
