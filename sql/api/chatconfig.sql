-- sql/api/chatconfig.sql -- what chats are configured by: providers, models, keys, prompts, limits, files, MCP servers
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

-- The names of providers as people know them, in the order of the API.
CREATE OR REPLACE FUNCTION coder.chat_provider_names()
RETURNS TABLE (provider text, display_name text, n bigint) LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT * FROM unnest(
		'{anthropic,azure,bedrock,google,openai,openai-compat,openrouter,vercel}'::text[],
		'{Anthropic,Azure OpenAI,AWS Bedrock,Google,OpenAI,OpenAI Compatible,OpenRouter,Vercel AI Gateway}'::text[]) WITH ORDINALITY;
END
$$;

-- ChatProviderConfig; without its key
CREATE OR REPLACE FUNCTION coder.chat_provider_json(p coder.chat_providers)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_strip_nulls(jsonb_build_object('id', p.id, 'provider', p.provider, 'display_name', coalesce(nullif(p.display_name, ''),
			(SELECT n.display_name FROM coder.chat_provider_names() n WHERE n.provider = p.provider)),
		'enabled', p.enabled, 'has_api_key', p.api_key <> '', 'central_api_key_enabled', p.central_api_key_enabled,
		'allow_user_api_key', p.allow_user_api_key, 'allow_central_api_key_fallback', p.allow_central_api_key_fallback,
		'base_url', nullif(p.base_url, ''), 'source', 'database', 'created_at', coder.ts(p.created_at), 'updated_at', coder.ts(p.updated_at)));
END
$$;

-- GET /chats/providers: all that are supported, those without a row as such.
CREATE OR REPLACE FUNCTION coder.chat_providers_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.chat_admin('read');
	RETURN coder.reply(200, (SELECT jsonb_agg(CASE WHEN p.id IS NOT NULL THEN coder.chat_provider_json(p)
			ELSE jsonb_build_object('id', '00000000-0000-0000-0000-000000000000', 'provider', n.provider, 'display_name', n.display_name,
				'enabled', false, 'has_api_key', false, 'central_api_key_enabled', true, 'allow_user_api_key', false,
				'allow_central_api_key_fallback', false, 'source', 'supported', 'created_at', coder.ts0(NULL), 'updated_at', coder.ts0(NULL)) END
			ORDER BY n.n)
		FROM coder.chat_provider_names() n LEFT JOIN coder.chat_providers p ON p.provider = n.provider));
END
$$;

-- A provider's row changed by a body, checked; ZC400.  Absent members stay.
CREATE OR REPLACE FUNCTION coder.chat_provider_apply(p coder.chat_providers, body jsonb)
RETURNS coder.chat_providers LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	field text;
BEGIN
	FOREACH field IN ARRAY '{display_name,api_key,base_url}'::text[] LOOP
		PERFORM coder.body_type(body, field, 'string');
	END LOOP;
	FOREACH field IN ARRAY '{enabled,central_api_key_enabled,allow_user_api_key,allow_central_api_key_fallback}'::text[] LOOP
		PERFORM coder.body_type(body, field, 'boolean');
	END LOOP;
	p.display_name := coalesce(trim(body->>'display_name'), p.display_name);
	p.api_key := coalesce(trim(body->>'api_key'), p.api_key);
	p.base_url := coalesce(trim(body->>'base_url'), p.base_url);
	p.enabled := coalesce((body->>'enabled')::bool, p.enabled);
	p.central_api_key_enabled := coalesce((body->>'central_api_key_enabled')::bool, p.central_api_key_enabled);
	p.allow_user_api_key := coalesce((body->>'allow_user_api_key')::bool, p.allow_user_api_key);
	p.allow_central_api_key_fallback := coalesce((body->>'allow_central_api_key_fallback')::bool, p.allow_central_api_key_fallback);
	IF octet_length(p.api_key) > 10240 THEN
		PERFORM coder.raise(400, 'API key too large.', 'API key must be at most 10240 bytes.');
	ELSIF p.base_url <> '' AND p.base_url !~* '^https?://[^/?#[:space:]]+[^[:space:]]*$' THEN
		PERFORM coder.raise(400, 'Invalid provider base URL.', 'Base URL must be an absolute URL with scheme and host.');
	ELSIF NOT (p.central_api_key_enabled OR p.allow_user_api_key)
		OR (p.allow_central_api_key_fallback AND NOT (p.central_api_key_enabled AND p.allow_user_api_key)) THEN
		PERFORM coder.raise(400, 'Invalid credential policy.', 'Central or user API keys must be enabled, and a fallback needs both.');
	ELSIF p.central_api_key_enabled AND p.api_key = '' THEN
		PERFORM coder.raise(400, 'API key is required when central API key is enabled.');
	END IF;
	RETURN p;
