"""A NATS connection with just what a consumer of a JetStream stream takes, over a plain socket.

It is here so that the example beside it runs with nothing but Python's own library; with nats-py, its pull subscriptions
take this module's place.
"""

import json
import socket
import ssl
import urllib.parse

INBOX = "_INBOX.siphon-example"


class Message:
    def __init__(self, subject, reply, headers, body):
        self.subject = subject
        self.headers = headers
        self.body = body
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>, behind which newer
        # servers add tokens, and before whose stream they may have a domain and an account.
        tokens = reply.split(".") if reply.startswith("$JS.ACK.") else []
        if len(tokens) > 9:
            tokens = tokens[:2] + tokens[4:]
        self.sequence, self.consumer_sequence = (int(tokens[5]), int(tokens[6])) if tokens else (0, 0)


class Connection:
    def __init__(self, url, ca=None, cert=None, key=None):
        """TLS if the URL is tls://, a certificate is given, or the server asks for it, which it says in plain text first."""
        where = urllib.parse.urlparse(url)
        self.socket = socket.create_connection((where.hostname, where.port or 4222))
        self.input = self.socket.makefile("rb")
        info = json.loads(self._line()[1])
        if where.scheme == "tls" or ca or cert or info.get("tls_required"):
            context = ssl.create_default_context(cafile=ca)
            if cert:
                context.load_cert_chain(cert, key)
            self.socket = context.wrap_socket(self.socket, server_hostname=where.hostname)
            self.input = self.socket.makefile("rb")
        options = {"verbose": False, "headers": True, "lang": "python", "version": "1"}
        if where.username:
            options |= {"user": where.username, "pass": where.password or ""}
        self._send(b"CONNECT " + json.dumps(options).encode() + b"\r\n")
        self._send(f"SUB {INBOX}.> 1\r\n".encode())
        self.requests = 0

    def _send(self, data):
        self.socket.sendall(data)

    def _line(self):
        while True:
            line = self.input.readline()
            if not line:
                raise ConnectionError("NATS closed the connection")
            if line.startswith(b"-ERR"):
                raise ConnectionError("NATS: " + line.decode().strip())
            if line.startswith(b"INFO"):
                return line.decode().split(maxsplit=1)
            if not line.startswith(b"PING"):
                return line.decode().split()
            self._send(b"PONG\r\n")

    def receive(self):
        """The next message, whatever it answers."""
        line = self._line()
        while line[0] not in ("MSG", "HMSG"):
            line = self._line()
        head = int(line[-2]) if line[0] == "HMSG" else 0
        data = self.input.read(int(line[-1]) + 2)[:-2]
        headers = {}
        status, *lines = data[:head].decode().split("\r\n")
        for text in lines:
            name, colon, value = text.partition(":")
            if colon:
                headers[name] = value.strip()
        # "NATS/1.0 408 Request Timeout"
        if len(status.split()) > 1:
            headers["Status"] = status.split()[1]
        # With a reply, it stands between the subscription and the sizes.
        reply = line[3] if len(line) == (6 if head else 5) else ""
        return Message(line[1], reply, headers, data[head:])

    def publish(self, subject, request, reply):
        body = json.dumps(request).encode() if request is not None else b""
        self._send(f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n")

    def api(self, subject, request=None):
        """A request to JetStream, and its answer."""
        self.requests += 1
        inbox = f"{INBOX}.{self.requests}"
        self.publish("$JS.API." + subject, request, inbox)
        message = self.receive()
        while message.subject != inbox:
            message = self.receive()
        answer = json.loads(message.body)
        if "error" in answer:
            raise RuntimeError(f"JetStream: {subject}: {answer['error']['description']}")
        return answer


def read_stream(connection, stream, subject, sequence, batch=256):
    """Messages of a stream from a sequence on, in order, for ever, as pairs of sequence and message. With None for a message:
    what the subject has up to that sequence was read.

    No message is acknowledged, and none comes twice or behind a later one: who reads keeps its own progress."""
    consumer = connection.api(
        f"CONSUMER.CREATE.{stream}",
        {
            "stream_name": stream,
            "config": {
                "filter_subject": subject,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": sequence,
                "ack_policy": "none",
                "mem_storage": True,
                "inactive_threshold": 60_000_000_000,
            },
        },
    )["name"]
    expected = 1
    dry = True
    while True:
        if dry:
            # Asked for before we look for more: what is there by then comes before the time is over.
            last = connection.api(f"STREAM.INFO.{stream}")["state"]["last_seq"]
            dry = False
        connection.requests += 1
        inbox = f"{INBOX}.{connection.requests}"
        request = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        connection.publish(request, {"batch": batch, "expires": 1_000_000_000}, inbox)
        left = batch
        while left > 0:
            message = connection.receive()
            status = message.headers.get("Status")
            if status in ("404", "408"):  # the time is over, and there are no more
                yield last, None
                dry = True
                break
            if status == "100":  # a heartbeat
                continue
            if status:
                raise ConnectionError(f"JetStream ends the reading of {stream}: {status}")
            # Whoever starts this program again goes on behind what was applied.
            if message.consumer_sequence != expected:
                raise ConnectionError("a message was lost on its way")
            expected += 1
            left -= 1
            yield message.sequence, message
