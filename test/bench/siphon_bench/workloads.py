"""What is written into WAL for the contestants to consume. Each is the same each time it is written."""

import math
from dataclasses import dataclass
from typing import Callable


@dataclass
class Workload:
    name: str
    title: str
    tables: list
    prepare: Callable  # (cluster): tables, and rows that are not part of it
    write: Callable  # (cluster): returns the number of events


def in_transactions(cluster, count, each, statement):
    """Runs the statement for 1 to `count` in transactions of `each`; in it, they are from `low` to `high`."""
    if count == 0:
        return
    cluster.sql(f"""DO $do$ DECLARE low bigint; high bigint; BEGIN
        FOR low IN SELECT * FROM generate_series(1, {count}, {each}) LOOP
            high := least(low + {each} - 1, {count});
            {statement};
            COMMIT;
        END LOOP;
    END $do$""")


def pgbench(scale):
    transactions = max(1, int(300_000 * scale)) // 8 * 8
    accounts = max(1, math.ceil(20 * scale))

    def prepare(cluster):
        cluster.pgbench("-i", "-q", "-s", accounts)
        cluster.sql("ALTER TABLE pgbench_history REPLICA IDENTITY FULL")

    def write(cluster):
        cluster.pgbench("-n", "-c", 8, "-j", 2, "-t", transactions // 8, "--random-seed=1")
        return transactions * 4

    return Workload("W1", f"pgbench's TPC-B, {transactions:,} transactions of 4 events",
                    ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"], prepare, write)


ISSUE = """SELECT g, 'Issue ' || g || ' of the seeded workload',
    encode(sha512(('a' || g)::bytea), 'hex') || ' as seen in ' || encode(sha512(('b' || g)::bytea), 'hex')
        || repeat(' the quick brown fox jumps over the lazy dog, and', 3) || encode(sha512(('c' || g)::bytea), 'hex') || E'\\n'
        || encode(sha512(('d' || g)::bytea), 'hex') || ' steps to reproduce: ' || encode(sha512(('e' || g)::bytea), 'base64'),
    g % 1000, g % 777, '2026-01-01'::timestamptz + g * interval '1 second', '2026-01-01'::timestamptz + g * interval '2 seconds',
    (g % 3)::smallint, g % 50 = 0, nullif(g % 5, 0),
    jsonb_build_object('labels', jsonb_build_array('bug', 'priority::' || g % 4, 'group::' || g % 30), 'weight', g % 13,
        'locked', g % 7 = 0, 'milestone', jsonb_build_object('id', g % 90, 'title', '17.' || g % 12),
        'checksum', md5(g::text), 'ratio', round(g / 7.0, 3))"""


def issues(scale):
    inserts = int(2_000_000 * scale)
    updates = int(500_000 * scale)
    deletes = int(200_000 * scale)

    def prepare(cluster):
        cluster.sql("""CREATE TABLE issues (id bigint PRIMARY KEY, title text, description text, project_id bigint,
            author_id bigint, created_at timestamptz, updated_at timestamptz, state smallint, confidential bool, weight int,
            metadata jsonb)""")

    def write(cluster):
        in_transactions(cluster, inserts, 1000, f"INSERT INTO issues {ISSUE} FROM generate_series(low, high) g")
        in_transactions(cluster, updates, 100, """UPDATE issues SET updated_at = updated_at + interval '1 hour', state = 2,
            weight = 9 WHERE id = ANY (SELECT g * 4 - 1 FROM generate_series(low, high) g)""")
        in_transactions(cluster, deletes, 100,
                        "DELETE FROM issues WHERE id = ANY (SELECT g * 10 FROM generate_series(low, high) g)")
        return inserts + updates + deletes

    return Workload("W2", f"issues: {inserts:,} inserts, {updates:,} updates, {deletes:,} deletes of rows of about 1.27 kB",
                    ["issues"], prepare, write)


def narrow(scale):
    inserts = int(5_000_000 * scale)

    def prepare(cluster):
        cluster.sql("CREATE TABLE narrow (id bigint PRIMARY KEY, a bigint, b int, c smallint, t timestamptz)")

    def write(cluster):
        in_transactions(cluster, inserts, 500, """INSERT INTO narrow SELECT g, g * 7, g, g % 1000,
            '2026-01-01'::timestamptz + g * interval '1 second' FROM generate_series(low, high) g""")
        return inserts

    return Workload("W3", f"narrow: {inserts:,} inserts in transactions of 500", ["narrow"], prepare, write)


MAKERS = {"W1": pgbench, "W2": issues, "W3": narrow}
