-- SPDX-License-Identifier: MIT
--
-- job.sql
--   The provisioner protocol (docs/ARCHITECTURE.md section 6) and the job reaper.
--
-- Tables: sql/schema/job.sql.  Messages are the JSON form of
-- agent/wire/proto/provisionerd.proto: bytes in hex, enums by name.

-- coder.provisioner_tags(user, sets…): tag sets merged from left to right as
-- the reference does: an empty value overwrites nothing, and "scope" and
-- "owner" are always there ("owner" is the user where the scope is "user").
CREATE OR REPLACE FUNCTION coder.provisioner_tags(user_id uuid, VARIADIC sets jsonb[])
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_tags jsonb := '{}';
	v_set jsonb;
BEGIN
	FOREACH v_set IN ARRAY sets LOOP
		v_tags := v_tags || coalesce(
			(SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each_text(v_set) e
			  WHERE e.value <> '' OR NOT v_tags ? e.key), '{}');
	END LOOP;
	IF v_tags->>'scope' = 'user' THEN
		RETURN v_tags || jsonb_build_object('owner', user_id);
	END IF;
	RETURN v_tags || '{"scope": "organization", "owner": ""}';
END
$$;
COMMENT ON FUNCTION coder.provisioner_tags(uuid, jsonb[]) IS
	'Tag sets merged and normalized for a user.';

-- May the daemon take the job, the queue's order aside?  The built-in daemons
-- serve every organization.
CREATE OR REPLACE FUNCTION coder.provisioner_fits(d coder.provisioner_daemons, j coder.provisioner_jobs)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
AS $$
	SELECT (d.organization_id OPERATOR(pg_catalog.=) j.organization_id
			OR d.key_id OPERATOR(pg_catalog.=) '00000000-0000-0000-0000-000000000001'::pg_catalog.uuid)
		AND j.provisioner OPERATOR(pg_catalog.=) ANY (d.provisioners)
		AND coder.provisioner_tagset_contains(d.tags, j.tags)
$$;
COMMENT ON FUNCTION coder.provisioner_fits(coder.provisioner_daemons, coder.provisioner_jobs) IS
	'May the daemon take the job?';

-- coder.provisioner_register(name, provisioners, tags, version): a built-in
-- daemon's row, made or found again by name; answers its id.
CREATE OR REPLACE FUNCTION coder.provisioner_register(name text, provisioners text[], tags jsonb, version text)
RETURNS uuid LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	c_key CONSTANT uuid := '00000000-0000-0000-0000-000000000001';
	v_org uuid;
	v_id uuid;
BEGIN
	SELECT o.id INTO v_org FROM coder.organizations o WHERE o.is_default;
	IF v_org IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC404', MESSAGE = 'There is no default organization.';
	END IF;
	INSERT INTO coder.provisioner_keys (id, organization_id, name, hashed_secret)
	VALUES (c_key, v_org, 'built-in', ''),
		   ('00000000-0000-0000-0000-000000000002', v_org, 'user-auth', ''),
		   ('00000000-0000-0000-0000-000000000003', v_org, 'psk', '')
	ON CONFLICT DO NOTHING;
	INSERT INTO coder.provisioner_daemons AS d
		(name, provisioners, tags, last_seen_at, version, api_version, organization_id, key_id)
	VALUES (provisioner_register.name, provisioner_register.provisioners::coder.provisioner_type[],
			coder.provisioner_tags(NULL, coalesce(provisioner_register.tags, '{}')), clock_timestamp(),
			coalesce(provisioner_register.version, ''), '1.16', v_org, c_key)
	ON CONFLICT (organization_id, name, lower(coalesce(tags ->> 'owner', '')))
	DO UPDATE SET provisioners = excluded.provisioners, tags = excluded.tags,
		last_seen_at = excluded.last_seen_at, version = excluded.version,
		api_version = excluded.api_version, key_id = excluded.key_id
	RETURNING d.id INTO v_id;
	RETURN v_id;
END
$$;
COMMENT ON FUNCTION coder.provisioner_register(text, text[], jsonb, text) IS
	'Registers a built-in provisioner daemon; answers its id.';

-- coder.provisioner_register_key(name, provisioners, version, key): the row of a
-- daemon that was started with a provisioner key; organization and tags are the
-- key's.  It goes with the key, and the daemon with it.
CREATE OR REPLACE FUNCTION coder.provisioner_register_key(name text, provisioners text[], version text, key text)
RETURNS uuid LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	k coder.provisioner_keys;
	v_id uuid;
BEGIN
	SELECT * INTO k FROM coder.provisioner_keys x
	 WHERE x.hashed_secret = coder.sha256(provisioner_register_key.key) AND length(provisioner_register_key.key) = 43;
	IF k.id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC403', MESSAGE = 'The provisioner key is not known (any more).';
	END IF;
	INSERT INTO coder.provisioner_daemons AS d
		(name, provisioners, tags, last_seen_at, version, api_version, organization_id, key_id)
	VALUES (provisioner_register_key.name, provisioner_register_key.provisioners::coder.provisioner_type[],
			coder.provisioner_tags(NULL, k.tags), clock_timestamp(),
			coalesce(provisioner_register_key.version, ''), '1.16', k.organization_id, k.id)
	ON CONFLICT (organization_id, name, lower(coalesce(tags ->> 'owner', '')))
	DO UPDATE SET provisioners = excluded.provisioners, tags = excluded.tags,
		last_seen_at = excluded.last_seen_at, version = excluded.version,
		api_version = excluded.api_version
	 WHERE d.key_id = excluded.key_id
	RETURNING d.id INTO v_id;
	IF v_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC409',
			MESSAGE = format('The organization has a daemon "%s" with another key.', provisioner_register_key.name);
	END IF;
	RETURN v_id;
