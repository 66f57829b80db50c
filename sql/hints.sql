-- Hints are typed as they stand, also by administrators who did not choose the names in them. Whatever is in a name, a hint
-- does what it says, and nothing else.
CREATE FUNCTION hint_of(statement text, arguments VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE format(statement, VARIADIC arguments);
	RETURN 'there is none';
EXCEPTION WHEN others THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN hint;
END $$;
-- Behind the command there may be what it does; and what it is to change, it does not know.
CREATE FUNCTION command_of(hint text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(replace(hint, '...', 'workers => 3'), ' (changes|brings|first to) .*', '')
$$;
CREATE SCHEMA "odd'; \ ";
CREATE TABLE "odd'; \ "."x', 'main'); CREATE TABLE hacked(); --" (id int PRIMARY KEY, v text);
CREATE TABLE "odd'; \ "."y\', 'main'); CREATE TABLE hacked(); --" (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE "odd'; \ "."z'); CREATE TABLE hacked(); --" PARTITION OF "odd'; \ "."y\', 'main'); CREATE TABLE hacked(); --"
	FOR VALUES FROM (0) TO (10);
SELECT max(oid::regclass::text) FILTER (WHERE relname LIKE 'x%') AS plain,
       max(oid::regclass::text) FILTER (WHERE relname LIKE 'y%') AS root,
       max(oid::regclass::text) FILTER (WHERE relname LIKE 'z%') AS leaf
  FROM pg_class WHERE relnamespace = $$"odd'; \ "$$::regnamespace AND relkind IN ('r', 'p') \gset
SELECT siphon_create_application();
SELECT siphon_add_table(:'plain', snapshot => false);
SELECT siphon_add_table(:'root', snapshot => false);

SELECT hint_of('SELECT siphon_add_table(%L)', :'plain') AS hint \gset
\echo :hint
SELECT command_of(:'hint') \gexec
SELECT hint_of('SELECT siphon_add_table(%L)', :'root') AS hint \gset
\echo :hint
SELECT command_of(:'hint') \gexec
SELECT hint_of('SELECT siphon_alter_table(%L, partitions => 2)', :'plain') AS hint \gset
\echo :hint
SELECT command_of(:'hint') \gexec
SELECT hint_of('SELECT siphon_add_table(%L)', :'leaf') AS hint \gset
\echo :hint
SELECT command_of(:'hint') \gexec
SELECT siphon_add_table(:'leaf', snapshot => false);
SELECT hint_of('SELECT siphon_add_table(%L)', :'root') AS hint \gset
\echo :hint
SELECT command_of(:'hint') \gexec
SELECT siphon_add_table(:'root', snapshot => false);
-- with other columns it would come as a notice
SELECT siphon_alter_table(:'root', exclude_columns => '{v}');
SELECT relation::text, reason, hint FROM siphon_add_tables($$odd'; \ $$, '%') ORDER BY relation::text COLLATE "C";

SELECT table_name, partitions, exclude_columns FROM siphon_tables ORDER BY table_name COLLATE "C";
SELECT to_regclass('hacked');
SELECT siphon_drop_application('main');
DROP SCHEMA "odd'; \ " CASCADE;
DROP FUNCTION hint_of, command_of;
