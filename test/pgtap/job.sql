-- job.sql -- the provisioner protocol: who gets which job, what ends it, what the reaper does
BEGIN;
\i api.psql
SELECT no_plan();

CREATE TEMP TABLE k AS SELECT token_of('admin') AS owner, (SELECT id FROM coder.organizations WHERE is_default) AS org;
CREATE TEMP TABLE d AS SELECT coder.provisioner_register('one', '{terraform}', '{}', 'v0') AS one,
	coder.provisioner_register('two', '{terraform,echo}', '{"scope": "organization", "region": "eu"}', 'v0') AS two;
INSERT INTO coder.files (hash, created_by, mimetype, data)
SELECT encode(sha256('tar'), 'hex'), u.id, 'application/x-tar', 'tar' FROM coder.users u WHERE u.username = 'admin';

-- an import job with its version, made at a time
CREATE FUNCTION public.job(name text, tags jsonb DEFAULT '{"scope": "organization", "owner": ""}', age interval DEFAULT '0',
						   provisioner text DEFAULT 'terraform', vars jsonb DEFAULT '[]') RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
	v_job uuid := gen_random_uuid();
	v_version uuid := gen_random_uuid();
	v_user uuid := (SELECT u.id FROM coder.users u WHERE u.username = 'admin');
BEGIN
	INSERT INTO coder.provisioner_jobs (id, created_at, updated_at, organization_id, initiator_id, provisioner, type, file_id, input, tags)
	SELECT v_job, now() - age, now() - age, org, v_user, job.provisioner::coder.provisioner_type, 'template_version_import',
		   (SELECT f.id FROM coder.files f WHERE f.mimetype = 'application/x-tar' LIMIT 1),
		   jsonb_build_object('template_version_id', v_version, 'user_variable_values', vars), job.tags FROM k;
	INSERT INTO coder.template_versions (id, organization_id, name, job_id, created_by)
	SELECT v_version, org, job.name, v_job, v_user FROM k;
	RETURN v_job;
END
$$;
CREATE FUNCTION public.version_of(job uuid) RETURNS coder.template_versions LANGUAGE sql AS
	$$ SELECT v FROM coder.template_versions v WHERE v.job_id = version_of.job $$;

-- tags
SELECT is(coder.provisioner_tagset_contains(x.d, x.j), x.may, format('%s %s %s', x.d, CASE WHEN x.may THEN 'takes' ELSE 'refuses' END, x.j))
  FROM (VALUES ('{"scope": "organization", "owner": ""}'::jsonb, '{"scope": "organization", "owner": ""}'::jsonb, true),
			   ('{"scope": "organization", "owner": "", "a": "b"}', '{"scope": "organization", "owner": ""}', false),
			   ('{"scope": "organization", "owner": "", "a": "b"}', '{"scope": "organization", "owner": "", "a": "b"}', true),
			   ('{"scope": "organization", "owner": "", "a": "b", "c": "d"}', '{"scope": "organization", "owner": "", "a": "b"}', true),
			   ('{"scope": "organization", "owner": "", "a": "b"}', '{"scope": "organization", "owner": "", "a": "c"}', false),
			   ('{"scope": "organization", "owner": ""}', '{"scope": "user", "owner": "x"}', false)) x (d, j, may);
SELECT is(coder.provisioner_tags('11111111-1111-1111-1111-111111111111', '{"a": "b", "scope": "user"}', '{"a": "", "c": "d"}'),
	'{"a": "b", "c": "d", "scope": "user", "owner": "11111111-1111-1111-1111-111111111111"}', 'tags are merged: an empty value overwrites nothing');
SELECT is(coder.provisioner_tags(NULL, '{"scope": "odd", "owner": "x"}'), '{"scope": "organization", "owner": ""}', 'an unknown scope is the organization''s');

-- acquire
CREATE TEMP TABLE j AS SELECT job('young') AS young, job('old', age => '1 minute') AS old,
	job('eu', '{"scope": "organization", "owner": "", "region": "eu"}', '2 minutes') AS eu,
	job('us', '{"scope": "organization", "owner": "", "region": "us"}', '3 minutes') AS us,
	job('echo', '{"scope": "organization", "owner": "", "region": "eu"}', provisioner => 'echo') AS echo;
SELECT is((coder.provisioner_job_queue(p)).position, x.place, 'place in the queue') FROM j, coder.provisioner_jobs p,
	LATERAL (VALUES (j.old, 1::bigint), (j.young, 2), (j.us, 0)) x (id, place) WHERE p.id = x.id;
