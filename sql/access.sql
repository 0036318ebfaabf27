-- sql/access.sql -- the same rules for a person who comes by SQL: roles, policies, privileges
--
-- The last file: it closes what the others have made.  Every table has row security; one without
-- a line here can be read by its owner only.  The owner (the gateway's role) is not filtered.  A policy asks the
-- engine once a statement (extension/row.c), then compares ids.
--
-- Roles: coder_user sees what its login sees; coder_auditor and coder_admin are what the site roles auditor and
-- owner are without any login, and coder_admin may ask as anybody (coder.become).

DO $$
DECLARE
	role text;
BEGIN
	FOREACH role IN ARRAY ARRAY['coder_user', 'coder_auditor', 'coder_admin'] LOOP
		IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role) THEN
			EXECUTE format('CREATE ROLE %I NOLOGIN', role);
		END IF;
	END LOOP;
	GRANT coder_user TO coder_auditor;
	GRANT coder_auditor TO coder_admin;
END
$$;
GRANT USAGE ON SCHEMA coder TO coder_user;

-- ---- helpers of this file ----

-- Condition of the rows of a type that the one who asks may act on; org, owner, id: expressions of a row, NULL where
-- the type has none; acl: the row has user_acl and group_acl.
CREATE OR REPLACE FUNCTION coder.policy_rows(action text, type text, org text, owner text DEFAULT NULL, id text DEFAULT 'id',
	acl bool DEFAULT false)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	args CONSTANT text := format('(%L, %L)', action, type);
	lists CONSTANT text := CASE WHEN acl THEN 'user_acl, group_acl' ELSE 'NULL, NULL' END;
BEGIN
	RETURN format('((SELECT coder.row_all%s)', args)
		|| CASE WHEN org IS NULL THEN '' ELSE format(' OR %s = ANY ((SELECT coder.row_orgs%s)::uuid[])', org, args) END
		|| CASE WHEN owner IS NULL THEN ''
				WHEN org IS NULL THEN format(' OR (%s = (SELECT coder.row_subject()) AND (SELECT coder.row_own%s))', owner, args)
				ELSE format(' OR (%s = (SELECT coder.row_subject()) AND %s = ANY ((SELECT coder.row_owned%s)::uuid[]))', owner, org, args) END
		|| format(' OR ((%s(SELECT coder.row_listed%s)) AND coder.row_can(%L, %L, %s, %s, %s, %s)))',
			CASE WHEN acl THEN $q$user_acl <> '{}' OR group_acl <> '{}' OR $q$ ELSE '' END, args,
			action, type, coalesce(org, 'NULL'), coalesce(owner, 'NULL'), lists, coalesce(id, 'NULL'));
END
$$;

-- Condition of the rows that belong to a row of another table that may be read; everything: where all of them may.
CREATE OR REPLACE FUNCTION coder.policy_of(parent text, join_condition text, VARIADIC everything text[] DEFAULT '{}')
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_all CONSTANT text := (SELECT string_agg(format('coder.row_all(%L, %L)', 'read', t), ' AND ') FROM unnest(everything) t);
BEGIN
	RETURN coalesce(format('(SELECT %s) OR ', found_all), '') || format('EXISTS (SELECT FROM coder.%I p WHERE %s)', parent, join_condition);
END
$$;

-- Lets coder_user read the rows of a table that pass the condition, without the secret columns; writable: columns that
-- may be changed, where a trigger by_sql says whose.
CREATE OR REPLACE FUNCTION coder.policy(tab text, condition text, secret text[] DEFAULT '{}', writable text[] DEFAULT '{}')
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	columns CONSTANT text := (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
		WHERE a.attrelid = ('coder.' || tab)::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (secret));
	unknown CONSTANT text := (SELECT string_agg(c, ', ') FROM unnest(secret || writable) c WHERE NOT EXISTS (SELECT FROM pg_attribute a
		WHERE a.attrelid = ('coder.' || tab)::regclass AND a.attname = c));
