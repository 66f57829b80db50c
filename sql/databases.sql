-- Applications of two databases: each is seen from both, and changed from its own alone.
SELECT current_database() AS home \gset
CREATE DATABASE regress_siphon_two;
CREATE TABLE here (id int PRIMARY KEY);
SELECT siphon_add_table('here', 'first', snapshot => false);

\c regress_siphon_two
CREATE EXTENSION siphon;
CREATE TABLE there (id int PRIMARY KEY);
SELECT siphon_add_table('there', 'first', snapshot => false);
SELECT siphon_remove_table('there', 'first');
SELECT siphon_drop_application('first');
SELECT siphon_add_table('there', 'second', snapshot => false);
SELECT application, database, table_name, state FROM siphon_tables ORDER BY 1;

\c :home
SELECT application, database, schema_name, table_name, state FROM siphon_tables ORDER BY 1;
SELECT application, database, state FROM siphon_applications ORDER BY 1;
SELECT siphon_drop_application('second');

-- a database with an application can't go before it
DROP DATABASE regress_siphon_two;
\c regress_siphon_two
SELECT siphon_drop_application('second');
\c :home
DROP DATABASE regress_siphon_two;
SELECT siphon_drop_application('first');
DROP TABLE here;
