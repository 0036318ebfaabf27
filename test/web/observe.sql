-- observe.sql: what observe.test.mjs looks at: 60 workspaces of six people, five weeks of work in them, boundaries.
\set ON_ERROR_STOP 1
BEGIN;
\set n 60
\ir ../pgtap/support/workspaces.psql
SET LOCAL session_replication_role = replica;
UPDATE coder.templates SET name = n, display_name = d FROM (VALUES (0, 'docker', 'Docker containers'), (1, 'kubernetes', 'Kubernetes'), (2, 'data-science', 'Data science'), (3, 'windows', ''), (4, 'gpu', 'GPU machines')) v (t, n, d)
 WHERE id = pg_temp.id('template', t);
UPDATE coder.users u SET username = n, name = '' FROM (VALUES (0, 'bob'), (1, 'carol'), (2, 'dave'), (3, 'eve'), (4, 'frank'), (5, 'grace')) v (i, n) WHERE u.id = pg_temp.id('user', i);
INSERT INTO coder.user_status_changes (id, user_id, new_status, changed_at)
SELECT gen_random_uuid(), pg_temp.id('user', i), 'active', now() - (40 - 6 * i) * interval '1 day' FROM generate_series(0, 5) i;
-- Each works on some days for some hours, a sample every two minutes; everybody in the last ten minutes.
INSERT INTO coder.workspace_agent_stats (created_at, user_id, agent_id, workspace_id, template_id, connection_count, rx_packets, rx_bytes, tx_packets, tx_bytes,
	connection_median_latency_ms, session_count_ssh, session_count_vscode, session_count_jetbrains, session_count_reconnecting_pty)
SELECT t0, w.owner, pg_temp.id('agent', w.i), w.id, w.template, 1, 100, 20000 + 15000 * abs(sin(extract(epoch FROM t0) / 4000)), 100, 90000 + 60000 * abs(cos(extract(epoch FROM t0) / 3000)),
	   8 + 3 * (w.i % 7) + 6 * abs(sin(extract(epoch FROM t0) / 5000)), (w.i % 3 = 0)::int, (w.i % 3 = 1)::int, (w.i % 5 = 2)::int, (m % 20 = 0)::int
  FROM w, generate_series(0, 35) d, generate_series(0, 119) m, LATERAL (SELECT date_trunc('day', now()) - d * interval '1 day' + interval '8 h' + (w.i % 4) * interval '1 h' + m * interval '2 min' AS t0) x
 WHERE w.i % 10 = d % 3 AND extract(isodow FROM date_trunc('day', now()) - d * interval '1 day') < 6 AND (d + w.i / 10) % 4 > 0 AND t0 < now() - interval '20 min';
INSERT INTO coder.workspace_agent_stats (created_at, user_id, agent_id, workspace_id, template_id, connection_count, rx_bytes, tx_bytes, connection_median_latency_ms, session_count_ssh, session_count_vscode)
SELECT now() - s * interval '30 s', w.owner, pg_temp.id('agent', w.i), w.id, w.template, 1, 150000, 900000, 10 + w.i / 10 + 4 * abs(sin(s)), (w.i % 20 = 0)::int, 1 FROM w, generate_series(0, 180) s WHERE w.i % 10 = 0;
INSERT INTO coder.workspace_app_stats (user_id, workspace_id, agent_id, access_method, slug_or_port, session_id, session_started_at, session_ended_at, requests)
SELECT w.owner, w.id, pg_temp.id('agent', w.i), 'path', 'code', gen_random_uuid(), t0, t0 + interval '40 min', 100
  FROM w, generate_series(1, 12) d, LATERAL (SELECT date_trunc('hour', now()) - d * interval '1 day' AS t0) x WHERE w.i % 10 = 0;
UPDATE coder.workspace_builds SET created_at = now() - interval '3 days' WHERE workspace_id IN (SELECT id FROM w);
INSERT INTO coder.template_version_parameters (template_version_id, name, description, type, mutable, default_value, icon, options, validation_regex, display_name)
SELECT pg_temp.id('version', 0), 'region', 'Where the workspace is', 'string', true, '', '', '[{"name": "Frankfurt", "value": "eu", "description": "", "icon": ""}, {"name": "Oregon", "value": "us", "description": "", "icon": ""}]'::jsonb, '', 'Region'
UNION ALL SELECT pg_temp.id('version', 0), 'cpus', '', 'number', true, '', '', '[]', '', 'CPUs';
INSERT INTO coder.workspace_build_parameters (workspace_build_id, name, value)
SELECT build, p, CASE p WHEN 'region' THEN CASE WHEN i % 3 = 0 THEN 'us' ELSE 'eu' END ELSE (2 + i % 4)::text END FROM w, unnest('{region,cpus}'::text[]) p WHERE i % 5 = 0;
INSERT INTO coder.boundary_reports (at, organization_id, template_id, workspace_id, user_id, allowed, denied)
SELECT now() - d * interval '1 day' - h * interval '1 h', :'org', w.template, w.id, w.owner, 200 + 40 * (d % 5) + w.i, (w.i + d) % 17
  FROM w, generate_series(0, 27) d, generate_series(1, 3) h WHERE w.i % 10 IN (0, 1) AND d % 7 < 5;
UPDATE coder.workspace_agents SET last_connected_at = now(), first_connected_at = now(), disconnected_at = NULL WHERE id IN (SELECT pg_temp.id('agent', i) FROM w WHERE i % 10 = 0);
SET LOCAL session_replication_role = origin;
SELECT coder.rollup_usage(now());
DELETE FROM coder.kept_reports;
COMMIT;
