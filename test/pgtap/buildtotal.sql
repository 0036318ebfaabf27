-- Totals of jobs that have ended: metrics say the same, whichever jobs are added up, whatever changes.
BEGIN;
SELECT no_plan();
\i api.psql
\set n 20
\i workspaces.psql
\set builds 300
\i pastbuilds.psql
SET LOCAL session_replication_role = replica;
UPDATE coder.workspace_builds SET reason = (enum_range(NULL::coder.build_reason))[1 + build_number % 5], initiator_id = CASE WHEN build_number % 7 = 3
	THEN 'c42fdf75-3097-471c-8c33-fb52454d81c0' ELSE initiator_id END;
UPDATE coder.workspace_builds SET transition = 'stop' WHERE build_number = 1 AND workspace_id IN (pg_temp.id('workspace', 2), pg_temp.id('workspace', 3));
UPDATE coder.provisioner_jobs SET started_at = created_at + interval '0.1 s' * (logs_length + extract(second FROM created_at)::integer % 9),
	completed_at = created_at + interval '1 s' * (1 + extract(minute FROM created_at) * 2) WHERE type = 'workspace_build';
-- The latest build has the highest number.
UPDATE coder.workspaces w SET latest_build_id = (SELECT b.id FROM coder.workspace_builds b WHERE b.workspace_id = w.id ORDER BY b.build_number DESC LIMIT 1);
SET LOCAL session_replication_role = origin;

-- What a scrape says of builds, jobs and first connections.
CREATE FUNCTION pg_temp.said() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(l, E'\n' ORDER BY l COLLATE "C") FROM (SELECT string_agg(m, '') FROM coder.metrics(now()) m) x(m), LATERAL regexp_split_to_table(m, E'\n') l
	 WHERE l ~ '^coderd_(agents|workspace|api_workspace|provisioner_job|provisionerd_|template_workspace)'
$$;
-- The same where no job is added up.
CREATE FUNCTION pg_temp.recounted() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	v text;
BEGIN
	DELETE FROM coder.build_totals;
	DELETE FROM coder.build_total_keys;
	ALTER TABLE coder.provisioner_jobs DISABLE TRIGGER build_totals_update;
	UPDATE coder.provisioner_jobs SET counted = NULL, counted_micros = NULL;
	v := pg_temp.said();
	RAISE EXCEPTION SQLSTATE 'ZZ001';
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
	RETURN v;
END
$$;
-- Sums that are not those of the jobs that are said to be in them.
CREATE FUNCTION pg_temp.faults() RETURNS bigint LANGUAGE sql AS $$
	WITH kept AS (
		SELECT k.family, k.a, k.b, k.c, k.labels, t.bucket, sum(t.n) AS n, sum(t.micros) AS micros
		  FROM coder.build_totals t JOIN coder.build_total_keys k ON k.id = t.key GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(t.n) <> 0 OR sum(t.micros) <> 0
	), wanted AS (
		SELECT c.family, c.a, c.b, c.c, c.labels, coder.metric_bucket(c.family, c.micros) AS bucket, count(*)::numeric AS n, sum(c.micros)::numeric AS micros
		  FROM coder.job_counts(ARRAY(SELECT j.id FROM coder.provisioner_jobs j WHERE j.counted IS NOT NULL)) c
		 WHERE c.family <> 9 GROUP BY 1, 2, 3, 4, 5, 6
	)
	SELECT count(*) FROM ((SELECT * FROM kept WHERE family <> 9 EXCEPT SELECT * FROM wanted) UNION ALL (SELECT * FROM wanted EXCEPT SELECT * FROM kept)) x
$$;
SELECT pg_temp.said() AS before \gset
SELECT cmp_ok(length(:'before'), '>', 10000, 'there is something to compare');
SELECT is(pg_temp.recounted(), :'before', 'as it is counted from the tables');
SELECT is(coder.count_jobs(now(), 100), 100, 'jobs are added up by batches');
SELECT is(pg_temp.said(), :'before', 'some of them: the same is said');
SELECT coder.count_jobs(now(), 1000);
SELECT is((SELECT count(*) FROM coder.provisioner_jobs j WHERE j.counted IS NULL AND EXISTS (SELECT FROM coder.workspace_builds b WHERE b.job_id = j.id)), 20::bigint,
	'all but those of latest builds');
SELECT is(pg_temp.said(), :'before', 'all of them: the same is said');
SELECT is(pg_temp.faults(), 0::bigint, 'sums are those of their jobs');
SELECT cmp_ok((SELECT count(*) FROM coder.build_totals), '<', (SELECT count(*) FROM coder.provisioner_jobs j, unnest(j.counted)), 'there are less sums than they are of');
SELECT is(coder.count_jobs(now(), 1000), 0, 'nothing is added twice');

