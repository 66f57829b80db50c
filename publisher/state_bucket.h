/*
 * The application's key-value bucket: the states of tables that have snapshots, and who publishes what (see lineage.h);
 * durable, and readable for consumers with any NATS client. It has the name, the replicas and the storage of the stream.
 */
#ifndef SIPHON_STATE_BUCKET_H
#define SIPHON_STATE_BUCKET_H

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nats/nats.h>
#include <nlohmann/json.hpp>

namespace siphon {

class StateBucket
{
public:
	explicit StateBucket(const std::string &name) : name_(name) {}

	/* Binds to the bucket, and makes it if there is none. False with *why: not now. Fatal: JetStream won't. */
	bool open(natsConnection *connection, jsCtx *context, const nlohmann::json &stream_config, std::string *why);
	std::optional<std::map<std::string, std::string>> read(std::string *why);
	/* Of one key; *value is nullopt if there is none. False with *why: not now. */
	bool read_one(const std::string &key, std::optional<std::string> *value, std::string *why);
	/* True: it is durable, as durable as the bucket's storage is. */
	bool write(const std::string &key, const std::string &value, std::string *why);
	bool erase(const std::string &key, std::string *why);
	/* Erases all that is kept of tables. */
	bool erase_tables(std::string *why);

private:
	std::optional<std::vector<std::string>> keys(std::string *why);

	struct Deleter
	{
		void operator()(kvStore *store) const { kvStore_Destroy(store); }
	};

	std::string name_;
	natsConnection *connection_ = nullptr;
	jsCtx *context_ = nullptr;
	std::unique_ptr<kvStore, Deleter> store_;
};

} // namespace siphon

#endif
