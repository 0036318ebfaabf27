-- The cases of the specification of boundary usage and of agents' states that other files do not have (B: cases of the reference, S: promises,
-- Q: properties, A and T: agents), each named by what is given and what is expected.  Their place: boundary.sql (one session), metric.sql (agents),
-- test/t/129_boundary_parallel.pl (many sessions), test/t/188_boundary_gateways.pl (two gateways), test/t/125_boundary_logs.pl (the agent's socket).
BEGIN;
SELECT no_plan();
\i api.psql
\set n 12
\i workspaces.psql
SET LOCAL session_replication_role = origin;
CREATE FUNCTION pg_temp.report(agent int, allowed int, denied int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT coder.agent_rpc(pg_temp.id('agent', agent), 'ReportBoundaryLogs', jsonb_build_object('logs',
		(SELECT coalesce(jsonb_agg(jsonb_build_object('allowed', i <= allowed, 'http_request', '{}'::jsonb)), '[]') FROM generate_series(1, allowed + denied) i)))
$$;
CREATE FUNCTION pg_temp.upsert(replica int, dw bigint, du bigint, w bigint, u bigint, a bigint, d bigint) RETURNS bool LANGUAGE sql AS $$
	SELECT coder.boundary_usage_upsert(('00000000-0000-4000-9000-00000000000' || replica)::uuid, dw, du, w, u, a, d)
$$;
CREATE FUNCTION pg_temp.reset() RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', c.unique_workspaces, c.unique_users, c.allowed_requests, c.denied_requests) FROM coder.boundary_usage_close() c
$$;

-- 1.1: the table.
SELECT is((SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, NULL), CASE WHEN a.attnotnull THEN 'not null' END, pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY a.attnum)
	  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = 'coder.boundary_usage_stats'::regclass AND a.attnum BETWEEN 1 AND 7),
	'replica_id uuid not null, unique_workspaces_count bigint not null 0, unique_users_count bigint not null 0, allowed_requests bigint not null 0, denied_requests bigint not null 0, '
	'window_start timestamp with time zone not null now(), updated_at timestamp with time zone not null now()', 'boundary_usage_stats has the reference''s columns, none null, counts from 0, times from now');
SELECT col_is_pk('coder', 'boundary_usage_stats', 'replica_id', 'boundary_usage_stats has a row a replica');
INSERT INTO coder.boundary_usage_stats (replica_id) VALUES ('00000000-0000-4000-9000-000000000001');
SELECT is((SELECT concat_ws(' ', unique_workspaces_count, unique_users_count, allowed_requests, denied_requests, window_start = now(), updated_at = now()) FROM coder.boundary_usage_stats),
	'0 0 0 0 t t', 'a row of nothing but its key counts nothing, from now');
SELECT throws_ok($$INSERT INTO coder.boundary_usage_stats (replica_id) VALUES ('00000000-0000-4000-9000-000000000001')$$, '23505', NULL, 'a second row of the same replica is refused');
SELECT throws_ok($$INSERT INTO coder.telemetry_locks VALUES ('another_summary', now())$$, '23514', NULL, 'telemetry_locks takes the reference''s kinds of periods only');
SELECT lives_ok($$INSERT INTO coder.telemetry_locks VALUES ('aibridge_interceptions_summary', '2026-01-01'), ('boundary_usage_summary', '2026-01-01')$$, 'which are two');
SELECT throws_ok($$INSERT INTO coder.telemetry_locks VALUES ('boundary_usage_summary', '2026-01-01')$$, '23505', NULL, 'and each period once');
DELETE FROM coder.telemetry_locks;
SELECT is(pg_temp.reset(), '0 0 0 0', 'the row goes with its period');

