-- Adding and removing tables and applications, and what the views show of it.
CREATE TABLE issues (id bigint PRIMARY KEY, title text, secret text, "Odd Column" int);
CREATE TABLE pairs (a int, b int, PRIMARY KEY (a, b));
CREATE TABLE keyless (v text);
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE named (a int PRIMARY KEY, code text NOT NULL UNIQUE);
ALTER TABLE named REPLICA IDENTITY USING INDEX named_code_key;
SELECT * FROM siphon_applications;
SELECT * FROM siphon_tables;

-- the first call makes the application
SELECT siphon_add_table('issues', snapshot => false);
SELECT application, database = current_database() AS here, slot_name, state, reason, hint, tables, decoder_pid > 0 AS decoder,
       publisher_attached, confirmed_lsn IS NOT NULL AS confirmed, lag_bytes >= 0 AS lag,
       ring_size, transactions >= 0 AS transactions, events, packages, bytes, last_event, restarts
  FROM siphon_applications;
SELECT slot_name, plugin, slot_type, active FROM pg_replication_slots;

-- with every parameter, by name and by position
SELECT siphon_add_table(relation => 'pairs', partitions => 1024, snapshot => false);
SELECT siphon_add_table('keyless', 'main', 1, '{}', false);
SELECT siphon_add_table('named', exclude_columns => '{a}', application => 'shop.eu.1', snapshot => false);
SELECT application, database = current_database() AS here, relid::regclass, schema_name, table_name, partitions,
       exclude_columns, state, start_lsn IS NOT NULL AS started
  FROM siphon_tables ORDER BY application, relid;
SELECT application, slot_name, tables FROM siphon_applications ORDER BY application;

-- twice
SELECT siphon_add_table('issues');
SELECT siphon_create_application();
SELECT siphon_create_application('main');

-- removed, removed twice, added again with other parameters
SELECT siphon_remove_table('issues');
SELECT siphon_remove_table('issues');
SELECT siphon_add_table('issues', partitions => 4, exclude_columns => '{secret,Odd Column}', snapshot => false);
SELECT relid::regclass, partitions, exclude_columns FROM siphon_tables WHERE relid = 'issues'::regclass;

-- its settings change; what stays null stays
SELECT siphon_alter_table('issues', partitions => 8);
SELECT siphon_alter_table('issues', exclude_columns => '{}');
SELECT siphon_alter_table('issues', exclude_columns => '{title}', workers => 1);
SELECT siphon_alter_table('issues', exclude_columns => '{title}', partitions => 4);
SELECT siphon_alter_table('issues');
SELECT siphon_alter_table('issues', exclude_columns => '{id}');
SELECT siphon_alter_table('issues', exclude_columns => '{nothing}');
SELECT siphon_alter_table('issues', partitions => 0);
SELECT siphon_alter_table('issues', workers => 0);
SELECT siphon_alter_table('keyless', partitions => 2);
SELECT siphon_alter_table('named');
SELECT siphon_alter_table('issues', NULL);
SELECT relid::regclass, partitions, exclude_columns, state FROM siphon_tables WHERE relid = 'issues'::regclass;
-- a column that is excluded under its old name is not another one
ALTER TABLE issues RENAME COLUMN title TO heading;
SELECT siphon_alter_table('issues', exclude_columns => '{heading}');
ALTER TABLE issues RENAME COLUMN heading TO title;

