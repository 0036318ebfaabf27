-- SPDX-License-Identifier: MIT
--
-- workspace.sql
--   Workspaces: created, shown, their settings and dormancy, watching.

-- ---- access and representation ----

CREATE OR REPLACE FUNCTION coder.workspace_can(action text, w coder.workspaces) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED AS $$
BEGIN
	-- A dormant workspace is an object of its own type, and is shared with nobody.
	IF (w).dormant_at IS NULL THEN
		RETURN coder.can(action, 'workspace', (w).organization_id, (w).owner_id,
						 (w).user_acl, (w).group_acl, (w).id);
	END IF;
	RETURN coder.can(action, 'workspace_dormant', (w).organization_id, (w).owner_id,
					 NULL::pg_catalog.jsonb, NULL::pg_catalog.jsonb, (w).id);
END
$$;
COMMENT ON FUNCTION coder.workspace_can(text, coder.workspaces) IS
	'May the subject do this to the workspace?';

CREATE OR REPLACE FUNCTION coder.workspaces_json(ids uuid[], viewer uuid DEFAULT NULL, fresh boolean DEFAULT false)
RETURNS text
AS 'MODULE_PATHNAME', 'coder_workspaces_json'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION coder.workspaces_json(uuid[], uuid, boolean) IS
	'JSON array of workspaces, in the order of ids, as viewer sees them (favorite); fresh: as in the answer to the request that made the build.';