END
$$;

-- POST /chats/providers
CREATE OR REPLACE FUNCTION coder.chat_provider_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb;
	p coder.chat_providers;
BEGIN
	PERFORM coder.chat_admin('update');
	body := coder.body(req);
	p.provider := lower(trim(coalesce(body->>'provider', '')));
	IF NOT EXISTS (SELECT FROM coder.chat_provider_names() n WHERE n.provider = p.provider) THEN
		PERFORM coder.raise(400, 'Invalid provider.',
			format('Provider must be one of: %s.', (SELECT string_agg(n.provider, ', ' ORDER BY n.n) FROM coder.chat_provider_names() n)));
	END IF;
	p.display_name := '';
	p.api_key := '';
	p.base_url := '';
	p.enabled := true;
	p.central_api_key_enabled := true;
	p.allow_user_api_key := false;
	p.allow_central_api_key_fallback := false;
	p := coder.chat_provider_apply(p, body);
	INSERT INTO coder.chat_providers (provider, display_name, api_key, base_url, enabled, central_api_key_enabled, allow_user_api_key,
		allow_central_api_key_fallback, created_by)
	VALUES (p.provider, p.display_name, p.api_key, p.base_url, p.enabled, p.central_api_key_enabled, p.allow_user_api_key,
		p.allow_central_api_key_fallback, coder.subject_id())
	RETURNING * INTO p;
	RETURN coder.reply(201, coder.chat_provider_json(p));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, 'Chat provider already exists.', sqlerrm);
END
$$;

-- {providerConfig}: ZC400, ZC404.
CREATE OR REPLACE FUNCTION coder.param_chat_provider(req coder.request)
RETURNS coder.chat_providers LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted CONSTANT uuid := coder.try_uuid(req.params->>'providerConfig');
	p coder.chat_providers;
BEGIN
	IF wanted IS NULL THEN
		PERFORM coder.raise(400, 'Invalid chat provider ID.');
	END IF;
	SELECT x.* INTO p FROM coder.chat_providers x WHERE x.id = wanted;
	IF p.id IS NULL THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN p;
END
$$;

-- PATCH /chats/providers/{providerConfig}
CREATE OR REPLACE FUNCTION coder.chat_provider_patch(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p coder.chat_providers;
BEGIN
	PERFORM coder.chat_admin('update');
	p := coder.chat_provider_apply(coder.param_chat_provider(req), coder.body(req));
	UPDATE coder.chat_providers x SET display_name = p.display_name, api_key = p.api_key, base_url = p.base_url, enabled = p.enabled,
		central_api_key_enabled = p.central_api_key_enabled, allow_user_api_key = p.allow_user_api_key,
		allow_central_api_key_fallback = p.allow_central_api_key_fallback, updated_at = now()
	 WHERE x.id = p.id RETURNING x.* INTO p;
	RETURN coder.reply(200, coder.chat_provider_json(p));
END
$$;

-- DELETE /chats/providers/{providerConfig}
CREATE OR REPLACE FUNCTION coder.chat_provider_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.chat_admin('update');
	DELETE FROM coder.chat_providers x WHERE x.id = (coder.param_chat_provider(req)).id;
	RETURN coder.reply(204);
EXCEPTION WHEN foreign_key_violation THEN
	PERFORM coder.raise(400, 'Provider models are still referenced by existing chats.', sqlerrm);
END
$$;

-- ChatModelConfig
CREATE OR REPLACE FUNCTION coder.chat_model_json(m coder.chat_model_configs)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('id', m.id, 'provider', m.provider, 'model', m.model, 'display_name', m.display_name, 'enabled', m.enabled,
		'is_default', m.is_default, 'context_limit', m.context_limit, 'compression_threshold', m.compression_threshold,
		'created_at', coder.ts(m.created_at), 'updated_at', coder.ts(m.updated_at))
		|| CASE WHEN m.options = '{}' THEN '{}' ELSE jsonb_build_object('model_config', m.options) END;
END
$$;

-- GET /chats/model-configs: administrators see those that are off.
CREATE OR REPLACE FUNCTION coder.chat_models_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	every bool;
BEGIN
	PERFORM coder.chat_gate();
	every := coder.can('read', 'deployment_config');
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.chat_model_json(m) ORDER BY m.provider, m.model, m.updated_at DESC, m.id DESC)
		FROM coder.chat_model_configs m JOIN coder.chat_providers p ON p.provider = m.provider
		WHERE NOT m.deleted AND (every OR m.enabled AND p.enabled)), '[]'));
END
$$;

