-- Every refusal that one well-configured primary can show. Each is one error with a hint that says what to do, and
-- leaves no slot and no application behind.
CREATE TABLE good (id int PRIMARY KEY, code text NOT NULL UNIQUE, v text);

-- no usable replica identity
CREATE TABLE no_identity (v text);
SELECT siphon_add_table('no_identity');
ALTER TABLE good REPLICA IDENTITY NOTHING;
SELECT siphon_add_table('good');
ALTER TABLE good REPLICA IDENTITY DEFAULT;
CREATE TABLE "Odd Name" ("Odd Column" int);
SELECT siphon_add_table('"Odd Name"');
CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
SELECT siphon_add_table('late');

-- kinds of relations
CREATE TEMPORARY TABLE temporary (id int PRIMARY KEY);
SELECT siphon_add_table('temporary');
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
SELECT siphon_add_table('unlogged');
CREATE FOREIGN DATA WRAPPER dummy;
CREATE SERVER dummy FOREIGN DATA WRAPPER dummy;
CREATE FOREIGN TABLE foreign_table (id int) SERVER dummy;
SELECT siphon_add_table('foreign_table');
CREATE TABLE partitioned (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE partition PARTITION OF partitioned FOR VALUES FROM (0) TO (10);
SELECT siphon_add_table('partitioned');
CREATE VIEW a_view AS SELECT 1 AS id;
SELECT siphon_add_table('a_view');
CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS id;
SELECT siphon_add_table('a_matview');
CREATE SEQUENCE a_sequence;
SELECT siphon_add_table('a_sequence');
CREATE TYPE a_type AS (id int);
SELECT siphon_add_table('a_type');
SELECT siphon_add_table('good_pkey');
SELECT siphon_add_table('pg_class');
SELECT siphon_add_table('information_schema.sql_features');
SELECT reltoastrelid::regclass AS toast FROM pg_class WHERE oid = 'pg_catalog.pg_proc'::regclass \gset
SELECT siphon_add_table(:'toast');
SELECT siphon_add_table('no_such_table');
SELECT siphon_add_table(0);
SELECT siphon_add_table(4294967295::oid);

-- columns
SELECT siphon_add_table('good', exclude_columns => '{no_such_column}');
SELECT siphon_add_table('good', exclude_columns => '{v,id}');
SELECT siphon_add_table('good', exclude_columns => '{ctid}');
SELECT siphon_add_table('good', exclude_columns => '{NULL}');
ALTER TABLE good REPLICA IDENTITY USING INDEX good_code_key;
SELECT siphon_add_table('good', exclude_columns => '{code}');
ALTER TABLE good REPLICA IDENTITY FULL;
SELECT siphon_add_table('good', exclude_columns => '{id}');
ALTER TABLE good REPLICA IDENTITY DEFAULT;
ALTER TABLE good ADD COLUMN dropped int;
ALTER TABLE good DROP COLUMN dropped;
SELECT siphon_add_table('good', exclude_columns => '{dropped}');

-- partitions
SELECT siphon_add_table('good', partitions => 0);
SELECT siphon_add_table('good', partitions => 1025);
SELECT siphon_add_table('good', partitions => -1);
ALTER TABLE no_identity REPLICA IDENTITY FULL;
SELECT siphon_add_table('no_identity', partitions => 2);

-- identifiers of applications
SELECT siphon_add_table('good', '');
SELECT siphon_add_table('good', 'Main');
SELECT siphon_add_table('good', 'with space');
SELECT siphon_add_table('good', '../main');
SELECT siphon_add_table('good', '.main');
SELECT siphon_add_table('good', 'main.');
SELECT siphon_add_table('good', 'a..b');
SELECT siphon_add_table('good', 'müller');
SELECT siphon_create_application(repeat('x', 57));
SELECT siphon_drop_application('no_such_application');
SELECT siphon_remove_table('good', 'no_such_application');
SELECT siphon_drop_application('Main');
SELECT siphon_remove_table('good', 'with space');

-- nulls
SELECT siphon_add_table(NULL);
SELECT siphon_add_table('good', NULL);
SELECT siphon_add_table('good', partitions => NULL);
SELECT siphon_add_table('good', exclude_columns => NULL);
SELECT siphon_add_table('good', snapshot => NULL);
SELECT siphon_remove_table(NULL);
SELECT siphon_remove_table('good', NULL);
SELECT siphon_create_application(NULL);
SELECT siphon_drop_application(NULL);

-- a transaction that wrote
BEGIN;
INSERT INTO good VALUES (1, 'one');
SELECT siphon_add_table('good');
ROLLBACK;
BEGIN;
INSERT INTO good VALUES (1, 'one');
SELECT siphon_create_application();
ROLLBACK;

-- the slot's name is taken: left behind, or by an application whose identifier differs in dots alone
SELECT 1 AS created FROM pg_create_logical_replication_slot('siphon_main', 'siphon');
SELECT siphon_add_table('good');
SELECT pg_drop_replication_slot('siphon_main');
SELECT siphon_create_application('a.b');
SELECT siphon_create_application('a_b');
SELECT siphon_drop_application('a.b');

-- none of them left anything behind
SELECT * FROM siphon_applications;
SELECT slot_name FROM pg_replication_slots;

-- a partition, and the longest identifier, are fine
SELECT siphon_add_table('partition', snapshot => false);
SELECT siphon_drop_application('main');
SELECT siphon_create_application(repeat('x', 56));
SELECT siphon_drop_application(repeat('x', 56));
SET client_min_messages = warning;
DROP TABLE good, no_identity, "Odd Name", late, unlogged, partitioned CASCADE;
DROP FOREIGN DATA WRAPPER dummy CASCADE;
DROP VIEW a_view;
DROP MATERIALIZED VIEW a_matview;
DROP SEQUENCE a_sequence;
DROP TYPE a_type;
