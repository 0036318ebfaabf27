-- SPDX-License-Identifier: MIT
--
-- templateversion.sql
--   Versions of templates: /api/v2/templateversions and the versions below
--   templates and organizations.
--
-- Tables: sql/schema/template.sql.  Helpers: sql/api/template.sql.

-- Versions as the API's TemplateVersion, in one statement however many.
-- fresh: just made.
CREATE OR REPLACE FUNCTION coder.versions_json(ids uuid[], fresh boolean DEFAULT false)
RETURNS TABLE (id uuid, body jsonb) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	SELECT v.id, jsonb_build_object(
		'id', v.id, 'template_id', coalesce(v.template_id, '00000000-0000-0000-0000-000000000000'),
		'organization_id', v.organization_id, 'created_at', coder.ts(v.created_at),
		'updated_at', coder.ts(v.updated_at), 'name', v.name, 'message', v.message,
		'job', coder.provisioner_job_json(j, fresh), 'readme', v.readme,
		'created_by', jsonb_strip_nulls(jsonb_build_object('id', v.created_by, 'username', v.created_by_username,
			'name', nullif(v.created_by_name, ''), 'avatar_url', nullif(v.created_by_avatar_url, ''))),
		'archived', v.archived, 'has_external_agent', coalesce(v.has_external_agent, false))
		|| CASE WHEN j.job_status = 'pending' THEN
			jsonb_build_object('matched_provisioners', coder.matched_provisioners(j)) ELSE '{}' END
	  FROM coder.template_version_with_user v
	  JOIN coder.provisioner_jobs j ON j.id = v.job_id
	 WHERE v.id = ANY (ids);
END
$$;
COMMENT ON FUNCTION coder.versions_json(uuid[], boolean) IS 'Versions as the API shows them.';

-- The answer with one version.
CREATE OR REPLACE FUNCTION coder.version_reply(status integer, version uuid, fresh boolean DEFAULT false)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(status, (SELECT j.body FROM coder.versions_json(ARRAY[version], fresh) j));
END
$$;
COMMENT ON FUNCTION coder.version_reply(integer, uuid, boolean) IS 'Answers with one version.';

-- A name for a version that was given none.
CREATE OR REPLACE FUNCTION coder.random_name()
RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c_first CONSTANT text[] := '{amber,brave,calm,clever,crisp,eager,early,gentle,glad,keen,kind,lively,lucky,mellow,neat,noble,proud,quick,quiet,rapid,sharp,sunny,swift,warm,wise}';
	c_second CONSTANT text[] := '{badger,beaver,crane,dolphin,falcon,finch,fox,heron,ibex,lark,lynx,marten,otter,owl,panda,puffin,raven,robin,seal,sparrow,stork,swan,tern,vole,wren}';
BEGIN
	RETURN format('%s_%s%s', c_first[1 + floor(random() * 25)::integer],
				  c_second[1 + floor(random() * 25)::integer], floor(random() * 1000)::integer);
END
$$;
COMMENT ON FUNCTION coder.random_name() IS 'A random name: adjective, underscore, animal and number.';

-- The archive of an example as a file of the caller.
CREATE OR REPLACE FUNCTION coder.example_file(example text)
RETURNS uuid LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_data bytea;
	v_id uuid;
BEGIN
	SELECT e.archive INTO v_data FROM coder.template_examples e WHERE e.id = example;
	IF NOT FOUND THEN
		PERFORM coder.raise(400, 'Example not found.', format('no example is called "%s"', example));
	END IF;
	PERFORM coder.require('create', 'file', NULL, coder.subject_id());
	INSERT INTO coder.files (hash, created_by, mimetype, data)
	VALUES (encode(sha256(v_data), 'hex'), coder.subject_id(), 'application/x-tar', v_data)
	ON CONFLICT ON CONSTRAINT files_hash_created_by_key DO NOTHING;
	SELECT f.id INTO v_id FROM coder.files f
	 WHERE f.hash = encode(sha256(v_data), 'hex') AND f.created_by = coder.subject_id();
	RETURN v_id;
END
$$;
COMMENT ON FUNCTION coder.example_file(text) IS 'Stores an example for the caller; answers the file; errors: ZC400.';

