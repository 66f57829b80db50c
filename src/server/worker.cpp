/*
 * What all workers do while they wait: see worker.h.
 */
#include "worker.h"

#include "ring/ring_file.h"

static WorkerPollCallback poll_callback;
static WaitEventSet *wait_set;
static int doorbell = -1;

void
worker_init(WorkerPollCallback with)
{
	poll_callback = with;
}

void
worker_poll(TimestampTz now)
{
	poll_callback(now);
}

void
worker_watch_doorbell(int for_doorbell)
{
	doorbell = for_doorbell;
#if PG_VERSION_NUM >= 170000
	wait_set = CreateWaitEventSet(nullptr, 3);
#else
	wait_set = CreateWaitEventSet(TopMemoryContext, 3);
#endif
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, nullptr);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, nullptr, nullptr);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, doorbell, nullptr, nullptr);
}

void
worker_unwatch_doorbell(void)
{
	FreeWaitEventSet(wait_set);
	wait_set = nullptr;
}

static uint32
get_wait_event(WaitReason wait)
{
#if PG_VERSION_NUM >= 170000
	static const char *const names[] = {"SiphonDecoderMain", "SiphonRingSpace", "SiphonAcknowledgement",
										"SiphonSnapshot", "SiphonStandbys"};
	static uint32 events[5];
	int i = static_cast<int>(wait);

	if (events[i] == 0)
		events[i] = WaitEventExtensionNew(names[i]);
	return events[i];
#else
	(void) wait;
	return PG_WAIT_EXTENSION;
#endif
}

void
worker_wait(WaitReason wait, long timeout_ms)
{
	WaitEvent events[2];

	WaitEventSetWait(wait_set, timeout_ms, events, 2, get_wait_event(wait));
	ResetLatch(MyLatch);
	siphon::doorbell_drain(doorbell);
	CHECK_FOR_INTERRUPTS();
}
