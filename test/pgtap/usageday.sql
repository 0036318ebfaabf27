-- Insights made of days that are added up say what each half hour says: compared with plain statements over random use, in
-- several zones, over changes of clocks, for all templates, one and some, while days are there, are not, and are changed.
BEGIN;
\i api.psql
\set n 12
\i workspaces.psql
SET LOCAL session_replication_role = origin;
SELECT no_plan();
SELECT token_of('boss', '{owner}') AS boss \gset
DELETE FROM coder.template_usage_stats;
SELECT setseed(0.42);
-- An app that two templates call the same, and one that they call differently.
UPDATE coder.workspace_apps SET display_name = 'Other' WHERE slug = '8080' AND agent_id IN (SELECT pg_temp.id('agent', i) FROM generate_series(0, 11, 5) i);

CREATE FUNCTION pg_temp.use(since timestamptz, until timestamptz) RETURNS void LANGUAGE sql AS $$
	INSERT INTO coder.template_usage_stats
	SELECT t, t + interval '30 min', te.id, u.id, CASE WHEN random() < 0.7 THEN random() * 100 END, 1 + (random() * 29)::int, (random() * 30)::int, 0, (random() * 3)::int * 10, (random() * 30)::int,
		   CASE WHEN random() < 0.1 THEN 7 ELSE 0 END,
		   CASE (random() * 3)::int WHEN 0 THEN NULL WHEN 1 THEN jsonb_build_object('code', 1 + (random() * 29)::int)
				ELSE jsonb_build_object('code', 1 + (random() * 29)::int, '8080', 1 + (random() * 29)::int, 'gone', 3) END
	  FROM generate_series(since, until, interval '30 min') t, coder.templates te, (SELECT pg_temp.id('user', i) AS id FROM generate_series(0, 1) i UNION ALL SELECT md5('more' || i)::uuid FROM generate_series(1, 4) i) u
	 -- Some users work in one template, some in several at once; hours without anybody.
	 WHERE random() < CASE WHEN extract(hour FROM t) BETWEEN 1 AND 5 THEN 0 WHEN get_byte(uuid_send(u.id), 3) % 3 = get_byte(uuid_send(te.id), 5) % 3 THEN 0.35 WHEN get_byte(uuid_send(u.id), 3) % 2 = 0 THEN 0.06 ELSE 0 END
$$;
INSERT INTO coder.users (id, username, email, login_type, status) SELECT md5('more' || i)::uuid, 'more' || i, 'more' || i || '@example.com', 'password', 'active' FROM generate_series(1, 4) i;

-- The same figures by plain statements.
CREATE FUNCTION pg_temp.plain_sums(since timestamptz, until timestamptz, of uuid[]) RETURNS text LANGUAGE sql AS $$
	WITH half AS (
		SELECT t.user_id, least(30, sum(usage_mins)) AS usage, least(30, sum(ssh_mins)) AS ssh, least(30, sum(sftp_mins)) AS sftp, least(30, sum(reconnecting_pty_mins)) AS pty, least(30, sum(vscode_mins)) AS vscode, least(30, sum(jetbrains_mins)) AS jetbrains
		  FROM coder.template_usage_stats t WHERE t.start_time >= since AND t.start_time < until AND (of IS NULL OR t.template_id = ANY (of)) GROUP BY t.start_time, t.user_id)
	SELECT string_agg(concat_ws(',', x.user_id, x.a, x.b, x.c, x.d, x.e, x.f), ';' ORDER BY x.user_id)
	  FROM (SELECT user_id, sum(usage) a, sum(ssh) b, sum(sftp) c, sum(pty) d, sum(vscode) e, sum(jetbrains) f FROM half GROUP BY 1) x
