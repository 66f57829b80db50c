#!/usr/bin/env python3
"""Keeps a copy of one table in an SQLite file, exactly: by the rules of proto/siphon.proto, "How to build a correct copy".

What was applied and how far that is stand in one transaction of the file, so this program can be killed anywhere, and started
again: nothing is missing then, and nothing is applied twice.

    protoc --proto_path=../../proto --python_out=. siphon.proto
    ./copy_table.py --table public.issues --file issues.sqlite
    sqlite3 issues.sqlite 'SELECT row FROM rows'

It keeps its own progress, and needs no acknowledgements of JetStream's. Where it can't go on with a correct copy, it ends with
a line that says why, and has applied nothing of the message: a newer version of it, or a resync of the table, goes on
from there.
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


class Stop(Exception):
    """What can't be applied, and what to do."""


def say(text):
    print(text, file=sys.stderr)


def python_value(value):
    """A Value as something that JSON can hold."""
    kind = value.WhichOneof("kind")
    if kind is None:
        raise Stop("a value is of a kind that this program does not know: use the siphon.proto of the publisher's version")
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


def operation_name(number):
    return siphon.Operation.Name(number) if number in siphon.Operation.values() else str(number)


def key_columns(columns):
    """What names a row: the key, or without one all of it."""
    return [column for column in columns if column.key] or list(columns)


class Copy:
    VERSION = 2  # of the file

    def __init__(self, file, table):
        self.table = table
        self.database = sqlite3.connect(file, isolation_level=None)
        (version,) = self.database.execute("PRAGMA user_version").fetchone()
        if version != self.VERSION and self.database.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise Stop(f"{file} is of another version of this program: give a new file")
        self.database.executescript(
            f"""
            PRAGMA user_version = {self.VERSION};
            -- Without a key, a row is named by all its values, and there may be equal ones.
            CREATE TABLE IF NOT EXISTS rows (partition INT, key TEXT, row TEXT);
            CREATE INDEX IF NOT EXISTS rows_key ON rows (partition, key);
            -- how far each partition is: the last message that was applied, and the position of its last change; and the
            -- columns of its rows, as [number, name, is it part of the key]
            CREATE TABLE IF NOT EXISTS progress
                (partition INT PRIMARY KEY, generation INT, position TEXT, columns TEXT, sequence INT);
            -- up to which message all was read, of which stream
            CREATE TABLE IF NOT EXISTS stream (sequence INT, created TEXT);
            INSERT INTO stream SELECT 0, '' WHERE NOT EXISTS (SELECT 1 FROM stream);
            """
        )

    def begin_stream(self, created):
        """Up to which message it was read. In one that was made again, generations and positions say what is new."""
        sequence, known = self.database.execute("SELECT sequence, created FROM stream").fetchone()
        if known == created:
            return sequence
        self.database.executescript("BEGIN; UPDATE progress SET sequence = 0; UPDATE stream SET sequence = 0")
        self.database.execute("UPDATE stream SET created = ?", (created,))
        self.database.execute("COMMIT")
        return 0

    def read(self, sequence):
        """Nothing of the table stands in the stream up to this message that was not applied."""
        self.database.execute("UPDATE stream SET sequence = ? WHERE sequence < ?", (sequence, sequence))

    def apply(self, message, body, all_up_to):
        """A message as a whole, or nothing of it."""
        self.database.execute("BEGIN")
        try:
            self._apply(message, body)
            self.read(all_up_to)
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
            return  # delivered again, or applied before this program was started again
        if generation < mine:
            return  # left over from a snapshot that failed
        package = siphon.Package.FromString(body) if kind in ("snapshot", "changes") else None
        if generation > mine:
            # The copy starts again: with a snapshot's rows, or without any where the table was added so.
            if kind != "snapshot-begin":
                self._check_start(kind, generation, package)
            self.database.execute("DELETE FROM rows WHERE partition = ?", (partition,))
            position, columns = "", "[]"
        if kind == "snapshot-begin":
            begin = siphon.SnapshotBegin.FromString(body)
            for table in ("rows", "progress"):
                self.database.execute(f"DELETE FROM {table} WHERE partition >= ?", (begin.partitions,))
        elif package:
            columns = self._follow_columns(partition, package, json.loads(columns))
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

    def _check_start(self, kind, generation, package):
        """A generation that does not begin with its snapshot-begin has no rows, or they are not in the stream any more."""
        if kind != "changes" or package.generation_start == siphon.GENERATION_START_SNAPSHOT:
            raise Stop(
                f"the stream does not have the beginning of generation {generation}, and so not all rows:"
                f" SELECT siphon_resync_table('{self.table}')"
            )

    def _follow_columns(self, partition, package, known):
        """Brings the rows to the columns that they have now, which their numbers tell, and to the key that names them."""
        now = [[column.attnum, column.name, column.key] for column in package.columns]
        if not known or not now or now == known:
            return json.dumps(now or known)
        # An earlier decoder gave no numbers.
        mark = 0 if all(number for number, _, _ in known + now) else 1
        before = {column[mark]: column[1] for column in known}
        existing = {
            column.name: python_value(column.existing_rows) if column.HasField("existing_rows") else None
            for column in package.columns
        }
        rows = self.database.execute("SELECT rowid, row FROM rows WHERE partition = ?", (partition,)).fetchall()
        for number, text in rows:
            old = json.loads(text)
            row = {
                column[1]: old[before[column[mark]]] if column[mark] in before else existing[column[1]] for column in now
            }
            self.database.execute(
                "UPDATE rows SET key = ?, row = ? WHERE rowid = ?",
                (self._key(package.columns, row), json.dumps(row), number),
            )
        return json.dumps(now)

    def _apply_event(self, partition, columns, event):
        if event.operation in (siphon.TRUNCATE, siphon.DROP):
            self.database.execute("DELETE FROM rows WHERE partition = ?", (partition,))
        elif event.operation == siphon.RENAME:
            raise Stop(
                f"the table is called {event.new_schema}.{event.new_table} now:"
                f" start this again with --table {event.new_schema}.{event.new_table} and the same file"
            )
        elif event.operation == siphon.DETACH:
            say(f"{event.detached} was detached; its rows stay in this copy")
        elif event.operation in (siphon.SNAPSHOT, siphon.INSERT, siphon.UPDATE, siphon.DELETE):
            self._apply_row(partition, columns, event)
        else:
            raise Stop(
                f"operation {operation_name(event.operation)} is not known to this program, and the copy would be wrong"
                " without it: use the siphon.proto of the publisher's version"
            )

    def _apply_row(self, partition, columns, event):
        named = key_columns(columns)
        has_key = any(column.key for column in columns)
        old_columns = columns if len(event.old_values) == len(columns) else named
        old = {c.name: python_value(v) for c, v in zip(old_columns, event.old_values)}
        new = {c.name: python_value(v) for c, v in zip(columns, event.values)}
        before = None
        if event.operation in (siphon.UPDATE, siphon.DELETE):
            if not old and (not new or not has_key):
                say(
                    f"a row was changed that nothing names, as the table has no replica identity; the copy is right again"
                    f" after SELECT siphon_resync_table('{self.table}')"
                )
                return
            before = self._take_away(partition, self._key(columns, old or new))
        elif has_key:
            self._take_away(partition, self._key(columns, new))
        if new:
            row = {name: self._kept(before, name) if value is UNCHANGED else value for name, value in new.items()}
            self.database.execute(
                "INSERT INTO rows VALUES (?, ?, ?)", (partition, self._key(columns, row), json.dumps(row))
            )

    def _kept(self, before, name):
        """A large value that the UPDATE left alone. Of a row that came from another partition it is not known here."""
        if before is None:
            say(f"a value of {name} did not change, and is not known here: it is null in this copy")
            return None
        return before[name]

    def _key(self, columns, row):
        return json.dumps([row[column.name] for column in key_columns(columns)])

    def _take_away(self, partition, key):
        """One row of this name, as there may be more without a key. Returns it, None if there is none."""
        found = self.database.execute(
            "SELECT rowid, row FROM rows WHERE partition = ? AND key = ? LIMIT 1", (partition, key)
        ).fetchone()
        if found is None:
            return None
        self.database.execute("DELETE FROM rows WHERE rowid = ?", found[:1])
        return json.loads(found[1])


