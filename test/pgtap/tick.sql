-- What is due by time is done once: autostop, autostart, dormancy, silent agents.
BEGIN;
SELECT no_plan();
SELECT coder.seed();
SELECT coder.configure('{"access_url": "http://127.0.0.1:7080"}');

INSERT INTO coder.users (id, username, email, login_type, status)
VALUES ('00000000-0000-4000-8000-000000000001', 'ada', 'ada@example.com', 'password', 'active');
INSERT INTO coder.files (id, hash, created_by, mimetype, data)
VALUES ('00000000-0000-4000-8000-0000000000f1', encode(sha256(''), 'hex'), '00000000-0000-4000-8000-000000000001', 'application/x-tar', '');
INSERT INTO coder.provisioner_jobs (id, organization_id, initiator_id, provisioner, type, input, file_id, tags, started_at, completed_at)
SELECT '00000000-0000-4000-8000-0000000000a1', o.id, '00000000-0000-4000-8000-000000000001', 'terraform',
	   'template_version_import', '{"template_version_id": "00000000-0000-4000-8000-0000000000b1"}',
	   '00000000-0000-4000-8000-0000000000f1', '{"scope": "organization", "owner": ""}', now(), now()
  FROM coder.organizations o WHERE o.is_default;
INSERT INTO coder.template_versions (id, organization_id, name, job_id, created_by)
SELECT '00000000-0000-4000-8000-0000000000b1', o.id, 'v1', '00000000-0000-4000-8000-0000000000a1',
	   '00000000-0000-4000-8000-000000000001' FROM coder.organizations o WHERE o.is_default;
INSERT INTO coder.templates (id, organization_id, name, provisioner, active_version_id, created_by)
SELECT '00000000-0000-4000-8000-0000000000c1', o.id, 'dev', 'terraform', '00000000-0000-4000-8000-0000000000b1',
	   '00000000-0000-4000-8000-000000000001' FROM coder.organizations o WHERE o.is_default;
UPDATE coder.template_versions SET template_id = '00000000-0000-4000-8000-0000000000c1';
INSERT INTO coder.workspaces (id, owner_id, organization_id, template_id, name, ttl, autostart_schedule, last_used_at)
SELECT '00000000-0000-4000-8000-0000000000e1', '00000000-0000-4000-8000-000000000001', o.id,
	   '00000000-0000-4000-8000-0000000000c1', 'ws', 3600000000000, NULL, now()
  FROM coder.organizations o WHERE o.is_default;

CREATE TEMP TABLE daemon AS
	SELECT coder.provisioner_register('d', '{terraform}', '{"scope": "organization", "owner": ""}', 'v0') AS id;
CREATE FUNCTION pg_temp.work(resources jsonb DEFAULT '[]') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM coder.provisioner_complete((SELECT id FROM daemon),
		(coder.provisioner_acquire((SELECT id FROM daemon)) ->> 'job_id')::uuid,
		jsonb_build_object('workspace_build', jsonb_build_object('state', '', 'resources', resources)));
END
$$;
CREATE FUNCTION pg_temp.last() RETURNS text LANGUAGE sql AS $$
	SELECT build_number || ' ' || transition || ' ' || reason FROM coder.workspace_builds ORDER BY build_number DESC LIMIT 1
$$;

SELECT coder.build_add('00000000-0000-4000-8000-0000000000e1', '00000000-0000-4000-8000-000000000001', 'start',
	'00000000-0000-4000-8000-0000000000b1', 'initiator');
SELECT coder.tick_workspaces(now() + interval '2 h');
SELECT is(pg_temp.last(), '1 start initiator', 'a pending build is not stopped');
SELECT pg_temp.work('[{"name": "vm", "type": "x", "agents": [{"name": "main", "operating_system": "linux", "architecture": "amd64", "connection_timeout_seconds": 60}]}]');

-- Deadline.
SELECT coder.tick_workspaces(now() + interval '59 min');
SELECT is(pg_temp.last(), '1 start initiator', 'before the deadline it runs');
SELECT coder.tick_workspaces(now() + interval '61 min');
SELECT is(pg_temp.last(), '2 stop autostop', 'after it, it is stopped');
SELECT coder.tick_workspaces(now() + interval '61 min');
SELECT is(pg_temp.last(), '2 stop autostop', 'once');
SELECT pg_temp.work();

