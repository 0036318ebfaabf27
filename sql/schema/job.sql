-- SPDX-License-Identifier: MIT
--
-- job.sql
--   The queue of provisioner jobs, their logs and timings, and the daemons
--   that work on them.
--
-- job_status is generated from the times and the error; which way a job may
-- go is checked by coder.provisioner_jobs_guard (extension/build.c), for an
-- administrator's UPDATE too.  What follows from a change (NOTIFY to the
-- daemons, events to those who watch) is done by triggers here, so that
-- nothing depends on who made the change.

CREATE TYPE coder.provisioner_type AS ENUM ('echo', 'terraform');
CREATE TYPE coder.provisioner_storage_method AS ENUM ('file');
CREATE TYPE coder.provisioner_job_type AS ENUM
	('template_version_import', 'workspace_build', 'template_version_dry_run');
CREATE TYPE coder.provisioner_job_status AS ENUM
	('pending', 'running', 'succeeded', 'canceling', 'canceled', 'failed', 'unknown');
CREATE TYPE coder.provisioner_job_timing_stage AS ENUM ('init', 'plan', 'graph', 'apply');
CREATE TYPE coder.provisioner_daemon_status AS ENUM ('offline', 'idle', 'busy');
CREATE TYPE coder.log_level AS ENUM ('trace', 'debug', 'info', 'warn', 'error');
CREATE TYPE coder.log_source AS ENUM ('provisioner_daemon', 'provisioner');

CREATE TABLE coder.provisioner_keys
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	created_at			timestamptz NOT NULL DEFAULT now(),
	organization_id		uuid NOT NULL REFERENCES coder.organizations(id) ON DELETE CASCADE,
	name				varchar(64) NOT NULL,
	hashed_secret		bytea NOT NULL,
	tags				jsonb NOT NULL DEFAULT '{}',
	CONSTRAINT provisioner_keys_tags_is_object CHECK (jsonb_typeof(tags) = 'object')
);
CREATE UNIQUE INDEX provisioner_keys_organization_id_name_idx
	ON coder.provisioner_keys (organization_id, lower(name));
COMMENT ON TABLE coder.provisioner_keys IS
	'Keys of external daemons; the rows whose ids end in 1, 2 and 3 stand for built-in daemons, signed-in users and the shared secret.';

CREATE TABLE coder.provisioner_daemons
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	created_at			timestamptz NOT NULL DEFAULT now(),
	name				varchar(64) NOT NULL,
	provisioners		coder.provisioner_type[] NOT NULL,
	replica_id			uuid,
	tags				jsonb NOT NULL DEFAULT '{}',
	last_seen_at		timestamptz,
	version				text NOT NULL DEFAULT '',
	api_version			text NOT NULL DEFAULT '1.0',
	organization_id		uuid NOT NULL REFERENCES coder.organizations(id) ON DELETE CASCADE,
	key_id				uuid NOT NULL REFERENCES coder.provisioner_keys(id) ON DELETE CASCADE,
	CONSTRAINT provisioner_daemons_tags_is_object CHECK (jsonb_typeof(tags) = 'object'),
	CONSTRAINT provisioner_daemons_provisioners_not_empty CHECK (cardinality(provisioners) > 0)
);
CREATE UNIQUE INDEX idx_provisioner_daemons_org_name_owner_key
	ON coder.provisioner_daemons (organization_id, name, lower(coalesce(tags ->> 'owner', '')));
COMMENT ON TABLE coder.provisioner_daemons IS 'Registered daemons, their tags and last contact.';

