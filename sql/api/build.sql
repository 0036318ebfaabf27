-- SPDX-License-Identifier: MIT
--
-- build.sql
--   Builds: made, shown, canceled, watched; their parameters and state.

CREATE OR REPLACE FUNCTION coder.builds_json(ids uuid[], fresh boolean DEFAULT false) RETURNS text
AS 'MODULE_PATHNAME', 'coder_builds_json'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION coder.builds_json(uuid[], boolean) IS
	'JSON array of builds, in the order of ids; fresh: as in the answer to the request that made them.';

CREATE OR REPLACE FUNCTION coder.resources_json(job uuid) RETURNS text
AS 'MODULE_PATHNAME', 'coder_resources_json'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION coder.resources_json(uuid) IS
	'JSON array of the resources of a job with their agents and apps.';

CREATE OR REPLACE FUNCTION coder.build_queue(job uuid) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	j coder.provisioner_jobs;
	q record;
BEGIN
	SELECT * INTO j FROM coder.provisioner_jobs p WHERE p.id = job;
	SELECT * INTO q FROM coder.provisioner_job_queue(j);
	RETURN concat_ws(' ', q."position", q.size, coder.compact(coder.matched_provisioners(j)));
END
$$;
COMMENT ON FUNCTION coder.build_queue(uuid) IS
	'Of a pending job: its position in the queue, the queue''s size, and matched_provisioners as JSON; parted by blanks.';

-- ---- parameters ----

CREATE OR REPLACE FUNCTION coder.parameter_problem(p coder.template_version_parameters, value text, previous text,
										has_previous boolean)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_invalid constant text := 'Invalid parameter value according to ''validation'' block; ';
	v_values text[] := ARRAY[value];
	v_one text;
BEGIN
	IF has_previous AND NOT p.mutable AND previous IS DISTINCT FROM value THEN
		RETURN format('Immutable parameter changed; Parameter "%s" is not mutable, so it can''t be updated after creating a workspace.', p.name);
	END IF;
	IF value IS NULL THEN
		RETURN format('Required parameter not provided; parameter "%s" needs a value', p.name);
	END IF;
	IF p.type = 'number' THEN
		IF value !~ '^[+-]?\d{1,18}(\.\d+)?$' THEN
			RETURN format('Value must be a number; %s is not a number', to_json(value));
		ELSIF value::numeric < p.validation_min THEN
			RETURN v_invalid || coalesce(nullif(replace(replace(replace(p.validation_error, '{value}', value), '{min}', p.validation_min::text), '{max}', coalesce(p.validation_max::text, '')), ''),
				format('value %s is less than the minimum %s', value, p.validation_min));
		ELSIF value::numeric > p.validation_max THEN
			RETURN v_invalid || coalesce(nullif(replace(replace(replace(p.validation_error, '{value}', value), '{max}', p.validation_max::text), '{min}', coalesce(p.validation_min::text, '')), ''),
				format('value %s is more than the maximum %s', value, p.validation_max));
		ELSIF has_previous AND previous ~ '^[+-]?\d{1,18}(\.\d+)?$' AND
			((p.validation_monotonic = 'increasing' AND value::numeric < previous::numeric)
			 OR (p.validation_monotonic = 'decreasing' AND value::numeric > previous::numeric)) THEN
			RETURN format('Parameter "%s" monotonicity; parameter value must be equal or %s than previous value: %s',
				p.name, CASE p.validation_monotonic WHEN 'increasing' THEN 'greater' ELSE 'lower' END, previous);
		END IF;
	ELSIF p.type = 'bool' AND value NOT IN ('true', 'false') THEN
		RETURN format('Value must be a boolean; %s is neither true nor false', to_json(value));
	ELSIF p.type = 'list(string)' THEN
		BEGIN
			v_values := ARRAY(SELECT jsonb_array_elements_text(value::jsonb));
		EXCEPTION WHEN OTHERS THEN
			RETURN format('Value must be a list of strings; %s is not one', to_json(value));
		END;
	END IF;
	IF jsonb_array_length(p.options) > 0 AND (p.type <> 'list(string)' OR p.form_type = 'multi-select') THEN
		FOREACH v_one IN ARRAY v_values LOOP
			IF NOT EXISTS (SELECT FROM jsonb_array_elements(p.options) o WHERE o ->> 'value' = v_one) THEN
				RETURN format('Value must be a valid option; the value "%s" must be defined as one of options', v_one);
			END IF;
		END LOOP;
	END IF;
	IF p.type = 'string' AND p.validation_regex <> '' THEN
		BEGIN
			IF value !~ p.validation_regex THEN
				RETURN v_invalid || coalesce(nullif(p.validation_error, ''),
					format('value "%s" does not match "%s"', value, p.validation_regex));
			END IF;
		EXCEPTION WHEN invalid_regular_expression THEN
			RETURN v_invalid || format('"%s" is not a regular expression', p.validation_regex);
		END;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.parameter_problem(coder.template_version_parameters, text, text, boolean) IS
	'What is wrong with a parameter''s value, as "summary; detail"; NULL if nothing is.';

