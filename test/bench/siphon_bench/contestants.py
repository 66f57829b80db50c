"""Those that consume the same WAL, each from a copy of one slot, one after the other."""

import mmap
import shutil
import struct
import time
from dataclasses import dataclass, field

from .cluster import Session, run
from .nats import URL, Nats
from .processes import Meter, Process, processor_time, wait_until

# Where the cursors stand in a ring's file: see RingHeader in ring/ring.h.
WRITTEN_AT = 128
# Of two, the one that was written last has the greater number, and has more acknowledged.
ACKED_AT = (4096 + 64 + 8, 4096 + 64 + 72 + 8)

RECVLOGICAL = {
    "pgoutput": ["-o", "proto_version=1", "-o", "publication_names=bench"],
    "wal2json": ["-o", "format-version=2"],
    "decoderbufs": [],
}
# Their processor time is that of getting changes out; a server that stores them, or what discards them, is not.
COUNTED = ("backend", "walsender", "pg_recvlogical", "decoder", "publisher")


@dataclass
class Result:
    contestant: str
    seconds: float
    cpu: dict
    published_bytes: int = 0
    peak_mb: dict = field(default_factory=dict)

    def cpu_total(self):
        return sum(seconds for name, seconds in self.cpu.items() if name in COUNTED)


class Bench:
    """A workload, written, and what is needed to consume it again and again."""

    def __init__(self, cluster, work, build, workload, partitions=1):
        self.cluster = cluster
        self.work = work
        self.build = build
        self.workload = workload
        cluster.start(siphon=True)
        cluster.sql("CREATE EXTENSION siphon")
        workload.prepare(cluster)
        cluster.sql("CREATE TABLE marker (id int)")
        for table in workload.tables:
            cluster.sql(f"SELECT siphon_add_table('{table}', snapshot => false, partitions => {partitions})")
        cluster.sql(f"CREATE PUBLICATION bench FOR TABLE {', '.join(workload.tables)}, marker")
        cluster.restart(siphon=False)
        cluster.sql("SELECT pg_copy_logical_replication_slot('siphon_main', 'template')")
        self.registry = work / "main.registry"
        shutil.copy(cluster.data / "siphon" / "main.registry", self.registry)
        self.events = workload.write(cluster)
        self.end = cluster.sql("SELECT pg_current_wal_insert_lsn()")
        # What ends pg_recvlogical is a change behind the end.
        cluster.sql("INSERT INTO marker VALUES (1)")
        cluster.sql("CHECKPOINT")
        self.wal_bytes = int(cluster.sql(
            f"SELECT pg_wal_lsn_diff('{self.end}', confirmed_flush_lsn)::bigint FROM pg_replication_slots WHERE slot_name = 'template'"))

    def fresh_slot(self, name, plugin):
        self.cluster.sql(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'")
        self.cluster.sql(f"SELECT pg_copy_logical_replication_slot('template', '{name}', false, '{plugin}')")

    def null(self):
        """Decoded in a backend, for nothing: the limit."""
        self.fresh_slot("run_null", "null_plugin")
        session = Session(self.cluster.environment)
        pid = session("SELECT pg_backend_pid()")
        before = processor_time(pid)
        start = time.monotonic()
        session("SELECT count(*) FROM pg_logical_slot_get_binary_changes('run_null', NULL, NULL)")
        result = Result("null", time.monotonic() - start, {"backend": processor_time(pid) - before})
        session.close()
        return result

    def recvlogical(self, plugin):
        slot = f"run_{plugin}"
        self.fresh_slot(slot, plugin)
        meter = Meter()
        start = time.monotonic()
        reader = Process(self.work / f"{plugin}.log", "pg_recvlogical", "-d", "postgres", "--slot", slot, "--start",
                         "--no-loop", "-f", "/dev/null", "--endpos", self.end, "-s", "1", *RECVLOGICAL[plugin],
                         env=self.cluster.environment)
        meter.add("pg_recvlogical", reader.pid)
        walsender = wait_until("the walsender has the slot", lambda: self.cluster.sql(
            f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"), check=[reader])
        meter.add("walsender", walsender)
        if reader.process.wait() != 0:
            reader.check()
        return Result(plugin, time.monotonic() - start, meter.stop())

    def ring(self):
        """To the ring, of a reader that discards."""
        return self.siphon("ring", lambda: Process(self.work / "drain.log", self.build / "ring-drain", self.cluster.rings, "main"))

    def jetstream(self):
        """To JetStream's acknowledgement, in files."""
        nats = Nats(self.work)
        try:
            result = self.siphon("jetstream", self.start_publisher, nats)
            result.published_bytes = nats.stored()[1]
            return result
        finally:
            nats.stop()

    def start_publisher(self):
        return Process(self.work / "publisher.log", "siphon-publisher", "--application", "main", "--ring-directory",
                       self.cluster.rings, "--nats-url", URL)

    def siphon(self, name, start_reader, nats=None):
        self.fresh_slot("siphon_main", "siphon")
        self.cluster.stop()
        shutil.copy(self.registry, self.cluster.data / "siphon" / "main.registry")
        # What was acknowledged of an earlier ring is in a stream that is gone.
        shutil.rmtree(f"{self.cluster.rings}/main", ignore_errors=True)
        meter = Meter()
        reader = start_reader()
        meter.add("publisher" if nats else "drain", reader.pid)
        if nats:
            meter.add("nats-server", nats.pid, from_start=False)
        try:
            self.cluster.start(siphon=True)
            decoder, start = wait_until("the decoder is there", lambda: self.cluster.sql(
                "SELECT pid || ' ' || extract(epoch FROM backend_start) FROM pg_stat_activity WHERE backend_type = 'siphon decoder'"),
                check=[reader]).split()
            meter.add("decoder", decoder)
            wait_until("all events are in the ring", lambda: int(self.cluster.sql(
                "SELECT events FROM siphon_applications")) >= self.events, check=[reader])
            with open(f"{self.cluster.rings}/main/decoder.ring", "rb") as file, \
                    mmap.mmap(file.fileno(), 8192, prot=mmap.PROT_READ) as ring:
                cursor = lambda at: struct.unpack_from("<Q", ring, at)[0]
                wait_until("all is acknowledged", lambda: cursor(WRITTEN_AT) == max(map(cursor, ACKED_AT)), pause=0.0005, check=[reader])
            result = Result(name, time.time() - float(start), meter.stop(), peak_mb=meter.peak)
            counted = int(self.cluster.sql("SELECT events FROM siphon_applications"))
            if counted != self.events:
                raise RuntimeError(f"{counted} events came, and not {self.events}")
            result.published_bytes = int(self.cluster.sql("SELECT bytes FROM siphon_applications"))
        finally:
            self.cluster.stop()
            reader.stop()
        self.cluster.start(siphon=False)
        return result

    def run(self, contestant):
        if contestant in RECVLOGICAL:
            return self.recvlogical(contestant)
        return getattr(self, contestant)()

    def contestants(self):
        others = [plugin for plugin in ("wal2json", "decoderbufs") if self.cluster.has_plugin(plugin)]
        return ["null", "pgoutput", *others, "ring", "jetstream"]
