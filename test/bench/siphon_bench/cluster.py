"""A PostgreSQL server of the benchmark's own, thrown away at its end.

It is restarted with and without Siphon: what Siphon's decoder consumes, and when, is decided by starting it, while
the other contestants run on a server that has not even loaded it.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

CONF = """
listen_addresses = ''
port = 5503
wal_level = logical
max_wal_senders = 10
max_replication_slots = 20
max_wal_size = 64GB
checkpoint_timeout = 1h
shared_buffers = 1GB
synchronous_commit = off
fsync = off
jit = off
autovacuum = off
max_locks_per_transaction = 1024
"""
# The last package of all is not to wait for others that would fill it: that is latency, and measured as such.
THROUGHPUT = "siphon.flush_interval = 0\n"


def run(*command, **options):
    """Runs a program that must succeed, and returns what it printed."""
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


class Session:
    """psql, kept open: asking the server costs next to nothing, and so does not disturb what is measured."""

    def __init__(self, environment, database="postgres"):
        self.psql = subprocess.Popen(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def __call__(self, query):
        self.psql.stdin.write(f"{query};\n\\echo <end>\n")
        self.psql.stdin.flush()
        lines = []
        for line in self.psql.stdout:
            if line == "<end>\n":
                return "\n".join(lines)
            lines.append(line.rstrip("\n"))
        raise RuntimeError(f"{query}: {self.psql.stderr.read().strip()}")

    def close(self):
        self.psql.stdin.close()
        self.psql.wait()
        self.psql.stdout.close()
        self.psql.stderr.close()


class Cluster:
    def __init__(self, work, name, conf=""):
        self.data = work / name
        self.log = work / f"{name}.log"
        self.sockets = tempfile.mkdtemp(prefix="siphon-bench.")
        self.rings = tempfile.mkdtemp(prefix="siphon-bench.", dir="/dev/shm")
        self.environment = dict(os.environ, PGHOST=self.sockets, PGPORT="5503", PGUSER="postgres", PGDATABASE="postgres")
        self.session = None
        shutil.rmtree(self.data, ignore_errors=True)
        run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-N")
        with open(self.data / "postgresql.conf", "a") as file:
            file.write(CONF + conf + f"unix_socket_directories = '{self.sockets}'\n")
            file.write(f"siphon.ring_directory = '{self.rings}'\n")
            file.write(f"dynamic_library_path = '$libdir:{work.parent.resolve()}'\n")
        # It exists in some minor versions, and must not be set in others.
        if subprocess.run(["postgres", "-C", "output_plugin_libraries", "-D", self.data],
                          capture_output=True).returncode == 0:
            with open(self.data / "postgresql.conf", "a") as file:
                file.write("output_plugin_libraries = 'siphon, pgoutput, null_plugin, wal2json, decoderbufs'\n")

    def start(self, siphon):
        preload = "siphon" if siphon else ""
        run("pg_ctl", "-D", self.data, "-l", self.log, "-o", f"-c shared_preload_libraries='{preload}'", "-w", "start",
            stdin=subprocess.DEVNULL)
        self.session = Session(self.environment)

    def stop(self, mode="fast"):
        if self.session:
            self.session.close()
            self.session = None
        if (self.data / "postmaster.pid").exists():
            run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def restart(self, siphon):
        self.stop()
        self.start(siphon)

    def sql(self, query):
        return self.session(query)

    def pgbench(self, *arguments, options=""):
        return run("pgbench", *map(str, arguments), env=dict(self.environment, PGOPTIONS=options))

    def has_plugin(self, plugin):
        libraries = Path(run("pg_config", "--pkglibdir"))
        return (libraries / f"{plugin}.so").exists()

    def remove(self):
        self.stop("immediate")
        for directory in (self.data, self.sockets, self.rings):
            shutil.rmtree(directory, ignore_errors=True)
