/*
 * A worker's ring: see ring_producer.h.
 */
#include "ring_producer.h"

#include "ring/ring_fault.h"
#include "ring/ring_file.h"
#include "worker.h"

#include <fcntl.h>
#include <unistd.h>

using siphon::RingWriter;

/* The one of this process. */
struct RingProducer
{
	RingWriter writer;
	siphon::RingMapping mapping;
	char application[kApplicationLength];
	char ring_name[NAMEDATALEN];
	int lock_fd = -1;
	int own_doorbell = -1;
	int publisher_doorbell = -1;
	bool opened;
	uint64 waited_ns;          /* for space */
	TimestampTz files_checked; /* when we looked last whether they are there */
};

static RingProducer producer;

static constexpr long kWaitMs = 500;
static constexpr int64 kCheckInterval = USECS_PER_SEC / 2;
/* As much of another server's data directory as is shown. */
static constexpr int kLockOwnerLength = 256;

/* Says in our lock whose it is, for the one who finds it taken. If that fails he is told less. */
static void
write_lock_owner(void)
{
	if (ftruncate(producer.lock_fd, 0) != 0 || pwrite(producer.lock_fd, DataDir, strlen(DataDir), 0) < 0)
		ereport(DEBUG1, (errcode_for_file_access(), errmsg_internal("could not write into a ring's lock: %m")));
}

/* The data directory of the server that holds our ring's lock; "" if it does not say. */
static void
read_lock_owner(char *owner)
{
	char file[NAMEDATALEN + 8];
	char path[siphon::kRingPathMax];
	ssize_t length = 0;
	int fd;

	snprintf(file, sizeof(file), "%s.lock", producer.ring_name);
	fd = siphon::ring_path(path, siphon_ring_directory, producer.application, file)
			 ? open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC)
			 : -1;
	if (fd >= 0)
	{
		length = read(fd, owner, kLockOwnerLength - 1);
		close(fd);
	}
	owner[length > 0 ? length : 0] = '\0';
	/* Anything may be in there. */
	for (char *c = owner; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

[[noreturn]] static void
raise_in_use(void)
{
	char owner[kLockOwnerLength];

	read_lock_owner(owner);
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_IN_USE),
		 owner[0]
			 ? errmsg("the rings of application \"%s\" in \"%s\" are in use by the server with data directory \"%s\"",
					  producer.application, siphon_ring_directory, owner)
			 : errmsg("the rings of application \"%s\" in \"%s\" are in use by another server", producer.application,
					  siphon_ring_directory),
		 errhint("Give each server a directory of its own: ALTER SYSTEM SET siphon.ring_directory, then restart.")));
}

static void
raise_ring_error(int error, const char *what)
{
	errno = error;
	if (error == EWOULDBLOCK)
		raise_in_use();
	if (error == EPERM)
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("ring directory \"%s\" must be owned by the server user and not be writable by others", siphon_ring_directory),
			 siphon_ring_group[0] == '\0'
				 ? errhint("It must belong to the server's user and have mode 0700: chmod 700 \"%s\".",
						   siphon_ring_directory)
				 : errhint("It must be of group %s and nobody else's: chgrp -R %s \"%s\"; chmod -R o= \"%s\".",
						   siphon_ring_group, siphon_ring_group, siphon_ring_directory, siphon_ring_directory)));
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not %s in ring directory \"%s\": %m", what, siphon_ring_directory),
			 error == ENOSPC
				 ? errhint("Make the file system larger, or siphon.ring_size (now %d kB) smaller with ALTER SYSTEM.",
						   siphon_ring_size_kb)
				 : 0));
}

/* Without the group that was asked for, what is made would be for nobody whom it is for. */
static void
check_group(void)
{
	if (siphon_ring_group_error == ENOENT)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("group \"%s\" of siphon.ring_group does not exist", siphon_ring_group),
						errhint("ALTER SYSTEM SET siphon.ring_group, or groupadd \"%s\"; then restart the server.",
								siphon_ring_group)));
	if (siphon_ring_group_error != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the server's user is no member of group \"%s\" of siphon.ring_group", siphon_ring_group),
				 errhint("usermod --append --groups \"%s\" postgres, if that is the server's user; then restart the "
						 "server.",
						 siphon_ring_group)));
}

