-- Boundary usage: every acknowledged report counts once, in one period; sets are sets. Names like B4 and Q3 are the cases of the
-- specification of boundary usage; what is not here is in boundarycases.sql. Numbers are workspaces, users, allowed, denied.
BEGIN;
SELECT no_plan();
\i api.psql
\set n 4
\i workspaces.psql
SET LOCAL session_replication_role = origin;

-- Agents 0 to 3 (0 to 3 run) of four workspaces of one owner; workspace 2 gets another owner.
INSERT INTO coder.users (id, username, email, login_type, status)
VALUES ('00000000-0000-4000-8000-00000000000b', 'bob', 'bob@example.com', 'password', 'active');
SET LOCAL session_replication_role = replica;
UPDATE coder.workspaces SET owner_id = '00000000-0000-4000-8000-00000000000b' WHERE name = 'workspace-2';
SET LOCAL session_replication_role = origin;

-- A report of an agent as the gateway gives it.
CREATE FUNCTION pg_temp.logs(allowed int, denied int, at text DEFAULT coder.ts(clock_timestamp())) RETURNS jsonb LANGUAGE sql AS $$
	SELECT coalesce(jsonb_agg(jsonb_build_object('allowed', i <= allowed, 'time', at, 'http_request',
					  jsonb_build_object('method', 'GET', 'url', 'https://a.example/' || i))), '[]')
	  FROM generate_series(1, allowed + denied) i