-- POST /api/v2/organizations/{organization}/templateversions
CREATE OR REPLACE FUNCTION coder.version_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c_nil CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
	v_org coder.organizations := coder.param_organization(req);
	b jsonb := coder.body(req);
	v_template coder.templates;
	v_template_id uuid;
	v_file uuid;
	v_name text;
	v_id uuid := gen_random_uuid();
	v_job uuid := gen_random_uuid();
BEGIN
	PERFORM coder.body_types(b, '{"string": ["name", "message", "template_id", "storage_method", "file_id",
		"example_id", "provisioner"], "object": ["tags"], "array": ["user_variable_values"]}');
	v_template_id := coder.body_uuid(b, 'template_id');
	v_file := coder.body_uuid(b, 'file_id');
	v_name := coalesce(b->>'name', '');
	PERFORM coder.raise_broken('Validation failed.',
		CASE WHEN v_name <> '' THEN coder.check_name('name', v_name, 'template_version_name') END,
		coder.check_name('message', coalesce(b->>'message', ''), 'lt=1048577'),
		CASE WHEN coalesce(b->>'storage_method', '') <> 'file' THEN
			coder.validation_tag('storage_method', 'oneof', coalesce(b->>'storage_method', '')) END,
		CASE WHEN v_file = c_nil AND coalesce(b->>'example_id', '') = '' THEN
			coder.validation_tag('file_id', 'required_without', c_nil::text) END,
		CASE WHEN v_file = c_nil AND coalesce(b->>'example_id', '') = '' THEN
			coder.validation_tag('example_id', 'required_without', '') END,
		CASE WHEN coalesce(b->>'provisioner', '') NOT IN ('terraform', 'echo') THEN
			coder.validation_tag('provisioner', 'oneof', coalesce(b->>'provisioner', '')) END);
	IF v_file <> c_nil AND coalesce(b->>'example_id', '') <> '' THEN
		PERFORM coder.raise(400, 'You cannot specify both an example_id and a file_id.');
	END IF;
	IF v_template_id <> c_nil THEN
		SELECT * INTO v_template FROM coder.templates t
		 WHERE t.id = v_template_id AND t.organization_id = v_org.id AND NOT t.deleted;
		IF v_template.id IS NULL OR NOT coder.template_can('read', v_template) THEN
			PERFORM coder.raise(404, 'Template does not exist.');
		ELSIF NOT coder.template_can('update', v_template) THEN
			PERFORM coder.raise_forbidden();
		END IF;
	ELSE
		PERFORM coder.require('create', 'template', v_org.id);
	END IF;
	IF v_file = c_nil THEN
		v_file := coder.example_file(b->>'example_id');
	ELSIF NOT coder.file_readable(v_file) THEN
		PERFORM coder.raise(404, 'File not found.');
	END IF;
	IF v_name <> '' AND v_template.id IS NOT NULL AND EXISTS (SELECT FROM coder.template_versions v
			WHERE v.template_id = v_template.id AND v.name = v_name) THEN
		PERFORM coder.raise(409, format('A template version with name "%s" already exists for this template.', v_name),
			NULL, jsonb_build_array(coder.validation('name', 'This value is already in use and should be unique.')));
	END IF;
	INSERT INTO coder.provisioner_jobs (id, organization_id, initiator_id, provisioner, type, file_id, input, tags)
	VALUES (v_job, v_org.id, coder.subject_id(), (b->>'provisioner')::coder.provisioner_type,
			'template_version_import', v_file,
			jsonb_build_object('template_id', v_template.id, 'template_version_id', v_id,
				'user_variable_values', coalesce(nullif(b->'user_variable_values', 'null'), '[]')),
			coder.provisioner_tags(coder.subject_id(),
				coder.workspace_tags(v_file, coder.subject_id(), v_org.id, (
					SELECT coalesce(jsonb_object_agg(x->>'name', x->>'value') FILTER (WHERE x->>'name' IS NOT NULL), '{}')
					  FROM jsonb_array_elements(coalesce(nullif(b->'user_variable_values', 'null'), '[]')) x),
					'{}', 'Unable to parse workspace tags'),
				coalesce(nullif(b->'tags', 'null'), '{}')));
	INSERT INTO coder.template_versions (id, template_id, organization_id, name, job_id, created_by, message, source_example_id)
	VALUES (v_id, v_template.id, v_org.id, coalesce(nullif(v_name, ''), coder.random_name()), v_job,
			coder.subject_id(), coalesce(b->>'message', ''), nullif(b->>'example_id', ''));
	RETURN coder.version_reply(201, v_id, true);
