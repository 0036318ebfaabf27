-- activity.sql -- samples of agents and clients: what is stored, what is clamped, what a workspace gains; days of zones; the deployment's sums
BEGIN;
\i api.psql
\set n 12
\i workspaces.psql
SET LOCAL session_replication_role = origin;
DELETE FROM coder.workspace_agent_stats;
SELECT no_plan();
SELECT token_of('boss', '{owner}') AS boss, token_of('member0') AS member, token_of('member1') AS other, token_of('watcher', '{auditor}') AS watcher \gset
SELECT pg_temp.id('template', 0) AS t0, pg_temp.id('template', 1) AS t1, pg_temp.id('agent', 0) AS a0, pg_temp.id('workspace', 0) AS w0 \gset

CREATE FUNCTION pg_temp.report(i int, stats jsonb) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT coder.rpc_update_stats(pg_temp.id('agent', i), jsonb_build_object('stats', stats)) $$;
CREATE FUNCTION pg_temp.last() RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', connection_count, rx_packets, rx_bytes, tx_packets, tx_bytes, connection_median_latency_ms, session_count_vscode,
		session_count_jetbrains, session_count_reconnecting_pty, session_count_ssh, usage) FROM coder.workspace_agent_stats ORDER BY created_at DESC LIMIT 1 $$;
CREATE FUNCTION pg_temp.faults() RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', sum(negative), sum(excessive), sum(skewed)) FROM coder.workspace_agent_sample_faults $$;