$$;
CREATE FUNCTION pg_temp.report(agent int, allowed int, denied int, batch text DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
	SELECT coder.agent_rpc(pg_temp.id('agent', agent), 'ReportBoundaryLogs',
						   jsonb_strip_nulls(jsonb_build_object('logs', pg_temp.logs(allowed, denied), 'batch_id', batch)))
$$;
-- Workspaces, users, allowed, denied of the period, which ends.
CREATE FUNCTION pg_temp.reset() RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', c.unique_workspaces, c.unique_users, c.allowed_requests, c.denied_requests) FROM coder.boundary_usage_close() c
$$;

SELECT is(pg_temp.reset(), '0 0 0 0', 'B8 B12: given no report, a snapshot has 0 0 0 0');
SELECT is((SELECT count(*) FROM coder.boundary_usage_stats), 0::bigint, 'B8 B12: and no row is written');
SELECT is(pg_temp.report(0, 5, 2) ->> 'workspace_name', 'workspace-0', 'a report is acknowledged');
SELECT is(pg_temp.reset(), '1 1 5 2', 'B2: given a report of 5 allowed and 2 denied, a snapshot has 1 1 5 2');
SELECT is(pg_temp.reset(), '0 0 0 0', 'B15: given a snapshot and no report since, the next has 0 0 0 0');
SELECT pg_temp.report(0, 1, 0);
SELECT coder.boundary_lock(true);
SELECT is((SELECT array_agg(mode ORDER BY mode) FROM pg_locks a WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND (classid, objid, objsubid) = (
			SELECT classid, objid, objsubid FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND mode = 'ShareLock')), '{ExclusiveLock,ShareLock}',
		  'who reports holds the very lock that who closes a period waits for');
SELECT pg_temp.reset();
SELECT pg_temp.report(0, 3, 1), pg_temp.report(0, 4, 2), pg_temp.report(0, 2, 0);
SELECT is(pg_temp.reset(), '1 1 9 3', 'B3: reports of (3,1), (4,2), (2,0) of one workspace are 1 1 9 3');
SELECT pg_temp.report(0, 1, 0), pg_temp.report(1, 2, 1), pg_temp.report(2, 3, 2);
SELECT is(pg_temp.reset(), '3 2 6 3', 'B4: reports of three workspaces of two users, (1,0), (2,1), (3,2), are 3 2 6 3');
SELECT pg_temp.report(0, 10, 5);
SELECT is(pg_temp.reset(), '1 1 10 5', 'B7: given a report (10,5), a snapshot has 1 1 10 5');
SELECT pg_temp.report(2, 3, 1);
SELECT is(pg_temp.reset(), '1 1 3 1', 'B7: and the next, after one of another workspace and user (3,1), only 1 1 3 1');

-- Sets grow only.
SELECT pg_temp.report(0, 1, 0), pg_temp.report(1, 1, 0);
SELECT pg_temp.report(2, 1, 0);
SELECT pg_temp.report(0, 1, 0), pg_temp.report(3, 1, 0);
SELECT is(pg_temp.reset(), '4 2 5 0', 'Q3 S2: who came in any report of the period is counted, once');

-- The statements of replicas that count for themselves.
CREATE FUNCTION pg_temp.upsert(k int, dw int, du int, w int, u int, a bigint, d bigint) RETURNS bool LANGUAGE sql AS $$
	SELECT coder.boundary_usage_upsert(('00000000-0000-4000-9000-00000000000' || k)::uuid, dw, du, w, u, a, d)
$$;
SELECT is(pg_temp.upsert(1, 5, 3, 999, 999, 0, 0), true, 'B9: given no row, a flush with deltas 5/3 and totals 999/999 makes one');
SELECT is((SELECT concat_ws(' ', unique_workspaces_count, unique_users_count) FROM coder.boundary_usage_stats), '5 3', 'B9: of the deltas');
SELECT is(pg_temp.upsert(1, 1, 1, 8, 5, 200, 20), false, 'B10: given that row, a flush with totals 8/5 and requests 200/20 does not');
SELECT is(pg_temp.upsert(1, 0, 0, 8, 5, 100, 10), false, 'B10: nor one with the same totals and 100/10');
SELECT is(pg_temp.reset(), '8 5 300 30', 'B10: totals replace those before, requests are added: 8 5 300 30');
SELECT pg_temp.upsert(1, 10, 5, 0, 0, 100, 10), pg_temp.upsert(2, 15, 8, 0, 0, 150, 15), pg_temp.upsert(3, 20, 12, 0, 0, 200, 20);
SELECT is(pg_temp.reset(), '45 25 450 45', 'B11: given rows of three replicas, 10/5/100/10, 15/8/150/15 and 20/12/200/20, a snapshot has their sum');
SELECT count(pg_temp.upsert(i, i, i, 0, 0, 10 * i, 0)) FROM generate_series(1, 5) i;
SELECT is(pg_temp.reset(), '15 15 150 0', 'B13: given five replicas with 1 to 5 uniques and 10 to 50 allowed, a snapshot has 15 15 150 0');
SELECT is(pg_temp.reset(), '0 0 0 0', 'B13: and the next has 0 0 0 0');
SELECT pg_temp.upsert(1, 1, 1, 1, 1, 10, 0);
UPDATE coder.boundary_usage_stats SET window_start = window_start - interval '61 min';
SELECT pg_temp.upsert(1, 1, 1, 1, 1, 5, 0);
SELECT is(pg_temp.reset(), '1 1 15 0', 'Q8: a row 61 minutes old with new traffic keeps all of it');

-- Windows.
SELECT is((SELECT count(*) FROM (SELECT opened_at, lag(closed_at) OVER (ORDER BY period) AS before FROM coder.boundary_usage_periods) p
			WHERE opened_at <> before), 0::bigint, 'Q5: each window begins at the instant that the one before ended');
SELECT is((SELECT count(*) FROM coder.boundary_usage_periods WHERE closed_at IS NULL), 1::bigint, 'one period is open');
UPDATE coder.boundary_usage_periods SET opened_at = clock_timestamp() + interval '1 day' WHERE closed_at IS NULL;
SELECT pg_temp.report(0, 7, 0);
SELECT is((SELECT count(*) FROM coder.boundary_reports r, coder.boundary_usage_periods p WHERE p.closed_at IS NULL AND r.at >= p.opened_at AND r.allowed = 7),
		  1::bigint, 'Q7: after the clock went back a day a report is in its period''s window');
SELECT is((SELECT count(*) FROM coder.boundary_reports r, coder.boundary_usage_close() p WHERE r.at >= p.opened_at AND r.at < p.closed_at),
		  1::bigint, 'Q7: which ends behind it');
DELETE FROM coder.boundary_reports WHERE at > now() + interval '1 hour';
DELETE FROM coder.boundary_usage_periods WHERE opened_at > now() + interval '1 hour' AND closed_at IS NOT NULL;
UPDATE coder.boundary_usage_periods SET opened_at = clock_timestamp() WHERE closed_at IS NULL;
SELECT throws_ok($$UPDATE coder.boundary_usage_stats SET denied_requests = -1; INSERT INTO coder.boundary_usage_stats (replica_id, denied_requests) VALUES (gen_random_uuid(), -1)$$,
	'23514', NULL, 'no sum is negative');

-- Sealed periods are told until they are taken.
SELECT pg_temp.report(0, 10, 2), pg_temp.report(1, 5, 1), pg_temp.report(2, 3, 0);
CREATE TEMP TABLE sealed AS SELECT * FROM coder.boundary_usage_close();
SELECT is((SELECT coder.boundary_usage_summary(u) - 'period_start' - 'period_duration_ms' FROM coder.boundary_usage_unsent() u ORDER BY period DESC LIMIT 1),
	'{"unique_workspaces": 3, "unique_users": 2, "allowed_requests": 18, "denied_requests": 3}', 'B18: given (w1,u1,10,2), (w2,u1,5,1), (w3,u2,3,0), a snapshot has 3/2/18/3');
SELECT is((SELECT (coder.boundary_usage_summary(p) ->> 'period_start', (coder.boundary_usage_summary(p) ->> 'period_duration_ms')::int)::text FROM sealed JOIN coder.boundary_usage_periods p USING (period)),
	(SELECT (coder.ts(opened_at), round(extract(epoch FROM closed_at - opened_at) * 1000)::int)::text FROM sealed), 'B18 S10: and the start and the length that the period really had');
SELECT is((SELECT count(*) FROM coder.boundary_usage_unsent() u JOIN sealed USING (period)), 1::bigint, 'Q6: it is told');
SELECT is((SELECT count(*) FROM coder.boundary_usage_unsent() u JOIN sealed USING (period)), 1::bigint, 'Q6: and again');
SELECT is((SELECT coder.boundary_usage_sent(period) FROM sealed), true, 'Q6: until it is taken');
SELECT is((SELECT coder.boundary_usage_sent(period) FROM sealed), false, 'Q6: which happens once');
SELECT is((SELECT count(*) FROM coder.boundary_usage_unsent() u JOIN sealed USING (period)), 0::bigint, 'B19 B20: then it is told no more, in this period or the next');
SELECT pg_temp.report(0, 0, 1);
SELECT pg_temp.reset();
SELECT is((SELECT denied_requests FROM coder.boundary_usage_unsent() ORDER BY period DESC LIMIT 1), 1::bigint, 'S11: a period of one denied request is told');

-- A batch that comes again.
SELECT pg_temp.report(0, 4, 1, '000102030405060708090a0b0c0d0e0f'), pg_temp.report(0, 4, 1, '000102030405060708090a0b0c0d0e0f'),
	   pg_temp.report(1, 4, 1, '000102030405060708090a0b0c0d0e0f');
SELECT is((SELECT sum(repeated_reports) FROM coder.boundary_usage_stats), 1::numeric, 'S13: what was repeated is known');
SELECT is(pg_temp.reset(), '2 1 8 2', 'S13: a batch is counted once; another agent may have the same id');
SELECT throws_ok($$SELECT pg_temp.report(0, 1, 0, 'xyz')$$, 'ZC400', NULL, 'a batch id that is none is refused');

-- Reports of several agents in one transaction.
CREATE FUNCTION pg_temp.one(agent uuid, allowed int, denied int, batch text DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('agent', agent, 'request', jsonb_strip_nulls(jsonb_build_object('logs', pg_temp.logs(allowed, denied), 'batch_id', batch)))
$$;
CREATE FUNCTION pg_temp.faults(what text) RETURNS bigint LANGUAGE sql AS $$ SELECT count FROM coder.stat_counters() WHERE name = 'boundary_' || what $$;
SELECT pg_temp.faults('refused') AS refused, pg_temp.faults('clamped') AS clamped \gset
CREATE TEMP TABLE answers AS SELECT coder.boundary_reports(jsonb_build_array(
	pg_temp.one(pg_temp.id('agent', 2), 1, 0), pg_temp.one(pg_temp.id('agent', 0), 2, 1, '100102030405060708090a0b0c0d0e0f'),
	pg_temp.one(gen_random_uuid(), 50, 50), pg_temp.one(pg_temp.id('agent', 0), 2, 1, '100102030405060708090a0b0c0d0e0f'),
	pg_temp.one(pg_temp.id('agent', 1), 100, 0, 'xyz'), pg_temp.one(pg_temp.id('agent', 1), 4, 0, '100102030405060708090a0b0c0d0e0f'),
	'{"agent": "no", "request": {}}', '{"request": {}}', '7', jsonb_build_object('agent', pg_temp.id('agent', 3), 'request', '{"logs": 5}'::jsonb),
	jsonb_build_object('agent', pg_temp.id('agent', 3), 'request', '{"logs": [1, null, "x", []], "dropped": "3"}'::jsonb), pg_temp.one(pg_temp.id('agent', 0), 0, 0)))::jsonb AS a;
SELECT is(pg_temp.faults('refused') - :refused, 6::bigint, 'those that are refused are counted as such');
SELECT is((SELECT string_agg(coalesce(x ->> 'error', x ->> 'workspace_name', 'repeated'), '; ' ORDER BY n) FROM answers, jsonb_array_elements(a) WITH ORDINALITY y(x, n)),
	'workspace-2; workspace-0; Workspace agent not authorized.; repeated; a batch id is 16 bytes; workspace-1; a report has an agent and a request; '
	|| 'a report has an agent and a request; a report has an agent and a request; logs is no list; workspace-3; workspace-0', 'each report of a group has its own answer');
SELECT is((SELECT concat_ws(' ', sum(reports), sum(repeated_reports), sum(ignored_requests), sum(dropped_requests)) FROM coder.boundary_usage_stats), '3 1 4 3',
	'those that are refused take nothing along');
SELECT is((SELECT count(*) FROM coder.boundary_reports r, coder.boundary_usage_periods p WHERE p.closed_at IS NULL AND r.at >= p.opened_at), 3::bigint, 'and are not among the reports');
SELECT is((SELECT dropped_requests FROM coder.boundary_usage_stats), 3::bigint, 'what agents dropped is told of');
SELECT is(pg_temp.reset(), '3 2 7 1', 'the others are counted once');
SELECT is((SELECT dropped_requests FROM coder.boundary_usage_periods WHERE closed_at IS NOT NULL ORDER BY period DESC LIMIT 1), 3::bigint, 'and sealed with the period');
SELECT coder.agent_rpc(pg_temp.id('agent', 0), 'ReportBoundaryLogs', jsonb_build_object('logs', pg_temp.logs(1, 0), 'dropped', d)) FROM unnest(ARRAY['-5', '99999999999999', '9999999999999999999999', 'x']) d;
SELECT is((SELECT dropped_requests FROM coder.boundary_usage_stats), 1000000::bigint, 'an absurd number of dropped entries is cut to a million, or is none');
SELECT is(pg_temp.faults('clamped') - :clamped, 2::bigint, 'which is counted');
SELECT is(pg_temp.reset(), '1 1 4 0', 'and moves nothing else');
SELECT is(coder.boundary_reports('[]'), '[]', 'no reports');
SELECT throws_ok($$SELECT coder.boundary_reports('{}')$$, 'ZC400', NULL, 'what is no list is refused');
SELECT throws_ok($$SELECT coder.boundary_reports((SELECT jsonb_agg(i) FROM generate_series(1, 1001) i))$$, 'ZC400', NULL, 'so are more than a thousand at once');

-- Bad input.
SELECT isnt(coder.agent_rpc(pg_temp.id('agent', 0), 'ReportBoundaryLogs',
	'{"logs": [{"allowed": true}, {"allowed": false, "dns_request": {}}, {"allowed": true, "http_request": null}, {"allowed": true, "http_request": {"method": "GET"}},
			   {"http_request": {}}, {"http_request": {}, "time": "0001-01-01T00:00:00.000000000Z"}]}'), NULL, 'entries of an unknown kind are acknowledged');
SELECT is((SELECT concat_ws(' ', sum(ignored_requests), sum(skewed_requests)) FROM coder.boundary_usage_stats), '3 1', 'and not counted, but as such');
SELECT is(pg_temp.reset(), '1 1 1 2', 'the others are');
SELECT coder.agent_rpc(pg_temp.id('agent', 0), 'ReportBoundaryLogs', '{"logs": [{"allowed": true}]}');
SELECT is((SELECT concat_ws(' ', reports, ignored_requests, unique_users_count) FROM coder.boundary_usage_stats), '0 1 0', 'with nothing else in it a report names nobody');
SELECT isnt(coder.agent_rpc(pg_temp.id('agent', 0), 'ReportBoundaryLogs', '{}'), NULL, 'an empty report');
SELECT is(pg_temp.reset(), '0 0 0 0', 'is nothing');
SELECT coder.agent_rpc(pg_temp.id('agent', 0), 'ReportBoundaryLogs', jsonb_build_object('logs',
	pg_temp.logs(1, 0, coder.ts(now() + interval '1 day')) || pg_temp.logs(0, 1, coder.ts(now() - interval '1 day')) || pg_temp.logs(1, 0)));
SELECT is((SELECT skewed_requests FROM coder.boundary_usage_stats), 2::bigint, 'clocks a day off are noticed');
SELECT is((SELECT concat_ws(' ', c.allowed_requests, c.denied_requests, (SELECT sum(u.allowed) FROM coder.boundary_usage(c.opened_at, c.closed_at) u)) FROM coder.boundary_usage_close() c),
	'2 1 2', 'and move nothing: it is the database''s clock');
SELECT pg_temp.report(0, 9999, 1);
SELECT is(pg_temp.reset(), '1 1 9999 1', 'ten thousand entries in one report');
SELECT throws_ok($$SELECT pg_temp.report(0, 100001, 0)$$, 'ZC400', NULL, 'a hundred thousand are refused');
SELECT throws_ok($$SELECT pg_temp.upsert(1, 1, 1, 1, 1, -1, 2)$$, 'ZC400', NULL, 'negative counts are refused');
SELECT throws_ok($$SELECT pg_temp.upsert(1, 1, 1, 1, 1, 9223372036854775807, 0)$$, 'ZC400', NULL, 'so are huge ones');
SELECT throws_ok($$SELECT pg_temp.upsert(1, 1, 1, 1, 1, NULL, 0)$$, 'ZC400', NULL, 'and none');
SELECT is(pg_temp.reset(), '0 0 0 0', 'nothing of what was refused is counted');
SELECT throws_ok($$SELECT coder.agent_rpc(gen_random_uuid(), 'ReportBoundaryLogs', '{}')$$, 'ZC401', NULL, 'an agent that there is not is refused');
SET LOCAL session_replication_role = replica;
UPDATE coder.workspaces SET latest_build_id = gen_random_uuid() WHERE name = 'workspace-1';
UPDATE coder.workspaces SET deleted = true WHERE name = 'workspace-2';
UPDATE coder.workspace_agents SET deleted = true WHERE id = pg_temp.id('agent', 3);
SET LOCAL session_replication_role = origin;
SELECT throws_ok(format($$SELECT pg_temp.report(%s, 1, 1)$$, i), 'ZC401', NULL, 'so is one of a ' || what)
  FROM (VALUES (1, 'workspace that has a newer build'), (2, 'deleted workspace'), (3, 'resource that lost it')) v(i, what);
SELECT is(pg_temp.reset(), '0 0 0 0', 'and nothing is counted for them');

-- Windows on usage, before and after folding.
DELETE FROM coder.boundary_reports;
INSERT INTO coder.boundary_reports
SELECT t, pg_temp.id('workspace', w), pg_temp.id('user', 0), pg_temp.id('template', 0), :'org', 1, 2
  FROM (VALUES (timestamptz '2026-03-01 10:00:00+00', 0), ('2026-03-01 10:14:59.999999+00', 0), ('2026-03-01 10:15:00+00', 1),
			   ('2026-03-01 22:59:59+00', 0), ('2026-03-01 23:00:00+00', 0)) v(t, w);
CREATE FUNCTION pg_temp.used(a timestamptz, b timestamptz) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', sum(reports), sum(allowed), sum(denied), count(DISTINCT workspace_id)) FROM coder.boundary_usage(a, b)
$$;
SELECT is(pg_temp.used('2026-03-01 10:00+00', '2026-03-01 10:15+00'), '2 2 4 1', 'a window includes its start, not its end');
SELECT is(pg_temp.used('2026-03-01 10:14:59.999999+00', '2026-03-01 10:15:00.000001+00'), '2 2 4 2', 'to the microsecond');
SELECT is(pg_temp.used('-infinity', 'infinity'), '5 5 10 2', 'windows may be open');
SELECT is((SELECT string_agg(day || ':' || n, ' ' ORDER BY day) FROM (SELECT day, sum(reports) n FROM coder.boundary_usage('-infinity', 'infinity', 'Europe/Berlin') GROUP BY 1) d),
	'2026-03-01:4 2026-03-02:1', 'days are those of the zone');
SELECT is(coder.boundary_fold('2026-03-01 22:59:59.5+00', 3), 3, 'older reports are folded, some at a time');
SELECT is(pg_temp.used('-infinity', 'infinity'), '5 5 10 2', 'which changes no sum');
SELECT is(coder.boundary_fold('2026-03-01 22:59:59.5+00'), 1, 'and the rest');
SELECT is(pg_temp.used('2026-03-01 10:00+00', '2026-03-01 10:15+00'), '2 2 4 1', 'nor that of a quarter of an hour');
SELECT is((SELECT string_agg(day || ':' || n, ' ' ORDER BY day) FROM (SELECT day, sum(reports) n FROM coder.boundary_usage('-infinity', 'infinity', 'Europe/Berlin') GROUP BY 1) d),
	'2026-03-01:4 2026-03-02:1', 'nor that of a day');
SELECT throws_ok($$SELECT * FROM coder.boundary_usage('2026-03-01 10:07+00', 'infinity')$$, '22023', NULL, 'a window that cuts what is folded is refused, not guessed');
SELECT lives_ok($$SELECT * FROM coder.boundary_usage('2026-03-01 23:07+00', 'infinity')$$, 'one that cuts nothing is not');
SELECT results_eq($$SELECT organization_id, template_id, workspace_id, user_id FROM coder.boundary_usage('2026-03-01 10:15+00', '2026-03-01 10:30+00')$$,
	$$SELECT (SELECT id FROM coder.organizations WHERE is_default), pg_temp.id('template', 0), pg_temp.id('workspace', 1), pg_temp.id('user', 0)$$, 'who and where');

-- By time.
INSERT INTO coder.boundary_batches SELECT gen_random_uuid(), gen_random_uuid(), now() - h * interval '1 hour' FROM (VALUES (25), (23)) v(h);
DELETE FROM coder.tick_state WHERE name = 'boundary_usage';
SELECT pg_temp.report(0, 1, 1);
SELECT is(coder.tick_boundary_period(now()), 1, 'S9: a period ends by itself');
SELECT is(coder.tick_boundary_period(now() + interval '29 min'), 0, 'not again before half an hour is over');
SELECT is((SELECT unique_workspaces FROM coder.boundary_usage_periods WHERE closed_at IS NOT NULL ORDER BY period DESC LIMIT 1), 1::bigint, 'with its sums');
SELECT coder.tick_boundary(now());
SELECT is((SELECT count(*) FROM coder.boundary_usage_workspaces) + (SELECT count(*) FROM coder.boundary_usage_users), 0::bigint, 'the sets of closed periods go');
SELECT is((SELECT count(*) FROM coder.boundary_batches WHERE at < now() - interval '24 h'), 0::bigint, 'B28: so do batch ids after a day');
SELECT isnt((SELECT count(*) FROM coder.boundary_batches), 0::bigint, 'B28: not before');
SELECT ok(coder.boundary_purge(now() + interval '181 days') > 0, 'old usage goes');
SELECT is((SELECT count(*) FROM coder.boundary_usage_quarters) + (SELECT count(*) FROM coder.boundary_usage_periods WHERE closed_at IS NOT NULL), 0::bigint, 'all of it');

-- By SQL: of workspaces that one may read.
DELETE FROM coder.boundary_reports;
INSERT INTO coder.boundary_reports
SELECT now(), pg_temp.id('workspace', w), u, pg_temp.id('template', 0), :'org', 1, 0
  FROM (VALUES (0, pg_temp.id('user', 0)), (1, pg_temp.id('user', 0)), (2, '00000000-0000-4000-8000-00000000000b')) v(w, u);
INSERT INTO coder.boundary_usage_quarters
SELECT '2026-01-05 10:15+00', pg_temp.id('workspace', w), u, pg_temp.id('template', 0), :'org', 1, 10, 0
  FROM (VALUES (0, pg_temp.id('user', 0)), (2, '00000000-0000-4000-8000-00000000000b')) v(w, u);
INSERT INTO coder.organization_members (user_id, organization_id) VALUES ('00000000-0000-4000-8000-00000000000b', :'org') ON CONFLICT DO NOTHING;
CREATE FUNCTION pg_temp.sees(who text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	seen text;
BEGIN
	PERFORM coder.become(who, true);
	SELECT concat_ws(' ', count(DISTINCT workspace_id), sum(allowed)) INTO seen FROM coder.boundary_usage('-infinity', 'infinity');
	RETURN seen;
END
$$;
SET LOCAL ROLE coder_admin;
SELECT is((SELECT concat_ws(' ', count(DISTINCT workspace_id), sum(allowed)) FROM coder.boundary_usage('-infinity', 'infinity')), '3 23', 'coder_admin sees what all boundaries reported');
SELECT is(pg_temp.sees('bob'), '1 11', 'bob that of his workspace');
RESET ROLE;

-- B21: who may.
CREATE FUNCTION pg_temp.may(role text, action text) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
	PERFORM coder.set_subject_roles('00000000-0000-4000-8000-00000000000b', ARRAY[role]);
	RETURN coder.can(action, 'boundary_usage');
END
$$;
SELECT is(pg_temp.may(r, a), false, 'B21: ' || r || ' may not ' || a)
  FROM unnest('{owner,member,template-admin,user-admin,auditor}'::text[]) r, unnest('{read,update,delete}'::text[]) a;
SET LOCAL ROLE coder_admin;
SELECT throws_ok('SELECT coder.boundary_usage_close()', '42501', NULL, 'B21: nor by SQL');
SELECT throws_ok('SELECT * FROM coder.boundary_usage_stats', '42501', NULL, 'B21: nor read the table');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
