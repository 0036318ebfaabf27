-- SPDX-License-Identifier: MIT
--
-- buildtotal.sql
--   Counters and histograms of jobs that have ended, added up, so that a scrape
--   of metrics reads only jobs that are not.
--
-- A job is in the totals or it is not: provisioner_jobs.counted names the series
-- that it is in.  Whatever changes what a job says (itself, its build, resources
-- and agents, the template of its workspace) takes it out in the same
-- transaction, by rows that are negative; until it is added again
-- (coder.count_jobs) it is read by itself.  Series are of ids: names are looked
-- up by who reads.  Nothing here is updated, and only coder.count_jobs, one at a
-- time, deletes: nobody waits for a row.

CREATE TABLE coder.build_total_keys
(
	id					serial PRIMARY KEY,
	family				smallint NOT NULL,
	a					uuid NOT NULL,
	b					uuid NOT NULL,
	c					uuid NOT NULL,
	labels				text[] NOT NULL,
	UNIQUE (family, a, b, c, labels)
);
COMMENT ON TABLE coder.build_total_keys IS 'Derived: series of build_totals, by the ids and labels that they are of.';
COMMENT ON COLUMN coder.build_total_keys.family IS 'As in coder.job_counts.';

CREATE TABLE coder.build_totals
(
	key					integer NOT NULL,
	bucket				smallint NOT NULL,
	n					bigint NOT NULL,
	micros				bigint NOT NULL,
	merged				boolean NOT NULL
);
CREATE INDEX build_totals_key_idx ON coder.build_totals (key);
CREATE INDEX build_totals_unmerged_idx ON coder.build_totals (key) WHERE NOT merged;
COMMENT ON TABLE coder.build_totals IS 'Derived: sums of what jobs that have ended add to metrics, by series and bucket; rows of one add up.';
COMMENT ON COLUMN coder.build_totals.micros IS 'Microseconds that were observed.';
COMMENT ON COLUMN coder.build_totals.merged IS 'False: a job that was taken out.';

