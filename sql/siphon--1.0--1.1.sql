-- From 1.0 to 1.1: applications that take a stream over, and the checkpoint of applications with failover.

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION siphon UPDATE" to load this file. \quit

CREATE FUNCTION siphon_create_application(
    application text DEFAULT 'main',
    failover boolean DEFAULT false,
    take_over boolean DEFAULT false)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_create_application(text, boolean, boolean) IS
'creates an application: a replication slot and a decoder for the current database; siphon_add_table() does so on first use; with failover => true standbys synchronize the slot, and the application continues on a standby that is promoted; with take_over => true it takes over the stream that another database created under its name';

CREATE FUNCTION siphon_resync_application(application text DEFAULT 'main', take_over boolean DEFAULT false)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_resync_application(text, boolean) IS
'creates a new replication slot and takes a new snapshot of each table, after the slot or the stream was lost or the application was given up; with take_over => true it takes over the stream that another database created under its name';

CREATE FUNCTION siphon_stop_application(application text DEFAULT 'main')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_stop_application(text) IS
'stops decoder and snapshots until siphon_start_application(), also across restarts of the server: the application has no session in the database, and its replication slot retains WAL meanwhile';

CREATE FUNCTION siphon_start_application(application text DEFAULT 'main')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_start_application(text) IS
'starts an application that siphon_stop_application() stopped; it continues where it was';

