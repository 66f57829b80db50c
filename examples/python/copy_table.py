#!/usr/bin/env python3
"""Keeps a copy of one table in an SQLite file, exactly: by the rules of proto/siphon.proto, "How to build a correct copy".

What was applied and how far that is stand in one transaction of the file, so this program can be killed anywhere, and started
again: nothing is missing then, and nothing is applied twice.

    protoc --proto_path=../../proto --python_out=. siphon.proto
    ./copy_table.py --table public.issues --file issues.sqlite
    sqlite3 issues.sqlite 'SELECT row FROM rows'
"""

import argparse
import datetime
import json
import sqlite3
import sys

import zstandard

import siphon_pb2 as siphon
from nats_pull import Connection, read_stream

EPOCH = datetime.datetime(1970, 1, 1)
INFINITY = {2**31 - 1, 2**63 - 1}
MINUS_INFINITY = {-(2**31), -(2**63)}
UNCHANGED = object()


def python_value(value):
    """A Value as something that JSON can hold."""
    kind = value.WhichOneof("kind")
    content = getattr(value, kind)
    if kind == "null":
        return None
    if kind == "unchanged_toast":
        return UNCHANGED
    if kind == "bytes":
        return "\\x" + content.hex()
    if kind == "list":
        return python_list(content)
    if kind == "json":
        return json.loads(content)
    if kind in ("date", "timestamp", "timestamptz"):
        if content in INFINITY | MINUS_INFINITY:
            return "infinity" if content in INFINITY else "-infinity"
        try:
            if kind == "date":
                return (EPOCH + datetime.timedelta(days=content)).date().isoformat()
            time = EPOCH + datetime.timedelta(microseconds=content)
            return time.isoformat() + ("+00:00" if kind == "timestamptz" else "")
        except OverflowError:  # before the year 1, or after 9999
            return content
    if kind == "time":
        seconds, microseconds = divmod(content, 1_000_000)
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{microseconds:06}"
    return content


def python_list(array):
    values = [python_value(value) for value in array.values]
    for dimension in reversed(array.dimensions[1:]):
        values = [values[i : i + dimension.length] for i in range(0, len(values), dimension.length)]
    return values


class Copy:
    def __init__(self, file):
        self.database = sqlite3.connect(file, isolation_level=None)
        self.database.executescript(
            """
            CREATE TABLE IF NOT EXISTS rows (partition INT, key TEXT, row TEXT, PRIMARY KEY (partition, key));
            -- how far each partition is: the last message that was applied, and the position of its last change
            CREATE TABLE IF NOT EXISTS progress
                (partition INT PRIMARY KEY, generation INT, position TEXT, columns TEXT, sequence INT);
            -- up to which message all was applied, of which stream
            CREATE TABLE IF NOT EXISTS stream (sequence INT, created TEXT);
            INSERT INTO stream SELECT 0, '' WHERE NOT EXISTS (SELECT 1 FROM stream);
            """
        )

    def begin_stream(self, created):
        """Up to which message it was read. In one that was made anew, generations and positions say what is new."""
        sequence, known = self.database.execute("SELECT sequence, created FROM stream").fetchone()
        if known == created:
            return sequence
        self.database.executescript("BEGIN; UPDATE progress SET sequence = 0; UPDATE stream SET sequence = 0")
        self.database.execute("UPDATE stream SET created = ?", (created,))
        self.database.execute("COMMIT")
        return 0

    def apply(self, message, body, all_up_to):
        """A message as a whole, or nothing of it."""
        self.database.execute("BEGIN")
        try:
            self._apply(message, body)
            self.database.execute("UPDATE stream SET sequence = ?", (all_up_to,))
            self.database.execute("COMMIT")
        except BaseException:
            self.database.execute("ROLLBACK")
            raise

    def _apply(self, message, body):
        kind = message.headers["Siphon-Kind"]
        generation = int(message.headers["Siphon-Generation"])
        partition = int(message.subject.rpartition(".")[2])
        found = self.database.execute(
            "SELECT generation, position, columns, sequence FROM progress WHERE partition = ?", (partition,)
        ).fetchone()
        mine, position, columns, sequence = found or (0, "", "[]", 0)
        if message.sequence <= sequence:
            return  # applied before this program was started again
        if generation < mine:
            return  # left over from a snapshot that failed
        if generation > mine:
            # The copy begins anew: with a snapshot's rows, or without any where the table was added so.
            self.database.execute("DELETE FROM rows WHERE partition = ?", (partition,))
            position, columns = "", "[]"
        if kind == "snapshot-begin":
            begin = siphon.SnapshotBegin.FromString(body)
            for table in ("rows", "progress"):
                self.database.execute(f"DELETE FROM {table} WHERE partition >= ?", (begin.partitions,))
        elif kind in ("snapshot", "changes"):
            package = siphon.Package.FromString(body)
            columns = self._take_columns(partition, package, json.loads(columns))
            for event in package.events:
                at = f"{event.commit_lsn:016X}/{event.ordinal:020}"
                if event.operation != siphon.SNAPSHOT:
                    if at <= position:
                        continue
                    position = at
                self._apply_event(partition, package.columns, event)
        self.database.execute(
            "REPLACE INTO progress VALUES (?, ?, ?, ?, ?)",
            (partition, generation, position, columns, message.sequence),
        )

    def _take_columns(self, partition, package, known):
        """Rows that are older than a column have the value that the column says, those of a dropped one lose theirs."""
        names = [column.name for column in package.columns]
        if known and names and names != known:
            existing = {
                column.name: python_value(column.existing_rows) if column.HasField("existing_rows") else None
                for column in package.columns
            }
            for key, row in self.database.execute(
                "SELECT key, row FROM rows WHERE partition = ?", (partition,)
            ).fetchall():
                old = json.loads(row)
                self._put(partition, key, {name: old.get(name, existing[name]) for name in names})
        return json.dumps(names or known)

    def _apply_event(self, partition, columns, event):
        if event.operation in (siphon.TRUNCATE, siphon.DROP):
            self.database.execute("DELETE FROM rows WHERE partition = ?", (partition,))
        elif event.operation == siphon.RENAME:
            sys.exit(f"the table is called {event.new_schema}.{event.new_table} now; give that, and a new file")
        elif event.operation == siphon.DETACH:
            print(f"{event.detached} was detached; its rows stay in this copy", file=sys.stderr)
        else:
            self._apply_row(partition, columns, event)

    def _apply_row(self, partition, columns, event):
        named = [column for column in columns if column.key] or list(columns)
        old_columns = columns if len(event.old_values) == len(columns) else named
        old = {c.name: python_value(v) for c, v in zip(old_columns, event.old_values)}
        new = {c.name: python_value(v) for c, v in zip(columns, event.values)}
        key = json.dumps([(old or new)[column.name] for column in named])
        found = self.database.execute(
            "SELECT row FROM rows WHERE partition = ? AND key = ?", (partition, key)
        ).fetchone()
        if old:
            self.database.execute("DELETE FROM rows WHERE partition = ? AND key = ?", (partition, key))
        if new:
            # A large value that the UPDATE left alone; of a row that came from another partition it is not known here.
            before = json.loads(found[0]) if found else {}
            row = {name: before.get(name) if value is UNCHANGED else value for name, value in new.items()}
            self._put(partition, json.dumps([row[column.name] for column in named]), row)

    def _put(self, partition, key, row):
        self.database.execute("REPLACE INTO rows VALUES (?, ?, ?)", (partition, key, json.dumps(row)))


