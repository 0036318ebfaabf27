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

-- Condition of the rows that hang from rows of a kind (workspaces, builds, versions, jobs, resources, agents) by a column:
-- all, where all of certain types may be read; else those that coder.row_<kind>() finds.
CREATE OR REPLACE FUNCTION coder.policy_of(kind text, col text)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	types CONSTANT text[] := CASE WHEN kind = 'versions' THEN ARRAY['template']
		ELSE ARRAY['workspace'] || CASE WHEN kind IN ('workspaces', 'builds') THEN '{}' ELSE '{template}'::text[] END END;
BEGIN
	RETURN format('(SELECT %s) OR %I IN (SELECT r FROM coder.%I() r)',
		(SELECT string_agg(format('coder.row_all(%L, %L)', 'read', t), ' AND ') FROM unnest(types) t), col, 'row_' || kind);
END
$$;

-- Lets coder_user read the rows of a table that pass the condition, without the secret columns; writable: columns that
-- may be changed, also: what else is done by hand (INSERT, DELETE), where a trigger by_sql says whose; by: the role that
-- may.  What many share is written by coder_admin only, as who may write may also lock: others use coder.api().
CREATE OR REPLACE FUNCTION coder.policy(tab text, condition text, secret text[] DEFAULT '{}', writable text[] DEFAULT '{}',
	also text[] DEFAULT '{}', by text DEFAULT 'coder_user')
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
		EXECUTE format('GRANT UPDATE (%s) ON coder.%I TO %I',
			(SELECT string_agg(quote_ident(c), ', ') FROM unnest(writable) c), tab, by);
	END IF;
	EXECUTE format('DROP POLICY IF EXISTS adding ON coder.%I', tab);
	EXECUTE format('DROP POLICY IF EXISTS removing ON coder.%I', tab);
	IF 'INSERT' = ANY (also) THEN
		EXECUTE format('CREATE POLICY adding ON coder.%I FOR INSERT WITH CHECK (true)', tab);
		EXECUTE format('GRANT INSERT ON coder.%I TO %I', tab, by);
	END IF;
	IF 'DELETE' = ANY (also) THEN
		EXECUTE format('CREATE POLICY removing ON coder.%I FOR DELETE USING (%s)', tab, condition);
		EXECUTE format('GRANT DELETE ON coder.%I TO %I', tab, by);
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

-- People, organizations, groups.
SELECT coder.policy('organizations', coder.policy_rows('read', 'organization', 'id'),
	'{}', '{name, display_name, description, icon}', by => 'coder_admin');
SELECT coder.policy('users', coder.policy_rows('read', 'user', NULL, 'id'),
	'{hashed_password, hashed_one_time_passcode, one_time_passcode_expires_at}', '{username, name, status, rbac_roles}');
SELECT coder.policy('user_configs', coder.policy_rows('read_personal', 'user', NULL, 'user_id', 'user_id'));
SELECT coder.policy('user_links', coder.policy_rows('read_personal', 'user', NULL, 'user_id', 'user_id'),
	'{oauth_access_token, oauth_refresh_token, claims}');
SELECT coder.policy('external_auth_links', coder.policy_rows('read_personal', 'user', NULL, 'user_id', 'user_id'),
	'{oauth_access_token, oauth_refresh_token, oauth_extra}');
SELECT coder.policy('user_status_changes', coder.policy_rows('read', 'user', NULL, 'user_id', 'user_id'));
SELECT coder.policy('user_deleted', coder.policy_rows('read', 'user', NULL, 'user_id', 'user_id'));
SELECT coder.policy('user_secrets', coder.policy_rows('read', 'user_secret', NULL, 'user_id'), '{value}');
SELECT coder.policy('gitsshkeys', coder.policy_rows('read_personal', 'user', NULL, 'user_id', 'user_id'), '{private_key}');
SELECT coder.policy('organization_members', coder.policy_rows('read', 'organization_member', 'organization_id', 'user_id', 'user_id'),
	'{}', '{roles}', by => 'coder_admin');
