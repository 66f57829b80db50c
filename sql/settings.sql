-- Settings: their kinds, units and limits, and values that are refused. Needs no extension, only the library.
\pset format unaligned
SELECT name, vartype, context, unit, min_val, max_val, boot_val
  FROM pg_settings WHERE name LIKE 'siphon.%' ORDER BY name COLLATE "C";
SELECT name, short_desc, extra_desc
  FROM pg_settings WHERE name LIKE 'siphon.%' ORDER BY name COLLATE "C";
SELECT name FROM pg_settings WHERE name LIKE 'siphon.%' AND (short_desc = '' OR short_desc IS NULL);
\pset format aligned

-- values that can't be, beyond the limits above
ALTER SYSTEM SET siphon.ring_size = '100kB';
ALTER SYSTEM SET siphon.ring_directory = 'rings';
ALTER SYSTEM SET siphon.max_applications = 0;

-- nor can a session set what concerns the whole server
SET siphon.ring_size = '1MB';
SET siphon.ring_directory = '/tmp';
SET siphon.no_such_setting = 1;

-- in any unit
SHOW siphon.flush_interval;
ALTER SYSTEM SET siphon.flush_interval = '2s';
ALTER SYSTEM RESET siphon.flush_interval;
