-- SPDX-License-Identifier: MIT
--
-- build.sql
--   Builds of workspaces and the rules between a build, its job and its
--   workspace.
--
-- A build's state is its job's.  The rules are tables in extension/build.c
-- and hold for the API, for tick and for a hand-written UPDATE alike:
--   which build may follow which          coder.workspace_builds_guard
--   which way a job may go                coder.provisioner_jobs_guard
-- "active" mirrors the job (pending, running or canceling); the unique index
-- on it makes two active builds of one workspace impossible.

CREATE TYPE coder.workspace_transition AS ENUM ('start', 'stop', 'delete');
CREATE TYPE coder.build_reason AS ENUM
	('initiator', 'autostart', 'autostop', 'dormancy', 'failedstop', 'autodelete', 'dashboard', 'cli',
	 'ssh_connection', 'vscode_connection', 'jetbrains_connection', 'task_auto_pause',
	 'task_manual_pause', 'task_resume');

CREATE TABLE coder.workspace_builds
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	created_at			timestamptz NOT NULL DEFAULT now(),
	updated_at			timestamptz NOT NULL DEFAULT now(),
	workspace_id		uuid NOT NULL REFERENCES coder.workspaces(id) ON DELETE CASCADE,
	template_version_id	uuid NOT NULL REFERENCES coder.template_versions(id) ON DELETE CASCADE,
	build_number		integer NOT NULL,
	transition			coder.workspace_transition NOT NULL,
	initiator_id		uuid NOT NULL,
	provisioner_state	bytea,
	job_id				uuid NOT NULL REFERENCES coder.provisioner_jobs(id) ON DELETE CASCADE,
	deadline			timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
	reason				coder.build_reason NOT NULL DEFAULT 'initiator',
	daily_cost			integer NOT NULL DEFAULT 0,
	max_deadline		timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
	template_version_preset_id	uuid REFERENCES coder.template_version_presets(id) ON DELETE SET NULL,
	has_ai_task			boolean,
	has_external_agent	boolean,
	-- derived
	active				boolean NOT NULL DEFAULT true,
	CONSTRAINT workspace_builds_job_id_key UNIQUE (job_id),
	CONSTRAINT workspace_builds_workspace_id_build_number_key UNIQUE (workspace_id, build_number),
	CONSTRAINT workspace_builds_deadline_below_max_deadline CHECK
		((deadline <> '0001-01-01 00:00:00+00' AND deadline <= max_deadline)
		 OR max_deadline = '0001-01-01 00:00:00+00')
);

CREATE INDEX workspace_builds_initiator_id_idx ON coder.workspace_builds (initiator_id);
CREATE INDEX workspace_builds_template_version_id_idx ON coder.workspace_builds (template_version_id);
CREATE UNIQUE INDEX workspace_builds_one_active_idx
	ON coder.workspace_builds (workspace_id) WHERE active;
-- What coder.tick looks for.
CREATE INDEX workspace_builds_deadline_idx
	ON coder.workspace_builds (deadline)
	WHERE transition = 'start' AND deadline > '0001-01-01 00:00:00+00';
ALTER TABLE coder.workspace_builds ALTER provisioner_state SET STORAGE EXTERNAL;

COMMENT ON TABLE coder.workspace_builds IS
	'Each start, stop or delete of a workspace; build_number grows by one.';
COMMENT ON COLUMN coder.workspace_builds.active IS
	'Derived: the job is pending, running or canceling.';

CREATE TABLE coder.workspace_build_parameters
(
	workspace_build_id	uuid NOT NULL REFERENCES coder.workspace_builds(id) ON DELETE CASCADE,
	name				text NOT NULL,
	value				text NOT NULL,
	ordinal				integer NOT NULL DEFAULT 0,
	CONSTRAINT workspace_build_parameters_workspace_build_id_name_key UNIQUE (workspace_build_id, name)
);
COMMENT ON TABLE coder.workspace_build_parameters IS
	'Parameter values of a build; ordinal is their order in the request.';

-- The state machine, in C (extension/build.c).

CREATE FUNCTION coder.workspace_status(job_status text, transition text) RETURNS text
AS 'MODULE_PATHNAME', 'coder_workspace_status'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION coder.workspace_status(text, text) IS
	'Status of a workspace from its latest build''s job status and transition.';

CREATE FUNCTION coder.build_conflict(transition text, workspace_deleted boolean, last_job_status text)
RETURNS text
AS 'MODULE_PATHNAME', 'coder_build_conflict'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION coder.build_conflict(text, boolean, text) IS
	'Why a build may not be added to a workspace whose last job has that status (NULL: never built); NULL if it may.';

CREATE FUNCTION coder.provisioner_jobs_guard() RETURNS trigger
AS 'MODULE_PATHNAME', 'coder_provisioner_jobs_guard'
LANGUAGE C;
COMMENT ON FUNCTION coder.provisioner_jobs_guard() IS
	'Trigger: a job starts once (again only when it is put back in the queue), is canceled once and ends once; errors: ZC409.';