-- by a pattern of LIKE: one line for each table
CREATE SCHEMA shop;
CREATE TABLE shop.order_a (id int PRIMARY KEY);
CREATE TABLE shop.order_b (v text);
CREATE TABLE shop.order_c (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE shop.order_c_1 PARTITION OF shop.order_c FOR VALUES FROM (0) TO (10);
CREATE TABLE shop.part_1 PARTITION OF shop.order_c FOR VALUES FROM (10) TO (20);
CREATE UNLOGGED TABLE shop.order_d (id int PRIMARY KEY);
CREATE VIEW shop.order_e AS SELECT 1 AS id;
CREATE TABLE shop."order%_f" (id int PRIMARY KEY);
CREATE TABLE shop.orders (id int PRIMARY KEY);
SELECT siphon_add_table('shop.order_a', snapshot => false);
SELECT * FROM siphon_add_tables('shop', 'order\_%', snapshot => false);
SELECT relid::regclass FROM siphon_tables WHERE schema_name = 'shop' ORDER BY 1;
SELECT * FROM siphon_add_tables('shop', '%', snapshot => false);
SELECT * FROM siphon_add_tables('shop', 'nothing');
SELECT * FROM siphon_add_tables('no_such_schema', '%');
SELECT * FROM siphon_add_tables('shop', '%', partitions => 0);
SELECT * FROM siphon_add_tables('shop', NULL);
SELECT siphon_remove_table(relid) FROM siphon_tables WHERE schema_name = 'shop';
-- each without what it has of columns to exclude
ALTER TABLE shop.order_a ADD secret text, ADD note text;
ALTER TABLE shop.orders ADD secret text;
SELECT * FROM siphon_add_tables('shop', '%', exclude_columns => '{secret,notes}', snapshot => false);
SELECT * FROM siphon_add_tables('shop', '%', exclude_columns => NULL);
SELECT * FROM siphon_add_tables('shop', 'order_a', exclude_columns => '{id,note}', snapshot => false);
SELECT * FROM siphon_add_tables('shop', 'order%', exclude_columns => '{secret,note}', snapshot => false);
SELECT relid::regclass, exclude_columns FROM siphon_tables WHERE schema_name = 'shop' ORDER BY 1;
SELECT siphon_remove_table(relid) FROM siphon_tables WHERE schema_name = 'shop';
-- nothing to add makes no application
SELECT * FROM siphon_add_tables('shop', 'order_b', 'nothing.of.it');
SELECT * FROM siphon_applications WHERE application = 'nothing.of.it';
SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
RESET client_min_messages;

-- following a publication: see also test/t/048_follow_publication.pl
SET client_min_messages = error;
CREATE PUBLICATION p FOR TABLE issues;
RESET client_min_messages;
SELECT siphon_follow_publication(NULL);
SELECT siphon_follow_publication('p', NULL);
SELECT siphon_follow_publication('p', 'No Name');
SELECT siphon_follow_publication('no_such_publication');
SELECT siphon_unfollow_publication();
SELECT siphon_unfollow_publication('no_such_application');
SELECT siphon_unfollow_publication(NULL);
SELECT siphon_follow_publication('p');
SELECT siphon_follow_publication('p');
SELECT application, publication FROM siphon_applications ORDER BY 1;
ALTER PUBLICATION p SET (publish = 'insert, update');
SELECT siphon_follow_publication('p', 'another');
ALTER PUBLICATION p SET (publish = 'insert, update, delete, truncate');
ALTER PUBLICATION p RENAME TO "P 2";
SELECT siphon_follow_publication('P 2');
SELECT siphon_unfollow_publication();
SELECT siphon_unfollow_publication();
DROP PUBLICATION "P 2";

-- one table in two applications
SELECT siphon_add_table('issues', 'shop.eu.1', snapshot => false);
SELECT application FROM siphon_tables WHERE relid = 'issues'::regclass ORDER BY 1;

-- a new name is seen; one that is dropped stays until it is removed
CREATE SCHEMA moved;
ALTER TABLE pairs RENAME TO couples;
ALTER TABLE couples SET SCHEMA moved;
SELECT schema_name, table_name, state FROM siphon_tables WHERE relid = 'moved.couples'::regclass;
DROP TABLE moved.couples;
-- Under which name depends on how far decoding is.
SELECT application, state FROM siphon_tables WHERE state = 'dropped';
SELECT siphon_remove_table(relid) FROM siphon_tables WHERE state = 'dropped';

-- one that was made again under its name is another one
CREATE TABLE again (id int PRIMARY KEY, secret text);
SELECT siphon_add_table('again', partitions => 2, exclude_columns => '{secret}', snapshot => false);
DROP TABLE again;
SELECT state, reason FROM siphon_tables WHERE table_name = 'again';
CREATE TABLE again (id int PRIMARY KEY);
SELECT state, regexp_replace(reason, '\d+', 'OID') AS reason FROM siphon_tables WHERE table_name = 'again';
SELECT siphon_add_table('again', snapshot => false);
SELECT relid = 'again'::regclass AS new, state, reason FROM siphon_tables WHERE table_name = 'again' ORDER BY 1;
SELECT siphon_remove_table(relid) FROM siphon_tables WHERE table_name = 'again';
DROP TABLE again;

-- tables that inherit are others, too
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
CREATE TABLE "Grand Child" () INHERITS (child);
SELECT siphon_add_table('parent', snapshot => false);
SELECT siphon_add_table('child', snapshot => false);
DROP TABLE "Grand Child";
SELECT siphon_remove_table(relid) FROM siphon_tables WHERE table_name IN ('parent', 'child');
DROP TABLE parent, child;

-- the registry is not part of the transaction, like a slot
BEGIN;
SELECT siphon_remove_table('keyless');
ROLLBACK;
SELECT count(*) FROM siphon_tables WHERE relid = 'keyless'::regclass;

-- an application can be there before its tables, and goes with them
SELECT siphon_create_application('empty');
SELECT application, tables, state FROM siphon_applications ORDER BY application;
SELECT siphon_drop_application('empty');
SELECT siphon_drop_application('shop.eu.1');
SELECT siphon_drop_application('main');
SELECT siphon_drop_application('main');
SELECT * FROM siphon_applications;
SELECT * FROM siphon_tables;
SELECT slot_name FROM pg_replication_slots;
DROP TABLE issues, keyless, named;
DROP SCHEMA moved;
