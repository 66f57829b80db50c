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
'create an application: a replication slot and a decoder for the current database; siphon_add_table() does so on first use; with failover => true standbys synchronize the slot, and the application goes on where one is promoted; with take_over => true it takes over the stream that another database has made under its name';

CREATE FUNCTION siphon_resync_application(application text DEFAULT 'main', take_over boolean DEFAULT false)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_resync_application(text, boolean) IS
'make a new replication slot, where the old one or the stream was lost or the application was given up, and bring the rows of all its tables out anew; with take_over => true it takes over the stream that another database has made under its name';

CREATE FUNCTION siphon_stop_application(application text DEFAULT 'main')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_stop_application(text) IS
'end decoder and snapshots until siphon_start_application(), also over restarts of the server: none of its sessions is in the database, and its replication slot keeps WAL meanwhile';

CREATE FUNCTION siphon_start_application(application text DEFAULT 'main')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION siphon_start_application(text) IS
'go on, where it was, with an application that siphon_stop_application() stopped';

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
'what the stream held when something was acknowledged, some seconds ago: history, timeline, number, and the ends of the stream and of its held changes';

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

COMMENT ON COLUMN siphon_tables.reason IS
'why its last snapshot failed, why it is left out, why its rows have to be brought out anew, or that it was dropped and another table has its name';

COMMENT ON COLUMN siphon_applications.reason IS
'why it is not streaming, what it waits for, or what is wrong around it: that its slot keeps more WAL than siphon.warn_retained_wal, that no standby has its slot ready, that replay is paused or delayed on this standby, or that this standby receives no WAL';