END
$$;
COMMENT ON FUNCTION coder.provisioner_register_key(text, text[], text, text) IS
	'Registers a daemon by its provisioner key; answers its id; errors: ZC403 (no such key), ZC409 (its name is another''s).';

-- coder.provisioner_heartbeat(daemon): the daemon lives.  A daemon whose row
-- is gone gets ZC404 and registers again.
CREATE OR REPLACE FUNCTION coder.provisioner_heartbeat(daemon uuid)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE coder.provisioner_daemons d SET last_seen_at = clock_timestamp() WHERE d.id = daemon;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC404',
			MESSAGE = format('Provisioner daemon %s is not registered.', daemon);
	END IF;
END
$$;
COMMENT ON FUNCTION coder.provisioner_heartbeat(uuid) IS 'Marks a daemon as seen; errors: ZC404.';

-- Names and values as the wire has them: [{"name": …, "value": …, "sensitive": …}].
CREATE OR REPLACE FUNCTION coder.version_variable_values(version uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('name', v.name, 'value', v.value,
														 'sensitive', v.sensitive) ORDER BY v.name), '[]')
			  FROM coder.template_version_variables v
			 WHERE v.template_version_id = version
			   AND (coalesce(nullif(v.value, ''), v.default_value) <> '' OR v.required));
END
$$;
COMMENT ON FUNCTION coder.version_variable_values(uuid) IS
	'Terraform variables of a version as provisioner.VariableValue.';

-- provisioner.Metadata with every field unset, in the JSON of the wire.
CREATE OR REPLACE FUNCTION coder.provisioner_metadata()
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object(
		'coder_url', coalesce(coder.setting('access_url'), ''), 'workspace_transition', 'START',
		'workspace_name', '', 'workspace_owner', '', 'workspace_id', '', 'workspace_owner_id', '',
		'workspace_owner_email', '', 'template_name', '', 'template_version', '',
		'workspace_owner_oidc_access_token', '', 'workspace_owner_session_token', '',
		'template_id', '', 'workspace_owner_name', '', 'workspace_owner_groups', '["Everyone"]'::jsonb,
		'workspace_owner_ssh_public_key', '', 'workspace_owner_ssh_private_key', '',
		'workspace_build_id', '', 'workspace_owner_login_type', '',
		'workspace_owner_rbac_roles', '[]'::jsonb, 'prebuilt_workspace_build_stage', 'NONE',
		'running_agent_auth_tokens', '[]'::jsonb, 'task_id', '', 'task_prompt', '',
		'template_version_id', '', 'template_version_modules_file', '');
END
$$;
COMMENT ON FUNCTION coder.provisioner_metadata() IS 'provisioner.Metadata with the access URL and defaults.';

-- The import part of an acquired job.  A variable that the upload does not
-- name keeps its value from the template's active version.
CREATE OR REPLACE FUNCTION coder.acquired_template_import(j coder.provisioner_jobs)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_version coder.template_versions;
	v_values jsonb;
BEGIN
	SELECT * INTO STRICT v_version FROM coder.template_versions v WHERE v.job_id = j.id;
	SELECT coalesce(jsonb_agg(jsonb_build_object('name', x.name, 'value', x.value, 'sensitive', true)
							  ORDER BY x.name), '[]')
	  INTO v_values
	  FROM (SELECT g.name, g.value
			  FROM jsonb_to_recordset(coalesce(j.input->'user_variable_values', '[]')) g(name text, value text)
			UNION ALL
			SELECT p.name, p.value
			  FROM coder.templates t
			  JOIN coder.template_version_variables p ON p.template_version_id = t.active_version_id
			 WHERE t.id = v_version.template_id AND p.value <> ''
			   AND NOT EXISTS (SELECT FROM jsonb_array_elements(coalesce(j.input->'user_variable_values', '[]')) g
								WHERE g->>'name' = p.name)) x;
	RETURN jsonb_build_object('user_variable_values', v_values,
		'metadata', coder.provisioner_metadata() || jsonb_build_object(
			'template_id', coalesce(v_version.template_id::text, ''), 'template_version_id', v_version.id));
END
$$;
COMMENT ON FUNCTION coder.acquired_template_import(coder.provisioner_jobs) IS
	'AcquiredJob.TemplateImport of a job.';

-- The dry-run part of an acquired job.
CREATE OR REPLACE FUNCTION coder.acquired_dry_run(j coder.provisioner_jobs)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_version uuid := (j.input->>'template_version_id')::uuid;
BEGIN
	RETURN jsonb_build_object(
		'rich_parameter_values', coalesce(j.input->'rich_parameter_values', '[]'),
		'variable_values', coder.version_variable_values(v_version),
		'metadata', coder.provisioner_metadata() || jsonb_build_object(
			'workspace_name', coalesce(j.input->>'workspace_name', ''),
			'template_version_id', v_version));
