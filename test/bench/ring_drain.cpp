/*
 * A publisher that publishes nothing: reads a ring as fast as it can, checks every frame, and acknowledges it. It
 * shows what the way from WAL to ring costs by itself.
 *
 *   ring-drain RING_DIRECTORY APPLICATION
 *
 * Waits for the ring, follows it to a new one when it is replaced, and ends when it is killed.
 */
#include "ring.h"
#include "ring_file.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <unistd.h>

static uint64_t
now_us()
{
	using namespace std::chrono;
	return static_cast<uint64_t>(duration_cast<microseconds>(system_clock::now().time_since_epoch()).count());
}

static void
wait_for(int bell, int timeout_ms)
{
	pollfd fd{bell, POLLIN, 0};

	poll(&fd, 1, timeout_ms);
	siphon::bell_drain(bell);
}

/* Reads until the ring is replaced. */
static void
drain(siphon::RingReader *reader, const siphon::RingMapping *mapping, int bell, int decoder_bell)
{
	siphon::Frame frame;
	uint64_t beat = 0;

	for (;;)
	{
		siphon::ReadResult result = reader->next(&frame);

		if (now_us() - beat > 500 * 1000)
		{
			beat = now_us();
			reader->heartbeat(beat);
		}
		if (result == siphon::ReadResult::Corrupt)
		{
			fprintf(stderr, "ring-drain: corrupt frame at %llu\n",
					static_cast<unsigned long long>(reader->read_position()));
			exit(1);
		}
		if (result == siphon::ReadResult::Frame)
		{
			reader->ack(frame.end);
			if (reader->worker_sleeps())
				siphon::bell_ring(decoder_bell);
			continue;
		}
		if (siphon::ring_file_replaced(mapping))
			return;
		reader->set_asleep(true);
		if (reader->written() == reader->read_position())
			wait_for(bell, 100);
		reader->set_asleep(false);
	}
}

int
main(int argc, char **argv)
{
	int bell;
	int decoder_bell;

	if (argc != 3)
	{
		fprintf(stderr, "usage: ring-drain RING_DIRECTORY APPLICATION\n");
		return 2;
	}
	while (siphon::bell_open(argv[1], argv[2], "publisher.bell", &bell) != 0 ||
		   siphon::bell_open(argv[1], argv[2], "decoder.bell", &decoder_bell) != 0)
		poll(nullptr, 0, 50);
	for (;;)
	{
		siphon::RingMapping mapping;
		siphon::RingReader reader;
		uint32_t version;

		if (siphon::ring_file_open(argv[1], argv[2], &mapping) != 0)
		{
			wait_for(bell, 100);
			continue;
		}
		if (reader.attach(mapping.memory, mapping.size, &version) == siphon::AttachResult::Ok)
		{
			reader.set_publisher(static_cast<uint32_t>(getpid()));
			drain(&reader, &mapping, bell, decoder_bell);
		}
		siphon::ring_file_close(&mapping);
	}
}
