-- SPDX-License-Identifier: MIT
--
-- agentrpc.sql
--   The calls of the agent's protocol: coder.agent_rpc() takes one apart and calls coder.rpc_<method>().
--   Messages: agent/wire/proto/agent.proto.  JSON of them: docs/ARCHITECTURE.md section 5.

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
		'devcontainers', v_devcontainers,
		'boundary_batches', true)
		|| CASE WHEN (c.agent).parent_id IS NULL THEN '{}'
				ELSE jsonb_build_object('parent_id', coder.hex_id((c.agent).parent_id)) END;
END
$$;
COMMENT ON FUNCTION coder.rpc_get_manifest(coder.agent_context, jsonb) IS 'Agent RPC GetManifest.';

-- The announcements of PUT /appearance as BannerConfig messages; a call that failed would end the session of the reference's agents, so
-- what is no banner is left out.
CREATE OR REPLACE FUNCTION coder.banner_messages() RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('enabled', coalesce(b.value->'enabled' = 'true', false),
			'message', coalesce(b.value->>'message', ''), 'background_color', coalesce(b.value->>'background_color', '')) ORDER BY b.ordinality)
		FROM jsonb_array_elements(coder.site_config('announcement_banners', '[]')::jsonb) WITH ORDINALITY b
		WHERE jsonb_typeof(b.value) = 'object'), '[]');
END
$$;
COMMENT ON FUNCTION coder.banner_messages() IS 'Announcements of the deployment, as agents are told of them.';

CREATE OR REPLACE FUNCTION coder.rpc_get_service_banner(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coalesce(coder.banner_messages()->0, '{"enabled": false, "message": "", "background_color": ""}');
END
$$;
COMMENT ON FUNCTION coder.rpc_get_service_banner(coder.agent_context, jsonb) IS 'Agent RPC GetServiceBanner: the first announcement.';

CREATE OR REPLACE FUNCTION coder.rpc_get_announcement_banners(c coder.agent_context, request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN jsonb_build_object('announcement_banners', coder.banner_messages());
END
$$;
COMMENT ON FUNCTION coder.rpc_get_announcement_banners(coder.agent_context, jsonb) IS
	'Agent RPC GetAnnouncementBanners.';

CREATE OR REPLACE FUNCTION coder.bump_activity(w coder.workspaces, at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.bump_workspaces(ARRAY[w.id], at);
END
$$;
COMMENT ON FUNCTION coder.bump_activity(coder.workspaces, timestamptz) IS
	'Somebody works in the workspace: last_used_at and, near it, the deadline move on.';

CREATE OR REPLACE FUNCTION coder.agent_samples(samples jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	most CONSTANT integer := 1000;
	at CONSTANT timestamptz := clock_timestamp();
	v_answer CONSTANT text := format('{"report_interval":%s}', coder.setting_seconds('agent_stats_refresh_interval', 30) * 1000000000);
	v_known boolean[];
BEGIN
	IF jsonb_typeof(samples) <> 'array' OR jsonb_array_length(samples) > most THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = format('expected a list of at most %s samples', most);
	END IF;
	-- A sample need not outlive a crash of PostgreSQL in the same half second: the next one comes soon.
	PERFORM set_config('synchronous_commit', 'off', true);
	v_known := coalesce(coder.samples_add(samples, false, at), '{}');
	IF coder.agent_metrics_wanted() THEN
		PERFORM coder.agent_metrics_store(m.agent, m.metrics, at)
		   FROM (SELECT (x.value ->> 'agent')::uuid AS agent, x.value #> '{request,stats,metrics}' AS metrics
				   FROM jsonb_array_elements(samples) WITH ORDINALITY x WHERE v_known[x.ordinality] ORDER BY 1, x.ordinality) m;
	END IF;
	RETURN '[' || array_to_string(ARRAY(SELECT CASE WHEN k THEN v_answer ELSE '{"error":"Workspace agent not authorized."}' END FROM unnest(v_known) k), ',') || ']';
END
$$;
COMMENT ON FUNCTION coder.agent_samples(jsonb) IS
	'Samples of several agents in one transaction: a list of at most 1000 {"agent": id, "request": UpdateStatsRequest}; stores them and what the agents count themselves. A JSON list of the same length, each an UpdateStatsResponse or {"error": …} where the agent''s build is over. Errors: ZC400 for what is no such list.';

CREATE OR REPLACE FUNCTION coder.rpc_update_stats(agent uuid, request jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_answer CONSTANT jsonb := coder.agent_samples(jsonb_build_array(jsonb_build_object('agent', agent, 'request', request)))::jsonb -> 0;
BEGIN
	IF v_answer ? 'error' THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC401', MESSAGE = v_answer ->> 'error';
	END IF;
	RETURN v_answer;
END
$$;
COMMENT ON FUNCTION coder.rpc_update_stats(uuid, jsonb) IS
	'Agent RPC UpdateStats: a sample alone, as coder.agent_samples. Errors: ZC401 when the agent''s build is over.';

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
		   start_result = CASE WHEN v_state = 'starting' THEN NULL
							   WHEN v_state IN ('ready', 'start_timeout', 'start_error') THEN v_state::coder.workspace_agent_lifecycle_state
							   ELSE start_result END,
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
	-- What an agent could not send sooner is late; nothing is early.
	IF v_at NOT BETWEEN clock_timestamp() - interval '23 hours' AND clock_timestamp() + interval '1 hour' THEN
		PERFORM coder.sample_fault((c.agent).id, 0, 0, 1);
		v_at := least(v_at, clock_timestamp());
	END IF;
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
	-- The calls that come often look up for themselves what they need.
	IF method = 'ReportBoundaryLogs' THEN
		RETURN coder.rpc_report_boundary_logs(agent, request);
	ELSIF method = 'UpdateStats' THEN
		RETURN coder.rpc_update_stats(agent, request);
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
