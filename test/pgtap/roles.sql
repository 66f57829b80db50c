-- The roles of deploy/roles.sql: an admin may call everything, a table's owner what concerns tables that it may read, and those
-- who watch may look. Nobody else may do anything.
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
\set ON_ERROR_ROLLBACK 1
\set ON_ERROR_STOP true

-- Not in one transaction, as no slot can be created by one that has written.
CREATE ROLE siphon_test_other NOLOGIN;
CREATE ROLE siphon_test_owner NOLOGIN;
CREATE ROLE siphon_test_boss NOLOGIN;
CREATE ROLE siphon_test_watcher NOLOGIN;
CREATE SCHEMA siphon_test;
GRANT USAGE, CREATE ON SCHEMA siphon_test TO siphon_test_owner, siphon_test_other;
SET ROLE siphon_test_other;
CREATE TABLE siphon_test.theirs (id int PRIMARY KEY, secret text);
RESET ROLE;
SET ROLE siphon_test_owner;
CREATE TABLE siphon_test.mine (id int PRIMARY KEY, v text);
RESET ROLE;
CREATE PUBLICATION siphon_test FOR TABLE siphon_test.theirs;
\i deploy/roles.sql
GRANT siphon_table_owner TO siphon_test_owner;
GRANT siphon_admin TO siphon_test_boss;
GRANT pg_monitor TO siphon_test_watcher;

SELECT no_plan();
-- where pgTAP counts
GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;

CREATE TEMPORARY TABLE call (statement text);
INSERT INTO call VALUES
	($$SELECT siphon_add_table('siphon_test.theirs', snapshot => false)$$),
	($$SELECT siphon_alter_table('siphon_test.theirs', workers => 3)$$),
	($$SELECT siphon_resync_table('siphon_test.theirs')$$),
	($$SELECT siphon_pause('siphon_test.theirs')$$),
	($$SELECT siphon_resume('siphon_test.theirs')$$),
	($$SELECT siphon_remove_table('siphon_test.theirs')$$);
CREATE TEMPORARY TABLE admins_call (statement text);
INSERT INTO admins_call VALUES
	($$SELECT siphon_create_application('siphon_test')$$),
	($$SELECT siphon_drop_application('main')$$),
	($$SELECT siphon_resync_application('main')$$),
	($$SELECT siphon_stop_application('main')$$),
	($$SELECT siphon_start_application('main')$$),
	($$SELECT siphon_follow_publication('siphon_test')$$),
	($$SELECT siphon_unfollow_publication()$$);
GRANT SELECT ON call, admins_call TO PUBLIC;

-- the admin publishes what belongs to others
SET ROLE siphon_test_boss;
SET ROLE siphon_admin;
SELECT lives_ok($$SELECT siphon_create_application()$$, 'an admin creates an application');
SELECT lives_ok($$SELECT siphon_add_table('siphon_test.theirs')$$, 'an admin adds a table of others');
RESET ROLE;

-- nobody else
SET ROLE siphon_test_other;
SELECT throws_ok(statement, '42501', NULL, 'others may not: ' || statement) FROM call;
SELECT throws_ok(statement, '42501', NULL, 'others may not: ' || statement) FROM admins_call;
SELECT throws_ok('SELECT * FROM ' || view, '42501', NULL, 'others may not look at ' || view)
  FROM unnest('{siphon_applications,siphon_tables,siphon_snapshot_progress,siphon_stats,siphon_registry}'::text[]) view;
RESET ROLE;

-- a table's owner: its own tables, and not those of others
SET ROLE siphon_test_owner;
SELECT lives_ok($$SELECT siphon_add_table('siphon_test.mine', snapshot => false)$$, 'an owner adds a table');
SELECT lives_ok($$SELECT siphon_alter_table('siphon_test.mine', workers => 3)$$, 'an owner alters it');
SELECT throws_ok(statement, '42501', 'permission denied for table siphon_test.theirs', 'an owner may not: ' || statement)
  FROM call;
