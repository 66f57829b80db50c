/* What ends a program that can't connect, and what it waits for; and warnings of credentials that others can read. */
#include "program/exit_codes.h"
#include "publisher/source/ring_directory.h"
#include "reader/nats/nats_login.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

using namespace siphon;

namespace {

NatsFailure
failure(natsStatus status, const std::string &why, bool certificate = false)
{
	NatsFailure failure;

	failure.status = status;
	failure.why = why;
	failure.certificate = certificate;
	return failure;
}

TEST(NatsLogin, RefusalsAreAListAndTheRestMayPass)
{
	EXPECT_TRUE(failure(NATS_CONNECTION_AUTH_FAILED, "Authorization Violation").refusal());
	EXPECT_TRUE(failure(NATS_SECURE_CONNECTION_WANTED, "").refusal());
	EXPECT_TRUE(failure(NATS_SSL_ERROR, "SSL handshake error: certificate verify failed").refusal());
	EXPECT_TRUE(failure(NATS_SSL_ERROR, "SSL handshake error: hostname mismatch").refusal());
	EXPECT_TRUE(failure(NATS_IO_ERROR, "SSL_read error: tlsv13 alert certificate required", true).refusal());

	EXPECT_FALSE(failure(NATS_SSL_ERROR, "SSL handshake error: unexpected eof while reading").refusal());
	EXPECT_FALSE(failure(NATS_PROTOCOL_ERROR, "Expected 'PONG', got 'HTTP/1.1 503'").refusal());
	for (natsStatus status : {NATS_ERR, NATS_TIMEOUT, NATS_IO_ERROR, NATS_NO_SERVER, NATS_NO_MEMORY, NATS_SYS_ERROR,
							  NATS_CONNECTION_CLOSED, NATS_STALE_CONNECTION, NATS_INSUFFICIENT_BUFFER})
		EXPECT_FALSE(failure(status, "").refusal()) << natsStatus_GetText(status);
}

TEST(NatsLogin, WarnsOfFilesThatEverybodyCanRead)
{
	std::string path = ::testing::TempDir() + "siphon-secret-" + std::to_string(getpid());
	NatsLogin login;

	std::ofstream(path) << "hush\n";
	login.user = "siphon";
	login.password_file = path;
	for (mode_t mode : {0600, 0640, 0440, 0660})
	{
		chmod(path.c_str(), mode);
		EXPECT_TRUE(login_warnings(login, "tls://nats:4222").empty()) << std::oct << mode;
	}
	chmod(path.c_str(), 0644);
	ASSERT_EQ(login_warnings(login, "tls://nats:4222").size(), 1u);
	EXPECT_NE(login_warnings(login, "tls://nats:4222")[0].find(path), std::string::npos);
	EXPECT_EQ(login_warnings(login, "tls://nats:4222")[0].find("hush"), std::string::npos);
	/* No secret. */
	login.password_file = "";
	login.certificate = login.ca = path;
	EXPECT_TRUE(login_warnings(login, "tls://nats:4222").empty());
	std::remove(path.c_str());
	login.secrets_file = path;
	EXPECT_TRUE(login_warnings(login, "tls://nats:4222").empty());
}

TEST(NatsLogin, WarnsOfPasswordsWithoutTls)
{
	NatsLogin login;

	EXPECT_TRUE(login_warnings(login, "nats://nats:4222").empty());
	EXPECT_EQ(login_warnings(login, "nats://u:p@nats:4222").size(), 1u);
	EXPECT_EQ(login_warnings(login, "nats://u:p@nats:4222")[0].find("u:p"), std::string::npos);
	EXPECT_TRUE(login_warnings(login, "tls://u:p@nats:4222").empty());
	login.token = "hush";
	EXPECT_EQ(login_warnings(login, "nats://a:4222,nats://localhost:4222,b").size(), 2u);
	for (const char *near : {"nats://127.0.0.1:4222", "localhost", "nats://localhost:4222", "nats://[::1]:4222"})
		EXPECT_TRUE(login_warnings(login, near).empty()) << near;
	EXPECT_EQ(login_warnings(login, "nats://localhost.example:4222").size(), 1u);
	login.ca = "/ca.pem";
	EXPECT_TRUE(login_warnings(login, "nats://nats:4222").empty());
	/* These send no secret. */
	login = NatsLogin();
	login.credentials = "/none.creds";
	EXPECT_TRUE(login_warnings(login, "nats://nats:4222").empty());
}

TEST(RingDirectoryErrors, WhatMayPassIsNoUsageError)
{
	std::string path = ::testing::TempDir() + "siphon-directory-" + std::to_string(getpid());

	mkdir(path.c_str(), 0700);
	{
		RingDirectory directory(path, "main");

		for (int error : {EMFILE, ENFILE, ENOMEM, EIO, ENOSPC, EINTR})
			EXPECT_EQ(directory.error(error).code, ExitCode::Unexpected) << error;
		for (int error : {EPERM, EACCES, ENOTDIR, ELOOP})
			EXPECT_EQ(directory.error(error).code, ExitCode::Usage) << error;
	}
	EXPECT_EQ(system(("rm -r " + path).c_str()), 0);
}

} // namespace
