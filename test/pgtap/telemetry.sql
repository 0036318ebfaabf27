-- Telemetry: off without a URL that somebody sets; what would be sent has no names, and a summary of boundaries counts when it was accepted.
BEGIN;
SELECT no_plan();
\i api.psql
\set n 4
\i workspaces.psql
SET LOCAL session_replication_role = origin;
CREATE FUNCTION pg_temp.want(name text, value text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO coder.settings (name, value) VALUES (name, value) ON CONFLICT (name) DO UPDATE SET value = excluded.value
$$;
DELETE FROM coder.settings WHERE name LIKE 'telemetry%';
SELECT is(coder.telemetry_url(), NULL, 'by default it goes nowhere');
SELECT pg_temp.want('telemetry', 'true');
SELECT is(coder.telemetry_url(), NULL, 'turned on without a URL: nowhere');
SELECT is(coder.telemetry_next(), NULL, 'nothing to do');
CREATE FUNCTION pg_temp.url(u text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_temp.want('telemetry_url', u); RETURN coder.telemetry_url(); END $$;
SELECT is(pg_temp.url(u), NULL, 'no URL: ' || u) FROM unnest('{ftp://x,telemetry.example.com,"http:// x",file:///etc/passwd}'::text[]) u;
\o /dev/null
SELECT pg_temp.want('telemetry_url', 'https://receiver.example.com/a/');
\o
SELECT is(coder.telemetry_url(), 'https://receiver.example.com/a', 'a URL');
SELECT pg_temp.want('telemetry', 'false');
SELECT is(coder.telemetry_url(), NULL, 'a URL, and off: nowhere');
SELECT pg_temp.want('telemetry', 'true');

-- What would be sent.
SELECT is(coder.telemetry_mail('Jane.Doe@example.com'), encode(sha256('Jane.Doe'), 'hex') || '@example.com', 'of mail addresses the local part is hashed');
SELECT is(coder.telemetry_mail('nobody'), encode(sha256('nobody'), 'hex'), 'also without a domain');
UPDATE coder.users SET email = 'secret-mail@example.com', name = 'Secret Name' WHERE username = 'member0';
CREATE TEMP TABLE s AS SELECT coder.telemetry_snapshot(now()) AS s;
SELECT is((SELECT jsonb_array_length(s -> 'workspaces') FROM s), 4, 'workspaces');
SELECT ok((SELECT s -> 'users' @> jsonb_build_array(jsonb_build_object('email_hashed', encode(sha256('secret-mail'), 'hex') || '@example.com')) FROM s), 'users');
SELECT ok((SELECT s::text !~ 'secret-mail|Secret Name|member0|workspace-[0-9]|GIT_AUTHOR|/home/coder|quoted' FROM s), 'no names, environment, folders or errors');
SELECT is((SELECT s -> 'boundary_usage_summary' FROM s), 'null', 'no boundaries yet');

-- Who gets the request, and what follows.
CREATE FUNCTION pg_temp.answered(step text, status int, state jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT format(E'fetched:%s\n%s', step, jsonb_build_object('state', state, 'results', jsonb_build_array(jsonb_build_object('status', status, 'error', CASE status WHEN 0 THEN 'timeout' END))))
$$;
SELECT coder.telemetry_next() AS plan \gset
SELECT is(:'plan'::jsonb #>> '{requests,0,url}', 'https://receiver.example.com/a/deployment', 'first the deployment');
SELECT is(:'plan'::jsonb #>> '{requests,0,headers,X-Coder-Version}', coder.version(), 'with the version');
SELECT is(coder.telemetry_next(), NULL, 'another gateway gets nothing meanwhile');
INSERT INTO coder.boundary_usage_periods (period, opened_at, closed_at, unique_workspaces, unique_users, allowed_requests, denied_requests)
VALUES (-1, now() - interval '90 min', now() - interval '60 min', 2, 1, 10, 3) RETURNING period \gset
SELECT coder.telemetry_taken(pg_temp.answered('deployment', 202)) AS plan \gset
SELECT is(:'plan'::jsonb #>> '{requests,0,url}', 'https://receiver.example.com/a/snapshot', 'then the snapshot');
SELECT is((:'plan'::jsonb #>> '{requests,0,body}')::jsonb #> '{boundary_usage_summary,denied_requests}', '3', 'with the period');
SELECT is(coder.telemetry_taken(pg_temp.answered('snapshot', 500, :'plan'::jsonb -> 'state')), NULL, 'an error of the receiver');
SELECT is((SELECT sent_at FROM coder.boundary_usage_periods WHERE period = :period), NULL, 'the period is not told');
SELECT results_eq('SELECT attempts, error, next_at > clock_timestamp() + interval ''50 s'', next_at < clock_timestamp() + interval ''70 s'' FROM coder.telemetry_state', $$VALUES (1, 'snapshot: 500', true, true)$$, 'again in a minute');
SELECT coder.telemetry_taken(pg_temp.answered('deployment', 0));
SELECT results_eq('SELECT attempts, error, next_at > clock_timestamp() + interval ''110 s'' FROM coder.telemetry_state', $$VALUES (2, 'deployment: timeout', true)$$, 'then in two');
SELECT coder.telemetry_failed('x') FROM generate_series(1, 20);
SELECT ok((SELECT next_at < clock_timestamp() + interval '31 minutes' FROM coder.telemetry_state), 'never later than half an hour');
SELECT is(coder.telemetry_taken(pg_temp.answered('snapshot', 202, jsonb_build_object('period', :period))), NULL, 'accepted');
SELECT ok((SELECT sent_at IS NOT NULL FROM coder.boundary_usage_periods WHERE period = :period), 'the period is told');
SELECT is((SELECT count(*) FROM coder.telemetry_locks WHERE event_type = 'boundary_usage_summary'), 1::bigint, 'and locked');
SELECT lives_ok(format('SELECT coder.telemetry_taken(%L)', pg_temp.answered('snapshot', 202, jsonb_build_object('period', :period))), 'told again: nothing more');
SELECT results_eq('SELECT attempts, error, sent FROM coder.telemetry_state', $$VALUES (0, NULL::text, 2::bigint)$$, 'attempts begin anew');
SELECT pg_temp.want('telemetry', 'false');
SELECT is(coder.telemetry_taken(pg_temp.answered('deployment', 202)), NULL, 'turned off between the two: the snapshot stays here');
SELECT lives_ok(format('SELECT coder.telemetry_taken(%L)', E'fetched:snapshot\n' || x), 'nonsense is a failure: ' || x) FROM unnest('{"{}","null","{\"results\": []}"}'::text[]) x;
SELECT * FROM finish();
ROLLBACK;