CREATE TABLE coder.provisioner_jobs
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	created_at			timestamptz NOT NULL DEFAULT now(),
	updated_at			timestamptz NOT NULL DEFAULT now(),
	started_at			timestamptz,
	canceled_at			timestamptz,
	completed_at		timestamptz,
	error				text,
	organization_id		uuid NOT NULL REFERENCES coder.organizations(id) ON DELETE CASCADE,
	initiator_id		uuid NOT NULL,
	provisioner			coder.provisioner_type NOT NULL,
	storage_method		coder.provisioner_storage_method NOT NULL DEFAULT 'file',
	type				coder.provisioner_job_type NOT NULL,
	input				jsonb NOT NULL,
	worker_id			uuid,
	file_id				uuid NOT NULL,
	tags				jsonb NOT NULL DEFAULT '{"scope": "organization"}',
	error_code			text,
	trace_metadata		jsonb,
	job_status			coder.provisioner_job_status NOT NULL GENERATED ALWAYS AS (
		CASE
			WHEN error <> '' THEN 'failed'::coder.provisioner_job_status
			WHEN completed_at IS NOT NULL AND canceled_at IS NOT NULL THEN 'canceled'::coder.provisioner_job_status
			WHEN completed_at IS NOT NULL THEN 'succeeded'::coder.provisioner_job_status
			WHEN canceled_at IS NOT NULL THEN 'canceling'::coder.provisioner_job_status
			WHEN started_at IS NULL THEN 'pending'::coder.provisioner_job_status
			ELSE 'running'::coder.provisioner_job_status
		END) STORED,
	logs_length			integer NOT NULL DEFAULT 0,
	logs_overflowed		boolean NOT NULL DEFAULT false,
	apply_started_at	timestamptz,
	attempts			integer NOT NULL DEFAULT 0,
	-- derived
	counted				integer[],
	counted_micros		bigint[],
	CONSTRAINT max_provisioner_logs_length CHECK (logs_length <= 1048576),
	CONSTRAINT provisioner_jobs_worker_has_started CHECK (worker_id IS NULL OR started_at IS NOT NULL),
	CONSTRAINT provisioner_jobs_error_has_ended CHECK (error IS NULL OR error = '' OR completed_at IS NOT NULL),
	-- An end without a start is the cancellation of a job that nobody took.
	CONSTRAINT provisioner_jobs_end_has_start CHECK
		(completed_at IS NULL OR started_at IS NOT NULL OR canceled_at IS NOT NULL),
	CONSTRAINT provisioner_jobs_tags_is_object CHECK (jsonb_typeof(tags) = 'object'),
	CONSTRAINT provisioner_jobs_input_is_object CHECK (jsonb_typeof(input) = 'object')
);
-- The queue in its order (the prebuilds user's jobs last), the reaper's candidates, the list, and a daemon's last jobs.
CREATE INDEX provisioner_jobs_started_at_idx
	ON coder.provisioner_jobs ((initiator_id = 'c42fdf75-3097-471c-8c33-fb52454d81c0'), created_at, id)
	WHERE started_at IS NULL AND completed_at IS NULL;
CREATE INDEX provisioner_jobs_updated_at_idx
	ON coder.provisioner_jobs (updated_at) WHERE completed_at IS NULL;
CREATE INDEX provisioner_jobs_organization_id_created_at_idx
	ON coder.provisioner_jobs (organization_id, created_at DESC);
CREATE INDEX idx_provisioner_jobs_worker_id_organization_id_completed_at
	ON coder.provisioner_jobs (worker_id, organization_id, completed_at DESC);
-- What a scrape of metrics reads, and coder.count_jobs adds up.
CREATE INDEX provisioner_jobs_uncounted_idx ON coder.provisioner_jobs (created_at) WHERE counted IS NULL;
COMMENT ON TABLE coder.provisioner_jobs IS
	'Imports of template versions, dry runs and workspace builds; the queue of the provisioner daemons.';
COMMENT ON COLUMN coder.provisioner_jobs.job_status IS 'Derived from the times and the error.';
COMMENT ON COLUMN coder.provisioner_jobs.apply_started_at IS
	'Since when the job may have changed something outside: from here on it is not done again by itself.';
COMMENT ON COLUMN coder.provisioner_jobs.counted IS 'Derived: series of build_totals that the job is in; NULL: metrics read it by itself.';
COMMENT ON COLUMN coder.provisioner_jobs.counted_micros IS 'Derived: what it adds to each of them.';
COMMENT ON COLUMN coder.provisioner_jobs.attempts IS 'How often the job was put back in the queue, as its daemon had died.';

CREATE TABLE coder.provisioner_job_logs
(
	job_id				uuid NOT NULL REFERENCES coder.provisioner_jobs(id) ON DELETE CASCADE,
	created_at			timestamptz NOT NULL,
	source				coder.log_source NOT NULL,
	level				coder.log_level NOT NULL,
	stage				varchar(128) NOT NULL,
	output				varchar(1024) NOT NULL,
	id					bigserial PRIMARY KEY
);
CREATE INDEX provisioner_job_logs_id_job_id_idx ON coder.provisioner_job_logs (job_id, id);
COMMENT ON TABLE coder.provisioner_job_logs IS 'Log lines of jobs; id gives their order.';

CREATE TABLE coder.provisioner_job_timings
(
	job_id				uuid NOT NULL REFERENCES coder.provisioner_jobs(id) ON DELETE CASCADE,
	started_at			timestamptz NOT NULL,
	ended_at			timestamptz NOT NULL,
	stage				coder.provisioner_job_timing_stage NOT NULL,
	source				text NOT NULL,
	action				text NOT NULL,
	resource			text NOT NULL
);
CREATE INDEX provisioner_job_timings_job_id_idx ON coder.provisioner_job_timings (job_id);
COMMENT ON TABLE coder.provisioner_job_timings IS 'Time that a job spent on each resource, by stage.';

-- coder.provisioner_tagset_contains(provisioner_tags, job_tags): may a daemon
-- with these tags take a job with those?  An untagged job needs an untagged
-- daemon; any other needs a daemon that has all of its pairs.
CREATE FUNCTION coder.provisioner_tagset_contains(provisioner_tags jsonb, job_tags jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
	SELECT CASE WHEN job_tags OPERATOR(pg_catalog.=) '{"scope": "organization", "owner": ""}'::jsonb
				THEN job_tags OPERATOR(pg_catalog.=) provisioner_tags
				ELSE provisioner_tags OPERATOR(pg_catalog.@>) job_tags END
$$;
COMMENT ON FUNCTION coder.provisioner_tagset_contains(jsonb, jsonb) IS
	'May a daemon with the first tags take a job with the second?';

-- A new job: wake the daemons.
CREATE FUNCTION coder.provisioner_jobs_posted() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NEW.started_at IS NULL AND NEW.completed_at IS NULL THEN
		PERFORM pg_notify('provisioner_job_posted', NEW.id::text);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.provisioner_jobs_posted() IS 'Trigger: tells the daemons of a new job.';

CREATE TRIGGER provisioner_jobs_posted AFTER INSERT ON coder.provisioner_jobs
	FOR EACH ROW EXECUTE FUNCTION coder.provisioner_jobs_posted();

-- A job went on, or back: tell the daemon that works on it of a cancellation,
-- all of them of a job that waits again, and those who follow its log or show
-- its template version of every change.
CREATE FUNCTION coder.provisioner_jobs_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF OLD.canceled_at IS NULL AND NEW.canceled_at IS NOT NULL THEN
		PERFORM pg_notify('provisioner_job_cancel', NEW.id::text);
	END IF;
	IF OLD.started_at IS NOT NULL AND NEW.started_at IS NULL THEN
		PERFORM pg_notify('provisioner_job_posted', NEW.id::text);
	END IF;
	IF OLD.job_status IS DISTINCT FROM NEW.job_status THEN
		PERFORM coder.emit('build_logs:' || NEW.id, '');
		IF NEW.type = 'template_version_import' THEN
			PERFORM coder.emit('template_version:' || (NEW.input->>'template_version_id'), '');
		END IF;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.provisioner_jobs_changed() IS
	'Trigger: NOTIFY of a cancellation, events of every change of status.';

CREATE TRIGGER provisioner_jobs_changed
	AFTER UPDATE OF started_at, canceled_at, completed_at, error ON coder.provisioner_jobs
	FOR EACH ROW EXECUTE FUNCTION coder.provisioner_jobs_changed();

SELECT pg_catalog.pg_extension_config_dump('coder.provisioner_keys', '');
SELECT pg_catalog.pg_extension_config_dump('coder.provisioner_daemons', '');
SELECT pg_catalog.pg_extension_config_dump('coder.provisioner_jobs', '');
SELECT pg_catalog.pg_extension_config_dump('coder.provisioner_job_logs', '');
SELECT pg_catalog.pg_extension_config_dump('coder.provisioner_job_logs_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('coder.provisioner_job_timings', '');
