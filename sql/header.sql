-- coder -- control plane for remote development workspaces
--
-- The install script is this file, the tables of sql/schema/ and the functions of sql/api/, in the
-- order of sql/order.mk.
\echo Use "CREATE EXTENSION coder" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL check_function_bodies = off;

REVOKE ALL ON SCHEMA coder FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA coder REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