-- A group's members may read it.
SELECT coder.policy('groups', coder.policy_rows('read', 'group', 'organization_id')
	|| $q$ OR coder.row_can('read', 'group', organization_id, NULL, NULL, jsonb_build_object(id, '["read"]'::jsonb), id)$q$,
	'{}', '{name, display_name, avatar_url, quota_allowance}', by => 'coder_admin');
SELECT coder.policy('group_members', $q$(SELECT coder.row_all('read', 'group_member'))
	OR (user_id = (SELECT coder.row_subject()) AND group_id IN (SELECT g.id FROM coder.groups g WHERE g.organization_id = ANY (coder.row_owned('read', 'group_member'))))
	OR group_id IN (SELECT g.id FROM coder.groups g WHERE g.organization_id = ANY (coder.row_orgs('read', 'group_member')))$q$,
	'{}', '{}', '{INSERT, DELETE}', 'coder_admin');
SELECT coder.policy('custom_roles', $q$CASE WHEN organization_id IS NULL THEN (SELECT coder.row_all('read', 'assign_role')) ELSE $q$
	|| coder.policy_rows('read', 'assign_org_role', 'organization_id') || ' END');
SELECT coder.policy('api_keys', coder.policy_rows('read', 'api_key', NULL, 'user_id', 'NULL'), '{hashed_secret}', '{}', '{DELETE}',
	'coder_admin');
SELECT coder.policy('oauth2_provider_apps', coder.policy_rows('read', 'oauth2_app', NULL), '{registration_access_token}');
SELECT coder.policy('oauth2_provider_app_secrets', coder.policy_rows('read', 'oauth2_app_secret', NULL),
	'{hashed_secret, display_secret, secret_prefix}');
SELECT coder.policy('oauth2_provider_app_tokens', coder.policy_rows('read', 'oauth2_app_code_token', NULL, 'user_id'),
	'{hash_prefix, refresh_hash}');

-- What happened.
SELECT coder.policy('audit_logs', coder.policy_rows('read', 'audit_log',
	$q$nullif(organization_id, '00000000-0000-0000-0000-000000000000')$q$));
SELECT coder.policy('connection_logs', coder.policy_rows('read', 'connection_log', 'organization_id', 'workspace_owner_id'));

-- Messages.  Which kinds there are is known to everybody who is somebody.
SELECT coder.policy('notification_templates', '(SELECT coder.row_subject()) IS NOT NULL');
SELECT coder.policy('notification_preferences', coder.policy_rows('read', 'notification_preference', NULL, 'user_id', 'NULL'));
SELECT coder.policy('inbox_notifications', coder.policy_rows('read', 'inbox_notification', NULL, 'user_id'), '{}', '{read_at}');
SELECT coder.policy('webpush_subscriptions', coder.policy_rows('read', 'webpush_subscription', NULL, 'user_id'),
	'{endpoint, endpoint_p256dh_key, endpoint_auth_key}');

-- Templates, their versions and what hangs below them.
SELECT coder.policy('templates', coder.policy_rows('read', 'template', 'organization_id', acl => true), '{}',
	'{name, display_name, description, icon, default_ttl, activity_bump, failure_ttl, time_til_dormant, time_til_dormant_autodelete,
	  allow_user_cancel_workspace_jobs, allow_user_autostart, allow_user_autostop, require_active_version, deprecated, active_version_id,
	  max_port_sharing_level, autostart_block_days_of_week, autostop_requirement_days_of_week, autostop_requirement_weeks}',
	by => 'coder_admin');
-- A version without a template is for those who may make one of it.
SELECT coder.policy('template_versions', $q$(SELECT coder.row_all('read', 'template')) OR template_id IN (SELECT p.id FROM coder.templates p)
	OR (template_id IS NULL AND coder.row_can('read', 'template', organization_id))$q$);
