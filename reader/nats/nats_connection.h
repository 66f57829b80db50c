/*
 * The connection to NATS: waited for at first, made again in the background for ever when it breaks, and one line in
 * the log for each change of its state. One per process. What is sent while it is broken may be lost; interruptions()
 * tells.
 */
#ifndef SIPHON_NATS_CONNECTION_H
#define SIPHON_NATS_CONNECTION_H

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

#include <nats/nats.h>

#include "program/wakeup.h"
#include "reader/nats/nats_login.h"

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

/*
 * Options with the servers of a list as parse_nats_url() takes it, how to log in there, and a name for the server's own
 * views.
 */
NatsPtr<natsOptions> nats_options(const std::string &url, const NatsLogin &login, const std::string &client_name);

/* Fatal(Unexpected), as "what: status", unless status is NATS_OK. */
void nats_check(natsStatus status, const char *what);

/* Behind the last connection: waits for the library's threads. */
void nats_finish();

/* NATS, which had let us in, does so no more: what its line says has to be mended, and another connection made. */
struct LoginRefused : std::runtime_error
{
	using std::runtime_error::runtime_error;
};

class NatsConnection
{
public:
	/*
	 * Connects, waiting for a server as long as it takes, or for a request to stop: Fatal(Clean). One that does not let us
	 * in is Fatal(Usage), unless `welcome`: it has let us in before, and may again. After that, wakeup is notified of every
	 * change.
	 */
	NatsConnection(const std::string &url, const NatsLogin &login, const std::string &client_name, bool welcome,
				   Wakeup *wakeup, const std::atomic<int> *stop_requests);
	~NatsConnection();
	NatsConnection(const NatsConnection &) = delete;
	NatsConnection &operator=(const NatsConnection &) = delete;

	/*
	 * Connected now. Throws LoginRefused if the library has given up, which it does over refused credentials, or has tried
	 * for long with certificates that may be out of date.
	 */
	bool ready();
	/* Connections lost so far. */
	uint64_t interruptions() const { return interruptions_.load(); }
	/* A subject for answers that nobody else has, without wildcard; it begins with the prefix that the login says. */
	std::string new_inbox() const;
	/* Host and port of the configured servers. */
	const std::string &servers() const { return servers_; }

	natsConnection *get() { return connection_.get(); }

private:
	using Clock = std::chrono::steady_clock;

	NatsPtr<natsOptions> options(const std::string &client_name);
	static void on_connected(natsConnection *, void *self);
	static void on_disconnected(natsConnection *, void *self);
	static void on_closed(natsConnection *, void *self);
	static void on_error(natsConnection *, natsSubscription *, natsStatus status, void *self);

	std::string url_;
	NatsLogin login_;
	std::string servers_;
	Clock::time_point connected_at_ = Clock::now(); /* when somebody last saw that it is */
	Wakeup *wakeup_;
	std::atomic<uint64_t> interruptions_{0};
	std::atomic<bool> closing_{false};
	std::atomic<bool> gave_up_{false};
	std::mutex mutex_;
	NatsFailure closed_;
	natsStatus last_error_ = NATS_OK;
	/* Destroyed behind the connection and in front of all the above: waits for the library's threads. */
	struct Library
	{
		~Library() { nats_finish(); }
	} library_;
	NatsPtr<natsConnection> connection_;
};

} // namespace siphon

#endif
