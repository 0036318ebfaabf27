-- usage.sql -- who used templates and apps, counted from samples of agents and sessions with apps
BEGIN;
\i api.psql
\set n 12
\i workspaces.psql
SET LOCAL session_replication_role = origin;
DELETE FROM coder.workspace_agent_stats;
SELECT no_plan();

SELECT token_of('boss', '{owner}') AS boss, token_of('watcher', '{auditor}') AS watcher, token_of('member0') AS member \gset
SELECT pg_temp.id('template', 0) AS t0, pg_temp.id('template', 1) AS t1, pg_temp.id('user', 0) AS u0, pg_temp.id('user', 1) AS u1,
	   to_char(now() AT TIME ZONE 'UTC' - interval '1 day', 'YYYY-MM-DD') AS day, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS today,
	   to_char(now() AT TIME ZONE 'UTC' - interval '2 days', 'YYYY-MM-DD') AS before \gset
\set whole 'start_time=' :day 'T00:00:00Z&end_time=' :today 'T00:00:00Z'

CREATE FUNCTION pg_temp.sample(i int, moment timestamptz, connections int, ssh int, pty int, vscode int, latency float8) RETURNS void LANGUAGE sql AS $$
	INSERT INTO coder.workspace_agent_stats (created_at, user_id, agent_id, workspace_id, template_id, connection_count, session_count_ssh,
		session_count_reconnecting_pty, session_count_vscode, connection_median_latency_ms)
	SELECT moment, w.owner, pg_temp.id('agent', i), w.id, w.template, connections, ssh, pty, vscode, latency FROM w WHERE w.i = sample.i $$;
CREATE FUNCTION pg_temp.session(i int, slug text, began timestamptz, ended timestamptz) RETURNS void LANGUAGE sql AS $$
	INSERT INTO coder.workspace_app_stats (user_id, workspace_id, agent_id, access_method, slug_or_port, session_id, session_started_at, session_ended_at, requests)
	SELECT w.owner, w.id, pg_temp.id('agent', i), 'path', slug, gen_random_uuid(), began, ended, 1 FROM w WHERE w.i = session.i $$;
CREATE FUNCTION pg_temp.ask(query text, token text, OUT status int, OUT j jsonb) LANGUAGE sql AS
	$$ SELECT a.status, coalesce(a.body_ -> 'report', a.body_) FROM public.api('GET', '/api/v2/insights/' || query, NULL, token) a $$;

SELECT pg_temp.sample(0, (:'day' || 'T10:00:30Z')::timestamptz + m * interval '1 minute', 1, 1, 0, 0, 10) FROM generate_series(0, 9) m;
SELECT pg_temp.sample(1, (:'day' || 'T10:00:40Z')::timestamptz + m * interval '1 minute', 2, 1, 0, 0, 30) FROM generate_series(0, 24) m;
SELECT pg_temp.sample(0, (:'day' || 'T10:31:00Z')::timestamptz, 0, 0, 0, 1, 10);
SELECT pg_temp.sample(10, (:'day' || 'T10:05:00Z')::timestamptz + m * interval '1 minute', 1, 0, 1, 0, -1) FROM generate_series(0, 1) m;
SELECT pg_temp.session(10, 'code', (:'day' || 'T10:06:30Z')::timestamptz, (:'day' || 'T10:08:00Z')::timestamptz);
SELECT pg_temp.session(10, 'code', (:'day' || 'T10:30:00Z')::timestamptz, (:'day' || 'T10:31:00Z')::timestamptz);
SELECT pg_temp.session(10, 'code', (:'day' || 'T12:30:00Z')::timestamptz, (:'day' || 'T12:31:00Z')::timestamptz);
SELECT pg_temp.session(10, 'gone', (:'day' || 'T12:30:00Z')::timestamptz, (:'day' || 'T12:31:00Z')::timestamptz);
SELECT pg_temp.sample(11, (:'before' || 'T23:50:00Z')::timestamptz, 1, 1, 0, 0, -1);

SELECT is(coder.rollup_usage(now()), 6, 'half hours with use, of templates and users');
SELECT is(coder.rollup_usage(now()), 0, 'again, nothing has changed');
SELECT results_eq($$SELECT to_char(start_time AT TIME ZONE 'UTC', 'HH24:MI'), usage_mins::int, ssh_mins::int, reconnecting_pty_mins::int, vscode_mins::int, app_usage_mins, median_latency_ms
		FROM coder.template_usage_stats ORDER BY start_time, user_id = pg_temp.id('user', 1), template_id = pg_temp.id('template', 1)$$,
	$$VALUES ('23:30', 1, 1, 0, 0, NULL::jsonb, NULL::real), ('10:00', 10, 10, 0, 0, NULL, 10), ('10:00', 25, 25, 0, 0, NULL, 30),
		('10:00', 3, 0, 2, 0, '{"code": 2}', NULL), ('10:30', 1, 0, 0, 0, '{"code": 1}', NULL), ('12:30', 1, 0, 0, 0, '{"code": 1, "gone": 1}', NULL)$$,
	'minutes count once; a sample without connections does not');
