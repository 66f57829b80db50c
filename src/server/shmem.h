/*
 * The applications in shared memory, through which the launcher, the decoders and the SQL functions speak to each
 * other. It holds nothing durable, which is the registry's; it says who runs and how it goes.
 */
#ifndef SIPHON_SHMEM_H
#define SIPHON_SHMEM_H

#include "ring/ring.h"
#include "siphon.h"

constexpr int kReasonLength = 512;

enum class AppState : int {
	Starting,   /* the launcher will start, or is starting, the decoder */
	Streaming,  /* the decoder decodes */
	Restarting, /* the decoder failed and will be started again */
	NoWorker,   /* no background worker slot is free */
	Standby,    /* the primary publishes it, and this server may be the next: see registry_mirror.h */
	Failed,     /* can't go on before an operator acts: reason and hint say what */
	Stopped,    /* by siphon_stop_application() */
	GivenUp     /* its stream was ended, see wal_retention.h, and is not continued */
};

extern const char *app_state_name(AppState state);

/* What a decoder tells of itself, without a lock. */
enum class AppMetric : int {
	Decoded,      /* LSN up to which WAL was decoded */
	Confirmed,    /* LSN up to which everything was acknowledged */
	Transactions, /* decoded, with or without events */
	Events,       /* written to the ring, like the next two */
	Packages,
	Bytes,
	RingSize,
	RingUsed,
	PublisherPid,                                  /* as the publisher says, in its own pid namespace */
	PublisherSeen,                                 /* its last heartbeat, microseconds since 1970 */
	LastEvent,                                     /* commit time of the last event, TimestampTz */
	Restarts,                                      /* of the decoder, after failures */
	Operations,                                    /* of the events, those that frames count, by operation */
	Lag = Operations + siphon::kCountedOperations, /* microseconds, or kMetricUnknown; see RingMetric::LagTime */
	Warnings,                                      /* see RingMetric::Warnings */
	Durations,                                     /* of each RingDuration, how many and how many nanoseconds */
	Publisher = Durations + 2 * static_cast<int>(siphon::RingDuration::Count), /* a PublisherMetric each */
	Count = Publisher + static_cast<int>(siphon::PublisherMetric::Count)
};

constexpr AppMetric
operator+(AppMetric first, int i)
{
	return static_cast<AppMetric>(static_cast<int>(first) + i);
}

/* One application, in shared memory. Strings and state are guarded by siphon_shared->lock. */
struct SharedApplication
{
	bool in_use;
	char name[kApplicationLength];
	Oid database;
	AppState state;
	char reason[kReasonLength];
	char hint[kReasonLength];
	uint64 incarnation; /* differs for each use of this array element */
	pid_t decoder_pid;  /* 0: none */
	Latch *decoder_latch;
	pid_t follower_pid; /* likewise */
	Latch *follower_latch;
	char follower_error[kReasonLength]; /* of which the follower ended last; empty since one came through */
	bool stop;      /* being dropped or resynchronized, by a backend: none of its processes is to run */
	bool giving_up; /* likewise, by the launcher */
	TimestampTz decoder_started;
	Oid failed_table;                 /* because of which the decoder ended last, */
	XLogRecPtr failed_at;             /* in this place, */
	int failures;                     /* so many times in a row */
	pg_atomic_uint64 registry_wanted; /* version of the registry that the decoder should have loaded */
	uint64 registry_loaded;           /* version that it has */
	pg_atomic_uint64 mirrored;        /* version of the registry that a failover does not lose: see registry_mirror.h */
	ConditionVariable changed;        /* state, a pid or registry_loaded changed */

	pg_atomic_uint64 metrics[static_cast<int>(AppMetric::Count)];
};

/* Into so many are the applications divided by their names' hashes: more than there are applications, mostly. */
constexpr int kRegistryShares = 64;

struct SharedState
{
	LWLock *lock;                                      /* the fields of this struct and of the applications */
	Latch *launcher_latch;                             /* NULL: no launcher runs */
	LWLock *registry_locks[kRegistryShares];           /* see registry_lock() */
	pg_atomic_uint64 registry_writes[kRegistryShares]; /* see registry_get_write_counter() */
	uint64 incarnations;
	pg_atomic_uint32 last_generation; /* the greatest that any table was given since the server's start */
	SharedApplication apps[FLEXIBLE_ARRAY_MEMBER];
};

extern SharedState *siphon_shared;

extern void shmem_request(void);
extern void shmem_startup(void);

/* The application of that name, or NULL. Caller holds siphon_shared->lock. */
extern SharedApplication *shmem_find_application(const char *name);
/*
 * The same; makes it if there is room (lock held exclusively). NULL: all siphon.max_applications are in use. An invalid
 * database says that the caller does not know it.
 */
extern SharedApplication *shmem_find_or_add_application(const char *name, Oid database);
/* Forgets the application (lock held exclusively). */
extern void shmem_remove_application(SharedApplication *app);
/* Sets state, reason and hint (both may be NULL), and tells who waits. Takes the lock. */
extern void set_application_state(SharedApplication *app, AppState state, const char *reason, const char *hint);
extern void wake_launcher(void);

/* Copies what fits into `size` bytes of a text (NULL: none), without cutting a character in two. */
extern void copy_text(char *out, const char *text, size_t size);

static inline void
app_metric_set(SharedApplication *app, AppMetric metric, uint64 value)
{
	pg_atomic_write_u64(&app->metrics[static_cast<int>(metric)], value);
}

static inline uint64
app_metric_get(SharedApplication *app, AppMetric metric)
{
	return pg_atomic_read_u64(&app->metrics[static_cast<int>(metric)]);
}

/* Metrics have one writer, so this needs no atomic addition. */
static inline void
app_metric_add(SharedApplication *app, AppMetric metric, uint64 value)
{
	app_metric_set(app, metric, app_metric_get(app, metric) + value);
}

#endif
