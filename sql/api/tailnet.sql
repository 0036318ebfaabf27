-- SPDX-License-Identifier: MIT
--
-- tailnet.sql
--   The tunnel network: relay map, connection information, who may tunnel
--   where, and the streams that the gateway's coordinator serves.

CREATE OR REPLACE FUNCTION coder.access_url_parts(OUT scheme text, OUT host text, OUT port integer)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	m text[] := regexp_match(coalesce(coder.setting('access_url'), ''),
							 '^(https?)://(\[[0-9A-Fa-f:.]+\]|[^:/?#]+)(?::(\d{1,5}))?', 'i');
BEGIN
	scheme := coalesce(lower(m[1]), 'http');
	host := coalesce(btrim(m[2], '[]'), 'localhost');
	port := coalesce(m[3]::integer, CASE scheme WHEN 'https' THEN 443 ELSE 80 END);
END
$$;
COMMENT ON FUNCTION coder.access_url_parts() IS 'Scheme, host and port of the access URL.';

CREATE OR REPLACE FUNCTION coder.derp_map() RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	u record;
BEGIN
	SELECT * INTO u FROM coder.access_url_parts();
	RETURN jsonb_build_object('Regions', jsonb_build_object('999', jsonb_build_object(
		'EmbeddedRelay', true, 'RegionID', 999, 'RegionCode', 'coder', 'RegionName', 'Coder Embedded Relay',
		'Nodes', jsonb_build_array(jsonb_build_object('Name', '999b', 'RegionID', 999, 'HostName', u.host,
			'STUNPort', -1, 'DERPPort', u.port)
			|| CASE u.scheme WHEN 'http' THEN '{"ForceHTTP": true}'::jsonb ELSE '{}' END))));
END
$$;
COMMENT ON FUNCTION coder.derp_map() IS 'The relay map as JSON of the API: one region, this server.';

CREATE OR REPLACE FUNCTION coder.derp_map_message() RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	u record;
BEGIN
	SELECT * INTO u FROM coder.access_url_parts();
	-- Peers need home_params even where it is empty.
	RETURN jsonb_build_object('home_params', '{"region_score": {}}'::jsonb,
		'regions', jsonb_build_object('999', jsonb_build_object('region_id', 999, 'embedded_relay', true,
			'region_code', 'coder', 'region_name', 'Coder Embedded Relay', 'avoid', false,
			'nodes', jsonb_build_array(jsonb_build_object('name', '999b', 'region_id', 999, 'host_name', u.host,
				'cert_name', '', 'ipv4', '', 'ipv6', '', 'stun_port', -1, 'stun_only', false,
				'derp_port', u.port, 'insecure_for_tests', false, 'force_http', u.scheme = 'http',
				'stun_test_ip', '', 'can_port_80', false)))));
END
$$;
COMMENT ON FUNCTION coder.derp_map_message() IS 'The relay map as a DERPMap message.';

