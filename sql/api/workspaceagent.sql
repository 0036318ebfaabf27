-- SPDX-License-Identifier: MIT
--
-- workspaceagent.sql
--   Agents: stored with a job's resources, who a token is, the RPCs of the
--   agent's protocol, and the routes about agents.

-- ---- what a job brought: resources, agents, apps ----

CREATE OR REPLACE FUNCTION coder.merge_env(extra jsonb, own jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	e jsonb;
	v_env jsonb := '{}';
	v_name text;
	v_old text;
BEGIN
	FOR e IN SELECT x FROM jsonb_array_elements(coalesce(extra, '[]')) x LOOP
		v_name := e ->> 'name';
		v_old := coalesce(v_env ->> v_name, '');
		IF e ->> 'merge_strategy' = 'error' AND v_env ? v_name THEN
			RAISE EXCEPTION USING ERRCODE = 'ZC400',
				MESSAGE = format('duplicate env var "%s": merge_strategy is "error"', v_name);
		END IF;
		v_env := v_env || jsonb_build_object(v_name, CASE
			WHEN v_old <> '' AND e ->> 'merge_strategy' = 'append' THEN v_old || ':' || coalesce(e ->> 'value', '')
			WHEN v_old <> '' AND e ->> 'merge_strategy' = 'prepend' THEN coalesce(e ->> 'value', '') || ':' || v_old
			ELSE coalesce(e ->> 'value', '') END);
	END LOOP;
	RETURN nullif(v_env || coalesce(own, '{}'), '{}');
END
$$;
COMMENT ON FUNCTION coder.merge_env(jsonb, jsonb) IS
	'Environment of an agent: coder_env values by their merge strategy, then its own; NULL if none.';

CREATE OR REPLACE FUNCTION coder.store_apps(agent uuid, apps jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	a jsonb;
BEGIN
	FOR a IN SELECT x FROM jsonb_array_elements(coalesce(apps, '[]')) x LOOP
		IF coalesce(a ->> 'slug', '') !~ '^[a-z0-9](-?[a-z0-9])*$' THEN
			RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = format('invalid app slug "%s"', a ->> 'slug');
		END IF;
		INSERT INTO coder.workspace_apps
			(id, agent_id, slug, display_name, icon, command, url, healthcheck_url, healthcheck_interval,
			 healthcheck_threshold, health, subdomain, sharing_level, external, display_order, hidden,
			 open_in, display_group, tooltip)
		VALUES (coalesce(coder.try_uuid(nullif(a ->> 'id', '')), gen_random_uuid()), agent, a ->> 'slug',
				coalesce(a ->> 'display_name', ''), coalesce(a ->> 'icon', ''),
				nullif(a ->> 'command', ''), nullif(a ->> 'url', ''),
				coalesce(a #>> '{healthcheck,url}', ''),
				coalesce((a #>> '{healthcheck,interval}')::integer, 0),
				coalesce((a #>> '{healthcheck,threshold}')::integer, 0),
				CASE WHEN coalesce(a #>> '{healthcheck,url}', '') = '' THEN 'disabled' ELSE 'initializing' END::coder.workspace_app_health,
				coalesce((a ->> 'subdomain')::boolean, false),
				lower(coalesce(a ->> 'sharing_level', 'OWNER'))::coder.app_sharing_level,
				coalesce((a ->> 'external')::boolean, false),
				coalesce((a ->> 'order')::bigint, 0)::integer,
				coalesce((a ->> 'hidden')::boolean, false),
				CASE a ->> 'open_in' WHEN 'TAB' THEN 'tab' ELSE 'slim-window' END::coder.workspace_app_open_in,
				nullif(a ->> 'group', ''), coalesce(a ->> 'tooltip', ''))
		ON CONFLICT (id) DO UPDATE SET agent_id = excluded.agent_id, slug = excluded.slug,
			display_name = excluded.display_name, icon = excluded.icon, command = excluded.command,
			url = excluded.url, healthcheck_url = excluded.healthcheck_url,
			healthcheck_interval = excluded.healthcheck_interval,
			healthcheck_threshold = excluded.healthcheck_threshold, health = excluded.health,
			subdomain = excluded.subdomain, sharing_level = excluded.sharing_level,
			external = excluded.external, display_order = excluded.display_order,
			hidden = excluded.hidden, open_in = excluded.open_in,
			display_group = excluded.display_group, tooltip = excluded.tooltip;
	END LOOP;
END
$$;
COMMENT ON FUNCTION coder.store_apps(uuid, jsonb) IS
	'Stores the apps of an agent; ids from the provider are kept. Errors: ZC400 for a bad slug.';

CREATE OR REPLACE FUNCTION coder.store_scripts(agent uuid, scripts jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s jsonb;
	v_source uuid;
BEGIN
	FOR s IN SELECT x FROM jsonb_array_elements(coalesce(scripts, '[]')) x LOOP
		v_source := gen_random_uuid();
		INSERT INTO coder.workspace_agent_log_sources (workspace_agent_id, id, display_name, icon)
		VALUES (agent, v_source, coalesce(s ->> 'display_name', ''), coalesce(s ->> 'icon', ''));
		INSERT INTO coder.workspace_agent_scripts
			(workspace_agent_id, log_source_id, log_path, script, cron, start_blocks_login, run_on_start,
			 run_on_stop, timeout_seconds, display_name)
		VALUES (agent, v_source, coalesce(s ->> 'log_path', ''), coalesce(s ->> 'script', ''),
				coalesce(s ->> 'cron', ''), coalesce((s ->> 'start_blocks_login')::boolean, false),
				coalesce((s ->> 'run_on_start')::boolean, false), coalesce((s ->> 'run_on_stop')::boolean, false),
				coalesce((s ->> 'timeout_seconds')::integer, 0), coalesce(s ->> 'display_name', ''));
	END LOOP;
END
$$;
COMMENT ON FUNCTION coder.store_scripts(uuid, jsonb) IS
	'Stores the scripts of an agent, each with a log source.';

CREATE OR REPLACE FUNCTION coder.display_apps(apps jsonb) RETURNS coder.display_app[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF apps IS NULL OR apps = 'null' THEN
		RETURN '{vscode,ssh_helper,port_forwarding_helper,web_terminal}';
	END IF;
	RETURN ARRAY(SELECT n::coder.display_app
				   FROM unnest('{vscode,vscode_insiders,ssh_helper,port_forwarding_helper,web_terminal}'::text[])
						WITH ORDINALITY u(n, i)
				  WHERE coalesce((apps ->> n)::boolean, false) ORDER BY i);
END
$$;
COMMENT ON FUNCTION coder.display_apps(jsonb) IS 'The switches of an agent''s built-in apps as an array.';

CREATE OR REPLACE FUNCTION coder.store_agent(resource uuid, a jsonb) RETURNS uuid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_id uuid := gen_random_uuid();
	v_token uuid := gen_random_uuid();
BEGIN
	IF coalesce(a ->> 'token', '') <> '' THEN
		v_token := coder.try_uuid(a ->> 'token');
		IF v_token IS NULL THEN
			RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = 'invalid auth token format; must be uuid string';
		END IF;
	END IF;
	INSERT INTO coder.workspace_agents
		(id, resource_id, name, auth_token, auth_instance_id, architecture, operating_system,
		 environment_variables, directory, connection_timeout_seconds, troubleshooting_url, motd_file,
		 display_apps, display_order, api_key_scope)
	VALUES (v_id, resource, a ->> 'name', v_token, nullif(a ->> 'instance_id', ''),
			coalesce(a ->> 'architecture', ''), coalesce(a ->> 'operating_system', ''),
			coder.merge_env(a -> 'extra_envs', a -> 'env'), coalesce(a ->> 'directory', ''),
			coalesce((a ->> 'connection_timeout_seconds')::integer, 0),
			coalesce(a ->> 'troubleshooting_url', ''), coalesce(a ->> 'motd_file', ''),
			coder.display_apps(a -> 'display_apps'), coalesce((a ->> 'order')::bigint, 0)::integer,
			coalesce(nullif(a ->> 'api_key_scope', ''), 'all')::coder.agent_key_scope_enum);
	INSERT INTO coder.workspace_agent_metadata
		(workspace_agent_id, display_name, key, script, timeout, interval, display_order)
	SELECT v_id, coalesce(m ->> 'display_name', ''), m ->> 'key', coalesce(m ->> 'script', ''),
		   coalesce((m ->> 'timeout')::bigint, 0), coalesce((m ->> 'interval')::bigint, 0),
		   coalesce((m ->> 'order')::bigint, 0)::integer
	  FROM jsonb_array_elements(coalesce(a -> 'metadata', '[]')) m;
	PERFORM coder.store_scripts(v_id, a -> 'scripts');
	PERFORM coder.store_apps(v_id, a -> 'apps');
	PERFORM coder.store_monitors(v_id, a -> 'resources_monitoring');
	PERFORM coder.store_devcontainers(v_id, a -> 'devcontainers');
	RETURN v_id;
END
$$;
COMMENT ON FUNCTION coder.store_agent(uuid, jsonb) IS
	'Stores provisioner.Agent under a resource; its new id. Errors: ZC400.';

CREATE OR REPLACE FUNCTION coder.store_monitors(agent uuid, monitoring jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF jsonb_typeof(monitoring -> 'memory') = 'object' THEN
		INSERT INTO coder.workspace_agent_memory_resource_monitors (agent_id, enabled, threshold)
		VALUES (agent, coalesce((monitoring #>> '{memory,enabled}')::boolean, false),
				coalesce((monitoring #>> '{memory,threshold}')::integer, 0));
	END IF;
	INSERT INTO coder.workspace_agent_volume_resource_monitors (agent_id, enabled, threshold, path)
	SELECT agent, coalesce((v ->> 'enabled')::boolean, false), coalesce((v ->> 'threshold')::integer, 0), v ->> 'path'
	  FROM jsonb_array_elements(coalesce(monitoring -> 'volumes', '[]')) v
	ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION coder.store_monitors(uuid, jsonb) IS 'Stores the resource monitors of an agent.';

CREATE OR REPLACE FUNCTION coder.store_devcontainers(agent uuid, containers jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	d jsonb;
	v_id uuid;
BEGIN
	FOR d IN SELECT x FROM jsonb_array_elements(coalesce(containers, '[]')) x LOOP
		v_id := gen_random_uuid();
		INSERT INTO coder.workspace_agent_devcontainers (id, workspace_agent_id, workspace_folder, config_path, name)
		VALUES (v_id, agent, coalesce(d ->> 'workspace_folder', ''), coalesce(d ->> 'config_path', ''),
				coalesce(d ->> 'name', ''));
		INSERT INTO coder.workspace_agent_log_sources (workspace_agent_id, id, display_name, icon)
		VALUES (agent, v_id, format('Dev Container (%s)', d ->> 'name'), '/emojis/1f4e6.png');
		INSERT INTO coder.workspace_agent_scripts
			(workspace_agent_id, log_source_id, log_path, script, cron, start_blocks_login, run_on_start,
			 run_on_stop, timeout_seconds, display_name, id)
		VALUES (agent, v_id, '', '', '', false, false, false, 0, format('Dev Container (%s)', d ->> 'name'), v_id);
	END LOOP;
END
$$;
COMMENT ON FUNCTION coder.store_devcontainers(uuid, jsonb) IS
	'Stores the dev containers of an agent, each with a script row of the same id.';

CREATE OR REPLACE FUNCTION coder.store_resources(job uuid, transition text, resources jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r jsonb;
	v_id uuid;
BEGIN
	FOR r IN SELECT x FROM jsonb_array_elements(coalesce(resources, '[]')) x LOOP
		INSERT INTO coder.workspace_resources
			(job_id, transition, type, name, hide, icon, instance_type, daily_cost, module_path)
		VALUES (job, lower(transition)::coder.workspace_transition, r ->> 'type', r ->> 'name',
				coalesce((r ->> 'hide')::boolean, false), coalesce(r ->> 'icon', ''),
				nullif(r ->> 'instance_type', ''), coalesce((r ->> 'daily_cost')::integer, 0),
				coalesce(r ->> 'module_path', ''))
		RETURNING id INTO v_id;
		PERFORM coder.store_agent(v_id, a) FROM jsonb_array_elements(coalesce(r -> 'agents', '[]')) a;
		INSERT INTO coder.workspace_resource_metadata (workspace_resource_id, key, value, sensitive)
		SELECT v_id, m ->> 'key', coalesce(m ->> 'value', ''), coalesce((m ->> 'sensitive')::boolean, false)
		  FROM jsonb_array_elements(coalesce(r -> 'metadata', '[]')) m
		 WHERE NOT coalesce((m ->> 'is_null')::boolean, false)
		ON CONFLICT DO NOTHING;
	END LOOP;
END
$$;
COMMENT ON FUNCTION coder.store_resources(uuid, text, jsonb) IS
	'Stores provisioner.Resource messages of a job with agents, apps, scripts and metadata. Errors: ZC400, unique_violation.';

-- ---- who an agent's token is ----

CREATE OR REPLACE FUNCTION coder.agent_build_current(build coder.workspace_builds) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_latest uuid;
BEGIN
	SELECT w.latest_build_id INTO v_latest FROM coder.workspaces w WHERE w.id = build.workspace_id;
	IF v_latest = build.id THEN
		RETURN true;
	END IF;
	-- While the workspace is being stopped its agent may still report.
	RETURN build.transition = 'start' AND EXISTS
		(SELECT FROM coder.workspace_builds n
		   JOIN coder.provisioner_jobs nj ON nj.id = n.job_id
		   JOIN coder.provisioner_jobs j ON j.id = build.job_id
		  WHERE n.id = v_latest AND n.build_number = build.build_number + 1 AND n.transition = 'stop'
			AND nj.job_status IN ('pending', 'running') AND j.job_status = 'succeeded');
END
$$;
COMMENT ON FUNCTION coder.agent_build_current(coder.workspace_builds) IS
	'May agents of this build still speak? The latest build, or a start that is just being stopped.';

CREATE OR REPLACE FUNCTION coder.agent_subject(token uuid)
RETURNS TABLE (agent_id uuid, owner_id uuid, scope text, allow_list text[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
	SELECT a.id, w.owner_id, CASE a.api_key_scope WHEN 'all' THEN 'coder:all' ELSE a.api_key_scope::text END,
		   ARRAY['workspace:' || w.id, 'template:' || w.template_id,
				 'template:' || b.template_version_id, 'user:' || w.owner_id]
	  FROM coder.workspace_agents a
	  JOIN coder.workspace_resources r ON r.id = a.resource_id
	  JOIN coder.workspace_builds b ON b.job_id = r.job_id
	  JOIN coder.workspaces w ON w.id = b.workspace_id
	 WHERE a.auth_token = token AND NOT a.deleted AND NOT w.deleted AND coder.agent_build_current(b)
	 ORDER BY b.build_number DESC LIMIT 1;
END
$$;
COMMENT ON FUNCTION coder.agent_subject(uuid) IS
	'The agent of a token and what it may act on; no row if the token is nobody''s or its build is over.';

CREATE TYPE coder.agent_context AS (agent coder.workspace_agents, build coder.workspace_builds,
									workspace coder.workspaces);

CREATE OR REPLACE FUNCTION coder.agent_context(id uuid) RETURNS coder.agent_context
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v coder.agent_context;
	v_job uuid;
BEGIN
	SELECT a INTO v.agent FROM coder.workspace_agents a WHERE a.id = agent_context.id AND NOT a.deleted;
	SELECT r.job_id INTO v_job FROM coder.workspace_resources r WHERE r.id = (v.agent).resource_id;
	SELECT b INTO v.build FROM coder.workspace_builds b WHERE b.job_id = v_job;
	SELECT w INTO v.workspace FROM coder.workspaces w WHERE w.id = (v.build).workspace_id;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.agent_context(uuid) IS
	'An agent with its build and workspace; fields are NULL where there is none.';

CREATE OR REPLACE FUNCTION coder.agent_event(c coder.agent_context, kind text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.workspace_event((c.workspace).id, (c.workspace).owner_id, kind, (c.agent).id);
END
$$;
COMMENT ON FUNCTION coder.agent_event(coder.agent_context, text) IS
	'Tells the watchers of an agent''s workspace.';

-- ---- connection ----

CREATE OR REPLACE FUNCTION coder.agent_connected(agent uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE coder.workspace_agents
	   SET first_connected_at = coalesce(first_connected_at, clock_timestamp()),
		   last_connected_at = clock_timestamp(), disconnected_at = NULL, updated_at = clock_timestamp()
	 WHERE id = agent;
	PERFORM coder.agent_event(coder.agent_context(agent), 'agt_connection_update');
END
$$;
COMMENT ON FUNCTION coder.agent_connected(uuid) IS 'The gateway: an agent''s connection is up.';

CREATE OR REPLACE FUNCTION coder.agent_heartbeat(agent uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.agent_context(agent);
BEGIN
	IF (c.agent).id IS NULL OR NOT coder.agent_build_current(c.build) THEN
		RETURN false;
	END IF;
	UPDATE coder.workspace_agents
	   SET last_connected_at = clock_timestamp(), updated_at = clock_timestamp(),
		   disconnected_at = NULL
	 WHERE id = agent;
	RETURN true;
END
$$;
COMMENT ON FUNCTION coder.agent_heartbeat(uuid) IS
	'The gateway, every 15 s: the agent answers. false: its build is over, close the connection.';

CREATE OR REPLACE FUNCTION coder.agent_disconnected(agent uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE coder.workspace_agents
	   SET disconnected_at = clock_timestamp(), updated_at = clock_timestamp()
	 WHERE id = agent;
	IF FOUND THEN
		DELETE FROM coder.workspace_agent_nodes WHERE agent_id = agent;
		PERFORM coder.agent_event(coder.agent_context(agent), 'agt_connection_update');
	END IF;
END
$$;
COMMENT ON FUNCTION coder.agent_disconnected(uuid) IS 'The gateway: an agent''s connection is gone.';

-- ---- agent RPC ----

CREATE OR REPLACE FUNCTION coder.rpc_id(value text) RETURNS uuid
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_id uuid := coder.try_uuid(value);
BEGIN
	IF v_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400',
			MESSAGE = format('invalid UUID (got %s bytes)', length(coalesce(value, '')) / 2);
	END IF;
	RETURN v_id;
END
$$;
COMMENT ON FUNCTION coder.rpc_id(text) IS 'A UUID of a message; errors: ZC400.';

CREATE OR REPLACE FUNCTION coder.rpc_time(value text) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_time timestamptz := value::timestamptz;
BEGIN
	RETURN CASE WHEN v_time > '1970-01-01 00:00:00+00' THEN v_time END;
END
$$;
COMMENT ON FUNCTION coder.rpc_time(text) IS 'A time of a message; NULL where it is absent or zero.';

CREATE OR REPLACE FUNCTION coder.rpc_submessage(request jsonb, field text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF coalesce(jsonb_typeof(request -> field), 'null') <> 'object' THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = format('%s is required', field);
	END IF;
	RETURN request -> field;
END
$$;
COMMENT ON FUNCTION coder.rpc_submessage(jsonb, text) IS 'A message that must be there; errors: ZC400.';

CREATE OR REPLACE FUNCTION coder.hex_id(id uuid) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN replace(id::text, '-', '');
END
$$;
COMMENT ON FUNCTION coder.hex_id(uuid) IS 'A UUID as bytes of a message.';

CREATE OR REPLACE FUNCTION coder.manifest_scripts(agent uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v jsonb;
BEGIN
	SELECT coalesce(jsonb_agg(jsonb_build_object('log_source_id', coder.hex_id(s.log_source_id),
			'log_path', s.log_path, 'script', s.script, 'cron', s.cron, 'run_on_start', s.run_on_start,
			'run_on_stop', s.run_on_stop, 'start_blocks_login', s.start_blocks_login,
			'timeout', s.timeout_seconds::bigint * 1000000000, 'display_name', s.display_name,
			'id', coder.hex_id(s.id)) ORDER BY s.ordinal), '[]') INTO v
	  FROM coder.workspace_agent_scripts s WHERE s.workspace_agent_id = agent;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.manifest_scripts(uuid) IS 'Manifest.scripts of an agent.';

CREATE OR REPLACE FUNCTION coder.subdomain_name(app_slug text, agent_name text, workspace_name text, owner_name text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN app_slug || CASE WHEN app_slug ~ '^\d{4,5}s?$' THEN '--' || agent_name ELSE '' END
		|| '--' || workspace_name || '--' || owner_name;
END
$$;
COMMENT ON FUNCTION coder.subdomain_name(text, text, text, text) IS 'Host label of a subdomain app.';

CREATE OR REPLACE FUNCTION coder.manifest_apps(c coder.agent_context, owner_name text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v jsonb;
	v_wildcard boolean := coalesce(coder.setting('wildcard_access_url'), '') <> '';
BEGIN
	SELECT coalesce(jsonb_agg(jsonb_build_object('id', coder.hex_id(a.id), 'url', coalesce(a.url, ''),
			'external', a.external, 'slug', a.slug, 'display_name', a.display_name,
			'command', coalesce(a.command, ''), 'icon', a.icon, 'subdomain', a.subdomain,
			'subdomain_name', CASE WHEN a.subdomain AND v_wildcard
				THEN coder.subdomain_name(a.slug, (c.agent).name, (c.workspace).name, owner_name) ELSE '' END,
			'sharing_level', upper(a.sharing_level::text),
			'healthcheck', jsonb_build_object('url', a.healthcheck_url,
				'interval', a.healthcheck_interval::bigint * 1000000000, 'threshold', a.healthcheck_threshold),
			'health', upper(a.health::text), 'hidden', a.hidden)
			ORDER BY a.display_order, a.display_name, a.slug), '[]') INTO v
	  FROM coder.workspace_apps a WHERE a.agent_id = (c.agent).id;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.manifest_apps(coder.agent_context, text) IS 'Manifest.apps of an agent.';

-- In the manifest seconds stand as nanoseconds, which is how agents read them.
CREATE OR REPLACE FUNCTION coder.manifest_metadata(agent uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v jsonb;
BEGIN
	SELECT coalesce(jsonb_agg(jsonb_build_object('display_name', m.display_name, 'key', m.key,
			'script', m.script, 'interval', m.interval, 'timeout', m.timeout)
			ORDER BY m.display_order, m.key), '[]') INTO v
	  FROM coder.workspace_agent_metadata m WHERE m.workspace_agent_id = agent;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.manifest_metadata(uuid) IS 'Manifest.metadata of an agent.';

CREATE OR REPLACE FUNCTION coder.rpc_get_manifest(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_owner text;
	v_devcontainers jsonb;
BEGIN
	SELECT u.username INTO v_owner FROM coder.users u WHERE u.id = (c.workspace).owner_id;
	SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', coder.hex_id(d.id),
			'workspace_folder', d.workspace_folder, 'config_path', d.config_path, 'name', d.name,
			'subagent_id', coder.hex_id(d.subagent_id))) ORDER BY d.name), '[]') INTO v_devcontainers
	  FROM coder.workspace_agent_devcontainers d WHERE d.workspace_agent_id = (c.agent).id;
	RETURN jsonb_build_object(
		'agent_id', coder.hex_id((c.agent).id),
		'agent_name', (c.agent).name,
		'owner_username', v_owner,
		'workspace_id', coder.hex_id((c.workspace).id),
		'workspace_name', (c.workspace).name,
		'git_auth_configs', (SELECT count(*) FROM coder.external_auth_configs() x WHERE x->>'type' IN ('github', 'gitlab', 'bitbucket-cloud',
			'bitbucket-server', 'azure-devops', 'azure-devops-entra', 'gitea')),
		'environment_variables', coalesce((c.agent).environment_variables, '{}'),
		'directory', (c.agent).directory,
		'vs_code_port_proxy_uri', coder.port_proxy_uri((c.agent).name, (c.workspace).name, v_owner),
		'motd_path', (c.agent).motd_file,
		'disable_direct_connections', coder.setting_bool('block_direct'),
		'derp_force_websockets', coder.setting_bool('derp_force_websockets'),
		'derp_map', coder.derp_map_message(),
		'scripts', coder.manifest_scripts((c.agent).id),
		'apps', coder.manifest_apps(c, v_owner),
		'metadata', coder.manifest_metadata((c.agent).id),
		'devcontainers', v_devcontainers)
		|| CASE WHEN (c.agent).parent_id IS NULL THEN '{}'
				ELSE jsonb_build_object('parent_id', coder.hex_id((c.agent).parent_id)) END;
END
$$;
COMMENT ON FUNCTION coder.rpc_get_manifest(coder.agent_context, jsonb) IS 'Agent RPC GetManifest.';

CREATE OR REPLACE FUNCTION coder.rpc_get_service_banner(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN '{"enabled": false, "message": "", "background_color": ""}';
END
$$;
COMMENT ON FUNCTION coder.rpc_get_service_banner(coder.agent_context, jsonb) IS 'Agent RPC GetServiceBanner.';

CREATE OR REPLACE FUNCTION coder.rpc_get_announcement_banners(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN '{"announcement_banners": []}';
END
$$;
COMMENT ON FUNCTION coder.rpc_get_announcement_banners(coder.agent_context, jsonb) IS
	'Agent RPC GetAnnouncementBanners.';

CREATE OR REPLACE FUNCTION coder.bump_activity(w coder.workspaces, at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v record;
	v_next timestamptz;
	v_span interval;
	v_ttl interval;
BEGIN
	UPDATE coder.workspaces SET last_used_at = at WHERE id = w.id AND last_used_at < at;
	SELECT b.id, b.deadline, b.max_deadline, t.activity_bump / 1000 * interval '1 microsecond' AS bump,
		   t.allow_user_autostart, t.autostart_block_days_of_week::integer AS blocked,
		   coalesce(CASE WHEN t.allow_user_autostop THEN w.ttl ELSE t.default_ttl END, 0) / 1000
			* interval '1 microsecond' AS ttl
	  INTO v
	  FROM coder.workspace_builds b
	  JOIN coder.provisioner_jobs j ON j.id = b.job_id
	  JOIN coder.templates t ON t.id = w.template_id
	 WHERE b.id = w.latest_build_id AND b.transition = 'start' AND j.completed_at IS NOT NULL
	   AND b.deadline > '0001-01-01 00:00:00+00';
	IF NOT FOUND OR v.bump <= interval '0' OR v.deadline - v.bump * 0.95 >= at THEN
		RETURN;
	END IF;
	v_span := v.bump;
	v_next := CASE WHEN v.allow_user_autostart THEN coder.schedule_next(w.autostart_schedule, at, v.blocked) END;
	IF v_next < at + v.bump THEN
		v_span := v_next - at + v.ttl;
	END IF;
	UPDATE coder.workspace_builds
	   SET deadline = CASE WHEN v.max_deadline > '0001-01-01 00:00:00+00'
						   THEN least(greatest(v.deadline, at + v_span), v.max_deadline)
						   ELSE greatest(v.deadline, at + v_span) END,
		   updated_at = at
	 WHERE id = v.id;
END
$$;
COMMENT ON FUNCTION coder.bump_activity(coder.workspaces, timestamptz) IS
	'Somebody works in the workspace: last_used_at and, near it, the deadline move on.';

CREATE OR REPLACE FUNCTION coder.rpc_update_stats(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s jsonb := request -> 'stats';
	v_now timestamptz := clock_timestamp();
BEGIN
	IF coalesce(jsonb_typeof(s), 'null') = 'object' THEN
		INSERT INTO coder.workspace_agent_stats
			(created_at, user_id, agent_id, workspace_id, template_id, connections_by_proto, connection_count,
			 rx_packets, rx_bytes, tx_packets, tx_bytes, connection_median_latency_ms, session_count_vscode,
			 session_count_jetbrains, session_count_reconnecting_pty, session_count_ssh)
		SELECT v_now, (c.workspace).owner_id, (c.agent).id, (c.workspace).id, (c.workspace).template_id,
			   coalesce(s -> 'connections_by_proto', '{}'), coalesce(x.connection_count, 0),
			   coalesce(x.rx_packets, 0), coalesce(x.rx_bytes, 0), coalesce(x.tx_packets, 0),
			   coalesce(x.tx_bytes, 0), coalesce(x.connection_median_latency_ms, -1),
			   coalesce(x.session_count_vscode, 0), coalesce(x.session_count_jetbrains, 0),
			   coalesce(x.session_count_reconnecting_pty, 0), coalesce(x.session_count_ssh, 0)
		  FROM jsonb_to_record(s) AS x(connection_count bigint, rx_packets bigint, rx_bytes bigint,
				tx_packets bigint, tx_bytes bigint, connection_median_latency_ms double precision,
				session_count_vscode bigint, session_count_jetbrains bigint,
				session_count_reconnecting_pty bigint, session_count_ssh bigint);
		IF coalesce((s ->> 'connection_count')::bigint, 0) > 0 THEN
			PERFORM coder.bump_activity(c.workspace, v_now);
			PERFORM coder.agent_event(c, 'stats_update');
		END IF;
	END IF;
	RETURN jsonb_build_object('report_interval', coder.setting_seconds('agent_stats_refresh_interval', 30) * 1000000000);
END
$$;
COMMENT ON FUNCTION coder.rpc_update_stats(coder.agent_context, jsonb) IS
	'Agent RPC UpdateStats: stores a sample, if one is there, and answers the interval.';

CREATE OR REPLACE FUNCTION coder.rpc_update_lifecycle(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_lifecycle jsonb := coder.rpc_submessage(request, 'lifecycle');
	v_state text := lower(v_lifecycle ->> 'state');
	v_at timestamptz := coalesce(coder.rpc_time(v_lifecycle ->> 'changed_at'), clock_timestamp());
BEGIN
	IF v_state IS NULL OR v_state NOT IN (SELECT unnest(enum_range(NULL::coder.workspace_agent_lifecycle_state))::text) THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = format('unknown lifecycle state: %s', v_lifecycle ->> 'state');
	END IF;
	UPDATE coder.workspace_agents
	   SET lifecycle_state = v_state::coder.workspace_agent_lifecycle_state,
		   started_at = CASE WHEN v_state = 'starting' THEN v_at
							 WHEN v_state IN ('ready', 'start_timeout', 'start_error') THEN coalesce(started_at, v_at)
							 ELSE started_at END,
		   ready_at = CASE WHEN v_state = 'starting' THEN NULL
						   WHEN v_state IN ('ready', 'start_timeout', 'start_error') THEN v_at
						   ELSE ready_at END,
		   updated_at = clock_timestamp()
	 WHERE id = (c.agent).id;
	PERFORM coder.agent_event(c, 'agt_lifecycle_update');
	RETURN v_lifecycle;
END
$$;
COMMENT ON FUNCTION coder.rpc_update_lifecycle(coder.agent_context, jsonb) IS
	'Agent RPC UpdateLifecycle; errors: ZC400 for an unknown state.';

CREATE OR REPLACE FUNCTION coder.rpc_update_startup(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s jsonb := coder.rpc_submessage(request, 'startup');
	v_one text;
	v_subsystems coder.workspace_agent_subsystem[];
BEGIN
	IF coalesce(s ->> 'version', '') !~ '^v\d+(\.\d+){0,2}([-+][0-9A-Za-z.+-]+)?$' THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = format('invalid agent semver version "%s"', s ->> 'version');
	END IF;
	FOR v_one IN SELECT jsonb_array_elements_text(coalesce(s -> 'subsystems', '[]')) LOOP
		IF v_one NOT IN ('ENVBOX', 'ENVBUILDER', 'EXECTRACE') THEN
			RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = format('invalid agent subsystem "%s"', v_one);
		END IF;
	END LOOP;
	v_subsystems := ARRAY(SELECT DISTINCT lower(x)::coder.workspace_agent_subsystem
							FROM jsonb_array_elements_text(coalesce(s -> 'subsystems', '[]')) x ORDER BY 1);
	UPDATE coder.workspace_agents
	   SET version = s ->> 'version', expanded_directory = coalesce(s ->> 'expanded_directory', ''),
		   subsystems = v_subsystems, api_version = '2.8', updated_at = clock_timestamp()
	 WHERE id = (c.agent).id;
	RETURN s;
END
$$;
COMMENT ON FUNCTION coder.rpc_update_startup(coder.agent_context, jsonb) IS
	'Agent RPC UpdateStartup; errors: ZC400 for a bad version or subsystem.';

CREATE OR REPLACE FUNCTION coder.rpc_batch_update_app_healths(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	u jsonb;
	v_app coder.workspace_apps;
	v_health text;
	v_changed boolean := false;
BEGIN
	FOR u IN SELECT x FROM jsonb_array_elements(coalesce(request -> 'updates', '[]')) x LOOP
		SELECT * INTO v_app FROM coder.workspace_apps a
		 WHERE a.id = coder.rpc_id(u ->> 'id') AND a.agent_id = (c.agent).id;
		IF NOT FOUND THEN
			RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = format('workspace app ID "%s" not found', coder.rpc_id(u ->> 'id'));
		ELSIF v_app.healthcheck_url = '' THEN
			RAISE EXCEPTION USING ERRCODE = 'ZC400',
				MESSAGE = format('workspace app "%s" (%s) does not have healthchecks enabled', v_app.slug, v_app.id);
		END IF;
		v_health := lower(regexp_replace(u ->> 'health', '^APP_HEALTH_', ''));
		IF v_health NOT IN ('disabled', 'initializing', 'healthy', 'unhealthy') THEN
			RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = format('unknown health status "%s"', u ->> 'health');
		END IF;
		CONTINUE WHEN v_health = v_app.health::text;
		UPDATE coder.workspace_apps SET health = v_health::coder.workspace_app_health WHERE id = v_app.id;
		v_changed := true;
	END LOOP;
	IF v_changed THEN
		PERFORM coder.agent_event(c, 'app_health');
	END IF;
	RETURN '{}';
END
$$;
COMMENT ON FUNCTION coder.rpc_batch_update_app_healths(coder.agent_context, jsonb) IS
	'Agent RPC BatchUpdateAppHealths; errors: ZC400.';

CREATE OR REPLACE FUNCTION coder.rpc_batch_update_metadata(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	m jsonb;
	v_value text;
	v_error text;
	v_keys integer := 0;
	v_changed boolean := false;
BEGIN
	FOR m IN SELECT x FROM jsonb_array_elements(coalesce(request -> 'metadata', '[]')) x LOOP
		v_keys := v_keys + octet_length(coalesce(m ->> 'key', ''));
		EXIT WHEN v_keys > 6144;
		v_value := btrim(coalesce(m #>> '{result,value}', ''), E' \t\r\n');
		v_error := btrim(coalesce(m #>> '{result,error}', ''), E' \t\r\n');
		IF octet_length(v_value) > 2048 THEN
			v_error := format('value of %s bytes exceeded %s bytes', octet_length(v_value), 2048);
			v_value := left(v_value, 2048);
			WHILE octet_length(v_value) > 2048 LOOP
				v_value := left(v_value, -1);
			END LOOP;
		END IF;
		IF octet_length(v_error) > 2048 THEN
			v_error := format('error of %s bytes exceeded %s bytes', octet_length(v_error), 2048);
		END IF;
		UPDATE coder.workspace_agent_metadata
		   SET value = v_value, error = v_error, collected_at = clock_timestamp()
		 WHERE workspace_agent_id = (c.agent).id AND key = m ->> 'key';
		v_changed := v_changed OR FOUND;
	END LOOP;
	IF v_changed THEN
		PERFORM coder.emit('agent_metadata:' || (c.agent).id, '');
	END IF;
	RETURN '{}';
END
$$;
COMMENT ON FUNCTION coder.rpc_batch_update_metadata(coder.agent_context, jsonb) IS
	'Agent RPC BatchUpdateMetadata; what is too long is cut and says so, what is too much is dropped.';

CREATE OR REPLACE FUNCTION coder.agent_append_logs(c coder.agent_context, source uuid, logs jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_external constant uuid := '3b579bf4-1ed8-4b99-87a8-e9a1e3410410';
	v_bytes bigint;
	v_agent coder.workspace_agents;
BEGIN
	SELECT coalesce(sum(octet_length(l ->> 'output')), 0) INTO v_bytes FROM jsonb_array_elements(logs) l;
	SELECT * INTO v_agent FROM coder.workspace_agents a WHERE a.id = (c.agent).id FOR NO KEY UPDATE;
	IF v_agent.logs_overflowed THEN
		RETURN false;
	END IF;
	IF v_agent.logs_length + v_bytes > 1048576 THEN
		UPDATE coder.workspace_agents SET logs_overflowed = true, updated_at = clock_timestamp() WHERE id = v_agent.id;
		PERFORM coder.agent_event(c, 'agt_logs_overflow');
		RETURN false;
	END IF;
	IF source IS NULL OR source = '00000000-0000-0000-0000-000000000000' THEN
		source := v_external;
		INSERT INTO coder.workspace_agent_log_sources (workspace_agent_id, id, display_name, icon)
		VALUES (v_agent.id, v_external, 'External', '/emojis/1f310.png') ON CONFLICT DO NOTHING;
	END IF;
	INSERT INTO coder.workspace_agent_logs (agent_id, created_at, output, level, log_source_id)
	SELECT v_agent.id, clock_timestamp(), left(coalesce(l.value ->> 'output', ''), 1024),
		   CASE WHEN lower(l.value ->> 'level') IN ('trace', 'debug', 'info', 'warn', 'error')
				THEN lower(l.value ->> 'level') ELSE 'info' END::coder.log_level, source
	  FROM jsonb_array_elements(logs) WITH ORDINALITY l(value, n) ORDER BY l.n;
	UPDATE coder.workspace_agents SET logs_length = logs_length + v_bytes WHERE id = v_agent.id;
	PERFORM coder.emit('agent_logs:' || v_agent.id, '');
	IF v_agent.logs_length = 0 THEN
		PERFORM coder.agent_event(c, 'agt_first_logs');
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION coder.agent_append_logs(coder.agent_context, uuid, jsonb) IS
	'Appends lines to an agent''s log, 1 MiB in all; false: the limit is exceeded, nothing was stored.';

CREATE OR REPLACE FUNCTION coder.rpc_batch_create_logs(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_source uuid := coder.rpc_id(coalesce(nullif(request ->> 'log_source_id', ''), '00000000000000000000000000000000'));
	v_logs jsonb := coalesce(request -> 'logs', '[]');
BEGIN
	IF (c.agent).logs_overflowed THEN
		RETURN '{"log_limit_exceeded": true}';
	ELSIF jsonb_array_length(v_logs) = 0 THEN
		RETURN '{"log_limit_exceeded": false}';
	END IF;
	RETURN jsonb_build_object('log_limit_exceeded', NOT coder.agent_append_logs(c, v_source, v_logs));
END
$$;
COMMENT ON FUNCTION coder.rpc_batch_create_logs(coder.agent_context, jsonb) IS 'Agent RPC BatchCreateLogs.';

CREATE OR REPLACE FUNCTION coder.rpc_script_completed(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t jsonb := coder.rpc_submessage(request, 'timing');
	v_start timestamptz := coder.rpc_time(t ->> 'start');
	v_end timestamptz := coder.rpc_time(t ->> 'end');
BEGIN
	IF v_start IS NULL OR v_end IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = 'script start and end time are required and cannot be zero';
	ELSIF v_start > v_end THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = 'script end time must not be before its start';
	END IF;
	INSERT INTO coder.workspace_agent_script_timings (script_id, started_at, ended_at, exit_code, stage, status)
	SELECT s.id, v_start, v_end, coalesce((t ->> 'exit_code')::integer, 0),
		   lower(coalesce(t ->> 'stage', 'START'))::coder.workspace_agent_script_timing_stage,
		   lower(coalesce(t ->> 'status', 'OK'))::coder.workspace_agent_script_timing_status
	  FROM coder.workspace_agent_scripts s
	 WHERE s.id = coder.rpc_id(t ->> 'script_id') AND s.workspace_agent_id = (c.agent).id
	ON CONFLICT DO NOTHING;
	RETURN '{}';
END
$$;
COMMENT ON FUNCTION coder.rpc_script_completed(coder.agent_context, jsonb) IS
	'Agent RPC ScriptCompleted; errors: ZC400 for times that are missing or in the wrong order.';

CREATE OR REPLACE FUNCTION coder.rpc_get_resources_monitoring_configuration(c coder.agent_context, request jsonb)
RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_memory jsonb;
	v_volumes jsonb;
BEGIN
	SELECT jsonb_build_object('memory', jsonb_build_object('enabled', m.enabled)) INTO v_memory
	  FROM coder.workspace_agent_memory_resource_monitors m WHERE m.agent_id = (c.agent).id;
	SELECT coalesce(jsonb_agg(jsonb_build_object('enabled', v.enabled, 'path', v.path) ORDER BY v.path), '[]')
	  INTO v_volumes
	  FROM coder.workspace_agent_volume_resource_monitors v WHERE v.agent_id = (c.agent).id;
	RETURN jsonb_build_object('config', '{"num_datapoints": 20, "collection_interval_seconds": 10}'::jsonb,
							  'volumes', v_volumes) || coalesce(v_memory, '{}');
END
$$;
COMMENT ON FUNCTION coder.rpc_get_resources_monitoring_configuration(coder.agent_context, jsonb) IS
	'Agent RPC GetResourcesMonitoringConfiguration.';

CREATE OR REPLACE FUNCTION coder.monitor_state(percents integer[], threshold integer, old text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_nok integer := 0;
	v_run integer := 0;
	v_longest integer := 0;
	v_one integer;
BEGIN
	FOREACH v_one IN ARRAY percents LOOP
		v_run := CASE WHEN v_one >= threshold THEN v_run + 1 ELSE 0 END;
		v_nok := v_nok + (v_one >= threshold)::integer;
		v_longest := greatest(v_longest, v_run);
	END LOOP;
	RETURN CASE WHEN cardinality(percents) = 0 THEN old
				WHEN v_longest * 2 >= cardinality(percents) OR v_nok * 5 >= cardinality(percents) THEN 'NOK'
				WHEN v_nok = 0 THEN 'OK' ELSE old END;
END
$$;
COMMENT ON FUNCTION coder.monitor_state(integer[], integer, text) IS
	'State of a monitor after a window of percentages: half of it in one run, or a fifth in all, at the threshold is NOK; none is OK.';

CREATE OR REPLACE FUNCTION coder.rpc_push_resources_monitoring_usage(c coder.agent_context, request jsonb)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_points jsonb := coalesce(request -> 'datapoints', '[]');
BEGIN
	UPDATE coder.workspace_agent_memory_resource_monitors m
	   SET state = coder.monitor_state(ARRAY(
				SELECT ((p #>> '{memory,used}')::numeric / (p #>> '{memory,total}')::numeric * 100)::integer
				  FROM jsonb_array_elements(v_points) p WHERE (p #>> '{memory,total}')::bigint > 0),
				m.threshold, m.state::text)::coder.workspace_agent_monitor_state,
		   updated_at = clock_timestamp()
	 WHERE m.agent_id = (c.agent).id AND m.enabled;
	UPDATE coder.workspace_agent_volume_resource_monitors m
	   SET state = coder.monitor_state(ARRAY(
				SELECT ((v ->> 'used')::numeric / (v ->> 'total')::numeric * 100)::integer
				  FROM jsonb_array_elements(v_points) p, jsonb_array_elements(coalesce(p -> 'volumes', '[]')) v
				 WHERE v ->> 'volume' = m.path AND (v ->> 'total')::bigint > 0),
				m.threshold, m.state::text)::coder.workspace_agent_monitor_state,
		   updated_at = clock_timestamp()
	 WHERE m.agent_id = (c.agent).id AND m.enabled;
	RETURN '{}';
END
$$;
COMMENT ON FUNCTION coder.rpc_push_resources_monitoring_usage(coder.agent_context, jsonb) IS
	'Agent RPC PushResourcesMonitoringUsage: keeps the monitors'' states.';

CREATE OR REPLACE FUNCTION coder.try_inet(value text) RETURNS inet
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN nullif(CASE value WHEN 'localhost' THEN '127.0.0.1' ELSE value END, '')::inet;
EXCEPTION WHEN invalid_text_representation THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.try_inet(text) IS 'Text as an address; NULL where it is none.';

CREATE OR REPLACE FUNCTION coder.rpc_report_connection(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	x jsonb := coder.rpc_submessage(request, 'connection');
	v_id uuid := coder.rpc_id(x ->> 'id');
	v_at timestamptz := coalesce(coder.rpc_time(x ->> 'timestamp'), clock_timestamp());
	v_end boolean := x ->> 'action' = 'DISCONNECT';
BEGIN
	IF v_id = '00000000-0000-0000-0000-000000000000' THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = 'connection ID must not be nil';
	ELSIF coalesce(x ->> 'action', '') NOT IN ('CONNECT', 'DISCONNECT') THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = format('unknown connection action "%s"', x ->> 'action');
	ELSIF coalesce(x ->> 'type', '') NOT IN ('SSH', 'VSCODE', 'JETBRAINS', 'RECONNECTING_PTY') THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = format('unknown connection type "%s"', x ->> 'type');
	END IF;
	INSERT INTO coder.connection_logs AS l
		(connect_time, organization_id, workspace_owner_id, workspace_id, workspace_name, agent_name, type, ip,
		 code, connection_id, disconnect_time, disconnect_reason)
	VALUES (v_at, (c.workspace).organization_id, (c.workspace).owner_id, (c.workspace).id, (c.workspace).name,
			(c.agent).name, lower(x ->> 'type')::coder.connection_type, coder.try_inet(x ->> 'ip'),
			CASE WHEN v_end THEN coalesce((x ->> 'status_code')::integer, 0) END, v_id,
			CASE WHEN v_end THEN v_at END, CASE WHEN v_end THEN x ->> 'reason' END)
	ON CONFLICT (connection_id, workspace_id, agent_name) DO UPDATE
	   SET connect_time = least(l.connect_time, excluded.connect_time), code = coalesce(l.code, excluded.code), disconnect_time = coalesce(l.disconnect_time, excluded.disconnect_time),
		   disconnect_reason = coalesce(l.disconnect_reason, excluded.disconnect_reason);
	RETURN '{}';
END
$$;
COMMENT ON FUNCTION coder.rpc_report_connection(coder.agent_context, jsonb) IS
	'Agent RPC ReportConnection: one row of connection_logs a connection; errors: ZC400.';

CREATE OR REPLACE FUNCTION coder.rpc_sub_agent(a coder.workspace_agents) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN jsonb_build_object('name', a.name, 'id', coder.hex_id(a.id), 'auth_token', coder.hex_id(a.auth_token));
END
$$;
COMMENT ON FUNCTION coder.rpc_sub_agent(coder.workspace_agents) IS 'SubAgent message of a row.';

CREATE OR REPLACE FUNCTION coder.base32hex(data bytea, digits integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_text text := '';
	v_value integer;
BEGIN
	FOR i IN 0 .. digits - 1 LOOP
		v_value := 0;
		FOR k IN 0 .. 4 LOOP
			-- get_bit counts from the low bit of each byte.
			v_value := v_value * 2 + get_bit(data, ((i * 5 + k) / 8) * 8 + 7 - (i * 5 + k) % 8);
		END LOOP;
		v_text := v_text || substr('0123456789abcdefghijklmnopqrstuv', v_value + 1, 1);
	END LOOP;
	RETURN v_text;
END
$$;
COMMENT ON FUNCTION coder.base32hex(bytea, integer) IS 'The first digits of bytes in base32hex, lower case.';

CREATE OR REPLACE FUNCTION coder.sub_agent_app(agent uuid, agent_name text, a jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_slug text := coalesce(a ->> 'slug', '');
BEGIN
	IF v_slug = '' THEN
		RETURN 'app must have a slug or name set';
	ELSIF v_slug !~ '^[a-z0-9](-?[a-z0-9])*$' THEN
		RETURN format('app slug "%s" does not match regex "^[a-z0-9](-?[a-z0-9])*$"', v_slug);
	END IF;
	v_slug := coder.base32hex(sha256(convert_to(agent_name || '/' || v_slug, 'UTF8')), 8) || '-' || v_slug;
	IF EXISTS (SELECT FROM coder.workspace_apps x WHERE x.agent_id = agent AND x.slug = v_slug) THEN
		RETURN format('app slug "%s" is already in use', a ->> 'slug');
	END IF;
	PERFORM coder.store_apps(agent, jsonb_build_array((a - 'id') || jsonb_build_object('slug', v_slug,
		'sharing_level', coalesce(a ->> 'share', 'OWNER'))));
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.sub_agent_app(uuid, text, jsonb) IS
	'Stores an app of a sub-agent; what is wrong with it, NULL if nothing is.';

CREATE OR REPLACE FUNCTION coder.rpc_create_sub_agent(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_apps coder.display_app[] := ARRAY(SELECT lower(x)::coder.display_app
		FROM jsonb_array_elements_text(coalesce(request -> 'display_apps', '[]')) x);
	v_agent coder.workspace_agents;
	v_errors jsonb := '[]';
	v_error text;
	r record;
BEGIN
	IF coalesce(request ->> 'id', '') <> '' THEN
		UPDATE coder.workspace_agents
		   SET display_apps = v_apps, directory = coalesce(nullif(request ->> 'directory', ''), directory),
			   updated_at = clock_timestamp()
		 WHERE id = coder.rpc_id(request ->> 'id') AND parent_id = (c.agent).id AND NOT deleted
		RETURNING * INTO v_agent;
		IF NOT FOUND THEN
			RAISE EXCEPTION USING ERRCODE = 'ZC404', MESSAGE = 'subagent does not belong to this parent agent';
		END IF;
		RETURN jsonb_build_object('agent', coder.rpc_sub_agent(v_agent), 'app_creation_errors', '[]'::jsonb);
	END IF;
	IF coalesce(request ->> 'name', '') !~* '^[a-z0-9](-?[a-z0-9])*$' THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400',
			MESSAGE = format('agent name "%s" does not match regex "^[a-z0-9](-?[a-z0-9])*$"', request ->> 'name');
	END IF;
	INSERT INTO coder.workspace_agents
		(parent_id, resource_id, name, auth_token, architecture, operating_system, directory,
		 connection_timeout_seconds, troubleshooting_url, display_apps, api_key_scope)
	VALUES ((c.agent).id, (c.agent).resource_id, request ->> 'name', gen_random_uuid(),
			coalesce(request ->> 'architecture', ''), coalesce(request ->> 'operating_system', ''),
			coalesce(request ->> 'directory', ''), (c.agent).connection_timeout_seconds,
			(c.agent).troubleshooting_url, v_apps, (c.agent).api_key_scope)
	RETURNING * INTO v_agent;
	FOR r IN SELECT x.value, x.n - 1 AS index
			   FROM jsonb_array_elements(coalesce(request -> 'apps', '[]')) WITH ORDINALITY x(value, n) LOOP
		v_error := coder.sub_agent_app(v_agent.id, v_agent.name, r.value);
		IF v_error IS NOT NULL THEN
			v_errors := v_errors || jsonb_build_object('index', r.index, 'field', 'slug', 'error', v_error);
		END IF;
	END LOOP;
	PERFORM coder.agent_event(c, 'agt_connection_update');
	RETURN jsonb_build_object('agent', coder.rpc_sub_agent(v_agent), 'app_creation_errors', v_errors);
END
$$;
COMMENT ON FUNCTION coder.rpc_create_sub_agent(coder.agent_context, jsonb) IS
	'Agent RPC CreateSubAgent: new, or a change of one by id; errors: ZC400, ZC404, unique_violation.';

CREATE OR REPLACE FUNCTION coder.rpc_delete_sub_agent(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE coder.workspace_agents SET deleted = true, updated_at = clock_timestamp()
	 WHERE id = coder.rpc_id(request ->> 'id') AND parent_id = (c.agent).id;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC404', MESSAGE = 'subagent does not belong to this parent agent';
	END IF;
	PERFORM coder.agent_event(c, 'agt_connection_update');
	RETURN '{}';
END
$$;
COMMENT ON FUNCTION coder.rpc_delete_sub_agent(coder.agent_context, jsonb) IS 'Agent RPC DeleteSubAgent.';

CREATE OR REPLACE FUNCTION coder.rpc_list_sub_agents(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v jsonb;
BEGIN
	SELECT coalesce(jsonb_agg(coder.rpc_sub_agent(a) ORDER BY a.created_at), '[]') INTO v
	  FROM coder.workspace_agents a WHERE a.parent_id = (c.agent).id AND NOT a.deleted;
	RETURN jsonb_build_object('agents', v);
END
$$;
COMMENT ON FUNCTION coder.rpc_list_sub_agents(coder.agent_context, jsonb) IS 'Agent RPC ListSubAgents.';

CREATE OR REPLACE FUNCTION coder.store_app_status(c coder.agent_context, slug text, state text, message text, uri text)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_app uuid;
BEGIN
	IF octet_length(message) > 160 THEN
		PERFORM coder.raise(400, 'Message is too long.', 'Message must be less than 160 characters.');
	END IF;
	SELECT a.id INTO v_app FROM coder.workspace_apps a
	 WHERE a.agent_id = (c.agent).id AND a.slug = store_app_status.slug;
	IF NOT FOUND THEN
		PERFORM coder.raise(400, 'Failed to get workspace app.', format('No app found with slug "%s"', slug));
	END IF;
	IF state NOT IN ('working', 'idle', 'complete', 'failure') THEN
		PERFORM coder.raise(400, 'Invalid state provided.', format('invalid state: "%s"', state));
	END IF;
	INSERT INTO coder.workspace_app_statuses (created_at, agent_id, app_id, workspace_id, state, message, uri)
	VALUES (clock_timestamp(), (c.agent).id, v_app, (c.workspace).id, state::coder.workspace_app_status_state,
			regexp_replace(message, '[\x01-\x1f\x7f]', ' ', 'g'), nullif(uri, ''));
	PERFORM coder.agent_event(c, 'agt_app_status_update');
	IF state = 'working' THEN
		PERFORM coder.bump_activity(c.workspace, clock_timestamp());
	END IF;
END
$$;
COMMENT ON FUNCTION coder.store_app_status(coder.agent_context, text, text, text, text) IS
	'Stores what an app reports of its work; errors: 400.';

CREATE OR REPLACE FUNCTION coder.rpc_update_app_status(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.store_app_status(c, coalesce(request ->> 'slug', ''), lower(coalesce(request ->> 'state', 'WORKING')),
		coalesce(request ->> 'message', ''), coalesce(request ->> 'uri', ''));
	RETURN '{}';
END
$$;
COMMENT ON FUNCTION coder.rpc_update_app_status(coder.agent_context, jsonb) IS 'Agent RPC UpdateAppStatus.';

CREATE OR REPLACE FUNCTION coder.agent_rpc(agent uuid, method text, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context;
BEGIN
	-- The one call that comes often looks up for itself what it needs.
	IF method = 'ReportBoundaryLogs' THEN
		RETURN coder.rpc_report_boundary_logs(agent, request);
	END IF;
	c := coder.agent_context(agent);
	IF (c.agent).id IS NULL OR (c.workspace).id IS NULL OR (c.workspace).deleted
		OR NOT coder.agent_build_current(c.build) THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC401', MESSAGE = 'Workspace agent not authorized.';
	END IF;
	RETURN CASE method
		WHEN 'GetManifest' THEN coder.rpc_get_manifest(c, request)
		WHEN 'GetServiceBanner' THEN coder.rpc_get_service_banner(c, request)
		WHEN 'GetAnnouncementBanners' THEN coder.rpc_get_announcement_banners(c, request)
		WHEN 'UpdateStats' THEN coder.rpc_update_stats(c, request)
		WHEN 'UpdateLifecycle' THEN coder.rpc_update_lifecycle(c, request)
		WHEN 'UpdateStartup' THEN coder.rpc_update_startup(c, request)
		WHEN 'BatchUpdateAppHealths' THEN coder.rpc_batch_update_app_healths(c, request)
		WHEN 'BatchUpdateMetadata' THEN coder.rpc_batch_update_metadata(c, request)
		WHEN 'BatchCreateLogs' THEN coder.rpc_batch_create_logs(c, request)
		WHEN 'ScriptCompleted' THEN coder.rpc_script_completed(c, request)
		WHEN 'GetResourcesMonitoringConfiguration' THEN coder.rpc_get_resources_monitoring_configuration(c, request)
		WHEN 'PushResourcesMonitoringUsage' THEN coder.rpc_push_resources_monitoring_usage(c, request)
		WHEN 'ReportConnection' THEN coder.rpc_report_connection(c, request)
		WHEN 'CreateSubAgent' THEN coder.rpc_create_sub_agent(c, request)
		WHEN 'DeleteSubAgent' THEN coder.rpc_delete_sub_agent(c, request)
		WHEN 'ListSubAgents' THEN coder.rpc_list_sub_agents(c, request)
		WHEN 'UpdateAppStatus' THEN coder.rpc_update_app_status(c, request)
		ELSE coder.rpc_unknown(method)
	END;
END
$$;
COMMENT ON FUNCTION coder.agent_rpc(uuid, text, jsonb) IS
	'A unary call of coder.agent.v2.Agent by an agent; JSON as docs/ARCHITECTURE.md section 5 says. Errors: ZC401 when the agent''s build is over, ZC400, ZC501.';

CREATE OR REPLACE FUNCTION coder.rpc_unknown(method text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'ZC501', MESSAGE = format('unknown method %s', method);
END
$$;
COMMENT ON FUNCTION coder.rpc_unknown(text) IS 'Raises ZC501.';

-- ---- routes about agents ----

CREATE OR REPLACE FUNCTION coder.agents_json(job uuid, agent uuid) RETURNS text
AS 'MODULE_PATHNAME', 'coder_agents_json'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION coder.agents_json(uuid, uuid) IS 'JSON of an agent of a job; NULL if there is none.';

CREATE OR REPLACE FUNCTION coder.param_agent(req coder.request, action text DEFAULT 'read') RETURNS coder.agent_context
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.agent_context(coder.param_uuid(req, 'workspaceagent'));
BEGIN
	IF (c.workspace).id IS NULL OR NOT coder.workspace_can('read', c.workspace) THEN
		PERFORM coder.raise(404, 'Agent doesn''t exist with that id, or you do not have access to it.');
	END IF;
	IF action <> 'read' AND NOT coder.workspace_can(action, c.workspace) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN c;
END
$$;
COMMENT ON FUNCTION coder.param_agent(coder.request, text) IS
	'The agent of the path, whose workspace the subject may read and do action to; else 404.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_get(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.param_agent(req);
BEGIN
	RETURN coder.reply(200, coder.agents_json((c.build).job_id, (c.agent).id));
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_get(coder.request) IS 'GET /workspaceagents/{workspaceagent}.';

CREATE OR REPLACE FUNCTION coder.agent_log_json(l coder.workspace_agent_logs) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN '{"id":' || l.id || ',"created_at":"' || coder.ts(l.created_at) || '","output":'
		|| coder.compact(to_json(l.output::text)) || ',"level":"' || l.level || '","source_id":"'
		|| l.log_source_id || '"}';
END
$$;
COMMENT ON FUNCTION coder.agent_log_json(coder.workspace_agent_logs) IS 'JSON of a line of an agent''s log.';

CREATE OR REPLACE FUNCTION coder.agent_logs_follow(c coder.agent_context, after bigint, cursor text)
RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_after bigint := coalesce(cursor::bigint, after);
	v_last bigint;
	v_rows text;
	v_over boolean := (c.build).id IS DISTINCT FROM (c.workspace).latest_build_id;
BEGIN
	SELECT string_agg(coder.agent_log_json(l), ',' ORDER BY l.id), max(l.id) INTO v_rows, v_last
	  FROM (SELECT x.* FROM coder.workspace_agent_logs x
			 WHERE x.agent_id = (c.agent).id AND x.id > v_after ORDER BY x.id LIMIT 200) l;
	RETURN coder.reply(101, '{"format":"wsjson","channels":["agent_logs:' || (c.agent).id || '","workspace:'
		|| (c.workspace).id || '"],"frames":['
		|| CASE WHEN v_rows IS NULL AND cursor IS NOT NULL THEN '' ELSE '[' || coalesce(v_rows, '') || ']' END
		|| '],"cursor":"' || coalesce(v_last, v_after) || '","close":'
		|| CASE WHEN v_over AND v_rows IS NULL THEN 'true' ELSE 'false' END
		|| CASE WHEN v_rows IS NULL THEN ',"retry_ms":60000' ELSE ',"retry_ms":1' END || '}');
END
$$;
COMMENT ON FUNCTION coder.agent_logs_follow(coder.agent_context, bigint, text) IS
	'Stream of an agent''s log: arrays of lines behind after, then new ones; ends when the agent''s build is over.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_logs(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.param_agent(req);
	v_after text := coalesce(nullif(req.query ->> 'after', ''), '0');
	v_format text := coalesce(nullif(req.query ->> 'format', ''), 'json');
	v_text text;
	v coder.response;
BEGIN
	IF v_after !~ '^\+?\d{1,18}$' THEN
		PERFORM coder.raise(400, 'Query param "after" must be an integer greater than or equal to zero.', NULL,
			jsonb_build_array(coder.validation('after', 'Must be an integer greater than or equal to zero')));
	END IF;
	IF v_format NOT IN ('json', 'text') THEN
		PERFORM coder.raise(400, 'Invalid format parameter.', 'Allowed values are "json" and "text".');
	END IF;
	IF req.query ? 'follow' THEN
		IF v_format = 'text' THEN
			PERFORM coder.raise(400, 'Text format is not supported with follow mode.');
		END IF;
		RETURN coder.agent_logs_follow(c, v_after::bigint, req.cursor);
	END IF;
	IF v_format = 'text' THEN
		SELECT string_agg(coder.ts(l.created_at) || ' [' || l.level || '] [agent.' || (c.agent).name || '|'
				|| coalesce(s.display_name, '') || '] ' || l.output || E'\n', '' ORDER BY l.id) INTO v_text
		  FROM coder.workspace_agent_logs l
		  LEFT JOIN coder.workspace_agent_log_sources s ON s.workspace_agent_id = l.agent_id AND s.id = l.log_source_id
		 WHERE l.agent_id = (c.agent).id AND l.id > v_after::bigint;
		v.status := 200;
		v.headers := E'Content-Type: text/plain; charset=utf-8\r\n';
		v.raw := convert_to(coalesce(v_text, ''), 'UTF8');
		RETURN v;
	END IF;
	SELECT string_agg(coder.agent_log_json(l), ',' ORDER BY l.id) INTO v_text
	  FROM coder.workspace_agent_logs l WHERE l.agent_id = (c.agent).id AND l.id > v_after::bigint;
	RETURN coder.reply(200, '[' || coalesce(v_text, '') || ']');
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_logs(coder.request) IS
	'GET /workspaceagents/{workspaceagent}/logs?after=&format=&follow.';

CREATE OR REPLACE FUNCTION coder.agent_metadata_json(agent uuid) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v jsonb;
BEGIN
	SELECT coalesce(jsonb_agg(jsonb_build_object(
			'result', jsonb_build_object('collected_at', coder.ts(m.collected_at),
				'age', CASE WHEN m.collected_at > '0001-01-01 00:00:00+00'
							THEN floor(extract(epoch FROM clock_timestamp() - m.collected_at))::bigint ELSE 0 END,
				'value', m.value, 'error', m.error),
			'description', jsonb_build_object('display_name', m.display_name, 'key', m.key, 'script', m.script,
				'interval', m.interval, 'timeout', m.timeout))
			ORDER BY m.display_order, m.key), '[]') INTO v
	  FROM coder.workspace_agent_metadata m WHERE m.workspace_agent_id = agent;
	RETURN coder.compact(v);
END
$$;
COMMENT ON FUNCTION coder.agent_metadata_json(uuid) IS 'JSON array of an agent''s metadata.';

CREATE OR REPLACE FUNCTION coder.agent_metadata_plan(req coder.request, format text) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.param_agent(req);
BEGIN
	RETURN coder.reply(101, '{"format":"' || format || '","channels":["agent_metadata:' || (c.agent).id
		|| '"],"frames":[' || coder.agent_metadata_json((c.agent).id) || '],"cursor":"1","retry_ms":5000}');
END
$$;
COMMENT ON FUNCTION coder.agent_metadata_plan(coder.request, text) IS
	'Stream of an agent''s metadata: now, at each change, and every five seconds.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_watch_metadata(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.agent_metadata_plan(req, 'sse');
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_watch_metadata(coder.request) IS
	'GET /workspaceagents/{workspaceagent}/watch-metadata (SSE).';

CREATE OR REPLACE FUNCTION coder.workspaceagent_watch_metadata_ws(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.agent_metadata_plan(req, 'ws');
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_watch_metadata_ws(coder.request) IS
	'GET /workspaceagents/{workspaceagent}/watch-metadata-ws (WebSocket).';

CREATE OR REPLACE FUNCTION coder.agent_must_be_connected(c coder.agent_context) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_status text := coder.agent_status(c.agent, clock_timestamp());
BEGIN
	IF v_status <> 'connected' THEN
		PERFORM coder.raise(400, format('Agent state is "%s", it must be in the "connected" state.', v_status));
	END IF;
END
$$;
COMMENT ON FUNCTION coder.agent_must_be_connected(coder.agent_context) IS 'Raises 400 unless the agent is connected.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_tunnel(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.agent_must_be_connected(coder.param_agent(req));
	RETURN coder.not_built(req);
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_tunnel(coder.request) IS
	'Routes that ask the agent through the tunnel: 400 unless it is connected, else 501.';

CREATE OR REPLACE FUNCTION coder.url_port(url text) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	m text[] := regexp_match(url, '^(https?)://(?:\[[0-9a-f:.]+\]|[^/?#@:\s]+)(?::(\d{1,5}))?(?=[/?#]|$)', 'i');
	v_port integer := coalesce(m[2]::integer, CASE lower(m[1]) WHEN 'https' THEN 443 WHEN 'http' THEN 80 END);
BEGIN
	RETURN CASE WHEN v_port BETWEEN 1 AND 65535 THEN v_port END;
END
$$;
COMMENT ON FUNCTION coder.url_port(text) IS 'Port of an http or https URL; NULL where it is no such URL.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_ports(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.param_agent(req);
	v_hidden integer[];
BEGIN
	PERFORM coder.agent_must_be_connected(c);
	-- Ports of apps have a button of their own; those of well-known services are no web pages.
	SELECT array_agg(coder.url_port(a.url)) FILTER (WHERE coder.url_port(a.url) IS NOT NULL) INTO v_hidden
	  FROM coder.workspace_apps a WHERE a.agent_id = (c.agent).id;
	RETURN coder.reply(101, jsonb_build_object('format', 'ports', 'agent_id', (c.agent).id,
		'hidden', to_jsonb(coalesce(v_hidden, '{}') || '{20, 21, 22, 23, 25, 53, 110, 143, 179, 389, 465, 587, 636,
			989, 990, 993, 995, 3306, 3389, 5432, 27017, 27018, 27019, 28017}'::integer[])));
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_ports(coder.request) IS
	'GET /workspaceagents/{workspaceagent}/listening-ports: asked of the agent; 400 unless it is connected.';

-- ---- routes of the agent itself ----

CREATE OR REPLACE FUNCTION coder.agent_self() RETURNS coder.agent_context
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.agent_context(coder.agent_id());
END
$$;
COMMENT ON FUNCTION coder.agent_self() IS 'The agent whose token the request carries.';

-- 2.8 is what the API describes; 2.9 added fields, 2.10 a call that agents do without.
CREATE OR REPLACE FUNCTION coder.api_version_problem(version text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	m text[] := regexp_match(version, '^(\d{1,6})\.(\d{1,6})$');
BEGIN
	RETURN CASE
		WHEN m IS NULL THEN format('invalid version string: %s', version)
		WHEN m[1]::integer > 2 THEN format('server is at version 2.10, behind requested major version %s', version)
		WHEN m[1]::integer < 2 THEN format('version %s is no longer supported', version)
		WHEN m[2]::integer > 10 THEN format('server is at version 2.10, behind requested minor version %s', version)
	END;
END
$$;
COMMENT ON FUNCTION coder.api_version_problem(text) IS
	'Why a version of the agent and tailnet API is refused; NULL if it is not.';

CREATE OR REPLACE FUNCTION coder.require_api_version(req coder.request, def text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_problem text := coder.api_version_problem(coalesce(nullif(req.query ->> 'version', ''), def));
BEGIN
	IF v_problem IS NOT NULL THEN
		PERFORM coder.raise(400, 'Unknown or unsupported API version', NULL,
			jsonb_build_array(coder.validation('version', v_problem)));
	END IF;
END
$$;
COMMENT ON FUNCTION coder.require_api_version(coder.request, text) IS
	'Raises 400 where the query''s version is not 2.0 to 2.10.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_rpc(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.agent_self();
BEGIN
	PERFORM coder.require_api_version(req, '2.0');
	RETURN coder.reply(101, jsonb_build_object('format', 'rpc', 'service', 'agent', 'peer_id', (c.agent).id,
		'agent_id', (c.agent).id, 'user_id', (c.workspace).owner_id, 'name', (c.agent).name,
		'channels', jsonb_build_array('workspace:' || (c.workspace).id), 'frames', '[]'::jsonb, 'cursor', '1',
		-- Other roles use the token to send logs; their connection is not the agent's.
		'monitor', coalesce(req.query ->> 'role', '') IN ('', 'agent')));
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_rpc(coder.request) IS
	'GET /workspaceagents/me/rpc: the agent''s RPC connection. "monitor" false: do not call agent_connected and its like.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_gitsshkey(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.agent_self();
	v jsonb;
BEGIN
	IF (c.agent).api_key_scope = 'no_user_data' THEN
		PERFORM coder.raise_forbidden();
	END IF;
	SELECT jsonb_build_object('public_key', k.public_key, 'private_key', coder.unseal(k.private_key, k.private_key_key_id)) INTO v
	  FROM coder.gitsshkeys k WHERE k.user_id = (c.workspace).owner_id;
	IF v IS NULL THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN coder.reply(200, v);
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_gitsshkey(coder.request) IS
	'GET /workspaceagents/me/gitsshkey: the owner''s key pair; 403 for an agent without user data.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_log_source(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	v_id uuid := coalesce(coder.json_uuid(v_body, 'id'), gen_random_uuid());
	v coder.workspace_agent_log_sources;
BEGIN
	INSERT INTO coder.workspace_agent_log_sources (workspace_agent_id, id, display_name, icon)
	VALUES (coder.agent_id(), v_id, left(coalesce(v_body ->> 'display_name', ''), 127), coalesce(v_body ->> 'icon', ''))
	ON CONFLICT DO NOTHING;
	SELECT * INTO v FROM coder.workspace_agent_log_sources s WHERE s.workspace_agent_id = coder.agent_id() AND s.id = v_id;
	RETURN coder.reply(201, json_build_object('workspace_agent_id', v.workspace_agent_id, 'id', v.id,
		'created_at', coder.ts(v.created_at), 'display_name', v.display_name, 'icon', v.icon));
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_log_source(coder.request) IS
	'POST /workspaceagents/me/log-source; 201 also where it is there.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_patch_logs(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	v_logs jsonb := v_body -> 'logs';
	v_bad text;
BEGIN
	IF coalesce(jsonb_typeof(v_logs), '') <> 'array' OR jsonb_array_length(v_logs) = 0 THEN
		PERFORM coder.raise(400, 'No logs provided.');
	END IF;
	SELECT l ->> 'level' INTO v_bad FROM jsonb_array_elements(v_logs) l
	 WHERE coalesce(l ->> 'level', '') NOT IN ('', 'trace', 'debug', 'info', 'warn', 'error') LIMIT 1;
	IF v_bad IS NOT NULL THEN
		PERFORM coder.raise(400, 'Invalid log level provided.', format('invalid log level: "%s"', v_bad));
	END IF;
	IF NOT coder.agent_append_logs(coder.agent_self(), coder.json_uuid(v_body, 'log_source_id'), v_logs) THEN
		RETURN coder.reply(413, jsonb_build_object('message', 'Logs limit exceeded'));
	END IF;
	RETURN coder.reply(200, 'null'::jsonb);
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_patch_logs(coder.request) IS
	'PATCH /workspaceagents/me/logs; 413 when the log is full.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_app_status(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
BEGIN
	PERFORM coder.store_app_status(coder.agent_self(), coalesce(v_body ->> 'app_slug', ''),
		coalesce(v_body ->> 'state', ''), coalesce(v_body ->> 'message', ''), coalesce(v_body ->> 'uri', ''));
	RETURN coder.reply(200, 'null'::jsonb);
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_app_status(coder.request) IS
	'PATCH /workspaceagents/me/app-status.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_reinit(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF coder.query_bool(req, 'wait', false) THEN
		PERFORM coder.raise(409, 'This workspace is not a prebuilt workspace.');
	END IF;
	RETURN coder.reply(101, '{"format":"sse","channels":[],"frames":[],"cursor":"1"}');
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_reinit(coder.request) IS
	'GET /workspaceagents/me/reinit: 409 with wait, as there are no prebuilt workspaces; else a stream without events.';

INSERT INTO coder.routes (area, method, pattern, function, auth) VALUES
	('workspaceagent', 'GET', '/api/v2/workspaceagents/{workspaceagent}', 'workspaceagent_get', 'session'),
	('workspaceagent', 'GET', '/api/v2/workspaceagents/{workspaceagent}/logs', 'workspaceagent_logs', 'session'),
	('workspaceagent', 'GET', '/api/v2/workspaceagents/{workspaceagent}/startup-logs', 'workspaceagent_logs', 'session'),
	('workspaceagent', 'GET', '/api/v2/workspaceagents/{workspaceagent}/watch-metadata', 'workspaceagent_watch_metadata', 'session'),
	('workspaceagent', 'GET', '/api/v2/workspaceagents/{workspaceagent}/watch-metadata-ws', 'workspaceagent_watch_metadata_ws', 'session'),
	('workspaceagent', 'GET', '/api/v2/workspaceagents/{workspaceagent}/listening-ports', 'workspaceagent_ports', 'session'),
	('workspaceagent', 'GET', '/api/v2/workspaceagents/{workspaceagent}/containers', 'workspaceagent_tunnel', 'session'),
	('workspaceagent', 'GET', '/api/v2/workspaceagents/{workspaceagent}/containers/watch', 'workspaceagent_tunnel', 'session'),
	('workspaceagent', 'DELETE', '/api/v2/workspaceagents/{workspaceagent}/containers/devcontainers/{devcontainer}', 'not_built', 'session'),
	('workspaceagent', 'POST', '/api/v2/workspaceagents/{workspaceagent}/containers/devcontainers/{devcontainer}/recreate', 'not_built', 'session'),
	('workspaceagent', 'GET', '/api/v2/workspaceagents/me/rpc', 'workspaceagent_rpc', 'agent'),
	('workspaceagent', 'GET', '/api/v2/workspaceagents/me/gitsshkey', 'workspaceagent_gitsshkey', 'agent'),
	('workspaceagent', 'POST', '/api/v2/workspaceagents/me/log-source', 'workspaceagent_log_source', 'agent'),
	('workspaceagent', 'PATCH', '/api/v2/workspaceagents/me/logs', 'workspaceagent_patch_logs', 'agent'),
	('workspaceagent', 'PATCH', '/api/v2/workspaceagents/me/app-status', 'workspaceagent_app_status', 'agent'),
	('workspaceagent', 'GET', '/api/v2/workspaceagents/me/reinit', 'workspaceagent_reinit', 'agent'),
	('workspaceagent', 'POST', '/api/v2/workspaceagents/me/tasks/{task}/log-snapshot', 'not_built', 'agent'),
	('workspaceagent', 'POST', '/api/v2/workspaceagents/me/experimental/chat-context', 'not_built', 'agent'),
	('workspaceagent', 'DELETE', '/api/v2/workspaceagents/me/experimental/chat-context', 'not_built', 'agent'),
	('workspaceagent', 'POST', '/api/v2/workspaceagents/aws-instance-identity', 'not_built', 'none'),
	('workspaceagent', 'POST', '/api/v2/workspaceagents/google-instance-identity', 'not_built', 'none'),
	('workspaceagent', 'POST', '/api/v2/workspaceagents/azure-instance-identity', 'not_built', 'none');
