-- SPDX-License-Identifier: MIT
--
-- build.sql
--   Builds: made, shown, canceled, completed; their logs, state, timings.

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

-- ---- logs ----

CREATE OR REPLACE FUNCTION coder.build_log_json(l coder.provisioner_job_logs) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN '{"id":' || l.id || ',"created_at":"' || coder.ts(l.created_at) || '","log_source":"' || l.source
		|| '","log_level":"' || l.level || '","stage":' || coder.compact(to_json(l.stage::text))
		|| ',"output":' || coder.compact(to_json(l.output::text)) || '}';
END
$$;
COMMENT ON FUNCTION coder.build_log_json(coder.provisioner_job_logs) IS 'JSON of a line of a job''s log.';

CREATE OR REPLACE FUNCTION coder.query_after(req coder.request) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v text := coalesce(req.query ->> 'after', '');
BEGIN
	IF v = '' THEN
		RETURN 0;
	END IF;
	IF v !~ '^[+-]?\d{1,18}$' THEN
		PERFORM coder.raise(400, 'Query param "after" must be an integer.', NULL,
			jsonb_build_array(coder.validation('after', 'Must be an integer')));
	END IF;
	RETURN v::bigint;
END
$$;
COMMENT ON FUNCTION coder.query_after(coder.request) IS 'The query parameter after of a log; errors: 400.';

CREATE OR REPLACE FUNCTION coder.build_logs_follow(job uuid, after bigint, cursor text) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_after bigint := coalesce(cursor::bigint, after);
	v_batch constant integer := 1000;
	v_done boolean;
	v_rows integer;
	v_last bigint;
	v_frames text;
BEGIN
	-- The job first: lines are never added behind its end.
	SELECT p.completed_at IS NOT NULL INTO v_done FROM coder.provisioner_jobs p WHERE p.id = job;
	SELECT string_agg(coder.build_log_json(l), ',' ORDER BY l.id), max(l.id), count(*)
	  INTO v_frames, v_last, v_rows
	  FROM (SELECT x.* FROM coder.provisioner_job_logs x WHERE x.job_id = job AND x.id > v_after
			 ORDER BY x.id LIMIT v_batch) l;
	RETURN coder.reply(101, '{"format":"wsjson","channels":["build_logs:' || job || '"],"frames":['
		|| coalesce(v_frames, '') || '],"cursor":"' || coalesce(v_last, v_after) || '","close":'
		|| CASE WHEN v_done AND v_rows < v_batch THEN 'true' ELSE 'false' END
		|| CASE WHEN v_rows = v_batch THEN ',"retry_ms":1' ELSE '' END || '}');
END
$$;
COMMENT ON FUNCTION coder.build_logs_follow(uuid, bigint, text) IS
	'Stream of a job''s log: the lines behind after, then new ones; ends with the job.';

CREATE OR REPLACE FUNCTION coder.build_logs_reply(req coder.request, job uuid) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_after bigint := coder.query_after(req);
	v_format text := coalesce(nullif(req.query ->> 'format', ''), 'json');
	v_text text;
	v coder.response;
BEGIN
	IF v_format NOT IN ('json', 'text') THEN
		PERFORM coder.raise(400, 'Invalid format parameter.', 'Allowed values are "json" and "text".');
	END IF;
	IF req.query ? 'follow' THEN
		IF v_format = 'text' THEN
			PERFORM coder.raise(400, 'Text format is not supported with follow mode.');
		END IF;
		RETURN coder.build_logs_follow(job, v_after, req.cursor);
	END IF;
	IF v_format = 'text' THEN
		SELECT string_agg(coder.ts(l.created_at) || ' [' || l.level || '] [provisioner|' || l.stage || '] '
						  || l.output || E'\n', '' ORDER BY l.id) INTO v_text
		  FROM coder.provisioner_job_logs l WHERE l.job_id = job AND l.id > v_after;
		v.status := 200;
		v.headers := E'Content-Type: text/plain; charset=utf-8\r\n';
		v.raw := convert_to(coalesce(v_text, ''), 'UTF8');
		RETURN v;
	END IF;
	SELECT string_agg(coder.build_log_json(l), ',' ORDER BY l.id) INTO v_text
	  FROM coder.provisioner_job_logs l WHERE l.job_id = job AND l.id > v_after;
	RETURN coder.reply(200, '[' || coalesce(v_text, '') || ']');
END
$$;
COMMENT ON FUNCTION coder.build_logs_reply(coder.request, uuid) IS
	'The answer of every route that shows a job''s log: after, format, follow.';

