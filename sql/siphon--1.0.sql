-- Siphon's SQL interface. Nothing here is stored in tables, because a standby can't write them: the
-- functions keep the registry's files and speak to the launcher and the decoders. Of applications with failover
-- there is a copy of the registry in a table, for the server that takes over.

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION siphon" to load this file. \quit

CREATE FUNCTION siphon_create_application(application text DEFAULT 'main', failover boolean DEFAULT false)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_create_application(text, boolean) IS
'create an application: a replication slot and a decoder for the current database; siphon_add_table() does so on first use; with failover => true standbys synchronize the slot, and the application goes on where one is promoted';

CREATE FUNCTION siphon_drop_application(application text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_drop_application(text) IS
'stop an application, drop its replication slot, and forget its tables; what was published stays in JetStream';

CREATE FUNCTION siphon_resync_application(application text DEFAULT 'main')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_resync_application(text) IS
'make a new replication slot, where the old one or the stream was lost or the application was given up, and bring the rows of all its tables out anew';

CREATE FUNCTION siphon_add_table(
    relation regclass,
    application text DEFAULT 'main',
    partitions int DEFAULT 1,
    exclude_columns name[] DEFAULT '{}',
    snapshot boolean DEFAULT true,
    workers int DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_add_table(regclass, text, int, name[], boolean, int) IS
'publish a table: its existing rows, then its changes; with snapshot => false, changes of transactions that commit after the call';

CREATE FUNCTION siphon_add_tables(
    schema name,
    pattern text,
    application text DEFAULT 'main',
    partitions int DEFAULT 1,
    exclude_columns name[] DEFAULT '{}',
    snapshot boolean DEFAULT true,
    workers int DEFAULT NULL,
    OUT relation regclass,
    OUT added boolean,
    OUT reason text,
    OUT hint text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_add_tables(name, text, text, int, name[], boolean, int) IS
'publish all tables of a schema whose names match a pattern of LIKE, each without those columns to exclude that it has; returns each, and why it was left out';

CREATE FUNCTION siphon_alter_table(
    relation regclass,
    application text DEFAULT 'main',
    partitions int DEFAULT NULL,
    exclude_columns name[] DEFAULT NULL,
    workers int DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_alter_table(regclass, text, int, name[], int) IS
'change what a published table excludes or is divided into, where not null; its rows come anew if that changes what is published';

CREATE FUNCTION siphon_follow_publication(publication name, application text DEFAULT 'main')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_follow_publication(name, text) IS
'have an application publish the tables that a publication has: those that enter it are added, with their rows, those that leave it removed';

CREATE FUNCTION siphon_unfollow_publication(application text DEFAULT 'main')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_unfollow_publication(text) IS
'stop following a publication; the tables stay published, as if added one by one';

CREATE FUNCTION siphon_remove_table(relation regclass, application text DEFAULT 'main')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_remove_table(regclass, text) IS
'stop publishing a table; for one that was dropped, give its OID';

CREATE FUNCTION siphon_resync_table(relation regclass, application text DEFAULT 'main')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_resync_table(regclass, text) IS
'bring a table''s rows out anew: the next generation replaces all that came before';

CREATE FUNCTION siphon_pause(relation regclass, application text DEFAULT 'main')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_pause(regclass, text) IS
'pause a table''s snapshot, running or waiting';

CREATE FUNCTION siphon_resume(relation regclass, application text DEFAULT 'main')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_resume(regclass, text) IS
'go on with a table''s paused snapshot';

CREATE FUNCTION siphon_get_applications(
    OUT application text,
    OUT database text,
    OUT slot_name text,
    OUT state text,
    OUT reason text,
    OUT hint text,
    OUT tables bigint,
    OUT decoder_pid int,
    OUT publisher_attached boolean,
    OUT decoded_lsn pg_lsn,
    OUT confirmed_lsn pg_lsn,
    OUT lag_bytes bigint,
    OUT retained_bytes bigint,
    OUT ring_size bigint,
    OUT ring_used bigint,
    OUT transactions bigint,
    OUT events bigint,
    OUT packages bigint,
    OUT bytes bigint,
    OUT last_event timestamptz,
    OUT restarts bigint,
    OUT publication text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_get_applications() IS
'rows of the view siphon_applications';

CREATE TABLE siphon_registry (
    application text PRIMARY KEY,
    slot_name text NOT NULL,
    version bigint NOT NULL,
    content text NOT NULL);

COMMENT ON TABLE siphon_registry IS 'copies of the registries of applications with failover, by which a promoted standby goes on; written by their decoders';
COMMENT ON COLUMN siphon_registry.application IS 'identifier';
COMMENT ON COLUMN siphon_registry.slot_name IS 'its replication slot';
COMMENT ON COLUMN siphon_registry.version IS 'version of the registry, greater after each change';
COMMENT ON COLUMN siphon_registry.content IS 'the registry, as its file has it';

-- What the registry's files have; and what the primary's have, or the former primary's, where this server has none.
CREATE VIEW siphon_applications AS
WITH here AS MATERIALIZED (SELECT * FROM siphon_get_applications())
SELECT * FROM here
UNION ALL
SELECT r.application,
       pg_catalog.current_database()::text COLLATE "default",
       r.slot_name,
       CASE WHEN r.standby THEN 'standby' WHEN r.slot THEN 'starting' ELSE 'failed' END,
       CASE WHEN r.standby THEN 'the primary publishes it'
            WHEN NOT r.slot THEN 'the former primary published it, and its slot was not synchronized to this server' END,
       CASE WHEN NOT r.standby AND NOT r.slot THEN
            pg_catalog.format('SELECT siphon_resync_application(%L) brings the rows of its tables out anew; if another '
                              'server still publishes them: SELECT siphon_drop_application(%L).',
                              r.application, r.application) END,
       pg_catalog.json_array_length(r.content::json -> 'tables'),
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       r.content::json ->> 'publication'
  FROM (SELECT *,
               pg_catalog.pg_is_in_recovery() AS standby,
               EXISTS (SELECT FROM pg_catalog.pg_replication_slots p
                        WHERE p.slot_name = siphon_registry.slot_name AND p.plugin = 'siphon') AS slot
          FROM siphon_registry) r
 WHERE NOT EXISTS (SELECT FROM here WHERE here.application = r.application);

COMMENT ON VIEW siphon_applications IS 'applications of this server, with their state and figures since the decoder''s server started';
COMMENT ON COLUMN siphon_applications.application IS 'identifier';
COMMENT ON COLUMN siphon_applications.database IS 'database whose changes it publishes';
COMMENT ON COLUMN siphon_applications.slot_name IS 'its replication slot, see pg_replication_slots';
COMMENT ON COLUMN siphon_applications.state IS 'starting, streaming, restarting, no worker, standby, failed, or given up';
COMMENT ON COLUMN siphon_applications.reason IS 'why it is not streaming, what it waits for, or that its slot keeps more WAL than siphon.warn_retained_wal';
COMMENT ON COLUMN siphon_applications.hint IS 'what to type to mend it';
COMMENT ON COLUMN siphon_applications.tables IS 'number of tables';
COMMENT ON COLUMN siphon_applications.decoder_pid IS 'process ID of its decoder, null if none runs';
COMMENT ON COLUMN siphon_applications.publisher_attached IS 'a publisher gave a sign of life within the last five seconds';
COMMENT ON COLUMN siphon_applications.decoded_lsn IS 'WAL is decoded up to here';
COMMENT ON COLUMN siphon_applications.confirmed_lsn IS 'everything up to here is acknowledged by JetStream and not needed again';
COMMENT ON COLUMN siphon_applications.lag_bytes IS 'bytes of WAL between confirmed_lsn and this server''s newest WAL';
COMMENT ON COLUMN siphon_applications.retained_bytes IS 'bytes of WAL that its slot keeps on this server''s disk; null if it has no usable slot';
COMMENT ON COLUMN siphon_applications.ring_size IS 'size of the ring in bytes';
COMMENT ON COLUMN siphon_applications.ring_used IS 'bytes in the ring that are not acknowledged';
COMMENT ON COLUMN siphon_applications.transactions IS 'transactions decoded, with or without events of published tables';
COMMENT ON COLUMN siphon_applications.events IS 'events written to the ring';
COMMENT ON COLUMN siphon_applications.packages IS 'packages written to the ring';
COMMENT ON COLUMN siphon_applications.bytes IS 'bytes of packages written to the ring, uncompressed';
COMMENT ON COLUMN siphon_applications.last_event IS 'commit time of the last event written';
COMMENT ON COLUMN siphon_applications.restarts IS 'how often the decoder was started again after it ended';
COMMENT ON COLUMN siphon_applications.publication IS 'publication whose tables it follows, see siphon_follow_publication()';

CREATE FUNCTION siphon_get_stats(
    OUT application text,
    OUT inserts bigint,
    OUT updates bigint,
    OUT deletes bigint,
    OUT truncates bigint,
    OUT other_events bigint,
    OUT decodes bigint,
    OUT decode_time float8,
    OUT encodes bigint,
    OUT encode_time float8,
    OUT ring_waits bigint,
    OUT ring_wait_time float8,
    OUT lag interval,
    OUT headroom_bytes bigint,
    OUT messages bigint,
    OUT published_events bigint,
    OUT published_packages bigint,
    OUT held_events bigint,
    OUT raw_bytes bigint,
    OUT published_bytes bigint,
    OUT compression_time float8,
    OUT publish_to_ack_time float8,
    OUT commit_to_ack_time float8,
    OUT in_flight_messages bigint,
    OUT in_flight_bytes bigint,
    OUT disconnects bigint,
    OUT refused_messages bigint,
    OUT answer_timeouts bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_get_stats() IS
'rows of the view siphon_stats';

CREATE VIEW siphon_stats AS SELECT * FROM siphon_get_stats();

COMMENT ON VIEW siphon_stats IS 'what decoders and publishers of this server did, and how long it took: figures of the publisher''s /metrics, in SQL';
COMMENT ON COLUMN siphon_stats.application IS 'identifier';
COMMENT ON COLUMN siphon_stats.inserts IS 'INSERT events written to the ring since the server''s start, like all that follow up to ring_wait_time';
COMMENT ON COLUMN siphon_stats.updates IS 'UPDATE events';
COMMENT ON COLUMN siphon_stats.deletes IS 'DELETE events';
COMMENT ON COLUMN siphon_stats.truncates IS 'TRUNCATE events';
COMMENT ON COLUMN siphon_stats.other_events IS 'events of definitions: DROP, DETACH, RENAME';
COMMENT ON COLUMN siphon_stats.decodes IS 'transactions whose changes were handed out';
COMMENT ON COLUMN siphon_stats.decode_time IS 'total time of handing out and encoding their changes, from their commit records on, without waits, in milliseconds';
COMMENT ON COLUMN siphon_stats.encodes IS 'changes whose encoding was timed: one in 64';
COMMENT ON COLUMN siphon_stats.encode_time IS 'total time of these, in milliseconds';
COMMENT ON COLUMN siphon_stats.ring_waits IS 'how often the decoder waited for space in the ring';
COMMENT ON COLUMN siphon_stats.ring_wait_time IS 'total time that it waited, in milliseconds';
COMMENT ON COLUMN siphon_stats.lag IS 'age of the oldest commit that is not acknowledged, 0 if all is; null while no decoder runs';
COMMENT ON COLUMN siphon_stats.headroom_bytes IS 'WAL that its slot may keep beyond what it keeps now, before max_slot_wal_keep_size or siphon.max_retained_wal ends it; null if neither is set';
COMMENT ON COLUMN siphon_stats.messages IS 'messages that JetStream acknowledged since the publisher''s start, like all that follow; the publisher''s own statements, a second or two old';
COMMENT ON COLUMN siphon_stats.published_events IS 'events in them, rows of snapshots included';
COMMENT ON COLUMN siphon_stats.published_packages IS 'packages in them';
COMMENT ON COLUMN siphon_stats.held_events IS 'of published_events, those that waited behind a snapshot';
COMMENT ON COLUMN siphon_stats.raw_bytes IS 'bytes of the messages before compression';
COMMENT ON COLUMN siphon_stats.published_bytes IS 'their bytes as they were published';
COMMENT ON COLUMN siphon_stats.compression_time IS 'total time of their compression, in milliseconds';
COMMENT ON COLUMN siphon_stats.publish_to_ack_time IS 'total time of messages from being sent until all up to them was acknowledged, in milliseconds; divide by messages';
COMMENT ON COLUMN siphon_stats.commit_to_ack_time IS 'total time of packages from the commit of their oldest event until they were acknowledged, in milliseconds; divide by published_packages';
COMMENT ON COLUMN siphon_stats.in_flight_messages IS 'messages that are sent and not yet acknowledged';
COMMENT ON COLUMN siphon_stats.in_flight_bytes IS 'their size';
COMMENT ON COLUMN siphon_stats.disconnects IS 'connections to NATS that were lost';
COMMENT ON COLUMN siphon_stats.refused_messages IS 'messages that JetStream did not take, as it was full, for example; they are sent again';
COMMENT ON COLUMN siphon_stats.answer_timeouts IS 'how often JetStream did not answer for ten seconds';

CREATE FUNCTION siphon_get_tables(
    OUT application text,
    OUT database text,
    OUT relid oid,
    OUT schema_name text,
    OUT table_name text,
    OUT partitions int,
    OUT exclude_columns name[],
    OUT state text,
    OUT reason text,
    OUT generation int,
    OUT start_lsn pg_lsn)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_get_tables() IS
'tables as the registry has them; the view siphon_tables adds their current names';

CREATE VIEW siphon_tables AS
SELECT t.application,
       t.database,
       t.relid,
       coalesce(n.nspname::text, t.schema_name) AS schema_name,
       coalesce(c.relname::text, t.table_name) AS table_name,
       t.partitions,
       t.exclude_columns,
       CASE WHEN t.database = current_database() AND c.oid IS NULL THEN 'dropped' ELSE t.state END AS state,
       t.reason,
       t.generation,
       t.start_lsn
  FROM siphon_get_tables() t
  LEFT JOIN pg_catalog.pg_class c ON c.oid = t.relid AND t.database = current_database()
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace;

COMMENT ON VIEW siphon_tables IS 'published tables of all applications of this server';
COMMENT ON COLUMN siphon_tables.application IS 'application that publishes the table';
COMMENT ON COLUMN siphon_tables.database IS 'database of the table';
COMMENT ON COLUMN siphon_tables.relid IS 'OID of the table, see pg_class';
COMMENT ON COLUMN siphon_tables.schema_name IS 'schema; in another database than the current one, as the decoder saw it last';
COMMENT ON COLUMN siphon_tables.table_name IS 'name; likewise';
COMMENT ON COLUMN siphon_tables.partitions IS 'number of partitions that its keys are divided into';
COMMENT ON COLUMN siphon_tables.exclude_columns IS 'columns that are not published';
COMMENT ON COLUMN siphon_tables.state IS 'state of the application; or waiting for snapshot, snapshot, paused; resync needed if the application was given up; dropped; leaving, if it left the publication that is followed and what was committed before is not acknowledged yet; or left out, if it is in the publication that is followed and can''t be published';
COMMENT ON COLUMN siphon_tables.reason IS 'why its last snapshot failed, or why it is left out';
COMMENT ON COLUMN siphon_tables.generation IS 'grows each time the table is added or its rows are brought out anew, about the seconds since 1970 then; 0 if nothing was published yet';
COMMENT ON COLUMN siphon_tables.start_lsn IS 'transactions whose commit record lies at or behind it are captured';

CREATE FUNCTION siphon_get_snapshots(
    OUT application text,
    OUT relid oid,
    OUT generation int,
    OUT phase text,
    OUT blocks_done bigint,
    OUT blocks_total bigint,
    OUT rows bigint,
    OUT bytes bigint,
    OUT bytes_per_second bigint,
    OUT eta timestamptz,
    OUT workers int,
    OUT held_events bigint,
    OUT started timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_get_snapshots() IS
'rows of running snapshots for the view siphon_snapshot_progress';

CREATE VIEW siphon_snapshot_progress AS
SELECT t.application,
       t.relid,
       t.schema_name,
       t.table_name,
       CASE WHEN t.state = 'paused' THEN 'paused' ELSE coalesce(s.phase, 'waiting') END AS phase,
       s.generation,
       s.blocks_done,
       s.blocks_total,
       s.rows,
       s.bytes,
       s.bytes_per_second,
       s.eta,
       s.workers,
       s.held_events,
       s.started
  FROM siphon_tables t
  LEFT JOIN siphon_get_snapshots() s ON s.application = t.application AND s.relid = t.relid
 WHERE s.relid IS NOT NULL OR t.state IN ('waiting for snapshot', 'snapshot', 'paused');

COMMENT ON VIEW siphon_snapshot_progress IS 'snapshots that run or wait for their turn';
COMMENT ON COLUMN siphon_snapshot_progress.application IS 'application that publishes the table';
COMMENT ON COLUMN siphon_snapshot_progress.relid IS 'OID of the table';
COMMENT ON COLUMN siphon_snapshot_progress.schema_name IS 'its schema';
COMMENT ON COLUMN siphon_snapshot_progress.table_name IS 'its name';
COMMENT ON COLUMN siphon_snapshot_progress.phase IS 'waiting, paused, preparing, scanning, moving held changes, done, or failed';
COMMENT ON COLUMN siphon_snapshot_progress.generation IS 'generation of this snapshot, see siphon_tables';
COMMENT ON COLUMN siphon_snapshot_progress.blocks_done IS 'blocks that were scanned';
COMMENT ON COLUMN siphon_snapshot_progress.blocks_total IS 'blocks that the table had when the snapshot was taken';
COMMENT ON COLUMN siphon_snapshot_progress.rows IS 'rows brought out';
COMMENT ON COLUMN siphon_snapshot_progress.bytes IS 'bytes of their packages, uncompressed';
COMMENT ON COLUMN siphon_snapshot_progress.bytes_per_second IS 'on average since it started';
COMMENT ON COLUMN siphon_snapshot_progress.eta IS 'when the scan will be done, at that rate';
COMMENT ON COLUMN siphon_snapshot_progress.workers IS 'processes that scan';
COMMENT ON COLUMN siphon_snapshot_progress.held_events IS 'events captured meanwhile, which follow behind the rows';
COMMENT ON COLUMN siphon_snapshot_progress.started IS 'when it started';

REVOKE ALL ON FUNCTION siphon_create_application(text, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_drop_application(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_resync_application(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_add_table(regclass, text, int, name[], boolean, int) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_add_tables(name, text, text, int, name[], boolean, int) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_alter_table(regclass, text, int, name[], int) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_follow_publication(name, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_unfollow_publication(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_remove_table(regclass, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_resync_table(regclass, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_pause(regclass, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_resume(regclass, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_get_snapshots() FROM PUBLIC;
REVOKE ALL ON TABLE siphon_registry FROM PUBLIC;
REVOKE ALL ON TABLE siphon_snapshot_progress FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_get_applications() FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_get_tables() FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_get_stats() FROM PUBLIC;
REVOKE ALL ON TABLE siphon_stats FROM PUBLIC;
REVOKE ALL ON TABLE siphon_applications FROM PUBLIC;
REVOKE ALL ON TABLE siphon_tables FROM PUBLIC;

-- Those who watch the server may watch this, too.
GRANT SELECT ON siphon_applications, siphon_tables, siphon_snapshot_progress, siphon_stats TO pg_monitor;
GRANT EXECUTE ON FUNCTION siphon_get_applications, siphon_get_tables, siphon_get_snapshots, siphon_get_stats TO pg_monitor;