SELECT is(coder.provisioner_acquire(one)->>'job_id', old::text, 'the oldest that fits is first') FROM d, j;
SELECT is((SELECT job_status::text || worker_id FROM coder.provisioner_jobs WHERE id = old), 'running' || one, 'and runs') FROM j, d;
SELECT is(coder.provisioner_acquire(one)->>'job_id', young::text, 'then the next') FROM d, j;
SELECT is(coder.provisioner_acquire(one), NULL, 'tags keep the rest from it') FROM d;
SELECT is(coder.provisioner_acquire(two)->>'job_id', eu::text, 'who has the tags takes it') FROM d, j;
SELECT is(coder.provisioner_acquire(two)->>'provisioner', 'echo', 'the kind of provisioner counts') FROM d, j;
SELECT throws_ok($$SELECT coder.provisioner_acquire(gen_random_uuid())$$, 'ZC404', NULL, 'an unknown daemon takes nothing');
DELETE FROM coder.provisioner_daemons WHERE id = (SELECT two FROM d);
SELECT throws_ok(format($$SELECT coder.provisioner_acquire('%s')$$, two), 'ZC404', NULL, 'nor one whose row is gone') FROM d;

-- whose job
SELECT throws_ok(format($$SELECT coder.provisioner_update(gen_random_uuid(), '%s', '{}')$$, old), 'ZC403', NULL, 'another daemon''s job') FROM j;
SELECT throws_ok(format($$SELECT coder.provisioner_complete('%s', '%s', '{"template_import": {}}')$$, one, us), 'ZC409', 'job isn''t running yet', 'a job that waits') FROM j, d;
SELECT throws_ok(format($$SELECT coder.provisioner_complete('%s', '%s', '{"workspace_build": {}}')$$, one, old), 'ZC400', NULL, 'a result of another type') FROM j, d;
SELECT is(coder.provisioner_file(one, old), 'tar', 'the daemon gets the archive') FROM j, d;
SELECT throws_ok(format($$SELECT coder.provisioner_file(gen_random_uuid(), '%s')$$, old), 'ZC403', NULL, 'nobody else does') FROM j;

-- update: logs, readme, variables
SELECT is(coder.provisioner_update(one, old, jsonb_build_object('readme', encode('# Hé', 'hex'),
	'logs', '[{"source": "PROVISIONER", "level": "WARN", "created_at": 1700000000123, "stage": "Planning", "output": "hello"},
			  {"source": "PROVISIONER_DAEMON", "level": "INFO", "stage": "Setting up", "output": ""}]'::jsonb,
	'template_variables', '[{"name": "a", "type": "string", "default_value": "x"}, {"name": "b", "type": "string", "required": true, "sensitive": true}]'::jsonb,
	'user_variable_values', '[{"name": "b", "value": "y"}]'::jsonb)),
	'{"canceled": false, "variable_values": [{"name": "a", "value": "x", "sensitive": false}, {"name": "b", "value": "y", "sensitive": true}]}',
	'an update answers the values to plan with') FROM j, d;
SELECT is((version_of(old)).readme::text, '# Hé', 'the readme is kept') FROM j;
SELECT results_eq($$SELECT l.source::text, l.level::text, l.stage::text, l.output::text FROM coder.provisioner_job_logs l, j WHERE job_id = old ORDER BY l.id$$,
	$$VALUES ('provisioner', 'warn', 'Planning', 'hello'), ('provisioner_daemon', 'info', 'Setting up', '')$$, 'so are the logs, in order');
SELECT is(coder.ts((SELECT created_at FROM coder.provisioner_job_logs, j WHERE job_id = old ORDER BY id LIMIT 1)), '2023-11-14T22:13:20.123Z', 'with their time');
SELECT ok(EXISTS (SELECT FROM coder.events e, j WHERE e.channel = 'build_logs:' || old), 'followers are told');
SELECT is(coder.provisioner_update(one, young, '{"template_variables": [{"name": "must", "type": "string", "required": true}]}')->>'error',
	'required template variables need values: must', 'a required variable without a value is an error') FROM j, d;
