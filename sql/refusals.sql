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
SELECT siphon_add_table('siphon_registry');
SELECT siphon_add_table('information_schema.sql_features');
SELECT reltoastrelid::regclass AS toast FROM pg_class WHERE oid = 'pg_catalog.pg_proc'::regclass \gset
SELECT siphon_add_table(:'toast');
SELECT siphon_add_table('no_such_table');
SELECT siphon_add_table(0);
SELECT siphon_add_table(4294967295::oid);

-- partitioned tables: what a partition must be like
CREATE TABLE partitioned (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF partitioned FOR VALUES FROM (0) TO (10);
CREATE TABLE sub_root PARTITION OF partitioned FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE foreign_part (v text, id int NOT NULL) SERVER dummy;
CREATE TABLE no_key (v text, id int) PARTITION BY RANGE (id);
CREATE TABLE no_key_part PARTITION OF no_key FOR VALUES FROM (0) TO (10);
SELECT siphon_add_table('no_key');
SELECT siphon_add_table('no_key', partitions => 2);
ALTER TABLE no_key REPLICA IDENTITY FULL;
SELECT siphon_add_table('no_key');
SELECT siphon_add_table('no_key', partitions => 2);
ALTER TABLE no_key_part ADD PRIMARY KEY (id);
SELECT siphon_add_table('no_key');
ALTER TABLE no_key ATTACH PARTITION foreign_part FOR VALUES FROM (10) TO (20);
ALTER TABLE no_key_part REPLICA IDENTITY FULL;
SELECT siphon_add_table('no_key');
CREATE UNLOGGED TABLE "Unlogged Part" PARTITION OF sub_root FOR VALUES FROM (10) TO (15);
SELECT siphon_add_table('partitioned');
ALTER TABLE "Unlogged Part" SET LOGGED;
ALTER TABLE "Unlogged Part" REPLICA IDENTITY NOTHING;
SELECT siphon_add_table('partitioned');
ALTER TABLE "Unlogged Part" ALTER v SET NOT NULL;
CREATE UNIQUE INDEX other_identity ON "Unlogged Part" (v);
ALTER TABLE "Unlogged Part" REPLICA IDENTITY USING INDEX other_identity;
SELECT siphon_add_table('partitioned');
ALTER TABLE "Unlogged Part" REPLICA IDENTITY DEFAULT;
SELECT siphon_add_table('partitioned', exclude_columns => '{id}');

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
SELECT siphon_resync_application('no_such_application');
SELECT siphon_stop_application('no_such_application');
SELECT siphon_start_application('no_such_application');
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
SELECT siphon_resync_application(NULL);
SELECT siphon_stop_application(NULL);
SELECT siphon_start_application(NULL);

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

-- a partition, or its root, but not both
SELECT siphon_add_table('part', snapshot => false);
SELECT siphon_add_table('partitioned', snapshot => false);
SELECT siphon_remove_table('part');
SELECT siphon_add_table('partitioned', snapshot => false);
SELECT siphon_add_table('part', snapshot => false);
SELECT siphon_add_table('sub_root', snapshot => false);
SELECT siphon_add_table('"Unlogged Part"', snapshot => false);
SELECT siphon_remove_table('partitioned');
SELECT siphon_add_table('sub_root', snapshot => false);
SELECT siphon_add_table('partitioned', snapshot => false);
-- of plain inheritance, both
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (good);
SELECT siphon_add_table('good', snapshot => false);
SELECT siphon_add_table('child', snapshot => false);
SELECT siphon_drop_application('main');

-- the longest identifier is fine
SELECT siphon_create_application(repeat('x', 56));
SELECT siphon_drop_application(repeat('x', 56));
SET client_min_messages = warning;
DROP TABLE good, no_identity, "Odd Name", late, unlogged, partitioned, no_key CASCADE;
DROP FOREIGN DATA WRAPPER dummy CASCADE;
DROP VIEW a_view;
DROP MATERIALIZED VIEW a_matview;
DROP SEQUENCE a_sequence;
DROP TYPE a_type;