END
$$;
COMMENT ON FUNCTION coder.version_create(coder.request) IS 'POST /api/v2/organizations/{organization}/templateversions';

-- GET /api/v2/templateversions/{templateversion}
CREATE OR REPLACE FUNCTION coder.version_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version(req);
BEGIN
	RETURN coder.version_reply(200, v.id);
END
$$;
COMMENT ON FUNCTION coder.version_get(coder.request) IS 'GET /api/v2/templateversions/{templateversion}';

-- GET /api/v2/templates/{template}/versions
CREATE OR REPLACE FUNCTION coder.version_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_template coder.templates := coder.param_template(req);
	v_archived boolean := coder.query_bool(req, 'include_archived', false);
	v_limit integer := coder.query_int(req, 'limit', 0);
	v_offset integer := coder.query_int(req, 'offset', 0);
	v_after uuid := coder.query_uuid(req, 'after_id');
	v_from coder.template_versions;
BEGIN
	IF v_after IS NOT NULL AND v_after <> '00000000-0000-0000-0000-000000000000' THEN
		SELECT * INTO v_from FROM coder.template_versions v WHERE v.id = v_after AND v.template_id = v_template.id;
		IF NOT FOUND THEN
			PERFORM coder.raise(400, format('Record at "after_id" ("%s") does not exists.', v_after));
		END IF;
	END IF;
	RETURN coder.reply(200, (
		SELECT coalesce(jsonb_agg(j.body ORDER BY j.body->>'created_at', j.id), '[]')
		  FROM coder.versions_json(ARRAY(
			SELECT v.id FROM coder.template_versions v
			 WHERE v.template_id = v_template.id AND (v_archived OR NOT v.archived)
			   AND (v_from.id IS NULL OR (v.created_at, v.id) > (v_from.created_at, v_from.id))
			 ORDER BY v.created_at, v.id LIMIT nullif(v_limit, 0) OFFSET v_offset)) j));
END
$$;
COMMENT ON FUNCTION coder.version_list(coder.request) IS 'GET /api/v2/templates/{template}/versions';

-- The version of a template with a name; ZC404.
CREATE OR REPLACE FUNCTION coder.version_by_name(template uuid, version_name text)
RETURNS coder.template_versions LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_version coder.template_versions;
BEGIN
	SELECT * INTO v_version FROM coder.template_versions v WHERE v.template_id = template AND v.name = version_name;
	IF NOT FOUND THEN
		PERFORM coder.raise(404, format('No template version found by name "%s".', version_name));
	END IF;
	RETURN v_version;
END
$$;
COMMENT ON FUNCTION coder.version_by_name(uuid, text) IS 'A version by template and name; errors: ZC404.';