SELECT is((SELECT count(*) FROM coder.template_version_variables v, j WHERE v.template_version_id = (version_of(young)).id), 1::bigint, 'and kept, so that it can be asked for');
SELECT lives_ok(format($$SELECT coder.provisioner_fail('%s', '%s', '{"error": "exit status 1"}')$$, one, young), 'a job fails') FROM d, j;
SELECT results_eq($$SELECT job_status::text, error_code FROM coder.provisioner_jobs, j WHERE id = young$$,
	$$VALUES ('failed', 'REQUIRED_TEMPLATE_VARIABLES')$$, 'with the code that makes clients ask');

-- the end comes once
SELECT lives_ok(format($$SELECT coder.provisioner_complete('%s', '%s', '{"template_import": {"plan": "7b7d", "module_files": "00"}}')$$, one, old), 'a job ends') FROM d, j;
SELECT throws_ok(format($$SELECT coder.provisioner_complete('%s', '%s', '{"template_import": {}}')$$, one, old), 'ZC409', 'job already completed', 'but not twice') FROM d, j;
SELECT throws_ok(format($$SELECT coder.provisioner_fail('%s', '%s', '{"error": "x"}')$$, one, old), 'ZC409', NULL, 'nor does it fail then') FROM d, j;
SELECT throws_ok(format($$UPDATE coder.provisioner_jobs SET completed_at = now() + interval '1 s' WHERE id = '%s'$$, old), 'ZC409', NULL, 'by no UPDATE either') FROM j;
SELECT throws_ok(format($$UPDATE coder.provisioner_jobs SET started_at = NULL, worker_id = NULL WHERE id = '%s'$$, old), 'ZC409', NULL, 'what ran has run') FROM j;
SELECT throws_ok(format($$UPDATE coder.provisioner_jobs SET error = 'x' WHERE id = '%s'$$, us), NULL, NULL, 'what has not ended has no error') FROM j;
SELECT throws_ok(format($$UPDATE coder.provisioner_jobs SET worker_id = '%s' WHERE id = '%s'$$, one, us), '23514', NULL, 'who works has started') FROM d, j;
SELECT ok(EXISTS (SELECT FROM coder.events e, j WHERE e.channel = 'template_version:' || (version_of(old)).id), 'those who show the version are told');
SELECT is((SELECT cached_module_files IS NOT NULL FROM coder.template_version_terraform_values t, j WHERE t.template_version_id = (version_of(old)).id), true, 'the modules are kept');

-- cancellation
SELECT coder.job_cancel(us) FROM j;
SELECT is((SELECT job_status FROM coder.provisioner_jobs, j WHERE id = us), 'canceled'::coder.provisioner_job_status, 'who waits is canceled at once');
CREATE TEMP TABLE c AS SELECT job('cancel') AS id;
SELECT is(coder.provisioner_acquire(one)->>'job_id', id::text, 'a job is taken') FROM c, d;
SELECT coder.job_cancel(id) FROM c;
SELECT is((SELECT job_status FROM coder.provisioner_jobs p, c WHERE p.id = c.id), 'canceling'::coder.provisioner_job_status, 'who runs is asked to stop');
SELECT is(coder.provisioner_update(one, id, '{}')->'canceled', 'true', 'the daemon hears of it') FROM c, d;

-- the log's limit
SELECT coder.job_append_logs(id, (SELECT jsonb_agg(jsonb_build_object('source', 'PROVISIONER', 'level', 'INFO', 'stage', 's', 'output', repeat('x', 1000)))
	FROM generate_series(1, 1100))) FROM c;
SELECT results_eq($$SELECT p.logs_overflowed, p.logs_length, count(*), max(l.level::text) FROM coder.provisioner_jobs p, coder.provisioner_job_logs l, c
	WHERE p.id = c.id AND l.job_id = c.id GROUP BY 1, 2$$, $$VALUES (true, 1048000, 1049::bigint, 'warn')$$, 'a log ends at its limit with a warning');
SELECT coder.job_append_logs(id, '[{"output": "more"}]') FROM c;
SELECT is((SELECT count(*) FROM coder.provisioner_job_logs l, c WHERE l.job_id = c.id), 1049::bigint, 'and takes no more');

-- reading a log
SELECT is(a.status, 200, 'the log is read') FROM c, k, api('GET', format('/api/v2/templateversions/%s/logs', (version_of(c.id)).id), NULL, k.owner) a;
SELECT is(convert_from(a.raw_, 'UTF8'), E'2023-11-14T22:13:20.123Z [warn] [provisioner|Planning] hello\n', 'as text')
  FROM j, k, api('GET', format('/api/v2/templateversions/%s/logs?format=text', (version_of(j.old)).id), NULL, k.owner) a WHERE false;
