/*
 * An application's directory of rings, as the publisher sees it: the lock that makes it the only one, the bell that
 * wakes it, and which rings there are.
 */
#ifndef SIPHON_RING_DIRECTORY_H
#define SIPHON_RING_DIRECTORY_H

#include <set>
#include <string>
#include <vector>

#include "program/exit_codes.h"

namespace siphon {

/* Rings are shared with this group, as the server's siphon.ring_group says. Fatal(Usage) if it can't be used. */
void use_ring_group(const std::string &group);

class RingDirectory
{
public:
	/* Takes the lock. Fatal if another publisher has it, or the directory is not to be used. */
	RingDirectory(const std::string &directory, const std::string &application);
	~RingDirectory();
	RingDirectory(const RingDirectory &) = delete;
	RingDirectory &operator=(const RingDirectory &) = delete;

	const std::string &directory() const { return directory_; }
	const std::string &application() const { return application_; }

	/* Names of the rings that are there. */
	std::set<std::string> list() const;
	/*
	 * Dropping an application and making it again leaves us with a lock and a bell that nobody else has: takes
	 * those that are there now.
	 */
	void renew();

	/* Tells other publishers of the same ring directory, by our lock file, where this one has its status page; "": nowhere. */
	void announce(const std::string &url);

	/* To poll() for input. */
	int bell() const { return bell_; }
	void drain_bell();

	/*
	 * One line for an errno value that the directory gave, with what to do about it: Usage where somebody has to, and
	 * Unexpected, behind which a supervisor starts us again at once, where it may pass by itself.
	 */
	Fatal error(int error) const;

private:
	void lock();
	void open_bell();

	std::string directory_;
	std::string application_;
	std::string url_; /* as announced */
	int lock_ = -1;
	int bell_ = -1;
};

/* An application whose rings are in the same directory. */
struct OtherApplication
{
	std::string name;
	std::string url; /* of its publisher's status page, which may have died since; empty: not known */
};

/* By name. Whoever may write to the directory may have written what they say. Never waits, never throws. */
std::vector<OtherApplication> list_other_applications(const std::string &directory, const std::string &application);

} // namespace siphon

#endif
