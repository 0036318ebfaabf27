-- sql/api/chatprovider.sql -- providers of models, their models, the keys that users have for them
--
-- Tables: sql/schema/chat.sql, whose triggers tell runners of each change.  Routes: sql/api/chatconfig.sql.

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

-- May a provider's central key be none, because runners have keys of their own for it?  AWS gives machines theirs.
CREATE OR REPLACE FUNCTION coder.chat_provider_ambient(provider text)
RETURNS bool LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN provider = 'bedrock';
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
	ELSIF p.central_api_key_enabled AND p.api_key = '' AND NOT coder.chat_provider_ambient(p.provider) THEN
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
	ELSIF p.central_api_key_enabled AND (p.api_key <> '' OR coder.chat_provider_ambient(p.provider))
		AND (NOT p.allow_user_api_key OR p.allow_central_api_key_fallback) THEN
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
		'has_central_api_key_fallback', p.allow_central_api_key_fallback AND p.central_api_key_enabled
			AND (p.api_key <> '' OR coder.chat_provider_ambient(p.provider)));
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
