-- SPDX-License-Identifier: MIT
--
-- template.sql
--   /api/v2/templates and /api/v2/templateversions.
--
-- Tables: sql/schema/template.sql.  Dynamic parameters: sql/api/parameter.sql.
-- A version is read and changed with the rights on its template; one that is
-- bound to none, with the rights on templates of its organization.

-- Names of weekdays of a bitmap (bit 0: Monday).
CREATE OR REPLACE FUNCTION coder.weekdays(bits integer)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT coalesce(jsonb_agg(d.name ORDER BY d.n), '[]')
			  FROM unnest('{monday,tuesday,wednesday,thursday,friday,saturday,sunday}'::text[]) WITH ORDINALITY d(name, n)
			 WHERE bits & (1 << (d.n - 1)::integer) <> 0);
END
$$;
COMMENT ON FUNCTION coder.weekdays(integer) IS 'Weekdays of a bitmap, Monday first.';

-- The bitmap of an array of weekdays; NULL where one is no weekday.
CREATE OR REPLACE FUNCTION coder.weekday_bits(days jsonb)
RETURNS integer LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c_days CONSTANT text[] := '{monday,tuesday,wednesday,thursday,friday,saturday,sunday}';
	v_day text;
	v_bits integer := 0;
BEGIN
	FOR v_day IN SELECT d FROM jsonb_array_elements_text(days) d LOOP
		IF v_day <> ALL (c_days) THEN
			RETURN NULL;
		END IF;
		v_bits := v_bits | (1 << (array_position(c_days, v_day) - 1));
	END LOOP;
	RETURN v_bits;
END
$$;
COMMENT ON FUNCTION coder.weekday_bits(jsonb) IS 'Bitmap of weekdays; NULL where one is none.';

-- Templates as the API's Template, in one statement however many there are.
CREATE OR REPLACE FUNCTION coder.templates_json(ids uuid[])
RETURNS TABLE (id uuid, active_users bigint, body jsonb) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	SELECT t.id, coalesce(a.users, 0), jsonb_build_object(
		'id', t.id, 'created_at', coder.ts(t.created_at), 'updated_at', coder.ts(t.updated_at),
		'organization_id', t.organization_id, 'organization_name', t.organization_name,
		'organization_display_name', t.organization_display_name, 'organization_icon', t.organization_icon,
		'name', t.name, 'display_name', t.display_name, 'provisioner', t.provisioner,
		'active_version_id', t.active_version_id, 'active_user_count', coalesce(a.users, 0),
		'build_time_stats', '{"start": {"P50": null, "P95": null}, "stop": {"P50": null, "P95": null},
							  "delete": {"P50": null, "P95": null}}'::jsonb || coalesce(s.stats, '{}'),
		'description', t.description, 'deprecated', t.deprecated <> '', 'deprecation_message', t.deprecated,
		'deleted', t.deleted, 'icon', t.icon, 'default_ttl_ms', t.default_ttl / 1000000,
		'activity_bump_ms', t.activity_bump / 1000000)
		|| jsonb_build_object(
		'autostop_requirement', jsonb_build_object('days_of_week', coder.weekdays(t.autostop_requirement_days_of_week),
												   'weeks', greatest(t.autostop_requirement_weeks, 1)),
		'autostart_requirement', jsonb_build_object('days_of_week', coder.weekdays(127 & ~t.autostart_block_days_of_week::integer)),
		'created_by_id', t.created_by, 'created_by_name', t.created_by_username,
		'allow_user_autostart', t.allow_user_autostart, 'allow_user_autostop', t.allow_user_autostop,
		'allow_user_cancel_workspace_jobs', t.allow_user_cancel_workspace_jobs,
		'failure_ttl_ms', t.failure_ttl / 1000000, 'time_til_dormant_ms', t.time_til_dormant / 1000000,
		'time_til_dormant_autodelete_ms', t.time_til_dormant_autodelete / 1000000,
		'require_active_version', t.require_active_version, 'max_port_share_level', t.max_port_sharing_level,
		'cors_behavior', t.cors_behavior, 'use_classic_parameter_flow', t.use_classic_parameter_flow,
		'disable_module_cache', t.disable_module_cache)
	  FROM coder.template_with_names t
	  LEFT JOIN (SELECT w.template_id, count(DISTINCT w.owner_id) AS users
				   FROM coder.workspaces w
				  WHERE w.template_id = ANY (ids) AND NOT w.deleted GROUP BY 1) a ON a.template_id = t.id
	  LEFT JOIN (SELECT b.template_id, jsonb_object_agg(b.transition,
						jsonb_build_object('P50', b.p50_ms, 'P95', b.p95_ms)) AS stats
				   FROM coder.template_build_times b
				  WHERE b.template_id = ANY (ids) GROUP BY 1) s ON s.template_id = t.id
	 WHERE t.id = ANY (ids);
END
$$;
COMMENT ON FUNCTION coder.templates_json(uuid[]) IS 'Templates as the API shows them.';

-- The answer with one template.
CREATE OR REPLACE FUNCTION coder.template_reply(status integer, template uuid)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(status, (SELECT j.body FROM coder.templates_json(ARRAY[template]) j));
END
$$;
COMMENT ON FUNCTION coder.template_reply(integer, uuid) IS 'Answers with one template.';

-- Fills coder.template_build_times; coder.tick calls it once an hour.
CREATE OR REPLACE FUNCTION coder.refresh_template_build_times()
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO coder.template_build_times AS t (template_id, transition, p50_ms, p95_ms)
	SELECT x.template_id, x.transition::text, percentile_disc(0.5) WITHIN GROUP (ORDER BY x.ms),
		   percentile_disc(0.95) WITHIN GROUP (ORDER BY x.ms)
	  FROM (SELECT v.template_id, b.transition,
				   (extract(epoch FROM j.completed_at - j.started_at) * 1000)::bigint AS ms,
				   row_number() OVER (PARTITION BY v.template_id, b.transition ORDER BY j.completed_at DESC) AS n
			  FROM coder.workspace_builds b
			  JOIN coder.provisioner_jobs j ON j.id = b.job_id AND j.job_status = 'succeeded'
			  JOIN coder.template_versions v ON v.id = b.template_version_id
			 WHERE v.template_id IS NOT NULL AND j.completed_at > now() - interval '30 days') x
	 WHERE x.n <= 100
	 GROUP BY 1, 2
	ON CONFLICT (template_id, transition)
	DO UPDATE SET p50_ms = excluded.p50_ms, p95_ms = excluded.p95_ms, updated_at = now();