REVOKE ALL ON FUNCTION siphon_create_application(text, boolean, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_stop_application(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_start_application(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION siphon_resync_application(text, boolean) FROM PUBLIC;

-- Functions with other arguments are other functions: whoever may call the old ones may call these.
DO $$
DECLARE
    privilege record;
BEGIN
    FOR privilege IN
        SELECT f.new,
               CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee,
               CASE WHEN a.is_grantable THEN 'WITH GRANT OPTION' ELSE '' END AS option
          FROM (VALUES ('siphon_create_application(text, boolean)'::regprocedure,
                        'siphon_create_application(text, boolean, boolean)'::regprocedure),
                       ('siphon_resync_application(text)', 'siphon_resync_application(text, boolean)')) f (old, new),
               pg_catalog.pg_proc p,
               pg_catalog.aclexplode(p.proacl) a
         WHERE p.oid = f.old AND a.grantee <> p.proowner
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s %s', privilege.new, privilege.grantee, privilege.option);
    END LOOP;
END $$;

DROP FUNCTION siphon_create_application(text, boolean);
DROP FUNCTION siphon_resync_application(text);

ALTER TABLE siphon_registry ADD COLUMN checkpoint text;

COMMENT ON COLUMN siphon_registry.checkpoint IS
'what the stream held at the last acknowledgement, some seconds ago: history, timeline, number, and the ends of the stream and of its held changes';

-- A table that is dropped and made again is another one: whoever does that by hand should hear of it. And another table may
-- have the OID of one that was dropped.
CREATE OR REPLACE VIEW siphon_tables AS
WITH t AS MATERIALIZED (SELECT *, database = current_database() AS here FROM siphon_get_tables())
SELECT t.application,
       t.database,
       t.relid,
       coalesce(n.nspname::text, t.schema_name) AS schema_name,
       coalesce(c.relname::text, t.table_name) AS table_name,
       t.partitions,
       t.exclude_columns,
       CASE WHEN t.here AND c.oid IS NULL THEN 'dropped' ELSE t.state END AS state,
       CASE WHEN another.oid IS NULL THEN t.reason ELSE
            pg_catalog.format('it was dropped, and another table has its name, which is not published (SELECT '
                              'siphon_remove_table(%s, %L); SELECT siphon_add_table(%L, %L, %s, %L);)',
                              t.relid, t.application,
                              pg_catalog.format('%I.%I', t.schema_name, t.table_name), t.application,
                              t.partitions, t.exclude_columns) END COLLATE pg_catalog."default" AS reason,
       t.generation,
       t.start_lsn
  FROM t
  LEFT JOIN pg_catalog.pg_class c ON c.oid = t.relid AND t.here AND t.state <> 'dropped'
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN (pg_catalog.pg_class another JOIN pg_catalog.pg_namespace its ON its.oid = another.relnamespace)
         ON t.here AND c.oid IS NULL AND its.nspname = t.schema_name AND another.relname = t.table_name AND
            another.relkind IN ('r', 'p') AND
            NOT EXISTS (SELECT FROM t other WHERE other.application = t.application AND other.relid = another.oid AND
                                                 other.state <> 'dropped');

-- Comments that name the actor and use the terms of the documentation.
COMMENT ON FUNCTION siphon_drop_application(text) IS
'stops an application, drops its replication slot, and removes its tables; published messages stay in JetStream';
COMMENT ON FUNCTION siphon_add_table(regclass, text, int, name[], boolean, int) IS
'publishes a table: a snapshot of its rows, then its changes; with snapshot => false only changes of transactions that commit after the call';
COMMENT ON FUNCTION siphon_add_tables(name, text, text, int, name[], boolean, int) IS
'publishes all tables of a schema whose names match a pattern of LIKE, each without those columns to exclude that it has; returns a row for each table, with the reason if it was left out';
COMMENT ON FUNCTION siphon_alter_table(regclass, text, int, name[], int) IS
'changes the excluded columns, partitions or workers of a published table, where not null; takes a new snapshot if that changes what is published';
COMMENT ON FUNCTION siphon_follow_publication(name, text) IS
'publishes the tables of a publication: a table that enters it is added with a snapshot, a table that leaves it is removed';
COMMENT ON FUNCTION siphon_unfollow_publication(text) IS
'stops following a publication; its tables stay published, as if they were added one by one';
COMMENT ON FUNCTION siphon_remove_table(regclass, text) IS
'stops publishing a table; for a table that was dropped, give its OID';
COMMENT ON FUNCTION siphon_resync_table(regclass, text) IS
'takes a new snapshot of a table; its generation replaces all earlier ones';
COMMENT ON FUNCTION siphon_pause(regclass, text) IS
'pauses the snapshot of a table, running or waiting';
COMMENT ON FUNCTION siphon_resume(regclass, text) IS
'continues the paused snapshot of a table';

COMMENT ON TABLE siphon_registry IS 'copies of the registries of applications with failover, from which a promoted standby continues; decoders write them';
COMMENT ON COLUMN siphon_registry.slot_name IS 'replication slot of the application';
COMMENT ON COLUMN siphon_registry.content IS 'content of the registry file';

COMMENT ON VIEW siphon_applications IS 'applications of this server, with their state and the metrics of their decoders since the server started';
COMMENT ON COLUMN siphon_applications.slot_name IS 'replication slot of the application, see pg_replication_slots';
COMMENT ON COLUMN siphon_applications.hint IS 'what to run to fix the reason';
COMMENT ON COLUMN siphon_applications.decoder_pid IS 'process ID of the decoder; null if it is not running';
COMMENT ON COLUMN siphon_applications.publisher_attached IS 'whether a publisher sent a heartbeat within the last five seconds';
COMMENT ON COLUMN siphon_applications.decoded_lsn IS 'all WAL up to this LSN is decoded';
COMMENT ON COLUMN siphon_applications.confirmed_lsn IS 'JetStream has acknowledged everything up to this LSN, and the slot does not need it again';
COMMENT ON COLUMN siphon_applications.retained_bytes IS 'bytes of WAL that the slot retains on the disk of this server; null if the application has no usable slot';
COMMENT ON COLUMN siphon_applications.restarts IS 'number of times the decoder was restarted after a failure';
COMMENT ON COLUMN siphon_applications.publication IS 'publication that the application follows, see siphon_follow_publication()';

COMMENT ON VIEW siphon_stats IS 'counters and times of the decoders and publishers of this server: the metrics of the publisher''s /metrics, in SQL';
COMMENT ON COLUMN siphon_stats.inserts IS 'INSERT events written to the ring since the start of the server; the columns up to ring_wait_time count from then, too';
COMMENT ON COLUMN siphon_stats.truncates IS 'TRUNCATE events, one for each partition of a table';
COMMENT ON COLUMN siphon_stats.other_events IS 'DROP, DETACH and RENAME events';
COMMENT ON COLUMN siphon_stats.decodes IS 'decoded transactions that changed published tables';
COMMENT ON COLUMN siphon_stats.decode_time IS 'total time to decode and encode the changes of these transactions, from their commit records on and without waits, in milliseconds';
COMMENT ON COLUMN siphon_stats.encodes IS 'changes whose encoding was timed, one in 64';
COMMENT ON COLUMN siphon_stats.encode_time IS 'total time to encode these changes, in milliseconds';
COMMENT ON COLUMN siphon_stats.ring_waits IS 'number of times the decoder waited for space in the ring';
COMMENT ON COLUMN siphon_stats.ring_wait_time IS 'total time of these waits, in milliseconds';
COMMENT ON COLUMN siphon_stats.lag IS 'replication lag: age of the oldest commit that is not acknowledged, 0 if all are; null while no decoder runs';
COMMENT ON COLUMN siphon_stats.headroom_bytes IS 'WAL that the slot may still retain before max_slot_wal_keep_size or siphon.max_retained_wal ends it; null if neither is set';
COMMENT ON COLUMN siphon_stats.messages IS 'messages that JetStream acknowledged since the start of the publisher; the columns that follow count from then, too, and are a second or two old';
COMMENT ON COLUMN siphon_stats.published_events IS 'events in acknowledged messages, snapshot rows included';
COMMENT ON COLUMN siphon_stats.published_packages IS 'packages in acknowledged messages';
COMMENT ON COLUMN siphon_stats.held_events IS 'events of published_events that were held during a snapshot';
COMMENT ON COLUMN siphon_stats.raw_bytes IS 'bytes of acknowledged messages before compression';
COMMENT ON COLUMN siphon_stats.published_bytes IS 'bytes of acknowledged messages as they were published';
COMMENT ON COLUMN siphon_stats.compression_time IS 'total time to compress messages, in milliseconds';
COMMENT ON COLUMN siphon_stats.publish_to_ack_time IS 'total time from sending a message until all messages up to it were acknowledged, in milliseconds; divide by messages for the mean';
COMMENT ON COLUMN siphon_stats.commit_to_ack_time IS 'total time from the commit of a package''s oldest event until the package was acknowledged, in milliseconds; divide by published_packages for the mean';
COMMENT ON COLUMN siphon_stats.in_flight_messages IS 'messages that were sent and are not acknowledged yet';
COMMENT ON COLUMN siphon_stats.in_flight_bytes IS 'bytes of these messages';
COMMENT ON COLUMN siphon_stats.disconnects IS 'connections to NATS that were lost';
COMMENT ON COLUMN siphon_stats.refused_messages IS 'messages that JetStream rejected, for example because a stream was full; they are sent again';
COMMENT ON COLUMN siphon_stats.answer_timeouts IS 'number of times JetStream did not answer for ten seconds';

COMMENT ON COLUMN siphon_tables.schema_name IS 'current schema of the table; seen from another database, the one that the decoder saw last';
COMMENT ON COLUMN siphon_tables.table_name IS 'current name of the table; seen from another database, the one that the decoder saw last';
COMMENT ON COLUMN siphon_tables.partitions IS 'number of hash partitions into which the keys of the table are divided';
COMMENT ON COLUMN siphon_tables.state IS
'state of the application while the table streams; or waiting for snapshot, snapshot, paused (its snapshot), failed (a value or type that cannot be published, or repeated failures of its snapshot), resync needed (the published changes do not match the table any more, or the application was given up), dropped, leaving (it left the followed publication, and earlier changes are not acknowledged yet), or left out (it is in the followed publication and cannot be published)';
COMMENT ON COLUMN siphon_tables.generation IS 'number of the last snapshot, at least the seconds from 1970 to its beginning; 0 if nothing was published yet';
COMMENT ON COLUMN siphon_tables.start_lsn IS 'transactions whose commit records are at or after this LSN are captured';

COMMENT ON COLUMN siphon_snapshot_progress.schema_name IS 'schema of the table';
COMMENT ON COLUMN siphon_snapshot_progress.table_name IS 'name of the table';
COMMENT ON COLUMN siphon_snapshot_progress.blocks_done IS 'scanned blocks';
COMMENT ON COLUMN siphon_snapshot_progress.blocks_total IS 'blocks of the table when the snapshot was taken';
COMMENT ON COLUMN siphon_snapshot_progress.rows IS 'rows written to the rings';
COMMENT ON COLUMN siphon_snapshot_progress.bytes IS 'bytes of the packages with these rows, uncompressed';
COMMENT ON COLUMN siphon_snapshot_progress.bytes_per_second IS 'mean rate since the snapshot started';
COMMENT ON COLUMN siphon_snapshot_progress.eta IS 'estimated end of the scan at that rate';
COMMENT ON COLUMN siphon_snapshot_progress.workers IS 'number of processes that scan the table';
COMMENT ON COLUMN siphon_snapshot_progress.held_events IS 'changes held until the snapshot is complete';
COMMENT ON COLUMN siphon_snapshot_progress.started IS 'start of the snapshot';

COMMENT ON COLUMN siphon_tables.reason IS
'why the last snapshot failed or waits (for example because no background worker is free), why the table is left out, failed or needs a resync, or that it was dropped and another table has its name';

COMMENT ON COLUMN siphon_applications.reason IS
'why the application is not streaming, what it waits for, or a warning: its slot retains more WAL than siphon.warn_retained_wal, no standby has its slot ready, replay is paused or delayed on this standby, or this standby receives no WAL';
