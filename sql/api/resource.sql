-- SPDX-License-Identifier: MIT
--
-- resource.sql
--   What a job brought, stored: resources with their agents, apps, scripts and metadata.
--   Tables: sql/schema/resource.sql, workspaceagent.sql, app.sql.

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
