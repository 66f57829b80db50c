/*
 * The application's key-value bucket, which consumers can read with any NATS client. It has the name, the replicas and
 * the storage of the stream.
 */
#ifndef SIPHON_STREAM_JETSTREAM_STATES_H
#define SIPHON_STREAM_JETSTREAM_STATES_H

#include <memory>
#include <set>
#include <string>

#include "publisher/stream/jetstream/jetstream_log.h"
#include "publisher/stream/state_store.h"

namespace siphon {

class JetStreamStates : public StateStore
{
public:
	/* `log`: the stream beside it, like which it is made. */
	JetStreamStates(const std::string &bucket, NatsConnection *connection, Requests *requests, Wakeup *wakeup,
					const JetStreamLog *log);

	std::optional<std::map<std::string, std::string>> load(std::string *why) override;
	bool get(const std::string &key, bool adopt, std::optional<std::string> *value, std::string *why) override;
	bool put(const std::string &key, const std::string &value, std::string *why) override;
	bool renew(const std::string &key, const std::string &value, std::string *why) override;
	bool erase(const std::string &key, std::string *why) override;
	bool erase_tables(std::string *why) override;
	uint64_t answers() const override { return requests_.answers(); }

private:
	/* What this process saw of a key last. */
	struct Seen
	{
		uint64_t revision = 0; /* 0: there is none */
		uint64_t value = 0;    /* hash; 0: there is none */
	};

	bool make(std::string *why);
	bool settle_conflict(const std::string &key, uint64_t wanted, std::string *why);
	bool write(const std::string &key, const std::string &value, const char *operation, bool again, std::string *why);
	std::optional<ApiReply> last(const std::string &key);
	std::string subject(const std::string &key) const { return "$KV." + bucket_ + "." + key; }
	/* Where JetStream is elsewhere, what is written goes there by the prefix of its API, as all clients do it. */
	std::string write_subject(const std::string &key) const
	{
		return (requests_.api_prefix() == "$JS.API." ? "" : requests_.api_prefix()) + subject(key);
	}
	bool not_yet(const std::optional<ApiReply> &reply, const std::string &what, std::string *why) const;

	const std::string bucket_;
	const std::string stream_; /* that JetStream keeps the bucket in */
	NatsConnection &connection_;
	Requests &requests_;
	Wakeup *wakeup_;
	const JetStreamLog &log_;
	bool open_ = false; /* it is there */
	std::map<std::string, Seen, std::less<>> seen_;
	std::map<std::string, std::set<uint64_t>> tried_; /* values whose writing has no certain end yet, by key */
	std::set<std::string> conflicts_;                 /* keys of which a write was refused */

	/* While load() reads. */
	std::unique_ptr<LogReader> reader_;
	Place loading_ = kNoPlace; /* the bucket's last message */
	std::vector<StoredMessage> read_;
};

} // namespace siphon

#endif