END
$$;
COMMENT ON FUNCTION coder.acquired_dry_run(coder.provisioner_jobs) IS 'AcquiredJob.TemplateDryRun of a job.';

-- A job that was taken, as AcquiredJob.
CREATE OR REPLACE FUNCTION coder.acquired_job(j coder.provisioner_jobs)
RETURNS jsonb LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object(
		'job_id', j.id,
		'created_at', (extract(epoch FROM j.created_at) * 1000)::bigint,
		'provisioner', j.provisioner,
		'user_name', coalesce((SELECT u.username FROM coder.users u WHERE u.id = j.initiator_id), ''),
		'file_id', j.file_id,
		'trace_metadata', coalesce(j.trace_metadata, '{}'))
		|| CASE j.type
			WHEN 'template_version_import' THEN jsonb_build_object('template_import', coder.acquired_template_import(j))
			WHEN 'template_version_dry_run' THEN jsonb_build_object('template_dry_run', coder.acquired_dry_run(j))
			ELSE jsonb_build_object('workspace_build', coder.acquired_workspace_build(j.id))
		   END;
END
$$;
COMMENT ON FUNCTION coder.acquired_job(coder.provisioner_jobs) IS 'A job as provisionerd.AcquiredJob.';

-- coder.provisioner_acquire(daemon): the oldest job that the daemon may take,
-- as AcquiredJob, or NULL.  Two daemons never get the same job: the row is
-- locked, and locked rows are passed over.  A job that cannot be described
-- fails with the reason, and the next one is tried.
CREATE OR REPLACE FUNCTION coder.provisioner_acquire(daemon uuid)
RETURNS jsonb LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_daemon coder.provisioner_daemons;
	v_job coder.provisioner_jobs;
	v_id uuid;
BEGIN
	PERFORM coder.provisioner_heartbeat(daemon);
	SELECT * INTO v_daemon FROM coder.provisioner_daemons d WHERE d.id = daemon;
	LOOP
		SELECT j.id INTO v_id FROM coder.provisioner_jobs j
		 WHERE j.started_at IS NULL AND j.completed_at IS NULL AND j.canceled_at IS NULL
		   AND NOT EXISTS (SELECT FROM coder.build_holds h WHERE h.job_id = j.id AND h.until > clock_timestamp())
		   AND coder.provisioner_fits(v_daemon, j)
		 ORDER BY j.initiator_id = 'c42fdf75-3097-471c-8c33-fb52454d81c0', j.created_at, j.id
		 LIMIT 1 FOR UPDATE SKIP LOCKED;
		IF v_id IS NULL THEN
			RETURN NULL;
		END IF;
		UPDATE coder.provisioner_jobs j
		   SET started_at = clock_timestamp(), updated_at = clock_timestamp(), worker_id = daemon
		 WHERE j.id = v_id RETURNING * INTO v_job;
		BEGIN
			RETURN coder.acquired_job(v_job);
		EXCEPTION WHEN OTHERS THEN
			-- Deadlocks, full disks and a server that stops are not the job's fault.
			IF SQLSTATE ~ '^(40|53|54|55|57|58|XX)' THEN
				RAISE;
			END IF;
			UPDATE coder.provisioner_jobs j
			   SET completed_at = clock_timestamp(), updated_at = clock_timestamp(),
				   error = 'could not prepare the job: ' || SQLERRM
			 WHERE j.id = v_id;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION coder.provisioner_acquire(uuid) IS
	'Takes the oldest job the daemon may take; AcquiredJob, or NULL; errors: ZC404 (not registered).';

-- The running job of a daemon, locked.  Errors as the reference words them.
CREATE OR REPLACE FUNCTION coder.provisioner_own_job(daemon uuid, job uuid)
RETURNS coder.provisioner_jobs LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_job coder.provisioner_jobs;
BEGIN
	SELECT * INTO v_job FROM coder.provisioner_jobs j WHERE j.id = job FOR NO KEY UPDATE;
	IF v_job.id IS NULL OR v_job.worker_id IS NOT NULL AND v_job.worker_id IS DISTINCT FROM daemon THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC403', MESSAGE = 'you don''t own this job';
	ELSIF v_job.completed_at IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC409', MESSAGE = 'job already completed';
	ELSIF v_job.worker_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC409', MESSAGE = 'job isn''t running yet';
	END IF;
	RETURN v_job;
END
$$;
COMMENT ON FUNCTION coder.provisioner_own_job(uuid, uuid) IS
	'Locks a running job of a daemon; errors: ZC403 (another''s), ZC409 (not running, ended).';

-- coder.provisioner_file(daemon, job): the archive of the job's template.
CREATE OR REPLACE FUNCTION coder.provisioner_file(daemon uuid, job uuid)
RETURNS bytea LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_job coder.provisioner_jobs := coder.provisioner_own_job(daemon, job);
	v_data bytea;
BEGIN
	SELECT f.data INTO v_data FROM coder.files f WHERE f.id = v_job.file_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC404', MESSAGE = 'The archive of the template is gone.';
	END IF;
	RETURN v_data;
END
$$;
COMMENT ON FUNCTION coder.provisioner_file(uuid, uuid) IS
	'The template archive of a running job; errors: ZC403, ZC404, ZC409.';