-- coder.metric_bucket(family, micros): the bucket of an observation, from 0: the
-- borders are those of extension/metricfamily.c and belong to the bucket below.
CREATE FUNCTION coder.metric_bucket(family integer, micros bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
	WHEN family IN (3, 6, 9) THEN 0
	WHEN family = 1 THEN width_bucket(micros - 1, '{100000,500000,1000000,5000000,10000000,30000000,60000000,120000000,300000000,600000000,900000000,1800000000}'::bigint[])
	WHEN family = 8 THEN width_bucket(micros - 1, '{1000000,10000000,30000000,60000000,120000000,300000000,600000000,1800000000,3600000000}'::bigint[])
	ELSE width_bucket(micros - 1, '{1000000,10000000,30000000,60000000,300000000,600000000,1800000000,3600000000}'::bigint[]) END::smallint;
COMMENT ON FUNCTION coder.metric_bucket(integer, bigint) IS 'The bucket of build_totals that an observation is in.';

-- Takes these jobs out of the totals.  The rows are locked first, counted or not:
-- who adds them right now is waited for, who would add them passes them by.  Jobs
-- that ended within five minutes are not: none is added before ten minutes have
-- gone since its end at the beginning of the oldest transaction that is open, so
-- who works with agents that come up locks no job.
CREATE FUNCTION coder.uncount_jobs(jobs uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM FROM coder.provisioner_jobs j WHERE j.id = ANY (jobs) AND j.completed_at < clock_timestamp() - interval '5 minutes'
	 ORDER BY j.id FOR NO KEY UPDATE;
	UPDATE coder.provisioner_jobs j SET counted = NULL WHERE j.id = ANY (jobs) AND j.counted IS NOT NULL;
END
$$;
COMMENT ON FUNCTION coder.uncount_jobs(uuid[]) IS 'Takes jobs out of build_totals, in this transaction.';

CREATE FUNCTION coder.build_totals_job() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO coder.build_totals (key, bucket, n, micros, merged)
	SELECT k.id, coder.metric_bucket(k.family, u.micros), -1, -u.micros, false
	  FROM ROWS FROM (unnest(OLD.counted, OLD.counted_micros)) u (key, micros) JOIN coder.build_total_keys k ON k.id = u.key;
	IF TG_OP = 'DELETE' THEN
		RETURN NULL;
	END IF;
	NEW.counted := NULL;
	NEW.counted_micros := NULL;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION coder.build_totals_job() IS 'Trigger: a job that is in build_totals changes or goes, and is taken out.';
CREATE TRIGGER build_totals_update BEFORE UPDATE ON coder.provisioner_jobs FOR EACH ROW
	WHEN (OLD.counted IS NOT NULL AND (NEW.counted IS NULL OR OLD.id <> NEW.id OR OLD.type <> NEW.type OR OLD.provisioner <> NEW.provisioner
		OR OLD.created_at <> NEW.created_at OR OLD.started_at IS DISTINCT FROM NEW.started_at OR OLD.completed_at IS DISTINCT FROM NEW.completed_at
		OR OLD.canceled_at IS DISTINCT FROM NEW.canceled_at OR OLD.error IS DISTINCT FROM NEW.error))
	EXECUTE FUNCTION coder.build_totals_job();
CREATE TRIGGER build_totals_delete AFTER DELETE ON coder.provisioner_jobs FOR EACH ROW
	WHEN (OLD.counted IS NOT NULL) EXECUTE FUNCTION coder.build_totals_job();

-- Which start of a workspace was its first hangs from all of its builds.
CREATE FUNCTION coder.build_totals_workspaces(workspaces uuid[], jobs uuid[]) RETURNS void
LANGUAGE sql VOLATILE
AS $$
	SELECT coder.uncount_jobs(jobs OPERATOR(pg_catalog.||) ARRAY(SELECT b.job_id FROM coder.workspace_builds b
		WHERE b.workspace_id OPERATOR(pg_catalog.=) ANY (workspaces)))
$$;
COMMENT ON FUNCTION coder.build_totals_workspaces(uuid[], uuid[]) IS 'Takes the jobs of all builds of workspaces, and others, out of build_totals.';

CREATE FUNCTION coder.build_totals_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		UPDATE coder.provisioner_jobs j SET counted = NULL WHERE j.counted IS NOT NULL;
		IF TG_TABLE_NAME = 'provisioner_jobs' THEN
			TRUNCATE coder.build_totals, coder.build_total_keys;
		END IF;
		RETURN NULL;
	END IF;
	CASE TG_ARGV[0]
		WHEN 'job' THEN
			PERFORM coder.build_totals_workspaces(ARRAY(SELECT b.workspace_id FROM coder.workspace_builds b WHERE b.job_id = NEW.id), ARRAY[NEW.id]);
		WHEN 'builds' THEN
			PERFORM coder.uncount_jobs(ARRAY(SELECT DISTINCT c.job_id FROM changed c));
		WHEN 'builds gone' THEN
			PERFORM coder.build_totals_workspaces(ARRAY(SELECT DISTINCT c.workspace_id FROM changed c), ARRAY(SELECT DISTINCT c.job_id FROM changed c));
		WHEN 'build' THEN
			PERFORM coder.build_totals_workspaces(ARRAY[OLD.workspace_id, NEW.workspace_id], ARRAY[OLD.job_id, NEW.job_id]);
		WHEN 'workspace' THEN
			PERFORM coder.build_totals_workspaces(ARRAY[NEW.id], '{}');
		WHEN 'latest' THEN
			PERFORM coder.uncount_jobs(ARRAY(SELECT b.job_id FROM coder.workspace_builds b WHERE b.id = NEW.latest_build_id));
		WHEN 'resources' THEN
			PERFORM coder.uncount_jobs(ARRAY(SELECT DISTINCT c.job_id FROM changed c));
		WHEN 'resource' THEN
			PERFORM coder.uncount_jobs(ARRAY[OLD.job_id, NEW.job_id]);
		WHEN 'agents' THEN
			PERFORM coder.uncount_jobs(ARRAY(SELECT DISTINCT r.job_id FROM changed c JOIN coder.workspace_resources r ON r.id = c.resource_id));
		WHEN 'agent' THEN
			PERFORM coder.uncount_jobs(ARRAY(SELECT r.job_id FROM coder.workspace_resources r WHERE r.id IN (OLD.resource_id, NEW.resource_id)));
	END CASE;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.build_totals_changed() IS 'Trigger: what is said of jobs by other rows changes: they are taken out of build_totals.';

CREATE TRIGGER build_totals_undone AFTER UPDATE ON coder.provisioner_jobs FOR EACH ROW
	WHEN (OLD.type = 'workspace_build' AND OLD.job_status = 'succeeded' AND NEW.job_status <> 'succeeded') EXECUTE FUNCTION coder.build_totals_changed('job');
CREATE TRIGGER build_totals_insert AFTER INSERT ON coder.workspace_builds REFERENCING NEW TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.build_totals_changed('builds');
CREATE TRIGGER build_totals_delete AFTER DELETE ON coder.workspace_builds REFERENCING OLD TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.build_totals_changed('builds gone');
CREATE TRIGGER build_totals_update AFTER UPDATE ON coder.workspace_builds FOR EACH ROW
	WHEN (OLD.created_at <> NEW.created_at OR OLD.workspace_id <> NEW.workspace_id OR OLD.template_version_id <> NEW.template_version_id
		OR OLD.build_number <> NEW.build_number OR OLD.transition <> NEW.transition OR OLD.initiator_id <> NEW.initiator_id OR OLD.job_id <> NEW.job_id
		OR OLD.reason <> NEW.reason OR OLD.template_version_preset_id IS DISTINCT FROM NEW.template_version_preset_id OR OLD.id <> NEW.id)
	EXECUTE FUNCTION coder.build_totals_changed('build');
CREATE TRIGGER build_totals_update AFTER UPDATE ON coder.workspaces FOR EACH ROW
	WHEN (OLD.template_id <> NEW.template_id OR OLD.organization_id <> NEW.organization_id OR OLD.id <> NEW.id OR (OLD.deleted AND NOT NEW.deleted))
	EXECUTE FUNCTION coder.build_totals_changed('workspace');
CREATE TRIGGER build_totals_latest AFTER UPDATE ON coder.workspaces FOR EACH ROW
	WHEN (OLD.latest_build_id IS DISTINCT FROM NEW.latest_build_id) EXECUTE FUNCTION coder.build_totals_changed('latest');
CREATE TRIGGER build_totals_insert AFTER INSERT ON coder.workspace_resources REFERENCING NEW TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.build_totals_changed('resources');
CREATE TRIGGER build_totals_delete AFTER DELETE ON coder.workspace_resources REFERENCING OLD TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.build_totals_changed('resources');
CREATE TRIGGER build_totals_update AFTER UPDATE ON coder.workspace_resources FOR EACH ROW
	WHEN (OLD.job_id <> NEW.job_id OR OLD.id <> NEW.id) EXECUTE FUNCTION coder.build_totals_changed('resource');
CREATE TRIGGER build_totals_insert AFTER INSERT ON coder.workspace_agents REFERENCING NEW TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.build_totals_changed('agents');
CREATE TRIGGER build_totals_delete AFTER DELETE ON coder.workspace_agents REFERENCING OLD TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.build_totals_changed('agents');
CREATE TRIGGER build_totals_update AFTER UPDATE ON coder.workspace_agents FOR EACH ROW
	WHEN (OLD.resource_id <> NEW.resource_id OR OLD.name <> NEW.name OR OLD.created_at <> NEW.created_at
		OR OLD.first_connected_at IS DISTINCT FROM NEW.first_connected_at OR OLD.ready_at IS DISTINCT FROM NEW.ready_at
		OR OLD.parent_id IS DISTINCT FROM NEW.parent_id
		OR coalesce(OLD.start_result, OLD.lifecycle_state) <> coalesce(NEW.start_result, NEW.lifecycle_state))
	EXECUTE FUNCTION coder.build_totals_changed('agent');
CREATE TRIGGER build_totals_truncate AFTER TRUNCATE ON coder.provisioner_jobs FOR EACH STATEMENT EXECUTE FUNCTION coder.build_totals_changed('');
CREATE TRIGGER build_totals_truncate AFTER TRUNCATE ON coder.workspace_builds FOR EACH STATEMENT EXECUTE FUNCTION coder.build_totals_changed('');
CREATE TRIGGER build_totals_truncate AFTER TRUNCATE ON coder.workspace_resources FOR EACH STATEMENT EXECUTE FUNCTION coder.build_totals_changed('');
CREATE TRIGGER build_totals_truncate AFTER TRUNCATE ON coder.workspace_agents FOR EACH STATEMENT EXECUTE FUNCTION coder.build_totals_changed('');
-- Not those of new rows: a dump is restored without triggers, and has both the rows and their sums.
ALTER TABLE coder.provisioner_jobs ENABLE ALWAYS TRIGGER build_totals_update, ENABLE ALWAYS TRIGGER build_totals_delete,
	ENABLE ALWAYS TRIGGER build_totals_undone, ENABLE ALWAYS TRIGGER build_totals_truncate;
ALTER TABLE coder.workspace_builds ENABLE ALWAYS TRIGGER build_totals_delete, ENABLE ALWAYS TRIGGER build_totals_update,
	ENABLE ALWAYS TRIGGER build_totals_truncate;
ALTER TABLE coder.workspaces ENABLE ALWAYS TRIGGER build_totals_update, ENABLE ALWAYS TRIGGER build_totals_latest;
ALTER TABLE coder.workspace_resources ENABLE ALWAYS TRIGGER build_totals_delete, ENABLE ALWAYS TRIGGER build_totals_update,
	ENABLE ALWAYS TRIGGER build_totals_truncate;
ALTER TABLE coder.workspace_agents ENABLE ALWAYS TRIGGER build_totals_delete, ENABLE ALWAYS TRIGGER build_totals_update,
	ENABLE ALWAYS TRIGGER build_totals_truncate;

SELECT pg_catalog.pg_extension_config_dump('coder.build_total_keys', '');
SELECT pg_catalog.pg_extension_config_dump('coder.build_total_keys_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('coder.build_totals', '');