SELECT throws_ok(statement, '42501', NULL, 'an owner may not: ' || statement) FROM admins_call;
SELECT results_eq($$SELECT relation::text, added, reason FROM siphon_add_tables('siphon_test', '%') ORDER BY 1$$,
	$$VALUES ('siphon_test.mine', false, 'table siphon_test.mine is already published by application "main"'),
	('siphon_test.theirs', false, 'permission denied for table siphon_test.theirs')$$,
	'an owner adds by pattern what may be read');
SELECT lives_ok($$SELECT siphon_remove_table('siphon_test.mine')$$, 'an owner removes its table');
SELECT throws_ok(statement, '42501', 'permission denied to create application "siphon_test"', 'an owner may not: ' || statement)
  FROM (VALUES ($$SELECT siphon_add_table('siphon_test.mine', 'siphon_test', snapshot => false)$$),
	($$SELECT siphon_add_tables('siphon_test', 'mine', 'siphon_test', snapshot => false)$$)) v (statement);
RESET ROLE;
SELECT is((SELECT string_agg(slot_name, ' ') FROM pg_replication_slots), 'siphon_main', 'and has made no slot');

-- column privileges and row-level security hide a part, which is all the same
GRANT SELECT (id) ON siphon_test.theirs TO siphon_test_owner;
SET ROLE siphon_test_owner;
SELECT throws_ok(statement, '42501', 'permission denied for table siphon_test.theirs', 'with one column: ' || statement)
  FROM call;
RESET ROLE;
GRANT SELECT ON siphon_test.theirs TO siphon_test_owner;
ALTER TABLE siphon_test.theirs ENABLE ROW LEVEL SECURITY;
SET ROLE siphon_test_owner;
SELECT throws_like(statement, 'row-level security hides rows of table siphon_test.theirs%', 'with hidden rows: ' || statement)
  FROM call;
RESET ROLE;

-- who watches may look, and no more
SET ROLE siphon_test_watcher;
SELECT lives_ok('SELECT * FROM ' || view, 'who watches may look at ' || view)
  FROM unnest('{siphon_applications,siphon_tables,siphon_snapshot_progress,siphon_stats}'::text[]) view;
SELECT throws_ok('SELECT * FROM siphon_registry', '42501', NULL, 'who watches has no business in siphon_registry');
SELECT throws_ok(statement, '42501', NULL, 'who watches may not: ' || statement) FROM call;
SELECT throws_ok(statement, '42501', NULL, 'who watches may not: ' || statement) FROM admins_call;
RESET ROLE;

-- the admin may call all the rest, past row-level security
SET ROLE siphon_test_boss;
SET ROLE siphon_admin;
SELECT lives_ok($$SELECT siphon_alter_table('siphon_test.theirs', workers => 3)$$, 'an admin alters');
SELECT lives_ok($$SELECT siphon_pause('siphon_test.theirs')$$, 'an admin pauses');
SELECT lives_ok($$SELECT siphon_resume('siphon_test.theirs')$$, 'an admin resumes');
SELECT lives_ok($$SELECT siphon_remove_table('siphon_test.theirs')$$, 'an admin removes');
SELECT isnt_empty($$SELECT * FROM siphon_add_tables('siphon_test', 'theirs', snapshot => false) WHERE added$$,
	'an admin adds by pattern');
SELECT lives_ok($$SELECT siphon_resync_table('siphon_test.theirs')$$, 'an admin brings rows out anew');
SELECT lives_ok($$SELECT siphon_follow_publication('siphon_test')$$, 'an admin follows a publication');
SELECT lives_ok($$SELECT siphon_unfollow_publication()$$, 'an admin follows it no more');
SELECT lives_ok($$SELECT siphon_resync_application()$$, 'an admin begins anew');
SELECT lives_ok($$SELECT siphon_drop_application('main')$$, 'an admin drops the application');
SELECT lives_ok('SELECT * FROM siphon_applications, siphon_tables', 'an admin looks');
RESET ROLE;

SELECT finish();

DROP PUBLICATION siphon_test;
DROP TABLE siphon_test.mine, siphon_test.theirs;
DROP SCHEMA siphon_test;
DROP OWNED BY siphon_admin, siphon_table_owner;
DROP ROLE siphon_admin, siphon_table_owner, siphon_test_other, siphon_test_owner, siphon_test_boss, siphon_test_watcher;