BEGIN
	IF unknown IS NOT NULL THEN
		RAISE undefined_column USING MESSAGE = format('coder.%s has no column %s', tab, unknown);
	END IF;
	EXECUTE format('DROP POLICY IF EXISTS reading ON coder.%I', tab);
	EXECUTE format('CREATE POLICY reading ON coder.%I FOR SELECT USING (%s)', tab, condition);
	IF cardinality(secret) = 0 THEN
		EXECUTE format('GRANT SELECT ON coder.%I TO coder_user', tab);
	ELSE
		EXECUTE format('GRANT SELECT (%s) ON coder.%I TO coder_user', columns, tab);
	END IF;
	IF cardinality(writable) > 0 THEN
		EXECUTE format('DROP POLICY IF EXISTS changing ON coder.%I', tab);
		EXECUTE format('CREATE POLICY changing ON coder.%I FOR UPDATE USING (%s) WITH CHECK (true)', tab, condition);
		EXECUTE format('GRANT UPDATE (%s) ON coder.%I TO coder_user',
			(SELECT string_agg(quote_ident(c), ', ') FROM unnest(writable) c), tab);
	END IF;
END
$$;

-- ---- who may read what ----

DO $$
DECLARE
	tab text;
BEGIN
	FOR tab IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'coder'::regnamespace AND c.relkind IN ('r', 'p') LOOP
		EXECUTE format('ALTER TABLE coder.%I ENABLE ROW LEVEL SECURITY', tab);
	END LOOP;
END
$$;

SELECT coder.policy('organizations', coder.policy_rows('read', 'organization', 'id'));

-- users
SELECT coder.policy('users', coder.policy_rows('read', 'user', NULL, 'id'),
	'{hashed_password, hashed_one_time_passcode, one_time_passcode_expires_at}');

-- templates
SELECT coder.policy('templates', coder.policy_rows('read', 'template', 'organization_id', acl => true));

-- workspaces: a dormant one is an object of its own type, and is shared with nobody
SELECT coder.policy('workspaces',
	'CASE WHEN dormant_at IS NULL THEN '
	|| coder.policy_rows('read', 'workspace', 'organization_id', 'owner_id', acl => true)
	|| ' ELSE ' || coder.policy_rows('read', 'workspace_dormant', 'organization_id', 'owner_id') || ' END');

-- ---- functions ----

-- Nothing is for everybody; a trigger's function does its work with its owner's rights, whoever wrote the row.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA coder FROM PUBLIC;

DO $$
DECLARE
	f regprocedure;
BEGIN
	FOR f IN SELECT p.oid FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
			  WHERE p.pronamespace = 'coder'::regnamespace AND p.prorettype = 'trigger'::regtype
				AND (l.lanname <> 'c' OR p.proname NOT IN ('auth_changed', 'routes_changed', 'provisioner_jobs_guard'))
				AND NOT p.prosecdef LOOP
		EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', f);
	END LOOP;
END
$$;

GRANT EXECUTE ON FUNCTION
	coder.row_all(text, text), coder.row_own(text, text), coder.row_orgs(text, text), coder.row_owned(text, text),
	coder.row_listed(text, text), coder.row_subject(), coder.row_can(text, text, uuid, uuid, jsonb, jsonb, uuid),
	coder.login(text, bool), coder.logout(), coder.whoami(), coder.subject_id(), coder.subject_token_id(),
	coder.can(text, text, uuid, uuid, jsonb, jsonb, uuid), coder.can_any(text, text, uuid),
	coder.explain(text, text, uuid, uuid, jsonb, jsonb, uuid), coder.has_organization_membership(uuid),
	coder.workspace_status(text, text), coder.job_is_active(text), coder.schedule_next(text, timestamptz, int4),
	coder.agent_status(timestamptz, timestamptz, timestamptz, timestamptz, int4, timestamptz, int4),
	coder.agent_status(coder.workspace_agents, timestamptz), coder.ts(timestamptz), coder.version()
	TO coder_user;
GRANT EXECUTE ON FUNCTION coder.become(text, bool) TO coder_admin;
