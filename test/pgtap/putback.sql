-- putback.sql -- jobs whose daemon died: which go back in the queue, how often, and what the rest becomes
BEGIN;
\i api.psql
SELECT no_plan();

CREATE TEMP TABLE k AS SELECT token_of('admin') AS owner, (SELECT id FROM coder.organizations WHERE is_default) AS org;
CREATE TEMP TABLE d AS SELECT coder.provisioner_register('one', '{terraform}', '{}', 'v0') AS one, coder.provisioner_register('two', '{terraform}', '{}', 'v0') AS two;

-- jobs of imports: the oldest is taken first
CREATE FUNCTION public.job(name text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
	v_job uuid := gen_random_uuid();
	v_user uuid := (SELECT u.id FROM coder.users u WHERE u.username = 'admin');
BEGIN
	INSERT INTO coder.provisioner_jobs (id, organization_id, initiator_id, provisioner, type, file_id, input, tags)
	SELECT v_job, org, v_user, 'terraform', 'template_version_import', gen_random_uuid(), '{}', '{"scope": "organization", "owner": ""}' FROM k;
	INSERT INTO coder.template_versions (organization_id, name, job_id, created_by) SELECT org, job.name, v_job, v_user FROM k;
	RETURN v_job;
END
$$;
CREATE FUNCTION public.state(job uuid) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT format('%s %s %s', j.job_status, j.attempts, coalesce(p.name, 'nobody'))
			  FROM coder.provisioner_jobs j LEFT JOIN coder.provisioner_daemons p ON p.id = j.worker_id WHERE j.id = job);
END
$$;
CREATE TEMP TABLE j AS SELECT job('first') AS first;

SELECT is(coder.provisioner_acquire(one)->>'job_id', first::text, 'a job is taken') FROM d, j;
SELECT throws_ok(format($$SELECT coder.provisioner_put_back('%s', '%s')$$, two, first), 'ZC403', NULL, 'another daemon does not put it back') FROM d, j;
SELECT ok(coder.provisioner_put_back(one, first), 'its own does') FROM d, j;
SELECT is(state(first), 'pending 1 nobody', 'and it waits') FROM j;
SELECT is((SELECT string_agg(format('%s %s %s', l.source, l.level, l.output), '|') FROM coder.provisioner_job_logs l WHERE l.job_id = first),
	'provisioner_daemon warn The provisioner ended before anything was changed; the job is back in the queue (attempt 2 of 3).', 'the log says so') FROM j;
SELECT throws_ok(format($$SELECT coder.provisioner_update('%s', '%s', '{}')$$, one, first), 'ZC409', 'job isn''t running yet', 'who had it has it no more') FROM d, j;
SELECT is(coder.provisioner_acquire(two)->>'job_id', first::text, 'another daemon takes it') FROM d, j;
SELECT throws_ok(format($$SELECT coder.provisioner_complete('%s', '%s', '{"template_import": {}}')$$, one, first), 'ZC403', NULL, 'the first one cannot end it') FROM d, j;
SELECT ok(coder.provisioner_put_back(two, first), 'it goes back once more') FROM d, j;
SELECT is(coder.provisioner_acquire(one)->>'job_id', first::text, 'for a third attempt') FROM d, j;
SELECT ok(NOT coder.provisioner_put_back(one, first), 'which is the last') FROM d, j;
SELECT is(state(first), 'running 2 one', 'so that its daemon must fail it') FROM j;
SELECT lives_ok(format($$SELECT coder.provisioner_fail('%s', '%s', '{"error": "the provisioner ended"}')$$, one, first), 'as it does') FROM d, j;
SELECT throws_ok(format($$SELECT coder.provisioner_put_back('%s', '%s')$$, one, first), 'ZC409', 'job already completed', 'an end is an end') FROM d, j;

-- what may have changed something, and what was canceled, is not done again
CREATE TEMP TABLE a AS SELECT job('applying') AS applying;
SELECT is(coder.provisioner_acquire(one)->>'job_id', applying::text, 'another job') FROM d, a;
SELECT is(coder.provisioner_update(one, applying, '{"applying": true}')->'canceled', 'false', 'that begins to apply') FROM d, a;
SELECT ok(NOT coder.provisioner_put_back(one, applying), 'does not go back') FROM d, a;
SELECT is(coder.put_back_jobs(now() + interval '1 day'), 0, 'nor does it when its daemon is silent');
SELECT throws_ok(format($$UPDATE coder.provisioner_jobs SET started_at = NULL, worker_id = NULL, attempts = attempts + 1 WHERE id = '%s'$$, applying),
	'ZC409', 'A job''s started_at is written once.', 'not even by hand') FROM a;
SELECT ok(coder.reap_jobs(now() + interval '6 minutes') > 0, 'the reaper ends it') FROM a;
SELECT is(state(applying), 'failed 0 one', 'as a failure') FROM a;
CREATE TEMP TABLE c AS SELECT job('canceled') AS canceled;
SELECT is(coder.provisioner_acquire(one)->>'job_id', canceled::text, 'a job') FROM d, c;
UPDATE coder.provisioner_jobs SET canceled_at = now() WHERE id = (SELECT canceled FROM c);
SELECT ok(NOT coder.provisioner_put_back(one, canceled), 'that was canceled does not go back') FROM d, c;
SELECT lives_ok(format($$SELECT coder.provisioner_fail('%s', '%s', '{"error": "x"}')$$, one, canceled)) FROM d, c;

-- by hand: all of it or nothing
CREATE TEMP TABLE h AS SELECT job('hand') AS hand;
SELECT is(coder.provisioner_acquire(one)->>'job_id', hand::text, 'a running job') FROM d, h;
SELECT throws_ok(format('UPDATE coder.provisioner_jobs SET started_at = NULL, worker_id = NULL%s WHERE id = %L', x.more, hand), 'ZC409', NULL, 'not without being counted' || x.more)
  FROM h, (VALUES (''), (', attempts = 0'), (', attempts = 5')) x (more);
SELECT throws_ok(format('UPDATE coder.provisioner_jobs SET started_at = now() + interval ''1 s'' WHERE id = %L', hand), 'ZC409', NULL, 'its start stays') FROM h;

-- daemons that fall silent
SELECT is(coder.put_back_jobs(now() + interval '50 seconds'), 0, 'a minute of silence is borne');
UPDATE coder.provisioner_jobs SET updated_at = now() - interval '2 minutes' WHERE id = (SELECT hand FROM h);
SELECT is(coder.put_back_jobs(pg_postmaster_start_time() + interval '59 seconds'), 0, 'also after a start of the database');
UPDATE coder.provisioner_daemons SET last_seen_at = now() + interval '10 minutes' WHERE id = (SELECT one FROM d);
SELECT is(coder.put_back_jobs(now() + interval '10 minutes'), 0, 'a daemon that lives keeps its job');
UPDATE coder.provisioner_daemons SET last_seen_at = now() - interval '2 minutes' WHERE id = (SELECT one FROM d);
SELECT is(coder.put_back_jobs(now() + interval '10 minutes'), 1, 'one that is silent does not');
SELECT is(state(hand), 'pending 1 nobody', 'its job waits') FROM h;
SELECT is(coder.provisioner_acquire(two)->>'job_id', hand::text, 'for another') FROM d, h;
DELETE FROM coder.provisioner_daemons WHERE id = (SELECT two FROM d);
SELECT is(coder.put_back_jobs(now() + interval '10 minutes'), 1, 'nor one whose row is gone');

SELECT * FROM finish();
ROLLBACK;