-- ZC400 unless the prices of a call configuration are decimals of nothing or more, and its groups objects.
CREATE OR REPLACE FUNCTION coder.chat_check_options(options jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e record;
BEGIN
	IF jsonb_typeof(options) <> 'object' THEN
		PERFORM coder.raise(400, 'Invalid model config.', 'model_config must be an object.');
	END IF;
	IF coalesce(jsonb_typeof(options->'cost'), 'object') NOT IN ('object', 'null')
		OR coalesce(jsonb_typeof(options->'provider_options'), 'object') NOT IN ('object', 'null') THEN
		PERFORM coder.raise(400, 'Invalid model config.', 'cost and provider_options must be objects.');
	END IF;
	FOR e IN SELECT t.key, t.value #>> '{}' AS value FROM (
			SELECT * FROM jsonb_each(options) UNION ALL
			SELECT * FROM jsonb_each(CASE WHEN jsonb_typeof(options->'cost') = 'object' THEN options->'cost' ELSE '{}' END)) t
		 WHERE t.key LIKE '%\_price\_per\_million\_tokens' AND jsonb_typeof(t.value) <> 'null' LOOP
		IF e.value !~ '^[0-9]{1,12}(\.[0-9]{1,12})?$' THEN
			PERFORM coder.raise(400, 'Invalid model config.', format('%s must be a decimal number of zero or more.', e.key));
		END IF;
	END LOOP;
END
$$;

-- A model's row changed by a body, checked; ZC400.
CREATE OR REPLACE FUNCTION coder.chat_model_apply(m coder.chat_model_configs, body jsonb)
RETURNS coder.chat_model_configs LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted text;
BEGIN
	PERFORM coder.body_type(body, 'context_limit', 'number'), coder.body_type(body, 'compression_threshold', 'number'),
		coder.body_type(body, 'enabled', 'boolean'), coder.body_type(body, 'is_default', 'boolean'),
		coder.body_type(body, 'model', 'string'), coder.body_type(body, 'display_name', 'string');
	wanted := lower(trim(body->>'provider'));
	IF wanted IS NOT NULL OR m.provider IS NULL THEN
		IF NOT EXISTS (SELECT FROM coder.chat_provider_names() n WHERE n.provider = wanted) THEN
			PERFORM coder.raise(400, 'Invalid provider.',
				format('Provider must be one of: %s.', (SELECT string_agg(n.provider, ', ' ORDER BY n.n) FROM coder.chat_provider_names() n)));
		END IF;
		m.provider := wanted;
	END IF;
	m.model := coalesce(trim(body->>'model'), m.model);
	m.display_name := coalesce(trim(body->>'display_name'), m.display_name);
	m.enabled := coalesce((body->>'enabled')::bool, m.enabled);
	m.is_default := coalesce((body->>'is_default')::bool, m.is_default);
	IF coalesce(m.model, '') = '' THEN
		PERFORM coder.raise(400, 'Model is required.');
	ELSIF coalesce(trunc((body->>'context_limit')::numeric), m.context_limit, 0) NOT BETWEEN 1 AND 9000000000000000 THEN
		IF m.id IS NULL THEN
			PERFORM coder.raise(400, 'Context limit is required.', 'context_limit must be greater than zero.');
		END IF;
		PERFORM coder.raise(400, 'Context limit must be greater than zero.');
	ELSIF coalesce((body->>'compression_threshold')::numeric, m.compression_threshold) NOT BETWEEN 0 AND 100 THEN
		PERFORM coder.raise(400, 'Invalid compression threshold.', 'compression_threshold must be between 0 and 100.');
	END IF;
	m.context_limit := coalesce(trunc((body->>'context_limit')::numeric)::bigint, m.context_limit);
	m.compression_threshold := coalesce(trunc((body->>'compression_threshold')::numeric)::int4, m.compression_threshold);
	IF coalesce(jsonb_typeof(body->'model_config'), 'null') <> 'null' THEN
		PERFORM coder.chat_check_options(body->'model_config');
		m.options := body->'model_config';
	END IF;
	RETURN m;
END
$$;

-- Sees to it that one model is the default: the given one where it wants to be, else the first that is on.
CREATE OR REPLACE FUNCTION coder.chat_default_model(wanted uuid DEFAULT NULL)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF wanted IS NOT NULL THEN
		UPDATE coder.chat_model_configs m SET is_default = false, updated_at = now() WHERE m.is_default AND NOT m.deleted AND m.id <> wanted;
		UPDATE coder.chat_model_configs m SET is_default = true WHERE m.id = wanted AND NOT m.is_default;
	ELSIF NOT EXISTS (SELECT FROM coder.chat_model_configs m WHERE m.is_default AND NOT m.deleted) THEN
		UPDATE coder.chat_model_configs m SET is_default = true, updated_at = now()
		 WHERE m.id = (SELECT x.id FROM coder.chat_model_configs x WHERE x.enabled AND NOT x.deleted ORDER BY x.provider, x.model, x.id LIMIT 1);
	END IF;
