-- SPDX-License-Identifier: MIT
--
-- buildjob.sql
--   Builds as the provisioner is told of them, and what it brings back.

CREATE OR REPLACE FUNCTION coder.workspace_session_token(build coder.workspace_builds) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces;
	v_name text;
	v_id text := coder.random_key(10);
	v_secret text := coder.random_key(22);
BEGIN
	SELECT * INTO w FROM coder.workspaces x WHERE x.id = build.workspace_id;
	v_name := w.owner_id || '_' || w.id || '_session_token';
	PERFORM coder.audit_as('build', false);
	DELETE FROM coder.api_keys k WHERE k.user_id = w.owner_id AND k.token_name = v_name;
	IF build.transition <> 'start' THEN
		PERFORM coder.audit_as(NULL);
		RETURN '';
	END IF;
	INSERT INTO coder.api_keys (id, hashed_secret, user_id, last_used, expires_at, created_at, updated_at,
								login_type, lifetime_seconds, token_name)
	VALUES (v_id, coder.sha256(v_secret), w.owner_id, now(), now() + interval '7 days', now(), now(),
			'token', 604800, v_name);
	PERFORM coder.audit_as(NULL);
	RETURN v_id || '-' || v_secret;
END
$$;
COMMENT ON FUNCTION coder.workspace_session_token(coder.workspace_builds) IS
	'A new session token of the owner for a workspace that starts; the old one is gone in any case.';

