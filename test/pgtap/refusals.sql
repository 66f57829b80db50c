-- SQLSTATEs of refusals, which programs go by, and that a refusal leaves nothing behind.
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
\set ON_ERROR_STOP true

CREATE TABLE good (id int PRIMARY KEY, v text);
CREATE TABLE without_identity (v text);
CREATE TABLE keyless (v text);
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
CREATE VIEW a_view AS SELECT 1 AS id;
CREATE ROLE siphon_reader;
GRANT EXECUTE ON FUNCTION siphon_add_table TO siphon_reader;

SELECT plan(32);

SELECT throws_ok(format('SELECT siphon_add_table(%s)', arguments), code, NULL, format('siphon_add_table(%s)', arguments))
  FROM (VALUES
	($$'without_identity'$$, '55000'),
	($$'unlogged'$$, '42809'),
	($$'a_view'$$, '42809'),
	($$'pg_class'$$, '42809'),
	($$0$$, '42P01'),
	($$'good', exclude_columns => '{nothing}'$$, '42703'),
	($$'good', exclude_columns => '{id}'$$, '22023'),
	($$'good', exclude_columns => '{NULL}'$$, '22004'),
	($$'good', partitions => 0$$, '22023'),
	($$'good', partitions => 1025$$, '22023'),
	($$'keyless', partitions => 2$$, '22023'),
	($$'good', 'No Name'$$, '42602'),
	($$NULL$$, '22004'),
	($$'good', NULL$$, '22004'),
	($$'good', snapshot => NULL$$, '22004')) v (arguments, code);
SELECT throws_ok($$SELECT siphon_remove_table('good')$$, '42704', 'application "main" does not exist');
SELECT throws_ok($$SELECT siphon_drop_application('main')$$, '42704', 'application "main" does not exist');
SELECT throws_ok($$SELECT siphon_resync_application()$$, '42704', 'application "main" does not exist');
SELECT throws_ok($$SELECT siphon_create_application(NULL)$$, '22004');

SET ROLE siphon_reader;
SELECT throws_ok($$SELECT siphon_add_table('good')$$, '42501', 'permission denied for table public.good');
SELECT throws_ok($$SELECT siphon_drop_application('main')$$, '42501', 'permission denied for function siphon_drop_application');
SELECT throws_ok($$SELECT * FROM siphon_tables$$, '42501', 'permission denied for view siphon_tables');
RESET ROLE;

SELECT is_empty('SELECT * FROM siphon_applications', 'no refusal left an application behind');
SELECT is_empty('SELECT * FROM pg_replication_slots', 'nor a slot');

-- with an application there
SELECT lives_ok($$SELECT siphon_add_table('good', snapshot => false)$$, 'a good table is taken');
SELECT throws_ok($$SELECT siphon_add_table('good')$$, '42710', 'table public.good is already published by application "main"');
SELECT throws_ok($$SELECT siphon_create_application()$$, '42710', 'application "main" already exists');
SELECT throws_ok($$SELECT siphon_remove_table('keyless')$$, '42704', 'table keyless is not published by application "main"');
SELECT is((SELECT string_agg(format('%s %s %s', table_name, partitions, state), ',') FROM siphon_tables), 'good 1 streaming',
          'the view has the table, once');
SELECT lives_ok($$SELECT siphon_drop_application('main')$$, 'the application is dropped');
SELECT is_empty('SELECT * FROM siphon_tables', 'with its tables');
SELECT is_empty('SELECT * FROM pg_replication_slots', 'and its slot');

SELECT * FROM finish();