-- Reports and snapshots.
SELECT is(coder.telemetry_url(), NULL, 'S9 S12: where nobody is told of usage');
SELECT pg_temp.report(0, 5, 3);
SELECT pg_temp.report(0, 2, 1);
SELECT pg_temp.report(0, 3, 2);
SELECT is(pg_temp.reset(), '1 1 10 6', 'B6 S9 S12: it is counted: reports of (5,3), (2,1), (3,2) of one workspace are 1 workspace, 1 user, 10 allowed, 6 denied');
SELECT pg_temp.upsert(1, 1, 1, 1, 1, 5, 3), pg_temp.upsert(1, 1, 1, 1, 1, 2, 1), pg_temp.upsert(1, 1, 1, 1, 1, 3, 2);
SELECT is(pg_temp.reset(), '1 1 10 6', 'B6: and so are flushes of a replica that counts for itself');
SELECT is(pg_temp.upsert(1, 5, 3, 999, 999, 0, 0), true, 'B9: given no row, a flush with deltas 5/3 and totals 999/999 begins a period');
SELECT is(pg_temp.reset(), '5 3 0 0', 'B9: which has 5 workspaces and 3 users');
SELECT pg_temp.upsert(1, 5, 3, 5, 3, 100, 10);
UPDATE coder.boundary_usage_stats SET window_start = window_start - interval '5 min', updated_at = updated_at - interval '5 min';
CREATE TEMP TABLE before AS SELECT window_start, updated_at FROM coder.boundary_usage_stats;
SELECT is(pg_temp.upsert(1, 0, 0, 8, 5, 200, 20), false, 'B10: given a row of 5/3 and requests 100/10, a flush with totals 8/5 and requests 200/20 goes on with it');
SELECT is((SELECT concat_ws(' ', s.window_start = b.window_start, s.updated_at > b.updated_at) FROM coder.boundary_usage_stats s, before b), 't t', 'B10: its window begins when it began, and it is newer');
SELECT is(pg_temp.reset(), '8 5 300 30', 'B10: it has 8/5 and requests 300/30');
SELECT pg_temp.upsert(1, 1, 1, 1, 1, 10, 0), pg_temp.upsert(2, 1, 1, 1, 1, 20, 0);
SELECT is(pg_temp.reset(), '2 2 30 0', 'B20: rows of two replicas (10 and 20 allowed) are 30 in the first snapshot of a period');
SELECT is(pg_temp.reset(), '0 0 0 0', 'B20: and none in the second');

-- A workspace counts as itself, its users as they are: one that changes hands within a period.
SELECT pg_temp.report(0, 1, 0), pg_temp.report(11, 1, 0);
SET LOCAL session_replication_role = replica;
UPDATE coder.workspaces SET owner_id = pg_temp.id('user', 1) WHERE name = 'workspace-0';
SET LOCAL session_replication_role = origin;
SELECT pg_temp.report(0, 1, 0);
SELECT is(pg_temp.reset(), '2 2 3 0', 'S1: two workspaces of two owners, one of which changes hands to the other: 2 workspaces, 2 users');
SET LOCAL session_replication_role = replica;
UPDATE coder.workspaces SET owner_id = pg_temp.id('user', 0) WHERE name = 'workspace-0';
SET LOCAL session_replication_role = origin;

