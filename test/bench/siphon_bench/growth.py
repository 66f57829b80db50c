"""Does the time per event stay what it is when there is more of everything? WAL to the ring, and beside it what the
null plugin takes: decoding itself knows of tables and of large transactions."""

from statistics import median

from .cluster import THROUGHPUT, Cluster
from .contestants import Bench
from .workloads import Workload, in_transactions, issues


def sized(events, each, tables=1):
    """Narrow rows, in transactions of `each`, over so many tables."""
    def prepare(cluster):
        for first in range(1, tables + 1, 500):
            cluster.sql(f"""DO $do$ BEGIN FOR i IN {first}..{min(first + 499, tables)} LOOP
                EXECUTE format('CREATE TABLE narrow%s (id bigint PRIMARY KEY, a bigint, b int, c smallint, t timestamptz)', i);
                END LOOP; END $do$""")

    def write(cluster):
        if tables == 1:
            in_transactions(cluster, events, each, """INSERT INTO narrow1 SELECT g, g * 7, g, g % 1000,
                '2026-01-01'::timestamptz + g * interval '1 second' FROM generate_series(low, high) g""")
            return events
        per_table = events // tables
        in_transactions(cluster, per_table, 1, f"""FOR i IN 1..{tables} LOOP EXECUTE format('INSERT INTO narrow%s VALUES
            ($1, 1, 2, 3, now())', i) USING low; END LOOP""".replace("FOR i IN", "DECLARE i int; BEGIN FOR i IN") + "; END")
        return per_table * tables

    return Workload("growth", "", [f"narrow{i}" for i in range(1, tables + 1)], prepare, write)


def measure(work, build, workload, rounds, partitions=1):
    cluster = Cluster(work, "growth", THROUGHPUT)
    try:
        bench = Bench(cluster, work, build, workload, partitions)
        limits, results = zip(*[(bench.null(), bench.ring()) for _ in range(rounds)])
        return {"events": bench.events,
                "null_us_per_event": round(median(r.seconds for r in limits) / bench.events * 1e6, 3),
                "us_per_event": round(median(r.seconds for r in results) / bench.events * 1e6, 3),
                "decoder_cpu_us_per_event": round(median(r.cpu["decoder"] for r in results) / bench.events * 1e6, 3),
                "decoder_peak_mb": round(max(r.peak_mb["decoder"] for r in results), 1)}
    finally:
        cluster.remove()


def growth(work, build, scale, rounds, say):
    results = {}

    def add(dimension, x, *arguments, **options):
        say(f"growth: {dimension} {x}")
        results.setdefault(dimension, []).append({"x": x} | measure(work, build, *arguments, rounds, **options))

    for times in (1, 2, 4, 8):
        add("times as many events of W2", times, issues(0.125 * scale * times))
    for tables in (1, 100, 2000):
        add("tables", tables, sized(int(2_000_000 * scale), 500, tables))
    for partitions in (1, 8, 64):
        add("partitions of W2", partitions, issues(0.25 * scale), partitions=partitions)
    rows = int(10_000_000 * scale)
    for each in (500, rows):
        add(f"rows in a transaction, of {rows:,}", each, sized(rows, each))
    return results


def lines(results):
    for dimension, points in results.items():
        yield f"{dimension}"
        for point in points:
            yield (f"    {point['x']:>10,}: {point['us_per_event']:.3f} us/event ({point['us_per_event'] / points[0]['us_per_event']:.2f} x),"
                   f" null plugin {point['null_us_per_event']:.3f} ({point['null_us_per_event'] / points[0]['null_us_per_event']:.2f} x),"
                   f" decoder's CPU {point['decoder_cpu_us_per_event']:.3f}, peak {point['decoder_peak_mb']:.0f} MB; {point['events']:,} events")
