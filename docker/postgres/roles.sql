-- Two users, run once by an administrator in Nightshift's own database, before the first `nightshift migrate`.
--
-- nightshift_owner owns the tables: `nightshift migrate` runs as it, and nothing else does.
-- nightshift_app is every other process: it reads and changes rows and can make, change or drop no table.
-- Both can log in once they have a password: ALTER ROLE nightshift_app PASSWORD '...'. Running this again changes nothing.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nightshift_owner') THEN
        CREATE ROLE nightshift_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nightshift_app') THEN
        CREATE ROLE nightshift_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO nightshift_owner, nightshift_app', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO nightshift_owner;
GRANT USAGE ON SCHEMA public TO nightshift_app;

-- What later migrations create is given on by itself.
ALTER DEFAULT PRIVILEGES FOR ROLE nightshift_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO nightshift_app;
ALTER DEFAULT PRIVILEGES FOR ROLE nightshift_owner IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO nightshift_app;
