-- insight.sql -- figures over time
BEGIN;
\i api.psql
SELECT no_plan();

CREATE TEMP TABLE k AS SELECT token_of('admin') AS admin, token_of('bob') AS bob, token_of('carol') AS carol;
CREATE TEMP TABLE day AS SELECT date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS today;
UPDATE coder.user_status_changes c SET changed_at = today - interval '5 days' FROM day, coder.users u
 WHERE u.id = c.user_id AND u.username IN ('admin', 'bob', 'carol');
INSERT INTO coder.user_status_changes (user_id, new_status, changed_at)
SELECT id, 'suspended', today - interval '25 hours' FROM day, coder.users WHERE username = 'bob';
INSERT INTO coder.user_deleted (user_id, deleted_at) SELECT id, today - interval '49 hours' FROM day, coder.users WHERE username = 'carol';
CREATE TEMP TABLE a AS SELECT x.* FROM k, api('GET', '/api/v2/insights/user-status-counts?timezone=UTC', token => k.admin) x;
SELECT is(status, 200, 'statuses of users') FROM a;
SELECT is((SELECT string_agg(s.key || jsonb_array_length(s.value), ' ' ORDER BY s.key) FROM jsonb_each(body_->'status_counts') s),
	'active61 dormant61 suspended61', 'for two months') FROM a;
SELECT is((SELECT jsonb_agg(e.v->'count' ORDER BY e.n) FROM jsonb_array_elements(body_->'status_counts'->x.status) WITH ORDINALITY e (v, n) WHERE e.n > 54),
	x.counts, x.status || ' users at the last midnights') FROM a, (VALUES ('active', '[0, 3, 3, 3, 2, 1, 1]'::jsonb), ('suspended', '[0, 0, 0, 0, 0, 1, 1]')) x (status, counts);
SELECT is(x.status || ' ' || coalesce(x.body_->'validations'->0->>'field', x.body_->>'message', ''), t.answer, t.q) FROM k, (VALUES
	('timezone=Mars/Base', '400 timezone'), ('tz_offset=99', '400 tz_offset'), ('tz_offset=1&timezone=UTC', '400 Provide either "timezone" or "tz_offset", not both.'),
	('tz_offset=-3', '200 '), ('timezone=Asia/Kolkata', '200 ')) t (q, answer),
	LATERAL api('GET', '/api/v2/insights/user-status-counts?' || t.q, token => k.admin) x;
SELECT is(x.body_->'status_counts'->'active'->60->>'date', coder.ts((date_trunc('day', now() AT TIME ZONE 'UTC' + interval '2 hours') - interval '2 hours') AT TIME ZONE 'UTC'), 'midnight is the zone''s')
  FROM k, api('GET', '/api/v2/insights/user-status-counts?tz_offset=2', token => k.admin) x;
SELECT is(x.status, 403, 'not for members') FROM k, api('GET', '/api/v2/insights/user-status-counts', token => k.bob) x;

SELECT * FROM finish();
ROLLBACK;
