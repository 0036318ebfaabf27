-- sql/api/session.sql -- a person at an SQL prompt: who it is, and what row security asks
--
-- In C: extension/session.c, row.c, guard.c.  Roles, policies and privileges: sql/access.sql.

-- Internal: the login of this session or transaction; ZC401 where the token is nobody's.
CREATE OR REPLACE FUNCTION coder.session_login(token text, local bool)
RETURNS void LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_session_login';

-- Internal: ask as this user; 28000 where the API would not let that user in.
CREATE OR REPLACE FUNCTION coder.session_become(user_id uuid, local bool)
RETURNS void LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_session_become';

-- Internal: the login ends.
CREATE OR REPLACE FUNCTION coder.session_logout()
RETURNS void LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_session_logout';

-- Internal: how this session is signed in (token, become, role, nobody), for the transaction only?, as whom, with which key.
CREATE OR REPLACE FUNCTION coder.session_info(OUT login text, OUT local bool, OUT user_id uuid, OUT token_id text)
LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_session_info';

-- For policies: may the one who asks do it to every row of the type?  28000 where nobody asks, as in all row_ functions.
CREATE OR REPLACE FUNCTION coder.row_all(action text, type text)
RETURNS bool LANGUAGE C STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_row_all';

-- To its own rows that are of no organization?
CREATE OR REPLACE FUNCTION coder.row_own(action text, type text)
RETURNS bool LANGUAGE C STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_row_own';

-- To all rows of which organizations?
CREATE OR REPLACE FUNCTION coder.row_orgs(action text, type text)
RETURNS uuid[] LANGUAGE C STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_row_orgs';

-- To its own rows of which organizations?
CREATE OR REPLACE FUNCTION coder.row_owned(action text, type text)
RETURNS uuid[] LANGUAGE C STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_row_owned';

-- Does the token name its objects, so that each row is asked about?
CREATE OR REPLACE FUNCTION coder.row_listed(action text, type text)
RETURNS bool LANGUAGE C STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_row_listed';

-- Who asks; the nil uuid for a role of the database.
CREATE OR REPLACE FUNCTION coder.row_subject()
RETURNS uuid LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'coder_row_subject';

-- The decision for one row.
CREATE OR REPLACE FUNCTION coder.row_can(action text, type text, org uuid DEFAULT NULL, owner uuid DEFAULT NULL,
	user_acl jsonb DEFAULT NULL, group_acl jsonb DEFAULT NULL, id uuid DEFAULT NULL)
RETURNS bool LANGUAGE C STABLE PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'coder_row_can';

-- Rows that others hang from, for their policies: found by indexes, once a statement, with the owner's rights.
-- Workspaces that the one who asks may read, being theirs or shared with them (an allow list: any that it names).
CREATE OR REPLACE FUNCTION coder.row_own_workspaces()
RETURNS SETOF uuid LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 20
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	subject CONSTANT uuid := coder.row_subject();
	listed CONSTANT bool := coder.row_listed('read', 'workspace');
BEGIN
	RETURN QUERY
	WITH candidates AS (
		SELECT w.* FROM coder.workspaces w WHERE w.owner_id = subject AND NOT w.deleted
		UNION
		SELECT w.* FROM coder.workspaces w WHERE w.owner_id = subject AND w.deleted
		UNION
		SELECT w.* FROM coder.workspaces w WHERE NOT w.deleted AND (w.user_acl <> '{}' OR w.group_acl <> '{}')
		UNION
		SELECT w.* FROM coder.workspaces w WHERE listed)
	SELECT c.id FROM candidates c
	 WHERE coder.row_can('read', 'workspace', c.organization_id, c.owner_id, c.user_acl, c.group_acl, c.id);
END
$$;

-- All workspaces that the one who asks may read.
CREATE OR REPLACE FUNCTION coder.row_workspaces()
RETURNS SETOF uuid LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 100
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	orgs CONSTANT uuid[] := coder.row_orgs('read', 'workspace');
BEGIN
	IF coder.row_all('read', 'workspace') THEN
		RETURN QUERY SELECT w.id FROM coder.workspaces w;
		RETURN;
	END IF;
	RETURN QUERY SELECT o FROM coder.row_own_workspaces() o;
	IF cardinality(orgs) > 0 THEN
		RETURN QUERY SELECT w.id FROM coder.workspaces w WHERE w.organization_id = ANY (orgs);
	END IF;
END
$$;

-- Builds of those workspaces.
CREATE OR REPLACE FUNCTION coder.row_builds()
RETURNS SETOF uuid LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 100
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	RETURN QUERY SELECT b.id FROM coder.workspace_builds b WHERE b.workspace_id = ANY (ARRAY(SELECT w FROM coder.row_workspaces() w));
END
$$;

-- Versions of templates that the one who asks may read.
CREATE OR REPLACE FUNCTION coder.row_versions()
RETURNS SETOF uuid LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 100
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	RETURN QUERY SELECT v.id FROM coder.template_versions v LEFT JOIN coder.templates t ON t.id = v.template_id
	 WHERE coder.row_can('read', 'template', v.organization_id, NULL, t.user_acl, t.group_acl, t.id);
END
$$;