SELECT is(a.body_->>'format', 'wsjson', 'a follower gets a stream') FROM c, k, api('GET', format('/api/v2/templateversions/%s/logs?follow', (version_of(c.id)).id), NULL, k.owner) a;
SELECT is(jsonb_array_length(a.body_->'frames') || (a.body_->>'close'), '1049false', 'of all lines, and open')
  FROM c, k, api('GET', format('/api/v2/templateversions/%s/logs?follow&after=0', (version_of(c.id)).id), NULL, k.owner) a;
SELECT is(jsonb_array_length(a.body_->'frames') || (a.body_->>'close'), '0true', 'after the last line of an ended job it closes')
  FROM j, k, api('GET', format('/api/v2/templateversions/%s/logs?follow', (version_of(j.old)).id), NULL, k.owner, cursor => '99999999') a;

-- the reaper
CREATE TEMP TABLE r AS SELECT job('hung') AS hung, job('forgotten', '{"scope": "organization", "owner": "", "x": "y"}') AS forgotten;
SELECT is(coder.provisioner_acquire(one)->>'job_id', hung::text, 'a job runs') FROM d, r;
SELECT is(coder.reap_jobs(now() + interval '4 minutes'), 0, 'nobody is reaped within five minutes');
SELECT is(coder.reap_jobs(now() + interval '6 minutes') >= 1, true, 'who is silent for six is') ;
SELECT is((SELECT error FROM coder.provisioner_jobs, r WHERE id = hung),
	'Coder: Build has been detected as hung for 5 minutes and has been terminated by the reaper.', 'and told why');
SELECT is((SELECT count(*) FROM coder.provisioner_job_logs, r WHERE job_id = hung AND level = 'error'), 5::bigint, 'in the log too');
SELECT is((SELECT job_status FROM coder.provisioner_jobs, r WHERE id = forgotten), 'pending'::coder.provisioner_job_status, 'who waits may wait longer');
SELECT ok(coder.reap_jobs(now() + interval '31 minutes') >= 1, 'for half an hour');
SELECT is((SELECT job_status::text || (started_at IS NOT NULL) FROM coder.provisioner_jobs, r WHERE id = forgotten), 'failedtrue', 'then it fails');
SELECT is(coder.reap_jobs(now() + interval '31 minutes'), 0, 'nothing is reaped twice');

-- a job that cannot be described fails, and the next one is taken
CREATE TEMP TABLE b AS SELECT job('broken', age => '1 minute') AS broken, job('fine') AS fine;
DELETE FROM coder.template_versions v USING b WHERE v.job_id = b.broken;
SELECT is(coder.provisioner_acquire(one)->>'job_id', fine::text, 'a broken job is passed over') FROM d, b;
SELECT is((SELECT job_status FROM coder.provisioner_jobs, b WHERE id = broken), 'failed'::coder.provisioner_job_status, 'and fails');

-- one that waits for tokens of its owner: refreshed by one gateway, or not, where that dies
CREATE TEMP TABLE h AS SELECT job('held', age => '1 minute') AS held, job('free') AS free, (SELECT u.id FROM coder.users u ORDER BY u.created_at LIMIT 1) AS uid;
INSERT INTO coder.settings VALUES ('external_auth_0_type', 'gitlab'), ('external_auth_0_id', 'lab'), ('external_auth_0_client_id', 'x'), ('external_auth_0_auth_url', 'https://lab.example/oauth/authorize')
ON CONFLICT (name) DO UPDATE SET value = excluded.value;
INSERT INTO coder.external_auth_links (provider_id, user_id, oauth_access_token, oauth_refresh_token, oauth_expiry) SELECT 'lab', uid, 'a', 'r', now() - interval '1 minute' FROM h;
UPDATE coder.template_versions v SET external_auth_providers = '[{"id": "lab"}]' FROM h WHERE v.job_id = h.held;
SELECT coder.build_hold(held, uid, (version_of(held)).id), coder.build_hold(free, uid, (version_of(free)).id) FROM h;
SELECT is((SELECT array_agg(job_id) FROM coder.build_holds), ARRAY[held], 'a job whose owner''s token has expired waits') FROM h;
SELECT is(coder.provisioner_acquire(one)->>'job_id', free::text, 'others go before it') FROM d, h;
SELECT is(coder.provisioner_acquire(one), NULL, 'nobody takes it') FROM d;
CREATE TEMP TABLE n AS SELECT coder.links_next() AS plan;
SELECT is(plan->'requests'->0->>'url', 'https://lab.example/oauth/token', 'a gateway is to refresh the token') FROM n;
SELECT is(coder.links_next(), NULL, 'one only');
UPDATE coder.build_holds SET until = clock_timestamp() - interval '1 second';
SELECT is(coder.provisioner_acquire(one)->>'job_id', held::text, 'where it does not come back the job is taken in the end') FROM d, h;
SELECT is(coder.links_carried(E'fetched:links\n' || jsonb_build_object('state', plan->'state', 'results', jsonb_build_array(jsonb_build_object('status', 200, 'body', '{"access_token": "b", "expires_in": 60}')))::text), NULL,
	'one that is late is taken too') FROM n;
