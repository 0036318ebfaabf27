-- sql/api/chatconfig.sql -- who may configure chats; prompts, settings of the site and of users
--
-- Tables: sql/schema/chat.sql, whose triggers tell runners of each change.

-- ZC403 where the experiment is off; the first line of every handler of chats.
CREATE OR REPLACE FUNCTION coder.chat_gate()
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT coder.experiment('agents') THEN
		PERFORM coder.raise(403, 'Agents functionality requires enabling the ''agents'' experiment.');
	END IF;
END
$$;

-- The same for those that only administrators may call: ZC403 for others.
CREATE OR REPLACE FUNCTION coder.chat_admin(action text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.chat_gate();
	PERFORM coder.require(action, 'deployment_config');
END
$$;

-- A prompt without what nobody sees: zero-width and bidirectional controls, CR, more than two line feeds in a row.
CREATE OR REPLACE FUNCTION coder.chat_clean_prompt(prompt text)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN trim(E' \t\n' FROM regexp_replace(regexp_replace(replace(replace(coalesce(prompt, ''), E'\r\n', E'\n'), E'\r', E'\n'),
		'[\u200B-\u200F\u202A-\u202E\u2060-\u2069\uFEFF\u00AD]', '', 'g'), '\n{3,}', E'\n\n', 'g'));
END
$$;

-- What chats are told first unless an administrator wants otherwise.
CREATE OR REPLACE FUNCTION coder.chat_default_prompt()
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN 'You are a software engineer at work in a development environment of this server. People give you tasks; you carry them out with your tools and report what you did.

How to work:
- Look before you change: read the files that matter, and the instructions that the repository keeps for those who work on it.
- Make the smallest change that does the whole task, in the style of the code around it. Leave what you were not asked about alone, and say so where it seems wrong.
- Run what you wrote: its tests, its build, the program itself. Say plainly what you ran and what came of it. Never claim what you have not seen.
- A command that fails is information: read its output, find the cause, and only then try again.
- Ask when the task can be understood in two ways that differ in effect. Otherwise choose, go on, and say what you chose.
- Do nothing that cannot be undone, and nothing outside the task, without being asked: no force pushes, no deletions of others'' work, no secrets in files or output.

How to write: short sentences, no filler. Give paths, commands and results as they are. End with what was done, what was checked, and what is left.';
END
$$;

-- Is the default prompt told?  Where it was never stored: unless there is one of the administrator's.
CREATE OR REPLACE FUNCTION coder.chat_default_prompt_on()
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(coder.site_config('agents_chat_include_default_system_prompt')::bool, coder.site_config('agents_chat_system_prompt', '') = '');
END
$$;

-- GET and PUT /chats/config/system-prompt
CREATE OR REPLACE FUNCTION coder.chat_config_system_prompt(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb;
	prompt text;
BEGIN
	PERFORM coder.chat_gate();
	IF req.method = 'GET' THEN
		PERFORM coder.require_read('update', 'deployment_config');
		RETURN coder.reply(200, jsonb_build_object('system_prompt', coder.site_config('agents_chat_system_prompt', ''),
			'include_default_system_prompt', coder.chat_default_prompt_on(), 'default_system_prompt', coder.chat_default_prompt()));
	END IF;
	PERFORM coder.require('update', 'deployment_config');
	body := coder.body(req);
	PERFORM coder.body_type(body, 'system_prompt', 'string'), coder.body_type(body, 'include_default_system_prompt', 'boolean');
	prompt := coder.chat_clean_prompt(body->>'system_prompt');
	IF octet_length(prompt) > 131072 THEN
		PERFORM coder.raise(400, 'System prompt exceeds maximum length.', format('Maximum length is 131072 bytes, got %s.', octet_length(prompt)));
	END IF;
	PERFORM coder.site_config_set('agents_chat_system_prompt', prompt);
	IF body->>'include_default_system_prompt' IS NOT NULL THEN
		PERFORM coder.site_config_set('agents_chat_include_default_system_prompt', body->>'include_default_system_prompt');
	END IF;
	RETURN coder.reply(204);
END
$$;

-- GET and PUT /chats/config/user-prompt
CREATE OR REPLACE FUNCTION coder.chat_config_user_prompt(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb;
	prompt text;
BEGIN
	PERFORM coder.chat_gate();
	IF req.method = 'GET' THEN
		RETURN coder.reply(200, jsonb_build_object('custom_prompt', coalesce((SELECT c.value FROM coder.user_configs c
			WHERE c.user_id = coder.subject_id() AND c.key = 'chat_custom_prompt'), '')));
	END IF;
	body := coder.body(req);
	PERFORM coder.body_type(body, 'custom_prompt', 'string');
	prompt := coder.chat_clean_prompt(body->>'custom_prompt');
	IF octet_length(prompt) > 131072 THEN
		PERFORM coder.raise(400, 'Custom prompt exceeds maximum length.', format('Maximum length is 131072 bytes, got %s.', octet_length(prompt)));
	END IF;
	INSERT INTO coder.user_configs (user_id, key, value) VALUES (coder.subject_id(), 'chat_custom_prompt', prompt)
	ON CONFLICT (user_id, key) DO UPDATE SET value = excluded.value;
	RETURN coder.reply(200, jsonb_build_object('custom_prompt', prompt));
END
$$;

-- GET and PUT of a setting of the site that is one JSON member: desktop-enabled, workspace-ttl, retention-days,
-- template-allowlist.
CREATE OR REPLACE FUNCTION coder.chat_config_site(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	what CONSTANT text := regexp_replace(req.path, '^.*/', '');
	body jsonb;
	n numeric;
	ids uuid[];
	missing text;
BEGIN
	PERFORM coder.chat_gate();
	IF what = 'template-allowlist' THEN
		PERFORM coder.require_read(CASE req.method WHEN 'GET' THEN 'read' ELSE 'update' END, 'deployment_config');
	ELSIF req.method <> 'GET' THEN
		PERFORM coder.require('update', 'deployment_config');
	END IF;
	IF req.method = 'GET' THEN
		RETURN coder.reply(200, CASE what
			WHEN 'desktop-enabled' THEN jsonb_build_object('enable_desktop', coder.site_config('agents_desktop_enabled', 'false')::bool)
			WHEN 'workspace-ttl' THEN jsonb_build_object('workspace_ttl_ms', coder.chat_workspace_ttl_ms())
			WHEN 'retention-days' THEN jsonb_build_object('retention_days', coder.site_config('agents_chat_retention_days', '30')::int4)
			ELSE jsonb_build_object('template_ids', coder.site_config('agents_template_allowlist', '[]')::jsonb) END);
	END IF;
	body := coder.body(req);
	IF what = 'desktop-enabled' THEN
		PERFORM coder.body_type(body, 'enable_desktop', 'boolean');
		PERFORM coder.site_config_set('agents_desktop_enabled', coalesce(body->>'enable_desktop', 'false'));
	ELSIF what = 'workspace-ttl' THEN
		PERFORM coder.body_type(body, 'workspace_ttl_ms', 'number');
		n := coalesce((body->>'workspace_ttl_ms')::numeric, 0);
		IF n < 0 THEN
			PERFORM coder.raise(400, 'Workspace TTL must be non-negative.');
		ELSIF n > 0 AND n < 60000 THEN
			PERFORM coder.raise(400, 'Workspace TTL must not be less than 1 minute.');
		ELSIF n > 2592000000 THEN
			PERFORM coder.raise(400, 'Workspace TTL must not exceed 30 days.');
		END IF;
		PERFORM coder.site_config_set('agents_workspace_ttl', coder.go_duration(floor(n / 1000)::bigint));
	ELSIF what = 'retention-days' THEN
		PERFORM coder.body_type(body, 'retention_days', 'number');
		n := coalesce((body->>'retention_days')::numeric, 0);
		IF n <> trunc(n) OR n NOT BETWEEN 0 AND 3650 THEN
			PERFORM coder.raise(400, 'Retention days must be between 0 and 3650.');
		END IF;
		PERFORM coder.site_config_set('agents_chat_retention_days', n::int4::text);
	ELSE
		PERFORM coder.body_type(body, 'template_ids', 'array');
		ids := ARRAY(SELECT DISTINCT coder.try_uuid(v) FROM jsonb_array_elements_text(coalesce(nullif(body->'template_ids', 'null'), '[]')) v);
		IF array_position(ids, NULL) IS NOT NULL THEN
			PERFORM coder.raise(400, 'Invalid template ID in allowlist.');
		END IF;
		SELECT string_agg(i::text, ', ' ORDER BY i) INTO missing FROM unnest(ids) i
		 WHERE NOT EXISTS (SELECT FROM coder.templates t WHERE t.id = i AND NOT t.deleted AND t.deprecated = '');
		IF missing IS NOT NULL THEN
			PERFORM coder.raise(400, 'One or more templates not found or deprecated.', format('templates not found or deprecated: %s', missing));
		END IF;
		PERFORM coder.site_config_set('agents_template_allowlist', to_jsonb(ids)::text);
	END IF;
	RETURN coder.reply(204);
END
$$;

-- How long a workspace that a chat made lives after its last use, in milliseconds; 0: as its template says.
CREATE OR REPLACE FUNCTION coder.chat_workspace_ttl_ms()
RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT sum(p[1]::numeric * CASE p[2] WHEN 'h' THEN 3600000 WHEN 'm' THEN 60000 ELSE 1000 END)::bigint
		FROM regexp_matches(coder.site_config('agents_workspace_ttl', '0s'), '([0-9]+)(h|m|s)', 'g') p), 0);
END
$$;

-- GET /chats/config/user-compaction-thresholds; PUT and DELETE of one model's
CREATE OR REPLACE FUNCTION coder.chat_config_thresholds(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	prefix CONSTANT text := 'chat_compaction_threshold_pct:';
	m coder.chat_model_configs;
	body jsonb;
	percent numeric;
BEGIN
	PERFORM coder.chat_gate();
	IF req.method = 'GET' THEN
		RETURN coder.reply(200, jsonb_build_object('thresholds', coalesce((SELECT jsonb_agg(jsonb_build_object(
				'model_config_id', substr(c.key, length(prefix) + 1), 'threshold_percent', c.value::int4) ORDER BY c.key)
			FROM coder.user_configs c WHERE c.user_id = coder.subject_id() AND starts_with(c.key, prefix)), '[]')));
	ELSIF req.method = 'DELETE' THEN
		IF coder.try_uuid(req.params->>'modelConfig') IS NULL THEN
			PERFORM coder.raise(400, 'Invalid chat model config ID.');
		END IF;
		DELETE FROM coder.user_configs c WHERE c.user_id = coder.subject_id() AND c.key = prefix || coder.try_uuid(req.params->>'modelConfig');
		RETURN coder.reply(204);
	END IF;
	m := coder.param_chat_model(req);
	body := coder.body(req);
	PERFORM coder.body_type(body, 'threshold_percent', 'number');
	percent := coalesce((body->>'threshold_percent')::numeric, -1);
	IF percent <> trunc(percent) OR percent NOT BETWEEN 0 AND 100 THEN
		PERFORM coder.raise(400, 'threshold_percent is out of range.', 'It must be between 0 and 100.');
	ELSIF NOT m.enabled THEN
		PERFORM coder.raise(400, 'Model config is disabled.');
	END IF;
	INSERT INTO coder.user_configs (user_id, key, value) VALUES (coder.subject_id(), prefix || m.id, percent::int4::text)
	ON CONFLICT (user_id, key) DO UPDATE SET value = excluded.value;
	RETURN coder.reply(200, jsonb_build_object('model_config_id', m.id, 'threshold_percent', percent::int4));
END
$$;

DELETE FROM coder.routes WHERE area = 'chatconfig';
INSERT INTO coder.routes (area, method, pattern, function, auth, raw_body, max_body, rate, read_only)
SELECT 'chatconfig', r.method, '/api/experimental/chats' || r.path, r.function, 'session', r.raw, coalesce(r.max_body, 10485760), r.rate, r.method = 'GET'
  FROM (VALUES
	('GET', '/config/system-prompt', 'chat_config_system_prompt', false, NULL, 'api'),
	('PUT', '/config/system-prompt', 'chat_config_system_prompt', false, NULL, 'api'),
	('GET', '/config/user-prompt', 'chat_config_user_prompt', false, NULL, 'api'),
	('PUT', '/config/user-prompt', 'chat_config_user_prompt', false, NULL, 'api'),
	('GET', '/config/desktop-enabled', 'chat_config_site', false, NULL, 'api'),
	('PUT', '/config/desktop-enabled', 'chat_config_site', false, NULL, 'api'),
	('GET', '/config/workspace-ttl', 'chat_config_site', false, NULL, 'api'),
	('PUT', '/config/workspace-ttl', 'chat_config_site', false, NULL, 'api'),
	('GET', '/config/retention-days', 'chat_config_site', false, NULL, 'api'),
	('PUT', '/config/retention-days', 'chat_config_site', false, NULL, 'api'),
	('GET', '/config/template-allowlist', 'chat_config_site', false, NULL, 'api'),
	('PUT', '/config/template-allowlist', 'chat_config_site', false, NULL, 'api'),
	('GET', '/config/user-compaction-thresholds', 'chat_config_thresholds', false, NULL, 'api'),
	('PUT', '/config/user-compaction-thresholds/{modelConfig}', 'chat_config_thresholds', false, NULL, 'api'),
	('DELETE', '/config/user-compaction-thresholds/{modelConfig}', 'chat_config_thresholds', false, NULL, 'api'),
	('GET', '/providers', 'chat_providers_list', false, NULL, 'api'),
	('POST', '/providers', 'chat_provider_create', false, NULL, 'api'),
	('PATCH', '/providers/{providerConfig}', 'chat_provider_patch', false, NULL, 'api'),
	('DELETE', '/providers/{providerConfig}', 'chat_provider_delete', false, NULL, 'api'),
	('GET', '/models', 'chat_catalogue', false, NULL, 'api'),
	('GET', '/model-configs', 'chat_models_list', false, NULL, 'api'),
	('POST', '/model-configs', 'chat_model_create', false, NULL, 'api'),
	('PATCH', '/model-configs/{modelConfig}', 'chat_model_patch', false, NULL, 'api'),
	('DELETE', '/model-configs/{modelConfig}', 'chat_model_delete', false, NULL, 'api'),
	('GET', '/user-provider-configs', 'chat_user_providers_list', false, NULL, 'api'),
	('PUT', '/user-provider-configs/{providerConfig}', 'chat_user_key', false, NULL, 'api'),
	('DELETE', '/user-provider-configs/{providerConfig}', 'chat_user_key', false, NULL, 'api'),
	('GET', '/usage-limits', 'chat_limits_get', false, NULL, 'api'),
	('PUT', '/usage-limits', 'chat_limits_put', false, NULL, 'api'),
	('GET', '/usage-limits/status', 'chat_limits_status', false, NULL, 'api'),
	('PUT', '/usage-limits/overrides/{user}', 'chat_limit_override', false, NULL, 'api'),
	('DELETE', '/usage-limits/overrides/{user}', 'chat_limit_override', false, NULL, 'api'),
	('PUT', '/usage-limits/group-overrides/{group}', 'chat_limit_override', false, NULL, 'api'),
	('DELETE', '/usage-limits/group-overrides/{group}', 'chat_limit_override', false, NULL, 'api'),
	-- More than a file may have, so that what is too large is told as such.
	('POST', '/files', 'chat_file_create', true, 11534336, 'files'),
	('GET', '/files/{file}', 'chat_file_get', false, NULL, 'api')
  ) AS r (method, path, function, raw, max_body, rate);