CREATE TRIGGER provisioner_jobs_guard
	BEFORE UPDATE OF started_at, canceled_at, completed_at, error ON coder.provisioner_jobs
	FOR EACH ROW EXECUTE FUNCTION coder.provisioner_jobs_guard();

CREATE FUNCTION coder.job_is_active(status text) RETURNS boolean
AS 'MODULE_PATHNAME', 'coder_job_is_active'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION coder.job_is_active(text) IS 'Is a job with this status still to end?';

-- The columns of a workspace that follow from other rows.
CREATE FUNCTION coder.workspaces_derive() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	SELECT lower(u.username) INTO NEW.owner_sort FROM coder.users u WHERE u.id = NEW.owner_id;
	NEW.owner_sort := coalesce(NEW.owner_sort, '');
	NEW.latest_build_id := NULL;
	NEW.latest_build_number := 0;
	NEW.running := false;
	IF TG_OP = 'UPDATE' THEN
		SELECT b.id, b.build_number, b.transition = 'start' AND j.job_status = 'succeeded'
		  INTO NEW.latest_build_id, NEW.latest_build_number, NEW.running
		  FROM coder.workspace_builds b JOIN coder.provisioner_jobs j ON j.id = b.job_id
		 WHERE b.workspace_id = NEW.id
		 ORDER BY b.build_number DESC LIMIT 1;
		NEW.latest_build_number := coalesce(NEW.latest_build_number, 0);
		NEW.running := coalesce(NEW.running, false);
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION coder.workspaces_derive() IS
	'Trigger: computes the derived columns of coder.workspaces.';

CREATE TRIGGER workspaces_derive
	BEFORE INSERT OR UPDATE OF owner_id, latest_build_id, latest_build_number, running, owner_sort
	ON coder.workspaces
	FOR EACH ROW EXECUTE FUNCTION coder.workspaces_derive();

-- What an UPDATE of a workspace must keep.
CREATE FUNCTION coder.workspaces_guard() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF OLD.deleted AND NOT NEW.deleted THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC409',
			MESSAGE = format('Workspace %s is deleted and stays so.', to_json(OLD.name::text));
	END IF;
	-- A new schedule or dormancy makes the next start unknown.
	IF NEW.next_start_at IS NOT NULL AND
	   ((NEW.autostart_schedule IS DISTINCT FROM OLD.autostart_schedule
		 AND NEW.next_start_at IS NOT DISTINCT FROM OLD.next_start_at)
		OR NEW.autostart_schedule IS NULL OR NEW.dormant_at IS NOT NULL) THEN
		NEW.next_start_at := NULL;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION coder.workspaces_guard() IS
	'Trigger: a deleted workspace stays deleted; next_start_at falls with the schedule or with dormancy.';

CREATE TRIGGER workspaces_guard BEFORE UPDATE ON coder.workspaces
	FOR EACH ROW EXECUTE FUNCTION coder.workspaces_guard();

-- A build comes after the last one, never beside it.
CREATE FUNCTION coder.workspace_builds_guard() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_deleted boolean;
	v_number integer;
	v_status text;
	v_conflict text;
BEGIN
	SELECT j.job_status::text INTO v_status FROM coder.provisioner_jobs j WHERE j.id = NEW.job_id;
	NEW.active := coalesce(coder.job_is_active(v_status), true);
	IF TG_OP = 'UPDATE' THEN
		IF NEW.workspace_id <> OLD.workspace_id OR NEW.build_number <> OLD.build_number
			OR NEW.transition <> OLD.transition OR NEW.job_id <> OLD.job_id THEN
			RAISE EXCEPTION USING ERRCODE = 'ZC409',
				MESSAGE = 'A build keeps its workspace, number, transition and job.';
		END IF;
		RETURN NEW;
	END IF;
	SELECT w.deleted INTO v_deleted FROM coder.workspaces w
	 WHERE w.id = NEW.workspace_id FOR NO KEY UPDATE;
	v_status := NULL;
	SELECT b.build_number, j.job_status::text INTO v_number, v_status
	  FROM coder.workspace_builds b JOIN coder.provisioner_jobs j ON j.id = b.job_id
	 WHERE b.workspace_id = NEW.workspace_id
	 ORDER BY b.build_number DESC LIMIT 1;
	v_conflict := coder.build_conflict(NEW.transition::text, v_deleted, v_status);
	IF v_conflict IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC409', MESSAGE = v_conflict, DETAIL = v_conflict;
	END IF;
	IF NEW.build_number <> coalesce(v_number, 0) + 1 THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC409', MESSAGE = 'insert workspace build',
			DETAIL = format('The next build of this workspace is %s, not %s.',
							coalesce(v_number, 0) + 1, NEW.build_number);
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION coder.workspace_builds_guard() IS
	'Trigger: builds are numbered without gaps, one is active at most, the state machine decides which may follow; errors: ZC409.';