SELECT coder.policy('template_version_parameters', coder.policy_of('versions', 'template_version_id'));
SELECT coder.policy('template_version_variables', coder.policy_of('versions', 'template_version_id'),
	'{value, default_value}');
SELECT coder.policy('template_version_workspace_tags', coder.policy_of('versions', 'template_version_id'));
SELECT coder.policy('template_version_terraform_values', coder.policy_of('versions', 'template_version_id'),
	'{cached_plan}');
SELECT coder.policy('template_version_presets', coder.policy_of('versions', 'template_version_id'));
SELECT coder.policy('template_version_preset_parameters', $q$template_version_preset_id IN (SELECT p.id FROM coder.template_version_presets p)$q$);
SELECT coder.policy('template_version_preset_prebuild_schedules', $q$preset_id IN (SELECT p.id FROM coder.template_version_presets p)$q$);
SELECT coder.policy('template_build_times', 'template_id IN (SELECT p.id FROM coder.templates p)');
SELECT coder.policy('template_usage_stats', $q$(SELECT coder.row_all('view_insights', 'template')) OR user_id = (SELECT coder.row_subject())
	OR template_id IN (SELECT p.id FROM coder.templates p
					    WHERE coder.row_can('view_insights', 'template', p.organization_id, NULL, p.user_acl, p.group_acl, p.id))$q$);
SELECT coder.policy('template_examples', '(SELECT coder.row_subject()) IS NOT NULL', '{archive}');
SELECT coder.policy('files', coder.policy_rows('read', 'file', NULL, 'created_by'), '{data}');

-- Workspaces.  To lists, of which a query is one, a dormant workspace is a workspace like the others; changes of it ask
-- for workspace_dormant.
SELECT coder.policy('workspaces', $q$(SELECT coder.row_all('read', 'workspace'))
	OR organization_id = ANY ((SELECT coder.row_orgs('read', 'workspace'))::uuid[]) OR id IN (SELECT r FROM coder.row_own_workspaces() r)$q$,
	'{}', '{name, autostart_schedule, ttl, automatic_updates, favorite}');
SELECT coder.policy('workspace_totals', coder.policy_rows('read', 'workspace', 'organization_id', 'owner_id', 'NULL'));
SELECT coder.policy('workspace_agent_port_share', coder.policy_of('workspaces', 'workspace_id'));
SELECT coder.policy('workspace_builds', coder.policy_of('workspaces', 'workspace_id'),
	'{provisioner_state}', '{deadline}');
SELECT coder.policy('workspace_build_parameters', coder.policy_of('builds', 'workspace_build_id'));

-- Chats.  Messages that only a model is told are for administrators; MCP servers are shown without what they are called with.
SELECT coder.policy('chats', coder.policy_rows('read', 'chat', 'organization_id', 'owner_id'), '{}', '{title}');
SELECT coder.policy('chat_messages', $q$chat_id IN (SELECT p.id FROM coder.chats p)
	AND (visibility <> 'model' OR (SELECT coder.row_all('update', 'deployment_config')))$q$);
SELECT coder.policy(t, 'chat_id IN (SELECT p.id FROM coder.chats p)', secret)
  FROM (VALUES ('chat_queued_messages', '{}'::text[]), ('chat_stream_events', '{}'), ('chat_title_requests', '{}'), ('chat_file_links', '{}'), ('chat_diff_statuses', '{}'),
	('chat_debug_runs', '{}'), ('chat_debug_steps', '{normalized_request, normalized_response}')) AS x (t, secret);
