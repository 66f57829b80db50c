-- Who may do what: nobody by default, then whoever has EXECUTE and may read the table. Superuser is not needed.
CREATE ROLE regress_siphon_user;
CREATE ROLE regress_siphon_owner;
CREATE TABLE issues (id int PRIMARY KEY, owner name);
CREATE TABLE other (id int PRIMARY KEY);

-- EXECUTE is not granted
SET ROLE regress_siphon_user;
SELECT siphon_add_table('issues');
SELECT siphon_remove_table('issues');
SELECT siphon_create_application();
SELECT siphon_drop_application('main');
SELECT siphon_resync_application('main');
SELECT * FROM siphon_applications;
SELECT * FROM siphon_tables;
SELECT * FROM siphon_get_applications();
SELECT * FROM siphon_get_tables();
RESET ROLE;

-- EXECUTE, but no SELECT
GRANT EXECUTE ON FUNCTION siphon_add_table, siphon_remove_table, siphon_create_application, siphon_drop_application
   TO regress_siphon_user;
SET ROLE regress_siphon_user;
SELECT siphon_add_table('issues');
RESET ROLE;

-- SELECT, but row-level security
GRANT SELECT ON issues TO regress_siphon_user;
ALTER TABLE issues ENABLE ROW LEVEL SECURITY;
SET ROLE regress_siphon_user;
SELECT siphon_add_table('issues');
RESET ROLE;
SELECT * FROM siphon_applications;

-- a column privilege is not enough for a stream of whole rows
ALTER TABLE issues DISABLE ROW LEVEL SECURITY;
REVOKE SELECT ON issues FROM regress_siphon_user;
GRANT SELECT (id) ON issues TO regress_siphon_user;
SET ROLE regress_siphon_user;
SELECT siphon_add_table('issues');
RESET ROLE;

-- both: neither superuser nor REPLICATION is needed
GRANT SELECT ON issues TO regress_siphon_user;
SET ROLE regress_siphon_user;
SELECT siphon_add_table('issues', snapshot => false);
SELECT siphon_remove_table('issues');
RESET ROLE;

-- the table's owner is not held up by row-level security
ALTER TABLE issues ENABLE ROW LEVEL SECURITY;
ALTER TABLE issues OWNER TO regress_siphon_owner;
GRANT EXECUTE ON FUNCTION siphon_add_table TO regress_siphon_owner;
SET ROLE regress_siphon_owner;
SELECT siphon_add_table('issues', snapshot => false);
SELECT siphon_add_table('other', snapshot => false);
RESET ROLE;

-- an application takes the right to make one, whichever function would make it
ALTER ROLE regress_siphon_owner BYPASSRLS;
GRANT pg_read_all_data TO regress_siphon_owner;
GRANT EXECUTE ON FUNCTION siphon_add_tables, siphon_follow_publication TO regress_siphon_owner;
CREATE PUBLICATION regress_siphon FOR TABLE issues;
CREATE SCHEMA regress_siphon AUTHORIZATION regress_siphon_owner;
SET ROLE regress_siphon_owner;
CREATE FUNCTION regress_siphon.siphon_create_application(application text DEFAULT 'main', failover boolean DEFAULT false,
   take_over boolean DEFAULT false) RETURNS void LANGUAGE sql AS '';
SET search_path = regress_siphon, public;
SELECT siphon_add_table('issues', 'another', snapshot => false);
SELECT * FROM siphon_add_tables('public', 'issues', 'another', snapshot => false);
SELECT siphon_follow_publication('regress_siphon', 'another');
RESET search_path;
RESET ROLE;
SELECT slot_name FROM pg_replication_slots;
GRANT EXECUTE ON FUNCTION siphon_create_application TO regress_siphon_owner;
SET ROLE regress_siphon_owner;
SELECT siphon_add_table('issues', 'another', snapshot => false);
RESET ROLE;
SELECT siphon_drop_application('another');
DROP PUBLICATION regress_siphon;
DROP SCHEMA regress_siphon CASCADE;
REVOKE EXECUTE ON FUNCTION siphon_create_application, siphon_add_tables, siphon_follow_publication FROM regress_siphon_owner;
REVOKE pg_read_all_data FROM regress_siphon_owner;
ALTER ROLE regress_siphon_owner NOBYPASSRLS;

-- to follow a publication is to publish what its owner will say
GRANT EXECUTE ON FUNCTION siphon_follow_publication TO regress_siphon_user;
SET ROLE regress_siphon_user;
SELECT siphon_follow_publication('p');
RESET ROLE;
GRANT pg_read_all_data TO regress_siphon_user;
SET ROLE regress_siphon_user;
SELECT siphon_follow_publication('p');
RESET ROLE;
ALTER ROLE regress_siphon_user BYPASSRLS;
SET ROLE regress_siphon_user;
SELECT siphon_follow_publication('p');
RESET ROLE;
ALTER ROLE regress_siphon_user NOBYPASSRLS;
REVOKE pg_read_all_data FROM regress_siphon_user;
REVOKE EXECUTE ON FUNCTION siphon_follow_publication FROM regress_siphon_user;

-- the views can be granted
GRANT SELECT ON siphon_tables, siphon_applications TO regress_siphon_user;
GRANT EXECUTE ON FUNCTION siphon_get_tables, siphon_get_applications TO regress_siphon_user;
SET ROLE regress_siphon_user;
SELECT application, table_name FROM siphon_tables;
SELECT application, state FROM siphon_applications;
SELECT siphon_drop_application('main');
RESET ROLE;
SELECT slot_name FROM pg_replication_slots;

REVOKE ALL ON FUNCTION siphon_add_table, siphon_remove_table, siphon_create_application, siphon_drop_application,
   siphon_get_tables, siphon_get_applications FROM regress_siphon_user, regress_siphon_owner;
REVOKE ALL ON siphon_tables, siphon_applications FROM regress_siphon_user;
DROP TABLE issues, other;
DROP ROLE regress_siphon_user, regress_siphon_owner;
