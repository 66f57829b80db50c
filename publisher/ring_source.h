/*
 * The publisher's end of an application's ring: the lock that makes it the only one, attaching and
 * attaching anew when the decoder has made a new ring, and the bells.
 */
#ifndef SIPHON_RING_SOURCE_H
#define SIPHON_RING_SOURCE_H

#include <string>

#include "../src/ring.h"
#include "../src/ring_file.h"

namespace siphon {

class RingSource
{
public:
	/* Takes the lock. Fatal if another publisher has it, or the directory is not to be used. */
	RingSource(const std::string &directory, const std::string &application);
	~RingSource();
	RingSource(const RingSource &) = delete;
	RingSource &operator=(const RingSource &) = delete;

	/* False: there is no ring yet. Fatal: there is one that can't be used. */
	bool attach();
	bool attached() const { return mapping_.memory != nullptr; }
	void detach();
	/* The decoder has made another ring, or the application was dropped. */
	bool replaced() const { return ring_file_replaced(&mapping_); }

	/* Only while attached. */
	RingReader &reader() { return reader_; }
	const RingReader &reader() const { return reader_; }
	/* Tells the ring, and the decoder if it waits for it, how far JetStream has everything. */
	void ack(uint64_t position);
	/* Says that the publisher lives. */
	void beat();

	/* Announces that the publisher sleeps until the bell rings. False: there is something to read. */
	bool sleep();
	void wake();
	/* To poll() for input, also while not attached. */
	int bell() const { return own_bell_; }
	void drain_bell();

	/* Path of the ring's file, for messages. */
	std::string path() const;

private:
	void lock();
	void open_bells();
	void close_bells();

	std::string directory_;
	std::string application_;
	int lock_ = -1;
	int own_bell_ = -1;
	int decoder_bell_ = -1;
	RingMapping mapping_{nullptr, 0, -1};
	RingReader reader_;
};

} // namespace siphon

#endif