SELECT pg_temp.sample(10, (:'day' || 'T12:45:00Z')::timestamptz, 1, 1, 0, 0, -1);
SELECT is(coder.rollup_usage(now()), 1, 'what came late changes its half hour');
DELETE FROM coder.workspace_agent_stats WHERE created_at = (:'day' || 'T12:45:00Z')::timestamptz;
SELECT is(coder.rollup_usage(now()), 1, 'back again');

-- The reports.
UPDATE coder.workspace_builds SET created_at = (:'day' || 'T09:00:00Z')::timestamptz WHERE id IN (SELECT build FROM w WHERE i IN (0, 5, 10));
INSERT INTO coder.template_version_parameters (template_version_id, name, description, type, mutable, default_value, icon, options, validation_regex, display_name)
VALUES (pg_temp.id('version', 0), 'region', 'Where', 'string', true, '', '', '[]', '', 'Region');
INSERT INTO coder.workspace_build_parameters (workspace_build_id, name, value)
SELECT build, 'region', CASE i WHEN 10 THEN 'us' ELSE 'eu' END FROM w WHERE i IN (0, 5, 10);
SELECT is(status, 200, 'the report of templates') FROM pg_temp.ask('templates?' || :'whole', :'boss');
SELECT unnest(ARRAY[is(j -> 'active_users', '2', 'two users'),
	is(j -> 'template_ids', to_jsonb(ARRAY[least(:'t0'::uuid, :'t1'), greatest(:'t0'::uuid, :'t1')]), 'two templates')])
  FROM pg_temp.ask('templates?' || :'whole', :'boss');
SELECT is((SELECT string_agg(a ->> 'slug' || ' ' || (a ->> 'seconds') || ' ' || (a ->> 'times_used') || ' ' || jsonb_array_length(a -> 'template_ids'), ', ' ORDER BY n)
		FROM jsonb_array_elements(j -> 'apps_usage') WITH ORDINALITY x (a, n)),
	'vscode 0 0 0, jetbrains 0 0 0, reconnecting-pty 120 0 1, ssh 1800 0 2, sftp 0 0 0, code 240 2 1', 'a user''s half hour has thirty minutes; an app that the template lost is not told of')
  FROM pg_temp.ask('templates?' || :'whole', :'boss');
SELECT is(j -> 'parameters_usage', jsonb_build_array(jsonb_build_object('template_ids', ARRAY[:'t0'], 'display_name', 'Region', 'name', 'region', 'type', 'string',
	'description', 'Where', 'values', '[{"value": "eu", "count": 2}, {"value": "us", "count": 1}]'::jsonb)), 'values of parameters') FROM pg_temp.ask('templates?' || :'whole', :'boss');
SELECT is(j -> 'apps_usage' -> 3 ->> 'seconds', '1500', 'of one template') FROM pg_temp.ask('templates?template_ids=' || :'t1' || '&' || :'whole', :'boss');
SELECT unnest(ARRAY[is((SELECT string_agg(i ->> 'active_users', ' ') FROM jsonb_array_elements(j -> 'interval_reports') i), '1 2', 'by day'),
	ok(NOT j ? 'report', 'and no report where none is asked for')])
  FROM pg_temp.ask('templates?sections=interval_reports&interval=day&start_time=' || :'before' || 'T00:00:00Z&end_time=' || :'today' || 'T00:00:00Z', :'boss');
SELECT unnest(ARRAY[is(j ->> 'active_users', '2', 'another zone''s day'), is(j ->> 'start_time', :'day' || 'T00:00:00+03:00', 'told in that zone'),
	is(j -> 'apps_usage' -> 3 ->> 'seconds', '1860', 'has other hours')])
  FROM pg_temp.ask(format('templates?start_time=%sT00:00:00%%2B03:00&end_time=%sT00:00:00%%2B03:00', :'day', :'today'), :'boss');
SELECT is((SELECT string_agg(u ->> 'username' || ' ' || (u ->> 'seconds'), ', ') FROM jsonb_array_elements(j -> 'users') u), 'member0 1800, member1 300', 'activity of users')
  FROM pg_temp.ask('user-activity?' || :'whole', :'boss');
SELECT unnest(ARRAY[is((SELECT string_agg(u ->> 'username' || ' ' || (u ->> 'seconds'), ', ') FROM jsonb_array_elements(j -> 'users') u), 'member0 600, member1 300', 'in one template'),
	is(j -> 'template_ids', jsonb_build_array(:'t0'), 'which is named')]) FROM pg_temp.ask('user-activity?template_ids=' || :'t0' || '&' || :'whole', :'watcher');