END
$$;

-- POST /chats/model-configs
CREATE OR REPLACE FUNCTION coder.chat_model_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m coder.chat_model_configs;
	first bool;
BEGIN
	PERFORM coder.chat_admin('update');
	m.display_name := '';
	m.enabled := true;
	m.is_default := false;
	m.compression_threshold := 70;
	m.options := '{}';
	m := coder.chat_model_apply(m, coder.body(req));
	-- One at a time: two firsts would both be the default.
	PERFORM coder.lock('coder.chat_default_model');
	first := NOT EXISTS (SELECT FROM coder.chat_model_configs x WHERE NOT x.deleted);
	IF m.is_default OR first THEN
		UPDATE coder.chat_model_configs x SET is_default = false, updated_at = now() WHERE x.is_default AND NOT x.deleted;
	END IF;
	INSERT INTO coder.chat_model_configs (provider, model, display_name, enabled, is_default, context_limit, compression_threshold, options,
		created_by, updated_by)
	VALUES (m.provider, m.model, m.display_name, m.enabled, m.is_default OR first, m.context_limit, m.compression_threshold, m.options,
		coder.subject_id(), coder.subject_id())
	RETURNING * INTO m;
	RETURN coder.reply(201, coder.chat_model_json(m));
EXCEPTION
	WHEN foreign_key_violation THEN
		PERFORM coder.raise(400, 'Chat provider is not configured.', sqlerrm);
	WHEN unique_violation THEN
		PERFORM coder.raise(409, 'Chat model config already exists.', sqlerrm);
END
$$;

-- {modelConfig}: ZC400, ZC404.
CREATE OR REPLACE FUNCTION coder.param_chat_model(req coder.request)
RETURNS coder.chat_model_configs LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted CONSTANT uuid := coder.try_uuid(req.params->>'modelConfig');
	m coder.chat_model_configs;
BEGIN
	IF wanted IS NULL THEN
		PERFORM coder.raise(400, 'Invalid chat model config ID.');
	END IF;
	SELECT x.* INTO m FROM coder.chat_model_configs x WHERE x.id = wanted AND NOT x.deleted;
	IF m.id IS NULL THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN m;
END
$$;

-- PATCH /chats/model-configs/{modelConfig}
CREATE OR REPLACE FUNCTION coder.chat_model_patch(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m coder.chat_model_configs;
BEGIN
	PERFORM coder.chat_admin('update');
	PERFORM coder.lock('coder.chat_default_model');
	m := coder.chat_model_apply(coder.param_chat_model(req), coder.body(req));
	IF m.is_default THEN
		UPDATE coder.chat_model_configs x SET is_default = false, updated_at = now() WHERE x.is_default AND NOT x.deleted AND x.id <> m.id;
	END IF;
	UPDATE coder.chat_model_configs x SET provider = m.provider, model = m.model, display_name = m.display_name, enabled = m.enabled,
		is_default = m.is_default, context_limit = m.context_limit, compression_threshold = m.compression_threshold, options = m.options,
		updated_at = now(), updated_by = coder.subject_id()
	 WHERE x.id = m.id;
	PERFORM coder.chat_default_model();
	SELECT x.* INTO m FROM coder.chat_model_configs x WHERE x.id = m.id;
	RETURN coder.reply(200, coder.chat_model_json(m));
EXCEPTION
	WHEN foreign_key_violation THEN
		PERFORM coder.raise(400, 'Chat provider is not configured.', sqlerrm);
	WHEN unique_violation THEN
		PERFORM coder.raise(409, 'Chat model config already exists.', sqlerrm);
END
$$;

-- DELETE /chats/model-configs/{modelConfig}: chats keep pointing at the row, which is marked.
CREATE OR REPLACE FUNCTION coder.chat_model_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.chat_admin('update');
	PERFORM coder.lock('coder.chat_default_model');
	UPDATE coder.chat_model_configs x SET deleted = true, deleted_at = now(), enabled = false, is_default = false, updated_at = now(),
		updated_by = coder.subject_id()
	 WHERE x.id = (coder.param_chat_model(req)).id;
	PERFORM coder.chat_default_model();
	RETURN coder.reply(204);
END
$$;

-- Whether a user has a key for a provider: NULL, or why not.
CREATE OR REPLACE FUNCTION coder.chat_key_missing(p coder.chat_providers, uid uuid)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF p.allow_user_api_key AND EXISTS (SELECT FROM coder.user_chat_provider_keys k WHERE k.user_id = uid AND k.chat_provider_id = p.id) THEN
		RETURN NULL;
	ELSIF p.central_api_key_enabled AND p.api_key <> '' AND (NOT p.allow_user_api_key OR p.allow_central_api_key_fallback) THEN
		RETURN NULL;
	END IF;
	RETURN CASE WHEN p.allow_user_api_key AND NOT p.allow_central_api_key_fallback THEN 'user_api_key_required' ELSE 'missing_api_key' END;
END
$$;

-- GET /chats/models: the catalogue, by provider; a model once, however often it is configured.
CREATE OR REPLACE FUNCTION coder.chat_catalogue(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.chat_gate();
	RETURN coder.reply(200, jsonb_build_object('providers', coalesce((
		SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('provider', p.provider, 'available', w.why IS NULL, 'unavailable_reason', w.why))
				|| jsonb_build_object('models', m.models) ORDER BY p.provider)
		  FROM coder.chat_providers p
		 CROSS JOIN LATERAL (SELECT coder.chat_key_missing(p, coder.subject_id()) AS why) w
		 CROSS JOIN LATERAL (SELECT jsonb_agg(jsonb_build_object('id', p.provider || ':' || c.model, 'provider', p.provider, 'model', c.model,
				'display_name', coalesce(nullif(c.display_name, ''), c.model)) ORDER BY c.model) AS models
			FROM (SELECT DISTINCT ON (x.model) x.model, x.display_name FROM coder.chat_model_configs x
				   WHERE x.provider = p.provider AND x.enabled AND NOT x.deleted ORDER BY x.model, x.updated_at DESC, x.id DESC) c) m
		 WHERE p.enabled AND m.models IS NOT NULL), '[]')));