-- GET /api/v2/templates/{template}/versions/{versionname}
CREATE OR REPLACE FUNCTION coder.version_get_by_name(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_template coder.templates := coder.param_template(req);
	v coder.template_versions := coder.version_by_name(v_template.id, req.params->>'versionname');
BEGIN
	RETURN coder.version_reply(200, v.id);
END
$$;
COMMENT ON FUNCTION coder.version_get_by_name(coder.request) IS 'GET /api/v2/templates/{template}/versions/{versionname}';

-- GET /api/v2/organizations/{organization}/templates/{templatename}/versions/{versionname}
CREATE OR REPLACE FUNCTION coder.organization_version_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_template coder.templates := coder.param_template_name(req);
	v coder.template_versions := coder.version_by_name(v_template.id, req.params->>'versionname');
BEGIN
	RETURN coder.version_reply(200, v.id);
END
$$;
COMMENT ON FUNCTION coder.organization_version_get(coder.request) IS
	'GET /api/v2/organizations/{organization}/templates/{templatename}/versions/{versionname}';

-- GET …/versions/{versionname}/previous: the next older version of the template.
CREATE OR REPLACE FUNCTION coder.organization_version_previous(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_template coder.templates := coder.param_template_name(req);
	v coder.template_versions := coder.version_by_name(v_template.id, req.params->>'versionname');
	v_id uuid;
BEGIN
	SELECT p.id INTO v_id FROM coder.template_versions p
	 WHERE p.template_id = v_template.id AND p.created_at < v.created_at
	 ORDER BY p.created_at DESC LIMIT 1;
	IF NOT FOUND THEN
		PERFORM coder.raise(404, format('No previous template version found for "%s".', v.name));
	END IF;
	RETURN coder.version_reply(200, v_id);
END
$$;
COMMENT ON FUNCTION coder.organization_version_previous(coder.request) IS
	'GET /api/v2/organizations/{organization}/templates/{templatename}/versions/{versionname}/previous';

-- PATCH /api/v2/templates/{template}/versions: make a version the active one.
CREATE OR REPLACE FUNCTION coder.version_promote(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_template coder.templates := coder.param_template(req, 'update');
	b jsonb := coder.body(req, 'id');
	v_id uuid := coder.body_uuid(b, 'id');
	v_version coder.template_versions;
	v_status text;
BEGIN
	SELECT v.*  INTO v_version FROM coder.template_versions v WHERE v.id = v_id FOR NO KEY UPDATE;
	IF v_version.id IS NULL OR NOT coder.version_can('read', v_version) THEN
		PERFORM coder.raise(404, 'Template version not found.');
	ELSIF v_version.template_id IS DISTINCT FROM v_template.id THEN
		PERFORM coder.raise(400, 'The provided template version doesn''t belong to the specified template.');
	END IF;
	SELECT j.job_status::text INTO v_status FROM coder.provisioner_jobs j WHERE j.id = v_version.job_id;
	IF v_status <> 'succeeded' THEN
		PERFORM coder.raise(403, 'Only versions that have been built successfully can be promoted.',
			format('Attempted to promote a version with a %s build', v_status));
	ELSIF v_version.archived THEN
		PERFORM coder.raise(400, 'The provided template version is archived.');
	END IF;
	UPDATE coder.templates t SET active_version_id = v_id, updated_at = now() WHERE t.id = v_template.id;
	RETURN coder.reply_message(200, 'Updated the active template version!');
END
$$;
COMMENT ON FUNCTION coder.version_promote(coder.request) IS 'PATCH /api/v2/templates/{template}/versions';

-- Is the version what a workspace's latest build, other than a delete, uses?
CREATE OR REPLACE FUNCTION coder.version_in_use(version uuid)
RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN EXISTS (SELECT FROM coder.workspace_builds b
					 JOIN coder.workspaces w ON w.latest_build_id = b.id
					WHERE b.template_version_id = version AND b.transition <> 'delete' AND NOT w.deleted);
END
$$;
COMMENT ON FUNCTION coder.version_in_use(uuid) IS 'Is the version used by a workspace?';

-- POST /api/v2/templateversions/{templateversion}/archive and /unarchive
CREATE OR REPLACE FUNCTION coder.version_archive(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version(req, 'update');
	v_archive boolean := req.path NOT LIKE '%/unarchive';
BEGIN
	IF v.archived = v_archive THEN
		PERFORM coder.raise(400, CASE WHEN v_archive THEN 'Template version already archived'
									  ELSE 'Template version already unarchived' END);
	ELSIF v.template_id IS NULL THEN
		PERFORM coder.raise(400, 'Cannot archive template versions not associate with a template.');
	ELSIF v_archive AND (coder.version_in_use(v.id)
			OR EXISTS (SELECT FROM coder.templates t WHERE t.active_version_id = v.id)
			OR EXISTS (SELECT FROM coder.provisioner_jobs j WHERE j.id = v.job_id
						  AND j.job_status IN ('pending', 'running'))) THEN
		PERFORM coder.raise(500, 'Internal error fetching template version.',
			'Unable to archive specified version, the version is likely in use by a workspace or currently set to the active version');
	END IF;
	UPDATE coder.template_versions t SET archived = v_archive, updated_at = now() WHERE t.id = v.id;
	RETURN coder.reply(200, to_jsonb(format('template version "%s" %s', v.id,
		CASE WHEN v_archive THEN 'archived' ELSE 'unarchived' END)));
END
$$;
COMMENT ON FUNCTION coder.version_archive(coder.request) IS
	'POST /api/v2/templateversions/{templateversion}/archive, …/unarchive';

-- POST /api/v2/templates/{template}/versions/archive: those nobody uses; the
-- failed ones, or with "all" every one.
CREATE OR REPLACE FUNCTION coder.version_archive_unused(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_template coder.templates := coder.param_template(req, 'update');
	b jsonb := coder.body(req);
	v_ids jsonb;
BEGIN
	PERFORM coder.body_types(b, '{"boolean": ["all"]}');
	WITH archived AS
	(
		UPDATE coder.template_versions v SET archived = true, updated_at = now()
		  FROM coder.provisioner_jobs j
		 WHERE j.id = v.job_id AND v.template_id = v_template.id AND NOT v.archived
		   AND v.id <> v_template.active_version_id AND j.completed_at IS NOT NULL
		   AND (j.job_status = 'failed' OR coalesce((b->>'all')::boolean, false))
		   AND NOT coder.version_in_use(v.id)
		RETURNING v.id
	)
	SELECT jsonb_agg(a.id) INTO v_ids FROM archived a;
	RETURN coder.reply(200, jsonb_build_object('template_id', v_template.id, 'archived_ids', v_ids));
END
$$;
COMMENT ON FUNCTION coder.version_archive_unused(coder.request) IS 'POST /api/v2/templates/{template}/versions/archive';

-- PATCH /api/v2/templateversions/{templateversion}
CREATE OR REPLACE FUNCTION coder.version_update(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version(req, 'update');
	b jsonb := coder.body(req);
	v_name text;
BEGIN
	PERFORM coder.body_types(b, '{"string": ["name", "message"]}');
	PERFORM coder.raise_broken('Validation failed.',
		CASE WHEN coalesce(b->>'name', '') <> '' THEN coder.check_name('name', b->>'name', 'template_version_name') END,
		coder.check_name('message', coalesce(b->>'message', ''), 'lt=1048577'));
	v_name := coalesce(nullif(b->>'name', ''), v.name);
	IF v_name <> v.name AND EXISTS (SELECT FROM coder.template_versions o
			WHERE o.template_id = v.template_id AND o.name = v_name) THEN
		PERFORM coder.raise(400, 'template version name must be unique for a template', NULL,
			jsonb_build_array(coder.validation('name', 'Name is already used')));
	END IF;
	UPDATE coder.template_versions t
	   SET name = v_name, message = coalesce(b->>'message', t.message), updated_at = now()
	 WHERE t.id = v.id;
	RETURN coder.version_reply(200, v.id);
END
$$;
COMMENT ON FUNCTION coder.version_update(coder.request) IS 'PATCH /api/v2/templateversions/{templateversion}';

-- PATCH /api/v2/templateversions/{templateversion}/cancel
CREATE OR REPLACE FUNCTION coder.version_cancel(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version(req, 'update');
	v_job coder.provisioner_jobs;
BEGIN
	SELECT * INTO v_job FROM coder.provisioner_jobs j WHERE j.id = v.job_id FOR NO KEY UPDATE;
	IF v_job.completed_at IS NOT NULL THEN
		PERFORM coder.raise(400, 'Job has already completed!');
	ELSIF v_job.canceled_at IS NOT NULL THEN
		PERFORM coder.raise(400, 'Job has already been marked as canceled!');
	END IF;
	PERFORM coder.job_cancel(v.job_id);
	RETURN coder.reply_message(200, 'Job has been marked as canceled...');
END
$$;
COMMENT ON FUNCTION coder.version_cancel(coder.request) IS 'PATCH /api/v2/templateversions/{templateversion}/cancel';

-- The version of the path, whose import must have ended; else the status.
CREATE OR REPLACE FUNCTION coder.param_version_done(req coder.request, status integer, message text)
RETURNS coder.template_versions LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version(req);
BEGIN
	IF NOT EXISTS (SELECT FROM coder.provisioner_jobs j WHERE j.id = v.job_id AND j.completed_at IS NOT NULL) THEN
		PERFORM coder.raise(status, message);
	END IF;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.param_version_done(coder.request, integer, text) IS
	'The version of the path once its import has ended; errors: ZC400, ZC404, the given one.';

-- Markdown without its marks, roughly: what a plain list may show.
CREATE OR REPLACE FUNCTION coder.markdown_plain(markdown text)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	markdown := regexp_replace(markdown, '!?\[([^\]]*)\]\([^)]*\)', '\1', 'g');
	markdown := regexp_replace(markdown, '(\*\*|__|`|~~)', '', 'g');
	markdown := regexp_replace(markdown, '(^|\n)\s{0,3}(#{1,6}|>|[-*+])\s+', '\1', 'g');
	markdown := regexp_replace(markdown, '(^|[^*\w])[*_]([^*_\n]+)[*_](?=[^*\w]|$)', '\1\2', 'g');
	RETURN trim(E' \n' FROM markdown);
END
$$;
COMMENT ON FUNCTION coder.markdown_plain(text) IS 'Text without the common marks of Markdown.';

-- GET /api/v2/templateversions/{templateversion}/rich-parameters
CREATE OR REPLACE FUNCTION coder.version_parameters(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version_done(req, 425, 'Template version job has not finished');
BEGIN
	RETURN coder.reply(200, (
		SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
				'name', p.name, 'display_name', nullif(p.display_name, ''), 'description', p.description,
				'description_plaintext', coder.markdown_plain(p.description), 'type', p.type,
				'form_type', p.form_type, 'mutable', p.mutable, 'default_value', p.default_value,
				'icon', p.icon, 'options', p.options, 'validation_error', nullif(p.validation_error, ''),
				'validation_regex', nullif(p.validation_regex, ''), 'validation_min', p.validation_min,
				'validation_max', p.validation_max, 'validation_monotonic', nullif(p.validation_monotonic, ''),
				'required', p.required, 'ephemeral', p.ephemeral))
				ORDER BY p.display_order, lower(p.name)), '[]')
		  FROM coder.template_version_parameters p WHERE p.template_version_id = v.id));
END
$$;
COMMENT ON FUNCTION coder.version_parameters(coder.request) IS
	'GET /api/v2/templateversions/{templateversion}/rich-parameters';

-- GET /api/v2/templateversions/{templateversion}/variables
CREATE OR REPLACE FUNCTION coder.version_variables(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version_done(req, 403, 'Template version job has not finished');
BEGIN
	RETURN coder.reply(200, (
		SELECT coalesce(jsonb_agg(jsonb_build_object('name', x.name, 'description', x.description, 'type', x.type,
				'value', CASE WHEN x.sensitive THEN '*redacted*' ELSE x.value END,
				'default_value', CASE WHEN x.sensitive THEN '*redacted*' ELSE x.default_value END,
				'required', x.required, 'sensitive', x.sensitive) ORDER BY x.name), '[]')
		  FROM coder.template_version_variables x WHERE x.template_version_id = v.id));
END
$$;
COMMENT ON FUNCTION coder.version_variables(coder.request) IS 'GET /api/v2/templateversions/{templateversion}/variables';

-- GET /api/v2/templateversions/{templateversion}/presets: null where there are none.
CREATE OR REPLACE FUNCTION coder.version_presets(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version(req);
BEGIN
	RETURN coder.reply(200, (
		SELECT coalesce(jsonb_agg(jsonb_build_object('ID', p.id, 'Name', p.name, 'Default', p.is_default,
				'DesiredPrebuildInstances', p.desired_instances, 'Description', p.description, 'Icon', p.icon,
				'Parameters', (SELECT jsonb_agg(jsonb_build_object('Name', x.name, 'Value', x.value) ORDER BY x.name)
								 FROM coder.template_version_preset_parameters x
								WHERE x.template_version_preset_id = p.id)) ORDER BY p.created_at, p.name), 'null')
		  FROM coder.template_version_presets p WHERE p.template_version_id = v.id));
END
$$;
COMMENT ON FUNCTION coder.version_presets(coder.request) IS 'GET /api/v2/templateversions/{templateversion}/presets';

-- GET /api/v2/templateversions/{templateversion}/schema and /parameters:
-- features of old that are always empty.
CREATE OR REPLACE FUNCTION coder.version_nothing(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.param_version(req);
	RETURN coder.reply(200, '[]'::jsonb);
END
$$;
COMMENT ON FUNCTION coder.version_nothing(coder.request) IS
	'GET /api/v2/templateversions/{templateversion}/schema, …/parameters';

-- GET /api/v2/templateversions/{templateversion}/logs
CREATE OR REPLACE FUNCTION coder.version_logs(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version(req);
BEGIN
	RETURN coder.job_logs_reply(req, v.job_id);
END
$$;
COMMENT ON FUNCTION coder.version_logs(coder.request) IS 'GET /api/v2/templateversions/{templateversion}/logs';

-- GET /api/v2/templateversions/{templateversion}/resources
CREATE OR REPLACE FUNCTION coder.version_resources(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version_done(req, 400, 'Job hasn''t completed!');
BEGIN
	RETURN coder.reply(200, coder.resources_json(v.job_id));
END
$$;
COMMENT ON FUNCTION coder.version_resources(coder.request) IS 'GET /api/v2/templateversions/{templateversion}/resources';

-- POST /api/v2/templateversions/{templateversion}/dry-run
CREATE OR REPLACE FUNCTION coder.version_dry_run(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version(req);
	b jsonb;
	v_import coder.provisioner_jobs;
	v_job coder.provisioner_jobs;
BEGIN
	IF NOT coder.can('create', 'workspace', v.organization_id, coder.subject_id()) THEN
		PERFORM coder.raise_not_found();
	END IF;
	b := coder.body(req);
	PERFORM coder.body_types(b, '{"string": ["workspace_name"], "array": ["rich_parameter_values", "user_variable_values"]}');
	SELECT * INTO v_import FROM coder.provisioner_jobs j WHERE j.id = v.job_id;
	IF v_import.completed_at IS NULL THEN
		PERFORM coder.raise(425, 'Template version import job hasn''t completed!');
	END IF;
	INSERT INTO coder.provisioner_jobs (organization_id, initiator_id, provisioner, type, file_id, input, tags)
	VALUES (v.organization_id, coder.subject_id(), v_import.provisioner, 'template_version_dry_run', v_import.file_id,
			jsonb_build_object('template_version_id', v.id, 'workspace_name', coalesce(b->>'workspace_name', ''),
				'rich_parameter_values', coalesce(nullif(b->'rich_parameter_values', 'null'), '[]')), v_import.tags)
	RETURNING * INTO v_job;
	RETURN coder.reply(201, coder.provisioner_job_json(v_job, true));
END
$$;
COMMENT ON FUNCTION coder.version_dry_run(coder.request) IS 'POST /api/v2/templateversions/{templateversion}/dry-run';

-- {job} of a dry run's path: 400, 403 as the reference.
CREATE OR REPLACE FUNCTION coder.param_dry_run(req coder.request)
RETURNS coder.provisioner_jobs LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version(req);
	v_id uuid := coder.try_uuid(req.params->>'job');
	v_job coder.provisioner_jobs;
BEGIN
	IF v_id IS NULL THEN
		PERFORM coder.raise(400, format('Job ID "%s" must be a valid UUID.', req.params->>'job'));
	END IF;
	SELECT * INTO v_job FROM coder.provisioner_jobs j WHERE j.id = v_id;
	IF v_job.id IS NULL THEN
		PERFORM coder.raise_not_found();
	ELSIF v_job.type <> 'template_version_dry_run' OR v_job.input->>'template_version_id' <> v.id::text
		  OR NOT coder.can('read', 'workspace', v_job.organization_id, v_job.initiator_id) THEN
		PERFORM coder.raise_forbidden();
	END IF;
	RETURN v_job;
END
$$;
COMMENT ON FUNCTION coder.param_dry_run(coder.request) IS 'The dry run of the path; errors: ZC400, ZC403, ZC404.';

-- GET …/dry-run/{job} and what hangs below it.
CREATE OR REPLACE FUNCTION coder.dry_run_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.provisioner_job_json(coder.param_dry_run(req)));
END
$$;
COMMENT ON FUNCTION coder.dry_run_get(coder.request) IS 'GET /api/v2/templateversions/{templateversion}/dry-run/{job}';

CREATE OR REPLACE FUNCTION coder.dry_run_resources(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_job coder.provisioner_jobs := coder.param_dry_run(req);
BEGIN
	IF v_job.completed_at IS NULL THEN
		PERFORM coder.raise(400, 'Job hasn''t completed!');
	END IF;
	RETURN coder.reply(200, coder.resources_json(v_job.id));
END
$$;
COMMENT ON FUNCTION coder.dry_run_resources(coder.request) IS 'GET …/dry-run/{job}/resources';

CREATE OR REPLACE FUNCTION coder.dry_run_logs(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_job coder.provisioner_jobs := coder.param_dry_run(req);
BEGIN
	RETURN coder.job_logs_reply(req, v_job.id);
END
$$;
COMMENT ON FUNCTION coder.dry_run_logs(coder.request) IS 'GET …/dry-run/{job}/logs';

CREATE OR REPLACE FUNCTION coder.dry_run_matched(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.matched_provisioners(coder.param_dry_run(req)));
END
$$;
COMMENT ON FUNCTION coder.dry_run_matched(coder.request) IS 'GET …/dry-run/{job}/matched-provisioners';

-- PATCH …/dry-run/{job}/cancel
CREATE OR REPLACE FUNCTION coder.dry_run_cancel(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_job coder.provisioner_jobs := coder.param_dry_run(req);
BEGIN
	PERFORM coder.require('update', 'workspace', v_job.organization_id, v_job.initiator_id);
	SELECT * INTO v_job FROM coder.provisioner_jobs j WHERE j.id = v_job.id FOR NO KEY UPDATE;
	IF v_job.completed_at IS NOT NULL THEN
		PERFORM coder.raise(400, 'Job has already completed.');
	ELSIF v_job.canceled_at IS NOT NULL THEN
		PERFORM coder.raise(400, 'Job has already been marked as canceled.');
	END IF;
	PERFORM coder.job_cancel(v_job.id);
	RETURN coder.reply_message(200, 'Job has been marked as canceled.');
END
$$;
COMMENT ON FUNCTION coder.dry_run_cancel(coder.request) IS 'PATCH …/dry-run/{job}/cancel';

DELETE FROM coder.routes WHERE area = 'templateversion';
INSERT INTO coder.routes (area, method, pattern, function, read_only) VALUES
	('templateversion', 'POST', '/api/v2/organizations/{organization}/templateversions', 'version_create', false),
	('templateversion', 'GET', '/api/v2/organizations/{organization}/templates/{templatename}/versions/{versionname}', 'organization_version_get', true),
	('templateversion', 'GET', '/api/v2/organizations/{organization}/templates/{templatename}/versions/{versionname}/previous', 'organization_version_previous', true),
	('templateversion', 'GET', '/api/v2/templates/{template}/versions', 'version_list', true),
	('templateversion', 'PATCH', '/api/v2/templates/{template}/versions', 'version_promote', false),
	('templateversion', 'POST', '/api/v2/templates/{template}/versions/archive', 'version_archive_unused', false),
	('templateversion', 'GET', '/api/v2/templates/{template}/versions/{versionname}', 'version_get_by_name', true),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}', 'version_get', true),
	('templateversion', 'PATCH', '/api/v2/templateversions/{templateversion}', 'version_update', false),
	('templateversion', 'PATCH', '/api/v2/templateversions/{templateversion}/cancel', 'version_cancel', false),
	('templateversion', 'POST', '/api/v2/templateversions/{templateversion}/archive', 'version_archive', false),
	('templateversion', 'POST', '/api/v2/templateversions/{templateversion}/unarchive', 'version_archive', false),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}/rich-parameters', 'version_parameters', true),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}/variables', 'version_variables', true),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}/presets', 'version_presets', true),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}/schema', 'version_nothing', true),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}/parameters', 'version_nothing', true),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}/logs', 'version_logs', true),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}/resources', 'version_resources', true),
	('templateversion', 'POST', '/api/v2/templateversions/{templateversion}/dry-run', 'version_dry_run', false),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}/dry-run/{job}', 'dry_run_get', true),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}/dry-run/{job}/resources', 'dry_run_resources', true),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}/dry-run/{job}/logs', 'dry_run_logs', true),
	('templateversion', 'GET', '/api/v2/templateversions/{templateversion}/dry-run/{job}/matched-provisioners', 'dry_run_matched', true),
	('templateversion', 'PATCH', '/api/v2/templateversions/{templateversion}/dry-run/{job}/cancel', 'dry_run_cancel', false);
