-- SPDX-License-Identifier: MIT
--
-- health.sql
--   What the server finds out about itself.  A gateway asks the access URL for
--   what people need of it, sends a message through each relay and a question to
--   each STUN server; the rest is in the database.  A report is kept for
--   CODER_HEALTH_CHECK_REFRESH; ?force=true makes a new one.

-- GET and PUT /debug/health/settings
CREATE OR REPLACE FUNCTION coder.health_settings(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old CONSTANT jsonb := coalesce(coder.site_config('health_settings')::jsonb, '{}');
	wanted jsonb;
BEGIN
	PERFORM coder.require('read', 'debug_info');
	IF req.method = 'PUT' THEN
		PERFORM coder.require('update', 'deployment_config');
		wanted := coalesce(nullif(coder.body(req)->'dismissed_healthchecks', 'null'), '[]');
		IF EXISTS (SELECT 1 FROM jsonb_array_elements_text(wanted) s
				WHERE s NOT IN ('DERP', 'AccessURL', 'Websocket', 'Database', 'WorkspaceProxy', 'ProvisionerDaemons')) THEN
			PERFORM coder.raise(500, 'Failed to validate health settings.');
		ELSIF wanted = coalesce(old->'dismissed_healthchecks', '[]') THEN
			RETURN coder.reply(204);
		END IF;
		PERFORM coder.site_config_set('health_settings', jsonb_build_object('dismissed_healthchecks', wanted)::text);
		RETURN coder.reply(200, jsonb_build_object('dismissed_healthchecks', wanted));
	END IF;
	RETURN coder.reply(200, jsonb_build_object('dismissed_healthchecks', coalesce(old->'dismissed_healthchecks', '[]')));
END
$$;

-- The state of a section: its base report.  errors make it unhealthy, warnings (of coder.health_message) do not.
CREATE OR REPLACE FUNCTION coder.health_section(section text, error text, warnings jsonb DEFAULT '[]')
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('healthy', error IS NULL, 'warnings', warnings,
			'severity', CASE WHEN error IS NOT NULL THEN 'error' WHEN warnings <> '[]' THEN 'warning' ELSE 'ok' END,
			'dismissed', coalesce(coder.site_config('health_settings')::jsonb->'dismissed_healthchecks', '[]') ? section)
		|| CASE WHEN error IS NULL THEN '{}' ELSE jsonb_build_object('error', error) END;
END
$$;

-- What came of a request to this server itself: NULL where it was answered with the status wanted.
CREATE OR REPLACE FUNCTION coder.health_error(code text, what text, result jsonb, wanted int4)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN (result->>'status')::int4 IS DISTINCT FROM wanted
		THEN format('%s: %s: %s', code, what, coalesce(coder.fetched_error(result), 'no answer')) END;
END
$$;

-- AccessURLReport of the answer to GET /healthz
CREATE OR REPLACE FUNCTION coder.health_access_url(url text, result jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	status CONSTANT int4 := coalesce((result->>'status')::int4, 0);
	error text;
	warnings jsonb := '[]';
BEGIN
	IF url = '' THEN
		error := 'EACS01: Access URL not set';
	ELSIF status = 0 THEN
		error := coder.health_error('EACS03', 'get healthz endpoint', result, 200);
	ELSIF status <> 200 THEN
		warnings := '[{"code": "EACS04", "message": "/healthz did not return 200 OK"}]';
	END IF;
	RETURN coder.health_section('AccessURL', error, warnings) || jsonb_build_object('access_url', url, 'reachable', status <> 0,
		'healthy', status = 200, 'status_code', status, 'healthz_response', left(coalesce(result->>'body', ''), 512));
END
$$;

-- A duration of nanoseconds as text, in its largest unit.
CREATE OR REPLACE FUNCTION coder.duration_of_ns(ns bigint)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN ns >= 1000000000 THEN trim_scale(round(ns / 1000000000.0, 6)) || 's'
				WHEN ns >= 1000000 THEN trim_scale(round(ns / 1000000.0, 6)) || 'ms' ELSE trim_scale(ns / 1000.0) || 'µs' END;
END
$$;

-- The probes of all nodes of the relay map, in the order of health_nodes: each relay, then each STUN server.
CREATE OR REPLACE FUNCTION coder.health_nodes(map jsonb)
RETURNS TABLE (n bigint, region text, node jsonb, kind text, url text) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	SELECT row_number() OVER (ORDER BY k.kind, r.key::int4, x.i) - 1, r.key, x.node, k.kind,
		   CASE k.kind WHEN 'stun' THEN 'stun' WHEN 'derp' THEN CASE WHEN x.node->'ForceHTTP' = 'true' THEN 'derp' ELSE 'derps' END END
			|| '://' || (x.node->>'HostName') || ':' || CASE k.kind WHEN 'stun' THEN coalesce(nullif(x.node->>'STUNPort', '0'), '3478')
				ELSE coalesce(nullif(x.node->>'DERPPort', '0'), '443') END
	  FROM jsonb_each(map->'Regions') r, jsonb_array_elements(r.value->'Nodes') WITH ORDINALITY x (node, i), unnest('{derp,stun}'::text[]) k (kind)
	 WHERE CASE k.kind WHEN 'stun' THEN coalesce((x.node->>'STUNPort')::int4, 0) >= 0 ELSE coalesce(x.node->'STUNOnly' = 'false', true) END
	 ORDER BY 1 LIMIT 12;
END
$$;

-- DERPNodeReport of a node, of its probes' answers (NULL where it was not to be probed).
CREATE OR REPLACE FUNCTION coder.health_node(node jsonb, derp jsonb, stun jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	d CONSTANT jsonb := coalesce(coder.fetched_object(derp), '{}');
	s CONSTANT jsonb := coalesce(coder.fetched_object(stun), '{}');
	trip CONSTANT bigint := coalesce((d->>'round_trip_ns')::bigint, 0);
	answers CONSTANT bool := derp IS NULL OR d->'can_exchange_messages' = 'true';
	error CONSTANT text := CASE WHEN NOT answers THEN coalesce(d->>'error', coder.fetched_error(derp)) END;
	websocket CONSTANT bool := coalesce(d->'uses_websocket' = 'true', false);
	stun_error CONSTANT text := CASE WHEN stun IS NOT NULL AND s->'can_stun' IS DISTINCT FROM 'true' THEN coalesce(s->>'error', coder.fetched_error(stun)) END;
BEGIN
	RETURN jsonb_build_object('healthy', answers AND stun_error IS NULL,
			'severity', CASE WHEN NOT answers THEN 'error' WHEN stun_error IS NOT NULL THEN 'error' WHEN websocket THEN 'warning' ELSE 'ok' END,
			'warnings', CASE WHEN websocket THEN jsonb_build_array(jsonb_build_object('code', 'EDERP01',
				'message', 'The relay is reached by a WebSocket only; something on the way does not let its upgrade pass.')) ELSE '[]' END,
			'node', node, 'node_info', '{"TokenBucketBytesPerSecond": 0, "TokenBucketBytesBurst": 0}'::jsonb,
			'can_exchange_messages', derp IS NOT NULL AND answers, 'round_trip_ping', coder.duration_of_ns(trip), 'round_trip_ping_ms', trip / 1000000,
			'uses_websocket', websocket, 'client_logs', coalesce(d->'client_logs', '[]'), 'client_errs', coalesce(d->'client_errs', '[]'),
			'stun', jsonb_build_object('Enabled', stun IS NOT NULL, 'CanSTUN', coalesce(s->'can_stun' = 'true', false), 'Error', stun_error))
		|| CASE WHEN coalesce(error, stun_error) IS NULL THEN '{}' ELSE jsonb_build_object('error', coalesce(error, stun_error)) END;
END
$$;

-- The report of the network, netcheck.Report, of all probes: what of it this server can tell.
CREATE OR REPLACE FUNCTION coder.health_netcheck(nodes jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	latency jsonb;
	v4 jsonb;
	v6 jsonb;
	best int4;
	mapped4 text;
	mapped6 text;
	varies bool;
BEGIN
	-- The relay's own figure where it has one, as clients choose by it.
	SELECT jsonb_object_agg(x.region, x.ns), jsonb_object_agg(x.region, x.ns) FILTER (WHERE NOT x.ipv6), jsonb_object_agg(x.region, x.ns) FILTER (WHERE x.ipv6),
		   (array_agg(x.region::int4 ORDER BY x.ns, x.region::int4))[1] INTO latency, v4, v6, best
	  FROM (SELECT e->>'region' AS region, min((e#>>'{answer,latency_ns}')::bigint) AS ns, bool_and((e#>>'{answer,ipv6}')::bool) AS ipv6
			  FROM jsonb_array_elements(nodes) e WHERE e->>'kind' = 'derp' AND e#>'{answer,can_exchange_messages}' = 'true' GROUP BY 1) x;
	SELECT min(e#>>'{answer,address}') FILTER (WHERE e#>>'{answer,ipv6}' = 'false'), min(e#>>'{answer,address}') FILTER (WHERE e#>>'{answer,ipv6}' = 'true')
	  INTO mapped4, mapped6 FROM jsonb_array_elements(nodes) e WHERE e->>'kind' = 'stun' AND e#>'{answer,can_stun}' = 'true';
	RETURN jsonb_build_object('UDP', coalesce(mapped4, mapped6) IS NOT NULL, 'IPv4', v4 IS NOT NULL OR mapped4 IS NOT NULL,
		'IPv6', v6 IS NOT NULL OR mapped6 IS NOT NULL, 'IPv4CanSend', mapped4 IS NOT NULL, 'IPv6CanSend', mapped6 IS NOT NULL,
		'OSHasIPv6', v6 IS NOT NULL OR mapped6 IS NOT NULL, 'ICMPv4', false, 'MappingVariesByDestIP', NULL, 'HairPinning', NULL,
		'UPnP', false, 'PMP', false, 'PCP', false, 'PreferredDERP', coalesce(best, 0), 'RegionLatency', coalesce(latency, '{}'),
		'RegionV4Latency', coalesce(v4, '{}'), 'RegionV6Latency', coalesce(v6, '{}'), 'GlobalV4', coalesce(mapped4, ''),
		'GlobalV6', coalesce(mapped6, ''), 'CaptivePortal', NULL);
END
$$;

-- DERPHealthReport; answers: of the probes, in the order of coder.health_nodes.
CREATE OR REPLACE FUNCTION coder.health_derp(map jsonb, answers jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	regions jsonb;
	nodes jsonb;
	warnings jsonb := '[]';
	error text;
BEGIN
	SELECT coalesce(jsonb_agg(jsonb_build_object('region', h.region, 'kind', h.kind, 'answer', coder.fetched_object(answers->h.n::int4)) ORDER BY h.n), '[]')
	  INTO nodes FROM coder.health_nodes(map) h;
	WITH node AS (
		SELECT h.region, h.node->>'Name' AS name, coder.health_node(h.node, (jsonb_agg(answers->h.n::int4) FILTER (WHERE h.kind = 'derp'))->0,
				(jsonb_agg(answers->h.n::int4) FILTER (WHERE h.kind = 'stun'))->0) AS report
		  FROM coder.health_nodes(map) h GROUP BY h.region, h.node
	), region AS (
		SELECT n.region, jsonb_agg(n.report ORDER BY n.name) AS reports, count(*) FILTER (WHERE n.report->'healthy' = 'true') AS well, count(*) AS total,
			   count(*) FILTER (WHERE n.report->>'severity' = 'warning') AS warned, min(n.report->>'error') AS error
		  FROM node n GROUP BY n.region
	)
	-- A region with other nodes that answer is well, but its owner is told.
	SELECT jsonb_object_agg(r.region, jsonb_build_object('healthy', r.well > 0, 'severity', CASE WHEN r.well = 0 THEN 'error'
				WHEN r.well < r.total OR r.warned > 0 THEN 'warning' ELSE 'ok' END,
			'warnings', CASE WHEN r.well BETWEEN 1 AND r.total - 1 THEN
				'[{"code": "EDERP02", "message": "Region is operational, but performance might be degraded as one node is unhealthy."}]' ELSE '[]' END::jsonb,
			'region', map#>ARRAY['Regions', r.region], 'node_reports', r.reports)
			|| CASE WHEN r.well = 0 THEN jsonb_build_object('error', r.error) ELSE '{}' END),
		   (SELECT format('region %s: %s', x.region, x.error) FROM region x WHERE x.well = 0 ORDER BY x.region::int4 LIMIT 1)
	  INTO regions, error FROM region r;
	SELECT coalesce(jsonb_agg(DISTINCT w), '[]') INTO warnings FROM jsonb_each(coalesce(regions, '{}')) r, jsonb_array_elements(r.value->'warnings') w;
	SELECT warnings || coalesce(jsonb_agg(DISTINCT w), '[]') INTO warnings FROM jsonb_each(coalesce(regions, '{}')) r, jsonb_array_elements(r.value->'node_reports') x,
		jsonb_array_elements(x->'warnings') w;
	IF NOT EXISTS (SELECT FROM jsonb_array_elements(nodes) e WHERE e->>'kind' = 'derp') THEN
		warnings := warnings || '[{"code": "EDERP03", "message": "There is no relay in the relay map: nothing but direct connections can work."}]';
	END IF;
	RETURN coder.health_section('DERP', error, warnings)
		|| jsonb_build_object('regions', coalesce(regions, '{}'), 'netcheck', coder.health_netcheck(nodes),
			'netcheck_logs', coalesce((SELECT jsonb_agg(format('%s of region %s: %s', e->>'kind', e->>'region',
				coalesce('answered after ' || coder.duration_of_ns((e#>>'{answer,latency_ns}')::bigint), e#>>'{answer,error}', 'no answer')))
				FROM jsonb_array_elements(nodes) e), '[]'));
END
$$;

-- DatabaseReport: the median of five small queries
CREATE OR REPLACE FUNCTION coder.health_database()
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	limit_ms CONSTANT numeric := coalesce(coder.duration_ns(coder.setting('health_check_threshold_database')) / 1000000.0, 15);
	took float8[] := '{}';
	began timestamptz;
	median float8;
BEGIN
	FOR i IN 1 .. 5 LOOP
		began := clock_timestamp();
		PERFORM s.value FROM coder.site_configs s WHERE s.key = 'deployment_id';
		took := took || (extract(epoch FROM clock_timestamp() - began) * 1000)::float8;
	END LOOP;
	SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t) INTO median FROM unnest(took) t;
	RETURN coder.health_section('Database', NULL, CASE WHEN median < limit_ms THEN '[]'
			ELSE '[{"code": "EDB02", "message": "median database ping above threshold"}]' END::jsonb)
		|| jsonb_build_object('reachable', true, 'latency', coder.duration_of_ns((median * 1000000)::bigint), 'latency_ms', floor(median)::int4, 'threshold_ms', floor(limit_ms)::int4);
END
$$;

-- ProvisionerDaemonsReport: those that were heard of in the last 90 seconds
CREATE OR REPLACE FUNCTION coder.health_provisioners()
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	items jsonb;
	warnings jsonb := '[]';
BEGIN
	SELECT coalesce(jsonb_agg(jsonb_build_object('provisioner_daemon', jsonb_build_object('id', d.id, 'organization_id', d.organization_id,
				'key_id', d.key_id, 'created_at', coder.ts(d.created_at), 'last_seen_at', coder.ts(d.last_seen_at),
				'name', d.name, 'version', d.version, 'api_version', d.api_version, 'provisioners', to_jsonb(d.provisioners), 'tags', to_jsonb(d.tags),
				'key_name', NULL, 'status', NULL, 'current_job', NULL, 'previous_job', NULL),
			'warnings', CASE WHEN d.version = coder.version() THEN '[]'::jsonb ELSE jsonb_build_array(jsonb_build_object('code', 'EPD02',
				'message', format('Mismatched version "%s"', d.version))) END) ORDER BY d.created_at, d.id), '[]') INTO items
	  FROM coder.provisioner_daemons d WHERE d.last_seen_at > now() - interval '90 seconds';
	IF items = '[]' THEN
		RETURN coder.health_section('ProvisionerDaemons', NULL) - 'healthy' || jsonb_build_object('severity', 'error', 'items', items,
			'warnings', '[{"code": "EPD01", "message": "No active provisioner daemons found!"}]'::jsonb);
	ELSIF jsonb_path_exists(items, '$[*].warnings[*]') THEN
		warnings := '[{"code": "EPD02", "message": "Some provisioner daemons report mismatched versions."}]';
	END IF;
	RETURN coder.health_section('ProvisionerDaemons', NULL, warnings) - 'healthy' || jsonb_build_object('items', items);
END
$$;

-- What debug_ws wants of who has no session: says for a minute that the subject may connect.
CREATE OR REPLACE FUNCTION coder.health_ticket()
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.app_host_token(coder.subject_id(), 'debug/ws');
END
$$;

-- GET /debug/ws: a WebSocket that sends back what it is told.  The server's own test of it has no session but a ticket.
CREATE OR REPLACE FUNCTION coder.debug_ws(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ticket CONSTANT text := coalesce(req.headers->>'coder-health-ticket', '');
	u coder.users;
BEGIN
	IF coder.subject_id() IS NOT NULL THEN
		PERFORM coder.require('read', 'debug_info');
	ELSE
		IF ticket <> '' THEN
			u := coder.app_host_token_user(ticket, 'debug/ws');
		END IF;
		IF u.id IS NULL OR NOT coder.user_can(u.id, 'read', 'debug_info') THEN
			PERFORM coder.raise(401, 'You are signed out or your session has expired. Please sign in again to continue.',
				'Cookie "coder_session_token" or query parameter must be provided.');
		END IF;
	END IF;
	RETURN coder.reply(101, '{"format": "echo"}'::jsonb);
END
$$;

-- GET /debug/coordinator: who is on the tailnet of the gateway that is asked, as a page
CREATE OR REPLACE FUNCTION coder.debug_coordinator(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.require('read', 'debug_info');
	RETURN coder.reply(101, '{"format": "coordinator"}'::jsonb);
END
$$;

-- A report with what is dismissed now, and what follows of its sections.
CREATE OR REPLACE FUNCTION coder.health_summed(report jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names CONSTANT jsonb := '{"derp": "DERP", "access_url": "AccessURL", "websocket": "Websocket", "database": "Database",
		"workspace_proxy": "WorkspaceProxy", "provisioner_daemons": "ProvisionerDaemons"}';
	dismissed CONSTANT jsonb := coalesce(coder.site_config('health_settings')::jsonb->'dismissed_healthchecks', '[]');
	summed jsonb := report;
	name text;
	severity text := 'ok';
	healthy bool := true;
BEGIN
	FOR name IN SELECT jsonb_object_keys(names) LOOP
		summed := jsonb_set(summed, ARRAY[name, 'dismissed'], to_jsonb(dismissed ? (names->>name)));
		severity := CASE WHEN 'error' IN (severity, summed#>>ARRAY[name, 'severity']) THEN 'error'
			WHEN 'warning' IN (severity, summed#>>ARRAY[name, 'severity']) THEN 'warning' ELSE 'ok' END;
		healthy := healthy AND coalesce(summed#>ARRAY[name, 'healthy'] <> 'false', true) AND summed#>>ARRAY[name, 'severity'] <> 'error';
	END LOOP;
	RETURN summed || jsonb_build_object('severity', severity, 'healthy', healthy);
END
$$;

-- HealthcheckReport of the answers to GET /healthz, /api/v2/debug/ws and the probes of coder.health_nodes
CREATE OR REPLACE FUNCTION coder.health_report(url text, map jsonb, results jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	socket CONSTANT text := CASE WHEN url = '' THEN 'EWS01: the access URL is not set' ELSE coder.health_error('EWS01', 'websocket dial', results->1, 101) END;
BEGIN
	RETURN jsonb_build_object('derp', coder.health_derp(map, (results - 0) - 0), 'access_url', coder.health_access_url(url, results->0),
		'websocket', coder.health_section('Websocket', socket) || jsonb_build_object('code', coalesce((results#>>'{1,status}')::int4, 0),
			'body', CASE WHEN socket IS NULL THEN '' ELSE left(coalesce(results#>>'{1,body}', ''), 512) END),
		'database', coder.health_database(), 'workspace_proxy', coder.health_section('WorkspaceProxy', NULL) || '{"workspace_proxies": {"regions": []}}',
		'provisioner_daemons', coder.health_provisioners(), 'time', coder.ts(clock_timestamp()), 'coder_version', coder.version());
END
$$;

-- What is not well, a line each: section, code, message.
CREATE OR REPLACE FUNCTION coder.health_lines(report jsonb)
RETURNS TABLE (section text, severity text, dismissed bool, code text, message text) LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	SELECT s.key, s.value->>'severity', (s.value->>'dismissed')::bool, m.code, m.message
	  FROM jsonb_each(report) s
	  LEFT JOIN LATERAL (
			SELECT coalesce((regexp_match(s.value->>'error', '^(E[A-Z]+[0-9]+): '))[1], 'EUNKNOWN') AS code, regexp_replace(s.value->>'error', '^E[A-Z]+[0-9]+: ', '') AS message
			 WHERE s.value ? 'error'
			UNION ALL SELECT w->>'code', w->>'message' FROM jsonb_array_elements(s.value->'warnings') w) m ON true
	 WHERE jsonb_typeof(s.value) = 'object' ORDER BY s.key, m.code;
END
$$;

-- The report in the form that was asked for.
CREATE OR REPLACE FUNCTION coder.health_reply(req coder.request, report jsonb)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	summed CONSTANT jsonb := coder.health_summed(report);
BEGIN
	IF req.query->>'format' = 'text' THEN
		RETURN ROW(200, (SELECT format(E'time: %s\nhealthy: %s\n', summed->>'time', summed->>'healthy')
				|| string_agg(format(E'%s: %s%s%s\n', l.section, l.severity, CASE WHEN l.dismissed THEN ' (dismissed)' ELSE '' END,
					' ' || l.code || ' ' || l.message), '') FROM coder.health_lines(summed) l),
			E'Content-Type: text/plain; charset=utf-8\r\n', NULL)::coder.response;
	END IF;
	RETURN coder.reply(200, (SELECT string_agg(repeat(E'\t', (length(x.line) - length(ltrim(x.line, ' '))) / 4) || ltrim(x.line, ' '), E'\n' ORDER BY x.n)
		FROM string_to_table(jsonb_pretty(summed), E'\n') WITH ORDINALITY x (line, n)));
END
$$;

-- GET /debug/health?force=&format=: asks this server by its access URL whether it answers, opens WebSockets and relays
CREATE OR REPLACE FUNCTION coder.debug_health(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	url CONSTANT text := rtrim(coalesce(coder.setting('access_url'), ''), '/');
	map CONSTANT jsonb := coder.derp_map();
	kept jsonb;
BEGIN
	PERFORM coder.require('read', 'debug_info');
	IF coalesce(req.query->>'format', '') NOT IN ('', 'json', 'text') THEN
		PERFORM coder.raise(400, format('Invalid format option "%s".', req.query->>'format'));
	END IF;
	IF NOT coder.query_bool(req, 'force', false) THEN
		kept := coder.report_kept('health', coder.setting_seconds('health_check_refresh', 600) * interval '1 second');
		IF kept IS NOT NULL THEN
			RETURN coder.health_reply(req, kept);
		END IF;
	END IF;
	IF url = '' THEN
		RETURN coder.health_reply(req, coder.health_report(url, '{}', '[]'));
	END IF;
	RETURN coder.fetch('debug_health_checked', jsonb_build_object('url', url, 'map', map), VARIADIC ARRAY[coder.fetch_get(url || '/healthz'),
		coder.fetch_get(url || '/api/v2/debug/ws', jsonb_build_object('Connection', 'Upgrade', 'Upgrade', 'websocket', 'Sec-WebSocket-Version', '13',
			'Sec-WebSocket-Key', encode(coder.random_bytes(16), 'base64'), 'Coder-Health-Ticket', coder.health_ticket()))]
		|| coalesce((SELECT array_agg(jsonb_build_object('probe', true, 'url', h.url, 'timeout_ms', 5000) ORDER BY h.n) FROM coder.health_nodes(map) h), '{}'));
END
$$;

-- The same, when the answers are there.
CREATE OR REPLACE FUNCTION coder.debug_health_checked(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f record;
	report jsonb;
BEGIN
	PERFORM coder.require('read', 'debug_info');
	f := coder.fetched(req);
	report := coder.health_report(f.state->>'url', f.state->'map', f.results);
	PERFORM coder.report_keep('health', report);
	RETURN coder.health_reply(req, report);
END
$$;

-- The same at an SQL prompt: the database and the provisioners as they are now, the rest as a gateway found it last.
CREATE OR REPLACE FUNCTION coder.health()
RETURNS TABLE (section text, severity text, dismissed bool, code text, message text, checked_at timestamptz) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	kept coder.kept_reports;
	report jsonb;
BEGIN
	SELECT * INTO kept FROM coder.kept_reports k WHERE k.name = 'health';
	report := coder.health_summed(coalesce(kept.report, '{"derp": {}, "access_url": {}, "websocket": {}, "workspace_proxy": {}}')
		|| jsonb_build_object('database', coder.health_database(), 'provisioner_daemons', coder.health_provisioners()));
	RETURN QUERY
	SELECT l.section, coalesce(l.severity, 'unknown'), l.dismissed, l.code, l.message,
		   CASE WHEN l.section IN ('database', 'provisioner_daemons') THEN clock_timestamp() ELSE kept.made_at END
	  FROM coder.health_lines(report) l;
END
$$;
COMMENT ON FUNCTION coder.health() IS
	'What is not well, a row each (or one of a section where all is): the database and the provisioners as they are now, the rest as a gateway found it last (GET /api/v2/debug/health?force=true asks again).';

DELETE FROM coder.routes WHERE area = 'health';
INSERT INTO coder.routes (area, method, pattern, function, auth, read_only) VALUES
	('health', 'GET', '/api/v2/debug/health', 'debug_health', 'session', false),
	('health', 'GET', '/api/v2/debug/coordinator', 'debug_coordinator', 'session', true),
	('health', 'GET', '/api/v2/debug/tailnet', 'debug_coordinator', 'session', true),
	('health', 'GET', '/api/v2/debug/ws', 'debug_ws', 'optional', true),
	('health', 'GET', '/api/v2/debug/health/settings', 'health_settings', 'session', true),
	('health', 'PUT', '/api/v2/debug/health/settings', 'health_settings', 'session', false);