END
$$;

-- UserChatProviderConfig
CREATE OR REPLACE FUNCTION coder.chat_user_provider_json(p coder.chat_providers)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('provider_id', p.id, 'provider', p.provider, 'display_name', coder.chat_provider_json(p)->'display_name',
		'has_user_api_key', EXISTS (SELECT FROM coder.user_chat_provider_keys k WHERE k.user_id = coder.subject_id() AND k.chat_provider_id = p.id),
		'has_central_api_key_fallback', p.allow_central_api_key_fallback AND p.central_api_key_enabled AND p.api_key <> '');
END
$$;

-- GET /chats/user-provider-configs
CREATE OR REPLACE FUNCTION coder.chat_user_providers_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.chat_gate();
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.chat_user_provider_json(p) ORDER BY p.provider)
		FROM coder.chat_providers p WHERE p.enabled AND p.allow_user_api_key), '[]'));
END
$$;

-- PUT and DELETE /chats/user-provider-configs/{providerConfig}
CREATE OR REPLACE FUNCTION coder.chat_user_key(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p coder.chat_providers;
	key text;
BEGIN
	PERFORM coder.chat_gate();
	p := coder.param_chat_provider(req);
	IF req.method = 'DELETE' THEN
		DELETE FROM coder.user_chat_provider_keys k WHERE k.user_id = coder.subject_id() AND k.chat_provider_id = p.id;
		RETURN coder.reply(204);
	END IF;
	key := trim(coalesce(coder.body(req)->>'api_key', ''));
	IF NOT p.enabled THEN
		PERFORM coder.raise(400, 'Provider is disabled.');
	ELSIF NOT p.allow_user_api_key THEN
		PERFORM coder.raise(400, 'Provider does not allow user API keys.');
	ELSIF key = '' THEN
		PERFORM coder.raise(400, 'API key is required.');
	ELSIF octet_length(key) > 10240 THEN
		PERFORM coder.raise(400, 'API key too large.', 'API key must be at most 10240 bytes.');
	END IF;
	INSERT INTO coder.user_chat_provider_keys (user_id, chat_provider_id, api_key) VALUES (coder.subject_id(), p.id, key)
	ON CONFLICT (user_id, chat_provider_id) DO UPDATE SET api_key = excluded.api_key, api_key_key_id = NULL, updated_at = now();
	RETURN coder.reply(200, coder.chat_user_provider_json(p));
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

-- POST /chats/files?organization=
CREATE OR REPLACE FUNCTION coder.chat_file_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	type CONSTANT text := lower(trim(split_part(coalesce(req.headers->>'content-type', ''), ';', 1)));
	data CONSTANT bytea := coalesce(req.raw, '');
	org uuid;
	sniffed text;
	file uuid;
BEGIN
	PERFORM coder.chat_gate();
	IF coalesce(req.query->>'organization', '') = '' THEN
		PERFORM coder.raise(400, 'Missing organization query parameter.');
	END IF;
	org := coder.try_uuid(req.query->>'organization');
	IF org IS NULL THEN
		PERFORM coder.raise(400, 'Invalid organization ID.');
	END IF;
	PERFORM coder.require('create', 'chat', org, coder.subject_id());
	IF type NOT IN ('image/gif', 'image/jpeg', 'image/png', 'image/webp', 'text/plain') THEN
		PERFORM coder.raise(400, 'Unsupported file type.', 'Allowed types: image/gif, image/jpeg, image/png, image/webp, text/plain.');
	ELSIF length(data) > 10485760 THEN
		PERFORM coder.raise(413, 'File too large.', 'Maximum file size is 10485760 bytes.');
	END IF;
	sniffed := coder.chat_sniff(substr(data, 1, 512));
	IF sniffed <> type THEN
		PERFORM coder.raise(400, 'File content type does not match Content-Type header.', format('The content looks like %s.', sniffed));
	END IF;
	INSERT INTO coder.chat_files (owner_id, organization_id, name, mimetype, data)
	VALUES (coder.subject_id(), org, coder.disposition_name(req.headers->>'content-disposition'), type, data)
	RETURNING id INTO file;
	RETURN coder.reply(201, jsonb_build_object('id', file));
END
$$;

-- The type of a file by its first bytes, as browsers guess it (WHATWG MIME Sniffing): a picture, text, or neither.
CREATE OR REPLACE FUNCTION coder.chat_sniff(head bytea)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE
		WHEN substr(head, 1, 8) = '\x89504e470d0a1a0a' THEN 'image/png'
		WHEN substr(head, 1, 3) = '\xffd8ff' THEN 'image/jpeg'
		WHEN substr(head, 1, 6) IN ('GIF87a'::bytea, 'GIF89a'::bytea) THEN 'image/gif'
		WHEN substr(head, 1, 4) = 'RIFF'::bytea AND substr(head, 9, 6) = 'WEBPVP'::bytea THEN 'image/webp'
		WHEN encode(head, 'escape') ~* '^\s*<(!doctype html|html|head|script|iframe|body|svg|\?xml)' THEN 'text/html'
		-- Bytes that no text has, as encode(…, 'escape') writes them: controls but tab, line feed, form feed, CR, escape.
		WHEN EXISTS (SELECT FROM generate_series(0, length(head) - 1) i
			WHERE get_byte(head, i) < 32 AND get_byte(head, i) NOT IN (9, 10, 12, 13, 27)) THEN 'application/octet-stream'
		ELSE 'text/plain' END;
END
$$;

-- The file name of a Content-Disposition header, at most 255 bytes; "" where there is none.
CREATE OR REPLACE FUNCTION coder.disposition_name(header text)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name text := coalesce(substring(header FROM '(?i)filename="([^"]*)"'), substring(header FROM '(?i)filename=([^;[:space:]]+)'), '');
BEGIN
	name := regexp_replace(name, '^.*[/\\]', '');
	WHILE octet_length(name) > 255 LOOP
		name := left(name, -1);
	END LOOP;
	RETURN name;
END
$$;

-- GET /chats/files/{file}
CREATE OR REPLACE FUNCTION coder.chat_file_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted CONSTANT uuid := coder.try_uuid(req.params->>'file');
	f coder.chat_files;
BEGIN
	PERFORM coder.chat_gate();
	IF wanted IS NULL THEN
		PERFORM coder.raise(400, 'Invalid file ID.');
	END IF;
	SELECT x.* INTO f FROM coder.chat_files x WHERE x.id = wanted;
	IF f.id IS NULL OR NOT coder.can('read', 'chat', f.organization_id, f.owner_id, id => f.id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN ROW(200, NULL, format(E'Content-Type: %s\r\nContent-Disposition: inline; filename="%s"\r\n', f.mimetype,
			regexp_replace(f.name, '["\\[:cntrl:]]', '_', 'g'))
		|| E'Cache-Control: private, max-age=31536000, immutable\r\nX-Content-Type-Options: nosniff\r\n', f.data)::coder.response;
END
$$;

-- Begin and end of the period that holds a time, in UTC: the day, the ISO week, the month.
CREATE OR REPLACE FUNCTION coder.chat_period(period text, at timestamptz, OUT begins timestamptz, OUT ends timestamptz)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	begins := date_trunc(period, at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
	ends := (date_trunc(period, at AT TIME ZONE 'UTC') + ('1 ' || period)::interval) AT TIME ZONE 'UTC';
END
$$;

CREATE TYPE coder.chat_limit AS (limit_micros bigint, period text, begins timestamptz, ends timestamptz, spent bigint);

-- What a user's chats may cost and have cost in this period; NULL where nothing limits it.  The user's own limit wins,
-- then the least of the user's groups (in the organization, where one is given), then the default.
CREATE OR REPLACE FUNCTION coder.chat_limit_of(uid uuid, org uuid DEFAULT NULL)
RETURNS coder.chat_limit LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answer coder.chat_limit;
	cfg coder.chat_usage_limit_config;
	scope uuid;
BEGIN
	SELECT c.* INTO cfg FROM coder.chat_usage_limit_config c;
	IF NOT FOUND OR NOT cfg.enabled THEN
		RETURN NULL;
	END IF;
	SELECT u.chat_spend_limit_micros INTO answer.limit_micros FROM coder.users u WHERE u.id = uid;
	IF answer.limit_micros IS NULL THEN
		SELECT min(g.chat_spend_limit_micros) INTO answer.limit_micros FROM coder.groups g
		 WHERE (org IS NULL OR g.organization_id = org) AND g.chat_spend_limit_micros IS NOT NULL
		   AND (EXISTS (SELECT FROM coder.group_members m WHERE m.group_id = g.id AND m.user_id = uid)
				OR EXISTS (SELECT FROM coder.organization_members m WHERE m.organization_id = g.id AND m.user_id = uid));
		scope := CASE WHEN answer.limit_micros IS NOT NULL THEN org END;
	END IF;
	answer.limit_micros := coalesce(answer.limit_micros, cfg.default_limit_micros);
	answer.period := cfg.period;
	SELECT p.begins, p.ends INTO answer.begins, answer.ends FROM coder.chat_period(cfg.period, now()) p;
	SELECT coalesce(sum(m.total_cost_micros), 0) INTO answer.spent
	  FROM coder.chats c JOIN coder.chat_messages m ON m.chat_id = c.id
	 WHERE c.owner_id = uid AND (scope IS NULL OR c.organization_id = scope) AND m.total_cost_micros IS NOT NULL
	   AND m.created_at >= answer.begins AND m.created_at < answer.ends;
	RETURN answer;
END
$$;

-- 409 where the user has spent what a period allows, else NULL.
CREATE OR REPLACE FUNCTION coder.chat_over_limit(uid uuid, org uuid)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	l CONSTANT coder.chat_limit := coder.chat_limit_of(uid, org);
BEGIN
	IF l.spent >= l.limit_micros THEN
		RETURN coder.reply(409, jsonb_build_object('message', 'Chat usage limit exceeded.', 'spent_micros', l.spent, 'limit_micros', l.limit_micros,
			'resets_at', coder.ts(l.ends)));
	END IF;
	RETURN NULL;
END
$$;

-- ChatUsageLimitConfig
CREATE OR REPLACE FUNCTION coder.chat_limit_config_json()
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cfg coder.chat_usage_limit_config;
BEGIN
	SELECT c.* INTO cfg FROM coder.chat_usage_limit_config c;
	RETURN jsonb_build_object('spend_limit_micros', CASE WHEN cfg.enabled THEN cfg.default_limit_micros END,
		'period', coalesce(cfg.period, 'month'), 'updated_at', coder.ts0(cfg.updated_at));
END
$$;

-- GET /chats/usage-limits
CREATE OR REPLACE FUNCTION coder.chat_limits_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.chat_admin('read');
	RETURN coder.reply(200, coder.chat_limit_config_json() || jsonb_build_object(
		'unpriced_model_count', (SELECT count(*) FROM coder.chat_model_configs m WHERE m.enabled AND NOT m.deleted
			AND NOT EXISTS (SELECT FROM jsonb_object_keys(m.options || coalesce(nullif(m.options->'cost', 'null'), '{}')) k
				WHERE k LIKE '%\_price\_per\_million\_tokens')),
		'overrides', coalesce((SELECT jsonb_agg(jsonb_build_object('user_id', u.id, 'username', u.username, 'name', u.name,
				'avatar_url', u.avatar_url, 'spend_limit_micros', u.chat_spend_limit_micros) ORDER BY lower(u.username))
			FROM coder.users u WHERE u.chat_spend_limit_micros IS NOT NULL AND NOT u.deleted), '[]'),
		'group_overrides', coalesce((SELECT jsonb_agg(jsonb_build_object('group_id', g.id, 'group_name', g.name,
				'group_display_name', g.display_name, 'group_avatar_url', g.avatar_url, 'member_count',
				(SELECT count(*) FROM coder.users u WHERE NOT u.deleted AND NOT u.is_system
					AND (EXISTS (SELECT FROM coder.group_members m WHERE m.group_id = g.id AND m.user_id = u.id)
						OR EXISTS (SELECT FROM coder.organization_members m WHERE m.organization_id = g.id AND m.user_id = u.id))),
				'spend_limit_micros', g.chat_spend_limit_micros) ORDER BY lower(g.name), g.id)
			FROM coder.groups g WHERE g.chat_spend_limit_micros IS NOT NULL), '[]')));
END
$$;

-- PUT /chats/usage-limits
CREATE OR REPLACE FUNCTION coder.chat_limits_put(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb;
	wanted numeric;
	every text;
BEGIN
	PERFORM coder.chat_admin('update');
	body := coder.body(req);
	PERFORM coder.body_type(body, 'spend_limit_micros', 'number'), coder.body_type(body, 'period', 'string');
	wanted := (body->>'spend_limit_micros')::numeric;
	every := coalesce(nullif(body->>'period', ''), 'month');
	IF wanted <= 0 OR wanted <> trunc(wanted) OR wanted > 9000000000000000000 THEN
		PERFORM coder.raise(400, 'Invalid chat usage limit spend limit.', 'Spend limit must be greater than 0.');
	ELSIF every NOT IN ('day', 'week', 'month') THEN
		PERFORM coder.raise(400, 'Invalid chat usage limit period.', 'Period must be one of: day, week, month.');
	END IF;
	INSERT INTO coder.chat_usage_limit_config AS c (enabled, default_limit_micros, period)
	VALUES (wanted IS NOT NULL, coalesce(wanted, 0), every)
	ON CONFLICT (singleton) DO UPDATE SET enabled = excluded.enabled, default_limit_micros = excluded.default_limit_micros,
		period = excluded.period, updated_at = now();
	RETURN coder.reply(200, coder.chat_limit_config_json());
END
$$;

-- GET /chats/usage-limits/status: the caller's
CREATE OR REPLACE FUNCTION coder.chat_limits_status(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	l coder.chat_limit;
BEGIN
	PERFORM coder.chat_gate();
	l := coder.chat_limit_of(coder.subject_id());
	IF l.limit_micros IS NULL THEN
		RETURN coder.reply(200, jsonb_build_object('is_limited', false, 'current_spend', 0, 'period_start', coder.ts0(NULL), 'period_end', coder.ts0(NULL)));
	END IF;
	RETURN coder.reply(200, jsonb_build_object('is_limited', true, 'period', l.period, 'spend_limit_micros', l.limit_micros,
		'current_spend', l.spent, 'period_start', coder.ts(l.begins), 'period_end', coder.ts(l.ends)));
END
$$;

-- PUT and DELETE /chats/usage-limits/overrides/{user} and …/group-overrides/{group}
CREATE OR REPLACE FUNCTION coder.chat_limit_override(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	of_group CONSTANT bool := req.params ? 'group';
	missing CONSTANT text := CASE WHEN of_group THEN 'Group not found.' ELSE 'User not found.' END;
	wanted CONSTANT uuid := coder.try_uuid(coalesce(req.params->>'group', req.params->>'user'));
	amount numeric;
	before bigint;
BEGIN
	PERFORM coder.chat_admin('update');
	IF of_group THEN
		SELECT g.chat_spend_limit_micros INTO before FROM coder.groups g WHERE g.id = wanted FOR UPDATE;
	ELSE
		SELECT u.chat_spend_limit_micros INTO before FROM coder.users u WHERE u.id = wanted AND NOT u.deleted FOR UPDATE;
	END IF;
	IF NOT FOUND THEN
		PERFORM coder.raise(CASE req.method WHEN 'PUT' THEN 404 ELSE 400 END, missing);
	ELSIF req.method = 'DELETE' AND before IS NULL THEN
		PERFORM coder.raise(400, CASE WHEN of_group THEN 'Chat usage limit group override not found.' ELSE 'Chat usage limit override not found.' END);
	ELSIF req.method = 'PUT' THEN
		PERFORM coder.body_type(coder.body(req), 'spend_limit_micros', 'number');
		amount := coalesce((req.body->>'spend_limit_micros')::numeric, 0);
		IF amount <= 0 OR amount <> trunc(amount) OR amount > 9000000000000000000 THEN
			PERFORM coder.raise(400, 'Invalid chat usage limit spend limit.', 'Spend limit must be greater than 0.');
		END IF;
	END IF;
	IF of_group THEN
		UPDATE coder.groups g SET chat_spend_limit_micros = amount WHERE g.id = wanted;
	ELSE
		UPDATE coder.users u SET chat_spend_limit_micros = amount WHERE u.id = wanted;
	END IF;
	IF req.method = 'DELETE' THEN
		RETURN coder.reply(204);
	ELSIF of_group THEN
		RETURN coder.reply(200, (SELECT jsonb_build_object('group_id', g.id, 'group_name', g.name, 'group_display_name', g.display_name,
			'group_avatar_url', g.avatar_url, 'member_count', (SELECT count(*) FROM coder.group_members m WHERE m.group_id = g.id),
			'spend_limit_micros', g.chat_spend_limit_micros) FROM coder.groups g WHERE g.id = wanted));
	END IF;
	RETURN coder.reply(200, (SELECT jsonb_build_object('user_id', u.id, 'username', u.username, 'name', u.name, 'avatar_url', u.avatar_url,
		'spend_limit_micros', u.chat_spend_limit_micros) FROM coder.users u WHERE u.id = wanted));
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
