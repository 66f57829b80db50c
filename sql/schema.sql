-- What CREATE EXTENSION makes: its objects, their comments, and that PUBLIC may use none of them.
CREATE EXTENSION siphon;
SELECT extname, extversion, extrelocatable FROM pg_extension WHERE extname = 'siphon';
SELECT pg_describe_object(classid, objid, 0) AS object
  FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'siphon')
   AND classid IN ('pg_proc'::regclass, 'pg_class'::regclass)
 ORDER BY pg_describe_object(classid, objid, 0) COLLATE "C";
SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result, p.provolatile,
       p.proparallel, p.proisstrict, p.prosecdef
  FROM pg_proc p WHERE p.proname LIKE 'siphon%' ORDER BY p.proname COLLATE "C"
\gx (format=unaligned)
\d siphon_applications
\d siphon_tables

-- an object without a comment
SELECT pg_describe_object(d.classid, d.objid, 0)
  FROM pg_depend d
 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'siphon')
   AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass)
   AND obj_description(d.objid, d.classid::regclass::name) IS NULL;
SELECT a.attrelid::regclass, a.attname
  FROM pg_attribute a
 WHERE a.attrelid IN ('siphon_applications'::regclass, 'siphon_tables'::regclass, 'siphon_registry'::regclass) AND a.attnum > 0
   AND col_description(a.attrelid, a.attnum) IS NULL;

-- an object that PUBLIC has a right on, by default or by grant
SELECT p.oid::regprocedure
  FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
 WHERE p.proname LIKE 'siphon%' AND a.grantee = 0;
SELECT c.oid::regclass
  FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
 WHERE c.relname LIKE 'siphon%' AND a.grantee = 0;

-- a superuser alone installs it, and it can be taken away and put back
CREATE ROLE regress_siphon_nobody;
SELECT datname FROM pg_database WHERE datname = current_database() \gset
GRANT CREATE ON DATABASE :"datname" TO regress_siphon_nobody;
DROP EXTENSION siphon;
SET ROLE regress_siphon_nobody;
CREATE EXTENSION siphon;
RESET ROLE;
REVOKE CREATE ON DATABASE :"datname" FROM regress_siphon_nobody;
DROP ROLE regress_siphon_nobody;
CREATE EXTENSION siphon;