CREATE OR REPLACE FUNCTION coder.acquired_owner(owner uuid, organization uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_groups jsonb;
	v_roles jsonb;
	v jsonb;
BEGIN
	SELECT coalesce(jsonb_agg(g.name ORDER BY g.name), '[]') INTO v_groups
	  FROM coder.groups g
	 WHERE g.organization_id = organization
	   AND (g.id = organization OR EXISTS (SELECT FROM coder.group_members m WHERE m.group_id = g.id AND m.user_id = owner));
	SELECT coalesce(jsonb_agg(r.role), '[]') INTO v_roles
	  FROM (SELECT jsonb_build_object('name', x, 'org_id', '') AS role
			  FROM coder.users u, unnest(u.rbac_roles || 'member'::text) x WHERE u.id = owner
			UNION ALL
			SELECT jsonb_build_object('name', x, 'org_id', organization)
			  FROM coder.organization_members m, unnest(m.roles || 'organization-member'::text) x
			 WHERE m.user_id = owner AND m.organization_id = organization) r;
	SELECT jsonb_build_object('workspace_owner', u.username, 'workspace_owner_id', u.id,
			'workspace_owner_email', u.email, 'workspace_owner_name', u.name,
			'workspace_owner_login_type', u.login_type, 'workspace_owner_groups', v_groups,
			'workspace_owner_rbac_roles', v_roles, 'workspace_owner_oidc_access_token', coder.oidc_access_token(u.id),
			'workspace_owner_ssh_public_key', coalesce(k.public_key, ''),
			-- A provisioner elsewhere may lack the key that opens it.
			'workspace_owner_ssh_private_key', CASE WHEN coalesce(k.private_key_key_id = ANY (coder.seal_key_ids()), true)
				THEN coalesce(coder.unseal(k.private_key, k.private_key_key_id), '') ELSE '' END)
	  INTO v
	  FROM coder.users u LEFT JOIN coder.gitsshkeys k ON k.user_id = u.id WHERE u.id = owner;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.acquired_owner(uuid, uuid) IS
	'The owner''s part of the metadata of a build.';

CREATE OR REPLACE FUNCTION coder.build_parameter_list(build uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v jsonb;
BEGIN
	SELECT coalesce(jsonb_agg(jsonb_build_object('name', p.name, 'value', p.value) ORDER BY p.ordinal), '[]') INTO v
	  FROM coder.workspace_build_parameters p WHERE p.workspace_build_id = build;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.build_parameter_list(uuid) IS 'Names and values of a build''s parameters.';

CREATE OR REPLACE FUNCTION coder.acquired_workspace_build(job uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds;
	w coder.workspaces;
	t coder.templates;
	v coder.template_versions;
	v_previous uuid;
	v_level text;
BEGIN
	SELECT * INTO STRICT b FROM coder.workspace_builds x WHERE x.job_id = job;
	SELECT * INTO STRICT w FROM coder.workspaces x WHERE x.id = b.workspace_id;
	SELECT * INTO STRICT t FROM coder.templates x WHERE x.id = w.template_id;
	SELECT * INTO STRICT v FROM coder.template_versions x WHERE x.id = b.template_version_id;
	SELECT x.id INTO v_previous FROM coder.workspace_builds x
	 WHERE x.workspace_id = w.id AND x.build_number = b.build_number - 1;
	SELECT coalesce(j.input ->> 'log_level', '') INTO v_level FROM coder.provisioner_jobs j WHERE j.id = job;
	RETURN jsonb_build_object(
		'workspace_build_id', b.id,
		'workspace_name', w.name,
		'rich_parameter_values', coder.build_parameter_list(b.id),
		'previous_parameter_values', coder.build_parameter_list(v_previous),
		'variable_values', coder.version_variable_values(v.id),
		'external_auth_providers', coder.external_auth_tokens(w.owner_id, v.external_auth_providers),
		'state', encode(coalesce(b.provisioner_state, ''), 'hex'),
		'log_level', v_level,
		'metadata', coder.provisioner_metadata() || coder.acquired_owner(w.owner_id, w.organization_id)
			|| jsonb_build_object(
				'workspace_transition', CASE b.transition WHEN 'start' THEN 'START' WHEN 'stop' THEN 'STOP' ELSE 'DESTROY' END,
				'workspace_name', w.name, 'workspace_id', w.id, 'workspace_build_id', b.id,
				'workspace_owner_session_token', coder.workspace_session_token(b),
				'template_id', t.id, 'template_name', t.name,
				'template_version', v.name, 'template_version_id', v.id,
				'task_id', '00000000-0000-0000-0000-000000000000', 'task_prompt', ''));
END
$$;
COMMENT ON FUNCTION coder.acquired_workspace_build(uuid) IS
	'AcquiredJob.WorkspaceBuild of a job.';

CREATE OR REPLACE FUNCTION coder.autostop_required(completed timestamptz, quiet_hours text, days integer, weeks bigint)
RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_zone text := (coder.schedule_parse(quiet_hours)).zone;
	v_epoch CONSTANT timestamp := '2023-01-02';		-- a Monday, from which weeks are counted
	v_start timestamp := date_trunc('day', (completed + interval '2 hours') AT TIME ZONE v_zone);
	v_week integer := floor((v_start::date - v_epoch::date) / 7.0);
BEGIN
	IF days & 127 = 0 THEN
		RETURN '0001-01-01 00:00:00+00';
	END IF;
	IF weeks > 1 AND v_week % weeks <> 0 THEN
		v_start := v_epoch + (v_week / weeks + 1) * weeks * interval '7 days';
	END IF;
	-- Not within two hours of a start.
	IF coder.schedule_next(quiet_hours, v_start AT TIME ZONE v_zone - interval '15 minutes') < completed + interval '2 hours' THEN
		v_start := v_start + interval '1 day';
	END IF;
	-- Bit 0 is Monday.
	WHILE days & (1 << (extract(isodow FROM v_start)::integer - 1)) = 0 LOOP
		v_start := v_start + interval '1 day';
	END LOOP;
	RETURN coder.schedule_next(quiet_hours, CASE WHEN v_start AT TIME ZONE v_zone < completed + interval '1 hour'
		THEN completed + interval '1 hour' ELSE v_start AT TIME ZONE v_zone - interval '15 minutes' END);
END
$$;
COMMENT ON FUNCTION coder.autostop_required(timestamptz, text, integer, bigint) IS
	'When a build that completed then must stop, by the owner''s quiet hours, the weekdays (bit 0: Monday) and every how many weeks its template says; year 1: never.';

CREATE OR REPLACE FUNCTION coder.build_deadlines(b coder.workspace_builds, at timestamptz,
									  OUT deadline timestamptz, OUT max_deadline timestamptz,
									  OUT next_start timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces;
	t coder.templates;
	v_ttl interval;
BEGIN
	SELECT * INTO w FROM coder.workspaces x WHERE x.id = b.workspace_id;
	SELECT * INTO t FROM coder.templates x WHERE x.id = w.template_id;
	v_ttl := coalesce(CASE WHEN t.allow_user_autostop THEN w.ttl ELSE t.default_ttl END, 0) / 1000
			 * interval '1 microsecond';
	deadline := '0001-01-01 00:00:00+00';
	max_deadline := '0001-01-01 00:00:00+00';
	IF t.allow_user_autostart THEN
		next_start := coder.schedule_next(w.autostart_schedule, at, t.autostart_block_days_of_week::integer);
	END IF;
	IF v_ttl > interval '0' THEN
		deadline := at + v_ttl;
		-- A start in between would be stopped again at once: count from there.
		IF next_start < deadline THEN
			deadline := next_start + v_ttl;
		END IF;
	END IF;
	IF t.autostop_requirement_days_of_week > 0 THEN
		SELECT coder.autostop_required(at, coder.quiet_hours(u.quiet_hours_schedule), t.autostop_requirement_days_of_week::integer,
			t.autostop_requirement_weeks) INTO max_deadline
		  FROM coder.users u WHERE u.id = w.owner_id AND NOT u.is_system;
		max_deadline := coalesce(max_deadline, '0001-01-01 00:00:00+00');
		IF max_deadline > '0001-01-01 00:00:00+00' AND (deadline = '0001-01-01 00:00:00+00' OR deadline > max_deadline) THEN
			deadline := max_deadline;
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION coder.build_deadlines(coder.workspace_builds, timestamptz) IS
	'Deadlines of a build that completed then, and the workspace''s next start.';

CREATE OR REPLACE FUNCTION coder.template_reschedule(template uuid, at timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_none CONSTANT timestamptz := '0001-01-01 00:00:00+00';
	v record;
	d record;
	v_max timestamptz;
	v_done integer := 0;
BEGIN
	FOR v IN
		SELECT b, j.completed_at
		  FROM coder.workspaces w
		  JOIN coder.workspace_builds b ON b.id = w.latest_build_id
		  JOIN coder.provisioner_jobs j ON j.id = b.job_id
		  JOIN coder.users u ON u.id = w.owner_id
		 WHERE w.template_id = template AND NOT w.deleted AND b.transition = 'start' AND j.job_status = 'succeeded' AND NOT u.is_system
		   AND NOT (b.max_deadline > at AND b.max_deadline < at + interval '2 hours')
		 ORDER BY b.id
		   FOR NO KEY UPDATE OF b
	LOOP
		SELECT * INTO d FROM coder.build_deadlines(v.b, v.completed_at);
		v_max := CASE WHEN d.max_deadline > v_none THEN greatest(d.max_deadline, at + interval '2 hours') ELSE v_none END;
		UPDATE coder.workspace_builds x
		   SET max_deadline = v_max, updated_at = now(), deadline = CASE
				WHEN d.deadline = v_none THEN v_none
				WHEN v_max > v_none AND (x.deadline = v_none OR x.deadline > v_max) THEN v_max
				ELSE x.deadline END
		 WHERE x.id = (v.b).id;
		v_done := v_done + 1;
	END LOOP;
	RETURN v_done;
END
$$;
COMMENT ON FUNCTION coder.template_reschedule(uuid, timestamptz) IS
	'Running workspaces of a template whose required autostop has changed get new deadlines, none sooner than in two hours; how many.';

CREATE OR REPLACE FUNCTION coder.build_store_modules(job uuid, transition coder.workspace_transition, modules jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO coder.workspace_modules (job_id, transition, source, version, key)
	SELECT job, build_store_modules.transition, coalesce(m ->> 'source', ''), coalesce(m ->> 'version', ''),
		   coalesce(m ->> 'key', '')
	  FROM jsonb_array_elements(coalesce(modules, '[]')) m;
END
$$;
COMMENT ON FUNCTION coder.build_store_modules(uuid, coder.workspace_transition, jsonb) IS
	'Stores the Terraform modules that a job used.';

CREATE OR REPLACE FUNCTION coder.build_job_completed(job uuid, completed jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds;
	d record;
BEGIN
	SELECT * INTO STRICT b FROM coder.workspace_builds x WHERE x.job_id = job FOR NO KEY UPDATE;
	PERFORM coder.store_resources(job, b.transition::text, coalesce(completed -> 'resources', '[]'));
	PERFORM coder.build_store_modules(job, b.transition, completed -> 'modules');
	SELECT * INTO d FROM coder.build_deadlines(b, clock_timestamp());
	UPDATE coder.workspace_builds
	   SET provisioner_state = decode(coalesce(completed ->> 'state', ''), 'hex'),
		   deadline = d.deadline, max_deadline = d.max_deadline, updated_at = now(),
		   daily_cost = (SELECT least(greatest(coalesce(sum(r.daily_cost), 0), 0), 2147483647)
						   FROM coder.workspace_resources r WHERE r.job_id = job),
		   has_ai_task = jsonb_array_length(coalesce(completed -> 'ai_tasks', '[]')) > 0,
		   has_external_agent = EXISTS (SELECT FROM jsonb_array_elements(coalesce(completed -> 'resources', '[]')) r
										 WHERE r ->> 'type' = 'coder_external_agent')
	 WHERE id = b.id;
	UPDATE coder.workspaces
	   SET next_start_at = d.next_start, deleted = deleted OR b.transition = 'delete', updated_at = now()
	 WHERE id = b.workspace_id;
END
$$;
COMMENT ON FUNCTION coder.build_job_completed(uuid, jsonb) IS
	'Stores CompletedJob.WorkspaceBuild: resources, state, deadlines; a delete marks the workspace. The caller ends the job in the same transaction.';