CREATE OR REPLACE FUNCTION coder.build_logs(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds := coder.param_build(req);
BEGIN
	RETURN coder.build_logs_reply(req, b.job_id);
END
$$;
COMMENT ON FUNCTION coder.build_logs(coder.request) IS 'GET /workspacebuilds/{workspacebuild}/logs.';

-- ---- timings ----

CREATE OR REPLACE FUNCTION coder.build_timings_json(build uuid) RETURNS json
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_job uuid;
	v_provisioner json;
	v_scripts json;
	v_connections json;
BEGIN
	SELECT b.job_id INTO v_job FROM coder.workspace_builds b WHERE b.id = build;
	SELECT json_agg(json_build_object('job_id', t.job_id, 'started_at', coder.ts(t.started_at),
			'ended_at', coder.ts(t.ended_at), 'stage', t.stage, 'source', t.source, 'action', t.action,
			'resource', t.resource) ORDER BY t.started_at) INTO v_provisioner
	  FROM coder.provisioner_job_timings t WHERE t.job_id = v_job;
	SELECT json_agg(json_build_object('started_at', coder.ts(t.started_at), 'ended_at', coder.ts(t.ended_at),
			'exit_code', t.exit_code, 'stage', t.stage, 'status', t.status, 'display_name', s.display_name,
			'workspace_agent_id', a.id, 'workspace_agent_name', a.name) ORDER BY t.started_at) INTO v_scripts
	  FROM coder.workspace_resources r
	  JOIN coder.workspace_agents a ON a.resource_id = r.id
	  JOIN coder.workspace_agent_scripts s ON s.workspace_agent_id = a.id
	  JOIN coder.workspace_agent_script_timings t ON t.script_id = s.id
	 WHERE r.job_id = v_job;
	SELECT json_agg(json_build_object('started_at', coder.ts(a.created_at),
			'ended_at', coder.ts(a.first_connected_at), 'stage', 'connect',
			'workspace_agent_id', a.id, 'workspace_agent_name', a.name) ORDER BY a.created_at) INTO v_connections
	  FROM coder.workspace_resources r JOIN coder.workspace_agents a ON a.resource_id = r.id
	 WHERE r.job_id = v_job AND a.first_connected_at IS NOT NULL;
	RETURN json_build_object('provisioner_timings', coalesce(v_provisioner, '[]'),
		'agent_script_timings', coalesce(v_scripts, '[]'),
		'agent_connection_timings', coalesce(v_connections, '[]'));
END
$$;
COMMENT ON FUNCTION coder.build_timings_json(uuid) IS 'WorkspaceBuildTimings of a build.';

CREATE OR REPLACE FUNCTION coder.build_timings(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds := coder.param_build(req);
BEGIN
	RETURN coder.reply(200, coder.build_timings_json(b.id));
END
$$;
COMMENT ON FUNCTION coder.build_timings(coder.request) IS
	'GET /workspacebuilds/{workspacebuild}/timings.';

CREATE OR REPLACE FUNCTION coder.workspace_timings(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
BEGIN
	RETURN coder.reply(200, coder.build_timings_json(w.latest_build_id));
END
$$;
COMMENT ON FUNCTION coder.workspace_timings(coder.request) IS
	'GET /workspaces/{workspace}/timings: of the latest build.';

-- ---- what the provisioner is told, and what it brings back ----

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
	('build', 'GET', '/api/v2/workspaces/{workspace}/timings', 'workspace_timings'),
	('build', 'GET', '/api/v2/users/{user}/workspace/{workspacename}/builds/{buildnumber}', 'build_get_by_number'),
	('build', 'GET', '/api/v2/workspacebuilds/{workspacebuild}', 'build_get'),
	('build', 'PATCH', '/api/v2/workspacebuilds/{workspacebuild}/cancel', 'build_cancel'),
	('build', 'GET', '/api/v2/workspacebuilds/{workspacebuild}/logs', 'build_logs'),
	('build', 'GET', '/api/v2/workspacebuilds/{workspacebuild}/parameters', 'build_parameters'),
	('build', 'GET', '/api/v2/workspacebuilds/{workspacebuild}/resources', 'build_resources'),
	('build', 'GET', '/api/v2/workspacebuilds/{workspacebuild}/state', 'build_state_get'),
	('build', 'PUT', '/api/v2/workspacebuilds/{workspacebuild}/state', 'build_state_put'),
	('build', 'GET', '/api/v2/workspacebuilds/{workspacebuild}/timings', 'build_timings'),
	('build', 'GET', '/api/experimental/watch-all-workspacebuilds', 'watch_all_builds');
