"""A nats-server with JetStream in files, on the loopback."""

import json
import shutil
import urllib.request

from .processes import Process, wait_until

PORT = 14223
MONITOR = 14224
URL = f"nats://127.0.0.1:{PORT}"


class Nats:
    def __init__(self, work):
        self.store = work / "jetstream"
        shutil.rmtree(self.store, ignore_errors=True)
        self.process = Process(work / "nats.log", "nats-server", "-a", "127.0.0.1", "-p", PORT, "-m", MONITOR, "-js",
                               "-sd", self.store)
        self.pid = self.process.pid
        wait_until("nats-server is there", self.answers, timeout=30, check=[self.process])

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{MONITOR}/{path}", timeout=10) as answer:
            return json.load(answer)

    def answers(self):
        try:
            return self.get("healthz")["status"] == "ok"
        except OSError:
            return False

    def stored(self):
        """Messages and bytes in all streams."""
        jetstream = self.get("jsz")
        return jetstream["messages"], jetstream["bytes"]

    def stop(self):
        self.process.stop()
        shutil.rmtree(self.store, ignore_errors=True)