class Parts:
    """Puts together what was larger than a message may be."""

    def __init__(self):
        self.collected = {}

    def body(self, message):
        """None: it is not complete yet."""
        body = message.body
        encoding = message.headers.get("Siphon-Encoding")
        if encoding == "zstd":
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        elif encoding != "none":
            raise Stop(f"a body is encoded as {encoding}, which this program does not know: a newer one is needed")
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


def run(arguments):
    schema, _, table = arguments.table.partition(".")
    stream = "siphon_" + arguments.application.replace(".", "_")
    subject = f"siphon.{arguments.application}.events.{token(schema)}.{token(table)}.*"

    copy = Copy(arguments.file, arguments.table)
    parts = Parts()
    connection = Connection(arguments.nats_url, arguments.ca, arguments.cert, arguments.key)
    info = connection.api(f"STREAM.INFO.{stream}")
    after = copy.begin_stream(info["created"])
    if 0 < after < info["state"]["first_seq"] - 1:
        raise Stop(
            f"the stream has forgotten what came behind message {after}: SELECT siphon_resync_table('{arguments.table}')"
        )
    for sequence, message in read_stream(connection, stream, subject, after + 1):
        if message is None:
            # All that there is was read, and is remembered: a table that rests is not behind when the stream forgets.
            copy.read(parts.all_up_to(sequence))
            if arguments.stop_at_end:
                return
            continue
        # Kinds that are not known are skipped.
        if message.headers.get("Siphon-Kind") not in ("changes", "snapshot", "snapshot-begin", "snapshot-end"):
            continue
        try:
            body = parts.body(message)
            if body is not None:
                copy.apply(message, body, parts.all_up_to(sequence))
        except Stop as stop:
            raise Stop(f"message {sequence}: {stop}") from None


def main():
    options = argparse.ArgumentParser(description="Keeps a copy of one table in an SQLite file.")
    options.add_argument("--nats-url", default="nats://127.0.0.1:4222", help="nats:// or tls://, with user and password")
    options.add_argument("--ca", help="file with the certificates of who vouches for the server, if not the system's")
    options.add_argument("--cert", help="file with a certificate of our own, if the server asks for one")
    options.add_argument("--key", help="file with its key")
    options.add_argument("--application", default="main")
    options.add_argument("--table", required=True, help="schema.table")
    options.add_argument("--file", required=True, help="where the copy is")
    options.add_argument("--stop-at-end", action="store_true", help="end when all that there is was applied")
    try:
        run(options.parse_args())
    except Stop as stop:
        sys.exit(str(stop))


if __name__ == "__main__":
    main()
