"""What the primary pays: transactions per second of pgbench's TPC-B on it while nobody, or somebody, consumes its
changes. A standby runs all the time, on the same machine, so that only the consumer differs."""

import re
import threading
from statistics import median

from .cluster import Cluster, Session, run
from .nats import URL, Nats
from .processes import Process, wait_until

TABLES = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"]


class Standby:
    """Of a cluster, on the next port."""

    def __init__(self, primary, work):
        self.primary = primary
        self.data = work / "standby"
        self.log = work / "standby.log"
        run("rm", "-rf", self.data)
        primary.sql("SELECT pg_create_physical_replication_slot('standby')")
        run("pg_basebackup", "-D", self.data, "-R", "-S", "standby", "-c", "fast", env=primary.environment)
        with open(self.data / "postgresql.conf", "a") as file:
            file.write("port = 5504\nhot_standby_feedback = on\n" f"siphon.ring_directory = '{primary.rings}'\n")
        run("pg_ctl", "-D", self.data, "-l", self.log, "-o", "-c shared_preload_libraries='siphon'", "-w", "start")
        self.session = Session(dict(primary.environment, PGPORT="5504"))

    def sql(self, query):
        return self.session(query)

    def stop(self):
        self.session.close()
        run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")
        run("rm", "-rf", self.data)


class Siphon:
    """Siphon of one of the two servers, to JetStream."""

    def __init__(self, server, primary, application, work):
        self.server = server
        self.application = application
        self.nats = Nats(work)
        # A slot on a standby waits for a record that an idle primary does not write by itself.
        done = threading.Event()
        session = Session(primary.environment)

        def log_snapshots():
            while not done.wait(0.2):
                session("SELECT pg_log_standby_snapshot()")
        helper = threading.Thread(target=log_snapshots)
        helper.start()
        try:
            server.sql(f"SELECT siphon_create_application('{application}')")
        finally:
            done.set()
            helper.join()
            session.close()
        for table in TABLES:
            server.sql(f"SELECT siphon_add_table('{table}', '{application}', snapshot => false)")
        self.publisher = Process(work / "publisher.log", "siphon-publisher", "--application", application, "--ring-directory",
                                 primary.rings, "--nats-url", URL)
        wait_until("the publisher is attached", lambda: server.sql(
            f"SELECT publisher_attached FROM siphon_applications WHERE application = '{application}'") == "t", check=[self.publisher])

    def stop(self):
        self.publisher.stop()
        self.server.sql(f"SELECT siphon_drop_application('{self.application}')")
        self.nats.stop()


class Pgoutput:
    def __init__(self, primary, work):
        self.primary = primary
        primary.sql("SELECT pg_create_logical_replication_slot('pgoutput', 'pgoutput')")
        self.reader = Process(work / "pgoutput.log", "pg_recvlogical", "-d", "postgres", "--slot", "pgoutput", "--start",
                              "--no-loop", "-f", "/dev/null", "-s", "1", "-o", "proto_version=1", "-o", "publication_names=bench",
                              env=primary.environment)

    def stop(self):
        self.reader.stop()
        wait_until("the slot is free", lambda: self.primary.sql(
            "SELECT active FROM pg_replication_slots WHERE slot_name = 'pgoutput'") == "f")
        self.primary.sql("SELECT pg_drop_replication_slot('pgoutput')")


class Nobody:
    def stop(self):
        pass


def primary(work, scale, seconds, rounds, say):
    cluster = Cluster(work, "primary")
    standby = None
    figures = {}
    try:
        cluster.start(siphon=True)
        cluster.sql("CREATE EXTENSION siphon")
        cluster.pgbench("-i", "-q", "-s", max(1, int(20 * scale)))
        cluster.sql("ALTER TABLE pgbench_history REPLICA IDENTITY FULL")
        cluster.sql(f"CREATE PUBLICATION bench FOR TABLE {', '.join(TABLES)}")
        standby = Standby(cluster, work)
        consumers = {
            "nobody": Nobody,
            "siphon on the standby": lambda: Siphon(standby, cluster, "standby", work),
            "siphon on the primary": lambda: Siphon(cluster, cluster, "main", work),
            "pgoutput on the primary": lambda: Pgoutput(cluster, work),
        }
        for number in range(1, rounds + 1):
            for name, start in consumers.items():
                say(f"primary: round {number} of {rounds}, {name}")
                consumer = start()
                try:
                    out = cluster.pgbench("-n", "-c", 4, "-j", 1, "-T", seconds)
                finally:
                    consumer.stop()
                figures.setdefault(name, []).append(float(re.search(r"tps = ([\d.]+)", out)[1]))
    finally:
        if standby:
            standby.stop()
        cluster.remove()
    return {name: {"tps": round(median(tps)), "of_nobody": round(median(t / n for t, n in zip(tps, figures["nobody"])), 3),
                   "all": [round(t) for t in tps]} for name, tps in figures.items()}


def lines(figures):
    yield "TPS of pgbench on the primary, while its changes are consumed by"
    for name, f in figures.items():
        yield f"    {name:26}{f['tps']:>8,}  {f['of_nobody']:.3f} x  ({min(f['all']):,} to {max(f['all']):,})"
