-- Roles for those who say what Siphon publishes. Run it as superuser, in the database that has the extension; on a standby
-- it arrives from the primary:
--
--   psql -d mydb -f deploy/roles.sql
--   GRANT siphon_admin TO alice;          -- who then says SET ROLE siphon_admin
--   GRANT siphon_table_owner TO bob;
--
-- Who only looks needs nothing of this: pg_monitor has the views.

-- May publish every table, and follow a publication. To publish a table is to read it, past row-level security too; BYPASSRLS
-- is not inherited, and therefore SET ROLE.
CREATE ROLE siphon_admin NOLOGIN BYPASSRLS;
GRANT pg_read_all_data, pg_monitor TO siphon_admin;
GRANT EXECUTE ON FUNCTION siphon_create_application, siphon_drop_application, siphon_resync_application,
    siphon_stop_application, siphon_start_application, siphon_add_table,
    siphon_add_tables, siphon_alter_table, siphon_remove_table, siphon_resync_table, siphon_pause, siphon_resume,
    siphon_follow_publication, siphon_unfollow_publication TO siphon_admin;

-- May publish the tables that its members may read as a whole, mostly their own, and nobody else's.
CREATE ROLE siphon_table_owner NOLOGIN;
GRANT EXECUTE ON FUNCTION siphon_add_table, siphon_add_tables, siphon_alter_table, siphon_remove_table, siphon_resync_table,
    siphon_pause, siphon_resume TO siphon_table_owner;
