-- SPDX-License-Identifier: MIT
--
-- parameter.sql
--   Dynamic parameters of a template version.
--
-- Both forms, the WebSocket and the one request, are answered by the gateway's
-- evaluator, from the plan that coder.parameters_plan makes.  It falls back to
-- what the import stored where the archive cannot be evaluated.

-- One stored parameter with a value, as the API's PreviewParameter.
CREATE OR REPLACE FUNCTION coder.preview_parameter(p coder.template_version_parameters, given text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_value text := coalesce(given, CASE WHEN NOT p.required THEN p.default_value END);
	v_problem text;
	v_diagnostics jsonb := '[]';
BEGIN
	IF v_value IS NULL THEN
		v_diagnostics := '[{"severity": "error", "summary": "Required parameter not provided",
							"detail": "parameter value is null", "extra": {"code": "required"}}]';
	ELSE
		v_problem := coder.parameter_problem(p, v_value, NULL, false);
		IF v_problem IS NOT NULL THEN
			v_diagnostics := jsonb_build_array(jsonb_build_object('severity', 'error',
				'summary', split_part(v_problem, '; ', 1),
				'detail', substr(v_problem, length(split_part(v_problem, '; ', 1)) + 3),
				'extra', jsonb_build_object('code', '')));
		END IF;
	END IF;
	RETURN jsonb_build_object('name', p.name, 'display_name', p.display_name, 'description', p.description,
		'type', p.type, 'form_type', p.form_type, 'styling', '{}'::jsonb, 'mutable', p.mutable,
		'default_value', jsonb_build_object('value', p.default_value, 'valid', NOT p.required),
		'icon', p.icon, 'required', p.required, 'order', p.display_order, 'ephemeral', p.ephemeral,
		'options', (SELECT coalesce(jsonb_agg(o.value || jsonb_build_object('value',
						jsonb_build_object('value', o.value->'value', 'valid', true)) ORDER BY o.ordinality), '[]')
					  FROM jsonb_array_elements(p.options) WITH ORDINALITY o),
		'validations', CASE WHEN p.validation_regex = '' AND p.validation_min IS NULL AND p.validation_max IS NULL
								 AND p.validation_monotonic = '' THEN '[]'::jsonb
			ELSE jsonb_build_array(jsonb_build_object('validation_error', p.validation_error,
				'validation_regex', nullif(p.validation_regex, ''), 'validation_min', p.validation_min,
				'validation_max', p.validation_max, 'validation_monotonic', nullif(p.validation_monotonic, ''))) END,
		'value', jsonb_build_object('value', coalesce(v_value, ''), 'valid', v_value IS NOT NULL),
		'diagnostics', v_diagnostics);
END
$$;
COMMENT ON FUNCTION coder.preview_parameter(coder.template_version_parameters, text) IS
	'A stored parameter with a value, judged.';