void
ring_producer_open(const char *for_application, const char *name, uint64 capacity, uint64 history)
{
	uint64 ring_id;
	char file[NAMEDATALEN + 8];
	int error;

	strlcpy(producer.application, for_application, sizeof(producer.application));
	strlcpy(producer.ring_name, name, sizeof(producer.ring_name));
	check_group();
	snprintf(file, sizeof(file), "%s.lock", name);
	error = siphon::ring_lock(siphon_ring_directory, producer.application, file, &producer.lock_fd);
	if (error)
		raise_ring_error(error, "take a ring's lock");
	write_lock_owner();
	snprintf(file, sizeof(file), "%s.bell", name);
	error = siphon::doorbell_open(siphon_ring_directory, producer.application, file, &producer.own_doorbell);
	if (error == 0)
		error = siphon::doorbell_open(siphon_ring_directory, producer.application, "publisher.bell",
									  &producer.publisher_doorbell);
	if (error)
		raise_ring_error(error, "open the bells");
	error = siphon::ring_file_create(siphon_ring_directory, producer.application, name,
									 siphon::ring_file_size(capacity), &producer.mapping);
	if (error)
		raise_ring_error(error, "create a ring");
	siphon::ring_fault_guard(producer.mapping.memory, producer.mapping.size);
	if (!pg_strong_random(&ring_id, sizeof(ring_id)))
		elog(ERROR, "could not generate a random ring ID");
	producer.writer.create(producer.mapping.memory, capacity, ring_id, producer.application,
						   static_cast<uint32>(MyProcPid), history);
	error = siphon::ring_file_publish(siphon_ring_directory, producer.application, name);
	if (error)
		raise_ring_error(error, "publish a ring");
	siphon::doorbell_ring(producer.publisher_doorbell);
	worker_watch_doorbell(producer.own_doorbell);
	producer.opened = true;
}

void
ring_producer_remove(void)
{
	int error;

	producer.writer.close();
	ring_producer_unlock();
	error = siphon::ring_file_remove(siphon_ring_directory, producer.application, producer.ring_name);
	if (error != 0 && error != EWOULDBLOCK)
		raise_ring_error(error, "remove a ring");
	siphon::doorbell_ring(producer.publisher_doorbell);
	worker_unwatch_doorbell();
	producer.opened = false;
	close(producer.own_doorbell);
	close(producer.publisher_doorbell);
	siphon::ring_fault_release(producer.mapping.memory);
	siphon::ring_file_close(&producer.mapping);
}

void
ring_producer_unlock(void)
{
	if (producer.opened)
	{
		producer.writer.set_metric(siphon::RingMetric::Ended, 1);
		siphon::doorbell_ring(producer.publisher_doorbell);
	}
	if (producer.lock_fd >= 0)
		close(producer.lock_fd);
	producer.lock_fd = -1;
}

static void
raise_truncated(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_IO_ERROR),
			 errmsg("the ring of application \"%s\" was truncated by another process", producer.application),
			 errhint("See who writes to \"%s\"; the worker starts again with a new ring.", siphon_ring_directory)));
}

/*
 * Without its files a ring is nobody's: a publisher does not find it, nothing wakes us, and another server may take its
 * name. So whichever is gone, all of them are made again.
 */
static void
check_files(void)
{
	struct
	{
		const char *ring;
		const char *ending;
		int fd;
	} files[] = {{producer.ring_name, "ring", producer.mapping.fd},
				 {producer.ring_name, "lock", producer.lock_fd},
				 {producer.ring_name, "bell", producer.own_doorbell},
				 {"publisher", "bell", producer.publisher_doorbell}};

	for (const auto &file : files)
	{
		char name[NAMEDATALEN + 8];
		char path[siphon::kRingPathMax];

		snprintf(name, sizeof(name), "%s.%s", file.ring, file.ending);
		if (!siphon::ring_path(path, siphon_ring_directory, producer.application, name) ||
			!siphon::is_ring_file_replaced(path, file.fd))
			continue;
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE), errmsg("\"%s\" was removed by another process", path),
						errhint("See who removes files from \"%s\"; the worker starts again with a new ring.",
								siphon_ring_directory)));
	}
}

/* The other side may do as it likes; what it did to the ring ends this worker, and its next start makes a new one. */
static void
check_ring(void)
{
	if (siphon::has_ring_fault())
		raise_truncated();
	if (producer.writer.refused())
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the publisher found the ring of application \"%s\" damaged", producer.application),
				 errhint("See who writes to \"%s\"; the worker starts again with a new ring.", siphon_ring_directory)));
	if (producer.writer.violations() > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("an impossible position was written into the ring of application \"%s\"", producer.application),
				 errhint("See who writes to \"%s\"; the worker starts again with a new ring.", siphon_ring_directory)));
}

uint64
ring_producer_get_acked(void)
{
	uint64 acked = producer.writer.acked();

	check_ring();
	return acked;
}

