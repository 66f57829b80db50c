/* See nats_connection.h. The callbacks run on threads of nats.c, one at a time. */
#include "nats_connection.h"

#include <vector>

#include "config.h"
#include "exit_codes.h"
#include "log.h"

namespace siphon {

static constexpr int64_t kConnectTimeoutMs = 2000;
static constexpr int64_t kReconnectWaitMs = 500;
static constexpr int64_t kCloseTimeoutMs = 5000;
/* A server that does not answer two pings is gone; one that does not read for the deadline too. */
static constexpr int64_t kPingIntervalMs = 5000;
static constexpr int kMaxPingsOut = 2;
static constexpr int64_t kWriteDeadlineMs = 5000;

void
nats_finish()
{
	nats_CloseAndWait(kCloseTimeoutMs);
	/* Releases up to 3.10 free at the process's exit what OpenSSL frees too, but not while they are open. */
	nats_Open(-1);
}

void
nats_check(natsStatus status, const char *what)
{
	if (status == NATS_OK)
		return;

	throw Fatal(ExitCode::Unexpected, std::string(what) + ": " + natsStatus_GetText(status));
}

NatsPtr<natsOptions>
nats_options(const std::string &url, const NatsLogin &login, const std::string &client_name)
{
	natsOptions *raw = nullptr;

	nats_check(natsOptions_Create(&raw), "natsOptions_Create");

	NatsPtr<natsOptions> options(raw);
	std::vector<std::string> servers = parse_nats_url(url);
	std::vector<const char *> pointers;

	for (const std::string &server : servers)
		pointers.push_back(server.c_str());
	nats_check(natsOptions_SetServers(raw, pointers.data(), static_cast<int>(pointers.size())), "NATS URL");
	nats_check(natsOptions_SetName(raw, client_name.c_str()), "natsOptions_SetName");
	nats_check(natsOptions_SetTimeout(raw, kConnectTimeoutMs), "natsOptions_SetTimeout");
	nats_check(natsOptions_SetMaxReconnect(raw, -1), "natsOptions_SetMaxReconnect");
	nats_check(natsOptions_SetReconnectWait(raw, kReconnectWaitMs), "natsOptions_SetReconnectWait");
	nats_check(natsOptions_SetPingInterval(raw, kPingIntervalMs), "natsOptions_SetPingInterval");
	nats_check(natsOptions_SetMaxPingsOut(raw, kMaxPingsOut), "natsOptions_SetMaxPingsOut");
	nats_check(natsOptions_SetFailRequestsOnDisconnect(raw, true), "natsOptions_SetFailRequestsOnDisconnect");
	set_login(raw, login, url);
	return options;
}

/*
 * Tries by itself. The library's own way of trying again with the first connection gives up for good where a server takes
 * connections and says nothing, as one does that hangs.
 */
NatsConnection::NatsConnection(const std::string &url, const NatsLogin &login, const std::string &client_name, bool welcome,
							   Wakeup *wakeup, const std::atomic<int> *stop_requests)
	: url_(url), login_(login), servers_(nats_url_for_people(url)), wakeup_(wakeup)
{
	NatsPtr<natsOptions> options = nats_options(url, login, client_name);

	nats_check(natsOptions_SetWriteDeadline(options.get(), kWriteDeadlineMs), "natsOptions_SetWriteDeadline");
	nats_check(natsOptions_SetDisconnectedCB(options.get(), on_disconnected, this), "disconnect callback");
	nats_check(natsOptions_SetReconnectedCB(options.get(), on_connected, this), "reconnect callback");
	nats_check(natsOptions_SetClosedCB(options.get(), on_closed, this), "close callback");
	nats_check(natsOptions_SetErrorHandler(options.get(), on_error, this), "error callback");

	for (bool said = false;; said = true)
	{
		NatsFailure failure;

		connection_.reset(nats_connect(options.get(), &failure));
		if (connection_)
			break;
		if (!welcome && failure.refusal())
			throw Fatal(ExitCode::Usage, refusal_line(failure, login, url));
		if (!said && !welcome)
			spdlog::info("waiting for NATS at {} ({})", servers_, failure.why);
		if (stop_requests->load() > 0)
			throw Fatal(ExitCode::Clean, "stopped before NATS at " + servers_ + " had answered");
		nats_Sleep(kReconnectWaitMs);
	}
	on_connected(connection_.get(), this);
}

std::string
NatsConnection::new_inbox() const
{
	natsInbox *raw = nullptr;

	/* The library's begins with its own prefix, whatever the connection's is. */
	nats_check(natsInbox_Create(&raw), "inbox");

	std::string inbox(raw);

	natsInbox_Destroy(raw);
	return (login_.inbox_prefix.empty() ? "_INBOX" : login_.inbox_prefix) + inbox.substr(inbox.rfind('.'));
}

NatsConnection::~NatsConnection()
{
	closing_.store(true);
}

bool
NatsConnection::ready()
{
	if (gave_up_.load())
	{
		std::lock_guard<std::mutex> guard(mutex_);

		throw Unwelcome(refusal_line(closed_, login_, url_));
	}
	return natsConnection_Status(connection_.get()) == NATS_CONN_STATUS_CONNECTED;
}

void
NatsConnection::on_connected(natsConnection *, void *self)
{
	NatsConnection *connection = static_cast<NatsConnection *>(self);

	spdlog::info("connected to NATS at {}", connection->servers_);
	{
		std::lock_guard<std::mutex> guard(connection->mutex_);

		connection->last_error_ = NATS_OK;
	}
	connection->wakeup_->notify();
}

void
NatsConnection::on_disconnected(natsConnection *, void *self)
{
	NatsConnection *connection = static_cast<NatsConnection *>(self);

	connection->interruptions_.fetch_add(1);
	if (!connection->closing_.load())
		spdlog::warn("lost the connection to NATS at {}; publishing pauses until it is back", connection->servers_);
	connection->wakeup_->notify();
}

void
NatsConnection::on_closed(natsConnection *nats, void *self)
{
	NatsConnection *connection = static_cast<NatsConnection *>(self);

	if (connection->closing_.load())
		return;

	const char *error = nullptr;
	natsStatus status = natsConnection_GetLastError(nats, &error);
	{
		std::lock_guard<std::mutex> guard(connection->mutex_);

		connection->closed_.status = status;
		connection->closed_.why = error != nullptr && error[0] != '\0' ? error : natsStatus_GetText(status);
	}
	connection->gave_up_.store(true);
	connection->wakeup_->notify();
}

void
NatsConnection::on_error(natsConnection *nats, natsSubscription *, natsStatus status, void *self)
{
	NatsConnection *connection = static_cast<NatsConnection *>(self);
	const char *error = nullptr;

	natsConnection_GetLastError(nats, &error);

	/* The same one again and again is one line. */
	std::lock_guard<std::mutex> guard(connection->mutex_);

	if (status != connection->last_error_)
		spdlog::warn("NATS at {}: {}", connection->servers_,
					 error != nullptr && error[0] != '\0' ? error : natsStatus_GetText(status));
	connection->last_error_ = status;
}

} // namespace siphon
