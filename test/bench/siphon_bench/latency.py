"""From commit to JetStream at a steady rate: by the time in the commit record, which is before the commit returns, and
the time at which JetStream stored the message. Each event counts."""

import time

from .cluster import Cluster, run
from .nats import URL, Nats
from .processes import Meter, Process, wait_until, waiting_time

# W4: tables of these average sizes of a row, in bytes.
SIZES = [1610, 376, 458, 98, 895]
ROWS = 20_000
EVENTS = 10  # in a transaction of W4


def prepare(cluster):
    cluster.sql("CREATE EXTENSION siphon")
    cluster.sql("CREATE TABLE single (id int PRIMARY KEY, v int)")
    cluster.sql(f"INSERT INTO single SELECT g, 0 FROM generate_series(1, {ROWS}) g")
    for i, size in enumerate(SIZES):
        cluster.sql(f"CREATE TABLE seed{i} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, t timestamptz, v text)")
        cluster.sql(f"""INSERT INTO seed{i} (n, t, v) SELECT g, now(), left(repeat(encode(sha512(g::text::bytea), 'hex'), 13), {size - 60})
            FROM generate_series(1, {ROWS}) g""")


def scripts(work):
    """pgbench's scripts: five inserts, four updates and one delete in a transaction; one update."""
    mixed = ["\\set id random(1, %d)" % ROWS, "BEGIN;"]
    for i, size in enumerate(SIZES):
        mixed.append(f"INSERT INTO seed{i} (n, t, v) SELECT :id, now(), left(repeat(encode(sha512((:id + {i})::text::bytea), 'hex'), 13), {size - 60});")
    for i in range(4):
        mixed.append(f"UPDATE seed{i} SET n = n + 1, t = now() WHERE id = :id;")
    mixed += ["DELETE FROM seed4 WHERE id = (SELECT min(id) FROM seed4 WHERE id > :id);", "END;"]
    (work / "mixed.sql").write_text("\n".join(mixed) + "\n")
    (work / "single.sql").write_text(f"\\set id random(1, {ROWS})\nUPDATE single SET v = v + 1 WHERE id = :id;\n")


def measure(cluster, work, build, script, tables, transactions, seconds, flush_interval):
    cluster.sql(f"ALTER SYSTEM SET siphon.flush_interval = '{flush_interval}'")
    cluster.sql("SELECT pg_reload_conf()")
    cluster.sql("SELECT siphon_create_application('main')")
    nats = Nats(work)
    publisher = Process(work / "publisher.log", "siphon-publisher", "--application", "main", "--ring-directory",
                        cluster.rings, "--nats-url", URL)
    try:
        for table in tables:
            cluster.sql(f"SELECT siphon_add_table('{table}', snapshot => false)")
        load = Process(work / "pgbench.log", "pgbench", "-n", "-M", "prepared", "-c", 8, "-j", 1, "-R", transactions, "-T", seconds + 4,
                       "-f", work / f"{script}.sql", env=dict(cluster.environment, PGOPTIONS="-c synchronous_commit=on"))
        time.sleep(2)  # pgbench's connections, and what is cached first; what is measured begins behind it
        begin = time.time()
        meter = Meter(0.1)
        pids = {"decoder": cluster.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'siphon decoder'"),
                "publisher": publisher.pid, "nats-server": nats.pid}
        for name, pid in pids.items():
            meter.add(name, pid, from_start=False)
        waited = {name: waiting_time(pid) for name, pid in pids.items()}
        messages = nats.stored()[0]
        time.sleep(seconds)
        end = time.time()
        waited = {name: waiting_time(pid) - waited[name] for name, pid in pids.items()}
        cpu = meter.stop()
        messages = (nats.stored()[0] - messages) / seconds
        if load.process.wait() != 0:
            load.check()
        load.stop()
        last = cluster.sql("SELECT pg_current_wal_flush_lsn()")
        wait_until("all is acknowledged", lambda: cluster.sql(
            f"SELECT confirmed_lsn >= '{last}' FROM siphon_applications") == "t", check=[publisher])
        lines = run(build / "message-delay", URL, "siphon_main", "siphon.main.events.>", begin, end, "histogram").splitlines()
    finally:
        publisher.stop()
        nats.stop()
        cluster.sql("SELECT siphon_drop_application('main')")
    count, p50, p99, greatest = map(float, lines[0].split())
    return {"flush_interval": flush_interval, "seconds": seconds, "events_per_second": round(count / seconds), "p50_ms": p50,
            "p99_ms": p99, "max_ms": greatest, "messages_per_second": round(messages),
            "cpu_cores": {name: round(used / seconds, 3) for name, used in cpu.items()},
            "waiting_for_a_core": {name: round(lacked / seconds, 3) for name, lacked in waited.items()},
            "histogram": [[float(limit), int(number)] for limit, number in map(str.split, lines[1:])]}


def latency(work, build, seconds, say):
    cluster = Cluster(work, "latency")
    results = []
    try:
        cluster.start(siphon=True)
        prepare(cluster)
        scripts(work)
        default = cluster.sql("SELECT boot_val || unit FROM pg_settings WHERE name = 'siphon.flush_interval'")
        for name, script, tables, transactions in [
                ("W4, 20,000 events/s", "mixed", [f"seed{i}" for i in range(len(SIZES))], 20_000 // EVENTS),
                ("1,000 single-row commits/s", "single", ["single"], 1000)]:
            for interval in ("0", default):
                say(f"latency: {name}, siphon.flush_interval = {interval}")
                results.append({"load": name} | measure(cluster, work, build, script, tables, transactions, seconds, interval))
    finally:
        cluster.remove()
    return results


def lines(results):
    yield "commit to JetStream     flush_interval   events/s    p50 ms    p99 ms    max ms  messages/s   cores used (and lacked): decoder, publisher, nats-server"
    for r in results:
        cores = ", ".join(f"{used:.2f} ({r['waiting_for_a_core'][name]:.2f})" for name, used in r["cpu_cores"].items())
        yield (f"    {r['load']:28}{r['flush_interval']:>8} {r['events_per_second']:>9,} {r['p50_ms']:>9.1f} {r['p99_ms']:>9.1f}"
               f" {r['max_ms']:>9.1f} {r['messages_per_second']:>11,}   {cores}")