SELECT coder.policy('chat_files', coder.policy_rows('read', 'chat', 'organization_id', 'owner_id'), '{data}');
SELECT coder.policy('chat_providers', coder.policy_rows('read', 'deployment_config', NULL), '{api_key}');
SELECT coder.policy('chat_model_configs', '(SELECT coder.row_subject()) IS NOT NULL');
SELECT coder.policy('user_chat_provider_keys', coder.policy_rows('read_personal', 'user', NULL, 'user_id', 'user_id'), '{api_key}');
SELECT coder.policy('chat_usage_limit_config', coder.policy_rows('read', 'deployment_config', NULL, id => 'NULL'));
SELECT coder.policy('mcp_server_configs', $q$(SELECT coder.row_all('read', 'deployment_config')) OR enabled AND (SELECT coder.row_subject()) IS NOT NULL$q$,
	'{url, oauth2_client_id, oauth2_client_secret, oauth2_auth_url, oauth2_token_url, api_key_value, custom_headers, oauth2_revocation_url, oauth2_resource}');
SELECT coder.policy('mcp_server_user_tokens', coder.policy_rows('read_personal', 'user', NULL, 'user_id', 'user_id'),
	'{access_token, refresh_token}');

SELECT coder.policy('replicas', coder.policy_rows('read', 'replicas', NULL));

-- Jobs are read by who reads what they are for.  Their input may hold values of variables.
SELECT coder.policy('provisioner_keys', coder.policy_rows('read', 'provisioner_daemon', 'organization_id'), '{hashed_secret}');
SELECT coder.policy('provisioner_daemons', coder.policy_rows('read', 'provisioner_daemon', 'organization_id'));
SELECT coder.policy('provisioner_jobs', coder.policy_rows('read', 'provisioner_jobs', 'organization_id') || ' OR ' || coder.policy_of('jobs', 'id'),
	'{input, trace_metadata}');
SELECT coder.policy('provisioner_job_logs', coder.policy_of('jobs', 'job_id'));
SELECT coder.policy('provisioner_job_timings', coder.policy_of('jobs', 'job_id'));
SELECT coder.policy('workspace_resources', coder.policy_of('jobs', 'job_id'));
SELECT coder.policy('workspace_modules', coder.policy_of('jobs', 'job_id'));
-- Whether a fact is a secret is known by row only: the view coder.resources tells those that are not.
SELECT coder.policy('workspace_resource_metadata', coder.policy_of('resources', 'workspace_resource_id'), '{value}');

-- Agents and their apps.
SELECT coder.policy('workspace_agents', coder.policy_of('resources', 'resource_id'),
	'{auth_token, auth_instance_id, instance_metadata, resource_metadata}');
SELECT coder.policy(t, coder.policy_of('agents', c))
  FROM (VALUES ('workspace_agent_metadata', 'workspace_agent_id'), ('workspace_agent_logs', 'agent_id'),
			   ('workspace_agent_log_sources', 'workspace_agent_id'), ('workspace_agent_scripts', 'workspace_agent_id'),
			   ('workspace_agent_devcontainers', 'workspace_agent_id'), ('workspace_agent_memory_resource_monitors', 'agent_id'),
			   ('workspace_agent_volume_resource_monitors', 'agent_id'), ('workspace_apps', 'agent_id')) v (t, c);
SELECT coder.policy('workspace_agent_script_timings', 'script_id IN (SELECT p.id FROM coder.workspace_agent_scripts p)');
SELECT coder.policy('workspace_agent_stats', coder.policy_of('workspaces', 'workspace_id'));
SELECT coder.policy('workspace_agent_sample_faults', coder.policy_of('agents', 'agent_id'));
SELECT coder.policy('workspace_app_statuses', coder.policy_of('workspaces', 'workspace_id'));
SELECT coder.policy('workspace_app_stats', coder.policy_of('workspaces', 'workspace_id'));
-- What boundaries of a workspace reported is read by who may read the workspace; the periods' sums are the server's alone.
SELECT coder.policy('boundary_reports', coder.policy_of('workspaces', 'workspace_id'));
SELECT coder.policy('boundary_usage_quarters', coder.policy_of('workspaces', 'workspace_id'));