CREATE OR REPLACE FUNCTION coder.workspace_json(id uuid, fresh boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_list text := coder.workspaces_json(ARRAY[id], coder.subject_id(), fresh);
BEGIN
	RETURN substr(v_list, 2, length(v_list) - 2);
END
$$;
COMMENT ON FUNCTION coder.workspace_json(uuid, boolean) IS 'JSON of one workspace.';

CREATE OR REPLACE FUNCTION coder.workspace_shared_with(user_acl jsonb, group_acl jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v json;
BEGIN
	SELECT json_agg(json_strip_nulls(json_build_object('id', s.id, 'actor_type', s.kind, 'name', s.name,
			'avatar_url', nullif(s.avatar, ''),
			'roles', json_build_array(coder.workspace_role(jsonb_build_object('permissions', s.permissions)))))
			ORDER BY s.kind DESC, s.name)
	  INTO v
	  FROM (SELECT u.id, 'user' AS kind, coalesce(nullif(u.name, ''), u.username) AS name,
				   u.avatar_url AS avatar, a.value -> 'permissions' AS permissions
			  FROM jsonb_each(user_acl) a JOIN coder.users u ON u.id = a.key::uuid
			UNION ALL
			SELECT g.id, 'group', coalesce(nullif(g.display_name, ''), g.name), g.avatar_url,
				   a.value -> 'permissions'
			  FROM jsonb_each(group_acl) a JOIN coder.groups g ON g.id = a.key::uuid) s;
	RETURN v::text;
END
$$;
COMMENT ON FUNCTION coder.workspace_shared_with(jsonb, jsonb) IS
	'JSON of those a workspace is shared with; NULL if with nobody.';

CREATE OR REPLACE FUNCTION coder.param_workspace(req coder.request, action text DEFAULT 'read', refused int DEFAULT 404)
RETURNS coder.workspaces
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_id uuid := coder.param_uuid(req, 'workspace');
	v coder.workspaces;
BEGIN
	SELECT * INTO v FROM coder.workspaces w WHERE w.id = v_id;
	IF NOT FOUND OR NOT coder.workspace_can('read', v) THEN
		PERFORM coder.raise_not_found();
	ELSIF action <> 'read' AND NOT coder.workspace_can(action, v) THEN
		IF refused = 403 THEN
			PERFORM coder.raise_forbidden();
		END IF;
		PERFORM coder.raise_not_found();
	END IF;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.param_workspace(coder.request, text, int) IS
	'The workspace of the path, that the subject may read and do action to; else 404, or refused where it may only be read.';

-- ---- one workspace ----

CREATE OR REPLACE FUNCTION coder.workspace_get(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_deleted boolean := coder.query_bool(req, 'include_deleted', false);
	w coder.workspaces := coder.param_workspace(req);
BEGIN
	IF w.deleted AND NOT v_deleted THEN
		PERFORM coder.raise(410, format('Workspace "%s" was deleted, you can view this workspace by specifying ''?deleted=true'' and trying again.', w.id));
	END IF;
	RETURN coder.reply(200, coder.workspace_json(w.id));
END
$$;
COMMENT ON FUNCTION coder.workspace_get(coder.request) IS 'GET /workspaces/{workspace}; 410 if deleted.';

CREATE OR REPLACE FUNCTION coder.param_workspace_by_name(req coder.request, deleted_too boolean) RETURNS coder.workspaces
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_user coder.users := coder.param_user(req);
	v coder.workspaces;
BEGIN
	SELECT * INTO v FROM coder.workspaces w
	 WHERE w.owner_id = v_user.id AND lower(w.name) = lower(req.params ->> 'workspacename')
	   AND (NOT w.deleted OR deleted_too)
	 ORDER BY w.deleted, w.created_at DESC LIMIT 1;
	IF NOT FOUND OR NOT coder.workspace_can('read', v) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.param_workspace_by_name(coder.request, boolean) IS
	'The workspace of the path''s user and name, the newest deleted one if there is no live one and deleted_too; else 404.';

CREATE OR REPLACE FUNCTION coder.workspace_get_by_name(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_text text := coalesce(req.query ->> 'include_deleted', '');
	w coder.workspaces;
BEGIN
	IF v_text NOT IN ('', '1', 't', 'T', 'TRUE', 'true', 'True', '0', 'f', 'F', 'FALSE', 'false', 'False') THEN
		PERFORM coder.raise(400, format('Invalid boolean value "%s" for "include_deleted" query param.', v_text));
	END IF;
	w := coder.param_workspace_by_name(req, lower(v_text) IN ('1', 't', 'true'));
	RETURN coder.reply(200, coder.workspace_json(w.id));
END
$$;
COMMENT ON FUNCTION coder.workspace_get_by_name(coder.request) IS
	'GET /users/{user}/workspace/{workspacename}.';

CREATE OR REPLACE FUNCTION coder.workspace_patch(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
	v_name text := coalesce(v_body ->> 'name', '');
BEGIN
	IF v_name <> '' AND NOT coder.name_ok(v_name) THEN
		PERFORM coder.raise_validations(ARRAY[coder.validation('name',
			format('Validation failed for tag "username" with value: "%s"', v_name))]);
	END IF;
	IF w.deleted THEN
		PERFORM coder.raise(405, format('Workspace "%s" is deleted and cannot be updated.', w.name));
	END IF;
	IF v_name <> '' AND v_name <> w.name THEN
		PERFORM coder.raise(400, 'Workspace renames are not allowed.');
	END IF;
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_patch(coder.request) IS
	'PATCH /workspaces/{workspace}: the same name only, as renames are switched off.';

-- ---- settings of a workspace ----

CREATE OR REPLACE FUNCTION coder.workspace_autostart(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
	v_schedule text := nullif(v_body ->> 'schedule', '');
	v_template record;
	v_next timestamptz;
	v_error text;
BEGIN
	SELECT t.allow_user_autostart, t.autostart_block_days_of_week::integer AS blocked INTO v_template
	  FROM coder.templates t WHERE t.id = w.template_id;
	IF v_schedule IS NOT NULL THEN
		SELECT p.error INTO v_error FROM coder.schedule_parse(v_schedule) p;
		IF v_error IS NOT NULL THEN
			PERFORM coder.raise(400, 'Invalid autostart schedule.', NULL,
				jsonb_build_array(coder.validation('schedule', v_error)));
		END IF;
		IF NOT v_template.allow_user_autostart THEN
			PERFORM coder.raise(400, 'Autostart is not allowed for workspaces using this template.');
		END IF;
		v_next := coder.schedule_next(v_schedule, now(), v_template.blocked);
		IF v_next IS NULL THEN
			PERFORM coder.raise(500, 'Internal error calculating workspace autostart schedule.');
		END IF;
	END IF;
	UPDATE coder.workspaces SET autostart_schedule = v_schedule, next_start_at = v_next, updated_at = now()
	 WHERE id = w.id;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update');
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_autostart(coder.request) IS
	'PUT /workspaces/{workspace}/autostart: schedule, null or empty for none.';

CREATE OR REPLACE FUNCTION coder.workspace_ttl(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
	v_ms bigint := coder.json_int(v_body, 'ttl_ms');
	v_error text;
BEGIN
	IF NOT (SELECT t.allow_user_autostop FROM coder.templates t WHERE t.id = w.template_id) THEN
		v_error := 'Custom autostop TTL is not allowed for workspaces using this template.';
	ELSIF coalesce(v_ms, 0) <> 0 THEN
		v_error := coder.check_ttl(v_ms);
	END IF;
	IF v_error IS NOT NULL THEN
		PERFORM coder.raise(400, 'Error updating workspace time until shutdown.', NULL,
			jsonb_build_array(coder.validation('ttl_ms', v_error)));
	END IF;
	IF coalesce(v_ms, 0) = 0 THEN
		UPDATE coder.workspaces SET ttl = NULL, updated_at = now() WHERE id = w.id;
		-- The running build has no deadline of its own any more.
		UPDATE coder.workspace_builds SET deadline = max_deadline, updated_at = now()
		 WHERE id = w.latest_build_id AND transition = 'start';
	ELSE
		UPDATE coder.workspaces SET ttl = v_ms / 60000 * 60000000000, updated_at = now() WHERE id = w.id;
	END IF;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update');
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_ttl(coder.request) IS
	'PUT /workspaces/{workspace}/ttl: milliseconds in whole minutes, null or 0 for none.';

CREATE OR REPLACE FUNCTION coder.json_int(body jsonb, field text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_type text := jsonb_typeof(body -> field);
BEGIN
	IF v_type IS NULL OR v_type = 'null' THEN
		RETURN NULL;
	END IF;
	IF v_type <> 'number' OR (body ->> field) !~ '^-?\d{1,18}$' THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.',
			format('%s: a whole number is expected', field));
	END IF;
	RETURN (body ->> field)::bigint;
END
$$;
COMMENT ON FUNCTION coder.json_int(jsonb, text) IS
	'A whole number of a body, NULL where absent or null; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_extend(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces;
	v_deadline timestamptz;
	b record;
BEGIN
	IF coalesce(v_body ->> 'deadline', '') IN ('', '0001-01-01T00:00:00Z') THEN
		PERFORM coder.raise_validations(ARRAY[coder.validation('deadline',
			'Validation failed for tag "required" with value: "0001-01-01 00:00:00 +0000 UTC"')]);
	END IF;
	IF v_body ->> 'deadline' !~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$' THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.',
			format('parsing time %s: not a time of RFC 3339', v_body -> 'deadline'));
	END IF;
	v_deadline := (v_body ->> 'deadline')::timestamptz;
	w := coder.param_workspace(req, 'update');
	SELECT bb.id, bb.transition::text AS transition, bb.deadline, bb.max_deadline, j.completed_at INTO b
	  FROM coder.workspace_builds bb JOIN coder.provisioner_jobs j ON j.id = bb.job_id
	 WHERE bb.id = w.latest_build_id;
	PERFORM CASE
		WHEN b.transition IS DISTINCT FROM 'start' THEN
			coder.raise(409, format('Workspace must be started, current status: %s', b.transition))
		WHEN b.completed_at IS NULL THEN coder.raise(409, 'Workspace is still building!')
		WHEN b.deadline = '0001-01-01 00:00:00+00' THEN coder.raise(409, 'Workspace shutdown is manual.')
		WHEN v_deadline < now() + interval '29 minutes' THEN
			coder.raise(400, 'Cannot extend workspace: new deadline must be at least 30 minutes in the future')
		WHEN b.max_deadline <> '0001-01-01 00:00:00+00' AND v_deadline > b.max_deadline THEN
			coder.raise(400, 'Cannot extend workspace beyond max deadline.')
		WHEN v_deadline < b.completed_at THEN
			coder.raise(400, 'Cannot extend workspace: new deadline must be before workspace start time')
	END;
	UPDATE coder.workspace_builds SET deadline = v_deadline, updated_at = now() WHERE id = b.id;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update');
	RETURN coder.reply(200, jsonb_build_object('message', format('Deadline updated to %s.', coder.ts(v_deadline))));
END
$$;
COMMENT ON FUNCTION coder.workspace_extend(coder.request) IS
	'PUT /workspaces/{workspace}/extend: a new deadline of the running build.';

CREATE OR REPLACE FUNCTION coder.workspace_set_dormant(id uuid, at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE coder.workspaces w
	   SET dormant_at = at,
		   deleting_at = CASE WHEN t.time_til_dormant_autodelete > 0
							  THEN at + t.time_til_dormant_autodelete / 1000 * interval '1 microsecond' END,
		   last_used_at = CASE WHEN at IS NULL THEN now() ELSE w.last_used_at END,
		   updated_at = now()
	  FROM coder.templates t
	 WHERE w.id = workspace_set_dormant.id AND t.id = w.template_id;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update')
	   FROM coder.workspaces w WHERE w.id = workspace_set_dormant.id;
END
$$;
COMMENT ON FUNCTION coder.workspace_set_dormant(uuid, timestamptz) IS
	'Makes a workspace dormant since a time, or wakes it (NULL).';

CREATE OR REPLACE FUNCTION coder.workspace_dormant(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
	v_dormant boolean := coalesce(v_body -> 'dormant' = 'true'::jsonb, false);
BEGIN
	IF (w.dormant_at IS NOT NULL) = v_dormant THEN
		RETURN coder.reply(304, NULL::text);
	END IF;
	PERFORM coder.workspace_set_dormant(w.id, CASE WHEN v_dormant THEN now() END);
	RETURN coder.reply(200, coder.workspace_json(w.id));
END
$$;
COMMENT ON FUNCTION coder.workspace_dormant(coder.request) IS
	'PUT /workspaces/{workspace}/dormant; 304 if it is so already.';

CREATE OR REPLACE FUNCTION coder.workspace_favorite(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
	v_on boolean := req.method = 'PUT';
BEGIN
	IF w.owner_id IS DISTINCT FROM coder.subject_id() THEN
		PERFORM coder.raise(403, CASE WHEN v_on THEN 'You can only favorite workspaces that you own.'
									  ELSE 'You can only un-favorite workspaces that you own.' END);
	END IF;
	UPDATE coder.workspaces SET favorite = v_on WHERE id = w.id;
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_favorite(coder.request) IS
	'PUT and DELETE /workspaces/{workspace}/favorite.';

CREATE OR REPLACE FUNCTION coder.workspace_autoupdates(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces;
	v_updates text := coalesce(v_body ->> 'automatic_updates', '');
BEGIN
	IF v_updates NOT IN ('always', 'never') THEN
		PERFORM coder.raise(400, 'Invalid request', NULL,
			jsonb_build_array(coder.validation('automatic_updates', 'must be always or never')));
	END IF;
	w := coder.param_workspace(req, 'update');
	UPDATE coder.workspaces SET automatic_updates = v_updates::coder.automatic_updates, updated_at = now()
	 WHERE id = w.id;
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_autoupdates(coder.request) IS
	'PUT /workspaces/{workspace}/autoupdates: always or never.';

CREATE OR REPLACE FUNCTION coder.workspace_resolve_autostart(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
	t coder.templates;
	b coder.workspace_builds;
	v_mismatch boolean := false;
BEGIN
	SELECT * INTO t FROM coder.templates WHERE id = w.template_id;
	SELECT * INTO b FROM coder.workspace_builds WHERE id = w.latest_build_id;
	IF (w.automatic_updates = 'always' OR t.require_active_version)
		AND t.active_version_id <> b.template_version_id THEN
		SELECT EXISTS (SELECT FROM coder.resolve_parameters(t.active_version_id, b.id, '[]'::jsonb, NULL) r
						WHERE r.problem IS NOT NULL) INTO v_mismatch;
	END IF;
	RETURN coder.reply(200, jsonb_build_object('parameter_mismatch', v_mismatch));
END
$$;
COMMENT ON FUNCTION coder.workspace_resolve_autostart(coder.request) IS
	'GET /workspaces/{workspace}/resolve-autostart: would an update at the next start lack parameters?';

-- ---- creation ----

CREATE OR REPLACE FUNCTION coder.workspace_create_invalid(body jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_nil constant text := '00000000-0000-0000-0000-000000000000';
	v_template text := coalesce(nullif(body ->> 'template_id', ''), v_nil);
	v_version text := coalesce(nullif(body ->> 'template_version_id', ''), v_nil);
	v_problems jsonb[] := '{}';
	v_field text;
BEGIN
	FOREACH v_field IN ARRAY '{template_id,template_version_id}'::text[] LOOP
		IF coalesce(nullif(body ->> v_field, ''), v_nil) !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
			PERFORM coder.raise(400, 'Request body must be valid JSON.',
				format('%s: invalid UUID length: %s', v_field, length(body ->> v_field)));
		END IF;
	END LOOP;
	IF (v_template = v_nil) = (v_version = v_nil) THEN
		FOREACH v_field IN ARRAY '{template_id,template_version_id}'::text[] LOOP
			v_problems := v_problems || coder.validation(v_field,
				format('Validation failed for tag "%s" with value: "%s"',
					   CASE WHEN v_template = v_nil THEN 'required_without' ELSE 'excluded_with' END,
					   coalesce(nullif(body ->> v_field, ''), v_nil)));
		END LOOP;
	END IF;
	IF NOT coder.name_ok(coalesce(body ->> 'name', '')) THEN
		v_problems := v_problems || coder.validation('name',
			format('Validation failed for tag "workspace_name" with value: "%s"', coalesce(body ->> 'name', '')));
	END IF;
	IF cardinality(v_problems) > 0 THEN
		PERFORM coder.raise_validations(v_problems);
	END IF;
END
$$;
COMMENT ON FUNCTION coder.workspace_create_invalid(jsonb) IS
	'Raises 400 where a request to create a workspace is not well formed.';

CREATE OR REPLACE FUNCTION coder.workspace_create_version(body jsonb, OUT version coder.template_versions,
											   OUT template coder.templates)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_nil constant uuid := '00000000-0000-0000-0000-000000000000';
	v_version uuid := nullif(nullif(body ->> 'template_version_id', '')::uuid, v_nil);
	v_template uuid := nullif(nullif(body ->> 'template_id', '')::uuid, v_nil);
BEGIN
	IF v_version IS NOT NULL THEN
		SELECT * INTO version FROM coder.template_versions v WHERE v.id = v_version;
		IF NOT FOUND OR version.template_id IS NULL THEN
			PERFORM coder.raise(400, format('Template version "%s" doesn''t exist.', v_version), NULL,
				jsonb_build_array(coder.validation('template_version_id', 'template not found')));
		END IF;
		IF version.archived THEN
			PERFORM coder.raise(500, 'Archived template versions cannot be used to make a workspace.', NULL,
				jsonb_build_array(coder.validation('template_version_id', 'template version archived')));
		END IF;
		v_template := version.template_id;
	END IF;
	SELECT * INTO template FROM coder.templates t WHERE t.id = v_template;
	IF NOT FOUND OR NOT coder.can('read', 'template', template.organization_id, NULL,
								  template.user_acl, template.group_acl, template.id) THEN
		PERFORM coder.raise(400, format('Template "%s" doesn''t exist.', v_template), NULL,
			jsonb_build_array(coder.validation('template_id', 'template not found')));
	END IF;
	IF template.deleted THEN
		PERFORM coder.raise(404, format('Template "%s" has been deleted!', template.name));
	END IF;
	IF v_version IS NULL THEN
		SELECT * INTO version FROM coder.template_versions v WHERE v.id = template.active_version_id;
	END IF;
END
$$;
COMMENT ON FUNCTION coder.workspace_create_version(jsonb) IS
	'The template and the version of a new workspace; errors: 400, 404, 500 as the API has them.';

CREATE OR REPLACE FUNCTION coder.workspace_create_settings(body jsonb, t coder.templates, OUT ttl bigint,
												OUT schedule text, OUT updates text, OUT next_start timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_ms bigint := coalesce(coder.json_int(body, 'ttl_ms'), 0);
	v_error text;
BEGIN
	schedule := nullif(body ->> 'autostart_schedule', '');
	IF schedule IS NOT NULL THEN
		SELECT p.error INTO v_error FROM coder.schedule_parse(schedule) p;
		IF v_error IS NOT NULL THEN
			PERFORM coder.raise(400, 'Invalid Autostart Schedule.', NULL,
				jsonb_build_array(coder.validation('schedule', v_error)));
		END IF;
		next_start := coder.schedule_next(schedule, now(), t.autostart_block_days_of_week::integer);
	END IF;
	IF v_ms <> 0 THEN
		v_error := coder.check_ttl(v_ms);
		IF v_error IS NOT NULL THEN
			PERFORM coder.raise(400, 'Invalid Workspace Time to Shutdown.', NULL,
				jsonb_build_array(coder.validation('ttl_ms', v_error)));
		END IF;
		ttl := v_ms / 60000 * 60000000000;
	ELSE
		ttl := nullif(greatest(t.default_ttl, 0), 0);
	END IF;
	updates := coalesce(nullif(body ->> 'automatic_updates', ''), 'never');
	IF updates NOT IN ('always', 'never') THEN
		PERFORM coder.raise(400, 'Invalid Workspace Automatic Updates setting.', NULL,
			jsonb_build_array(coder.validation('automatic_updates', 'Automatic updates must be always or never')));
	END IF;
END
$$;
COMMENT ON FUNCTION coder.workspace_create_settings(jsonb, coder.templates) IS
	'Schedule, time until shutdown (nanoseconds) and updates of a new workspace; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_create(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	v_owner coder.users := coder.param_user(req);
	c record;
	v_version coder.template_versions;
	t coder.templates;
	s record;
	v_id uuid := gen_random_uuid();
	v_name text := v_body ->> 'name';
BEGIN
	PERFORM coder.workspace_create_invalid(v_body);
	SELECT * INTO c FROM coder.workspace_create_version(v_body);
	v_version := c.version;
	t := c.template;
	IF NOT coder.can('create', 'workspace', t.organization_id, v_owner.id) THEN
		PERFORM coder.raise(403, 'Unauthorized to create workspace.');
	END IF;
	IF NOT coder.can('use', 'template', t.organization_id, NULL, t.user_acl, t.group_acl, t.id) THEN
		PERFORM coder.raise(403, format('Unauthorized access to use the template "%s".', t.name));
	END IF;
	IF t.deprecated <> '' THEN
		PERFORM coder.raise(400, format('Template "%s" has been deprecated, and cannot be used to create a new workspace.', t.name), t.deprecated);
	END IF;
	IF coder.links_stale(req, v_owner.id, coder.provider_ids(v_version.external_auth_providers)) THEN
		RETURN coder.links_check(req, 'workspace_create', v_owner.id, coder.provider_ids(v_version.external_auth_providers));
	END IF;
	SELECT * INTO s FROM coder.workspace_create_settings(v_body, t);
	IF EXISTS (SELECT FROM coder.workspaces w
				WHERE w.owner_id = v_owner.id AND lower(w.name) = lower(v_name) AND NOT w.deleted) THEN
		PERFORM coder.raise_name_taken(v_name);
	END IF;
	BEGIN
		INSERT INTO coder.workspaces (id, owner_id, organization_id, template_id, name, autostart_schedule, ttl,
									  last_used_at, automatic_updates, next_start_at)
		VALUES (v_id, v_owner.id, t.organization_id, t.id, v_name, s.schedule, s.ttl, now(),
				s.updates::coder.automatic_updates, s.next_start);
	EXCEPTION WHEN unique_violation THEN
		PERFORM coder.raise_name_taken(v_name);
	END;
	PERFORM coder.build_add(v_id, coder.subject_id(), 'start', v_version.id, 'initiator',
							coalesce(v_body -> 'rich_parameter_values', '[]'),
							coder.json_uuid(v_body, 'template_version_preset_id'));
	RETURN coder.reply(201, coder.workspace_json(v_id, true));
END
$$;
COMMENT ON FUNCTION coder.workspace_create(coder.request) IS
	'POST /users/{user}/workspaces: a workspace and its first build; errors in the order of the API.';

CREATE OR REPLACE FUNCTION coder.raise_name_taken(name text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.raise(409, format('Workspace "%s" already exists.', name), NULL,
		jsonb_build_array(coder.validation('name', 'This value is already in use and should be unique.')));
END
$$;
COMMENT ON FUNCTION coder.raise_name_taken(text) IS 'Raises 409: the owner has a workspace of that name.';

CREATE OR REPLACE FUNCTION coder.json_uuid(body jsonb, field text) RETURNS uuid
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v text := coalesce(body ->> field, '');
BEGIN
	IF v IN ('', '00000000-0000-0000-0000-000000000000') THEN
		RETURN NULL;
	END IF;
	IF v !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.',
			format('%s: invalid UUID length: %s', field, length(v)));
	END IF;
	RETURN v::uuid;
END
$$;
COMMENT ON FUNCTION coder.json_uuid(jsonb, text) IS
	'A UUID of a body, NULL where absent, empty or nil; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_available_users(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_org coder.organizations := coder.param_organization(req);
	v_limit integer := coder.query_int(req, 'limit', 0);
	v_offset integer := coder.query_int(req, 'offset', 0);
	v_like text := '%' || regexp_replace(lower(btrim(coalesce(req.query ->> 'q', ''))), '([\\%_])', '\\\1', 'g') || '%';
	v_users json;
BEGIN
	IF NOT coder.can('create', 'workspace', v_org.id) THEN
		PERFORM coder.raise_forbidden();
	END IF;
	SELECT json_agg(json_strip_nulls(json_build_object('id', u.id, 'username', u.username,
			'name', nullif(u.name, ''), 'avatar_url', nullif(u.avatar_url, ''))) ORDER BY lower(u.username)) INTO v_users
	  FROM (SELECT x.* FROM coder.users x JOIN coder.organization_members m ON m.user_id = x.id
			 WHERE m.organization_id = v_org.id AND NOT x.deleted AND NOT x.is_system
			   AND (lower(x.username) LIKE v_like OR lower(x.email) LIKE v_like OR lower(x.name) LIKE v_like)
			 ORDER BY lower(x.username) LIMIT nullif(v_limit, 0) OFFSET v_offset) u;
	RETURN coder.reply(200, coalesce(v_users, '[]'));
END
$$;
COMMENT ON FUNCTION coder.workspace_available_users(coder.request) IS
	'GET /organizations/{organization}/members/{user}/workspaces/available-users?q=: for whom a workspace may be created; 403 for those who create only their own.';

-- ---- watching ----

CREATE OR REPLACE FUNCTION coder.workspace_watch_plan(req coder.request, format text) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
BEGIN
	RETURN coder.reply(101, '{"format":"' || format || '","channels":["workspace:' || w.id || '"],"frames":['
		|| coder.workspace_json(w.id) || '],"cursor":"1"}');
END
$$;
COMMENT ON FUNCTION coder.workspace_watch_plan(coder.request, text) IS
	'Stream of a workspace: its JSON now and at each event.';

CREATE OR REPLACE FUNCTION coder.workspace_watch(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.workspace_watch_plan(req, 'sse');
END
$$;
COMMENT ON FUNCTION coder.workspace_watch(coder.request) IS 'GET /workspaces/{workspace}/watch (SSE).';

CREATE OR REPLACE FUNCTION coder.workspace_watch_ws(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.workspace_watch_plan(req, 'ws');
END
$$;
COMMENT ON FUNCTION coder.workspace_watch_ws(coder.request) IS 'GET /workspaces/{workspace}/watch-ws (WebSocket).';

INSERT INTO coder.routes (area, method, pattern, function) VALUES
	('workspace', 'POST', '/api/v2/users/{user}/workspaces', 'workspace_create'),
	('workspace', 'POST', '/api/v2/organizations/{organization}/members/{user}/workspaces', 'workspace_create'),
	('workspace', 'GET', '/api/v2/organizations/{organization}/members/{user}/workspaces/available-users', 'workspace_available_users'),
	('workspace', 'GET', '/api/v2/workspaces/{workspace}', 'workspace_get'),
	('workspace', 'PATCH', '/api/v2/workspaces/{workspace}', 'workspace_patch'),
	('workspace', 'GET', '/api/v2/users/{user}/workspace/{workspacename}', 'workspace_get_by_name'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/autostart', 'workspace_autostart'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/ttl', 'workspace_ttl'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/extend', 'workspace_extend'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/dormant', 'workspace_dormant'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/favorite', 'workspace_favorite'),
	('workspace', 'DELETE', '/api/v2/workspaces/{workspace}/favorite', 'workspace_favorite'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/autoupdates', 'workspace_autoupdates'),
	('workspace', 'GET', '/api/v2/workspaces/{workspace}/resolve-autostart', 'workspace_resolve_autostart'),
	('workspace', 'GET', '/api/v2/workspaces/{workspace}/watch', 'workspace_watch'),
	('workspace', 'GET', '/api/v2/workspaces/{workspace}/watch-ws', 'workspace_watch_ws');