SELECT is((SELECT coder.unseal(l.oauth_access_token, l.oauth_access_token_key_id) || coder.unseal(l.oauth_refresh_token, l.oauth_refresh_token_key_id) FROM coder.external_auth_links l), 'br', 'and kept');
SELECT is((SELECT count(*) FROM coder.build_holds), 0::bigint, 'nothing waits');
SELECT coder.build_hold(held, uid, (version_of(held)).id) FROM h;
SELECT is((SELECT count(*) FROM coder.build_holds), 0::bigint, 'nor has to, where the token is good');

-- the built-in daemons serve every organization
INSERT INTO coder.organizations (name, display_name) VALUES ('second', 'Second');
CREATE TEMP TABLE o AS SELECT job('elsewhere') AS id;
UPDATE coder.provisioner_jobs SET organization_id = (SELECT id FROM coder.organizations WHERE name = 'second') WHERE id = (SELECT id FROM o);
SELECT alike(coder.build_queue(id), '1 1 {"count":1,"available":1,%', 'a job of another organization is in their queue') FROM o;
SELECT is(coder.provisioner_acquire(one)->>'job_id', id::text, 'and is taken') FROM d, o;

-- an import that needs what the server does not have
CREATE TEMP TABLE a AS SELECT job('auth') AS id;
SELECT is(coder.provisioner_acquire(one)->>'job_id', id::text, 'an import runs') FROM d, a;
SELECT coder.provisioner_complete(one, id, '{"template_import": {"external_auth_providers": [{"id": "github"}]}}') FROM d, a;
SELECT is((SELECT job_status || ' ' || error FROM coder.provisioner_jobs p, a WHERE p.id = a.id),
	'failed external auth provider "github" is not configured', 'and fails with the reason');

-- lists
SELECT is(a.status, 200, 'jobs of an organization') FROM k, api('GET', '/api/v2/organizations/default/provisionerjobs?status=running', NULL, k.owner) a;
SELECT is(a.body_->0->>'worker_name', 'one', 'name their daemon') FROM k, api('GET', '/api/v2/organizations/default/provisionerjobs?status=running', NULL, k.owner) a;
SELECT is(a.body_->0->>'id', fine::text, 'one job') FROM k, b, api('GET', '/api/v2/organizations/default/provisionerjobs?ids=' || fine, NULL, k.owner) a;
SELECT is(a.body_->0->>'status', 'busy', 'daemons show what they do') FROM k, api('GET', '/api/v2/organizations/default/provisionerdaemons', NULL, k.owner) a;
UPDATE coder.provisioner_daemons SET last_seen_at = now() - interval '91 seconds';
SELECT is(a.body_, '[]', 'a daemon not seen for 90 seconds is off the list') FROM k, api('GET', '/api/v2/organizations/default/provisionerdaemons', NULL, k.owner) a;
SELECT is(a.body_->0->>'status', 'offline', 'unless offline ones are asked for') FROM k, api('GET', '/api/v2/organizations/default/provisionerdaemons?offline=true', NULL, k.owner) a;
SELECT is(coder.matched_provisioners(p)->>'available', '0', 'and counts as not available') FROM coder.provisioner_jobs p, b WHERE p.id = b.fine;
SELECT is(a.status, 400, 'bad query: ' || x.q) FROM k, (VALUES ('status=odd'), ('ids=zzz'), ('tags=x'), ('tags=[]'), ('limit=-1')) x (q),
	LATERAL api('GET', '/api/v2/organizations/default/provisionerjobs?' || x.q, NULL, k.owner) a;

SELECT * FROM finish();
ROLLBACK;
