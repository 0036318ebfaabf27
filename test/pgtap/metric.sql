-- Metrics: the text is Prometheus', the numbers are the tables', and the status of an agent is the same wherever it is asked for.
BEGIN;
SELECT no_plan();
\i api.psql
\set n 10
\i workspaces.psql
SET LOCAL session_replication_role = origin;
CREATE FUNCTION pg_temp.lines(at timestamptz, prefix text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT l FROM (SELECT string_agg(m, '') FROM coder.metrics(at) m) x(m), LATERAL regexp_split_to_table(m, E'\n') l WHERE starts_with(l, prefix)
$$;
CREATE FUNCTION pg_temp.statuses(at timestamptz) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(s || ':' || n, ' ' ORDER BY s) FROM (SELECT substring(l FROM 'status="([a-z]+)"') AS s, count(*) AS n
		FROM pg_temp.lines(at, 'coderd_agents_connections{') l GROUP BY 1) x
$$;

-- The text.
SELECT is(coder.metric('m', 'gauge', E'a\\b\nc "d"', E'SELECT E''x\\\\y\\nz"'' AS l, NULL::text AS e, 1.5::float8 UNION ALL SELECT ''n'', ''q'', NULL', now()),
	E'# HELP m a\\\\b\\nc "d"\n# TYPE m gauge\nm{l="x\\\\y\\nz\\"",e=""} 1.5\n', 'labels and help are escaped, what has no value has no line');
SELECT is(coder.metric('m', 'gauge', 'h', 'SELECT ''Infinity''::float8 UNION ALL SELECT ''-Infinity'' UNION ALL SELECT ''NaN'' UNION ALL SELECT 0', now()),
	E'# HELP m h\n# TYPE m gauge\nm +Inf\nm -Inf\nm NaN\nm 0\n', 'numbers that are none');
SELECT is(coder.metric('m', 'histogram', 'h', 'SELECT ''x'' AS l, ARRAY[0.5, 1, 1.5, 99, -3, NULL]::float8[]', now(), '{1,2}'),
	E'# HELP m h\n# TYPE m histogram\nm_bucket{l="x",le="1"} 2\nm_bucket{l="x",le="2"} 3\nm_bucket{l="x",le="+Inf"} 4\nm_sum{l="x"} 102\nm_count{l="x"} 4\n',
	'a histogram: borders belong to their buckets, negative times are dropped');
SELECT throws_ok($$SELECT coder.metric('m', 'histogram', 'h', 'SELECT 1', now(), '{1}')$$, '42804', NULL, 'a histogram of something else is refused');
SELECT throws_ok($$SELECT coder.metric('m', 'gauge', 'h', 'DELETE FROM coder.boundary_batches RETURNING 1', now())$$, NULL, NULL, 'a query only reads');

-- Agents.
UPDATE coder.workspace_agents SET last_connected_at = now() - interval '65 s', disconnected_at = NULL;
SELECT is(pg_temp.statuses(now()), 'disconnected:10', '65 seconds after the last beat all are gone');
SELECT is(pg_temp.statuses(now() - interval '60 s'), 'connected:10', 'A7: collected 5 s after it and rendered 60 s later none is');
SELECT is(pg_temp.statuses(now() - interval '35 s'), 'connected:10', 'to the last instant of the timeout');
SELECT is(pg_temp.statuses(now() - interval '34.999999 s'), 'disconnected:10', 'and one that is gone is called so with the next collection');
UPDATE coder.workspace_agents SET last_connected_at = now() - interval '5 s', disconnected_at = now() - interval '5 s' WHERE id = pg_temp.id('agent', 0);
UPDATE coder.workspace_agents SET last_connected_at = now() - interval '5 s', disconnected_at = now() - interval '6 s' WHERE id = pg_temp.id('agent', 1);
UPDATE coder.workspace_agents SET last_connected_at = now() - interval '5 s' WHERE id = pg_temp.id('agent', 2);
UPDATE coder.workspace_agents SET first_connected_at = NULL, last_connected_at = NULL, connection_timeout_seconds = 0 WHERE id = pg_temp.id('agent', 3);
UPDATE coder.workspace_agents SET first_connected_at = NULL, last_connected_at = NULL, created_at = now() - interval '3 min', connection_timeout_seconds = 120 WHERE id = pg_temp.id('agent', 5);
SELECT is(pg_temp.statuses(now()), 'connected:2 connecting:1 disconnected:6 timeout:1', 'all states');

-- A8, T8: API, list filter, metrics and psql, equal timestamps included.
SELECT token_of('boss', '{owner}') AS token \gset
CREATE FUNCTION pg_temp.by_api(token text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(w ->> 'name' || '=' || (a ->> 'status'), ' ' ORDER BY w ->> 'name')
	  FROM api('GET', '/api/v2/workspaces?limit=100', NULL, token) x, jsonb_array_elements(x.body_ -> 'workspaces') w,
		   jsonb_path_query(w, '$.latest_build.resources[*].agents[*]') a
$$;
CREATE FUNCTION pg_temp.by_filter(token text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(w ->> 'name' || '=' || s, ' ' ORDER BY w ->> 'name')
	  FROM unnest('{connecting,timeout,connected,disconnected}'::text[]) s,
		   LATERAL (SELECT body_ FROM api('GET', '/api/v2/workspaces?limit=100&q=has-agent:' || s, NULL, token)) x, jsonb_array_elements(x.body_ -> 'workspaces') w
$$;
CREATE FUNCTION pg_temp.by_metrics() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(substring(l FROM 'workspace_name="([^"]*)"') || '=' || substring(l FROM 'status="([a-z]+)"'), ' ' ORDER BY substring(l FROM 'workspace_name="([^"]*)"'))
	  FROM pg_temp.lines(clock_timestamp(), 'coderd_agents_connections{') l
$$;
SELECT alike(pg_temp.by_metrics(), 'workspace-0=disconnected workspace-1=connected%', 'A8: who left at the time of the last beat has left');
SELECT is(pg_temp.by_api(:'token'), pg_temp.by_metrics(), 'A8: the API says what the metrics say');
-- The filter is for workspaces that were started, as the reference's.
SELECT is(pg_temp.by_filter(:'token'), regexp_replace(pg_temp.by_metrics(), ' workspace-[49]=[a-z]+', '', 'g'), 'A8 T8: so does the filter of lists');
SELECT is((SELECT string_agg(m.workspace_name || '=' || coder.agent_status(a, now()), ' ' ORDER BY m.workspace_name) FROM coder.workspace_agents a JOIN coder.metric_agents m USING (id)),
	pg_temp.by_metrics(), 'A8: and the function of a row');

-- A1.
SET LOCAL session_replication_role = replica;
UPDATE coder.workspace_agents SET created_at = now() - interval '1 h', first_connected_at = now() - interval '1 h' + interval '45 s',
	last_connected_at = now() - interval '1 h' + interval '45 s', disconnected_at = NULL, lifecycle_state = 'created', connection_timeout_seconds = 3600 WHERE id = pg_temp.id('agent', 7);
UPDATE coder.workspace_agents SET first_connected_at = NULL WHERE id <> pg_temp.id('agent', 7);
DELETE FROM coder.workspace_agent_nodes;
UPDATE coder.workspaces SET name = E'a"b\\c' WHERE name = 'workspace-8';
SET LOCAL session_replication_role = origin;
CREATE FUNCTION pg_temp.at7() RETURNS timestamptz LANGUAGE sql AS $$ SELECT now() - interval '1 h' + interval '50 s' $$;
SELECT is((SELECT count(*) FROM pg_temp.lines(pg_temp.at7(), 'coderd_agents_connections{agent_name="main",username="member0",workspace_name="workspace-7",status="connected",lifecycle_state="created",tailnet_node="unknown"} 1')), 1::bigint, 'A1: connections');
SELECT is((SELECT count(*) FROM pg_temp.lines(pg_temp.at7(), 'coderd_agents_up{username="member0",workspace_name="workspace-7",template_name="template-2",template_version="elegant_turing2"} 1')), 1::bigint, 'A1: up');
SELECT is((SELECT count(*) FROM pg_temp.lines(pg_temp.at7(), 'coderd_agents_apps{agent_name="main",username="member0",workspace_name="workspace-7",app_name="Terminal",health="disabled"} 1')), 1::bigint, 'A1: apps');
SELECT is((SELECT string_agg(substring(l FROM '[0-9]+$'), ' ') FROM pg_temp.lines(pg_temp.at7(), 'coderd_agents_first_connection_seconds_') l WHERE l ~ '_(sum|count)'), '45 1', 'A1: 45 seconds to the first connection');
SELECT is((SELECT count(*) FROM pg_temp.lines(now(), 'coderd_agents_up{username="member0",workspace_name="a\"b\\c"')), 1::bigint, 'a name that would break the format is escaped');

-- M1 to M4.
UPDATE coder.api_keys SET last_used = now() - interval '2 h';
INSERT INTO coder.api_keys (id, hashed_secret, user_id, last_used, expires_at, login_type)
SELECT lpad(i::text, 10, 'k'), 'x', pg_temp.id('user', 0), now() - i * interval '50 min', now() + interval '1 day', 'password' FROM generate_series(0, 2) i;
SELECT is((SELECT string_agg(l, '') FROM pg_temp.lines(now(), 'coderd_api_active_users_duration_hour') l), 'coderd_api_active_users_duration_hour 1', 'M1: one user, whatever number of tokens');
SELECT is((SELECT string_agg(l, ' ') FROM pg_temp.lines(now(), 'coderd_api_total_user_count') l), 'coderd_api_total_user_count{status="active"} 2', 'M2: users');
UPDATE coder.users SET status = 'dormant' WHERE id = pg_temp.id('user', 0);
SELECT is((SELECT string_agg(l, ' ' ORDER BY l) FROM pg_temp.lines(now(), 'coderd_api_total_user_count') l),
	'coderd_api_total_user_count{status="active"} 1 coderd_api_total_user_count{status="dormant"} 1', 'M2: follow at once');
SELECT is((SELECT string_agg(l, ' ') FROM pg_temp.lines(now(), 'coderd_api_workspace_latest_build') l), 'coderd_api_workspace_latest_build{status="succeeded"} 10', 'M3: workspaces');
SELECT is((SELECT sum(substring(l FROM '[0-9]+$')::int) FROM pg_temp.lines(now(), 'coderd_workspace_creation_total') l), 8::bigint, 'M4: eight came up');
SET LOCAL session_replication_role = replica;
UPDATE coder.workspaces SET deleted = true WHERE name IN ('workspace-0', 'workspace-1');
SET LOCAL session_replication_role = origin;
SELECT is((SELECT string_agg(l, ' ') FROM pg_temp.lines(now(), 'coderd_api_workspace_latest_build') l), 'coderd_api_workspace_latest_build{status="succeeded"} 8', 'M3: without deleted ones');
SELECT is((SELECT sum(substring(l FROM '[0-9]+$')::int) FROM pg_temp.lines(now(), 'coderd_workspace_creation_total') l), 8::bigint, 'M4: with deleted ones');
SELECT is((SELECT count(*) FROM pg_temp.lines(now(), 'coderd_agents_connections{')), 8::bigint, 'no agent of a deleted workspace');

-- The reading in C against the same in SQL.
CREATE FUNCTION pg_temp.same(family text, query text, label text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	v_name text := substring(family FROM '^[a-z_]+');
	v_lines text;
	v_wanted text;
BEGIN
	SELECT coalesce(string_agg(l, E'\n' ORDER BY l COLLATE "C"), '') INTO v_lines FROM pg_temp.lines(now(), v_name || '{') l;
	SELECT coalesce(string_agg(l, E'\n' ORDER BY l COLLATE "C"), '') INTO v_wanted
	  FROM regexp_split_to_table(coder.metric(v_name, 'gauge', 'h', query, now()), E'\n') l WHERE l <> '' AND l !~ '^#';
	RETURN is(v_lines, v_wanted, label) || CASE WHEN v_wanted = '' THEN E'\n' || fail('nothing to compare: ' || label) ELSE '' END;
END
$$;
SELECT pg_temp.same('coderd_agents_up', 'SELECT username, workspace_name, template_name, template_version, count(*) FROM coder.metric_agents GROUP BY 1, 2, 3, 4', 'agents');
SELECT pg_temp.same('coderd_agents_apps', 'SELECT m.agent_name, m.username, m.workspace_name, p.display_name AS app_name, p.health, count(*)
	FROM coder.metric_agents m JOIN coder.workspace_apps p ON p.agent_id = m.id GROUP BY 1, 2, 3, 4, 5', 'apps');
INSERT INTO coder.workspace_agent_nodes (agent_id, node, latency) SELECT id, '{"id": 7}', '{"Near": {"preferred": true, "latency_ms": 1.25}, "F\"ar": {"latency_ms": 99}, "x": 1, "y": {"latency_ms": "1"}}'
	FROM coder.metric_agents ORDER BY id LIMIT 3;
SELECT pg_temp.same('coderd_agents_connection_latencies_seconds', 'SELECT m.agent_name, m.username, m.workspace_name, l.key AS derp_region,
	coalesce(l.value ->> ''preferred'', ''false'') AS preferred, (l.value ->> ''latency_ms'')::float8 / 1000
	FROM coder.metric_agents m JOIN coder.workspace_agent_nodes n ON n.agent_id = m.id, jsonb_each(n.latency) l WHERE jsonb_typeof(l.value -> ''latency_ms'') = ''number''', 'latencies');
SELECT is((SELECT count(*) FROM pg_temp.lines(now(), 'coderd_agents_connections{') l WHERE l ~ 'tailnet_node="7"'), 3::bigint, 'nodes');
SELECT pg_temp.same('coderd_workspace_latest_build_status', 'SELECT job_status AS status, template_name, template_version, workspace_owner, transition AS workspace_transition, count(*)
	FROM coder.metric_builds WHERE latest AND NOT deleted GROUP BY 1, 2, 3, 4, 5', 'latest builds');
SELECT pg_temp.same('coderd_workspace_builds_total', 'SELECT workspace_owner, workspace_name, template_name, template_version, transition AS workspace_transition,
	CASE job_status WHEN ''succeeded'' THEN ''success'' ELSE ''failed'' END AS status, count(*) FROM coder.metric_builds
	WHERE completed_at IS NOT NULL AND NOT deleted GROUP BY 1, 2, 3, 4, 5, 6', 'builds that ended');
SELECT pg_temp.same('coderd_workspace_builds_enqueued_total', 'SELECT provisioner AS provisioner_type, reason AS build_reason, transition, ''success'' AS status, count(*)
	FROM coder.metric_builds GROUP BY 1, 2, 3', 'builds that were asked for');
CREATE FUNCTION pg_temp.totals(family text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(n::text, ' ' ORDER BY l) FROM (SELECT substring(l FROM '_(sum|count)') AS l, sum(substring(l FROM '[0-9.]+$')::float8) AS n
		FROM pg_temp.lines(now(), family) l WHERE l ~ '_(sum|count)' GROUP BY 1) x
$$;
SELECT is(pg_temp.totals('coderd_provisionerd_job_timings_seconds_'), (SELECT count(*) || ' ' || sum(extract(epoch FROM completed_at - started_at))::float8
	FROM coder.provisioner_jobs WHERE completed_at IS NOT NULL AND started_at IS NOT NULL), 'jobs'' times');
SELECT is(pg_temp.totals('coderd_provisioner_job_queue_wait_seconds_'), (SELECT count(*) || ' ' || sum(extract(epoch FROM started_at - created_at))::float8
	FROM coder.provisioner_jobs WHERE started_at IS NOT NULL), 'and their waiting');
SELECT is(pg_temp.totals('coderd_provisionerd_workspace_build_timings_seconds_'), (SELECT count(*) || ' ' || sum(extract(epoch FROM completed_at - started_at))::float8
	FROM coder.metric_builds WHERE completed_at IS NOT NULL AND started_at IS NOT NULL), 'builds'' times');
SELECT is(pg_temp.totals('coderd_workspace_creation_duration_seconds_'), (SELECT count(*) || ' ' || sum(extract(epoch FROM completed_at - created_at))::float8
	FROM coder.metric_builds WHERE build_number = 1 AND transition = 'start' AND job_status = 'succeeded'), 'first builds');

-- Builds until their agents are ready; prebuilds; templates that are gone.
SET LOCAL session_replication_role = replica;
UPDATE coder.workspace_agents a SET ready_at = b.created_at + interval '40 s', lifecycle_state = 'ready', parent_id = NULL
  FROM coder.workspace_resources r, coder.workspace_builds b WHERE r.id = a.resource_id AND b.job_id = r.job_id;
UPDATE coder.workspace_agents SET lifecycle_state = 'start_error' WHERE id = pg_temp.id('agent', 5);
UPDATE coder.workspace_agents SET ready_at = NULL WHERE id = pg_temp.id('agent', 6);
SELECT is((SELECT string_agg(l, E'\n' ORDER BY l) FROM pg_temp.lines(now(), 'coderd_template_workspace_build_duration_seconds_') l WHERE l ~ '_(sum|count)' AND l ~ 'template-[01]"'),
	E'coderd_template_workspace_build_duration_seconds_count{template_name="template-0",organization_name="coder",transition="start",status="error",is_prebuild="false"} 1\n'
	'coderd_template_workspace_build_duration_seconds_count{template_name="template-0",organization_name="coder",transition="start",status="success",is_prebuild="false"} 1\n'
	'coderd_template_workspace_build_duration_seconds_count{template_name="template-1",organization_name="coder",transition="start",status="success",is_prebuild="false"} 1\n'
	'coderd_template_workspace_build_duration_seconds_sum{template_name="template-0",organization_name="coder",transition="start",status="error",is_prebuild="false"} 40\n'
	'coderd_template_workspace_build_duration_seconds_sum{template_name="template-0",organization_name="coder",transition="start",status="success",is_prebuild="false"} 40\n'
	'coderd_template_workspace_build_duration_seconds_sum{template_name="template-1",organization_name="coder",transition="start",status="success",is_prebuild="false"} 40',
	'builds with all root agents in an end, by the worst of them');
-- How a start ended stays when the agent is stopped.
UPDATE coder.workspace_agents SET lifecycle_state = 'off', start_result = 'start_error' WHERE id = pg_temp.id('agent', 5);
SELECT is((SELECT string_agg(l, E'\n') FROM pg_temp.lines(now(), 'coderd_template_workspace_build_duration_seconds_count') l WHERE l ~ 'status="error"'),
	'coderd_template_workspace_build_duration_seconds_count{template_name="template-0",organization_name="coder",transition="start",status="error",is_prebuild="false"} 1',
	'a start that failed has failed, though the agent is off now');
-- A histogram does not fall when a new build has its agent anew, or a workspace goes.
CREATE TEMP TABLE firsts AS SELECT count(*) AS n FROM coder.workspace_agents WHERE first_connected_at IS NOT NULL;
UPDATE coder.workspaces SET deleted = true WHERE id = pg_temp.id('workspace', 7);
UPDATE coder.workspaces SET latest_build_id = pg_temp.id('build', 6) WHERE id = pg_temp.id('workspace', 8);
SELECT is((SELECT sum(substring(l FROM '[0-9]+$')::int) FROM pg_temp.lines(now(), 'coderd_agents_first_connection_seconds_count') l), n::bigint, 'first connections of all builds') FROM firsts;
UPDATE coder.workspaces SET deleted = false WHERE id = pg_temp.id('workspace', 7);
UPDATE coder.workspaces SET latest_build_id = pg_temp.id('build', 8) WHERE id = pg_temp.id('workspace', 8);
SELECT is((SELECT substring(l FROM '[0-9]+$')::bigint FROM pg_temp.lines(now(), 'coder_events_backlog ') l), (SELECT count(*) FROM coder.events), 'events that are kept, by the row');
UPDATE coder.workspace_builds SET initiator_id = 'c42fdf75-3097-471c-8c33-fb52454d81c0' WHERE id = pg_temp.id('build', 5);
SELECT is((SELECT sum(substring(l FROM '[0-9]+$')::int) FROM pg_temp.lines(now(), 'coderd_workspace_creation_total') l), 7::bigint, 'M4: what the user of prebuilds made does not count');
UPDATE coder.templates SET deleted = true WHERE name = 'template-1';
SELECT is((SELECT sum(substring(l FROM '[0-9]+$')::int) FROM pg_temp.lines(now(), 'coderd_workspace_creation_total') l), 5::bigint, 'M4: nor do workspaces of deleted templates');
SET LOCAL session_replication_role = origin;

-- The whole.
CREATE TEMP TABLE whole AS SELECT string_agg(m, '') AS m FROM coder.metrics() m;
SELECT ok(m ~ E'^(# HELP [a-z_]+ [^\n]+\n# TYPE [a-z_]+ (gauge|counter|histogram)\n([a-z_]+(\\{[^\n]*\\})? [^ \n]+\n)*)+$', 'each family has its head and nothing but lines') FROM whole;
SELECT is((SELECT count(*) - count(DISTINCT l) FROM whole, regexp_split_to_table(m, E'\n') l WHERE l LIKE '# TYPE %'), 0::bigint, 'no family comes twice');
SELECT is((SELECT count(*) - count(DISTINCT substring(l FROM '^.* ')) FROM whole, regexp_split_to_table(m, E'\n') l WHERE l <> '' AND l !~ '^#'), 0::bigint, 'nor does a series');
SELECT ok((SELECT status = 200 AND headers ~* 'text/plain' AND convert_from(raw_, 'UTF8') ~ E'# TYPE coderd_agents_up gauge\n' AND convert_from(raw_, 'UTF8') ~ E'\n# TYPE coder_db_size_bytes gauge\n'
	FROM api('GET', '/api/v2/debug/metrics', NULL, :'token')), 'GET /debug/metrics');
SELECT is((SELECT status FROM api('GET', '/api/v2/debug/metrics', NULL, token_of('nobody'))), 403, 'for those who may read debug information');
SELECT coder.tick_due('tick', '0', now() - interval '15 s');
SELECT coder.tick(now());
SELECT is((SELECT count(*) FROM pg_temp.lines(now(), 'coder_tick_seconds ')), 1::bigint, 'the tick says how long it took');
SELECT * FROM finish();
ROLLBACK;