CREATE OR REPLACE FUNCTION coder.port_proxy_uri(agent text, workspace text, owner text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_wildcard text := coalesce(coder.setting('wildcard_access_url'), '');
	u record;
BEGIN
	IF v_wildcard = '' THEN
		RETURN '';
	END IF;
	SELECT * INTO u FROM coder.access_url_parts();
	RETURN u.scheme || '://' || replace(coder.applications_host_name(), '*',
										'{{port}}--' || agent || '--' || workspace || '--' || owner);
END
$$;
COMMENT ON FUNCTION coder.port_proxy_uri(text, text, text) IS
	'Manifest.vs_code_port_proxy_uri; empty without a wildcard host.';

CREATE OR REPLACE FUNCTION coder.connection_info() RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN jsonb_build_object('derp_map', coder.derp_map(),
		'derp_force_websockets', coder.setting_bool('derp_force_websockets'),
		'disable_direct_connections', coder.setting_bool('block_direct'),
		'hostname_suffix', coalesce(nullif(coder.setting('workspace_hostname_suffix'), ''), 'coder'));
END
$$;
COMMENT ON FUNCTION coder.connection_info() IS 'What a client needs to reach agents.';

CREATE OR REPLACE FUNCTION coder.tailnet_connection(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.reply(200, coder.connection_info());
END
$$;
COMMENT ON FUNCTION coder.tailnet_connection(coder.request) IS 'GET /workspaceagents/connection.';

CREATE OR REPLACE FUNCTION coder.tailnet_agent_connection(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.param_agent(req);
BEGIN
	RETURN coder.reply(200, coder.connection_info());
END
$$;
COMMENT ON FUNCTION coder.tailnet_agent_connection(coder.request) IS
	'GET /workspaceagents/{workspaceagent}/connection.';

CREATE OR REPLACE FUNCTION coder.tailnet_resume_token(peer uuid, at timestamptz DEFAULT now()) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_expires timestamptz := date_trunc('second', at) + interval '24 hours';
BEGIN
	RETURN jsonb_build_object('token', coder.crypto_sign('tailnet_resume',
			jsonb_build_object('sub', peer, 'exp', extract(epoch FROM v_expires)::bigint), at),
		'refresh_in', 43200000000000, 'expires_at', coder.ts(v_expires));
END
$$;
COMMENT ON FUNCTION coder.tailnet_resume_token(uuid, timestamptz) IS
	'The gateway: RefreshResumeTokenResponse for a client of this peer id.';
REVOKE ALL ON FUNCTION coder.tailnet_resume_token(uuid, timestamptz) FROM PUBLIC;

CREATE OR REPLACE FUNCTION coder.tailnet_peer_id(req coder.request, at timestamptz DEFAULT now()) RETURNS uuid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_token text := coalesce(req.query ->> 'resume_token', '');
	v_header jsonb;
	v_peer text;
BEGIN
	IF v_token = '' THEN
		RETURN gen_random_uuid();
	END IF;
	v_header := coder.jwt_header(v_token);
	-- Made before keys had numbers: as if there were none.
	IF v_header ->> 'alg' = 'HS512' AND coalesce(v_header ->> 'kid', '') = '' THEN
		RETURN gen_random_uuid();
	END IF;
	v_peer := coder.crypto_verify('tailnet_resume', v_token, at) ->> 'sub';
	IF coalesce(v_peer, '') !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
		PERFORM coder.raise(401, 'Invalid resume token', 'The token is malformed, has expired or was not signed by this server.',
			jsonb_build_array(coder.validation('resume_token', 'Invalid resume token')));
	END IF;
	RETURN v_peer::uuid;
END
$$;
COMMENT ON FUNCTION coder.tailnet_peer_id(coder.request, timestamptz) IS
	'Who a client is in the tailnet: of its resume_token, or new; 401 for a token that is not good.';

CREATE OR REPLACE FUNCTION coder.tailnet_plan(req coder.request, agent uuid) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_name text := '';
BEGIN
	SELECT u.username INTO v_name FROM coder.users u WHERE u.id = coder.subject_id();
	RETURN coder.reply(101, jsonb_strip_nulls(jsonb_build_object('format', 'rpc', 'service', 'tailnet',
		'peer_id', coder.tailnet_peer_id(req), 'agent_id', agent, 'user_id', coder.subject_id(), 'name', v_name,
		'channels', '[]'::jsonb, 'frames', '[]'::jsonb, 'cursor', '1')));
END
$$;
COMMENT ON FUNCTION coder.tailnet_plan(coder.request, uuid) IS
	'Stream of the tailnet service for a client: one agent, or any (NULL) that it may tunnel to.';

CREATE OR REPLACE FUNCTION coder.tailnet_coordinate(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.param_agent(req, 'ssh');
BEGIN
	PERFORM coder.require_api_version(req, '1.0');
	RETURN coder.tailnet_plan(req, (c.agent).id);
END
$$;
COMMENT ON FUNCTION coder.tailnet_coordinate(coder.request) IS
	'GET /workspaceagents/{workspaceagent}/coordinate; 404 without ssh on the workspace.';

CREATE OR REPLACE FUNCTION coder.tailnet_user(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.require_api_version(req, '2.0');
	RETURN coder.tailnet_plan(req, NULL);
END
$$;
COMMENT ON FUNCTION coder.tailnet_user(coder.request) IS 'GET /tailnet.';

CREATE OR REPLACE FUNCTION coder.tailnet_derp_map(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_map text := coder.compact(coder.derp_map());
	v_digest text := md5(v_map);
BEGIN
	RETURN coder.reply(101, '{"format":"wsbinary","channels":[],"frames":['
		|| CASE WHEN req.cursor = v_digest THEN '' ELSE v_map END
		|| '],"cursor":"' || v_digest || '","retry_ms":5000}');
END
$$;
COMMENT ON FUNCTION coder.tailnet_derp_map(coder.request) IS
	'GET /derp-map: the relay map, again whenever it changes.';

CREATE OR REPLACE FUNCTION coder.tunnel_allowed(user_id uuid, agent uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.agent_context(agent);
	v_before uuid := coder.subject_id();
	v_allowed boolean;
BEGIN
	IF (c.workspace).id IS NULL THEN
		RETURN false;
	END IF;
	PERFORM coder.set_subject(user_id);
	v_allowed := coder.workspace_can('ssh', c.workspace);
	PERFORM coder.set_subject(v_before);
	RETURN coalesce(v_allowed, false);
END
$$;
COMMENT ON FUNCTION coder.tunnel_allowed(uuid, uuid) IS
	'The gateway: may this user open a tunnel to the agent (ssh on its workspace)?';

CREATE OR REPLACE FUNCTION coder.node_latency(node jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v jsonb;
BEGIN
	SELECT jsonb_object_agg(s.region, jsonb_build_object('preferred', s.id = coalesce((node ->> 'preferred_derp')::integer, 0),
														 'latency_ms', s.ms))
	  INTO v
	  FROM (SELECT split_part(l.key, '-', 1)::integer AS id,
				   CASE split_part(l.key, '-', 1) WHEN '999' THEN 'Coder Embedded Relay'
						ELSE 'Unnamed ' || split_part(l.key, '-', 1) END AS region,
				   min(l.value::double precision * 1000) AS ms
			  FROM jsonb_each_text(coalesce(nullif(node -> 'derp_latency', 'null'), '{}')) l
			 WHERE l.key ~ '^\d{1,8}(-|$)'
			 GROUP BY 1, 2) s;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.node_latency(jsonb) IS
	'Latencies of a node by region name, as the API shows them; NULL if there are none.';

CREATE OR REPLACE FUNCTION coder.agent_node(agent uuid, node jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO coder.workspace_agent_nodes (agent_id, node, latency)
	SELECT agent, node, coder.node_latency(node)
	 WHERE EXISTS (SELECT FROM coder.workspace_agents a WHERE a.id = agent)
	ON CONFLICT (agent_id) DO UPDATE
	   SET node = excluded.node, latency = excluded.latency, updated_at = now();
END
$$;
COMMENT ON FUNCTION coder.agent_node(uuid, jsonb) IS
	'The gateway: an agent told the coordinator its node.';

-- ---- what Coder Connect follows ----

CREATE OR REPLACE FUNCTION coder.workspace_updates_state(owner uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v jsonb;
BEGIN
	SELECT coalesce(jsonb_object_agg(w.id, jsonb_build_object('name', w.name,
			'status', upper(coder.workspace_status(j.job_status::text, b.transition::text)),
			'agents', coalesce((SELECT jsonb_object_agg(a.id, a.name)
				  FROM coder.workspace_resources r JOIN coder.workspace_agents a ON a.resource_id = r.id
				 WHERE r.job_id = b.job_id AND NOT a.deleted), '{}'))), '{}') INTO v
	  FROM coder.workspaces w
	  JOIN coder.workspace_builds b ON b.id = w.latest_build_id
	  JOIN coder.provisioner_jobs j ON j.id = b.job_id
	 WHERE w.owner_id = owner AND NOT w.deleted AND coder.workspace_can('read', w);
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.workspace_updates_state(uuid) IS
	'The live workspaces of an owner that the subject may read, with the agents of their latest builds.';

CREATE OR REPLACE FUNCTION coder.workspace_updates_diff(old jsonb, new jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_up jsonb;
	v_down jsonb;
	v_agents_up jsonb;
	v_agents_down jsonb;
BEGIN
	SELECT coalesce(jsonb_agg(jsonb_build_object('id', replace(n.key, '-', ''), 'name', n.value ->> 'name', 'status', n.value ->> 'status')), '[]')
	  INTO v_up FROM jsonb_each(new) n
	 WHERE (old -> n.key) - 'agents' IS DISTINCT FROM n.value - 'agents';
	SELECT coalesce(jsonb_agg(jsonb_build_object('id', replace(o.key, '-', ''), 'name', o.value ->> 'name', 'status', o.value ->> 'status')), '[]')
	  INTO v_down FROM jsonb_each(old) o WHERE NOT new ? o.key;
	SELECT coalesce(jsonb_agg(jsonb_build_object('id', replace(a.key, '-', ''), 'name', a.value, 'workspace_id', replace(n.key, '-', ''))), '[]')
	  INTO v_agents_up FROM jsonb_each(new) n, jsonb_each_text(n.value -> 'agents') a
	 WHERE old #>> ARRAY[n.key, 'agents', a.key] IS DISTINCT FROM a.value;
	SELECT coalesce(jsonb_agg(jsonb_build_object('id', replace(a.key, '-', ''), 'name', a.value, 'workspace_id', replace(o.key, '-', ''))), '[]')
	  INTO v_agents_down FROM jsonb_each(old) o, jsonb_each_text(o.value -> 'agents') a
	 WHERE new #>> ARRAY[o.key, 'agents', a.key] IS DISTINCT FROM a.value;
	RETURN jsonb_build_object('upserted_workspaces', v_up, 'upserted_agents', v_agents_up,
							  'deleted_workspaces', v_down, 'deleted_agents', v_agents_down);
END
$$;
COMMENT ON FUNCTION coder.workspace_updates_diff(jsonb, jsonb) IS 'WorkspaceUpdate message between two states.';

CREATE OR REPLACE FUNCTION coder.workspace_updates(owner uuid, cursor text, viewer uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_before uuid := coder.subject_id();
	v_old jsonb := coalesce(nullif(cursor, ''), '{}')::jsonb;
	v_new jsonb;
BEGIN
	PERFORM coder.set_subject(coalesce(viewer, owner));
	v_new := coder.workspace_updates_state(owner);
	PERFORM coder.set_subject(v_before);
	RETURN jsonb_build_object('cursor', v_new::text, 'changed', cursor IS NULL OR v_new <> v_old,
							  'channel', 'workspace_owner:' || owner,
							  'update', coder.workspace_updates_diff(v_old, v_new));
END
$$;
COMMENT ON FUNCTION coder.workspace_updates(uuid, text, uuid) IS
	'The gateway: {cursor, changed, channel, update}; update is the WorkspaceUpdate message since cursor (NULL: all), as viewer (default: the owner) sees it; call again on an event of channel.';

INSERT INTO coder.routes (area, method, pattern, function, auth, rate) VALUES
	('tailnet', 'GET', '/api/v2/workspaceagents/connection', 'tailnet_connection', 'session', 'api'),
	('tailnet', 'GET', '/api/v2/workspaceagents/{workspaceagent}/connection', 'tailnet_agent_connection', 'session', 'api'),
	('tailnet', 'GET', '/api/v2/workspaceagents/{workspaceagent}/coordinate', 'tailnet_coordinate', 'session', 'api'),
	('tailnet', 'GET', '/api/v2/tailnet', 'tailnet_user', 'session', 'api'),
	('tailnet', 'GET', '/api/v2/derp-map', 'tailnet_derp_map', 'none', 'api');