END
$$;
COMMENT ON FUNCTION coder.refresh_template_build_times() IS 'Recomputes how long builds of templates take.';

-- {template} of the path, if the caller may do the action on it; ZC404 else.
CREATE OR REPLACE FUNCTION coder.param_template(req coder.request, action text DEFAULT 'read')
RETURNS coder.templates LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_id uuid := coder.param_uuid(req, 'template');
	v_template coder.templates;
BEGIN
	SELECT * INTO v_template FROM coder.templates t WHERE t.id = v_id AND NOT t.deleted;
	IF v_template.id IS NULL OR NOT coder.template_can('read', v_template)
	   OR action <> 'read' AND NOT coder.template_can(action, v_template) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN v_template;
END
$$;
COMMENT ON FUNCTION coder.param_template(coder.request, text) IS 'The template of the path; errors: ZC400, ZC404.';

-- May the caller do it to the template?
CREATE OR REPLACE FUNCTION coder.template_can(action text, t coder.templates)
RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.can(action, 'template', t.organization_id, NULL, t.user_acl, t.group_acl, t.id);
END
$$;
COMMENT ON FUNCTION coder.template_can(text, coder.templates) IS 'May the caller do it to the template?';

-- May the caller do it to the version?
CREATE OR REPLACE FUNCTION coder.version_can(action text, v coder.template_versions)
RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_template coder.templates;
BEGIN
	IF v.template_id IS NULL THEN
		RETURN coder.can(CASE action WHEN 'update' THEN 'create' ELSE action END, 'template', v.organization_id);
	END IF;
	SELECT * INTO v_template FROM coder.templates t WHERE t.id = v.template_id;
	RETURN coder.template_can(action, v_template);
END
$$;
COMMENT ON FUNCTION coder.version_can(text, coder.template_versions) IS 'May the caller do it to the version?';

-- {templateversion} of the path, if the caller may do the action; ZC404 else.
CREATE OR REPLACE FUNCTION coder.param_version(req coder.request, action text DEFAULT 'read')
RETURNS coder.template_versions LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_id uuid := coder.param_uuid(req, 'templateversion');
	v_version coder.template_versions;
BEGIN
	SELECT * INTO v_version FROM coder.template_versions v WHERE v.id = v_id;
	IF v_version.id IS NULL OR NOT coder.version_can('read', v_version)
	   OR action <> 'read' AND NOT coder.version_can(action, v_version) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN v_version;
END
$$;
COMMENT ON FUNCTION coder.param_version(coder.request, text) IS 'The version of the path; errors: ZC400, ZC404.';

