-- connectionlog.sql -- who connected: what agents report, what the web opens, and the list
BEGIN;
\i api.psql
SELECT no_plan();
\set n 6
\i workspaces.psql
SET LOCAL session_replication_role = origin;
CREATE TEMP TABLE t AS SELECT token_of('boss') AS boss, token_of('mel') AS mel, token_of('member0') AS own, w.id AS workspace, a.id AS agent
	FROM coder.workspaces w JOIN coder.workspace_builds b ON b.id = w.latest_build_id JOIN coder.workspace_resources r ON r.job_id = b.job_id
	JOIN coder.workspace_agents a ON a.resource_id = r.id WHERE w.name = 'workspace-1';
UPDATE coder.users SET rbac_roles = '{owner}' WHERE username = 'boss';
UPDATE coder.workspace_agents SET last_connected_at = now(), disconnected_at = NULL;

-- Agents report the begin and the end of a session, in any order.
CREATE FUNCTION pg_temp.report(id text, action text, at text, type text DEFAULT 'SSH', more jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN coder.agent_rpc((SELECT agent FROM t), 'ReportConnection', jsonb_build_object('connection',
		jsonb_build_object('id', id, 'action', action, 'type', type, 'timestamp', at, 'ip', '100.64.0.9') || more))::text;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
CREATE FUNCTION pg_temp.rows() RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(format('%s %s %s %s %s', type, to_char(connect_time AT TIME ZONE 'UTC', 'HH24:MI'), coalesce(to_char(disconnect_time AT TIME ZONE 'UTC', 'HH24:MI'), '-'),
		coalesce(code::text, '-'), coalesce(disconnect_reason, '-')) ORDER BY connect_time, type) FROM coder.connection_logs $$;
SELECT is(pg_temp.report('00000000000000000000000000000001', 'CONNECT', '2026-03-01T10:00:00Z'), '{}', 'a session begins');
SELECT is(pg_temp.rows(), ARRAY['ssh 10:00 - - -'], 'without an end and a code');
SELECT is(pg_temp.report('00000000000000000000000000000001', 'DISCONNECT', '2026-03-01T10:30:00Z', 'SSH', '{"status_code": 3, "reason": "gone"}'), '{}', 'it ends');
SELECT is(pg_temp.rows(), ARRAY['ssh 10:00 10:30 3 gone'], 'the same row has both');
SELECT is(pg_temp.report('00000000000000000000000000000001', 'DISCONNECT', '2026-03-01T11:30:00Z', 'SSH', '{"status_code": 4, "reason": "again"}'), '{}', 'told twice');
SELECT is(pg_temp.rows(), ARRAY['ssh 10:00 10:30 3 gone'], 'the first end counts');
SELECT is(pg_temp.report('00000000000000000000000000000002', 'DISCONNECT', '2026-03-01T12:10:00Z', 'VSCODE'), '{}', 'an end without a begin');
SELECT is(pg_temp.report('00000000000000000000000000000002', 'CONNECT', '2026-03-01T12:00:00Z', 'VSCODE'), '{}', 'and then the begin');
SELECT is((pg_temp.rows())[2], 'vscode 12:00 12:10 0 -', 'is in its place');
SELECT is(pg_temp.report('00000000000000000000000000000003', 'CONNECT', '2026-03-01T13:00:00Z', 'RECONNECTING_PTY', '{"ip": "localhost"}'), '{}', 'a terminal');
SELECT is((SELECT host(ip) FROM coder.connection_logs WHERE type = 'reconnecting_pty'), '127.0.0.1', 'by its address');
SELECT is(pg_temp.report('00000000000000000000000000000004', 'CONNECT', '2026-03-01T13:00:00Z', 'SSH', '{"ip": "what"}'), '{}', 'an address that is none');
SELECT is((SELECT count(*)::int FROM coder.connection_logs WHERE ip IS NULL), 1, 'is unknown');
SELECT is(pg_temp.report('00000000000000000000000000000000', 'CONNECT', '2026-03-01T13:00:00Z'), 'ZC400', 'no id');
SELECT is(pg_temp.report('00000000000000000000000000000005', 'JUMP', '2026-03-01T13:00:00Z'), 'ZC400', 'no such action');

-- Apps, ports and terminals of the web: one row an hour for each session.
CREATE FUNCTION pg_temp.open(path text, token text) RETURNS text LANGUAGE sql AS $$
	SELECT a.status || coalesce(' ' || (convert_from(a.raw_, 'UTF8')::jsonb->>'status'), '') FROM api('GET', path, NULL, token) a $$;
CREATE FUNCTION pg_temp.web() RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(format('%s %s %s %s', l.type, l.slug_or_port, l.code, u.username) ORDER BY l.slug_or_port, l.code, u.username)
	  FROM coder.connection_logs l LEFT JOIN coder.users u ON u.id = l.user_id WHERE l.connection_id IS NULL $$;
SELECT is(pg_temp.open('/@member0/workspace-1/apps/9090', (SELECT own FROM t)), '101', 'a port of one''s own') FROM generate_series(1, 3);
SELECT is(pg_temp.open('/@member0/workspace-1/apps/9090', (SELECT mel FROM t)), '101 404', 'a port of another');
SELECT is(pg_temp.web(), ARRAY['port_forwarding 9090 200 member0', 'port_forwarding 9090 404 mel'], 'each session has a row with its status');
UPDATE coder.workspace_app_audit_sessions SET started_at = now() - interval '61 minutes';
SELECT is(pg_temp.open('/@member0/workspace-1/apps/9090', (SELECT own FROM t)), '101', 'an hour later');
SELECT is(array_length(pg_temp.web(), 1), 3, 'it is another session');
SELECT is(pg_temp.open('/api/v2/workspaceagents/' || agent || '/pty?reconnect=11111111-1111-4111-8111-111111111111&width=80&height=24', own), '101', 'a terminal in the browser') FROM t;
SELECT is((pg_temp.web())[4], 'workspace_app terminal 200 member0', 'has one too');
SELECT is(pg_temp.open('/@member0/workspace-1/apps/9090', NULL), '101', 'who is signed out');
SELECT is(array_length(pg_temp.web(), 1), 4, 'has none');

-- The list.
CREATE FUNCTION pg_temp.found(q text, token text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT a.status || ' ' || coalesce(a.body_->>'count', a.body_->'validations'->0->>'field', a.body_->>'message') FROM api('GET', '/api/v2/connectionlog?' || q, NULL, coalesce(token, (SELECT boss FROM t))) a $$;
SELECT is(pg_temp.found('q=' || v.q), v.a, 'search: ' || v.q) FROM t, LATERAL (VALUES
	('', '200 8'), ('type:ssh', '200 2'), ('type:port_forwarding', '200 3'), ('status:ongoing', '200 2'), ('status:completed', '200 2'), ('username:mel', '200 1'),
	('user_email:mel@example.com', '200 1'), ('workspace_owner:member0', '200 8'), ('workspace_owner:mel', '200 0'), ('workspace_owner_email:member0@example.com', '200 8'),
	('organization:coder', '200 8'), ('organization:none', '200 0'), ('workspace_id:' || t.workspace, '200 8'), ('connection_id:00000000-0000-0000-0000-000000000001', '200 1'),
	('connected_before:%222026-03-01T12:00:00Z%22', '200 2'), ('connected_after:%222026-03-01T12:30:00Z%22%20type:ssh', '200 1'), ('type:bogus', '400 type'), ('status:bogus', '400 status'),
	('workspace_id:1', '400 workspace_id'), ('connected_after:now', '400 connected_after'), ('colour:red', '400 colour'), ('red', '400 search')) v (q, a);
SELECT is(pg_temp.found('', mel), '403 Forbidden.', 'a member does not read it') FROM t;
UPDATE coder.users SET rbac_roles = '{auditor}' WHERE username = 'mel';
SELECT is(pg_temp.found('', mel), '200 8', 'an auditor does') FROM t;
SELECT is(a.body_->'connection_logs'->0->'ssh_info', '{"exit_code": 3, "connection_id": "00000000-0000-0000-0000-000000000001", "disconnect_time": "2026-03-01T10:30:00Z", "disconnect_reason": "gone"}',
	'a session as a client sees it') FROM t, api('GET', '/api/v2/connectionlog?q=connection_id:00000000-0000-0000-0000-000000000001', NULL, boss) a;
SELECT is((x->'web_info'->>'slug_or_port', x->'web_info'->'user'->>'username', x->'web_info'->>'status_code', x ? 'ssh_info', x->>'workspace_owner_username')::text, '(9090,mel,404,f,member0)',
	'an app as a client sees it') FROM t, api('GET', '/api/v2/connectionlog?q=username:mel', NULL, boss) a, LATERAL (SELECT a.body_->'connection_logs'->0 AS x) b;
SELECT is(jsonb_array_length(a.body_->'connection_logs') || (a.body_->'connection_logs'->0->>'type'), '2vscode', 'a page')
  FROM t, api('GET', '/api/v2/connectionlog?limit=2&offset=6', NULL, boss) a;

-- Age.
SELECT coder.tick_purge(now());
SELECT is((SELECT count(*)::int FROM coder.connection_logs), 8, 'all is kept');
INSERT INTO coder.settings VALUES ('connection_logs_retention', '30d');
SELECT coder.tick_purge('2026-03-31 12:30Z');
SELECT is((SELECT min(connect_time) FROM coder.connection_logs), '2026-03-01 13:00Z', 'until a setting says otherwise');
SELECT * FROM finish();
ROLLBACK;
