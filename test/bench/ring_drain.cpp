/*
 * A publisher that publishes nothing: reads an application's rings as fast as it can, checks every frame, and
 * acknowledges it. It shows what the ways from WAL and from tables to the rings cost by themselves.
 *
 *   ring-drain RING_DIRECTORY APPLICATION
 *
 * Waits for rings, follows them to new ones when they are replaced, and ends when it is killed.
 */
#include "ring/ring.h"
#include "ring/ring_file.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <string>
#include <unistd.h>
#include <vector>

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
	siphon::doorbell_drain(bell);
}

struct Source
{
	std::string name;
	siphon::RingMapping mapping;
	siphon::RingReader reader;
	int bell; /* of the worker */
};

static const char *directory;
static const char *application;
static std::vector<Source *> sources;

/* Reads what there is, up to a share. True if there was something. */
static bool
drain(Source *source)
{
	siphon::Frame frame;

	for (int i = 0; i < 64; i++)
	{
		switch (source->reader.next(&frame))
		{
			case siphon::ReadResult::Empty:
				return i > 0;
			case siphon::ReadResult::Corrupt:
				fprintf(stderr, "ring-drain: %s is corrupt at %llu\n", source->name.c_str(),
						static_cast<unsigned long long>(source->reader.read_position()));
				exit(1);
			case siphon::ReadResult::Frame:
				source->reader.ack(frame.end);
				if (source->reader.clear_worker_asleep())
					siphon::doorbell_ring(source->bell);
		}
	}
	return true;
}

static void
found(void *, const char *ring)
{
	for (const Source *source : sources)
		if (source->name == ring)
			return;

	Source *source = new Source{ring, {nullptr, 0, -1}, {}, -1};
	uint32_t version;

	if (siphon::ring_file_open(directory, application, ring, &source->mapping) == 0 &&
		source->reader.attach(source->mapping.memory, source->mapping.size, &version) == siphon::AttachResult::Ok &&
		siphon::doorbell_open(directory, application, (source->name + ".bell").c_str(), &source->bell) == 0)
	{
		source->reader.set_publisher(static_cast<uint32_t>(getpid()));
		sources.push_back(source);
		return;
	}
	siphon::ring_file_close(&source->mapping);
	delete source;
}

/* Leaves rings that are gone or replaced, and finds new ones. */
static void
look_around()
{
	for (size_t i = 0; i < sources.size();)
	{
		Source *source = sources[i];

		source->reader.heartbeat(now_us());
		std::string path = std::string(directory) + "/" + application + "/" + source->name + ".ring";

		if (!siphon::is_ring_file_replaced(path.c_str(), source->mapping.fd))
		{
			i++;
			continue;
		}
		siphon::ring_file_close(&source->mapping);
		close(source->bell);
		delete source;
		sources.erase(sources.begin() + static_cast<long>(i));
	}
	siphon::ring_file_list(directory, application, found, nullptr);
}

int
main(int argc, char **argv)
{
	uint64_t looked = 0;
	int bell;

	if (argc != 3)
	{
		fprintf(stderr, "usage: ring-drain RING_DIRECTORY APPLICATION\n");
		return 2;
	}
	directory = argv[1];
	application = argv[2];
	while (siphon::doorbell_open(directory, application, "publisher.bell", &bell) != 0)
		poll(nullptr, 0, 50);
	for (;;)
	{
		bool something = false;

		if (now_us() - looked > 10 * 1000)
		{
			looked = now_us();
			look_around();
		}
		for (Source *source : sources)
			something |= drain(source);
		if (something)
			continue;

		bool idle = true;

		for (Source *source : sources)
			source->reader.set_asleep(true);
		for (Source *source : sources)
			idle &= source->reader.written() == source->reader.read_position();
		if (idle)
			wait_for(bell, 100);
		for (Source *source : sources)
			source->reader.set_asleep(false);
	}
}