-- What breaks the rules of a name (template or version), a display name or a
-- description: one element of validations, or NULL.
CREATE OR REPLACE FUNCTION coder.check_name(field text, value text, tag text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_good boolean;
BEGIN
	CASE tag
		WHEN 'template_name' THEN
			v_good := octet_length(value) BETWEEN 1 AND 32 AND value ~ '^[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*$'
				AND lower(value) NOT IN ('new', 'create');
		WHEN 'template_version_name' THEN
			v_good := octet_length(value) <= 64 AND value ~ '^[a-zA-Z0-9]+([_.-][a-zA-Z0-9]+)*$';
		WHEN 'template_display_name' THEN
			v_good := length(value) <= 64 AND (value = '' OR value ~ '^\S(.*\S)?$');
		ELSE	-- lt=128
			v_good := length(value) < substr(tag, 4)::integer;
	END CASE;
	IF v_good THEN
		RETURN NULL;
	END IF;
	RETURN coder.validation_tag(field, split_part(tag, '=', 1), value);
END
$$;
COMMENT ON FUNCTION coder.check_name(text, text, text) IS 'Broken rule of a name as an element of validations.';

-- Raises 400 for the elements that are not NULL.
CREATE OR REPLACE FUNCTION coder.raise_broken(message text, VARIADIC broken jsonb[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	broken := array_remove(broken, NULL);
	IF cardinality(broken) > 0 THEN
		PERFORM coder.raise(400, message, NULL, to_jsonb(broken));
	END IF;
END
$$;
COMMENT ON FUNCTION coder.raise_broken(text, jsonb[]) IS 'Raises ZC400 with the validations that are not NULL.';

-- Checks the types of a body's members: E1 where one is of another.
CREATE OR REPLACE FUNCTION coder.body_types(body jsonb, types jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_type record;
BEGIN
	FOR v_type IN SELECT t.key AS type, n.name FROM jsonb_each(types) t, jsonb_array_elements_text(t.value) n(name) LOOP
		PERFORM coder.body_type(body, v_type.name, v_type.type);
	END LOOP;
END
$$;
COMMENT ON FUNCTION coder.body_types(jsonb, jsonb) IS
	'Types of a body''s members, {"string": ["a"], …}; errors: ZC400.';

-- A body's member that is a uuid: the nil uuid where it is absent; E1 where it is none.
CREATE OR REPLACE FUNCTION coder.body_uuid(body jsonb, name text)
RETURNS uuid LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_id uuid;
BEGIN
	IF body->>name IS NULL THEN
		RETURN '00000000-0000-0000-0000-000000000000';
	END IF;
	v_id := coder.try_uuid(body->>name);
	IF v_id IS NULL THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.',
			format('invalid UUID length: %s', length(body->>name)));
	END IF;
	RETURN v_id;
END
$$;
COMMENT ON FUNCTION coder.body_uuid(jsonb, text) IS 'A member of a body as a uuid; errors: ZC400.';

-- A template's search, as conditions on a row; grammar of the API's q.
CREATE OR REPLACE FUNCTION coder.template_search(q text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c_keys CONSTANT text[] := '{deleted,organization,exact_name,exact_display_name,name,display_name,ids,deprecated,has-ai-task,has_external_agent,author_id,author}';
	c_bools CONSTANT text[] := '{deleted,deprecated,has-ai-task,has_external_agent}';
	v_token text;
	v_key text;
	v_value text;
	v_free text[] := '{}';
	v_broken jsonb[] := '{}';
	v_terms jsonb := '{}';
BEGIN
	PERFORM coder.search_check_length(q, 'Invalid template search query.');
	FOR v_token IN
		SELECT m[1] FROM regexp_matches(lower(coalesce(q, '')), '((?:[^\s"]|"[^"]*"?)+)', 'g') m
	LOOP
		IF regexp_replace(v_token, '"[^"]*"?', '', 'g') !~ ':' THEN
			v_free := v_free || replace(v_token, '"', '');
			CONTINUE;
		ELSIF v_token ~ '^:|:$' THEN
			v_broken := v_broken || coder.validation('q', format('Query element "%s" cannot start or end with '':''', v_token));
			CONTINUE;
		ELSIF regexp_replace(v_token, '"[^"]*"?', '', 'g') ~ ':.*:' THEN
			v_broken := v_broken || coder.validation('q', format('Query element "%s" can only contain 1 '':''', v_token));
			CONTINUE;
		END IF;
		v_key := split_part(v_token, ':', 1);
		v_value := replace(substr(v_token, length(v_key) + 2), '"', '');
		IF v_key <> ALL (c_keys) THEN
			v_broken := v_broken || coder.validation(v_key, format('"%s" is not a valid query param', v_key));
		ELSIF v_key = ANY (c_bools) AND v_value NOT IN ('true', 'false', 't', 'f', '1', '0') THEN
			v_broken := v_broken || coder.validation(v_key,
				format('Query param "%s" must be a valid boolean: "%s" is not one', v_key, v_value));
		ELSIF v_key IN ('ids', 'author_id')
			  AND EXISTS (SELECT FROM unnest(string_to_array(v_value, ',')) i WHERE coder.try_uuid(i) IS NULL) THEN
			v_broken := v_broken || coder.validation(v_key,
				format('Query param "%s" must be a valid uuid: %s', v_key, v_value));
		ELSIF v_key = ANY (c_bools) THEN
			v_terms := v_terms || jsonb_build_object(v_key, v_value IN ('true', 't', '1'));
		ELSE
			v_terms := v_terms || jsonb_build_object(v_key, v_value);
		END IF;
	END LOOP;
	IF cardinality(v_free) > 0 THEN
		v_terms := v_terms || jsonb_build_object('display_name', array_to_string(v_free, ' '));
	END IF;
	IF cardinality(v_broken) > 0 THEN
		PERFORM coder.raise(400, 'Invalid template search query.', NULL, to_jsonb(v_broken));
	END IF;
	RETURN v_terms;
END
$$;
COMMENT ON FUNCTION coder.template_search(text) IS 'Terms of a search for templates; errors: ZC400.';

-- Does a text contain another, regardless of case?
CREATE OR REPLACE FUNCTION coder.contains_ci(haystack text, needle text)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
	SELECT pg_catalog.strpos(pg_catalog.lower(haystack), pg_catalog.lower(needle)) OPERATOR(pg_catalog.>) 0
$$;
COMMENT ON FUNCTION coder.contains_ci(text, text) IS 'Does the first contain the second, regardless of case?';

-- Templates that the caller may read and that match, most used first.
CREATE OR REPLACE FUNCTION coder.template_list_json(org uuid, q text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f CONSTANT coder.row_filter := coder.filter('read', 'template');
	s jsonb := coder.template_search(q);
	v_ids uuid[] := string_to_array(s->>'ids', ',')::uuid[];
	v_author uuid := CASE s->>'author' WHEN 'me' THEN coder.subject_id() END;
	v_org coder.organizations;
BEGIN
	IF s ? 'organization' THEN
		v_org := coder.find_organization(s->>'organization');
		IF v_org.id IS NULL THEN
			PERFORM coder.raise(400, 'Invalid template search query.', NULL, jsonb_build_array(coder.validation(
				'organization', format('Organization "%s" either does not exist, or you are unauthorized to view it',
									   s->>'organization'))));
		END IF;
	END IF;
	RETURN (
		SELECT coalesce(jsonb_agg(j.body ORDER BY j.active_users DESC, j.body->>'name', j.id), '[]')
		  FROM coder.templates_json(ARRAY(
			SELECT t.id FROM coder.templates t
			 WHERE t.deleted = coalesce((s->>'deleted')::boolean, false)
			   AND (org IS NULL OR t.organization_id = org)
			   AND (v_org.id IS NULL OR t.organization_id = v_org.id)
			   AND (t.deprecated <> '') = coalesce((s->>'deprecated')::boolean, false)
			   AND (NOT s ? 'exact_name' OR lower(t.name) = s->>'exact_name')
			   AND (NOT s ? 'exact_display_name' OR lower(t.display_name) = s->>'exact_display_name')
			   AND (NOT s ? 'name' OR coder.contains_ci(t.name, s->>'name'))
			   AND (NOT s ? 'display_name'
					OR CASE WHEN t.display_name <> '' THEN coder.contains_ci(t.display_name, s->>'display_name')
							ELSE coder.contains_ci(t.name, replace(s->>'display_name', ' ', '')) END)
			   AND (v_ids IS NULL OR t.id = ANY (v_ids))
			   AND (NOT s ? 'author_id' OR t.created_by = (s->>'author_id')::uuid)
			   AND (NOT s ? 'author' OR t.created_by = v_author
					OR v_author IS NULL AND EXISTS (SELECT FROM coder.users u WHERE u.id = t.created_by
													 AND lower(u.username) = s->>'author'))
			   AND (NOT s ? 'has-ai-task' OR EXISTS (SELECT FROM coder.template_versions v
						WHERE v.id = t.active_version_id
						  AND coalesce(v.has_ai_task, false) = (s->>'has-ai-task')::boolean))
			   AND (NOT s ? 'has_external_agent' OR EXISTS (SELECT FROM coder.template_versions v
						WHERE v.id = t.active_version_id
						  AND coalesce(v.has_external_agent, false) = (s->>'has_external_agent')::boolean))
			   AND (f.everything OR t.organization_id = ANY (f.orgs)
					OR ((t.user_acl ? f.subject::text OR (t.organization_id = ANY (f.members) AND t.group_acl ?| f.acl_keys))
						AND coder.acl_can('read', 'template', t.organization_id, t.user_acl, t.group_acl, t.id)))
			   AND (f.ids IS NULL OR t.id = ANY (f.ids)))) j);
END
$$;
COMMENT ON FUNCTION coder.template_list_json(uuid, text) IS 'The list of templates of an organization (NULL: all).';

-- GET /api/v2/templates
CREATE OR REPLACE FUNCTION coder.template_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.template_list_json(NULL, req.query->>'q'));
END
$$;
COMMENT ON FUNCTION coder.template_list(coder.request) IS 'GET /api/v2/templates';

-- GET /api/v2/organizations/{organization}/templates
CREATE OR REPLACE FUNCTION coder.organization_template_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_org coder.organizations := coder.param_organization(req);
BEGIN
	RETURN coder.reply(200, coder.template_list_json(v_org.id, req.query->>'q'));
END
$$;
COMMENT ON FUNCTION coder.organization_template_list(coder.request) IS 'GET /api/v2/organizations/{organization}/templates';

-- {templatename} of an organization's path.
CREATE OR REPLACE FUNCTION coder.param_template_name(req coder.request)
RETURNS coder.templates LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_org coder.organizations := coder.param_organization(req);
	v_template coder.templates;
BEGIN
	SELECT * INTO v_template FROM coder.templates t
	 WHERE t.organization_id = v_org.id AND lower(t.name) = lower(req.params->>'templatename') AND NOT t.deleted;
	IF v_template.id IS NULL OR NOT coder.template_can('read', v_template) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN v_template;
END
$$;
COMMENT ON FUNCTION coder.param_template_name(coder.request) IS 'The template named by the path; errors: ZC404.';

-- GET /api/v2/organizations/{organization}/templates/{templatename}
CREATE OR REPLACE FUNCTION coder.organization_template_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_template coder.templates := coder.param_template_name(req);
BEGIN
	RETURN coder.template_reply(200, v_template.id);
END
$$;
COMMENT ON FUNCTION coder.organization_template_get(coder.request) IS
	'GET /api/v2/organizations/{organization}/templates/{templatename}';

-- GET /api/v2/templates/{template}
CREATE OR REPLACE FUNCTION coder.template_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_template coder.templates := coder.param_template(req);
BEGIN
	RETURN coder.template_reply(200, v_template.id);
END
$$;
COMMENT ON FUNCTION coder.template_get(coder.request) IS 'GET /api/v2/templates/{template}';

-- What is wrong with numbers and words of a template's body; create and
-- update share the rules but for the names of some members.
CREATE OR REPLACE FUNCTION coder.template_body_errors(body jsonb, minute_names text[])
RETURNS jsonb[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_broken jsonb[] := '{}';
	v_name text;
	v_weeks numeric := (body#>>'{autostop_requirement,weeks}')::numeric;
BEGIN
	FOREACH v_name IN ARRAY '{default_ttl_ms,activity_bump_ms}'::text[] LOOP
		IF (body->>v_name)::numeric < 0 THEN
			v_broken := v_broken || coder.validation(v_name, 'Must be a positive integer.');
		END IF;
	END LOOP;
	IF coder.weekday_bits(nullif(body#>'{autostop_requirement,days_of_week}', 'null')) IS NULL
	   AND coalesce(body#>'{autostop_requirement,days_of_week}', 'null') <> 'null' THEN
		v_broken := v_broken || coder.validation('autostop_requirement.days_of_week', 'invalid weekday');
	END IF;
	IF coder.weekday_bits(nullif(body#>'{autostart_requirement,days_of_week}', 'null')) IS NULL
	   AND coalesce(body#>'{autostart_requirement,days_of_week}', 'null') <> 'null' THEN
		v_broken := v_broken || coder.validation('autostart_requirement.days_of_week', 'invalid weekday');
	END IF;
	IF v_weeks < 0 THEN
		v_broken := v_broken || coder.validation('autostop_requirement.weeks', 'Must be a positive integer.');
	ELSIF v_weeks > 16 THEN
		v_broken := v_broken || coder.validation('autostop_requirement.weeks', 'Must be less than 16.');
	END IF;
	FOREACH v_name IN ARRAY minute_names LOOP
		IF (body->>v_name)::numeric < 0 OR (body->>v_name)::numeric BETWEEN 1 AND 59999 THEN
			v_broken := v_broken || coder.validation(v_name, CASE WHEN v_name LIKE 'd%' AND (body->>v_name)::numeric < 0
				THEN 'Must be a positive integer.' ELSE 'Value must be at least one minute.' END);
		END IF;
	END LOOP;
	IF coalesce(body->>'max_port_share_level', 'owner') NOT IN ('owner', 'authenticated', 'organization', 'public') THEN
		v_broken := v_broken || coder.validation('max_port_share_level',
			format('invalid port sharing level: %s', body->>'max_port_share_level'));
	END IF;
	IF coalesce(nullif(body->>'cors_behavior', ''), 'simple') NOT IN ('simple', 'passthru') THEN
		v_broken := v_broken || coder.validation('cors_behavior',
			format('Invalid CORS behavior "%s"', body->>'cors_behavior'));
	END IF;
	RETURN v_broken;
END
$$;
COMMENT ON FUNCTION coder.template_body_errors(jsonb, text[]) IS 'Broken rules of a template''s settings.';

-- POST /api/v2/organizations/{organization}/templates
CREATE OR REPLACE FUNCTION coder.template_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c_nil CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
	v_org coder.organizations := coder.param_organization(req);
	b jsonb := coder.body(req);
	v_version_id uuid;
	v_version coder.template_versions;
	v_provisioner coder.provisioner_type;
	v_id uuid;
BEGIN
	PERFORM coder.body_types(b, '{"string": ["name", "display_name", "description", "icon", "template_version_id",
			"max_port_share_level", "cors_behavior"],
		"number": ["default_ttl_ms", "activity_bump_ms", "failure_ttl_ms", "dormant_ttl_ms", "delete_ttl_ms"],
		"boolean": ["allow_user_cancel_workspace_jobs", "allow_user_autostart", "allow_user_autostop",
			"disable_everyone_group_access", "require_active_version", "template_use_classic_parameter_flow"],
		"object": ["autostop_requirement", "autostart_requirement"]}');
	v_version_id := coder.body_uuid(b, 'template_version_id');
	PERFORM coder.require('create', 'template', v_org.id);
	PERFORM coder.raise_broken('Validation failed.',
		coder.check_name('name', coalesce(b->>'name', ''), 'template_name'),
		coder.check_name('display_name', coalesce(b->>'display_name', ''), 'template_display_name'),
		coder.check_name('description', coalesce(b->>'description', ''), 'lt=128'),
		CASE WHEN v_version_id = c_nil THEN coder.validation_tag('template_version_id', 'required', c_nil::text) END);
	IF EXISTS (SELECT FROM coder.templates t WHERE t.organization_id = v_org.id
				  AND lower(t.name) = lower(b->>'name') AND NOT t.deleted) THEN
		PERFORM coder.raise(409, format('Template with name "%s" already exists.', b->>'name'), NULL,
			jsonb_build_array(coder.validation('name', 'This value is already in use and should be unique.')));
	END IF;
	SELECT * INTO v_version FROM coder.template_versions v WHERE v.id = v_version_id FOR NO KEY UPDATE;
	IF v_version.id IS NULL OR v_version.organization_id <> v_org.id OR NOT coder.version_can('read', v_version) THEN
		PERFORM coder.raise(404, format('Template version "%s" does not exist.', v_version_id), NULL,
			jsonb_build_array(coder.validation('template_version_id', 'Template version does not exist')));
	ELSIF v_version.archived THEN
		PERFORM coder.raise(400, format('Template version %s is archived.', v_version_id), NULL,
			jsonb_build_array(coder.validation('template_version_id', 'Template version is archived')));
	ELSIF v_version.template_id IS NOT NULL THEN
		PERFORM coder.raise(400, format('Template version %s is already part of a template', v_version_id), NULL,
			jsonb_build_array(coder.validation('template_version_id', 'Template version is already part of a template')));
	END IF;
	PERFORM coder.raise_broken('Invalid create template request.',
		VARIADIC coder.template_body_errors(b, '{failure_ttl_ms,dormant_ttl_ms,delete_ttl_ms}'));
	SET CONSTRAINTS coder.templates_active_version_check DEFERRED;
	SELECT j.provisioner INTO v_provisioner FROM coder.provisioner_jobs j WHERE j.id = v_version.job_id;
	INSERT INTO coder.templates (organization_id, name, provisioner, active_version_id, description,
		default_ttl, created_by, icon, group_acl, display_name, allow_user_cancel_workspace_jobs,
		allow_user_autostart, allow_user_autostop, failure_ttl, time_til_dormant, time_til_dormant_autodelete,
		autostop_requirement_days_of_week, autostop_requirement_weeks, autostart_block_days_of_week,
		require_active_version, activity_bump, max_port_sharing_level, use_classic_parameter_flow, cors_behavior)
	VALUES (v_org.id, b->>'name', v_provisioner, v_version.id, coalesce(b->>'description', ''),
		coalesce((b->>'default_ttl_ms')::bigint, 0) * 1000000, coder.subject_id(), coalesce(b->>'icon', ''),
		CASE WHEN (b->>'disable_everyone_group_access')::boolean THEN '{}'::jsonb
			 ELSE jsonb_build_object(v_org.id, '["read", "use"]'::jsonb) END,
		coalesce(b->>'display_name', ''), coalesce((b->>'allow_user_cancel_workspace_jobs')::boolean, false),
		coalesce((b->>'allow_user_autostart')::boolean, true), coalesce((b->>'allow_user_autostop')::boolean, true),
		coalesce((b->>'failure_ttl_ms')::bigint, 0) * 1000000, coalesce((b->>'dormant_ttl_ms')::bigint, 0) * 1000000,
		coalesce((b->>'delete_ttl_ms')::bigint, 0) * 1000000,
		coalesce(coder.weekday_bits(nullif(b#>'{autostop_requirement,days_of_week}', 'null')), 0),
		coalesce((b#>>'{autostop_requirement,weeks}')::bigint, 0),
		coalesce(127 & ~coder.weekday_bits(nullif(b#>'{autostart_requirement,days_of_week}', 'null')), 0),
		coalesce((b->>'require_active_version')::boolean, false),
		coalesce((b->>'activity_bump_ms')::bigint, 3600000) * 1000000,
		coalesce(b->>'max_port_share_level', 'public')::coder.app_sharing_level,
		coalesce((b->>'template_use_classic_parameter_flow')::boolean, false),
		coalesce(nullif(b->>'cors_behavior', ''), 'simple')::coder.cors_behavior)
	RETURNING id INTO v_id;
	UPDATE coder.template_versions v SET template_id = v_id, updated_at = now() WHERE v.id = v_version.id;
	SET CONSTRAINTS coder.templates_active_version_check IMMEDIATE;		-- checks now
	SET CONSTRAINTS coder.templates_active_version_check DEFERRED;
	RETURN coder.template_reply(201, v_id);
END
$$;
COMMENT ON FUNCTION coder.template_create(coder.request) IS 'POST /api/v2/organizations/{organization}/templates';

-- PATCH /api/v2/templates/{template}.  Absent numbers are zero, as the
-- reference has it; absent words and switches stay.
CREATE OR REPLACE FUNCTION coder.template_update(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o coder.templates := coder.param_template(req, 'update');
	n coder.templates := o;
	b jsonb := coder.body(req);
BEGIN
	PERFORM coder.body_types(b, '{"string": ["name", "display_name", "description", "icon", "deprecation_message",
			"max_port_share_level", "cors_behavior"],
		"number": ["default_ttl_ms", "activity_bump_ms", "failure_ttl_ms", "time_til_dormant_ms",
			"time_til_dormant_autodelete_ms"],
		"boolean": ["allow_user_cancel_workspace_jobs", "allow_user_autostart", "allow_user_autostop",
			"disable_everyone_group_access", "require_active_version", "use_classic_parameter_flow",
			"disable_module_cache", "update_workspace_last_used_at", "update_workspace_dormant_at"],
		"object": ["autostop_requirement", "autostart_requirement"]}');
	PERFORM coder.raise_broken('Validation failed.',
		CASE WHEN coalesce(b->>'name', '') <> '' THEN coder.check_name('name', b->>'name', 'template_name') END,
		coder.check_name('display_name', coalesce(b->>'display_name', ''), 'template_display_name'),
		coder.check_name('description', coalesce(b->>'description', ''), 'lt=128'));
	PERFORM coder.raise_broken('Invalid request to update template metadata!', VARIADIC coder.template_body_errors(b,
		'{failure_ttl_ms,time_til_dormant_ms,time_til_dormant_autodelete_ms}'));
	n.name := coalesce(nullif(b->>'name', ''), o.name);
	n.display_name := coalesce(b->>'display_name', o.display_name);
	n.description := coalesce(b->>'description', o.description);
	n.icon := coalesce(b->>'icon', o.icon);
	n.deprecated := coalesce(b->>'deprecation_message', o.deprecated);
	n.max_port_sharing_level := coalesce(b->>'max_port_share_level', o.max_port_sharing_level::text);
	n.cors_behavior := coalesce(nullif(b->>'cors_behavior', ''), o.cors_behavior::text);
	n.use_classic_parameter_flow := coalesce((b->>'use_classic_parameter_flow')::boolean, o.use_classic_parameter_flow);
	n.disable_module_cache := coalesce((b->>'disable_module_cache')::boolean, o.disable_module_cache);
	n.default_ttl := coalesce((b->>'default_ttl_ms')::bigint, 0) * 1000000;
	n.activity_bump := coalesce((b->>'activity_bump_ms')::bigint, 0) * 1000000;
	n.failure_ttl := coalesce((b->>'failure_ttl_ms')::bigint, 0) * 1000000;
	n.time_til_dormant := coalesce((b->>'time_til_dormant_ms')::bigint, 0) * 1000000;
	n.time_til_dormant_autodelete := coalesce((b->>'time_til_dormant_autodelete_ms')::bigint, 0) * 1000000;
	n.allow_user_autostart := coalesce((b->>'allow_user_autostart')::boolean, o.allow_user_autostart);
	n.allow_user_autostop := coalesce((b->>'allow_user_autostop')::boolean, o.allow_user_autostop);
	n.allow_user_cancel_workspace_jobs := coalesce((b->>'allow_user_cancel_workspace_jobs')::boolean, false);
	n.require_active_version := coalesce((b->>'require_active_version')::boolean, false);
	IF coalesce(b->'autostop_requirement', 'null') <> 'null' THEN
		n.autostop_requirement_days_of_week := coalesce(coder.weekday_bits(nullif(b#>'{autostop_requirement,days_of_week}', 'null')), 0);
		n.autostop_requirement_weeks := coalesce((b#>>'{autostop_requirement,weeks}')::bigint, 0);
	END IF;
	IF coalesce(b#>'{autostart_requirement,days_of_week}', 'null') <> 'null' THEN
		n.autostart_block_days_of_week := 127 & ~coder.weekday_bits(b#>'{autostart_requirement,days_of_week}');
	END IF;
	IF (b->>'disable_everyone_group_access')::boolean THEN
		n.group_acl := o.group_acl - o.organization_id::text;
	END IF;
	IF lower(n.name) <> lower(o.name) AND EXISTS (SELECT FROM coder.templates t WHERE t.organization_id = o.organization_id
			AND lower(t.name) = lower(n.name) AND NOT t.deleted) THEN
		PERFORM coder.raise(409, format('Template with name "%s" already exists.', n.name), NULL,
			jsonb_build_array(coder.validation('name', 'This value is already in use and should be unique.')));
	END IF;
	PERFORM coder.template_update_workspaces(o, n, b);
	IF n = o THEN
		RETURN coder.reply(304);
	END IF;
	UPDATE coder.templates t
	   SET updated_at = now(), name = n.name, display_name = n.display_name, description = n.description,
		   icon = n.icon, deprecated = n.deprecated, max_port_sharing_level = n.max_port_sharing_level,
		   cors_behavior = n.cors_behavior, use_classic_parameter_flow = n.use_classic_parameter_flow,
		   disable_module_cache = n.disable_module_cache, default_ttl = n.default_ttl,
		   activity_bump = n.activity_bump, failure_ttl = n.failure_ttl, time_til_dormant = n.time_til_dormant,
		   time_til_dormant_autodelete = n.time_til_dormant_autodelete,
		   allow_user_autostart = n.allow_user_autostart, allow_user_autostop = n.allow_user_autostop,
		   allow_user_cancel_workspace_jobs = n.allow_user_cancel_workspace_jobs,
		   require_active_version = n.require_active_version, group_acl = n.group_acl,
		   autostop_requirement_days_of_week = n.autostop_requirement_days_of_week,
		   autostop_requirement_weeks = n.autostop_requirement_weeks,
		   autostart_block_days_of_week = n.autostart_block_days_of_week
	 WHERE t.id = o.id;
	RETURN coder.template_reply(200, o.id);
END
$$;
COMMENT ON FUNCTION coder.template_update(coder.request) IS 'PATCH /api/v2/templates/{template}';

-- What a change of a template does to its workspaces.
CREATE OR REPLACE FUNCTION coder.template_update_workspaces(o coder.templates, n coder.templates, b jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- The change of the template tells it; its workspaces may be thousands.
	PERFORM coder.audit_as('template', false);
	IF (b->>'update_workspace_last_used_at')::boolean THEN
		UPDATE coder.workspaces w SET last_used_at = now() WHERE w.template_id = o.id AND NOT w.deleted;
	END IF;
	IF (b->>'update_workspace_dormant_at')::boolean THEN
		UPDATE coder.workspaces w SET dormant_at = now()
		 WHERE w.template_id = o.id AND NOT w.deleted AND w.dormant_at IS NOT NULL;
	END IF;
	IF n.time_til_dormant_autodelete <> o.time_til_dormant_autodelete THEN
		UPDATE coder.workspaces w
		   SET deleting_at = CASE WHEN n.time_til_dormant_autodelete > 0
				THEN w.dormant_at + n.time_til_dormant_autodelete / 1000 * interval '1 microsecond' END
		 WHERE w.template_id = o.id AND NOT w.deleted AND w.dormant_at IS NOT NULL;
	END IF;
	IF o.allow_user_autostop AND NOT n.allow_user_autostop THEN
		UPDATE coder.workspaces w SET ttl = nullif(n.default_ttl, 0) WHERE w.template_id = o.id AND NOT w.deleted;
	END IF;
	IF n.max_port_sharing_level < o.max_port_sharing_level THEN
		DELETE FROM coder.workspace_agent_port_share p USING coder.workspaces w
		 WHERE w.id = p.workspace_id AND w.template_id = o.id AND n.max_port_sharing_level = 'owner';
		UPDATE coder.workspace_agent_port_share p SET share_level = n.max_port_sharing_level
		  FROM coder.workspaces w
		 WHERE w.id = p.workspace_id AND w.template_id = o.id AND p.share_level > n.max_port_sharing_level;
	END IF;
	PERFORM coder.audit_as(NULL);
END
$$;
COMMENT ON FUNCTION coder.template_update_workspaces(coder.templates, coder.templates, jsonb) IS
	'Effects of a change of a template on its workspaces.';

-- DELETE /api/v2/templates/{template}
CREATE OR REPLACE FUNCTION coder.template_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_template coder.templates := coder.param_template(req, 'delete');
BEGIN
	-- coder.templates_guard refuses while workspaces are left.
	UPDATE coder.templates t SET deleted = true, updated_at = now() WHERE t.id = v_template.id;
	RETURN coder.reply_message(200, 'Template has been deleted!');
END
$$;
COMMENT ON FUNCTION coder.template_delete(coder.request) IS 'DELETE /api/v2/templates/{template}';

-- GET /api/v2/templates/{template}/daus: users by day, from the usage buckets.
CREATE OR REPLACE FUNCTION coder.template_daus(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_template coder.templates := coder.param_template(req);
BEGIN
	IF NOT coder.usage_collected() OR NOT coder.template_can('view_insights', v_template) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN coder.reply(200, coder.daily_users(coder.query_zone(req), v_template.id));
END
$$;
COMMENT ON FUNCTION coder.template_daus(coder.request) IS 'GET /api/v2/templates/{template}/daus';

-- GET /api/v2/templates/examples: what comes with this server.
CREATE OR REPLACE FUNCTION coder.template_examples_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF req.params ? 'organization' THEN
		PERFORM coder.param_organization(req);
	END IF;
	IF NOT coder.can_any('read', 'template') THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN coder.reply(200, (SELECT coalesce(jsonb_agg(jsonb_build_object('id', e.id, 'url', e.url, 'name', e.name,
			'description', e.description, 'icon', e.icon, 'tags', e.tags, 'markdown', e.markdown) ORDER BY e.id), '[]')
		FROM coder.template_examples e));
END
$$;
COMMENT ON FUNCTION coder.template_examples_list(coder.request) IS 'GET /api/v2/templates/examples';

-- Role of an entry of a template's ACL, from its actions, and back.
CREATE OR REPLACE FUNCTION coder.template_role(actions jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN actions @> '["*"]' THEN 'admin' WHEN actions @> '["read", "use"]' THEN 'use' ELSE '' END;
END
$$;
COMMENT ON FUNCTION coder.template_role(jsonb) IS 'admin, use, or empty.';

-- Groups of an organization as the API's Group; "Everyone" has the id of the
-- organization and all of its members.
CREATE OR REPLACE FUNCTION coder.acl_groups_json(org uuid)
RETURNS TABLE (id uuid, body jsonb) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	WITH g AS
	(
		SELECT x.id, x.name, x.display_name, x.avatar_url, x.quota_allowance, x.source::text AS source
		  FROM coder.groups x WHERE x.organization_id = org AND x.id <> org
		UNION ALL SELECT org, 'Everyone', '', '', coalesce((SELECT y.quota_allowance FROM coder.groups y WHERE y.id = org), 0), 'user'
	), member AS
	(
		SELECT m.group_id, m.user_id FROM coder.group_members m JOIN g ON g.id = m.group_id AND g.id <> org
		UNION ALL SELECT org, m.user_id FROM coder.organization_members m WHERE m.organization_id = org
	)
	SELECT g.id, jsonb_build_object('id', g.id, 'name', g.name, 'display_name', g.display_name,
		'organization_id', o.id, 'organization_name', o.name, 'organization_display_name', o.display_name,
		'avatar_url', g.avatar_url, 'quota_allowance', g.quota_allowance, 'source', g.source,
		'members', coalesce(m.members, '[]'), 'total_member_count', coalesce(m.total, 0))
	  FROM g JOIN coder.organizations o ON o.id = org
	  LEFT JOIN (SELECT x.group_id, count(*) AS total, jsonb_agg(coder.user_reduced_json(u) ORDER BY lower(u.username)) AS members
				   FROM member x JOIN coder.users u ON u.id = x.user_id AND NOT u.deleted AND NOT u.is_system
				  GROUP BY 1) m ON m.group_id = g.id;
END
$$;
COMMENT ON FUNCTION coder.acl_groups_json(uuid) IS 'Groups of an organization with their members.';

-- GET /api/v2/templates/{template}/acl
CREATE OR REPLACE FUNCTION coder.template_acl_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t coder.templates := coder.param_template(req, 'update');
BEGIN
	RETURN coder.reply(200, jsonb_build_object(
		'users', (SELECT coalesce(jsonb_agg(coder.user_json(u) || jsonb_build_object('role', coder.template_role(a.value))
										   ORDER BY lower(u.username)), '[]')
					FROM jsonb_each(t.user_acl) a JOIN coder.users u ON u.id::text = a.key AND NOT u.deleted),
		'group', (SELECT coalesce(jsonb_agg(g.body || jsonb_build_object('role', coder.template_role(a.value))
										   ORDER BY lower(g.body->>'name')), '[]')
					FROM jsonb_each(t.group_acl) a JOIN coder.acl_groups_json(t.organization_id) g ON g.id::text = a.key)));
END
$$;
COMMENT ON FUNCTION coder.template_acl_get(coder.request) IS 'GET /api/v2/templates/{template}/acl';

-- GET /api/v2/templates/{template}/acl/available: who could be given a role.
CREATE OR REPLACE FUNCTION coder.template_acl_available(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t coder.templates := coder.param_template(req, 'update');
	v_q text := coalesce(req.query->>'q', '');
	v_limit integer := coder.query_int(req, 'limit', 0);
	v_offset integer := coder.query_int(req, 'offset', 0);
BEGIN
	RETURN coder.reply(200, jsonb_build_object(
		'users', (SELECT coalesce(jsonb_agg(coder.user_reduced_json(x.u) ORDER BY lower((x.u).username)), '[]')
					FROM (SELECT u FROM coder.users u
							JOIN coder.organization_members m ON m.user_id = u.id AND m.organization_id = t.organization_id
						   WHERE NOT u.deleted AND NOT u.is_system
							 AND (coder.contains_ci(u.username, v_q) OR coder.contains_ci(u.email, v_q))
						   ORDER BY lower(u.username) LIMIT nullif(v_limit, 0) OFFSET v_offset) x),
		'groups', (SELECT coalesce(jsonb_agg(g.body ORDER BY lower(g.body->>'name')), '[]')
					 FROM coder.acl_groups_json(t.organization_id) g WHERE coder.contains_ci(g.body->>'name', v_q))));
END
$$;
COMMENT ON FUNCTION coder.template_acl_available(coder.request) IS 'GET /api/v2/templates/{template}/acl/available';

-- Checks one map of an ACL request (id -> role); answers what is wrong.
CREATE OR REPLACE FUNCTION coder.template_acl_errors(field text, perms jsonb, org uuid)
RETURNS jsonb[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e record;
	v_broken jsonb[] := '{}';
	v_kind text := CASE field WHEN 'user_perms' THEN 'user' ELSE 'group' END;
BEGIN
	FOR e IN SELECT p.key, p.value FROM jsonb_each_text(perms) p LOOP
		IF coalesce(e.value, '?') NOT IN ('admin', 'use', '') THEN
			v_broken := v_broken || coder.validation(field, format('role "%s" is not a valid template role', e.value));
		END IF;
		IF coder.try_uuid(e.key) IS NULL THEN
			v_broken := v_broken || coder.validation(field, format('%s is not a valid UUID.', e.key));
		ELSIF e.value <> '' AND NOT (CASE v_kind
			WHEN 'user' THEN EXISTS (SELECT FROM coder.users u WHERE u.id = coder.try_uuid(e.key) AND NOT u.deleted)
			ELSE coder.try_uuid(e.key) = org
				OR EXISTS (SELECT FROM coder.groups g WHERE g.id = coder.try_uuid(e.key) AND g.organization_id = org) END) THEN
			v_broken := v_broken || coder.validation(field, format('%s with ID %s does not exist', v_kind, e.key));
		END IF;
	END LOOP;
	RETURN v_broken;
END
$$;
COMMENT ON FUNCTION coder.template_acl_errors(text, jsonb, uuid) IS 'What is wrong with a map of ids to roles.';

-- An ACL with a map of ids to roles laid over it; an empty role removes.
CREATE OR REPLACE FUNCTION coder.template_acl_merge(acl jsonb, perms jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT coalesce(jsonb_object_agg(x.key, x.actions), '{}')
			  FROM (SELECT a.key, a.value AS actions FROM jsonb_each(acl) a
					 WHERE NOT EXISTS (SELECT FROM jsonb_each(perms) p WHERE coder.try_uuid(p.key)::text = a.key)
					UNION ALL
					SELECT coder.try_uuid(p.key)::text,
						   CASE p.value WHEN 'admin' THEN '["*"]'::jsonb ELSE '["read", "use"]' END
					  FROM jsonb_each_text(perms) p WHERE p.value <> '') x);
END
$$;
COMMENT ON FUNCTION coder.template_acl_merge(jsonb, jsonb) IS 'An ACL with the changes of a request.';

-- PATCH /api/v2/templates/{template}/acl
CREATE OR REPLACE FUNCTION coder.template_acl_update(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t coder.templates := coder.param_template(req, 'create');
	b jsonb := coder.body(req);
	v_users jsonb;
	v_groups jsonb;
BEGIN
	PERFORM coder.body_types(b, '{"object": ["user_perms", "group_perms"]}');
	v_users := coalesce(nullif(b->'user_perms', 'null'), '{}');
	v_groups := coalesce(nullif(b->'group_perms', 'null'), '{}');
	PERFORM coder.raise_broken('Invalid request to update template ACL', VARIADIC
		coder.template_acl_errors('user_perms', v_users, t.organization_id)
		|| coder.template_acl_errors('group_perms', v_groups, t.organization_id));
	UPDATE coder.templates x
	   SET user_acl = coder.template_acl_merge(x.user_acl, v_users),
		   group_acl = coder.template_acl_merge(x.group_acl, v_groups), updated_at = now()
	 WHERE x.id = t.id;
	RETURN coder.reply_message(200, 'Successfully updated template ACL list.');
END
$$;
COMMENT ON FUNCTION coder.template_acl_update(coder.request) IS 'PATCH /api/v2/templates/{template}/acl';

-- POST /api/v2/templates/{template}/prebuilds/invalidate: workspaces that were
-- built ahead for the active version's presets are to be made anew.
CREATE OR REPLACE FUNCTION coder.template_presets_invalidate(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t coder.templates := coder.param_template(req, 'update');
	v_done jsonb;
BEGIN
	WITH done AS
	(
		UPDATE coder.template_version_presets p SET last_invalidated_at = now()
		 WHERE p.template_version_id = t.active_version_id AND p.desired_instances > 0
		RETURNING p.name
	)
	SELECT coalesce(jsonb_agg(jsonb_build_object('template_name', t.name, 'template_version_name', v.name,
												 'preset_name', d.name) ORDER BY d.name), '[]')
	  INTO v_done FROM done d JOIN coder.template_versions v ON v.id = t.active_version_id;
	RETURN coder.reply(200, jsonb_build_object('invalidated', v_done));
END
$$;
COMMENT ON FUNCTION coder.template_presets_invalidate(coder.request) IS 'POST /api/v2/templates/{template}/prebuilds/invalidate';

DELETE FROM coder.routes WHERE area = 'template';
INSERT INTO coder.routes (area, method, pattern, function, read_only) VALUES
	('template', 'GET', '/api/v2/templates', 'template_list', true),
	('template', 'GET', '/api/v2/templates/examples', 'template_examples_list', true),
	('template', 'GET', '/api/v2/templates/{template}', 'template_get', true),
	('template', 'PATCH', '/api/v2/templates/{template}', 'template_update', false),
	('template', 'DELETE', '/api/v2/templates/{template}', 'template_delete', false),
	('template', 'GET', '/api/v2/templates/{template}/daus', 'template_daus', true),
	('template', 'POST', '/api/v2/organizations/{organization}/templates', 'template_create', false),
	('template', 'GET', '/api/v2/organizations/{organization}/templates', 'organization_template_list', true),
	('template', 'GET', '/api/v2/organizations/{organization}/templates/examples', 'template_examples_list', true),
	('template', 'GET', '/api/v2/organizations/{organization}/templates/{templatename}', 'organization_template_get', true),
	('template', 'GET', '/api/v2/templates/{template}/acl', 'template_acl_get', true),
	('template', 'PATCH', '/api/v2/templates/{template}/acl', 'template_acl_update', false),
	('template', 'GET', '/api/v2/templates/{template}/acl/available', 'template_acl_available', true),
	('template', 'POST', '/api/v2/templates/{template}/prebuilds/invalidate', 'template_presets_invalidate', false);
