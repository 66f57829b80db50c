/*
 * The applications in shared memory: see shmem.h. A fixed array, so that it never grows, made at server start.
 */
#include "shmem.h"

SharedState *siphon_shared = nullptr;

static Size
shmem_size(void)
{
	return add_size(offsetof(SharedState, apps), mul_size(siphon_max_applications, sizeof(SharedApplication)));
}

void
shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche("siphon", 1 + kRegistryShares);
}

void
shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	siphon_shared = static_cast<SharedState *>(ShmemInitStruct("siphon", shmem_size(), &found));
	if (!found)
	{
		LWLockPadded *locks = GetNamedLWLockTranche("siphon");

		memset(siphon_shared, 0, shmem_size());
		for (auto &count : siphon_shared->registry_writes)
			pg_atomic_init_u64(&count, 0);
		siphon_shared->lock = &locks[0].lock;
		for (int i = 0; i < kRegistryShares; i++)
			siphon_shared->registry_locks[i] = &locks[1 + i].lock;
		pg_atomic_init_u32(&siphon_shared->last_generation, 0);
		for (int i = 0; i < siphon_max_applications; i++)
		{
			SharedApplication *app = &siphon_shared->apps[i];

			ConditionVariableInit(&app->changed);
			pg_atomic_init_u64(&app->registry_wanted, 0);
			pg_atomic_init_u64(&app->mirrored, 0);
			for (auto &metric : app->metrics)
				pg_atomic_init_u64(&metric, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

const char *
app_state_name(AppState state)
{
	switch (state)
	{
		case AppState::Starting:
			return "starting";
		case AppState::Streaming:
			return "streaming";
		case AppState::Restarting:
			return "restarting";
		case AppState::NoWorker:
			return "no worker";
		case AppState::Standby:
			return "standby";
		case AppState::Failed:
			return "failed";
		case AppState::Stopped:
			return "stopped";
		case AppState::GivenUp:
			return "given up";
	}
	return "unknown";
}

SharedApplication *
shmem_find_application(const char *name)
{
	for (int i = 0; i < siphon_max_applications; i++)
	{
		SharedApplication *app = &siphon_shared->apps[i];

		if (app->in_use && strcmp(app->name, name) == 0)
			return app;
	}
	return nullptr;
}

SharedApplication *
shmem_find_or_add_application(const char *name, Oid database)
{
	SharedApplication *app = shmem_find_application(name);

	if (app)
	{
		if (OidIsValid(database))
			app->database = database;
		return app;
	}
	for (int i = 0; i < siphon_max_applications; i++)
	{
		app = &siphon_shared->apps[i];
		if (app->in_use || app->decoder_pid != 0 || app->follower_pid != 0)
			continue;
		app->in_use = true;
		strlcpy(app->name, name, sizeof(app->name));
		app->database = database;
		app->state = AppState::Starting;
		app->reason[0] = app->hint[0] = app->follower_error[0] = '\0';
		app->incarnation = ++siphon_shared->incarnations;
		app->stop = app->giving_up = false;
		app->decoder_latch = nullptr;
		app->decoder_started = 0;
		app->failed_table = InvalidOid;
		pg_atomic_write_u64(&app->registry_wanted, 1);
		app->registry_loaded = 0;
		pg_atomic_write_u64(&app->mirrored, 0);
		for (auto &metric : app->metrics)
			pg_atomic_write_u64(&metric, 0);
		return app;
	}
	return nullptr;
}

void
shmem_remove_application(SharedApplication *app)
{
	app->in_use = false;
	app->name[0] = '\0';
	ConditionVariableBroadcast(&app->changed);
}

void
copy_text(char *out, const char *text, size_t size)
{
	/* The launcher is in no database; most are UTF-8. */
	int encoding = OidIsValid(MyDatabaseId) ? GetDatabaseEncoding() : PG_UTF8;
	int length;

	if (text == nullptr)
		text = "";
	length = static_cast<int>(strlen(text));
	/* Of what is no text of the encoding, it may say more than there is. */
	length = Min(length, pg_encoding_mbcliplen(encoding, text, length, static_cast<int>(size) - 1));
	memcpy(out, text, static_cast<size_t>(length));
	out[length] = '\0';
}

void
set_application_state(SharedApplication *app, AppState state, const char *reason, const char *hint)
{
	LWLockAcquire(siphon_shared->lock, LW_EXCLUSIVE);
	app->state = state;
	copy_text(app->reason, reason, sizeof(app->reason));
	copy_text(app->hint, hint, sizeof(app->hint));
	LWLockRelease(siphon_shared->lock);
	ConditionVariableBroadcast(&app->changed);
}

void
wake_launcher(void)
{
	LWLockAcquire(siphon_shared->lock, LW_SHARED);
	if (siphon_shared->launcher_latch)
		SetLatch(siphon_shared->launcher_latch);
	LWLockRelease(siphon_shared->lock);
}
