-- SPDX-License-Identifier: MIT
--
-- workspaceagent.sql
--   Agents: who a token is, connection, the routes about agents, and those of the agent itself.
--   What a job stores of them: resource.sql.  The calls of their protocol: agentrpc.sql.

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

-- Each table is read by its keys, so one plan is right for all; to plan takes longer than to run it.
CREATE OR REPLACE FUNCTION coder.agents_life(told jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	at CONSTANT timestamptz := clock_timestamp();
	v_answers text;
	v_changed uuid[];
	v_gone uuid[];
BEGIN
	-- The next beat makes good what is lost with the server: ten thousand agents must not wait for the disk for each.
	PERFORM set_config('synchronous_commit', 'off', true);
	WITH sign AS MATERIALIZED (
		SELECT x.ordinality AS n, (x.value ->> 'agent')::uuid AS agent, x.value #>> '{request,is}' AS is_now, (x.value #>> '{request,gateway}')::uuid AS gateway
		  FROM jsonb_array_elements(told) WITH ORDINALITY x
	), newest AS MATERIALIZED (
		-- What was told last is so.
		SELECT DISTINCT ON (s.agent) s.agent, s.is_now, s.gateway, bool_or(s.is_now = 'here') OVER (PARTITION BY s.agent) AS came
		  FROM sign s ORDER BY s.agent, s.n DESC
	), mine AS MATERIALIZED (
		-- In the order of keys, and past rows that another changes just now: no agent waits for another's.
		SELECT a.id, a.resource_id, a.deleted, a.first_connected_at, a.last_connected_at, a.disconnected_at, a.last_connected_replica_id
		  FROM newest l JOIN coder.workspace_agents a ON a.id = l.agent ORDER BY a.id FOR NO KEY UPDATE OF a SKIP LOCKED
	), judged AS MATERIALIZED (
		SELECT l.agent, l.is_now, l.is_now <> 'gone' OR l.came AS seen, l.gateway,
			   m.id IS NULL AND EXISTS (SELECT FROM coder.workspace_agents a WHERE a.id = l.agent) AS busy,
			   -- Whose connection has come to another gateway meanwhile is not gone.
			   m.id IS NOT NULL AND CASE WHEN l.is_now = 'gone' THEN l.gateway IS NULL OR l.came OR coalesce(m.last_connected_replica_id, l.gateway) = l.gateway
										 ELSE w.id IS NOT NULL END AS takes,
			   l.is_now = 'gone' OR l.came OR m.first_connected_at IS NULL OR m.disconnected_at IS NOT NULL
			   OR m.last_connected_at < at - interval '30 seconds' AS changed
		  FROM newest l
		  LEFT JOIN mine m ON m.id = l.agent
		  LEFT JOIN LATERAL (SELECT w.id FROM coder.workspace_resources r JOIN coder.workspace_builds b ON b.job_id = r.job_id JOIN coder.workspaces w ON w.id = b.workspace_id
							  WHERE r.id = m.resource_id AND NOT m.deleted AND NOT w.deleted AND (w.latest_build_id = b.id OR coder.agent_build_current(b))
							  LIMIT 1) w ON true
	), noted AS (
		UPDATE coder.workspace_agents a
		   SET first_connected_at = CASE WHEN j.seen THEN coalesce(a.first_connected_at, at) ELSE a.first_connected_at END,
			   last_connected_at = CASE WHEN j.seen THEN at ELSE a.last_connected_at END,
			   disconnected_at = CASE WHEN j.is_now = 'gone' THEN greatest(at, a.last_connected_at) END,
			   last_connected_replica_id = coalesce(j.gateway, a.last_connected_replica_id), updated_at = at
		  FROM judged j
		 WHERE a.id = j.agent AND j.takes
	)
	SELECT (SELECT '[' || string_agg(CASE WHEN j.busy THEN '{"again":true}' WHEN j.takes OR j.is_now = 'gone' THEN '{}' ELSE '{"over":true}' END, ',' ORDER BY s.n) || ']'
			  FROM sign s JOIN judged j USING (agent)),
		   array_agg(j.agent) FILTER (WHERE j.changed), array_agg(j.agent) FILTER (WHERE j.is_now = 'gone')
	  INTO v_answers, v_changed, v_gone FROM judged j WHERE j.takes;
	IF v_gone IS NOT NULL THEN
		DELETE FROM coder.workspace_agent_nodes n WHERE n.agent_id = ANY (v_gone);
	END IF;
	IF v_changed IS NOT NULL THEN
		PERFORM coder.emit_all(array_agg('workspace:' || x.workspace) || array_agg('workspace_owner:' || x.owner), array_agg(x.event) || array_agg(x.event))
		   FROM (SELECT w.id AS workspace, w.owner_id AS owner, '{"kind":"agt_connection_update","workspace_id":"' || w.id || '","agent_id":"' || a.id || '"}' AS event
				   FROM coder.workspace_agents a
				   JOIN coder.workspace_resources r ON r.id = a.resource_id
				   JOIN coder.workspace_builds b ON b.job_id = r.job_id
				   JOIN coder.workspaces w ON w.id = b.workspace_id
				  WHERE a.id = ANY (v_changed) AND NOT a.deleted) x;
	END IF;
	RETURN coalesce(v_answers, '[]');
END
$$;
COMMENT ON FUNCTION coder.agents_life(jsonb) IS
	'The gateway: signs of life of agents, in their order, a list of {"agent": id, "request": {"is": "here" (its connection is up) | "beat" (every 15 s: it answers) | "gone", "gateway": id}}. A JSON list of the same length: {"over": true} where the agent''s build is over (close the connection), {"again": true} where another had the row (tell it again), else {}. A connection''s end does not count where the agent has come to another gateway.';

CREATE OR REPLACE FUNCTION coder.agent_life(agent uuid, is_now text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.agents_life(jsonb_build_array(jsonb_build_object('agent', agent, 'request', jsonb_build_object('is', is_now)))) = '[{}]';
END
$$;
COMMENT ON FUNCTION coder.agent_life(uuid, text) IS 'One sign of life (here, beat, gone) of one agent, as coder.agents_life: false where it is not noted.';

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
	'GET /workspaceagents/me/rpc: the agent''s RPC connection. "monitor" false: it is no sign of the agent''s life.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_gitsshkey(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.agent_self();
	k coder.gitsshkeys;
BEGIN
	IF (c.agent).api_key_scope = 'no_user_data' THEN
		PERFORM coder.raise_forbidden();
	END IF;
	k := coder.user_ssh_key((c.workspace).owner_id);
	RETURN coder.reply(200, jsonb_build_object('public_key', k.public_key, 'private_key', coder.unseal(k.private_key, k.private_key_key_id)));
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
	('workspaceagent', 'POST', '/api/v2/workspaceagents/aws-instance-identity', 'not_built', 'none'),
	('workspaceagent', 'POST', '/api/v2/workspaceagents/google-instance-identity', 'not_built', 'none'),
	('workspaceagent', 'POST', '/api/v2/workspaceagents/azure-instance-identity', 'not_built', 'none');
