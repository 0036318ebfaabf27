-- autostop.sql -- the autostop that a template requires, in its owner's quiet hours
BEGIN;
SELECT no_plan();
SELECT coder.seed();
SELECT coder.configure('{"access_url": "http://127.0.0.1:7080"}');

-- When: 2026-11-21 is a Saturday.  Bit 0 of days is Monday.
SELECT is(coder.autostop_required(c::timestamptz, q, d, w), a::timestamptz, n) FROM (VALUES
	('2026-11-21 10:00Z', 'CRON_TZ=UTC 0 0 * * *', 0, 1::bigint, '0001-01-01 00:00Z', 'no day is required'),
	('2026-11-21 10:00Z', 'CRON_TZ=UTC 0 0 * * *', 127, 1, '2026-11-22 00:00Z', 'the next midnight'),
	('2026-11-21 21:59Z', 'CRON_TZ=UTC 0 0 * * *', 127, 1, '2026-11-22 00:00Z', 'two hours before it'),
	('2026-11-21 22:30Z', 'CRON_TZ=UTC 0 0 * * *', 127, 1, '2026-11-23 00:00Z', 'less is too soon'),
	('2026-11-21 10:00Z', 'CRON_TZ=UTC 0 0 * * *', 1, 1, '2026-11-23 00:00Z', 'on Monday'),
	('2026-11-21 10:00Z', 'CRON_TZ=UTC 30 5 * * *', 32, 1, '2026-11-28 05:30Z', 'next Saturday, since today''s is over'),
	('2026-11-21 02:00Z', 'CRON_TZ=UTC 30 5 * * *', 32, 1, '2026-11-21 05:30Z', 'this Saturday'),
	('2026-11-21 04:00Z', 'CRON_TZ=UTC 30 5 * * *', 32, 1, '2026-11-28 05:30Z', 'which is too soon an hour and a half before'),
	('2026-11-21 10:00Z', 'CRON_TZ=Asia/Tokyo 0 2 * * *', 127, 1, '2026-11-21 17:00Z', 'in the owner''s time zone'),
	('2026-11-21 10:00Z', 'CRON_TZ=America/New_York 0 0 * * *', 1, 1, '2026-11-23 05:00Z', 'whose Monday begins later'),
	('2026-11-24 10:00Z', 'CRON_TZ=UTC 0 0 * * *', 1, 2, '2026-11-30 00:00Z', 'every other week'),
	('2026-11-24 10:00Z', 'CRON_TZ=UTC 0 0 * * *', 4, 2, '2026-12-02 00:00Z', 'of which this is none'),
	('2026-11-17 10:00Z', 'CRON_TZ=UTC 0 0 * * *', 4, 2, '2026-11-18 00:00Z', 'the one before was one'),
	('2026-12-01 10:00Z', 'CRON_TZ=UTC 0 0 * * *', 4, 2, '2026-12-02 00:00Z', 'and this is one'),
	('2026-03-28 10:00Z', 'CRON_TZ=Europe/Berlin 30 2 * * *', 64, 1, '2026-03-29 01:30Z', 'where the clock goes forward')) v (c, q, d, w, a, n);
SELECT is((SELECT count(*)::int FROM generate_series(0, 2000) i, LATERAL (SELECT timestamptz '2026-01-01 00:00Z' + i * interval '5 h 7 min' AS c) t,
	LATERAL (SELECT coder.autostop_required(t.c, 'CRON_TZ=Europe/Berlin 30 5 * * *', 1 + i % 127, 1 + i % 4) AS m) r
	WHERE r.m < t.c + interval '1 h' OR r.m > t.c + interval '40 days' OR (1 + i % 127) & (1 << (extract(isodow FROM r.m AT TIME ZONE 'Europe/Berlin')::int - 1)) = 0
		OR to_char(r.m AT TIME ZONE 'Europe/Berlin', 'HH24:MI') <> '05:30'), 0, 'always at the quiet hour of a required day, never within the hour');

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

CREATE FUNCTION pg_temp.start() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM coder.build_add('00000000-0000-4000-8000-0000000000e1', '00000000-0000-4000-8000-000000000001',
		CASE WHEN (SELECT transition FROM coder.workspace_builds ORDER BY build_number DESC LIMIT 1) = 'start' THEN 'stop' ELSE 'start' END,
		'00000000-0000-4000-8000-0000000000b1', 'initiator');
	PERFORM pg_temp.work();
	RETURN (SELECT b.transition FROM coder.workspace_builds b ORDER BY build_number DESC LIMIT 1);
END
$$;
CREATE FUNCTION pg_temp.b() RETURNS coder.workspace_builds LANGUAGE sql AS $$ SELECT b FROM coder.workspace_builds b ORDER BY build_number DESC LIMIT 1 $$;
CREATE FUNCTION pg_temp.ended() RETURNS timestamptz LANGUAGE sql AS $$ SELECT j.completed_at FROM coder.provisioner_jobs j WHERE j.id = (pg_temp.b()).job_id $$;

-- A build's deadlines.
SELECT is(pg_temp.start(), 'start', 'a workspace runs');
SELECT is((pg_temp.b()).max_deadline, '0001-01-01 00:00Z', 'without a requirement it has no latest end');
UPDATE coder.users SET quiet_hours_schedule = 'CRON_TZ=Europe/Berlin 30 5 * * *';
UPDATE coder.templates SET autostop_requirement_days_of_week = 127, autostop_requirement_weeks = 1;
SELECT is((pg_temp.b()).max_deadline, greatest(coder.autostop_required(pg_temp.ended(), 'CRON_TZ=Europe/Berlin 30 5 * * *', 127, 1), (pg_temp.b()).max_deadline), 'one that runs gets one');
SELECT ok((pg_temp.b()).max_deadline > now() + interval '1 h' AND (pg_temp.b()).max_deadline < now() + interval '28 h', 'in the owner''s next quiet hour');
SELECT ok((pg_temp.b()).deadline <= (pg_temp.b()).max_deadline AND (pg_temp.b()).deadline < now() + interval '61 min', 'an earlier deadline stays');
UPDATE coder.workspaces SET ttl = NULL;
UPDATE coder.templates SET autostop_requirement_days_of_week = 0;
SELECT is((pg_temp.b()).max_deadline, '0001-01-01 00:00Z', 'it goes with the requirement') WHERE (pg_temp.b()).max_deadline NOT BETWEEN now() AND now() + interval '2 h';
SELECT is(pg_temp.start(), 'stop', 'stopped');
UPDATE coder.templates SET autostop_requirement_days_of_week = 127;
SELECT is(pg_temp.start(), 'start', 'a workspace without a TTL');
SELECT ok((pg_temp.b()).deadline = (pg_temp.b()).max_deadline AND (pg_temp.b()).deadline > now(), 'ends when its template requires it');
SELECT is((pg_temp.b()).max_deadline, coder.autostop_required(pg_temp.ended(), 'CRON_TZ=Europe/Berlin 30 5 * * *', 127, 1), 'by the owner''s quiet hours');
SELECT is(coder.tick_workspaces((pg_temp.b()).deadline + interval '1 min'), 1, 'and is stopped then');
SELECT is((pg_temp.b()).transition::text || (pg_temp.b()).reason, 'stopautostop', 'as any autostop');

SELECT * FROM finish();
ROLLBACK;
