-- The users who log in: one for the scheduler, one for the shop, one for whoever watches. Run by an
-- administrator after `python cli.py db upgrade`, which makes the roles that they are members of;
-- and again to rotate passwords. Passwords come from the environment, never from the command line,
-- where every user of the machine could read them:
--
--   export PGPASSWORD=… SCHEDULER_PASSWORD=… SHOP_PASSWORD=… WATCHER_PASSWORD=…
--   psql -X -h db.example -U admin -d shop -f deploy/postgres/users.sql
--
-- A user whose variable is unset or empty is left as it is (or is not made).

\set ON_ERROR_STOP on
\set scheduler_password ''
\set shop_password ''
\set watcher_password ''
\getenv scheduler_password SCHEDULER_PASSWORD
\getenv shop_password SHOP_PASSWORD
\getenv watcher_password WATCHER_PASSWORD

-- Statements with a password in them stay out of the server's log, where we may say so. In any case
-- nothing is logged of a statement that succeeds unless the server was told to log them all.
SELECT current_setting('is_superuser') = 'on' AS superuser \gset
\if :superuser
    SET log_statement = 'none';
    SET log_min_duration_statement = -1;
    SET log_min_error_statement = 'panic';
\endif
SET password_encryption = 'scram-sha-256';

BEGIN;

SELECT format('CREATE ROLE %I', wanted.name)
FROM (VALUES ('recjob_scheduler', :'scheduler_password'),
             ('recjob_shop', :'shop_password'),
             ('recjob_watcher', :'watcher_password')) AS wanted (name, password)
WHERE wanted.password <> ''
  AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name)
\gexec

-- No user may alter a role, make a database or step around row security; and a lost password opens
-- no more connections than its user needs: the scheduler holds one for its lock, one for metrics,
-- and a few for each job.
SELECT format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS '
              'CONNECTION LIMIT %s PASSWORD %L', wanted.name, wanted.connections, wanted.password)
FROM (VALUES ('recjob_scheduler', 60, :'scheduler_password'),
             ('recjob_shop', 200, :'shop_password'),
             ('recjob_watcher', 10, :'watcher_password')) AS wanted (name, connections, password)
WHERE wanted.password <> ''
\gexec

SELECT format('GRANT %I TO %I', wanted.role, wanted.name)
FROM (VALUES ('recjob_scheduler', 'recjob_writer'),
             ('recjob_shop', 'recjob_reader'),
             ('recjob_watcher', 'recjob_monitor')) AS wanted (name, role)
WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name)
\gexec

COMMIT;
