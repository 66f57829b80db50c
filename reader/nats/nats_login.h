/*
 * How we log in to NATS and whom we take for it: TLS with a CA of one's own, a client certificate, a .creds file, an
 * NKey, user and password, or a token. The publisher, its check and siphon-tail share this. Files with credentials are
 * read again for each connection where the library can do that (.creds, NKey), so that they can be renewed meanwhile.
 */
#ifndef SIPHON_NATS_LOGIN_H
#define SIPHON_NATS_LOGIN_H

#include <string>
#include <vector>

#include <nats/nats.h>

#include "reader/stream_options.h"

namespace siphon {

/* Reads the files, and gives the library what is in them. Fatal(Usage) naming the option whose file is no good. */
void set_login(natsOptions *options, const NatsLogin &login, const std::string &url);

/* Lines about credentials that others can read, on this machine or on the way to NATS. */
std::vector<std::string> login_warnings(const NatsLogin &login, const std::string &url);

/* Why a connection could not be made. */
struct NatsFailure
{
	natsStatus status = NATS_OK;
	bool certificate = false; /* NATS sent a TLS alert instead of an answer */
	std::string why;          /* in the library's words */

	/* It is about who we are, or who NATS is. Whatever is not known to be that may pass by itself. */
	bool refusal() const;
};

/* nullptr with *failure where it fails. */
natsConnection *nats_connect(natsOptions *options, NatsFailure *failure);

/* What to do after a refusal, naming the option. */
std::string refusal_hint(const NatsFailure &failure, const NatsLogin &login, const std::string &url);
/* The line about it. */
std::string refusal_line(const NatsFailure &failure, const NatsLogin &login, const std::string &url);

} // namespace siphon

#endif