-- Schedule.
UPDATE coder.workspaces SET autostart_schedule = 'CRON_TZ=UTC 30 9 * * 1-5';
SELECT coder.tick_workspaces(now());
SELECT isnt((SELECT next_start_at FROM coder.workspaces), NULL, 'a schedule set by hand gets its next start');
SELECT coder.tick_workspaces((SELECT next_start_at - interval '1 s' FROM coder.workspaces));
SELECT is(pg_temp.last(), '2 stop autostop', 'not before its time');
SELECT coder.tick_workspaces((SELECT next_start_at FROM coder.workspaces));
SELECT is(pg_temp.last(), '3 start autostart', 'at its time it starts');
SELECT pg_temp.work('[{"name": "vm", "type": "x", "agents": [{"name": "main", "operating_system": "linux", "architecture": "amd64", "connection_timeout_seconds": 60}]}]');
SELECT is(coder.schedule_next('CRON_TZ=Europe/Berlin 0 8 * * 1-5', '2026-03-28 12:00+00'), '2026-03-30 06:00+00'::timestamptz, 'over the change to summer time');
SELECT is(coder.schedule_next('CRON_TZ=UTC */15 9-10 * * sun', '2026-04-16 00:00+00'), '2026-04-19 09:00+00'::timestamptz, 'steps, ranges and names');
SELECT is((SELECT count(*) FROM pg_timezone_names n WHERE NOT coder.timezone_known(n.name)), 0::bigint, 'every time zone is known');
SELECT ok(NOT coder.timezone_known(z), z || ' is none') FROM unnest(ARRAY['europe/berlin', 'Nowhere', 'EST7', '../UTC', '', repeat('x', 300)]) z;
SELECT is((SELECT error IS NOT NULL FROM coder.schedule_parse(s)), bad, s) FROM (VALUES
	('30 9 * * 1-5', false), ('CRON_TZ=UTC 30 9 * * *', false), ('garbage', true), ('30 9 1 * 1', true),
	('60 9 * * 1', true), ('30 9 * * 9', true), ('CRON_TZ=Nowhere/No 30 9 * * 1', true), ('30 9-8 * * 1', true), ('30 */0 * * 1', true)) v(s, bad);

-- Agents.
CREATE TEMP TABLE agent AS SELECT a.id FROM coder.workspace_agents a ORDER BY created_at DESC, id LIMIT 1;
CREATE TEMP TABLE latest AS SELECT a.id FROM coder.workspaces w JOIN coder.workspace_builds b ON b.id = w.latest_build_id
	JOIN coder.workspace_resources r ON r.job_id = b.job_id JOIN coder.workspace_agents a ON a.resource_id = r.id;
CREATE FUNCTION pg_temp.told(kind text) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM coder.events e, latest WHERE e.channel LIKE 'workspace:%' AND e.payload::jsonb ->> 'kind' = kind AND e.payload::jsonb ->> 'agent_id' = latest.id::text
$$;
SELECT coder.tick_agents(now() + interval '61 s');
SELECT coder.tick_agents(now() + interval '62 s');
SELECT is(pg_temp.told('agt_timeout'), 1::bigint, 'an agent that never came is told of once');
SELECT coder.agent_life(id, 'here') FROM latest;
SELECT is(pg_temp.told('agt_connection_update'), 1::bigint, 'it came');
SELECT coder.tick_agents(clock_timestamp() + interval '31 s');
SELECT coder.tick_agents(clock_timestamp() + interval '32 s');
SELECT is(pg_temp.told('agt_connection_update'), 2::bigint, 'it fell silent: told once');
SELECT ok(coder.agent_life(id, 'beat'), 'it is back') FROM latest;
SELECT is(coder.agent_status(a, clock_timestamp()), 'connected', 'and connected') FROM coder.workspace_agents a JOIN latest USING (id);

-- Dormancy and deletion.
UPDATE coder.templates SET time_til_dormant = 86400000000000, time_til_dormant_autodelete = 86400000000000;
UPDATE coder.workspaces SET ttl = NULL, autostart_schedule = NULL;
UPDATE coder.workspace_builds SET deadline = '0001-01-01 00:00:00+00';
SELECT coder.tick_workspaces(now() + interval '25 h');
SELECT is(pg_temp.last(), '4 stop dormancy', 'nobody used it: it is stopped');
SELECT isnt((SELECT dormant_at FROM coder.workspaces), NULL, 'and dormant');
SELECT pg_temp.work();
SELECT coder.tick_workspaces(now() + interval '48 h');
SELECT is(pg_temp.last(), '4 stop dormancy', 'it is kept');
SELECT coder.tick_workspaces(now() + interval '50 h');
SELECT is(pg_temp.last(), '5 delete autodelete', 'until its time is over');
SELECT pg_temp.work();
SELECT ok((SELECT deleted FROM coder.workspaces), 'deleted');

SELECT coder.tick();
SELECT isnt_empty($$SELECT FROM coder.tick_state WHERE name = 'purge'$$, 'old rows are looked for');
SELECT is_empty('SELECT * FROM coder.workspaces_live', 'the live view shows no deleted workspace');
SELECT is((SELECT count(*) FROM coder.builds_live), 5::bigint, 'the view of builds shows all');
SELECT * FROM finish();
ROLLBACK;