-- Names are of now.
UPDATE coder.users SET username = 'renamed' WHERE username = 'member0';
UPDATE coder.templates SET name = 'renamed-template' WHERE name = 'template-1';
UPDATE coder.workspaces SET name = 'renamed-workspace' WHERE name = 'workspace-4';
UPDATE coder.template_versions SET name = 'renamed-version' WHERE name = 'elegant_turing4';
SELECT ok(pg_temp.said() <> :'before' AND pg_temp.said() ~ 'workspace_builds_total\{workspace_owner="renamed",workspace_name="renamed-workspace",template_name="[^"]*",template_version="renamed-version"',
	'new names');
SELECT is(pg_temp.said(), pg_temp.recounted(), 'and nothing else');
SELECT is((SELECT count(*) FROM coder.provisioner_jobs j WHERE j.counted IS NULL AND EXISTS (SELECT FROM coder.workspace_builds b WHERE b.job_id = j.id)), 20::bigint,
	'for which no job is taken out');
UPDATE coder.workspace_agents SET last_connected_at = now(), disconnected_at = NULL, updated_at = now();
SELECT is((SELECT count(*) FROM coder.provisioner_jobs j WHERE j.counted IS NULL AND EXISTS (SELECT FROM coder.workspace_builds b WHERE b.job_id = j.id)), 20::bigint,
	'nor for what metrics of the past do not say');

-- The first start of a workspace: another is, when it goes.
DELETE FROM coder.workspace_builds WHERE id = pg_temp.id('build', 5);
SELECT is(pg_temp.said(), pg_temp.recounted(), 'the first build of a workspace is gone');
SELECT coder.count_jobs(now(), 1000);
SELECT is(pg_temp.said(), pg_temp.recounted(), 'and the others are added again');

