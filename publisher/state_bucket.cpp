/* See state_bucket.h. */
#include "state_bucket.h"

#include "exit_codes.h"
#include "jetstream_api.h"
#include "log.h"
#include "nats_connection.h"
#include "table_state.h"

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
StateBucket::open(natsConnection *connection, jsCtx *context, const nlohmann::json &stream_config, std::string *why)
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
	connection_ = connection;
	context_ = context;
	if (status == NATS_OK)
		return true;
	if (!may_pass(status))
		throw Fatal(ExitCode::StreamRefused,
					"JetStream does not give key-value bucket " + name_ + ": " + natsStatus_GetText(status));
	*why = "key-value bucket " + name_ + " (" + natsStatus_GetText(status) + ")";
	return false;
}

/*
 * Reading by key asks the leader of the bucket's stream, which knows what was written last; the library's own way may
 * ask a replica that lags behind.
 */
bool
StateBucket::read_one(const std::string &key, std::optional<std::string> *value, std::string *why)
{
	natsMsg *raw = nullptr;
	jsErrCode error = static_cast<jsErrCode>(0);
	natsStatus status =
		js_GetLastMsg(&raw, context_, ("KV_" + name_).c_str(), ("$KV." + name_ + "." + key).c_str(), nullptr, &error);
	NatsPtr<natsMsg> message(raw);
	const char *operation = nullptr;

	value->reset();
	if (status == NATS_NOT_FOUND || static_cast<int>(error) == kErrorNoMessage)
		return true;
	if (status != NATS_OK)
	{
		*why = "key " + key + " in key-value bucket " + name_ + " (" + natsStatus_GetText(status) + ")";
		return false;
	}
	/* A mark that the key was deleted. */
	if (natsMsgHeader_Get(raw, "KV-Operation", &operation) != NATS_OK)
		value->emplace(natsMsg_GetData(raw), static_cast<size_t>(natsMsg_GetDataLength(raw)));
	return true;
}

/* Those that were erased too, as there is a mark in their place. */
std::optional<std::vector<std::string>>
StateBucket::keys(std::string *why)
{
	std::string root = "$KV." + name_ + ".";
	ApiReply reply = jetstream_request(connection_, "STREAM.INFO.KV_" + name_, {{"subjects_filter", root + ">"}});
	std::vector<std::string> keys;

	if (!reply.ok())
	{
		*why = "the states in key-value bucket " + name_ + " (" + reply.error + ")";
		return std::nullopt;
	}

	const nlohmann::json subjects = reply.content["state"].value("subjects", nlohmann::json::object());

	for (const auto &[subject, count] : subjects.items())
		keys.push_back(subject.substr(root.size()));
	return keys;
}

std::optional<std::map<std::string, std::string>>
StateBucket::read(std::string *why)
{
	std::optional<std::vector<std::string>> all = keys(why);
	std::map<std::string, std::string> states;

	if (!all)
		return std::nullopt;
	for (const std::string &key : *all)
	{
		std::optional<std::string> value;

		if (!is_state_key(key))
			continue;
		if (!read_one(key, &value, why))
			return std::nullopt;
		if (value)
			states[key] = *value;
	}
	return states;
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

bool
StateBucket::erase(const std::string &key, std::string *why)
{
	natsStatus status = kvStore_Delete(store_.get(), key.c_str());

	if (status != NATS_OK)
		*why = "key-value bucket " + name_ + " to let go of key " + key + " (" + natsStatus_GetText(status) + ")";
	return status == NATS_OK;
}

bool
StateBucket::erase_tables(std::string *why)
{
	std::optional<std::vector<std::string>> all = keys(why);

	if (!all)
		return false;
	for (const std::string &key : *all)
	{
		if (is_table_key(key) && !erase(key, why))
			return false;
	}
	return true;
}

} // namespace siphon
