/*
 * The publisher's end of one ring: attached as long as this lives, with the bell of its worker.
 */
#ifndef SIPHON_ATTACHED_RING_H
#define SIPHON_ATTACHED_RING_H

#include <algorithm>
#include <memory>
#include <string>

#include "publisher/source/ring_directory.h"
#include "ring/ring.h"
#include "ring/ring_file.h"

namespace siphon {

/* The ring of the application's decoder. All others are of snapshots. */
constexpr const char kDecoderRing[] = "decoder";

class AttachedRing
{
public:
	/* nullptr: the ring is not there (yet, or any more). Fatal: it can't be used. */
	static std::unique_ptr<AttachedRing> attach(const RingDirectory &directory, const std::string &ring);
	~AttachedRing();
	AttachedRing(const AttachedRing &) = delete;
	AttachedRing &operator=(const AttachedRing &) = delete;

	/* The worker has made another ring, or taken this one away. */
	bool replaced() const { return is_ring_file_replaced(path_.c_str(), mapping_.fd); }

	RingReader &reader() { return reader_; }
	const RingReader &reader() const { return reader_; }
	/* Tells the ring, and the worker if it waits for it, how far JetStream has everything. */
	void ack(uint64_t position);
	/* Asks the worker for another ring, as this one is damaged. */
	void refuse();
	/* Bytes that are written and not acknowledged; whoever damages the ring can't make it more than there is room for. */
	uint64_t used() const { return std::min(reader_.written() - reader_.acked(), reader_.capacity()); }
	/* Says that the publisher lives. */
	void send_heartbeat();

	/* Announces that the publisher sleeps until the bell rings. False: there is something to read. */
	bool sleep();
	void wake();

	/* Path of the ring's file, for messages. */
	const std::string &path() const { return path_; }
	static std::string path_of(const RingDirectory &directory, const std::string &ring);

private:
	AttachedRing() = default;
	bool map(const RingDirectory &directory, const std::string &ring);

	std::string path_;
	int worker_bell_ = -1;
	RingMapping mapping_{nullptr, 0, -1};
	RingReader reader_;
	bool refused_ = false; /* it is damaged */
};

} // namespace siphon

#endif
