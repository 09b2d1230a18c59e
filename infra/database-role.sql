-- Makes the app an ordinary user of its database, for where an Entra group administers the server
-- (databaseAdministratorsId). Run by a member of that group, as often as you like:
--   psql -v app=IDENTITY -f infra/database-role.sql "host=HOST dbname=postgres user=GROUP sslmode=verify-full sslrootcert=FILE"
\set ON_ERROR_STOP on

-- Azure keeps these functions in the database postgres.
\connect postgres
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'app') AS missing \gset
\if :missing
    SELECT pgaadauth_create_principal(:'app', false, false);
\endif

-- The app makes its tables itself, in a schema that is made for it.
\connect orderflow
CREATE SCHEMA IF NOT EXISTS orderflow;
GRANT USAGE, CREATE ON SCHEMA orderflow TO :"app";
