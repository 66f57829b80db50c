/*
 * The connection to NATS: waited for at first, made again in the background for ever when it breaks, and one line in
 * the log for each change of its state. One per process. What is sent while it is broken may be lost; interruptions()
 * tells.
 */
#ifndef SIPHON_NATS_CONNECTION_H
#define SIPHON_NATS_CONNECTION_H

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include <nats/nats.h>

#include "wakeup.h"

namespace siphon {

struct NatsDeleter
{
	void operator()(natsConnection *connection) const { natsConnection_Destroy(connection); }
	void operator()(natsSubscription *subscription) const { natsSubscription_Destroy(subscription); }
	void operator()(natsOptions *options) const { natsOptions_Destroy(options); }
	void operator()(natsMsg *message) const { natsMsg_Destroy(message); }
	void operator()(jsCtx *context) const { jsCtx_Destroy(context); }
};
template <typename T> using NatsPtr = std::unique_ptr<T, NatsDeleter>;

/* Options with the servers of a list as parse_nats_url() takes it, and a name for the server's own views. */
NatsPtr<natsOptions> nats_options(const std::string &url, const std::string &client_name);

/* Fatal(Unexpected), as "what: status", unless status is NATS_OK. */
void nats_check(natsStatus status, const char *what);

constexpr int64_t kNatsCloseTimeoutMs = 5000;

class NatsConnection
{
public:
	/*
	 * Connects, waiting for a server as long as it takes, or for a request to stop: Fatal(Clean). After that, wakeup is
	 * notified of every change.
	 */
	NatsConnection(const std::string &url, const std::string &client_name, Wakeup *wakeup,
				   const std::atomic<int> *stop_requests);
	~NatsConnection();
	NatsConnection(const NatsConnection &) = delete;
	NatsConnection &operator=(const NatsConnection &) = delete;

	/* Connected now. Fatal if the library has given up, which it does over refused credentials. */
	bool ready();
	/* Connections lost so far. */
	uint64_t interruptions() const { return interruptions_.load(); }
	/* Host and port of the configured servers. */
	const std::string &servers() const { return servers_; }

	natsConnection *get() { return connection_.get(); }

private:
	static void on_connected(natsConnection *, void *self);
	static void on_disconnected(natsConnection *, void *self);
	static void on_closed(natsConnection *, void *self);
	static void on_error(natsConnection *, natsSubscription *, natsStatus status, void *self);

	std::string servers_;
	Wakeup *wakeup_;
	std::atomic<uint64_t> interruptions_{0};
	std::atomic<bool> closing_{false};
	std::atomic<bool> closed_{false};
	std::mutex mutex_;
	std::string closed_why_;
	natsStatus last_error_ = NATS_OK;
	/* Destroyed behind the connection and in front of all the above: waits for the library's threads. */
	struct Library
	{
		~Library() { nats_CloseAndWait(kNatsCloseTimeoutMs); }
	} library_;
	NatsPtr<natsConnection> connection_;
};

} // namespace siphon

#endif