CREATE TRIGGER workspace_builds_guard BEFORE INSERT OR UPDATE ON coder.workspace_builds
	FOR EACH ROW EXECUTE FUNCTION coder.workspace_builds_guard();

-- One event for those who watch every build, when a build has ended.
CREATE FUNCTION coder.build_ended(build uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v record;
BEGIN
	SELECT w.id AS workspace_id, w.name::text, b.transition::text, j.job_status::text, b.build_number
	  INTO v
	  FROM coder.workspace_builds b
	  JOIN coder.workspaces w ON w.id = b.workspace_id
	  JOIN coder.provisioner_jobs j ON j.id = b.job_id
	 WHERE b.id = build;
	PERFORM coder.emit('workspace_updates:all',
		format('{"workspace_id":"%s","workspace_name":%s,"build_id":"%s","transition":"%s","job_status":"%s","build_number":%s}',
			   v.workspace_id, to_json(v.name), build, v.transition, v.job_status, v.build_number));
END
$$;
COMMENT ON FUNCTION coder.build_ended(uuid) IS
	'Appends the event of an ended build to the channel of all builds.';

CREATE FUNCTION coder.workspace_builds_follow() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_owner uuid;
BEGIN
	UPDATE coder.workspaces SET latest_build_id = NEW.id WHERE id = NEW.workspace_id
	RETURNING owner_id INTO v_owner;
	PERFORM coder.workspace_event(NEW.workspace_id, v_owner, 'state_change');
	IF NOT NEW.active THEN
		PERFORM coder.build_ended(NEW.id);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.workspace_builds_follow() IS
	'Trigger: a new build changes its workspace''s derived columns and is an event.';

CREATE TRIGGER workspace_builds_follow AFTER INSERT ON coder.workspace_builds
	FOR EACH ROW EXECUTE FUNCTION coder.workspace_builds_follow();

-- The job of a build went on: the build and its workspace follow, and those
-- who watch are told, in the same transaction.
CREATE FUNCTION coder.provisioner_jobs_follow() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_build uuid;
	v_workspace uuid;
	v_owner uuid;
BEGIN
	UPDATE coder.workspace_builds SET updated_at = now() WHERE job_id = NEW.id
	RETURNING id, workspace_id INTO v_build, v_workspace;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	UPDATE coder.workspaces SET latest_build_id = v_build WHERE id = v_workspace
	RETURNING owner_id INTO v_owner;
	PERFORM coder.workspace_event(v_workspace, v_owner, 'state_change');
	IF NOT coder.job_is_active(NEW.job_status::text) THEN
		PERFORM coder.build_ended(v_build);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.provisioner_jobs_follow() IS
	'Trigger: a build''s job changed its status.';

CREATE TRIGGER provisioner_jobs_follow
	AFTER UPDATE OF started_at, canceled_at, completed_at, error ON coder.provisioner_jobs
	FOR EACH ROW
	WHEN (NEW.type = 'workspace_build' AND OLD.job_status IS DISTINCT FROM NEW.job_status)
	EXECUTE FUNCTION coder.provisioner_jobs_follow();

CREATE FUNCTION coder.users_rename_follow() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE coder.workspaces SET owner_sort = '' WHERE owner_id = NEW.id;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.users_rename_follow() IS
	'Trigger: the order of a renamed user''s workspaces.';

CREATE TRIGGER users_rename_follow AFTER UPDATE OF username ON coder.users
	FOR EACH ROW WHEN (OLD.username IS DISTINCT FROM NEW.username)
	EXECUTE FUNCTION coder.users_rename_follow();

CREATE FUNCTION coder.templates_reschedule() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT coder.restoring() THEN
		PERFORM coder.template_reschedule(NEW.id, clock_timestamp());
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.templates_reschedule() IS 'Trigger: another required autostop of a template moves the deadlines of its running workspaces.';
CREATE TRIGGER templates_reschedule
	AFTER UPDATE OF autostop_requirement_days_of_week, autostop_requirement_weeks ON coder.templates FOR EACH ROW
	WHEN (NEW.autostop_requirement_days_of_week <> OLD.autostop_requirement_days_of_week
		OR NEW.autostop_requirement_weeks <> OLD.autostop_requirement_weeks)
	EXECUTE FUNCTION coder.templates_reschedule();

SELECT pg_catalog.pg_extension_config_dump('coder.workspace_builds', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_build_parameters', '');

CREATE UNLOGGED TABLE coder.build_holds (
	job_id			uuid PRIMARY KEY REFERENCES coder.provisioner_jobs (id) ON DELETE CASCADE,
	user_id			uuid NOT NULL,
	provider_ids	text[] NOT NULL,
	until			timestamptz NOT NULL,
	claimed_until	timestamptz NOT NULL DEFAULT '-infinity'	-- a gateway is at it
);
COMMENT ON TABLE coder.build_holds IS
	'Builds that wait a moment for expired tokens of their owner at external providers to be refreshed. Without WAL: then they begin at once, without those.';