const siphon::Checkpoint *
ring_producer_get_checkpoint(void)
{
	return &producer.writer.checkpoint();
}

uint64
ring_producer_get_written(void)
{
	return producer.writer.written();
}

uint64
ring_producer_get_ring_id(void)
{
	return producer.writer.ring_id();
}

uint32
ring_producer_get_frame_size(void)
{
	return producer.writer.max_frame_payload() - siphon::kRouteMax;
}

void
ring_producer_send_heartbeat(TimestampTz now)
{
	if (now - producer.files_checked >= kCheckInterval)
	{
		producer.files_checked = now;
		/*
		 * A worker that waits for space touches nothing, and a publisher that met the end can't tell it by the mapping.
		 */
		if (siphon::is_ring_file_cut(&producer.mapping))
			raise_truncated();
		check_files();
	}
	producer.writer.heartbeat(static_cast<uint64>(unix_microseconds(now)));
}

uint32
ring_producer_get_publisher_pid(void)
{
	return producer.writer.publisher_pid();
}

uint64
ring_producer_get_publisher_heartbeat(void)
{
	return producer.writer.publisher_heartbeat();
}

uint64
ring_producer_get_publisher_metric(siphon::PublisherMetric metric)
{
	return producer.writer.publisher_metric(metric);
}

void
ring_producer_set_metric(siphon::RingMetric metric, uint64 value)
{
	producer.writer.set_metric(metric, value);
}

void
ring_producer_add_duration(siphon::RingDuration duration, uint64 ns)
{
	producer.writer.add_duration(duration, ns);
}

const siphon::DurationCounts *
ring_producer_get_durations(siphon::RingDuration duration)
{
	return &producer.writer.durations(duration);
}

uint64
ring_producer_get_time_waited(void)
{
	return producer.waited_ns;
}

static void
count_wait(uint64 since)
{
	uint64 wait = monotonic_nanoseconds() - since;

	producer.waited_ns += wait;
	producer.writer.add_duration(siphon::RingDuration::RingWait, wait);
}

bool
ring_producer_has_room(void)
{
	/* Two packages: one that is nearly full, and what comes behind it. */
	uint64 needed = 2 * uint64{producer.writer.max_frame_payload()};

	return producer.writer.capacity() - (producer.writer.written() - ring_producer_get_acked()) >= needed;
}

void
ring_producer_wait_for_room(void)
{
	uint64 since = monotonic_nanoseconds();

	if (ring_producer_has_room())
		return;
	while (!ring_producer_has_room())
	{
		producer.writer.set_asleep(true);
		if (!ring_producer_has_room())
			worker_wait(WaitReason::RingSpace, kWaitMs);
		producer.writer.set_asleep(false);
		worker_poll(GetCurrentTimestamp());
	}
	count_wait(since);
}

static int64
write_frame(const siphon::RecordInfo &info, const siphon::WireBuffer *payload, uint32 offset)
{
	uint32 length = static_cast<uint32>(payload->size);
	int64 written;
	uint64 full_since = 0;

	while ((written = producer.writer.write(info, payload->data, length, offset)) < 0)
	{
		if (written < -1)
			elog(ERROR, "a record does not keep the ring's rules");
		if (full_since == 0)
			full_since = monotonic_nanoseconds();
		/* Say that we sleep, look once more, and only then sleep: an ack in between rings the doorbell. */
		producer.writer.set_asleep(true);
		written = producer.writer.write(info, payload->data, length, offset);
		if (written < 0)
			worker_wait(WaitReason::RingSpace, kWaitMs);
		producer.writer.set_asleep(false);
		if (written >= 0)
			break;
		worker_poll(GetCurrentTimestamp());
		check_ring();
	}
	if (unlikely(full_since != 0))
		count_wait(full_since);
	if (producer.writer.clear_publisher_asleep())
		siphon::doorbell_ring(producer.publisher_doorbell);
	return written;
}

void
ring_producer_write(const siphon::RecordInfo &info, const siphon::WireBuffer *payload)
{
	size_t offset = 0;

	do
		offset += static_cast<size_t>(write_frame(info, payload, static_cast<uint32>(offset)));
	while (offset < payload->size);
	check_ring();
}

void
ring_producer_wait_for_acks(void)
{
	while (ring_producer_get_acked() < producer.writer.written())
	{
		producer.writer.set_asleep(true);
		if (ring_producer_get_acked() < producer.writer.written())
			worker_wait(WaitReason::Acknowledgement, kWaitMs);
		producer.writer.set_asleep(false);
		worker_poll(GetCurrentTimestamp());
	}
}