-- Counts never fall before their period ends.
CREATE TEMP TABLE seen (n int, workspaces bigint, users bigint);
CREATE FUNCTION pg_temp.look(n int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO seen SELECT n, sum(unique_workspaces_count), sum(unique_users_count) FROM coder.boundary_usage_stats
$$;
SELECT pg_temp.report(0, 1, 0), pg_temp.report(1, 1, 0), pg_temp.report(2, 1, 0), pg_temp.look(1);
SELECT pg_temp.report(3, 1, 0), pg_temp.look(2);
SELECT pg_temp.report(0, 1, 0), pg_temp.report(11, 1, 0), pg_temp.look(3);
SELECT pg_temp.report(1, 0, 1), pg_temp.look(4);
SELECT is((SELECT string_agg(concat_ws('/', workspaces, users), ' ' ORDER BY n) FROM seen), '3/1 4/1 5/2 5/2', 'T1 S2: {A,B,C}, then {D}, then {A,E}, then {B}: 3, 4, 5, 5 workspaces, never fewer');
UPDATE coder.boundary_usage_stats SET window_start = now() - interval '61 min', updated_at = now() - interval '61 min';
UPDATE coder.boundary_usage_periods SET opened_at = now() - interval '61 min' WHERE closed_at IS NULL;
SELECT pg_temp.report(6, 5, 0);
SELECT is(pg_temp.reset(), '6 2 11 1', 'Q8 S6: a period open for 61 minutes has its old traffic and its new');
SELECT is((SELECT closed_at - opened_at > interval '61 min' AND closed_at - opened_at < interval '62 min' FROM coder.boundary_usage_periods WHERE closed_at IS NOT NULL ORDER BY period DESC LIMIT 1), true,
	'S10: and tells that it was open for 61 minutes');

-- Telemetry: what a receiver gets.
INSERT INTO coder.settings (name, value) VALUES ('telemetry', 'true'), ('telemetry_url', 'https://receiver.example.com') ON CONFLICT (name) DO UPDATE SET value = excluded.value;
UPDATE coder.boundary_usage_periods SET sent_at = closed_at WHERE closed_at IS NOT NULL;
CREATE FUNCTION pg_temp.told(plan jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT (plan #>> '{requests,0,body}')::jsonb -> 'boundary_usage_summary' $$;
CREATE FUNCTION pg_temp.answered(plan jsonb, status int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT coder.telemetry_taken(format(E'fetched:%s\n%s', plan ->> 'continue', jsonb_build_object('state', plan -> 'state', 'results', jsonb_build_array(jsonb_build_object('status', status)))))
$$;
CREATE FUNCTION pg_temp.snapshot() RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	UPDATE coder.telemetry_state SET next_at = now(), claimed_until = now();
	RETURN pg_temp.answered(coder.telemetry_next(), 202);
END
$$;
SELECT pg_temp.report(0, 10, 2), pg_temp.report(11, 8, 1);
CREATE TEMP TABLE p AS SELECT * FROM coder.boundary_usage_close();
SELECT pg_temp.snapshot() AS plan \gset
SELECT is(pg_temp.told(:'plan') - 'period', (SELECT jsonb_build_object('unique_workspaces', 2, 'unique_users', 2, 'allowed_requests', 18, 'denied_requests', 3, 'period_start', coder.ts(opened_at),
	'period_duration_ms', round(extract(epoch FROM closed_at - opened_at) * 1000)::bigint) FROM p), 'B18: a snapshot has the period''s 2/2/18/3, its start and its length, and no other field but its number');
SELECT is(coder.telemetry_next(), NULL, 'B20: another gateway in the same period has nothing to send');
SELECT is(pg_temp.answered(:'plan', 500), NULL, 'Q6: the receiver fails');
SELECT is(pg_temp.told(pg_temp.snapshot()), pg_temp.told(:'plan'), 'Q6 S7 S8: the next try tells the same numbers of the same period');
SELECT is(pg_temp.answered(:'plan', 0), NULL, 'Q6: it does not answer');
SELECT pg_temp.report(0, 1, 0);
SELECT pg_temp.reset();
SELECT pg_temp.upsert(1, 0, 0, 0, 0, 0, 7);
SELECT pg_temp.reset();
SELECT is(pg_temp.told(pg_temp.snapshot()), pg_temp.told(:'plan'), 'Q6: nor do later periods change them');
SELECT pg_temp.answered(:'plan', 202) AS plan2 \gset
SELECT is(pg_temp.told(:'plan2') ->> 'allowed_requests', '1', 'S7: once it takes them, the next period follows at once');
SELECT is((:'plan2'::jsonb #>> '{requests,0,body}')::jsonb ->> 'deployment_id', coder.site_config('deployment_id', ''), 'S7: of this deployment');
SELECT is(coder.telemetry_next(), NULL, 'S7: and nobody else sends meanwhile');
SELECT pg_temp.answered(:'plan2', 202) AS plan3 \gset
SELECT is(pg_temp.told(:'plan3') ->> 'denied_requests', '7', 'S11: a period of denied requests and no users is told too');
SELECT is(pg_temp.answered(:'plan3', 202), NULL, 'S7: then all are told');
SELECT is((SELECT count(*) FROM coder.boundary_usage_unsent()), 0::bigint, 'Q6: each once');
SELECT is(pg_temp.told(pg_temp.snapshot()), 'null', 'B19: with nothing used since, the snapshot half an hour later has none');
SELECT pg_temp.report(0, 1, 0);
SELECT pg_temp.reset();
SELECT pg_temp.report(0, 2, 0);
SELECT pg_temp.reset();
SELECT pg_temp.snapshot() AS plan \gset
UPDATE coder.settings SET value = 'false' WHERE name = 'telemetry';
SELECT is(pg_temp.answered(:'plan', 202), NULL, 'S9: turned off between two periods: the second stays here');
SELECT is((SELECT string_agg(allowed_requests::text, ' ') FROM coder.boundary_usage_unsent()), '2', 'S9: and is kept');
SELECT is((SELECT count(*) FROM coder.boundary_usage_unsent(0)), 0::bigint, 'so many and no more');

-- B28.
DELETE FROM coder.telemetry_locks;
INSERT INTO coder.telemetry_locks SELECT 'boundary_usage_summary', now() - h * interval '1 hour' FROM unnest('{25,23,0}'::int[]) h;
DELETE FROM coder.tick_state WHERE name = 'purge';
SELECT coder.tick_purge(now());
SELECT is((SELECT string_agg((extract(epoch FROM now() - period_ending_at) / 3600)::int::text, ' ' ORDER BY period_ending_at) FROM coder.telemetry_locks), '23 0',
	'B28: of locks 25 hours, 23 hours and no time old a purge takes the first');

-- B21.
INSERT INTO coder.users (id, username, email, login_type, status) VALUES ('00000000-0000-4000-8000-00000000000b', 'bob', 'bob@example.com', 'password', 'active');
INSERT INTO coder.organization_members (user_id, organization_id, roles)
VALUES ('00000000-0000-4000-8000-00000000000b', :'org', '{organization-admin,organization-user-admin,organization-template-admin,organization-auditor,organization-workspace-creation-ban}');
CREATE FUNCTION pg_temp.may(role text, action text, org uuid, owner uuid) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
	PERFORM coder.set_subject_roles('00000000-0000-4000-8000-00000000000b', ARRAY['member', role]);
	RETURN coder.can(action, 'boundary_usage', org, owner);
END
$$;
SELECT is((SELECT string_agg(concat_ws(' ', r, a, o, u), ', ') FROM unnest(ARRAY['owner', 'auditor', 'template-admin', 'user-admin', 'organization-admin:' || :'org', 'organization-user-admin:' || :'org',
		'organization-template-admin:' || :'org', 'organization-auditor:' || :'org', 'organization-member:' || :'org']) r, unnest('{read,update,delete}'::text[]) a,
	(VALUES (NULL::uuid, NULL::uuid), (:'org', NULL), (:'org', '00000000-0000-4000-8000-00000000000b'), (NULL, '00000000-0000-4000-8000-00000000000b')) o(o, u) WHERE pg_temp.may(r, a, o, u)), NULL,
	'B21: no role of the site or of an organization may read, update or delete boundary usage, its own neither');
SELECT token_of('boss', '{owner}') AS token \gset
SELECT is((SELECT string_agg(x.status::text, ' ') FROM unnest('{boundary_usage:*,boundary_usage:read,boundary_usage:update,boundary_usage:delete}'::text[]) s,
	public.api('POST', '/api/v2/users/me/keys/tokens', jsonb_build_object('scopes', jsonb_build_array(s)), :'token') x), '400 400 400 400', 'B21: nor does a token get it by its scopes');
CREATE FUNCTION pg_temp.system_may(name text, action text) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
	PERFORM coder.set_system_subject(name);
	RETURN coder.can(action, 'boundary_usage');
END
$$;
SELECT is((SELECT string_agg(s || ' ' || a, ', ' ORDER BY s, a) FROM unnest('{provisionerd,autostart,job_reaper,notifier,usage_publisher,dbpurge,boundary_usage_tracker,workspace_builder,chatd,aibridged}'::text[]) s,
	unnest('{create,read,update,delete}'::text[]) a WHERE pg_temp.system_may(s, a)), 'boundary_usage_tracker delete, boundary_usage_tracker read, boundary_usage_tracker update',
	'B21: who counts may, and nobody else of the server''s own');

-- coder.boundary_usage: two users, three workspaces, two templates, two organizations, three days; one folded into quarters of an hour.
DELETE FROM coder.boundary_reports;
DELETE FROM coder.boundary_usage_quarters;
INSERT INTO coder.boundary_reports (at, workspace_id, user_id, template_id, organization_id, allowed, denied)
SELECT t, pg_temp.id('w', w), pg_temp.id('u', u), pg_temp.id('t', p), pg_temp.id('o', o), a, d
  FROM (VALUES (timestamptz '2026-03-28 12:00+00', 1, 1, 1, 1, 1, 0), ('2026-03-28 23:30+00', 1, 1, 1, 1, 2, 1), ('2026-03-29 00:00+00', 2, 1, 1, 1, 4, 0),
			   ('2026-03-29 12:07+00', 3, 2, 2, 2, 8, 0), ('2026-03-29 22:00+00', 1, 1, 1, 1, 16, 2), ('2026-03-30 00:00+00', 1, 2, 1, 1, 32, 4),
			   ('2026-10-25 00:30+00', 3, 2, 2, 2, 64, 0), ('2026-10-25 01:30+00', 3, 2, 2, 2, 128, 0), ('2026-10-25 23:00+00', 3, 2, 2, 2, 256, 0)) v(t, w, u, p, o, a, d);
CREATE FUNCTION pg_temp.by(dimension text, a timestamptz, b timestamptz, zone text DEFAULT 'UTC') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	v text;
BEGIN
	EXECUTE format($q$SELECT string_agg(concat_ws('/', allowed, denied, reports, workspaces, users), ' ' ORDER BY allowed) FROM (SELECT sum(allowed) AS allowed, sum(denied) AS denied,
		sum(reports) AS reports, count(DISTINCT workspace_id) AS workspaces, count(DISTINCT user_id) AS users FROM coder.boundary_usage($1, $2, $3) GROUP BY %s) x$q$, dimension) INTO v USING a, b, zone;
	RETURN v;
END
$$;
CREATE FUNCTION pg_temp.cases(what text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT is(pg_temp.by(d, '2026-03-28', '2026-04-01', z), want, format('%s: usage by %s (%s) is %s', what, d, z, want)) FROM (VALUES
		('()', 'UTC', '63/7/6/3/2'), ('user_id', 'UTC', '23/3/4/2/1 40/4/2/2/1'), ('workspace_id', 'UTC', '4/0/1/1/1 8/0/1/1/1 51/7/4/1/2'),
		('template_id', 'UTC', '8/0/1/1/1 55/7/5/2/2'), ('organization_id', 'UTC', '8/0/1/1/1 55/7/5/2/2'), ('day', 'UTC', '3/1/2/1/1 28/2/3/3/2 32/4/1/1/1'),
		('day', 'Europe/Berlin', '1/0/1/1/1 14/1/3/3/2 48/6/2/1/2')) v(d, z, want)
$$;
SELECT pg_temp.cases('as reported');
SELECT is((SELECT sum(n) FROM (SELECT count(DISTINCT user_id) AS n FROM coder.boundary_usage('2026-03-28', '2026-04-01') GROUP BY day) x), 4::numeric, 'users of each day are 4 in sum');
SELECT is((SELECT count(DISTINCT user_id) FROM coder.boundary_usage('2026-03-28', '2026-04-01')), 2::bigint, 'of the whole period they are 2');
SELECT is(pg_temp.by('day', '2026-10-24 22:00+00', '2026-10-25 23:00+00', 'Europe/Berlin'), '192/0/2/1/1', 'a day of 25 hours has both of the hours that come twice, and not the first instant of the next');
SELECT is(pg_temp.by('()', '2026-03-28 23:00+00', '2026-03-29 22:00+00', 'Europe/Berlin'), '14/1/3/3/2', 'a day of 23 hours');
SELECT is((SELECT count(*) FROM coder.boundary_usage('2026-03-30', '2026-03-28')), 0::bigint, 'a window that ends before it begins has nothing');
SELECT is((SELECT count(*) FROM coder.boundary_usage('2026-03-29 12:07+00', '2026-03-29 12:07+00')), 0::bigint, 'an empty one too');
SELECT throws_ok($$SELECT * FROM coder.boundary_usage('2026-03-28', '2026-04-01', 'Nowhere/At')$$, '22023', NULL, 'a zone that there is not is refused');
-- Each report is in exactly one of two windows that touch, wherever they do.
CREATE FUNCTION pg_temp.amount(a timestamptz, b timestamptz) RETURNS numeric LANGUAGE sql AS $$ SELECT coalesce(sum(allowed), 0) FROM coder.boundary_usage(a, b) $$;
SELECT is((SELECT count(*) FROM coder.boundary_reports r, unnest('{-1,0,1}'::int[]) d, LATERAL (SELECT r.at + d * interval '1 microsecond' AS cut) c
			WHERE pg_temp.amount('-infinity', c.cut) + pg_temp.amount(c.cut, 'infinity') <> 511 OR pg_temp.amount(r.at, r.at + interval '1 microsecond') <> r.allowed), 0::bigint,
	'S6: windows that touch at a report, just before or just after it have it once');
SELECT is(coder.boundary_fold('2026-03-29 12:00+00'), 3, 'three reports are folded');
SELECT pg_temp.cases('half of it folded');
SELECT is(coder.boundary_fold('infinity'), 6, 'and the others');
SELECT pg_temp.cases('folded');
SELECT is((SELECT count(*) FROM generate_series(timestamptz '2026-03-28', '2026-03-31', '15 min') cut WHERE pg_temp.amount('-infinity', cut) + pg_temp.amount(cut, 'infinity') <> 511), 0::bigint,
	'S6: folded, windows that touch at a quarter of an hour have each report once');
SELECT throws_ok($$SELECT * FROM coder.boundary_usage('-infinity', '2026-03-29 12:10+00')$$, '22023', NULL, 'the end of a window may not cut what is folded either');

-- What the window of a sealed period has is what was sealed, before and after many of them.
DELETE FROM coder.boundary_usage_quarters;
DELETE FROM coder.boundary_usage_periods WHERE closed_at IS NOT NULL;
SELECT pg_temp.report((i * 7) % 4 + 5 * (i % 2), i % 3, i % 2), CASE WHEN i % 5 = 4 THEN pg_temp.reset() END FROM generate_series(1, 60) i \g /dev/null
SELECT pg_temp.reset() \g /dev/null
SELECT cmp_ok((SELECT count(*) FROM coder.boundary_usage_periods p WHERE p.closed_at IS NOT NULL AND p.allowed_requests > 0), '>=', 12::bigint, 'Q1 Q2: a dozen periods');
SELECT is((SELECT count(*) FROM coder.boundary_usage_periods p WHERE p.closed_at IS NOT NULL AND concat_ws(' ', p.unique_workspaces, p.unique_users, p.allowed_requests, p.denied_requests, p.reports) <>
	(SELECT concat_ws(' ', count(DISTINCT workspace_id), count(DISTINCT user_id), coalesce(sum(allowed), 0), coalesce(sum(denied), 0), coalesce(sum(reports), 0)) FROM coder.boundary_usage(p.opened_at, p.closed_at))), 0::bigint,
	'Q1 Q2: each was sealed with what its window has');
SELECT is((SELECT concat_ws(' ', sum(allowed_requests), sum(denied_requests)) FROM coder.boundary_usage_periods), (SELECT concat_ws(' ', sum(i % 3), sum(i % 2)) FROM generate_series(1, 60) i),
	'Q1: together they have what was acknowledged');

-- Agents: what metric.sql does not have.
SET LOCAL session_replication_role = replica;
UPDATE coder.workspace_agents SET first_connected_at = NULL, last_connected_at = NULL, disconnected_at = NULL;
UPDATE coder.workspace_agents SET first_connected_at = created_at - interval '10 s', last_connected_at = now() WHERE id = pg_temp.id('agent', 0);
UPDATE coder.template_versions SET name = '' WHERE id = pg_temp.id('version', 1);
UPDATE coder.workspace_agents SET deleted = true WHERE id = pg_temp.id('agent', 2);
UPDATE coder.workspaces SET latest_build_id = gen_random_uuid() WHERE name = 'workspace-3';
SET LOCAL session_replication_role = origin;
CREATE FUNCTION pg_temp.lines(prefix text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT l FROM (SELECT string_agg(m, '') FROM coder.metrics(now()) m) x(m), LATERAL regexp_split_to_table(m, E'\n') l WHERE starts_with(l, prefix)
$$;
SELECT is((SELECT coalesce(sum(substring(l FROM '[0-9]+$')::int), 0) FROM pg_temp.lines('coderd_agents_first_connection_seconds_') l WHERE l ~ '_count'), 0::bigint, 'an agent that connected before it was made has no time to its first connection');
SELECT is((SELECT count(*) FROM pg_temp.lines('coderd_agents_up{') l WHERE l ~ 'workspace_name="workspace-1",.*template_version="unknown"'), 1::bigint, 'a template version without a name is "unknown"');
SELECT is((SELECT count(*) FROM pg_temp.lines('coderd_agents_connections{') l WHERE l ~ 'workspace-[23]"'), 0::bigint, 'agents that were deleted, or are of older builds, are not told of');
SELECT is((SELECT count(*) FROM pg_temp.lines('coderd_agents_connections{')), 10::bigint, 'the others are, once each');
SELECT * FROM finish();
ROLLBACK;