-- Anything, in any order, in transactions that end or do not.
CREATE FUNCTION pg_temp.one(of text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
	v uuid;
BEGIN
	EXECUTE format('SELECT id FROM coder.%I ORDER BY id OFFSET floor(random() * (SELECT count(*) FROM coder.%I))::bigint LIMIT 1', of, of) INTO v;
	RETURN v;
END
$$;
CREATE FUNCTION pg_temp.change(what integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	agent CONSTANT uuid := pg_temp.one('workspace_agents');
	resource CONSTANT uuid := pg_temp.one('workspace_resources');
	build CONSTANT uuid := pg_temp.one('workspace_builds');
	job CONSTANT uuid := pg_temp.one('provisioner_jobs');
	workspace CONSTANT uuid := pg_temp.one('workspaces');
BEGIN
	-- Rules about what may follow what are not tested here.
	PERFORM set_config('session_replication_role', CASE WHEN what >= 20 OR what IN (5, 7) THEN 'origin' ELSE 'replica' END, true);
	CASE what
		WHEN 0 THEN PERFORM coder.count_jobs(now(), 1 + (random() * 100)::integer);
		WHEN 1 THEN UPDATE coder.workspace_agents SET first_connected_at = CASE WHEN random() < 0.8 THEN created_at + random() * interval '1 hour' END WHERE id = agent;
		WHEN 2 THEN UPDATE coder.workspace_agents SET ready_at = CASE WHEN random() < 0.8 THEN created_at + random() * interval '1 hour' END WHERE id = agent;
		WHEN 3 THEN UPDATE coder.workspace_agents SET start_result = (ARRAY[NULL, 'ready', 'start_error', 'start_timeout']::coder.workspace_agent_lifecycle_state[])[1 + floor(random() * 4)::integer],
			lifecycle_state = CASE WHEN random() < 0.5 THEN 'off' ELSE 'start_error' END::coder.workspace_agent_lifecycle_state, ready_at = created_at + interval '9 s' WHERE id = agent;
		WHEN 4 THEN UPDATE coder.workspace_agents SET name = 'agent' || floor(random() * 3), resource_id = resource,
			parent_id = CASE WHEN random() < 0.5 THEN pg_temp.one('workspace_agents') END WHERE id = agent;
		WHEN 5 THEN INSERT INTO coder.workspace_agents (name, resource_id, architecture, operating_system, created_at, first_connected_at, ready_at)
			SELECT 'more' || floor(random() * 1000), resource, 'amd64', 'linux', r.created_at, r.created_at + interval '7 s', r.created_at + interval '8 s' FROM coder.workspace_resources r WHERE r.id = resource;
		WHEN 6 THEN UPDATE coder.workspace_resources SET job_id = job WHERE id = resource;
		WHEN 7 THEN INSERT INTO coder.workspace_resources (job_id, transition, type, name) VALUES (job, 'start', 'x', 'x');
		WHEN 8 THEN UPDATE coder.provisioner_jobs SET error = CASE WHEN random() < 0.5 THEN 'failed' END WHERE id = job AND completed_at IS NOT NULL;
		WHEN 9 THEN UPDATE coder.provisioner_jobs SET completed_at = created_at + (random() - 0.1) * interval '1 hour' WHERE id = job AND completed_at IS NOT NULL;
		WHEN 10 THEN UPDATE coder.provisioner_jobs SET started_at = created_at + (random() - 0.1) * interval '1 hour', provisioner = 'echo' WHERE id = job AND started_at IS NOT NULL;
		WHEN 11 THEN UPDATE coder.provisioner_jobs SET completed_at = NULL, error = NULL WHERE id = job;
		WHEN 12 THEN UPDATE coder.workspace_builds SET template_version_id = pg_temp.one('template_versions'), reason = 'autostop' WHERE id = build;
		WHEN 13 THEN UPDATE coder.workspace_builds SET build_number = 1000 + (random() * 1000000)::integer, created_at = created_at - interval '3 s' WHERE id = build;
		WHEN 14 THEN UPDATE coder.workspace_builds SET initiator_id = CASE WHEN random() < 0.5 THEN 'c42fdf75-3097-471c-8c33-fb52454d81c0' ELSE initiator_id END WHERE id = build;
		WHEN 15 THEN UPDATE coder.workspace_builds SET workspace_id = workspace, build_number = -(random() * 1000000)::integer WHERE id = build;
		WHEN 16 THEN UPDATE coder.workspaces SET template_id = pg_temp.id('template', floor(random() * 5)::bigint) WHERE id = workspace;
		WHEN 17 THEN UPDATE coder.workspaces SET deleted = NOT deleted WHERE id = workspace;
		WHEN 18 THEN UPDATE coder.workspaces SET latest_build_id = (SELECT b.id FROM coder.workspace_builds b WHERE b.workspace_id = workspace ORDER BY random() LIMIT 1) WHERE id = workspace;
		WHEN 19 THEN DELETE FROM coder.workspace_builds WHERE id = build;
		WHEN 20 THEN DELETE FROM coder.workspace_agents WHERE id = agent;
		WHEN 21 THEN DELETE FROM coder.workspace_resources WHERE id = resource;
		WHEN 22 THEN DELETE FROM coder.provisioner_jobs WHERE id = job AND type = 'workspace_build';
		WHEN 23 THEN DELETE FROM coder.workspaces WHERE id = workspace AND random() < 0.1;
	END CASE;
END
$$;
CREATE TEMP TABLE outcome (what integer, ended text);
CREATE TEMP TABLE compared (round integer, same boolean, faults bigint, counted bigint);
SELECT setseed(0.25);
DO $$
DECLARE
	v_what integer;
	v_said text;
	v_recounted text;
BEGIN
	FOR i IN 1 .. 280 LOOP
		v_what := CASE WHEN random() < 0.15 THEN 0 ELSE floor(random() * 24) END;
		BEGIN
			PERFORM pg_temp.change(v_what);
			IF random() < 0.2 THEN
				PERFORM pg_temp.change(0);
				RAISE EXCEPTION SQLSTATE 'ZZ002';
			END IF;
			INSERT INTO outcome VALUES (v_what, 'done');
		EXCEPTION
			WHEN SQLSTATE 'ZZ002' THEN INSERT INTO outcome VALUES (v_what, 'rolled back');
			WHEN integrity_constraint_violation OR SQLSTATE 'ZC409' THEN INSERT INTO outcome VALUES (v_what, SQLERRM);
		END;
		PERFORM set_config('session_replication_role', 'origin', true);
		IF i % 10 = 0 THEN
			v_said := pg_temp.said();
			v_recounted := pg_temp.recounted();
			INSERT INTO compared SELECT i, v_said = v_recounted, pg_temp.faults(), (SELECT count(*) FROM coder.provisioner_jobs j WHERE j.counted IS NOT NULL);
		END IF;
	END LOOP;
END
$$;
SELECT is((SELECT string_agg(round || ' (' || faults || ')', ' ') FROM compared WHERE NOT same OR faults > 0), NULL, 'changes in any order: the same is said, and sums are those of their jobs');
SELECT cmp_ok((SELECT max(counted) - min(counted) FROM compared), '>', 20::bigint, 'jobs were taken out, and added');
SELECT is((SELECT count(*) FROM generate_series(0, 23) w WHERE NOT EXISTS (SELECT FROM outcome o WHERE o.what = w AND o.ended = 'done')), 0::bigint, 'each kind of change was made');
SELECT cmp_ok((SELECT count(*) FROM outcome WHERE ended = 'rolled back'), '>', 20::bigint, 'some were rolled back');
SELECT diag(string_agg(what || ': ' || ended || ' ' || n, ', ')) FROM (SELECT what, ended, count(*) AS n FROM outcome WHERE ended NOT IN ('done', 'rolled back') GROUP BY 1, 2) x;
SET LOCAL client_min_messages = warning;
TRUNCATE coder.workspace_agents CASCADE;
SELECT is(pg_temp.said(), pg_temp.recounted(), 'no agents');
SELECT is(pg_temp.faults(), 0::bigint, 'and no job is added up');
SELECT * FROM finish();
ROLLBACK;