-- What is stored.
SELECT is(pg_temp.report(0, NULL) ->> 'report_interval', '30000000000', 'the interval');
SELECT is((SELECT count(*) FROM coder.workspace_agent_stats), 0::bigint, 'no sample in a question for it');
SELECT lives_ok($$SELECT pg_temp.report(0, '{"connection_count": 2, "rx_packets": 3, "rx_bytes": 4, "tx_packets": 5, "tx_bytes": 6, "connection_median_latency_ms": 7.5,
	"session_count_vscode": 1, "session_count_jetbrains": 2, "session_count_reconnecting_pty": 3, "session_count_ssh": 4, "connections_by_proto": {"TCP": 2}}')$$, 'a sample');
SELECT is(pg_temp.last(), '2 3 4 5 6 7.5 1 2 3 4 f', 'is stored as it is');
SELECT is(pg_temp.faults(), '', 'without a fault');
SELECT is((SELECT s.user_id = w.owner_id AND s.template_id = w.template_id AND s.connections_by_proto = '{"TCP": 2}' FROM coder.workspace_agent_stats s, coder.workspaces w
	WHERE w.id = :'w0'), true, 'whose it is, is the agent''s row''s word');
SELECT pg_temp.report(0, '{"connection_count": -2, "rx_packets": -3, "rx_bytes": -4, "tx_packets": 5, "tx_bytes": 6, "connection_median_latency_ms": -0.001, "session_count_ssh": -1}') \gset x
SELECT is(pg_temp.last(), '0 0 0 5 6 -1 0 0 0 0 f', 'nothing is below zero');
SELECT is(pg_temp.faults(), '4 0 0', 'and that is counted');
SELECT pg_temp.report(0, '{"connection_count": 9223372036854775807, "rx_bytes": 9223372036854775807, "tx_bytes": 9223372036854775807, "rx_packets": 9223372036854775807, "connection_median_latency_ms": 3.6e6}') \gset x
SELECT is(pg_temp.last(), '1000000 1000000000000 1000000000000000 0 1000000000000000 3600000 0 0 0 0 f', 'nor what no interval can hold');
SELECT is(pg_temp.faults(), '4 3 0', 'each kind counts');
SELECT lives_ok($$SELECT pg_temp.report(0, '{"connection_count": 9223372036854775807, "rx_bytes": 9223372036854775807, "tx_bytes": 9223372036854775807}'), coder.deployment_report()$$, 'and sums of them do not overflow');
SELECT pg_temp.report(0, jsonb_build_object('connection_median_latency_ms', l)) FROM unnest('{NaN,Infinity,1e300}'::text[]) l \g /dev/null
SELECT is((SELECT count(*) FROM coder.workspace_agent_stats WHERE connection_median_latency_ms > 3.6e6 OR connection_median_latency_ms = 'NaN'), 0::bigint, 'a latency that is no number is not known');
SELECT is(pg_temp.faults(), '4 8 0', 'and counted');
SELECT pg_temp.report(0, jsonb_build_object('connections_by_proto', (SELECT jsonb_object_agg(repeat('x', 90) || g, 1) FROM generate_series(1, 60) g))) \gset x
SELECT is((SELECT connections_by_proto FROM coder.workspace_agent_stats ORDER BY created_at DESC LIMIT 1), '{}', 'a map of thousands of names is not kept');
SELECT coder.rpc_report_connection(coder.agent_context(:'a0'), jsonb_build_object('connection', jsonb_build_object('id', replace(gen_random_uuid()::text, '-', ''), 'action', 'CONNECT', 'type', 'SSH',
	'timestamp', now() + interval '1 day'))) \gset x
SELECT ok((SELECT max(connect_time) FROM coder.connection_logs) <= clock_timestamp(), 'no session begins tomorrow');
SELECT is(pg_temp.faults(), '4 9 1', 'a clock a day off is counted');

-- POST /workspaces/{workspace}/usage.
CREATE FUNCTION pg_temp.use(body jsonb, token text, w text DEFAULT pg_temp.id('workspace', 0)::text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	a record;
BEGIN
	SELECT * INTO a FROM public.api('POST', '/api/v2/workspaces/' || w || '/usage', body, token);
	RETURN concat_ws(' ', a.status, a.body_ #>> '{validations,0,field}', (SELECT count(*) FROM coder.workspace_agent_stats WHERE usage));
END
$$;
UPDATE coder.workspaces SET last_used_at = '2020-01-01' WHERE id = :'w0';
SELECT is(pg_temp.use(NULL, :'member'), '204 0', 'use without words');
SELECT ok(last_used_at > now() - interval '1 minute', 'is the last use') FROM coder.workspaces WHERE id = :'w0';
SELECT is(pg_temp.use(jsonb_build_object('agent_id', :'a0', 'app_name', 'ssh'), :'member'), '204 0', 'words are for the experiment');
SELECT is(pg_temp.use(jsonb_build_object('agent_id', :'a0', 'app_name', 'ssh'), :'other'), '404 0', 'not another''s workspace');
INSERT INTO coder.settings (name, value) VALUES ('experiments', 'workspace-usage') ON CONFLICT (name) DO UPDATE SET value = excluded.value;
SELECT is(pg_temp.use(b, :'member'), answer, what) FROM (VALUES
	(NULL::jsonb, '204 0', 'no body'), ('{}', '204 0', 'an empty body'), ('{"app_name": "ssh"}', '400 agent_id 0', 'no agent'),
	(jsonb_build_object('agent_id', :'a0'), '400 app_name 0', 'no app'), (jsonb_build_object('agent_id', :'a0', 'app_name', 'emacs'), '400 app_name 0', 'an unknown app'),
	(jsonb_build_object('agent_id', gen_random_uuid(), 'app_name', 'ssh'), '404 0', 'an unknown agent'),
	(jsonb_build_object('agent_id', pg_temp.id('agent', 1), 'app_name', 'ssh'), '404 0', 'an agent of another workspace'),
	(jsonb_build_object('agent_id', 'x', 'app_name', 'ssh'), '400 0', 'no UUID')) t (b, answer, what);
UPDATE coder.workspace_builds SET deadline = now() + interval '5 min', max_deadline = '0001-01-01' WHERE id = (SELECT latest_build_id FROM coder.workspaces WHERE id = :'w0');
SELECT is(pg_temp.use(jsonb_build_object('agent_id', :'a0', 'app_name', a), :'member'), '204 ' || n, 'one sample of ' || a)
  FROM unnest('{vscode,jetbrains,reconnecting-pty,ssh}'::text[]) WITH ORDINALITY x (a, n);
SELECT ok(deadline > now() + interval '50 min', 'the deadline moves') FROM coder.workspace_builds WHERE id = (SELECT latest_build_id FROM coder.workspaces WHERE id = :'w0');
SELECT is((SELECT concat_ws(' ', sum(connection_count), sum(session_count_vscode), sum(session_count_jetbrains), sum(session_count_reconnecting_pty), sum(session_count_ssh))
	FROM coder.workspace_agent_stats WHERE usage), '4 1 1 1 1', 'each of its kind');
SELECT pg_temp.report(0, '{"connection_count": 3, "session_count_ssh": 3}') \gset x
SELECT is(pg_temp.last(), '3 0 0 0 0 -1 0 0 0 0 f', 'then agents'' sessions are not counted again');
SELECT is(coder.deployment_report() -> 'session_count', '{"vscode": 1, "ssh": 1, "jetbrains": 1, "reconnecting_pty": 1}', 'as the deployment''s sums say');
UPDATE coder.settings SET value = '' WHERE name = 'experiments';

-- The deployment's sums.
DELETE FROM coder.workspace_agent_stats;
DELETE FROM coder.kept_reports;
CREATE FUNCTION pg_temp.sample(i int, age interval, latency float8, ssh int, vscode int, bytes bigint) RETURNS void LANGUAGE sql AS $$
	INSERT INTO coder.workspace_agent_stats (created_at, user_id, agent_id, workspace_id, template_id, connection_count, session_count_ssh, session_count_vscode,
		connection_median_latency_ms, rx_bytes, tx_bytes)
	SELECT clock_timestamp() - age, w.owner, pg_temp.id('agent', i), w.id, w.template, 1, ssh, vscode, latency, bytes, 2 * bytes FROM w WHERE w.i = sample.i $$;
SELECT pg_temp.sample(0, '10 s', 10, 2, 1, 100), pg_temp.sample(0, '40 s', 20, 5, 5, 100), pg_temp.sample(1, '20 s', 30, 1, 0, 1000),
	pg_temp.sample(2, '14 min', 40, 7, 0, 5), pg_temp.sample(3, '16 min', 9999, 1, 1, 1000000), pg_temp.sample(4, '5 s', -1, 0, 0, 0) \g /dev/null
SELECT is(body_ -> 'session_count', '{"vscode": 1, "ssh": 3, "jetbrains": 0, "reconnecting_pty": 0}', 'sessions of each agent''s newest sample; those of an agent that fell silent are over')
  FROM public.api('GET', '/api/v2/deployment/stats', NULL, :'boss');
SELECT is((body_ -> 'workspaces') - '{pending,building,running,failed,stopped}'::text[],
	'{"rx_bytes": 1205, "tx_bytes": 2410, "connection_latency_ms": {"P50": 25, "P95": 38.5}}', 'bytes and latency of fifteen minutes')
  FROM public.api('GET', '/api/v2/deployment/stats', NULL, :'boss');
SELECT is((SELECT sum(value::int) FROM jsonb_each_text((body_ -> 'workspaces') - '{rx_bytes,tx_bytes,connection_latency_ms}'::text[])),
	(SELECT count(*) FROM coder.workspaces WHERE NOT deleted AND latest_build_id IS NOT NULL), 'each workspace is in one state') FROM public.api('GET', '/api/v2/deployment/stats', NULL, :'boss');
SELECT pg_temp.sample(5, '1 s', 1, 100, 0, 0) \g /dev/null
SELECT is(body_ #>> '{session_count,ssh}', '3', 'made once an interval') FROM public.api('GET', '/api/v2/deployment/stats', NULL, :'boss');
UPDATE coder.kept_reports SET made_at = made_at - interval '30 s';
SELECT is(body_ #>> '{session_count,ssh}', '103', 'and then anew') FROM public.api('GET', '/api/v2/deployment/stats', NULL, :'boss');
UPDATE coder.kept_reports SET made_at = made_at + interval '1 day', report = '{}';
SELECT is(body_ #>> '{session_count,ssh}', '103', 'nor is one of the future taken') FROM public.api('GET', '/api/v2/deployment/stats', NULL, :'boss');
SELECT is(status, 403, 'for those who may') FROM public.api('GET', '/api/v2/deployment/stats', NULL, :'member');

-- Days of a zone: clocks in Paris changed on 2026-03-29 (23 hours) and 2026-10-25 (25 hours); in St. John's half an hour is between, in Nepal three quarters.
DELETE FROM coder.workspace_agent_stats;
DELETE FROM coder.template_usage_stats;
CREATE FUNCTION pg_temp.used(at timestamptz, i int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO coder.template_usage_stats (start_time, end_time, template_id, user_id, usage_mins, ssh_mins, sftp_mins, reconnecting_pty_mins, vscode_mins, jetbrains_mins)
	VALUES (at, at + interval '30 min', pg_temp.id('template', 0), pg_temp.id('user', i), 5, 5, 0, 0, 0, 0) $$;
SELECT pg_temp.used('2026-03-28 22:30Z', 0), pg_temp.used('2026-03-28 23:00Z', 1), pg_temp.used('2026-03-29 21:30Z', 2), pg_temp.used('2026-03-29 22:00Z', 3), pg_temp.used('2026-03-29 22:30Z', 4) \g /dev/null
CREATE FUNCTION pg_temp.days(query text, token text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', i ->> 'start_time', i ->> 'active_users'), ', ') FROM public.api('GET', '/api/v2/insights/templates?sections=interval_reports&interval=day&' || query, NULL, token) a,
		jsonb_array_elements(a.body_ -> 'interval_reports') i $$;
SELECT is(pg_temp.days('timezone=Europe/Paris&start_time=2026-03-28T00:00:00%2B01:00&end_time=2026-03-31T00:00:00%2B02:00', :'boss'),
	'2026-03-28T00:00:00+01:00 1, 2026-03-29T00:00:00+01:00 2, 2026-03-30T00:00:00+02:00 2', 'the day when clocks go forward has 23 hours');
SELECT is(pg_temp.days('start_time=2026-03-28T00:00:00%2B01:00&end_time=2026-03-31T00:00:00%2B01:00', :'boss'),
	'2026-03-28T00:00:00+01:00 1, 2026-03-29T00:00:00+01:00 4, 2026-03-30T00:00:00+01:00 0', 'without a zone''s name, days are the offset''s');
SELECT is(pg_temp.days('timezone=Europe/Paris&start_time=2026-10-24T00:00:00%2B02:00&end_time=2026-10-26T00:00:00%2B01:00', :'boss'),
	'2026-10-24T00:00:00+02:00 0, 2026-10-25T00:00:00+02:00 0', 'and the one when they go back 25');
SELECT is(pg_temp.days('timezone=Asia/Kathmandu&start_time=2026-03-28T00:00:00%2B05:45&end_time=2026-03-31T00:00:00%2B05:45', :'boss'),
	'2026-03-28T00:00:00+05:45 0, 2026-03-29T00:00:00+05:45 2, 2026-03-30T00:00:00+05:45 3', 'a half hour over midnight is in one day');
SELECT is(pg_temp.days('timezone=Mars/Olympus&start_time=2026-03-28T00:00:00Z&end_time=2026-03-31T00:00:00Z', :'boss'), NULL, 'no days of an unknown zone');
DELETE FROM coder.template_usage_stats;
-- Users by day: the last half hour of yesterday and the first of today, in zones at both ends of the world.
CREATE FUNCTION pg_temp.amounts(query text, token text, path text DEFAULT '/api/v2/insights/daus') RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', a.status, jsonb_array_length(a.body_ -> 'entries'), a.body_ -> 'tz_hour_offset', a.body_ #> '{entries,-3,amount}', a.body_ #> '{entries,-2,amount}', a.body_ #> '{entries,-1,amount}',
		coalesce((a.body_ #>> '{entries,-1,date}')::date - (a.body_ #>> '{entries,0,date}')::date, 0)) FROM public.api('GET', path || '?' || query, NULL, token) a $$;
SELECT pg_temp.used(d - interval '30 min', 0), pg_temp.used(d - interval '30 min', 1), pg_temp.used(d, 2)
  FROM (SELECT date_trunc('day', clock_timestamp() AT TIME ZONE 'Pacific/Kiritimati') AT TIME ZONE 'Pacific/Kiritimati' AS d) x \g /dev/null
SELECT is(pg_temp.amounts('tz_offset=14', :'boss'), '200 61 14 0 2 1 60', 'midnight is the zone''s');
SELECT is(pg_temp.amounts('timezone=Pacific/Kiritimati', :'boss'), '200 61 14 0 2 1 60', 'by its name');
SELECT is(pg_temp.amounts('tz_offset=14', :'boss', '/api/v2/templates/' || :'t0' || '/daus'), '200 61 14 0 2 1 60', 'of a template');
SELECT is(pg_temp.amounts('tz_offset=14', :'boss', '/api/v2/templates/' || :'t1' || '/daus'), '200 61 14 0 0 0 60', 'of another');
DELETE FROM coder.template_usage_stats;
SELECT pg_temp.used(d - interval '30 min', 0), pg_temp.used(d - interval '30 min', 1), pg_temp.used(d, 2)
  FROM (SELECT date_trunc('day', clock_timestamp() AT TIME ZONE '<Z>+12') AT TIME ZONE '<Z>+12' AS d) x \g /dev/null
SELECT is(pg_temp.amounts('tz_offset=-12', :'boss'), '200 61 -12 0 2 1 60', 'west of Greenwich too');
SELECT is(pg_temp.amounts(q, t), answer, q) FROM (VALUES ('tz_offset=15', :'boss', '400 0'), ('tz_offset=x', :'boss', '400 0'), ('timezone=Nowhere/At', :'boss', '400 0'),
	('timezone=UTC&tz_offset=1', :'boss', '400 0'), ('tz_offset=0', :'member', '403 0')) v (q, t, answer);

-- One workspace over time.
DELETE FROM coder.workspace_agent_stats;
SELECT date_trunc('day', now()) - interval '2 days' AS day \gset
INSERT INTO coder.workspace_agent_stats (created_at, user_id, agent_id, workspace_id, template_id, connection_count, rx_bytes, tx_bytes, connection_median_latency_ms, session_count_ssh)
SELECT :'day'::timestamptz + n * interval '30 s', w.owner, a, w.id, w.template, 1, 10, 1, l, ssh FROM w,
	(VALUES (0, :'a0'::uuid, 10.0, 1), (1, :'a0', 20, 3), (1, gen_random_uuid(), -1, 2), (20, :'a0', -1, 0), (2880, :'a0', 5, 1)) v (n, a, l, ssh) WHERE w.i = 0;
CREATE FUNCTION pg_temp.points(query text, token text, OUT answer text) LANGUAGE sql AS $$
	SELECT concat_ws(' ', a.status, a.body_ -> 'step_seconds', (SELECT string_agg(concat_ws(':', extract(epoch FROM (p ->> 'time')::timestamptz - (a.body_ ->> 'start_time')::timestamptz)::int,
		p -> 'rx_bytes', p -> 'ssh', coalesce(p #>> '{latency_ms,p50}', '-')), ' ') FROM jsonb_array_elements(a.body_ -> 'points') p))
	  FROM public.api('GET', '/api/v2/workspaces/' || pg_temp.id('workspace', 0) || '/agent-stats?' || query, NULL, token) a $$;
SELECT to_char(:'day'::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day0, to_char(:'day'::timestamptz AT TIME ZONE 'UTC' + interval '1 day', 'YYYY-MM-DD') AS day1 \gset
SELECT is(pg_temp.points(format('start_time=%sT00:00:00Z&end_time=%sT01:00:00Z', :'day0', :'day0'), :'member'), '200 30 0:10:1:10 30:20:5:20 600:10:0:-', 'each sample of an hour');
SELECT is(pg_temp.points(format('start_time=%sT00:00:00Z&end_time=%sT01:00:00Z&agent_id=%s', :'day0', :'day0', :'a0'), :'member'), '200 30 0:10:1:10 30:10:3:20 600:10:0:-', 'of one agent');
SELECT is(pg_temp.points(format('start_time=%sT00:00:00Z&end_time=%sT00:00:00Z', :'day0', :'day1'), :'member'), '200 900 0:40:5:15', 'fewer of a day');
SELECT is(pg_temp.points(q, t), answer, q) FROM (VALUES ('start_time=x', :'member', '400'), ('start_time=2026-01-02T00:00:00Z&end_time=2026-01-01T00:00:00Z', :'member', '400'),
	('start_time=2020-01-02T00:00:00Z&end_time=2026-01-01T00:00:00Z', :'member', '400'), ('agent_id=x', :'member', '400'), ('', :'other', '404'), ('', :'boss', '200 900')) v (q, t, answer);

-- What boundaries let through.
CREATE FUNCTION pg_temp.boundaries(query text, token text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', a.status, nullif(concat_ws('/', a.body_ #> '{report,total,allowed}', a.body_ #> '{report,total,denied}', a.body_ #> '{report,total,users}', a.body_ #> '{report,total,workspaces}'), ''),
		(SELECT string_agg(concat_ws(':', p ->> 'name', p -> 'allowed', p -> 'denied', p -> 'users'), ' ') FROM jsonb_array_elements(a.body_ #> '{report,rows}') p))
	  FROM public.api('GET', '/api/v2/insights/boundary-usage?' || query, NULL, token) a $$;
INSERT INTO coder.boundary_reports (at, organization_id, template_id, workspace_id, user_id, allowed, denied)
SELECT :'day'::timestamptz + h * interval '1 hour', (SELECT x.organization_id FROM coder.workspaces x WHERE x.id = w.id), w.template, w.id, w.owner, a, d
  FROM w JOIN (VALUES (0, 1, 5, 1), (0, 23, 7, 0), (1, 30, 100, 50)) v (i, h, a, d) USING (i);
SELECT format('start_time=%sT00:00:00Z&end_time=%sT12:00:00Z', :'day0', :'day1') AS span \gset
SELECT is(pg_temp.boundaries(:'span', :'boss'), format('200 112/51/1/2 %s:12:1:1 %s:100:50:1', :'day0', :'day1'), 'by day');
SELECT is(pg_temp.boundaries('timezone=Europe/Paris&' || :'span', :'boss'), format('200 112/51/1/2 %s:5:1:1 %s:107:50:1', :'day0', :'day1'), 'of a zone');
SELECT is(pg_temp.boundaries('by=workspace&' || :'span', :'boss'), (SELECT format('200 112/51/1/2 %s:100:50:1 %s:12:1:1', max(n) FILTER (WHERE i = 1), max(n) FILTER (WHERE i = 0))
	FROM (SELECT w.i, u.username || '/' || x.name AS n FROM w JOIN coder.workspaces x ON x.id = w.id JOIN coder.users u ON u.id = x.owner_id WHERE w.i < 2) z), 'by workspace, the busiest first');
SELECT is(pg_temp.boundaries('by=user&template_ids=' || :'t0' || '&' || :'span', :'boss'), '200 12/1/1/1 member0:12:1:1', 'of a template');
SELECT is(pg_temp.boundaries('by=template&' || :'span', :'watcher'), '200 112/51/1/2 template-1:100:50:1 template-0:12:1:1', 'for auditors too');
SELECT is(pg_temp.boundaries(q, t), answer, q) FROM (VALUES ('by=moon', :'boss', '400'), ('timezone=x', :'boss', '400'), ('', :'member', '404'), ('template_ids=x', :'boss', '400')) v (q, t, answer);
DELETE FROM coder.boundary_reports;
INSERT INTO coder.boundary_usage_quarters (quarter, organization_id, template_id, workspace_id, user_id, reports, allowed, denied)
SELECT date_bin('15 min', clock_timestamp() - interval '1 day', '2000-01-01 00:00:00+00'), (SELECT x.organization_id FROM coder.workspaces x WHERE x.id = w.id), w.template, w.id, w.owner, 1, 3, 1 FROM w WHERE w.i = 0;
SELECT is(pg_temp.boundaries('by=user', :'boss'), '200 3/1/1/1 member0:3:1:1', 'without a start it is a day, and does not cut the quarter of an hour that it begins in');
SELECT is(pg_temp.boundaries('by=user&start_time=' || to_char((SELECT q.quarter AT TIME ZONE 'UTC' FROM coder.boundary_usage_quarters q), 'YYYY-MM-DD"T"HH24:MI":01Z"'), :'boss'), '400', 'a start that does is refused');
DELETE FROM coder.boundary_usage_quarters;

-- T10: one slug by path and by subdomain in the same half hour.
SELECT date_trunc('hour', now()) - interval '2 hours' AS hour \gset
DELETE FROM coder.template_usage_stats;
DELETE FROM coder.workspace_agent_stats;
INSERT INTO coder.workspace_app_stats (user_id, workspace_id, agent_id, access_method, slug_or_port, session_id, session_started_at, session_ended_at, requests)
SELECT w.owner, w.id, :'a0', m, 'code', gen_random_uuid(), :'hour'::timestamptz + since * interval '1 min', :'hour'::timestamptz + until * interval '1 min', 1
  FROM w, (VALUES ('path', 0, 10), ('subdomain', 5, 17)) v (m, since, until) WHERE w.i = 0;
SELECT coder.rollup_usage(now()) \g /dev/null
SELECT is((SELECT app_usage_mins FROM coder.template_usage_stats), '{"code": 17}', 'minutes of an app opened by path and by subdomain are one set');

-- Without samples.
INSERT INTO coder.settings (name, value) VALUES ('stats_collection_usage_stats_enable', 'false') ON CONFLICT (name) DO UPDATE SET value = excluded.value;
UPDATE coder.workspaces SET last_used_at = '2020-01-01' WHERE id = :'w0';
SELECT pg_temp.report(0, '{"connection_count": 1, "session_count_ssh": 1}') \g /dev/null
SELECT is((SELECT count(*) FROM coder.workspace_agent_stats), 0::bigint, 'where usage is not collected nothing is stored');
SELECT ok(last_used_at > now() - interval '1 minute', 'but the workspace is used') FROM coder.workspaces WHERE id = :'w0';
SELECT is(concat_ws(' ', a.status, a.body_ ->> 'detail'), '404 Template insights are disabled.', q) FROM unnest('{daus,templates,user-activity,user-latency}'::text[]) q,
	public.api('GET', '/api/v2/insights/' || q || '?start_time=2026-03-28T00:00:00Z&end_time=2026-03-29T00:00:00Z', NULL, :'boss') a WHERE q <> 'daus'
	UNION ALL SELECT is(concat_ws(' ', a.status, a.body_ ->> 'detail'), '404 Template insights are disabled.', 'daus') FROM public.api('GET', '/api/v2/insights/daus', NULL, :'boss') a;
SELECT is(status, 200, 'users'' status is no usage') FROM public.api('GET', '/api/v2/insights/user-status-counts?tz_offset=0', NULL, :'boss');
DELETE FROM coder.settings WHERE name = 'stats_collection_usage_stats_enable';

-- How far work moves a deadline: where it was (past is below zero), the next autostart, times to live of workspace and template, the bump, the latest deadline.
CREATE FUNCTION pg_temp.bumped(zone text, deadline interval, autostart interval, ttl interval, template_ttl interval, bump interval, most interval, own_stop boolean,
	transition text, done boolean) RETURNS interval LANGUAGE plpgsql AS $$
DECLARE
	at CONSTANT timestamptz := date_trunc('minute', clock_timestamp());
	b uuid := (SELECT latest_build_id FROM coder.workspaces WHERE id = pg_temp.id('workspace', 0));
	w coder.workspaces;
	s timestamp := (at + autostart) AT TIME ZONE 'UTC';
BEGIN
	PERFORM set_config('TimeZone', zone, true);
	SET LOCAL session_replication_role = replica;
	UPDATE coder.templates SET activity_bump = extract(epoch FROM bump) * 1000000000, default_ttl = extract(epoch FROM template_ttl) * 1000000000, allow_user_autostop = own_stop,
		allow_user_autostart = true, autostart_block_days_of_week = 0 WHERE id = (SELECT template_id FROM coder.workspaces x WHERE x.id = pg_temp.id('workspace', 0));
	UPDATE coder.workspaces x SET ttl = extract(epoch FROM bumped.ttl) * 1000000000,
		autostart_schedule = CASE WHEN autostart IS NOT NULL THEN format('CRON_TZ=UTC %s %s * * *', extract(minute FROM s), extract(hour FROM s)) END WHERE x.id = pg_temp.id('workspace', 0) RETURNING * INTO w;
	UPDATE coder.workspace_builds x SET deadline = coalesce(at + bumped.deadline, '0001-01-01 00:00:00+00'), max_deadline = coalesce(at + most, '0001-01-01 00:00:00+00'),
		transition = bumped.transition::coder.workspace_transition WHERE x.id = b;
	UPDATE coder.provisioner_jobs j SET completed_at = CASE WHEN done THEN at END WHERE j.id = (SELECT job_id FROM coder.workspace_builds x WHERE x.id = b);
	SET LOCAL session_replication_role = origin;
	PERFORM coder.bump_activity(w, at);
	RETURN (SELECT nullif(x.deadline, '0001-01-01 00:00:00+00') - at FROM coder.workspace_builds x WHERE x.id = b);
END
$$;
SELECT is(pg_temp.bumped(z, dl, start, ttl, tttl, bump, most, own, tr, done), want, what || ' in ' || z) FROM (VALUES
	('the job is not over', interval '-1 min', NULL::interval, interval '8 h', interval '0', interval '1 h', NULL::interval, true, 'start', false, interval '-1 min'),
	('no deadline', NULL, NULL, '0', '0', '1 h', NULL, true, 'start', true, NULL),
	('a fresh one', '8 h', NULL, '8 h', '0', '1 h', NULL, true, 'start', true, '8 h'),
	('a far one', '7 h 30 min', NULL, '8 h', '0', '1 h', NULL, true, 'start', true, '7 h 30 min'),
	('past by half an hour', '-30 min', NULL, '8 h', '0', '1 h', NULL, true, 'start', true, '1 h'),
	('past by a minute', '-1 min', NULL, '8 h', '0', '1 h', NULL, true, 'start', true, '1 h'),
	('a stop', '-1 min', NULL, '8 h', '0', '1 h', NULL, true, 'stop', true, '-1 min'),
	('no bump', '-1 min', NULL, '8 h', '0', '0', NULL, true, 'start', true, '-1 min'),
	('five hours', '-30 min', NULL, '8 h', '0', '5 h', NULL, true, 'start', true, '5 h'),
	('to the latest', '-1 min', NULL, '8 h', '0', '1 h', '30 min', true, 'start', true, '30 min'),
	('over an autostart', '-30 min', '30 min', '8 h', '0', '1 h', NULL, true, 'start', true, '8 h 30 min'),
	('over one by the template''s time', '-30 min', '30 min', '8 h', '10 h', '1 h', NULL, false, 'start', true, '10 h 30 min'))
	t (what, dl, start, ttl, tttl, bump, most, own, tr, done, want), unnest('{UTC,Asia/Kolkata,America/St_Johns,Europe/Paris,America/Phoenix}'::text[]) z;

SELECT * FROM finish();
ROLLBACK;