class Parts:
    """Puts together what was larger than a message may be."""

    def __init__(self):
        self.collected = {}

    def body(self, message):
        """None: it is not complete yet."""
        body = message.body
        if message.headers.get("Siphon-Encoding") == "zstd":
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        number, total = map(int, message.headers.get("Siphon-Part", "1/1").split("/"))
        first, before = self.collected.pop(message.subject, (message.sequence, []))
        if number == 1:
            first, before = message.sequence, []
        if len(before) != number - 1:
            return None  # the decoder died in the middle; it comes again
        if number < total:
            self.collected[message.subject] = (first, before + [body])
            return None
        return b"".join(before + [body])

    def all_up_to(self, sequence):
        """Up to which message nothing is only half there."""
        return min([sequence] + [first - 1 for first, _ in self.collected.values()])


def token(name):
    """A name as the token of a subject."""
    return "".join(f"%{ord(c):02X}" if c <= " " or c in ".*>%\x7f" else c for c in name)


def main():
    options = argparse.ArgumentParser(description="Keeps a copy of one table in an SQLite file.")
    options.add_argument("--nats-url", default="nats://127.0.0.1:4222")
    options.add_argument("--application", default="main")
    options.add_argument("--table", required=True, help="schema.table")
    options.add_argument("--file", required=True, help="where the copy is")
    options.add_argument("--stop-at-end", action="store_true", help="end when all that there is was applied")
    arguments = options.parse_args()
    schema, _, table = arguments.table.partition(".")
    stream = "siphon_" + arguments.application.replace(".", "_")
    subject = f"siphon.{arguments.application}.events.{token(schema)}.{token(table)}.*"

    connection = Connection(arguments.nats_url)
    copy = Copy(arguments.file)
    parts = Parts()
    info = connection.api(f"STREAM.INFO.{stream}")
    after = copy.begin_stream(info["created"])
    if 0 < after < info["state"]["first_seq"] - 1:
        sys.exit(f"the stream has forgotten what came behind message {after}: SELECT siphon_resync_table('{arguments.table}')")
    for message in read_stream(connection, stream, subject, after + 1):
        if message is None:
            if arguments.stop_at_end:
                return
            continue
        if message.headers.get("Siphon-Kind") not in ("changes", "snapshot", "snapshot-begin", "snapshot-end"):
            continue
        body = parts.body(message)
        if body is not None:
            copy.apply(message, body, parts.all_up_to(message.sequence))


if __name__ == "__main__":
    main()