SELECT is((SELECT string_agg(u ->> 'username' || ' ' || (u #>> '{latency_ms,p50}') || ' ' || (u #>> '{latency_ms,p95}'), ', ') FROM jsonb_array_elements(j -> 'users') u),
	'member0 20 29, member1 -1 -1', 'latency of users') FROM pg_temp.ask('user-latency?' || :'whole', :'boss');

-- What may not be asked.
SELECT is(x.status || ' ' || coalesce(x.j #>> '{validations,0,field}', x.j ->> 'detail', ''), t.answer, t.q) FROM (VALUES
	('templates?start_time=' || :'day' || 'T00:00:00Z', '400 end_time'), ('user-activity?interval=day&' || :'whole', '400 interval'),
	('templates?interval=month&' || :'whole', '400 interval'), ('templates?sections=all&' || :'whole', '400 sections'),
	('templates?interval=week&' || :'whole', '400 Last report interval should have at least 6 days.'),
	('user-activity?template_ids=x&' || :'whole', '400 template_ids'), ('user-activity?start_time=yesterday&end_time=now', '400 start_time'),
	('user-activity?start_time=' || :'day' || 'T01:00:00Z&end_time=' || :'today' || 'T00:00:00Z', '400 start_time'),
	('user-activity?start_time=' || :'day' || 'T00:00:00Z&end_time=' || :'today' || 'T00:00:01Z', '400 end_time'),
	('user-activity?start_time=' || :'day' || 'T00:00:00Z&end_time=2999-01-01T00:00:00Z', '400 end_time'),
	('user-activity?start_time=' || :'day' || 'T00:00:00Z&end_time=' || :'before' || 'T00:00:00Z', '400 end_time'),
	('user-activity?start_time=0001-01-01T00:00:00Z&end_time=' || :'before' || 'T00:00:00Z', '400 start_time'),
	('user-activity?start_time=' || :'day' || 'T00:00:00Z&end_time=' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:00:00"Z"'), '200 '))
	t (q, answer), LATERAL pg_temp.ask(t.q, :'boss') x;
SELECT is(x.status, 404, 'not for members: ' || t.q) FROM (VALUES ('templates'), ('user-activity'), ('user-latency')) t (q), LATERAL pg_temp.ask(t.q || '?' || :'whole', :'member') x;

-- Opening an app.
SELECT coder.set_subject(pg_temp.id('user', 1), '{coder:all}', '{*:*}') AS subject \gset
SELECT coder.app_used(x, pg_temp.id('agent', 10), 'code', 'path'), coder.app_used(x, pg_temp.id('agent', 10), 'code', 'path'), coder.app_used(x, pg_temp.id('agent', 10), '', 'terminal')
  FROM coder.workspaces x WHERE x.id = pg_temp.id('workspace', 10) \gset opened
SELECT results_eq($$SELECT access_method, slug_or_port, user_id, session_ended_at - session_started_at FROM coder.workspace_app_stats WHERE session_started_at > now() - interval '10 minutes' ORDER BY 1$$,
	$$VALUES ('path', 'code', pg_temp.id('user', 1), interval '1 minute'), ('terminal', '', pg_temp.id('user', 1), interval '1 minute')$$, 'a minute of each');
SELECT ok(last_used_at > now() - interval '1 minute', 'and the workspace was used') FROM coder.workspaces WHERE id = pg_temp.id('workspace', 10);
SELECT ok(coder.rollup_usage(clock_timestamp() + interval '1 minute') > 0, 'it is counted');
SELECT ok(app_usage_mins ? '[terminal]' AND app_usage_mins ? 'code', 'under its name') FROM coder.template_usage_stats ORDER BY start_time DESC LIMIT 1;

-- T11: the switch and the time of last use hold for each use, however many there are.
CREATE FUNCTION pg_temp.uses(kind text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	v_before bigint := (SELECT count(*) FROM coder.workspace_app_stats);
BEGIN
	UPDATE coder.workspaces SET last_used_at = '2020-01-01' WHERE id = pg_temp.id('workspace', 11);
	PERFORM coder.app_minute(pg_temp.id('user', 1), pg_temp.id('workspace', 11), pg_temp.id('agent', 11), kind || i, 'path') FROM generate_series(1, 1100) i;
	RETURN (SELECT count(*) - v_before || ' ' || (SELECT last_used_at > now() - interval '1 minute' FROM coder.workspaces WHERE id = pg_temp.id('workspace', 11)) FROM coder.workspace_app_stats);
END
$$;
SELECT is(pg_temp.uses('a'), '1100 true', 'T11: given 1100 uses of apps, more than a batch of the reference, all are stored, and the workspace was used');
INSERT INTO coder.settings (name, value) VALUES ('stats_collection_usage_stats_enable', 'false') ON CONFLICT (name) DO UPDATE SET value = excluded.value;
SELECT is(pg_temp.uses('b'), '0 true', 'T11: where usage is not collected none is, and the workspace was used all the same');

SELECT * FROM finish();
ROLLBACK;
