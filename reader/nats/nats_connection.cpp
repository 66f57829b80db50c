/* See nats_connection.h. The callbacks run on threads of nats.c, one at a time. */
#include "reader/nats/nats_connection.h"

#include <chrono>
#include <future>
#include <thread>
#include <unistd.h>
#include <vector>

#include "program/exit_codes.h"
#include "program/log.h"

namespace siphon {

static constexpr int64_t kConnectTimeoutMs = 2000;
static constexpr int64_t kReconnectWaitMs = 500;
static constexpr int64_t kCloseTimeoutMs = 5000;
/* A server that does not answer two pings is gone; one that does not read for the deadline too. */
static constexpr int64_t kPingIntervalMs = 5000;
static constexpr int kMaxPingsOut = 2;
static constexpr int64_t kWriteDeadlineMs = 5000;
/* How soon a request to stop is heard while the library tries to connect. */
static constexpr std::chrono::milliseconds kStopLook{100};
/* Certificates are read when we connect, and not when the library does so again: they may be new ones by then. */
static constexpr std::chrono::seconds kCertificatesOld{60};

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
	/* Else it keeps what is written meanwhile, and sends it when another publisher may long be at work. */
	nats_check(natsOptions_SetReconnectBufSize(raw, 0), "natsOptions_SetReconnectBufSize");
	set_login(raw, login, url);
	return options;
}

/* One try to connect. The library asks for names and handshakes as long as these take. */
struct ConnectAttempt
{
	NatsPtr<natsOptions> options;
	NatsFailure failure;
	NatsPtr<natsConnection> connection;
};

/*
 * On a thread of its own. nullptr: we are to stop, and the thread is left where it is, which it can be as the process
 * is about to end.
 */
static std::unique_ptr<ConnectAttempt>
attempt_to_connect(NatsPtr<natsOptions> options, const std::atomic<int> *stop_requests)
{
	std::promise<std::unique_ptr<ConnectAttempt>> promise;
	std::future<std::unique_ptr<ConnectAttempt>> result = promise.get_future();
	std::thread thread([promise = std::move(promise), options = std::move(options)]() mutable {
		auto attempt = std::make_unique<ConnectAttempt>();

		attempt->options = std::move(options);
		attempt->connection.reset(nats_connect(attempt->options.get(), &attempt->failure));
		nats_ReleaseThreadMemory();
		promise.set_value(std::move(attempt));
	});

	while (result.wait_for(kStopLook) != std::future_status::ready)
	{
		if (stop_requests->load() > 0)
		{
			thread.detach();
			return nullptr;
		}
	}
	thread.join();
	return result.get();
}

NatsPtr<natsOptions>
NatsConnection::options(const std::string &client_name)
{
	NatsPtr<natsOptions> options = nats_options(url_, login_, client_name);

	nats_check(natsOptions_SetWriteDeadline(options.get(), kWriteDeadlineMs), "natsOptions_SetWriteDeadline");
	nats_check(natsOptions_SetDisconnectedCB(options.get(), on_disconnected, this), "disconnect callback");
	nats_check(natsOptions_SetReconnectedCB(options.get(), on_connected, this), "reconnect callback");
	nats_check(natsOptions_SetClosedCB(options.get(), on_closed, this), "close callback");
	nats_check(natsOptions_SetErrorHandler(options.get(), on_error, this), "error callback");
	return options;
}

/*
 * Tries by itself. The library's own way of trying again with the first connection gives up for good where a server
 * takes connections and says nothing, as one does that hangs; and files with credentials are read for each try.
 */
NatsConnection::NatsConnection(const std::string &url, const NatsLogin &login, const std::string &client_name,
							   bool welcome, Wakeup *wakeup, const std::atomic<int> *stop_requests)
	: url_(url), login_(login), servers_(redact_nats_url(url)), wakeup_(wakeup)
{
	std::string said;

	for (;;)
	{
		std::string why;

		try
		{
			std::unique_ptr<ConnectAttempt> attempt = attempt_to_connect(options(client_name), stop_requests);

			if (!attempt)
			{
				spdlog::info("stopped before NATS at {} answered", servers_);
				spdlog::shutdown();
				_exit(static_cast<int>(ExitCode::Clean));
			}
			connection_ = std::move(attempt->connection);
			if (connection_)
				break;
			if (!welcome && attempt->failure.refusal())
				throw Fatal(ExitCode::Usage, refusal_line(attempt->failure, login, url));
			why = attempt->failure.why;
		}
		catch (const Fatal &fatal)
		{
			/* Files that are just renewed. */
			if (!welcome)
				throw;
			why = fatal.what();
		}
		/* Of one that had let us in, and shut its door, there is a line already. */
		if (said.empty() && !welcome)
			spdlog::info("waiting for NATS at {} ({})", servers_, why);
		else if (!said.empty() && why != said)
			spdlog::info("still waiting for NATS at {} ({})", servers_, why);
		said = why;
		for (int64_t slept = 0; slept < kReconnectWaitMs && stop_requests->load() == 0; slept += kStopLook.count())
			nats_Sleep(kStopLook.count());
		if (stop_requests->load() > 0)
			throw Fatal(ExitCode::Clean, "stopped before NATS at " + servers_ + " answered");
	}
	if (!welcome)
		for (const std::string &warning : login_warnings(login, url))
			spdlog::warn("{}", warning);
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

		throw LoginRefused(refusal_line(closed_, login_, url_));
	}
	if (natsConnection_Status(connection_.get()) == NATS_CONN_STATUS_CONNECTED)
	{
		connected_at_ = Clock::now();
		return true;
	}
	if (!(login_.ca.empty() && login_.certificate.empty()) && Clock::now() - connected_at_ > kCertificatesOld)
		throw LoginRefused("NATS at " + servers_ + " did not let us in for " +
						   std::to_string(kCertificatesOld.count()) +
						   " s: reads the files of --nats-ca and --nats-cert again");
	return false;
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
		spdlog::warn("disconnected from NATS at {}; publishing is paused", connection->servers_);
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
