SELECT pg_catalog.set_config('search_path', '', false);
-- ~
RESET search_path;
-- ~
SELECT c.relname, ns.nspname FROM pg_catalog.pg_class c
 JOIN pg_catalog.pg_namespace ns ON c.relnamespace OPERATOR(pg_catalog.=) ns.oid
 LEFT JOIN pg_catalog.pg_class t ON c.reltoastrelid OPERATOR(pg_catalog.=) t.oid
 WHERE c.relpersistence OPERATOR(pg_catalog.!=) 't'
 AND c.relkind OPERATOR(pg_catalog.=) ANY (array['r', 'm'])
 ORDER BY c.relpages DESC;
-- ~
VACUUM (ANALYZE) pg_catalog.pg_proc;
-- ~
VACUUM (ANALYZE) public.part1;
-- ~
WITH listed_tables (table_oid, column_list) AS (
  VALUES ('orders'::pg_catalog.regclass, NULL::pg_catalog.text)
)
SELECT c.relname, ns.nspname, listed_tables.column_list FROM pg_catalog.pg_class c
 JOIN pg_catalog.pg_namespace ns ON c.relnamespace OPERATOR(pg_catalog.=) ns.oid
 LEFT JOIN pg_catalog.pg_class t ON c.reltoastrelid OPERATOR(pg_catalog.=) t.oid
 JOIN listed_tables ON listed_tables.table_oid OPERATOR(pg_catalog.=) c.oid
 WHERE c.relpersistence OPERATOR(pg_catalog.!=) 't'
 ORDER BY c.relpages DESC;
-- ~
SET default_statistics_target=1; SET vacuum_cost_delay=0;
-- ~
ANALYZE public.orders;
-- ~
SET default_statistics_target=10; RESET vacuum_cost_delay;
-- ~
RESET default_statistics_target;
-- ~
REINDEX DATABASE app;
-- ~
REINDEX SCHEMA CONCURRENTLY crm;
-- ~
CLUSTER;
-- ~
show password_encryption
-- ~
CREATE ROLE alice PASSWORD 'SCRAM-SHA-256$4096:aGg2aKB+ZeMk6jB3kFmInQ==$rBPwH5YrsL6JUYyonGPhijayzZLBaYphUxmgy4g7Hyo=:uSKvHmevzHrvfUVToJ5nFP4B1RJI98QuDankFs7gMso=' NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT LOGIN;
-- ~
CREATE ROLE eve SUPERUSER CREATEDB CREATEROLE INHERIT LOGIN;
-- ~
DROP ROLE eve;
-- ~
DROP DATABASE app2;
-- ~
SELECT n.nspname, x.extversion FROM pg_catalog.pg_extension x
JOIN pg_catalog.pg_namespace n ON x.extnamespace = n.oid
WHERE x.extname = 'amcheck'
-- ~
CREATE TEMP TABLE vacuum_l AS SELECT oid AS lo FROM pg_largeobject_metadata
-- ~
ANALYZE vacuum_l
-- ~
SELECT s.nspname, c.relname, a.attname FROM pg_class c, pg_attribute a, pg_namespace s, pg_type t WHERE a.attnum > 0 AND NOT a.attisdropped       AND a.attrelid = c.oid       AND a.atttypid = t.oid       AND c.relnamespace = s.oid       AND t.typname in ('oid', 'lo')       AND c.relkind in ('r', 'm')      AND s.nspname !~ '^pg_'
-- ~
begin
-- ~
DECLARE myportal CURSOR WITH HOLD FOR SELECT lo FROM vacuum_l
-- ~
FETCH FORWARD 1000 IN myportal
-- ~
select proname, oid from pg_catalog.pg_proc where proname in ('lo_open', 'lo_close', 'lo_creat', 'lo_create', 'lo_unlink', 'lo_lseek', 'lo_lseek64', 'lo_tell', 'lo_tell64', 'lo_truncate', 'lo_truncate64', 'loread', 'lowrite') and pronamespace = (select oid from pg_catalog.pg_namespace where nspname = 'pg_catalog')
-- ~
commit
