/*
 * A connection to a nats-server and its JetStream, for benchmarks.
 */
#ifndef SIPHON_BENCH_NATS_SESSION_H
#define SIPHON_BENCH_NATS_SESSION_H

#include "reader/nats/nats_connection.h"

struct Session
{
	explicit Session(const char *url)
	{
		natsConnection *raw_connection = nullptr;
		jsCtx *raw_context = nullptr;

		siphon::nats_check(natsConnection_ConnectTo(&raw_connection, url), "connection");
		connection.reset(raw_connection);
		siphon::nats_check(natsConnection_JetStream(&raw_context, raw_connection, nullptr), "JetStream");
		context.reset(raw_context);
	}

	siphon::NatsPtr<natsConnection> connection;
	siphon::NatsPtr<jsCtx> context;
};

#endif
