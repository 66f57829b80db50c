-- The shape of the SQL interface: functions with their signatures and privileges, views with their columns.
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
\set ON_ERROR_ROLLBACK 1
\set ON_ERROR_STOP true

BEGIN;
SELECT no_plan();

SELECT has_extension('siphon');

-- functions
CREATE TEMPORARY TABLE expected_function (name name, arguments name[], result text);
INSERT INTO expected_function VALUES
	('siphon_create_application', '{text,boolean,boolean}', 'void'),
	('siphon_drop_application', '{text}', 'void'),
	('siphon_resync_application', '{text,boolean}', 'void'),
	('siphon_start_application', '{text}', 'void'),
	('siphon_stop_application', '{text}', 'void'),
	('siphon_add_table', '{regclass,text,integer,name[],boolean,integer}', 'void'),
	('siphon_add_tables', '{name,text,text,integer,name[],boolean,integer}', 'setof record'),
	('siphon_alter_table', '{regclass,text,integer,name[],integer}', 'void'),
	('siphon_follow_publication', '{name,text}', 'void'),
	('siphon_unfollow_publication', '{text}', 'void'),
	('siphon_remove_table', '{regclass,text}', 'void'),
	('siphon_resync_table', '{regclass,text}', 'void'),
	('siphon_pause', '{regclass,text}', 'void'),
	('siphon_resume', '{regclass,text}', 'void'),
	('siphon_get_snapshots', '{}', 'setof record'),
	('siphon_get_applications', '{}', 'setof record'),
	('siphon_get_tables', '{}', 'setof record'),
	('siphon_get_stats', '{}', 'setof record');
CREATE ROLE siphon_nobody;

SELECT has_function(name, arguments) FROM expected_function;
SELECT function_returns(name, arguments, result) FROM expected_function;
SELECT function_lang_is(name, arguments, 'c') FROM expected_function;
SELECT volatility_is(name, arguments, 'volatile') FROM expected_function;
SELECT isnt_definer(name, arguments) FROM expected_function;
-- a function that refuses null says so itself
SELECT isnt_strict(name, arguments) FROM expected_function;
SELECT function_privs_are('public', name, arguments, 'public', '{}') FROM expected_function;
SELECT function_privs_are('public', name, arguments, 'siphon_nobody', '{}') FROM expected_function;
SELECT is((SELECT count(*) FROM pg_proc WHERE proname LIKE 'siphon%'), (SELECT count(*) FROM expected_function),
          'there are no other functions');

-- defaults: a user types the table alone
SELECT is((SELECT pronargdefaults FROM pg_proc WHERE proname = 'siphon_add_table'), 5::int2,
          'siphon_add_table() needs the table alone');
SELECT is((SELECT pronargdefaults FROM pg_proc WHERE proname = 'siphon_drop_application'), 0::int2,
          'siphon_drop_application() has no default');