$$;
CREATE FUNCTION pg_temp.sums(since timestamptz, until timestamptz, of uuid[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(',', u.user_id, u.usage, u.ssh, u.sftp, u.pty, u.vscode, u.jetbrains), ';' ORDER BY u.user_id) FROM coder.usage_of_users(since, until, of) u
$$;
CREATE FUNCTION pg_temp.plain_apps(since timestamptz, until timestamptz, of uuid[]) RETURNS text LANGUAGE sql AS $$
	WITH use AS (
		SELECT t.start_time, t.template_id, t.user_id, k.key AS slug, k.value::int AS mins FROM coder.template_usage_stats t, jsonb_each_text(t.app_usage_mins) k
		 WHERE t.start_time >= since AND t.start_time < until AND (of IS NULL OR t.template_id = ANY (of))
	), named AS (
		SELECT DISTINCT ON (v.template_id, p.slug) v.template_id, p.slug, p.display_name, p.icon
		  FROM coder.workspace_apps p JOIN coder.workspace_agents a ON a.id = p.agent_id JOIN coder.workspace_resources r ON r.id = a.resource_id
		  JOIN coder.workspace_builds b ON b.job_id = r.job_id JOIN coder.template_versions v ON v.id = b.template_version_id ORDER BY 1, 2, p.created_at DESC
	), bucket AS (
		SELECT u.start_time, u.user_id, n.slug, n.display_name, least(30, sum(u.mins)) AS mins, array_agg(DISTINCT u.template_id) AS templates FROM use u JOIN named n USING (template_id, slug) GROUP BY 1, 2, 3, 4, n.icon
	), run AS (
		SELECT b.*, x.user_id IS NULL AS begins FROM bucket b LEFT JOIN bucket x ON (x.user_id, x.slug, x.display_name, x.start_time) = (b.user_id, b.slug, b.display_name, b.start_time - interval '30 min')
	)
	SELECT string_agg(format('%s %s %s %s %s', x.slug, x.display_name, x.seconds, x.times, (SELECT string_agg(DISTINCT t::text, ',' ORDER BY t::text) FROM bucket y, unnest(y.templates) t WHERE (y.slug, y.display_name) = (x.slug, x.display_name))), ';' ORDER BY x.slug COLLATE "C", x.display_name COLLATE "C")
	  FROM (SELECT slug, display_name, 60 * sum(mins) AS seconds, count(*) FILTER (WHERE begins) AS times FROM run GROUP BY 1, 2) x
$$;
CREATE FUNCTION pg_temp.apps(since timestamptz, until timestamptz, of uuid[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s %s %s %s', a ->> 'slug', a ->> 'display_name', a ->> 'seconds', a ->> 'times_used', (SELECT string_agg(t, ',' ORDER BY t) FROM jsonb_array_elements_text(a -> 'template_ids') t)), ';' ORDER BY n)
	  FROM jsonb_array_elements(coder.insights_apps(since, until, of)) WITH ORDINALITY x (a, n)
$$;
CREATE FUNCTION pg_temp.plain_intervals(since timestamptz, until timestamptz, of uuid[], zone text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s', d.n, (SELECT concat_ws(' ', count(DISTINCT t.user_id), count(DISTINCT t.template_id)) FROM coder.template_usage_stats t
			WHERE t.start_time >= since AND t.start_time < until AND (t.start_time AT TIME ZONE zone)::date = d.day AND (of IS NULL OR t.template_id = ANY (of)))), ';' ORDER BY d.n)
	  FROM (SELECT g::date AS day, row_number() OVER (ORDER BY g) AS n FROM generate_series(since AT TIME ZONE zone, until AT TIME ZONE zone - interval '1 microsecond', interval '1 day') g) d
$$;
CREATE FUNCTION pg_temp.intervals(since timestamptz, until timestamptz, of uuid[], zone text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s %s', n, a ->> 'active_users', jsonb_array_length(a -> 'template_ids')), ';' ORDER BY n)
	  FROM jsonb_array_elements(coder.insights_intervals(since, until, of, 'day', zone)) WITH ORDINALITY x (a, n)
$$;
CREATE FUNCTION pg_temp.plain_days(zone text, template uuid) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(to_char(d.day, 'YYYY-MM-DD') || ' ' || coalesce(x.n, 0), ';' ORDER BY d.day)
	  FROM (SELECT (clock_timestamp() AT TIME ZONE zone)::date - g AS day FROM generate_series(0, 60) g) d
	  LEFT JOIN (SELECT (t.start_time AT TIME ZONE zone)::date AS day, count(DISTINCT t.user_id) AS n FROM coder.template_usage_stats t WHERE template IS NULL OR t.template_id = template GROUP BY 1) x USING (day)
$$;
CREATE FUNCTION pg_temp.days(zone text, template uuid) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(e ->> 'date' || ' ' || (e ->> 'amount'), ';' ORDER BY n) FROM jsonb_array_elements(coder.daily_users(zone, template) -> 'entries') WITH ORDINALITY x (e, n)
$$;

-- What is asked: ranges of zones' midnights, some of which cut days of UTC, over changes of clocks in spring and autumn.
CREATE TEMP TABLE asked AS
SELECT zone, day::timestamp AT TIME ZONE zone AS since, (day + days)::timestamp AT TIME ZONE zone AS until, of.of
  FROM (VALUES ('UTC'), ('Europe/Berlin'), ('America/St_Johns'), ('Asia/Kathmandu')) z (zone),
	   (VALUES (date '2026-03-27', 5), ('2026-03-29', 1), ('2026-03-07', 3), ('2026-10-24', 3), ('2026-03-28', 0)) d (day, days),
	   (VALUES (NULL::uuid[]), (ARRAY[pg_temp.id('template', 0)]), (ARRAY[pg_temp.id('template', 0), pg_temp.id('template', 1)]),
			   (ARRAY(SELECT pg_temp.id('template', i) FROM generate_series(1, 4) i))) of (of)
UNION ALL SELECT 'UTC', '2020-01-01', '2030-01-01', NULL;
CREATE FUNCTION pg_temp.differences() RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', count(*) FILTER (WHERE pg_temp.sums(since, until, of) IS DISTINCT FROM pg_temp.plain_sums(since, until, of)),
		count(*) FILTER (WHERE pg_temp.apps(since, until, of) IS DISTINCT FROM pg_temp.plain_apps(since, until, of)),
		count(*) FILTER (WHERE until < '2027-01-01' AND pg_temp.intervals(since, until, of, zone) IS DISTINCT FROM pg_temp.plain_intervals(since, until, of, zone)))
	  FROM asked
$$;
SELECT pg_temp.use('2026-03-06 12:00Z', '2026-03-10 23:30Z'), pg_temp.use('2026-03-26 00:00Z', '2026-04-02 23:30Z'), pg_temp.use('2026-10-23 12:00Z', '2026-10-28 23:30Z');
SELECT ok((SELECT count(*) FROM coder.template_usage_stats) > 1000, 'random use');
SELECT ok((SELECT count(*) FROM (SELECT FROM coder.template_usage_stats GROUP BY start_time, user_id HAVING count(*) > 1) x) > 50, 'some of it in several templates at once');
SELECT is(pg_temp.differences(), '0 0 0', 'half hours: minutes of users, apps and who was active, as by plain statements');
SELECT is(coder.make_usage_days('2026-04-01 02:59Z', 3), 3, 'days are added up, some at a time');
SELECT is((SELECT string_agg(day::text, ' ' ORDER BY day) FROM coder.template_usage_made), '2026-03-28 2026-03-29 2026-03-30', 'the newest first, not one that may still change');
SELECT is(pg_temp.differences(), '0 0 0', 'some days added up: the same');
SELECT is(coder.make_usage_days('2026-10-28 03:00Z', 100), (SELECT count(DISTINCT (start_time AT TIME ZONE 'UTC')::date)::int - 4 FROM coder.template_usage_stats), 'the rest but the last');
SELECT is(coder.make_usage_days('2026-10-28 03:00Z', 100), 0, 'once');
SELECT is(pg_temp.differences(), '0 0 0', 'all days added up: the same');
SELECT ok((SELECT count(*) FROM asked a, coder.usage_spans(a.since, a.until) s WHERE s.made) > 60, 'the figures are made of days');
SELECT is((SELECT count(*) FROM asked a, coder.usage_of_users(a.since, a.until, a.of) WHERE a.since = a.until), 0::bigint, 'an empty range has nothing');

-- Changes of days that were added up.
UPDATE coder.template_usage_stats SET usage_mins = 1, vscode_mins = 30, app_usage_mins = '{"code": 30}' WHERE start_time = '2026-03-29 10:00Z';
SELECT is((SELECT count(*) FROM coder.template_usage_made WHERE day = '2026-03-29'), 0::bigint, 'a half hour changes: its day is not there');
SELECT is((SELECT count(*) FROM coder.template_usage_days WHERE day = '2026-03-29') + (SELECT count(*) FROM coder.template_usage_app_days WHERE day = '2026-03-29'), 0::bigint, 'nor its sums');
SELECT is(pg_temp.differences(), '0 0 0', 'and the figures follow');
SELECT is(coder.make_usage_days('2026-10-28 03:00Z'), 1, 'it is made again');
SELECT is(pg_temp.differences(), '0 0 0', 'with the change');
DELETE FROM coder.template_usage_stats WHERE start_time >= '2026-03-27 12:00Z' AND start_time < '2026-03-28 12:00Z';
SELECT is(pg_temp.differences(), '0 0 0', 'half hours that are deleted are in no figure');
INSERT INTO coder.template_usage_stats (start_time, end_time, template_id, user_id, usage_mins, ssh_mins, sftp_mins, reconnecting_pty_mins, vscode_mins, jetbrains_mins)
VALUES ('2026-03-27 23:30Z', '2026-03-28 00:00Z', pg_temp.id('template', 1), pg_temp.id('user', 0), 30, 30, 0, 0, 0, 0) ON CONFLICT DO NOTHING;
UPDATE coder.template_usage_stats SET start_time = '2026-03-31 23:00Z' WHERE start_time = '2026-03-27 23:30Z' AND user_id = pg_temp.id('user', 0) AND template_id = pg_temp.id('template', 1)
	AND NOT EXISTS (SELECT FROM coder.template_usage_stats x WHERE x.start_time = '2026-03-31 23:00Z' AND x.user_id = pg_temp.id('user', 0) AND x.template_id = pg_temp.id('template', 1));
SELECT is(pg_temp.differences(), '0 0 0', 'one that comes late, and one that moves to another day');
INSERT INTO coder.template_usage_stats (start_time, end_time, template_id, user_id, usage_mins, ssh_mins, sftp_mins, reconnecting_pty_mins, vscode_mins, jetbrains_mins)
VALUES ('2026-03-26 10:07Z', '2026-03-26 10:37Z', pg_temp.id('template', 1), pg_temp.id('user', 0), 40, 30, 0, 0, 0, 0);
SELECT coder.make_usage_days('2026-10-28 03:00Z', 100);
SELECT is((SELECT count(*) FROM coder.template_usage_made WHERE day = '2026-03-26'), 0::bigint, 'a day with what is no half hour is not added up');
DELETE FROM coder.template_usage_stats WHERE start_time = '2026-03-26 10:07Z';
SELECT is(coder.make_usage_days('2026-10-28 03:00Z', 100), 1, 'but without it');
SELECT throws_ok($$SET LOCAL session_replication_role = replica; UPDATE coder.template_usage_stats SET usage_mins = 31 WHERE false; DELETE FROM coder.template_usage_made; SELECT 1/0$$, '22012', NULL, 'the triggers fire always');
SET LOCAL session_replication_role = replica;
DELETE FROM coder.template_usage_stats WHERE start_time >= '2026-03-26' AND start_time < '2026-03-27';
SET LOCAL session_replication_role = origin;
SELECT is((SELECT count(*) FROM coder.template_usage_made WHERE day = '2026-03-26'), 0::bigint, 'also where others do not');

-- Users by day, the last 61 of them.
DELETE FROM coder.template_usage_stats;
SELECT pg_temp.use(date_trunc('day', now()) - interval '63 days', date_trunc('hour', now()));
CREATE TEMP TABLE zones AS SELECT unnest('{UTC,Europe/Berlin,America/St_Johns,Asia/Kathmandu,America/Sao_Paulo,Pacific/Kiritimati,<Z>-5}'::text[]) AS zone;
SELECT is(pg_temp.days(zone, NULL), pg_temp.plain_days(zone, NULL), 'users by day of ' || zone) FROM zones;
SELECT coder.make_usage_days(now(), 1000);
SELECT is(pg_temp.days(zone, NULL), pg_temp.plain_days(zone, NULL), 'users by day of ' || zone || ', days added up') FROM zones;
SELECT is(pg_temp.days(zone, pg_temp.id('template', 2)), pg_temp.plain_days(zone, pg_temp.id('template', 2)), 'of a template, by day of ' || zone) FROM zones;

-- Statuses of users at midnights: changes at random, some at a midnight, some users deleted.
INSERT INTO coder.user_status_changes (user_id, new_status, changed_at)
SELECT u.id, (enum_range(NULL::coder.user_status))[1 + (random() * 2)::int], CASE WHEN random() < 0.3 THEN date_trunc('day', now() AT TIME ZONE 'Europe/Berlin') AT TIME ZONE 'Europe/Berlin' - (random() * 70)::int * interval '1 day' ELSE now() - random() * interval '70 days' END
  FROM coder.users u, generate_series(1, 12);
DELETE FROM coder.user_status_changes c WHERE EXISTS (SELECT FROM coder.user_status_changes x WHERE x.user_id = c.user_id AND x.changed_at = c.changed_at AND x.id > c.id);
INSERT INTO coder.user_deleted (user_id, deleted_at) SELECT md5('more' || i)::uuid, now() - i * interval '9 days' FROM generate_series(1, 3) i;
CREATE FUNCTION pg_temp.plain_statuses(zone text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s %s', s.status, coder.ts(d.d), (SELECT count(*) FROM coder.users u WHERE NOT u.is_system
			AND NOT EXISTS (SELECT FROM coder.user_deleted x WHERE x.user_id = u.id AND x.deleted_at <= d.d)
			AND (SELECT c.new_status FROM coder.user_status_changes c WHERE c.user_id = u.id AND c.changed_at <= d.d ORDER BY c.changed_at DESC LIMIT 1) = s.status)), ';' ORDER BY s.status::text, d.d)
	  FROM unnest(enum_range(NULL::coder.user_status)) s (status), (SELECT (date_trunc('day', now() AT TIME ZONE zone) - n * interval '1 day') AT TIME ZONE zone AS d FROM generate_series(0, 60) n) d
$$;
SELECT is((SELECT string_agg(format('%s %s %s', s.key, e.v ->> 'date', e.v ->> 'count'), ';' ORDER BY s.key, e.n) FROM jsonb_each(x.body_ -> 'status_counts') s, jsonb_array_elements(s.value) WITH ORDINALITY e (v, n)),
	pg_temp.plain_statuses(zone), 'statuses of users at midnights of ' || zone)
  FROM zones, api('GET', '/api/v2/insights/user-status-counts?timezone=' || zone, token => :'boss') x WHERE zone !~ '<';
SELECT * FROM finish();
ROLLBACK;