-- Appends log lines [{source, level, stage, output, created_at (ms)}] to a
-- job, up to 1 MiB of output; the line that does not fit is replaced by one
-- warning, and the rest is dropped.
CREATE OR REPLACE FUNCTION coder.job_append_logs(job uuid, logs jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c_limit CONSTANT integer := 1048576;
	c_warning CONSTANT text := 'Provisioner logs exceeded the max size of 1MB. Will not continue to write provisioner logs for workspace build.';
	v_length integer;
	v_overflowed boolean;
	v_added integer;
	v_over boolean;
BEGIN
	IF coalesce(jsonb_array_length(logs), 0) = 0 THEN
		RETURN;
	END IF;
	SELECT j.logs_length, j.logs_overflowed INTO v_length, v_overflowed
	  FROM coder.provisioner_jobs j WHERE j.id = job FOR NO KEY UPDATE;
	IF v_overflowed THEN
		RETURN;
	END IF;
	WITH line AS
	(
		SELECT l.ordinality AS n,
			   coalesce(to_timestamp(nullif((l.value->>'created_at')::float8, 0) / 1000), clock_timestamp()) AS at,
			   lower(coalesce(l.value->>'source', 'provisioner_daemon'))::coder.log_source AS source,
			   lower(coalesce(l.value->>'level', 'info'))::coder.log_level AS level,
			   left(coalesce(l.value->>'stage', ''), 128) AS stage,
			   left(coalesce(l.value->>'output', ''), 1024) AS output,
			   v_length + sum(octet_length(coalesce(l.value->>'output', ''))) OVER (ORDER BY l.ordinality) AS total
		  FROM jsonb_array_elements(logs) WITH ORDINALITY l
	), stored AS
	(
		INSERT INTO coder.provisioner_job_logs (job_id, created_at, source, level, stage, output)
		SELECT job, x.at, x.source, x.level, x.stage, x.output
		  FROM (SELECT line.n, at, source, level, stage, output FROM line WHERE total <= c_limit
				UNION ALL
				(SELECT line.n, at, source, 'warn', stage, c_warning FROM line WHERE total > c_limit
				  ORDER BY line.n LIMIT 1)) x
		 ORDER BY x.n
	)
	SELECT max(total) FILTER (WHERE total <= c_limit), bool_or(total > c_limit)
	  INTO v_added, v_over FROM line;
	UPDATE coder.provisioner_jobs j
	   SET logs_length = coalesce(v_added, v_length), logs_overflowed = v_over
	 WHERE j.id = job;
	PERFORM coder.emit('build_logs:' || job, '');
END
$$;
COMMENT ON FUNCTION coder.job_append_logs(uuid, jsonb) IS
	'Appends provisionerd.Log lines to a job within its limit and tells the followers.';

-- Stores what the parser found in an import: variables with their values.
-- Answers the values the plan needs; missing is the list of required ones
-- that have none, or NULL.
CREATE OR REPLACE FUNCTION coder.job_store_variables(version uuid, variables jsonb, given jsonb,
													 OUT used jsonb, OUT missing text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	WITH found AS
	(
		SELECT v.name, coalesce(v.description, '') AS description, coalesce(v.type, '') AS type,
			   coalesce(g.value, v.default_value, '') AS value, coalesce(v.default_value, '') AS default_value,
			   coalesce(v.required, false) AS required, coalesce(v.sensitive, false) AS sensitive
		  FROM jsonb_to_recordset(variables) AS v(name text, description text, type text, default_value text,
												  required boolean, sensitive boolean)
		  LEFT JOIN jsonb_to_recordset(coalesce(given, '[]')) AS g(name text, value text) ON g.name = v.name
	), stored AS
	(
		INSERT INTO coder.template_version_variables AS t
			(template_version_id, name, description, type, value, default_value, required, sensitive)
		SELECT version, f.* FROM found f
		ON CONFLICT ON CONSTRAINT template_version_variables_template_version_id_name_key
		DO UPDATE SET value = excluded.value
	)
	SELECT coalesce(jsonb_agg(jsonb_build_object('name', f.name, 'value', f.value, 'sensitive', f.sensitive)
							  ORDER BY f.name) FILTER (WHERE f.value <> '' OR f.required), '[]'),
		   string_agg(f.name, ', ' ORDER BY f.name) FILTER (WHERE f.required AND f.value = '')
	  INTO used, missing FROM found f;
END
$$;
COMMENT ON FUNCTION coder.job_store_variables(uuid, jsonb, jsonb) IS
	'Stores the variables of an import; the values to plan with, and the required ones without a value.';

-- coder.provisioner_update(daemon, job, update): UpdateJobRequest.  Stores
-- logs, variables, readme and workspace tags, and keeps the reaper away.  With
-- "applying" the daemon says that it will change something outside next.
-- Answers UpdateJobResponse: canceled, variable_values; and "error" when
-- required variables have no value: the daemon then fails the job with that
-- text (an exception would also lose the variables the client must ask for).
CREATE OR REPLACE FUNCTION coder.provisioner_update(daemon uuid, job uuid, update jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_job coder.provisioner_jobs := coder.provisioner_own_job(daemon, job);
	v_version uuid;
	v_used jsonb := '[]';
	v_missing text;
BEGIN
	UPDATE coder.provisioner_jobs j
	   SET updated_at = clock_timestamp(),
		   apply_started_at = CASE WHEN (update->>'applying')::boolean THEN coalesce(j.apply_started_at, clock_timestamp())
								   ELSE j.apply_started_at END
	 WHERE j.id = job;
	PERFORM coder.job_append_logs(job, update->'logs');
	IF v_job.type = 'template_version_import' THEN
		UPDATE coder.template_versions v
		   SET readme = CASE WHEN coalesce(update->>'readme', '') = '' THEN v.readme
							 ELSE left(coder.text_of_hex(update->>'readme'), 1048576) END,
			   updated_at = now()
		 WHERE v.job_id = job RETURNING v.id INTO v_version;
		INSERT INTO coder.template_version_workspace_tags (template_version_id, key, value)
		SELECT v_version, t.key, t.value FROM jsonb_each_text(coalesce(update->'workspace_tags', '{}')) t
		ON CONFLICT ON CONSTRAINT template_version_workspace_tags_template_version_id_key_key
		DO UPDATE SET value = excluded.value;
		IF coalesce(jsonb_array_length(update->'template_variables'), 0) > 0 THEN
			SELECT s.used, s.missing INTO v_used, v_missing
			  FROM coder.job_store_variables(v_version, update->'template_variables',
											 update->'user_variable_values') s;
		END IF;
	END IF;
	RETURN jsonb_build_object('canceled', v_job.canceled_at IS NOT NULL, 'variable_values', v_used)
		|| CASE WHEN update ? 'daily_cost' AND v_job.type = 'workspace_build'
			THEN jsonb_build_object('quota', coder.build_quota(job, (update->>'daily_cost')::bigint)) ELSE '{}' END
		|| CASE WHEN v_missing IS NULL THEN '{}'::jsonb ELSE
			jsonb_build_object('error', 'required template variables need values: ' || v_missing) END;
END
$$;
COMMENT ON FUNCTION coder.provisioner_update(uuid, uuid, jsonb) IS
	'UpdateJobRequest to UpdateJobResponse (with "error" when required variables have no value, and with "quota" as coder.build_quota answers where "daily_cost" was sent); errors: ZC403, ZC409.';

-- Bytes of the wire that are text; what is not UTF-8 counts as empty.
CREATE OR REPLACE FUNCTION coder.text_of_hex(hex text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL UNSAFE	-- a subtransaction
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN convert_from(decode(hex, 'hex'), 'UTF8');
EXCEPTION WHEN data_exception THEN
	RETURN '';
END
$$;
COMMENT ON FUNCTION coder.text_of_hex(text) IS 'UTF-8 text of hex digits; empty where it is not text.';

-- Wire name of a form type to the API's.
CREATE OR REPLACE FUNCTION coder.form_type(wire text)
RETURNS coder.parameter_form_type LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE upper(coalesce(wire, ''))
		WHEN 'DEFAULT' THEN '' WHEN 'FORM_ERROR' THEN 'error' WHEN 'TAGSELECT' THEN 'tag-select'
		WHEN 'MULTISELECT' THEN 'multi-select' ELSE lower(coalesce(wire, '')) END;
END
$$;
COMMENT ON FUNCTION coder.form_type(text) IS 'provisioner.ParameterFormType to the API''s word; errors: 22P02.';

-- Parameters of an import.
CREATE OR REPLACE FUNCTION coder.job_store_parameters(version uuid, parameters jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO coder.template_version_parameters
		(template_version_id, name, description, type, mutable, default_value, icon, options,
		 validation_regex, validation_min, validation_max, validation_error, validation_monotonic,
		 required, display_name, display_order, ephemeral, form_type)
	SELECT version, p.name, coalesce(p.description, ''), coalesce(nullif(p.type, ''), 'string'),
		   coalesce(p.mutable, false), coalesce(p.default_value, ''), coalesce(p.icon, ''),
		   (SELECT coalesce(jsonb_agg(jsonb_build_object('name', coalesce(o.value->>'name', ''),
					'description', coalesce(o.value->>'description', ''),
					'value', coalesce(o.value->>'value', ''),
					'icon', coalesce(o.value->>'icon', '')) ORDER BY o.ordinality), '[]')
			  FROM jsonb_array_elements(coalesce(p.options, '[]')) WITH ORDINALITY o),
		   coalesce(p.validation_regex, ''), p.validation_min, p.validation_max,
		   coalesce(p.validation_error, ''), coalesce(p.validation_monotonic, ''),
		   coalesce(p.required, false), coalesce(p.display_name, ''), coalesce(p."order", 0),
		   coalesce(p.ephemeral, false), coder.form_type(p.form_type)
	  FROM jsonb_to_recordset(coalesce(parameters, '[]')) AS p(name text, description text, type text,
			mutable boolean, default_value text, icon text, options jsonb, validation_regex text,
			validation_min integer, validation_max integer, validation_error text,
			validation_monotonic text, required boolean, display_name text, "order" integer,
			ephemeral boolean, form_type text);
END
$$;
COMMENT ON FUNCTION coder.job_store_parameters(uuid, jsonb) IS 'Stores provisioner.RichParameter rows of a version.';

-- Presets of an import, with their values and schedules.
CREATE OR REPLACE FUNCTION coder.job_store_presets(version uuid, presets jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_preset jsonb;
	v_id uuid;
BEGIN
	FOR v_preset IN SELECT p.value FROM jsonb_array_elements(coalesce(presets, '[]')) p LOOP
		INSERT INTO coder.template_version_presets
			(template_version_id, name, desired_instances, invalidate_after_secs, scheduling_timezone,
			 is_default, description, icon)
		VALUES (version, v_preset->>'name', (v_preset#>>'{prebuild,instances}')::integer,
				coalesce((v_preset#>>'{prebuild,expiration_policy,ttl}')::integer, 0),
				coalesce(v_preset#>>'{prebuild,scheduling,timezone}', ''),
				coalesce((v_preset->>'default')::boolean, false),
				left(coalesce(v_preset->>'description', ''), 128), left(coalesce(v_preset->>'icon', ''), 256))
		RETURNING id INTO v_id;
		INSERT INTO coder.template_version_preset_parameters (template_version_preset_id, name, value)
		SELECT v_id, v.name, coalesce(v.value, '')
		  FROM jsonb_to_recordset(coalesce(v_preset->'parameters', '[]')) AS v(name text, value text);
		INSERT INTO coder.template_version_preset_prebuild_schedules (preset_id, cron_expression, desired_instances)
		SELECT v_id, s.cron, coalesce(s.instances, 0)
		  FROM jsonb_to_recordset(coalesce(v_preset#>'{prebuild,scheduling,schedule}', '[]'))
			AS s(cron text, instances integer);
	END LOOP;
END
$$;
COMMENT ON FUNCTION coder.job_store_presets(uuid, jsonb) IS 'Stores provisioner.Preset rows of a version.';

-- Time spans of a job; spans without an end are left out.
CREATE OR REPLACE FUNCTION coder.job_store_timings(job uuid, timings jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO coder.provisioner_job_timings (job_id, started_at, ended_at, stage, source, action, resource)
	SELECT job, t.start, t."end", lower(t.stage)::coder.provisioner_job_timing_stage,
		   coalesce(t.source, ''), coalesce(t.action, ''), coalesce(t.resource, '')
	  FROM jsonb_to_recordset(coalesce(timings, '[]')) AS t(start timestamptz, "end" timestamptz,
			action text, source text, resource text, stage text)
	 WHERE t.start IS NOT NULL AND t."end" IS NOT NULL
	   AND lower(t.stage) IN ('init', 'plan', 'graph', 'apply');
END
$$;
COMMENT ON FUNCTION coder.job_store_timings(uuid, jsonb) IS 'Stores provisioner.Timing rows of a job.';

-- Module archive of an import, kept once by content under the nil creator.
CREATE OR REPLACE FUNCTION coder.job_store_modules_file(archive bytea)
RETURNS uuid LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c_nil CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
	v_id uuid;
BEGIN
	IF octet_length(archive) = 0 THEN
		RETURN NULL;
	END IF;
	INSERT INTO coder.files (hash, created_by, mimetype, data)
	VALUES (encode(sha256(archive), 'hex'), c_nil, 'application/x-tar', archive)
	ON CONFLICT ON CONSTRAINT files_hash_created_by_key DO NOTHING;
	SELECT f.id INTO v_id FROM coder.files f
	 WHERE f.hash = encode(sha256(archive), 'hex') AND f.created_by = c_nil;
	RETURN v_id;
END
$$;
COMMENT ON FUNCTION coder.job_store_modules_file(bytea) IS 'Stores a module archive; answers its file, NULL for none.';

-- What an import found.  Answers why the version cannot be used all the same,
-- or NULL: it names a provider of external authentication, and none can be
-- configured yet.
CREATE OR REPLACE FUNCTION coder.job_complete_import(j coder.provisioner_jobs, result jsonb)
RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_version uuid;
BEGIN
	UPDATE coder.template_versions v
	   SET updated_at = now(), has_ai_task = coalesce((result->>'has_ai_tasks')::boolean, false),
		   has_external_agent = coalesce((result->>'has_external_agents')::boolean, false),
		   external_auth_providers = coalesce(
				(SELECT jsonb_agg(jsonb_build_object('id', p.id, 'optional', coalesce(p.optional, false)))
				   FROM jsonb_to_recordset(result->'external_auth_providers') AS p(id text, optional boolean)), '[]')
	 WHERE v.job_id = j.id RETURNING v.id INTO STRICT v_version;
	PERFORM coder.store_resources(j.id, 'start', coalesce(result->'start_resources', '[]'));
	PERFORM coder.store_resources(j.id, 'stop', coalesce(result->'stop_resources', '[]'));
	PERFORM coder.build_store_modules(j.id, 'start', result->'start_modules');
	PERFORM coder.job_store_parameters(v_version, result->'rich_parameters');
	PERFORM coder.job_store_presets(v_version, result->'presets');
	INSERT INTO coder.template_version_terraform_values
		(template_version_id, cached_plan, cached_module_files, provisionerd_version)
	VALUES (v_version, coalesce(nullif(coder.text_of_hex(result->>'plan'), ''), '{}')::jsonb,
			coder.job_store_modules_file(decode(coalesce(result->>'module_files', ''), 'hex')), '1.16');
	RETURN (SELECT format('external auth provider "%s" is not configured', p.value->>'id')
			  FROM jsonb_array_elements(result->'external_auth_providers') p
			 WHERE coder.external_auth_config(p.value->>'id') IS NULL LIMIT 1);
END
$$;
COMMENT ON FUNCTION coder.job_complete_import(coder.provisioner_jobs, jsonb) IS
	'Stores CompletedJob.TemplateImport; why the version cannot be used, or NULL.';

-- coder.provisioner_complete(daemon, job, completed): CompletedJob.  Stores
-- what the job made and ends it; all or nothing.
CREATE OR REPLACE FUNCTION coder.provisioner_complete(daemon uuid, job uuid, completed jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_job coder.provisioner_jobs := coder.provisioner_own_job(daemon, job);
	v_kind text := CASE v_job.type WHEN 'template_version_import' THEN 'template_import'
					WHEN 'template_version_dry_run' THEN 'template_dry_run' ELSE 'workspace_build' END;
	v_result jsonb := completed->v_kind;
	v_error text;
BEGIN
	IF v_result IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = format('a completed job of this type needs %s', v_kind);
	END IF;
	CASE v_kind
		WHEN 'template_import' THEN
			v_error := coder.job_complete_import(v_job, v_result);
		WHEN 'template_dry_run' THEN
			PERFORM coder.store_resources(job, 'start', coalesce(v_result->'resources', '[]'));
		ELSE
			PERFORM coder.job_store_timings(job, v_result->'timings');
			PERFORM coder.build_job_completed(job, v_result);
	END CASE;
	UPDATE coder.provisioner_jobs j
	   SET completed_at = clock_timestamp(), updated_at = clock_timestamp(), error = v_error
	 WHERE j.id = job;
END
$$;
COMMENT ON FUNCTION coder.provisioner_complete(uuid, uuid, jsonb) IS
	'CompletedJob: stores the result and ends the job; errors: ZC400, ZC403, ZC409.';

-- coder.provisioner_fail(daemon, job, failed): FailedJob.
CREATE OR REPLACE FUNCTION coder.provisioner_fail(daemon uuid, job uuid, failed jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_job coder.provisioner_jobs := coder.provisioner_own_job(daemon, job);
	v_error text := coalesce(nullif(failed->>'error', ''), 'the provisioner gave no reason');
	v_code text := coalesce(failed->>'error_code', '');
	v_missing text;
BEGIN
	IF v_job.type = 'template_version_import' AND v_code = '' THEN
		SELECT string_agg(x.name, ', ' ORDER BY x.name) INTO v_missing
		  FROM coder.template_versions v
		  JOIN coder.template_version_variables x ON x.template_version_id = v.id
		 WHERE v.job_id = job AND x.required AND x.value = '';
		IF v_missing IS NOT NULL THEN
			v_code := 'REQUIRED_TEMPLATE_VARIABLES';
			IF position('required template variables' IN v_error) = 0 THEN
				v_error := format('required template variables need values: %s (%s)', v_missing, v_error);
			END IF;
		END IF;
	END IF;
	IF v_job.type = 'workspace_build' THEN
		PERFORM coder.job_store_timings(job, failed#>'{workspace_build,timings}');
		IF coalesce(failed#>>'{workspace_build,state}', '') <> '' THEN
			UPDATE coder.workspace_builds b
			   SET provisioner_state = decode(failed#>>'{workspace_build,state}', 'hex')
			 WHERE b.job_id = job;
		END IF;
	END IF;
	UPDATE coder.provisioner_jobs j
	   SET completed_at = clock_timestamp(), updated_at = clock_timestamp(), error = v_error,
		   error_code = nullif(v_code, '')
	 WHERE j.id = job;
END
$$;
COMMENT ON FUNCTION coder.provisioner_fail(uuid, uuid, jsonb) IS
	'FailedJob: ends the job with its error; a state that was sent is kept; errors: ZC403, ZC409.';

-- coder.job_put_back(job, now): a running job whose daemon died goes back in
-- the queue, at its old place, and says so in its log.  False where it may not:
-- it was canceled, it may have changed something outside already, or it was put
-- back twice, so that a job that kills its daemon ends.
CREATE OR REPLACE FUNCTION coder.job_put_back(j coder.provisioner_jobs, at timestamptz)
RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c_attempts CONSTANT integer := 3;
	v_stage text := coalesce((SELECT l.stage FROM coder.provisioner_job_logs l WHERE l.job_id = j.id
							   ORDER BY l.id DESC LIMIT 1), 'Setting up');
BEGIN
	IF j.canceled_at IS NOT NULL OR j.apply_started_at IS NOT NULL OR j.attempts + 1 >= c_attempts THEN
		RETURN false;
	END IF;
	PERFORM coder.job_append_logs(j.id, jsonb_build_array(jsonb_build_object(
		'source', 'provisioner_daemon', 'level', 'warn', 'stage', v_stage,
		'created_at', extract(epoch FROM at) * 1000,
		'output', format('The provisioner ended before anything was changed; the job is back in the queue (attempt %s of %s).',
						 j.attempts + 2, c_attempts))));
	UPDATE coder.provisioner_jobs p
	   SET started_at = NULL, worker_id = NULL, updated_at = at, attempts = p.attempts + 1
	 WHERE p.id = j.id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION coder.job_put_back(coder.provisioner_jobs, timestamptz) IS
	'Puts a running job back in the queue; false where it may not be done again.';

-- coder.provisioner_put_back(daemon, job): a daemon found a job that it, or one
-- of its name before it, was working on when it died.  False: it must fail it.
CREATE OR REPLACE FUNCTION coder.provisioner_put_back(daemon uuid, job uuid)
RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.job_put_back(coder.provisioner_own_job(daemon, job), clock_timestamp());
END
$$;
COMMENT ON FUNCTION coder.provisioner_put_back(uuid, uuid) IS
	'Puts a job back in the queue that a daemon left when it died; false: it may not; errors: ZC403, ZC409.';

-- coder.put_back_jobs(now): jobs whose daemon has not been heard of for a
-- minute (it tells of itself every 10 seconds) and that may be done again.
-- The others wait for the reaper.  After a start of PostgreSQL the daemons have
-- that minute to come back.  Answers how many.
CREATE OR REPLACE FUNCTION coder.put_back_jobs(at timestamptz)
RETURNS integer LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c_silence CONSTANT interval := '1 minute';
	v_job coder.provisioner_jobs;
	v_count integer := 0;
BEGIN
	FOR v_job IN
		SELECT j.* FROM coder.provisioner_jobs j
		 WHERE j.completed_at IS NULL AND j.updated_at < at - c_silence
		   AND j.started_at IS NOT NULL AND j.canceled_at IS NULL AND j.apply_started_at IS NULL
		   AND NOT EXISTS (SELECT FROM coder.provisioner_daemons d
							WHERE d.id = j.worker_id AND d.last_seen_at >= at - c_silence)
		   AND pg_postmaster_start_time() < at - c_silence
		 LIMIT 10 FOR UPDATE OF j SKIP LOCKED
	LOOP
		v_count := v_count + coder.job_put_back(v_job, at)::integer;
	END LOOP;
	RETURN v_count;
END
$$;
COMMENT ON FUNCTION coder.put_back_jobs(timestamptz) IS
	'Puts jobs of silent daemons back in the queue; how many.';

-- coder.reap_jobs(now): ends what nobody works on any more: running without a
-- word for 5 minutes, or pending for 30.  Answers how many were ended.
CREATE OR REPLACE FUNCTION coder.reap_jobs(at timestamptz)
RETURNS integer LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_job coder.provisioner_jobs;
	v_word text;
	v_count integer := 0;
BEGIN
	FOR v_job IN
		SELECT * FROM coder.provisioner_jobs j
		 WHERE j.completed_at IS NULL
		   AND j.updated_at < at - CASE WHEN j.started_at IS NULL THEN interval '30 minutes'
										ELSE interval '5 minutes' END
		 LIMIT 10 FOR UPDATE SKIP LOCKED
	LOOP
		v_word := CASE WHEN v_job.started_at IS NULL THEN 'pending for 30 minutes' ELSE 'hung for 5 minutes' END;
		PERFORM coder.reap_job(v_job, at, v_word);
		v_count := v_count + 1;
	END LOOP;
	RETURN v_count;
END
$$;
COMMENT ON FUNCTION coder.reap_jobs(timestamptz) IS
	'Ends hung (5 minutes) and forgotten (30 minutes) jobs; how many.';

-- One job of coder.reap_jobs.
CREATE OR REPLACE FUNCTION coder.reap_job(j coder.provisioner_jobs, at timestamptz, word text)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_stage text := coalesce((SELECT l.stage FROM coder.provisioner_job_logs l WHERE l.job_id = j.id
							   ORDER BY l.id DESC LIMIT 1), 'Unknown');
	v_build record;
BEGIN
	INSERT INTO coder.provisioner_job_logs (job_id, created_at, source, level, stage, output)
	SELECT j.id, at, 'provisioner_daemon', 'error', v_stage, line.text
	  FROM unnest(ARRAY['', repeat('=', 20),
						'Coder: Build has been detected as ' || word || ' and will be terminated.',
						repeat('=', 20), '']) WITH ORDINALITY AS line(text, n)
	 ORDER BY line.n;
	IF j.type = 'workspace_build' THEN
		SELECT b.id, b.workspace_id, b.build_number INTO v_build
		  FROM coder.workspace_builds b
		 WHERE b.job_id = j.id AND coalesce(octet_length(b.provisioner_state), 0) = 0;
		IF FOUND THEN
			UPDATE coder.workspace_builds b
			   SET provisioner_state = (SELECT p.provisioner_state FROM coder.workspace_builds p
										 WHERE p.workspace_id = v_build.workspace_id
										   AND p.build_number = v_build.build_number - 1)
			 WHERE b.id = v_build.id;
		END IF;
	END IF;
	UPDATE coder.provisioner_jobs p
	   SET started_at = coalesce(p.started_at, at), completed_at = at, updated_at = at,
		   error = 'Coder: Build has been detected as ' || word || ' and has been terminated by the reaper.'
	 WHERE p.id = j.id;
END
$$;
COMMENT ON FUNCTION coder.reap_job(coder.provisioner_jobs, timestamptz, text) IS
	'Ends one job for the reaper, with five lines of log.';

DELETE FROM coder.routes WHERE area = 'job';
INSERT INTO coder.routes (area, method, pattern, function, read_only) VALUES
	('job', 'GET', '/api/v2/organizations/{organization}/provisionerdaemons/serve', 'not_built', true);
