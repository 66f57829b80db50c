/* See state_bucket.h. */
#include "state_bucket.h"

#include "exit_codes.h"
#include "log.h"

namespace siphon {

/* True: it has not worked, for a reason that time may mend. */
static bool
may_pass(natsStatus status)
{
	switch (status)
	{
		case NATS_TIMEOUT:
		case NATS_CONNECTION_DISCONNECTED:
		case NATS_CONNECTION_CLOSED:
		case NATS_NO_RESPONDERS:
		case NATS_NOT_YET_CONNECTED:
			return true;
		default:
			return false;
	}
}

bool
StateBucket::open(jsCtx *context, const nlohmann::json &stream_config, std::string *why)
{
	kvStore *store = nullptr;
	natsStatus status = js_KeyValue(&store, context, name_.c_str());

	if (status == NATS_NOT_FOUND)
	{
		kvConfig config;

		kvConfig_Init(&config);
		config.Bucket = name_.c_str();
		config.Description = "States of the tables of a Siphon application";
		config.History = 1;
		config.Replicas = stream_config.value("num_replicas", 1);
		config.StorageType = stream_config.value("storage", "file") == "memory" ? js_MemoryStorage : js_FileStorage;
		status = js_CreateKeyValue(&store, context, &config);
		if (status == NATS_OK)
			spdlog::info("made key-value bucket {}", name_);
	}
	store_.reset(store);
	if (status == NATS_OK)
		return true;
	if (!may_pass(status))
		throw Fatal(ExitCode::StreamRefused, "JetStream does not give key-value bucket " + name_ + ": " +
						natsStatus_GetText(status));
	*why = "key-value bucket " + name_ + " (" + natsStatus_GetText(status) + ")";
	return false;
}

std::optional<std::map<std::string, std::string>>
StateBucket::read(std::string *why)
{
	std::map<std::string, std::string> states;
	kvKeysList keys{};
	natsStatus status = kvStore_Keys(&keys, store_.get(), nullptr);

	for (int i = 0; status == NATS_OK && i < keys.Count; i++)
	{
		kvEntry *entry = nullptr;

		status = kvStore_Get(&entry, store_.get(), keys.Keys[i]);
		if (status == NATS_OK && kvEntry_ValueString(entry) != nullptr)
			states[keys.Keys[i]] = kvEntry_ValueString(entry);
		kvEntry_Destroy(entry);
		/* Deleted meanwhile. */
		if (status == NATS_NOT_FOUND)
			status = NATS_OK;
	}
	kvKeysList_Destroy(&keys);
	if (status == NATS_OK)
		return states;
	*why = "the states in key-value bucket " + name_ + " (" + natsStatus_GetText(status) + ")";
	return std::nullopt;
}

bool
StateBucket::write(const std::string &key, const std::string &value, std::string *why)
{
	uint64_t revision = 0;
	natsStatus status = kvStore_PutString(&revision, store_.get(), key.c_str(), value.c_str());

	if (status != NATS_OK)
		*why = "key-value bucket " + name_ + " to take a table's state (" + natsStatus_GetText(status) + ")";
	return status == NATS_OK;
}

} // namespace siphon