-- views
CREATE TEMPORARY TABLE expected_column (view name, position serial, name name, type text);
INSERT INTO expected_column (view, name, type) VALUES
	('siphon_applications', 'application', 'text'),
	('siphon_applications', 'database', 'text'),
	('siphon_applications', 'slot_name', 'text'),
	('siphon_applications', 'state', 'text'),
	('siphon_applications', 'reason', 'text'),
	('siphon_applications', 'hint', 'text'),
	('siphon_applications', 'tables', 'bigint'),
	('siphon_applications', 'decoder_pid', 'integer'),
	('siphon_applications', 'publisher_attached', 'boolean'),
	('siphon_applications', 'decoded_lsn', 'pg_lsn'),
	('siphon_applications', 'confirmed_lsn', 'pg_lsn'),
	('siphon_applications', 'lag_bytes', 'bigint'),
	('siphon_applications', 'retained_bytes', 'bigint'),
	('siphon_applications', 'ring_size', 'bigint'),
	('siphon_applications', 'ring_used', 'bigint'),
	('siphon_applications', 'transactions', 'bigint'),
	('siphon_applications', 'events', 'bigint'),
	('siphon_applications', 'packages', 'bigint'),
	('siphon_applications', 'bytes', 'bigint'),
	('siphon_applications', 'last_event', 'timestamp with time zone'),
	('siphon_applications', 'restarts', 'bigint'),
	('siphon_applications', 'publication', 'text'),
	('siphon_stats', 'application', 'text'),
	('siphon_stats', 'inserts', 'bigint'),
	('siphon_stats', 'updates', 'bigint'),
	('siphon_stats', 'deletes', 'bigint'),
	('siphon_stats', 'truncates', 'bigint'),
	('siphon_stats', 'other_events', 'bigint'),
	('siphon_stats', 'decodes', 'bigint'),
	('siphon_stats', 'decode_time', 'double precision'),
	('siphon_stats', 'encodes', 'bigint'),
	('siphon_stats', 'encode_time', 'double precision'),
	('siphon_stats', 'ring_waits', 'bigint'),
	('siphon_stats', 'ring_wait_time', 'double precision'),
	('siphon_stats', 'lag', 'interval'),
	('siphon_stats', 'headroom_bytes', 'bigint'),
	('siphon_stats', 'messages', 'bigint'),
	('siphon_stats', 'published_events', 'bigint'),
	('siphon_stats', 'published_packages', 'bigint'),
	('siphon_stats', 'held_events', 'bigint'),
	('siphon_stats', 'raw_bytes', 'bigint'),
	('siphon_stats', 'published_bytes', 'bigint'),
	('siphon_stats', 'compression_time', 'double precision'),
	('siphon_stats', 'publish_to_ack_time', 'double precision'),
	('siphon_stats', 'commit_to_ack_time', 'double precision'),
	('siphon_stats', 'in_flight_messages', 'bigint'),
	('siphon_stats', 'in_flight_bytes', 'bigint'),
	('siphon_stats', 'disconnects', 'bigint'),
	('siphon_stats', 'refused_messages', 'bigint'),
	('siphon_stats', 'answer_timeouts', 'bigint'),
	('siphon_tables', 'application', 'text'),
	('siphon_tables', 'database', 'text'),
	('siphon_tables', 'relid', 'oid'),
	('siphon_tables', 'schema_name', 'text'),
	('siphon_tables', 'table_name', 'text'),
	('siphon_tables', 'partitions', 'integer'),
	('siphon_tables', 'exclude_columns', 'name[]'),
	('siphon_tables', 'state', 'text'),
	('siphon_tables', 'reason', 'text'),
	('siphon_tables', 'generation', 'integer'),
	('siphon_tables', 'start_lsn', 'pg_lsn'),
	('siphon_snapshot_progress', 'application', 'text'),
	('siphon_snapshot_progress', 'relid', 'oid'),
	('siphon_snapshot_progress', 'schema_name', 'text'),
	('siphon_snapshot_progress', 'table_name', 'text'),
	('siphon_snapshot_progress', 'phase', 'text'),
	('siphon_snapshot_progress', 'generation', 'integer'),
	('siphon_snapshot_progress', 'blocks_done', 'bigint'),
	('siphon_snapshot_progress', 'blocks_total', 'bigint'),
	('siphon_snapshot_progress', 'rows', 'bigint'),
	('siphon_snapshot_progress', 'bytes', 'bigint'),
	('siphon_snapshot_progress', 'bytes_per_second', 'bigint'),
	('siphon_snapshot_progress', 'eta', 'timestamp with time zone'),
	('siphon_snapshot_progress', 'workers', 'integer'),
	('siphon_snapshot_progress', 'held_events', 'bigint'),
	('siphon_snapshot_progress', 'started', 'timestamp with time zone');

SELECT has_view(view) FROM (SELECT DISTINCT view FROM expected_column) v;
SELECT columns_are(view, array_agg(name ORDER BY position)) FROM expected_column GROUP BY view;
SELECT col_type_is(view, name, type) FROM expected_column ORDER BY position;
SELECT table_privs_are('public'::name, view, 'public'::name, '{}'::name[]) FROM (SELECT DISTINCT view FROM expected_column) v;
SELECT table_privs_are('public'::name, view, 'siphon_nobody'::name, '{}'::name[]) FROM (SELECT DISTINCT view FROM expected_column) v;
SELECT isnt(col_description(view::regclass, attnum), NULL, format('%s.%s has a comment', view, attname))
  FROM (SELECT DISTINCT view FROM expected_column) v
  JOIN pg_attribute ON attrelid = view::regclass AND attnum > 0;

SELECT * FROM finish();
ROLLBACK;