-- Who the parameters are for, as the evaluator sees it; NULL where there is
-- no such user or the caller may not see it.
CREATE OR REPLACE FUNCTION coder.parameter_owner(owner uuid, org uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN owner = coder.subject_id()
					 OR coder.can('read', 'organization_member', org, owner, id => owner)
					 OR coder.can('read', 'user', NULL, owner, id => owner)
				THEN coder.owner_data(owner, org) END;
END
$$;
COMMENT ON FUNCTION coder.parameter_owner(uuid, uuid) IS 'A user as data.coder_workspace_owner; NULL: not to be seen.';

-- The same, whoever asks.
CREATE OR REPLACE FUNCTION coder.owner_data(owner uuid, org uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users;
BEGIN
	SELECT * INTO u FROM coder.users x WHERE x.id = owner AND NOT x.deleted;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	RETURN jsonb_build_object('id', u.id, 'name', u.username, 'full_name', u.name, 'email', u.email,
		'login_type', u.login_type,
		'ssh_public_key', coalesce((SELECT k.public_key FROM coder.gitsshkeys k WHERE k.user_id = u.id), ''),
		'groups', (SELECT jsonb_agg(g.name ORDER BY g.name)
					 FROM (SELECT 'Everyone' AS name UNION
						   SELECT x.name FROM coder.groups x JOIN coder.group_members m ON m.group_id = x.id
							WHERE m.user_id = u.id AND x.organization_id = org) g),
		'rbac_roles', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', r.name, 'org_id', r.org_id)), '[]')
						 FROM (SELECT unnest(u.rbac_roles || '{member}'::text[]) AS name, '' AS org_id UNION ALL
							   SELECT unnest(m.roles || '{organization-member}'::text[]), m.organization_id::text
								 FROM coder.organization_members m
								WHERE m.user_id = u.id AND m.organization_id = org) r));
END
$$;
COMMENT ON FUNCTION coder.owner_data(uuid, uuid) IS 'A user as data.coder_workspace_owner; NULL: there is none.';

-- ---- tags: which daemon takes a job of the template ----

-- What coder_workspace_tags of an archive say for an owner, with values of variables and parameters (name -> text).
-- {} for an archive that cannot be read as a template: its import says so.
CREATE OR REPLACE FUNCTION coder.workspace_tags(file uuid, owner uuid, org uuid, variables jsonb, parameters jsonb, message text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f coder.files;
	o jsonb;
	v jsonb;
BEGIN
	SELECT * INTO f FROM coder.files x WHERE x.id = file;
	IF NOT FOUND OR (f.mimetype <> 'application/zip' AND position('coder_workspace_tags'::bytea IN f.data) = 0) THEN
		RETURN '{}';
	END IF;
	o := coalesce(coder.owner_data(owner, org), '{}');
	v := coder.template_tags(f.data, jsonb_build_object('variables', variables, 'parameters', parameters,
		'metadata', jsonb_build_object('workspace_owner_id', o->'id', 'workspace_owner', o->'name',
			'workspace_owner_name', o->'full_name', 'workspace_owner_email', o->'email',
			'workspace_owner_login_type', o->'login_type', 'workspace_owner_ssh_public_key', o->'ssh_public_key',
			'workspace_owner_groups', o->'groups', 'workspace_owner_rbac_roles', o->'rbac_roles')), now());
	IF v ? 'error' THEN
		PERFORM coder.raise(400, message, v->>'error');
	ELSIF v->'problems' <> '{}' THEN
		PERFORM coder.raise(400, message, format('%s of the tags cannot be used.', (SELECT count(*) FROM jsonb_object_keys(v->'problems'))),
			(SELECT jsonb_agg(coder.validation(p.key, p.value) ORDER BY p.key) FROM jsonb_each_text(v->'problems') p));
	END IF;
	RETURN coalesce(v->'tags', '{}');
END
$$;
COMMENT ON FUNCTION coder.workspace_tags(uuid, uuid, uuid, jsonb, jsonb, text) IS
	'Evaluated tags of an archive; errors: 400 with message, and one validation a tag.';

-- Parameters of a version with the given values (name -> text) for an owner.
CREATE OR REPLACE FUNCTION coder.parameters_evaluate(v coder.template_versions, owner uuid, inputs jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coder.parameter_owner(owner, v.organization_id) IS NULL THEN
		RETURN jsonb_build_object('id', 0, 'parameters', NULL, 'diagnostics', jsonb_build_array(jsonb_build_object(
			'severity', 'error', 'summary', 'Failed to fetch workspace owner',
			'detail', 'Please check your permissions or the user may not exist.',
			'extra', jsonb_build_object('code', 'owner_not_found'))));
	END IF;
	RETURN jsonb_build_object('id', 0, 'diagnostics', '[]'::jsonb, 'parameters', (
		SELECT coalesce(jsonb_agg(coder.preview_parameter(p, inputs->>p.name) ORDER BY p.display_order, p.name), '[]')
		  FROM coder.template_version_parameters p WHERE p.template_version_id = v.id));
END
$$;
COMMENT ON FUNCTION coder.parameters_evaluate(coder.template_versions, uuid, jsonb) IS
	'The API''s DynamicParametersResponse from what the import stored.';

CREATE OR REPLACE FUNCTION coder.parameters_plan(v coder.template_versions, owner uuid, request jsonb DEFAULT NULL)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_file uuid;
BEGIN
	SELECT j.file_id INTO v_file FROM coder.provisioner_jobs j WHERE j.id = v.job_id;
	RETURN coder.reply(101, jsonb_build_object('format', 'parameters', 'template_version_id', v.id,
		'file_id', v_file, 'owner', coder.parameter_owner(owner, v.organization_id), 'owner_id', owner,
		'variables', coder.version_variable_values(v.id),
		'static', coder.parameters_evaluate(v, owner, coalesce(request->'inputs', '{}')))
		|| CASE WHEN request IS NULL THEN '{}' ELSE jsonb_build_object('request', request) END);
END
$$;
COMMENT ON FUNCTION coder.parameters_plan(coder.template_versions, uuid, jsonb) IS
	'Plan of format "parameters": the gateway evaluates the archive for the owner; once, where there is a request {inputs, owner_id}.';

-- POST /api/v2/templateversions/{templateversion}/dynamic-parameters/evaluate
CREATE OR REPLACE FUNCTION coder.version_evaluate(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version_done(req, 425, 'Template version job has not finished');
	b jsonb := coder.body(req);
	v_owner uuid;
BEGIN
	PERFORM coder.body_types(b, '{"number": ["id"], "object": ["inputs"], "string": ["owner_id"]}');
	v_owner := coalesce(nullif(coder.body_uuid(b, 'owner_id'), '00000000-0000-0000-0000-000000000000'), coder.subject_id());
	RETURN coder.parameters_plan(v, v_owner, jsonb_build_object('inputs', coalesce(nullif(b->'inputs', 'null'), '{}'),
																'owner_id', v_owner));
END
$$;
COMMENT ON FUNCTION coder.version_evaluate(coder.request) IS
	'POST /api/v2/templateversions/{templateversion}/dynamic-parameters/evaluate';

-- GET /api/v2/templateversions/{templateversion}/dynamic-parameters
CREATE OR REPLACE FUNCTION coder.version_dynamic(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version_done(req, 425, 'Template version job has not finished');
	v_user text := coalesce(nullif(req.query->>'user_id', ''), 'me');
	v_owner uuid := CASE v_user WHEN 'me' THEN coder.subject_id() ELSE coder.try_uuid(v_user) END;
BEGIN
	IF v_owner IS NULL THEN
		PERFORM coder.raise(400, 'Invalid user_id query parameter');
	END IF;
	RETURN coder.parameters_plan(v, v_owner);
END
$$;
COMMENT ON FUNCTION coder.version_dynamic(coder.request) IS
	'GET /api/v2/templateversions/{templateversion}/dynamic-parameters';

DELETE FROM coder.routes WHERE area = 'parameter';
INSERT INTO coder.routes (area, method, pattern, function, read_only) VALUES
	('parameter', 'GET', '/api/v2/templateversions/{templateversion}/dynamic-parameters', 'version_dynamic', true),
	('parameter', 'POST', '/api/v2/templateversions/{templateversion}/dynamic-parameters/evaluate', 'version_evaluate', true);