-- Jobs of such builds and versions, one's own dry runs, and those of organizations whose jobs may be read.
CREATE OR REPLACE FUNCTION coder.row_jobs()
RETURNS SETOF uuid LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 100
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	subject CONSTANT uuid := coder.row_subject();
	orgs CONSTANT uuid[] := coder.row_orgs('read', 'provisioner_jobs');
BEGIN
	RETURN QUERY SELECT b.job_id FROM coder.workspace_builds b WHERE b.workspace_id = ANY (ARRAY(SELECT w FROM coder.row_workspaces() w))
		UNION ALL
		SELECT v.job_id FROM coder.template_versions v WHERE v.id = ANY (ARRAY(SELECT r FROM coder.row_versions() r));
	IF coder.row_all('read', 'provisioner_jobs') THEN
		RETURN QUERY SELECT j.id FROM coder.provisioner_jobs j;
	ELSE
		RETURN QUERY SELECT j.id FROM coder.provisioner_jobs j WHERE j.organization_id = ANY (orgs)
			UNION ALL
			SELECT j.id FROM coder.provisioner_jobs j WHERE j.initiator_id = subject AND j.type = 'template_version_dry_run';
	END IF;
END
$$;

-- What those jobs made.
CREATE OR REPLACE FUNCTION coder.row_resources()
RETURNS SETOF uuid LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 100
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	RETURN QUERY SELECT r.id FROM coder.workspace_resources r WHERE r.job_id = ANY (ARRAY(SELECT j FROM coder.row_jobs() j));
END
$$;

-- Agents in those resources.
CREATE OR REPLACE FUNCTION coder.row_agents()
RETURNS SETOF uuid LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 100
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	RETURN QUERY SELECT a.id FROM coder.workspace_agents a
	 WHERE a.resource_id = ANY (ARRAY(SELECT r FROM coder.row_resources() r));
END
$$;

-- Sign this session in with an API key (local: until the end of the transaction); the user's name.  28000 where the
-- token is not good.  Pass the token as a parameter: statements are shown in pg_stat_activity and may be logged.
CREATE OR REPLACE FUNCTION coder.login(token text, local bool DEFAULT false)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	why text;
	detail text;
BEGIN
	PERFORM coder.session_login(coalesce(token, ''), coalesce(local, false));
	RETURN (SELECT u.username FROM coder.users u WHERE u.id = (SELECT i.user_id FROM coder.session_info() i));
EXCEPTION WHEN SQLSTATE 'ZC401' OR SQLSTATE 'ZC403' OR invalid_authorization_specification THEN
	GET STACKED DIAGNOSTICS why = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	PERFORM coder.raise_sql('ZC401', 'this token does not sign anybody in', coalesce(nullif(detail, ''), why),
		'Make one with "coder tokens create", or on the page Tokens.');
END
$$;

-- Ask as another user, by name or id (local: until the end of the transaction); the user's name.  For coder_admin.
-- It is in the audit log and in the log of the server.  28000 where there is no such user, or not one who may sign in; 25006
-- in a read-only transaction.
CREATE OR REPLACE FUNCTION coder.become(who text, local bool DEFAULT false)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	uid uuid;
	name text;
BEGIN
	SELECT u.id, u.username INTO uid, name FROM coder.users u
	 WHERE (u.id = coder.try_uuid(who) OR lower(u.username) = lower(who)) AND NOT u.deleted;
	IF uid IS NULL THEN
		RAISE invalid_authorization_specification USING MESSAGE = format('there is no user "%s"', who);
	END IF;
	-- A standby has no audit log of its own: there the server's log tells alone.
	IF NOT pg_is_in_recovery() THEN
		IF current_setting('transaction_read_only')::bool THEN
			RAISE read_only_sql_transaction USING MESSAGE = 'nobody becomes somebody in a read-only transaction', DETAIL = 'The audit log could not tell of it.';
		END IF;
		-- By the role of the database, whomever it was before.
		PERFORM coder.audit('login', 'user', uid, name, actor => '00000000-0000-0000-0000-000000000000',
			additional => '{"by": "coder.become"}');
	END IF;
	PERFORM coder.session_become(uid, coalesce(local, false));
	RETURN name;
END
$$;

-- The login of this session, and of this transaction, ends.
CREATE OR REPLACE FUNCTION coder.logout()
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	PERFORM coder.session_logout();
END
$$;

-- Who asks in this session, how it was signed in (token, become; role: only a role of the database; nobody) and until
-- when (session, transaction).
CREATE OR REPLACE FUNCTION coder.whoami(OUT username text, OUT user_id uuid, OUT roles text[], OUT login text, OUT until text,
	OUT token_id text, OUT database_role name)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	SELECT i.login, i.user_id, i.token_id, CASE WHEN i.login IN ('role', 'nobody') THEN NULL
			WHEN i.local THEN 'transaction' ELSE 'session' END
	  INTO login, user_id, token_id, until FROM coder.session_info() i;
	SELECT u.username, u.rbac_roles INTO username, roles FROM coder.users u WHERE u.id = whoami.user_id;
	database_role := session_user;
END
$$;

-- Internal: a request as the one who asks in this session; arguments as coder.handle, without what the token says.
CREATE OR REPLACE FUNCTION coder.handle_session(route int4, method text, path text, params text[], query text,
	headers text, body bytea, token text, remote text, request_id uuid, cursor text)
RETURNS bytea LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_handle_session';