-- The API itself.
SELECT coder.policy('routes', '(SELECT coder.row_subject()) IS NOT NULL');

-- ---- views ----

GRANT SELECT ON coder.rows_users, coder.rows_members, coder.rows_keys, coder.rows_templates, coder.rows_versions, coder.rows_workspaces,
	coder.rows_resources, coder.rows_jobs, coder.rows_audit,
	coder.users_live, coder.members_live, coder.sessions_live, coder.templates_live, coder.template_variables, coder.audit_live,
	coder.jobs_live, coder.resources_live, coder.workspaces_live, coder.agents_live, coder.builds_live,
	coder.workspace_latest_builds, coder.workspace_build_with_user, coder.workspaces_expanded, coder.template_with_names,
	coder.template_version_with_user TO coder_user;
GRANT SELECT ON coder.stat_tick, coder.stat_cache, coder.stat_gateway TO coder_auditor;
GRANT SELECT ON coder.stat_agent, coder.stat_chat TO coder_admin;

-- ---- functions ----

-- Nothing is for everybody; a trigger's function does its work with its owner's rights, whoever wrote the row.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA coder FROM PUBLIC;

DO $$
DECLARE
	f regprocedure;
BEGIN
	FOR f IN SELECT p.oid FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
			  WHERE p.pronamespace = 'coder'::regnamespace AND p.prorettype = 'trigger'::regtype AND l.lanname = 'plpgsql'
				AND NOT p.prosecdef LOOP
		EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', f);
	END LOOP;
	-- What administrators ask of others.
	FOREACH f IN ARRAY ARRAY['coder.explain_access(text, text, text, uuid, uuid, jsonb, jsonb, uuid, bool)',
			'coder.explain_access_to(text, text, text, text)']::regprocedure[] LOOP
		EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = on', f);
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO coder_admin', f);
	END LOOP;
END
$$;

GRANT EXECUTE ON FUNCTION coder.stat_timers(), coder.stat_counters() TO coder_auditor;
GRANT EXECUTE ON FUNCTION
	coder.row_all(text, text), coder.row_own(text, text), coder.row_orgs(text, text), coder.row_owned(text, text),
	coder.row_listed(text, text), coder.row_subject(), coder.row_own_workspaces(), coder.row_workspaces(), coder.row_builds(),
	coder.row_versions(), coder.row_jobs(), coder.row_resources(), coder.row_agents(), coder.row_can(text, text, uuid, uuid, jsonb, jsonb, uuid),
	coder.login(text, bool), coder.logout(), coder.whoami(), coder.subject_id(), coder.subject_token_id(),
	coder.can(text, text, uuid, uuid, jsonb, jsonb, uuid), coder.can_any(text, text, uuid),
	coder.explain(text, text, uuid, uuid, jsonb, jsonb, uuid), coder.has_organization_membership(uuid),
	coder.workspace_status(text, text), coder.job_is_active(text), coder.schedule_next(text, timestamptz, int4),
	coder.agent_status(timestamptz, timestamptz, timestamptz, timestamptz, int4, timestamptz, int4),
	coder.agent_status(coder.workspace_agents, timestamptz), coder.ts(timestamptz), coder.version(), coder.grams(text),
	coder.provisioner_tagset_contains(jsonb, jsonb), coder.provisioner_fits(coder.provisioner_daemons, coder.provisioner_jobs),
	coder.api(text, text, jsonb), coder.start_workspace(text, uuid), coder.start_workspace(uuid, uuid), coder.stop_workspace(text),
	coder.stop_workspace(uuid), coder.delete_workspace(text), coder.cancel_job(uuid), coder.set_dormant(text, bool),
	coder.set_password(text, text), coder.who_can(text, text),
	coder.boundary_usage(timestamptz, timestamptz, text), coder.boundary_usage_check_window(timestamptz)
	TO coder_user;
GRANT EXECUTE ON FUNCTION coder.become(text, bool), coder.health() TO coder_admin;