CREATE OR REPLACE FUNCTION coder.resolve_parameters(version uuid, previous_build uuid, given jsonb, preset uuid)
RETURNS TABLE (name text, value text, problem text, ordinal bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	p coder.template_version_parameters;
	v_previous text;
	v_place bigint;
	v_has boolean;
BEGIN
	FOR p IN SELECT * FROM coder.template_version_parameters t WHERE t.template_version_id = version
			  ORDER BY t.display_order, t.name LOOP
		v_place := NULL;
		value := NULL;
		SELECT b.value INTO v_previous FROM coder.workspace_build_parameters b
		 WHERE b.workspace_build_id = previous_build AND b.name = p.name;
		v_has := FOUND;
		SELECT x.value INTO value FROM coder.template_version_preset_parameters x
		 WHERE x.template_version_preset_id = preset AND x.name = p.name;
		IF value IS NULL THEN
			SELECT g.value ->> 'value', g.n INTO value, v_place
			  FROM jsonb_array_elements(given) WITH ORDINALITY g(value, n)
			 WHERE g.value ->> 'name' = p.name ORDER BY g.n DESC LIMIT 1;
		END IF;
		IF value IS NULL AND v_has AND NOT p.ephemeral THEN
			value := v_previous;
		END IF;
		IF value IS NULL AND NOT p.required THEN
			value := p.default_value;
		END IF;
		name := p.name;
		problem := coder.parameter_problem(p, value, v_previous, v_has);
		ordinal := coalesce(v_place, 1000000);
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION coder.resolve_parameters(uuid, uuid, jsonb, uuid) IS
	'Every parameter of a version with its value (preset, given, previous build, default) and what is wrong with it.';

CREATE OR REPLACE FUNCTION coder.matching_preset(version uuid, build uuid) RETURNS uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_preset uuid;
BEGIN
	SELECT p.id INTO v_preset
	  FROM coder.template_version_presets p
	  JOIN coder.template_version_preset_parameters x ON x.template_version_preset_id = p.id
	  LEFT JOIN coder.workspace_build_parameters b
			 ON b.workspace_build_id = build AND b.name = x.name AND b.value = x.value
	 WHERE p.template_version_id = version
	 GROUP BY p.id HAVING bool_and(b.name IS NOT NULL)
	 ORDER BY count(*) DESC, p.id LIMIT 1;
	RETURN v_preset;
END
$$;
COMMENT ON FUNCTION coder.matching_preset(uuid, uuid) IS
	'The largest preset of a version whose values are all a build''s; NULL if there is none.';

-- ---- making builds ----

CREATE OR REPLACE FUNCTION coder.build_check_version(w coder.workspaces, version uuid) RETURNS coder.provisioner_jobs
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v coder.template_versions;
	j coder.provisioner_jobs;
BEGIN
	SELECT * INTO v FROM coder.template_versions t WHERE t.id = version;
	IF NOT FOUND THEN
		PERFORM coder.raise(400, 'template version does not exist');
	END IF;
	IF v.template_id IS DISTINCT FROM w.template_id THEN
		PERFORM coder.raise(400, 'template version doesn''t match template');
	END IF;
	SELECT * INTO j FROM coder.provisioner_jobs p WHERE p.id = v.job_id;
	IF j.job_status IN ('pending', 'running', 'canceling') THEN
		PERFORM coder.raise(406, format('The provided template version is %s. Wait for it to complete importing!', j.job_status));
	ELSIF j.job_status <> 'succeeded' THEN
		PERFORM coder.raise(400, format('The provided template version "%s" has failed to import: "%s". You cannot build workspaces with it!', v.name, coalesce(j.error, '')));
	END IF;
	RETURN j;
END
$$;
COMMENT ON FUNCTION coder.build_check_version(coder.workspaces, uuid) IS
	'The import job of a version that a workspace may be built with; errors: 400, 406.';

CREATE OR REPLACE FUNCTION coder.build_store_parameters(build uuid, version uuid, previous uuid, given jsonb, preset uuid)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_problems jsonb;
BEGIN
	IF jsonb_typeof(given) <> 'array' THEN
		given := '[]';
	END IF;
	SELECT jsonb_agg(coder.validation(r.name, r.problem) ORDER BY r.name) INTO v_problems
	  FROM coder.resolve_parameters(version, previous, given, preset) r WHERE r.problem IS NOT NULL;
	IF v_problems IS NOT NULL THEN
		PERFORM coder.raise(400, 'Unable to validate parameters', NULL, v_problems);
	END IF;
	INSERT INTO coder.workspace_build_parameters (workspace_build_id, name, value, ordinal)
	SELECT build, r.name, r.value, row_number() OVER (ORDER BY r.ordinal, r.name)
	  FROM coder.resolve_parameters(version, previous, given, preset) r;
END
$$;
COMMENT ON FUNCTION coder.build_store_parameters(uuid, uuid, uuid, jsonb, uuid) IS
	'Stores the values of a build''s parameters; errors: 400 with one validation a parameter.';

CREATE OR REPLACE FUNCTION coder.build_tags(version_tags jsonb, version uuid, owner uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_scope text := coalesce(version_tags ->> 'scope', 'organization');
BEGIN
	RETURN version_tags || jsonb_build_object('scope', v_scope,
		'owner', CASE v_scope WHEN 'user' THEN owner::text ELSE '' END);
END
$$;
COMMENT ON FUNCTION coder.build_tags(jsonb, uuid, uuid) IS
	'Tags of a build''s job: those of the version''s import, for the workspace''s owner.';

-- Tags that the template declares, with the values of the build's parameters, over those of its job.
CREATE OR REPLACE FUNCTION coder.build_add_tags(build uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds;
	j coder.provisioner_jobs;
	v_owner uuid;
	v_tags jsonb;
BEGIN
	SELECT * INTO b FROM coder.workspace_builds x WHERE x.id = build;
	IF NOT EXISTS (SELECT FROM coder.template_version_workspace_tags t WHERE t.template_version_id = b.template_version_id) THEN
		RETURN;
	END IF;
	SELECT * INTO j FROM coder.provisioner_jobs x WHERE x.id = b.job_id;
	SELECT w.owner_id INTO v_owner FROM coder.workspaces w WHERE w.id = b.workspace_id;
	v_tags := coder.workspace_tags(j.file_id, v_owner, j.organization_id,
		(SELECT coalesce(jsonb_object_agg(v.name, coalesce(nullif(v.value, ''), v.default_value)), '{}')
		   FROM coder.template_version_variables v
		  WHERE v.template_version_id = b.template_version_id AND coalesce(nullif(v.value, ''), v.default_value) <> ''),
		(SELECT coalesce(jsonb_object_agg(p.name, p.value), '{}')
		   FROM coder.workspace_build_parameters p WHERE p.workspace_build_id = build),
		'workspace tags validation failed');
	UPDATE coder.provisioner_jobs x SET tags = x.tags || v_tags WHERE x.id = j.id;
END
$$;
COMMENT ON FUNCTION coder.build_add_tags(uuid) IS
	'Adds the evaluated tags of a new build''s template to its job; errors: 400 with one validation a tag.';

CREATE OR REPLACE FUNCTION coder.build_add(workspace uuid, initiator uuid, transition text, version uuid, reason text,
								given jsonb DEFAULT '[]', preset uuid DEFAULT NULL, state bytea DEFAULT NULL,
								log_level text DEFAULT NULL, orphan boolean DEFAULT false)
RETURNS uuid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces;
	b coder.workspace_builds;
	j coder.provisioner_jobs;
	v_build uuid := gen_random_uuid();
	v_job uuid := gen_random_uuid();
	v_conflict text;
BEGIN
	-- One build after the other: the lock is held to the end.
	SELECT * INTO w FROM coder.workspaces ws WHERE ws.id = workspace FOR NO KEY UPDATE;
	SELECT * INTO b FROM coder.workspace_builds bb WHERE bb.workspace_id = workspace
	 ORDER BY bb.build_number DESC LIMIT 1;
	version := coalesce(version, b.template_version_id);
	SELECT coder.build_conflict(transition, w.deleted, p.job_status::text) INTO v_conflict
	  FROM coder.provisioner_jobs p WHERE p.id = b.job_id;
	IF v_conflict IS NOT NULL THEN
		PERFORM coder.raise(409, v_conflict, CASE WHEN w.deleted THEN NULL ELSE v_conflict END);
	END IF;
	j := coder.build_check_version(w, version);
	IF state IS NULL AND NOT orphan THEN
		state := b.provisioner_state;
	END IF;
	INSERT INTO coder.provisioner_jobs (id, organization_id, initiator_id, provisioner, storage_method, type,
										input, file_id, tags, trace_metadata)
	VALUES (v_job, w.organization_id, initiator, j.provisioner, j.storage_method, 'workspace_build',
			jsonb_strip_nulls(jsonb_build_object('workspace_build_id', v_build, 'log_level', log_level)),
			j.file_id, coder.build_tags(j.tags, version, w.owner_id), coder.audit_origin());
	INSERT INTO coder.workspace_builds (id, workspace_id, template_version_id, build_number, transition,
										initiator_id, provisioner_state, job_id, reason, template_version_preset_id)
	VALUES (v_build, workspace, version, coalesce(b.build_number, 0) + 1, transition::coder.workspace_transition,
			initiator, state, v_job, reason::coder.build_reason, preset);
	PERFORM coder.build_store_parameters(v_build, version, b.id, given, preset);
	PERFORM coder.build_add_tags(v_build);
	IF preset IS NULL THEN
		UPDATE coder.workspace_builds SET template_version_preset_id = p.id
		  FROM (SELECT coder.matching_preset(version, v_build) AS id) p
		 WHERE workspace_builds.id = v_build AND p.id IS NOT NULL;
	END IF;
	IF orphan THEN
		PERFORM coder.build_orphan(v_job);
	ELSIF transition = 'start' THEN
		PERFORM coder.build_hold(v_job, w.owner_id, version);
	END IF;
	RETURN v_build;
END
$$;
COMMENT ON FUNCTION coder.build_add(uuid, uuid, text, uuid, text, jsonb, uuid, bytea, text, boolean) IS
	'Adds a build and its job; version NULL: that of the last build; state NULL: that of the last build, none for an orphan. Errors: 400, 406, 409.';

CREATE OR REPLACE FUNCTION coder.build_orphan(job uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	j coder.provisioner_jobs;
BEGIN
	SELECT * INTO j FROM coder.provisioner_jobs p WHERE p.id = job;
	IF EXISTS (SELECT FROM coder.provisioner_daemons d
				WHERE d.organization_id = j.organization_id AND j.provisioner = ANY (d.provisioners)
				  AND d.last_seen_at >= now() - interval '90 seconds'
				  AND coder.provisioner_tagset_contains(d.tags, j.tags)) THEN
		RETURN;
	END IF;
	UPDATE coder.provisioner_jobs SET started_at = now(), completed_at = now(), updated_at = now() WHERE id = job;
	PERFORM coder.audit_as('build', false);
	UPDATE coder.workspaces w SET deleted = true, updated_at = now()
	  FROM coder.workspace_builds b WHERE b.job_id = job AND w.id = b.workspace_id;
	PERFORM coder.audit_as(NULL);
END
$$;
COMMENT ON FUNCTION coder.build_orphan(uuid) IS
	'Completes a delete without resources at once where no daemon is there to do it.';

CREATE OR REPLACE FUNCTION coder.build_create_request(body jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_problems jsonb[] := '{}';
	v_field text;
	v_reasons constant text[] := '{"",dashboard,cli,ssh_connection,vscode_connection,jetbrains_connection,task_manual_pause}';
BEGIN
	IF coalesce(body ->> 'transition', '') NOT IN ('start', 'stop', 'delete') THEN
		v_problems := v_problems || coder.validation('transition',
			format('Validation failed for tag "oneof" with value: "%s"', coalesce(body ->> 'transition', '')));
	END IF;
	IF coalesce(body ->> 'log_level', '') NOT IN ('', 'debug') THEN
		v_problems := v_problems || coder.validation('log_level',
			format('Validation failed for tag "oneof" with value: "%s"', body ->> 'log_level'));
	END IF;
	IF coalesce(body ->> 'reason', '') <> ALL (v_reasons) THEN
		v_problems := v_problems || coder.validation('reason',
			format('Validation failed for tag "oneof" with value: "%s"', body ->> 'reason'));
	END IF;
	IF cardinality(v_problems) > 0 THEN
		PERFORM coder.raise_validations(v_problems);
	END IF;
	IF coalesce((body ->> 'orphan')::boolean, false) THEN
		IF body ->> 'transition' <> 'delete' THEN
			PERFORM coder.raise(400, 'Orphan is only permitted when deleting a workspace.');
		ELSIF coalesce(body ->> 'state', '') <> '' THEN
			PERFORM coder.raise(400, 'ProvisionerState cannot be set alongside Orphan since state intent is unclear.');
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION coder.build_create_request(jsonb) IS
	'Raises 400 where a request for a build is not well formed.';

CREATE OR REPLACE FUNCTION coder.build_create_allowed(w coder.workspaces, body jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_transition text := body ->> 'transition';
	v_action text := CASE WHEN v_transition = 'start' AND w.dormant_at IS NOT NULL THEN 'update' ELSE v_transition END;
	t coder.templates;
BEGIN
	IF NOT coder.workspace_can(v_action, w) THEN
		PERFORM coder.raise(403, format('You do not have permission to %s this workspace.', v_transition));
	END IF;
	IF coalesce((body ->> 'orphan')::boolean, false) OR coalesce(body ->> 'state', '') <> '' THEN
		SELECT * INTO t FROM coder.templates x WHERE x.id = w.template_id;
		IF NOT coder.can('update', 'template', t.organization_id, NULL, t.user_acl, t.group_acl, t.id) THEN
			PERFORM coder.raise(403, 'Only template managers may provide custom state');
		END IF;
	END IF;
	IF coalesce(body ->> 'log_level', '') <> '' THEN
		IF NOT coder.can('read', 'deployment_config') THEN
			PERFORM coder.raise(400, 'Workspace builds with a custom log level are restricted to administrators only.');
		ELSIF coalesce(coder.setting('enable_terraform_debug_mode'), 'false') <> 'true' THEN
			PERFORM coder.raise(400, 'Terraform debug mode is disabled in the deployment configuration.');
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION coder.build_create_allowed(coder.workspaces, jsonb) IS
	'Raises 403 or 400 where the subject may not make the build.';

CREATE OR REPLACE FUNCTION coder.decode_base64(value text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN decode(value, 'base64');
EXCEPTION WHEN OTHERS THEN
	PERFORM coder.raise(400, 'Request body must be valid JSON.', 'illegal base64 data');
END
$$;
COMMENT ON FUNCTION coder.decode_base64(text) IS 'Bytes of base64 text; errors: 400.';

CREATE OR REPLACE FUNCTION coder.build_provider_ids(w coder.workspaces, version uuid) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN ARRAY(SELECT DISTINCT p ->> 'id' FROM coder.template_versions v, jsonb_array_elements(v.external_auth_providers) p
		WHERE v.id IN (version, (SELECT t.active_version_id FROM coder.templates t WHERE t.id = w.template_id),
			(SELECT b.template_version_id FROM coder.workspace_builds b WHERE b.workspace_id = w.id ORDER BY b.build_number DESC LIMIT 1)));
END
$$;
COMMENT ON FUNCTION coder.build_provider_ids(coder.workspaces, uuid) IS
	'External providers that the next build of a workspace may ask for: of the version given, the active and the last one.';

CREATE OR REPLACE FUNCTION coder.build_create(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces;
	v_transition text := v_body ->> 'transition';
	v_reason text := coalesce(nullif(v_body ->> 'reason', ''), 'initiator');
	v_version uuid;
	v_list text;
	v_build uuid;
BEGIN
	w := coder.param_workspace(req);
	PERFORM coder.build_create_request(v_body);
	PERFORM coder.build_create_allowed(w, v_body);
	v_version := coder.json_uuid(v_body, 'template_version_id');
	IF w.deleted AND v_transition <> 'delete' THEN
		PERFORM coder.raise(409, format('Cannot %s a deleted workspace!', v_transition));
	END IF;
	IF v_transition = 'start' AND coder.links_stale(req, w.owner_id, coder.build_provider_ids(w, v_version)) THEN
		RETURN coder.links_check(req, 'build_create', w.owner_id, coder.build_provider_ids(w, v_version));
	END IF;
	IF v_transition = 'start' AND w.dormant_at IS NOT NULL THEN
		PERFORM coder.workspace_set_dormant(w.id, NULL);
	END IF;
	v_build := coder.build_add(w.id, coder.subject_id(), v_transition, v_version,
		CASE WHEN v_transition = 'delete' THEN 'initiator' ELSE v_reason END,
		coalesce(v_body -> 'rich_parameter_values', '[]'),
		coder.json_uuid(v_body, 'template_version_preset_id'),
		coder.decode_base64(nullif(v_body ->> 'state', '')), nullif(v_body ->> 'log_level', ''),
		coalesce((v_body ->> 'orphan')::boolean, false));
	v_list := coder.builds_json(ARRAY[v_build], true);
	RETURN coder.reply(201, substr(v_list, 2, length(v_list) - 2));
END
$$;
COMMENT ON FUNCTION coder.build_create(coder.request) IS 'POST /workspaces/{workspace}/builds.';

-- ---- reading builds ----

CREATE OR REPLACE FUNCTION coder.build_reply(id uuid) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_list text := coder.builds_json(ARRAY[id]);
BEGIN
	RETURN coder.reply(200, substr(v_list, 2, length(v_list) - 2));
END
$$;
COMMENT ON FUNCTION coder.build_reply(uuid) IS '200 with a build.';

CREATE OR REPLACE FUNCTION coder.param_build(req coder.request, action text DEFAULT 'read') RETURNS coder.workspace_builds
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_id uuid := coder.param_uuid(req, 'workspacebuild');
	b coder.workspace_builds;
	w coder.workspaces;
BEGIN
	SELECT * INTO b FROM coder.workspace_builds x WHERE x.id = v_id;
	SELECT * INTO w FROM coder.workspaces x WHERE x.id = b.workspace_id;
	IF w.id IS NULL OR NOT coder.workspace_can('read', w)
		OR (action <> 'read' AND NOT coder.workspace_can(action, w)) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN b;
END
$$;
COMMENT ON FUNCTION coder.param_build(coder.request, text) IS
	'The build of the path, whose workspace the subject may read and do action to; else 404.';

CREATE OR REPLACE FUNCTION coder.build_get(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds := coder.param_build(req);
BEGIN
	RETURN coder.build_reply(b.id);
END
$$;
COMMENT ON FUNCTION coder.build_get(coder.request) IS 'GET /workspacebuilds/{workspacebuild}.';

CREATE OR REPLACE FUNCTION coder.build_get_by_number(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace_by_name(req, true);
	v_number text := req.params ->> 'buildnumber';
	v_id uuid;
BEGIN
	IF v_number !~ '^[+-]?\d{1,9}$' THEN
		PERFORM coder.raise(400, 'Failed to parse build number as integer.',
			format('strconv.ParseInt: parsing %s: invalid syntax', to_json(v_number)));
	END IF;
	SELECT b.id INTO v_id FROM coder.workspace_builds b
	 WHERE b.workspace_id = w.id AND b.build_number = v_number::integer;
	IF NOT FOUND THEN
		PERFORM coder.raise(404, format('Workspace "%s" Build %s does not exist.', w.name, v_number::integer));
	END IF;
	RETURN coder.build_reply(v_id);
END
$$;
COMMENT ON FUNCTION coder.build_get_by_number(coder.request) IS
	'GET /users/{user}/workspace/{workspacename}/builds/{buildnumber}.';

CREATE OR REPLACE FUNCTION coder.build_list(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
	v_limit integer := coder.query_int(req, 'limit', 0);
	v_offset integer := coder.query_int(req, 'offset', 0);
	v_after uuid := coder.query_uuid(req, 'after_id');
	v_since text := coalesce(req.query ->> 'since', '');
	v_number integer;
	v_ids uuid[];
BEGIN
	IF v_since <> '' AND v_since !~ '^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$' THEN
		PERFORM coder.raise(400, 'bad `since` format, must be RFC3339');
	END IF;
	IF v_after IS NOT NULL THEN
		SELECT b.build_number INTO v_number FROM coder.workspace_builds b
		 WHERE b.id = v_after AND b.workspace_id = w.id;
		IF NOT FOUND THEN
			PERFORM coder.raise(400, format('Record at "after_id" ("%s") does not exists.', v_after));
		END IF;
	END IF;
	SELECT array_agg(s.id) INTO v_ids
	  FROM (SELECT b.id FROM coder.workspace_builds b
			 WHERE b.workspace_id = w.id AND (v_number IS NULL OR b.build_number > v_number)
			   AND (v_since = '' OR b.created_at > v_since::timestamptz)
			 ORDER BY b.build_number DESC LIMIT nullif(v_limit, 0) OFFSET v_offset) s;
	RETURN coder.reply(200, coder.builds_json(v_ids));
END
$$;
COMMENT ON FUNCTION coder.build_list(coder.request) IS
	'GET /workspaces/{workspace}/builds?limit=&offset=&after_id=&since=, newest first.';

CREATE OR REPLACE FUNCTION coder.build_parameters(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds := coder.param_build(req);
	v json;
BEGIN
	SELECT coalesce(json_agg(json_build_object('name', p.name, 'value', p.value) ORDER BY p.ordinal), '[]') INTO v
	  FROM coder.workspace_build_parameters p WHERE p.workspace_build_id = b.id;
	RETURN coder.reply(200, v);
END
$$;
COMMENT ON FUNCTION coder.build_parameters(coder.request) IS
	'GET /workspacebuilds/{workspacebuild}/parameters.';

CREATE OR REPLACE FUNCTION coder.build_resources(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds := coder.param_build(req);
BEGIN
	RETURN coder.reply(200, coder.resources_json(b.job_id));
END
$$;
COMMENT ON FUNCTION coder.build_resources(coder.request) IS
	'GET /workspacebuilds/{workspacebuild}/resources.';

-- ---- state ----

CREATE OR REPLACE FUNCTION coder.param_build_state(req coder.request) RETURNS coder.workspace_builds
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds := coder.param_build(req);
	t coder.templates;
BEGIN
	SELECT x.* INTO t FROM coder.templates x JOIN coder.workspaces w ON w.template_id = x.id
	 WHERE w.id = b.workspace_id;
	IF NOT coder.can('update', 'template', t.organization_id, NULL, t.user_acl, t.group_acl, t.id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN b;
END
$$;
COMMENT ON FUNCTION coder.param_build_state(coder.request) IS
	'The build of the path whose template the subject may change; else 404.';

CREATE OR REPLACE FUNCTION coder.build_state_get(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds := coder.param_build_state(req);
	v coder.response;
BEGIN
	v.status := 200;
	v.headers := E'Content-Type: application/json\r\n';
	v.raw := coalesce(b.provisioner_state, '');
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.build_state_get(coder.request) IS
	'GET /workspacebuilds/{workspacebuild}/state: the stored bytes.';

CREATE OR REPLACE FUNCTION coder.build_state_put(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	b coder.workspace_builds := coder.param_build_state(req);
BEGIN
	UPDATE coder.workspace_builds
	   SET provisioner_state = coder.decode_base64(coalesce(v_body ->> 'state', '')), updated_at = now()
	 WHERE id = b.id;
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.build_state_put(coder.request) IS
	'PUT /workspacebuilds/{workspacebuild}/state: state in base64.';

-- ---- cancel ----

CREATE OR REPLACE FUNCTION coder.build_cancel(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds := coder.param_build(req, 'update');
	v_expect text := coalesce(req.query ->> 'expect_status', '');
	j coder.provisioner_jobs;
	v_allowed boolean;
BEGIN
	IF v_expect NOT IN ('', 'running', 'pending') THEN
		PERFORM coder.raise(400, format('Invalid expect_status "%s". Only ''running'' or ''pending'' are allowed.', v_expect));
	END IF;
	SELECT t.allow_user_cancel_workspace_jobs INTO v_allowed
	  FROM coder.workspaces w JOIN coder.templates t ON t.id = w.template_id WHERE w.id = b.workspace_id;
	IF NOT v_allowed AND v_expect <> 'pending' AND NOT EXISTS
		(SELECT FROM coder.users u WHERE u.id = coder.subject_id() AND 'owner' = ANY (u.rbac_roles)) THEN
		PERFORM coder.raise(403, 'User is not allowed to cancel workspace builds. Owner role is required.');
	END IF;
	SELECT * INTO j FROM coder.provisioner_jobs p WHERE p.id = b.job_id FOR NO KEY UPDATE;
	PERFORM CASE
		WHEN j.completed_at IS NOT NULL THEN coder.raise(400, 'Job has already completed!')
		WHEN j.canceled_at IS NOT NULL THEN coder.raise(400, 'Job has already been marked as canceled!')
		WHEN v_expect <> '' AND v_expect <> j.job_status::text THEN
			coder.raise(412, 'Job is not in the expected state.')
	END;
	UPDATE coder.provisioner_jobs
	   SET canceled_at = clock_timestamp(), updated_at = clock_timestamp(),
		   completed_at = CASE WHEN j.started_at IS NULL THEN clock_timestamp() END
	 WHERE id = j.id;
	RETURN coder.reply(200, jsonb_build_object('message', 'Job has been marked as canceled...'));
END
$$;
COMMENT ON FUNCTION coder.build_cancel(coder.request) IS
	'PATCH /workspacebuilds/{workspacebuild}/cancel?expect_status=.';

-- ---- watching all builds ----

CREATE OR REPLACE FUNCTION coder.watch_all_builds(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT coder.experiment('workspace-build-updates') THEN
		PERFORM coder.raise(403, 'Workspace Build Updates Channel functionality requires enabling the ''workspace-build-updates'' experiment.');
	END IF;
	-- Who may read every workspace gets the events as they are written.
	IF coder.workspace_reads_all() THEN
		RETURN coder.reply(101, '{"format":"wsjson","channels":["workspace_updates:all"],"forward":true,"frames":[]}');
	END IF;
	RETURN coder.watch_all_builds_filtered(req.cursor);
END
$$;
COMMENT ON FUNCTION coder.watch_all_builds(coder.request) IS
	'GET /api/experimental/watch-all-workspacebuilds: one frame for each build that ended.';

CREATE OR REPLACE FUNCTION coder.watch_all_builds_filtered(cursor text) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- Every transaction before this one has ended; what they wrote is seen.
	v_until xid8 := pg_snapshot_xmin(pg_current_snapshot());
	v_from xid8 := coalesce(cursor::xid8, v_until);
	v_frames text;
	v_more boolean;
BEGIN
	SELECT string_agg(e.payload, ',' ORDER BY e.seq) INTO v_frames
	  FROM coder.events e JOIN coder.workspaces w ON w.id = (e.payload::jsonb ->> 'workspace_id')::uuid
	 WHERE e.channel = 'workspace_updates:all' AND e.xid >= v_from AND e.xid < v_until
	   AND coder.workspace_can('read', w);
	-- What is seen already but may still get something before it waits for an older transaction.
	v_more := EXISTS (SELECT FROM coder.events e WHERE e.channel = 'workspace_updates:all' AND e.xid >= v_until);
	RETURN coder.reply(101, '{"format":"wsjson","channels":["workspace_updates:all"],"frames":['
		|| coalesce(v_frames, '') || '],"cursor":"' || greatest(v_from, v_until) || '"'
		|| CASE WHEN v_more THEN ',"retry_ms":100' ELSE '' END || '}');
END
$$;
COMMENT ON FUNCTION coder.watch_all_builds_filtered(text) IS
	'Stream of ended builds of workspaces that the subject may read, each once; cursor: the first transaction not yet looked at.';

INSERT INTO coder.routes (area, method, pattern, function) VALUES
	('build', 'POST', '/api/v2/workspaces/{workspace}/builds', 'build_create'),
	('build', 'GET', '/api/v2/workspaces/{workspace}/builds', 'build_list'),
	('build', 'GET', '/api/v2/users/{user}/workspace/{workspacename}/builds/{buildnumber}', 'build_get_by_number'),
	('build', 'GET', '/api/v2/workspacebuilds/{workspacebuild}', 'build_get'),
	('build', 'PATCH', '/api/v2/workspacebuilds/{workspacebuild}/cancel', 'build_cancel'),
	('build', 'GET', '/api/v2/workspacebuilds/{workspacebuild}/parameters', 'build_parameters'),
	('build', 'GET', '/api/v2/workspacebuilds/{workspacebuild}/resources', 'build_resources'),
	('build', 'GET', '/api/v2/workspacebuilds/{workspacebuild}/state', 'build_state_get'),
	('build', 'PUT', '/api/v2/workspacebuilds/{workspacebuild}/state', 'build_state_put'),
	('build', 'GET', '/api/experimental/watch-all-workspacebuilds', 'watch_all_builds');
