-- sql/api/mcpserver.sql -- servers of the Model Context Protocol that chats may use: their configuration

-- MCPServerConfig as the subject may see it: others than administrators are not told where it is and how one signs in there.
-- failed: servers at which the subject's token could not be refreshed just now.
CREATE OR REPLACE FUNCTION coder.mcp_server_json(m coder.mcp_server_configs, failed uuid[] DEFAULT '{}')
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	admin CONSTANT bool := coder.can('read', 'deployment_config');
BEGIN
	RETURN jsonb_build_object('id', m.id, 'display_name', m.display_name, 'slug', m.slug, 'description', m.description, 'icon_url', m.icon_url,
			'transport', CASE WHEN admin THEN m.transport ELSE '' END, 'url', CASE WHEN admin THEN m.url ELSE '' END, 'auth_type', m.auth_type,
			'has_oauth2_secret', m.oauth2_client_secret <> '', 'has_api_key', m.api_key_value <> '',
			'has_custom_headers', coder.unseal(m.custom_headers, m.custom_headers_key_id) <> '{}',
			'tool_allow_list', to_jsonb(m.tool_allow_list), 'tool_deny_list', to_jsonb(m.tool_deny_list), 'availability', m.availability,
			'enabled', m.enabled, 'model_intent', m.model_intent, 'created_at', coder.ts(m.created_at), 'updated_at', coder.ts(m.updated_at),
			'auth_connected', m.auth_type <> 'oauth2' OR EXISTS (SELECT FROM coder.mcp_server_user_tokens t
				WHERE t.mcp_server_config_id = m.id AND t.user_id = coder.subject_id() AND (t.expiry IS NULL OR t.expiry > now() OR t.refresh_token <> '' AND m.id <> ALL (failed))))
		|| CASE WHEN admin THEN jsonb_strip_nulls(jsonb_build_object('oauth2_client_id', nullif(m.oauth2_client_id, ''),
			'oauth2_auth_url', nullif(m.oauth2_auth_url, ''), 'oauth2_token_url', nullif(m.oauth2_token_url, ''),
			'oauth2_scopes', nullif(m.oauth2_scopes, ''), 'api_key_header', nullif(m.api_key_header, ''))) ELSE '{}' END;
END
$$;

-- The server that {mcpServer} names, whoever asks: ZC400, ZC404.
CREATE OR REPLACE FUNCTION coder.mcp_server_named(req coder.request)
RETURNS coder.mcp_server_configs LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted CONSTANT uuid := coder.try_uuid(req.params->>'mcpServer');
	m coder.mcp_server_configs;
BEGIN
	IF wanted IS NULL THEN
		PERFORM coder.raise(400, 'Invalid MCP server config ID.');
	END IF;
	SELECT x.* INTO m FROM coder.mcp_server_configs x WHERE x.id = wanted;
	IF m.id IS NULL THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN m;
END
$$;

-- {mcpServer}: ZC400, ZC404 (also where it is off and the subject is no administrator).
CREATE OR REPLACE FUNCTION coder.param_mcp_server(req coder.request)
RETURNS coder.mcp_server_configs LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m CONSTANT coder.mcp_server_configs := coder.mcp_server_named(req);
BEGIN
	IF NOT m.enabled AND NOT coder.can('read', 'deployment_config') THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN m;
END
$$;

-- A configuration with what a request's body says; ZC400.
CREATE OR REPLACE FUNCTION coder.mcp_server_apply(m coder.mcp_server_configs, body jsonb)
RETURNS coder.mcp_server_configs LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before CONSTANT text := m.auth_type;
	headers CONSTANT jsonb := nullif(body->'custom_headers', 'null');
BEGIN
	PERFORM coder.body_types(body, '{"boolean": ["enabled", "model_intent"], "array": ["tool_allow_list", "tool_deny_list"], "object": ["custom_headers"]}');
	m.display_name := coalesce(trim(body->>'display_name'), m.display_name);
	m.slug := coalesce(trim(body->>'slug'), m.slug);
	m.description := coalesce(trim(body->>'description'), m.description);
	m.icon_url := coalesce(trim(body->>'icon_url'), m.icon_url);
	m.transport := coalesce(trim(body->>'transport'), m.transport);
	m.url := coalesce(trim(body->>'url'), m.url);
	m.auth_type := coalesce(trim(body->>'auth_type'), m.auth_type);
	m.availability := coalesce(trim(body->>'availability'), m.availability);
	m.enabled := coalesce((body->>'enabled')::bool, m.enabled);
	m.model_intent := coalesce((body->>'model_intent')::bool, m.model_intent);
	IF m.auth_type <> before THEN
		m.oauth2_client_id := '';
		m.oauth2_client_secret := '';
		m.oauth2_client_secret_key_id := NULL;
		m.oauth2_auth_url := '';
		m.oauth2_token_url := '';
		m.oauth2_scopes := '';
		m.api_key_value := '';
		m.api_key_value_key_id := NULL;
		m.custom_headers := '{}';
		m.custom_headers_key_id := NULL;
	END IF;
	IF m.auth_type <> before OR coalesce(body->>'oauth2_client_id', body->>'oauth2_auth_url', body->>'oauth2_token_url') IS NOT NULL THEN
		m.oauth2_discovered := false;
		m.oauth2_revocation_url := '';
		m.oauth2_resource := '';
		m.oauth2_basic := false;
	END IF;
	m.oauth2_client_id := coalesce(trim(body->>'oauth2_client_id'), m.oauth2_client_id);
	m.oauth2_auth_url := coalesce(trim(body->>'oauth2_auth_url'), m.oauth2_auth_url);
	m.oauth2_token_url := coalesce(trim(body->>'oauth2_token_url'), m.oauth2_token_url);
	m.oauth2_scopes := coalesce(trim(body->>'oauth2_scopes'), m.oauth2_scopes);
	m.api_key_header := coalesce(trim(body->>'api_key_header'), m.api_key_header);
	IF body->>'oauth2_client_secret' IS NOT NULL THEN
		m.oauth2_client_secret := trim(body->>'oauth2_client_secret');
		m.oauth2_client_secret_key_id := NULL;
	END IF;
	IF body->>'api_key_value' IS NOT NULL THEN
		m.api_key_value := trim(body->>'api_key_value');
		m.api_key_value_key_id := NULL;
	END IF;
	IF headers IS NOT NULL THEN
		IF headers @? '$.* ? (@.type() != "string")' THEN
			PERFORM coder.raise(400, 'Invalid custom headers.');
		END IF;
		m.custom_headers := headers::text;
		m.custom_headers_key_id := NULL;
	END IF;
	IF jsonb_typeof(body->'tool_allow_list') = 'array' THEN
		m.tool_allow_list := ARRAY(SELECT trim(t) FROM jsonb_array_elements_text(body->'tool_allow_list') t WHERE trim(t) <> '');
	END IF;
	IF jsonb_typeof(body->'tool_deny_list') = 'array' THEN
		m.tool_deny_list := ARRAY(SELECT trim(t) FROM jsonb_array_elements_text(body->'tool_deny_list') t WHERE trim(t) <> '');
	END IF;
	RETURN m;
END
$$;

-- What a new configuration must have for its way of signing in; ZC400.  Must its server be asked for what is not given?
CREATE OR REPLACE FUNCTION coder.mcp_server_check(m coder.mcp_server_configs, body jsonb)
RETURNS bool LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	given CONSTANT int4 := (m.oauth2_client_id <> '')::int4 + (m.oauth2_auth_url <> '')::int4 + (m.oauth2_token_url <> '')::int4;
BEGIN
	IF m.auth_type = 'oauth2' AND given BETWEEN 1 AND 2 THEN
		PERFORM coder.raise(400, 'OAuth2 auth type requires either all of oauth2_client_id, oauth2_auth_url and oauth2_token_url, or none of them.');
	ELSIF m.auth_type = 'api_key' AND (trim(coalesce(body->>'api_key_header', '')) = '' OR m.api_key_value = '') THEN
		PERFORM coder.raise(400, 'API key auth type requires api_key_header and api_key_value.');
	ELSIF m.auth_type = 'custom_headers' AND m.custom_headers = '{}' THEN
		PERFORM coder.raise(400, 'Custom headers auth type requires at least one custom header.');
	END IF;
	RETURN m.auth_type = 'oauth2' AND given = 0;
END
$$;

-- A new configuration of a request's body; ZC400.
CREATE OR REPLACE FUNCTION coder.mcp_server_new(body jsonb)
RETURNS coder.mcp_server_configs LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m coder.mcp_server_configs;
BEGIN
	m.id := gen_random_uuid();
	m.description := '';
	m.icon_url := '';
	m.auth_type := '';
	m.enabled := false;
	m.model_intent := false;
	m.tool_allow_list := '{}';
	m.tool_deny_list := '{}';
	m.api_key_header := 'Authorization';
	m.created_by := coder.subject_id();
	m.updated_by := m.created_by;
	m.created_at := now();
	m.updated_at := now();
	RETURN coder.mcp_server_apply(m, body);
END
$$;

-- The answer of a GET: one server, or those that the subject may see.
CREATE OR REPLACE FUNCTION coder.mcp_servers_reply(req coder.request, failed uuid[])
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF req.params ? 'mcpServer' THEN
		RETURN coder.reply(200, coder.mcp_server_json(coder.param_mcp_server(req), failed));
	END IF;
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.mcp_server_json(x, failed) ORDER BY x.display_name, x.id) FROM coder.mcp_server_configs x
		WHERE x.enabled OR coder.can('read', 'deployment_config')), '[]'));
END
$$;

-- GET and POST /mcp/servers; GET, PATCH and DELETE /mcp/servers/{mcpServer}
CREATE OR REPLACE FUNCTION coder.mcp_servers(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one CONSTANT bool := req.params ? 'mcpServer';
	body jsonb;
	m coder.mcp_server_configs;
	before coder.mcp_server_configs;
	broken text;
BEGIN
	PERFORM coder.chat_gate();
	IF req.method = 'GET' THEN
		RETURN coder.mcp_servers_look(req, 1);
	END IF;
	PERFORM coder.require('update', 'deployment_config');
	IF req.method = 'DELETE' THEN
		DELETE FROM coder.mcp_server_configs x WHERE x.id = (coder.param_mcp_server(req)).id;
		RETURN coder.reply(204);
	END IF;
	body := coder.body(req);
	IF one THEN
		before := coder.param_mcp_server(req);
		m := coder.mcp_server_apply(before, body);
		m.updated_at := now();
		m.updated_by := coder.subject_id();
		UPDATE coder.mcp_server_configs x SET (display_name, slug, description, icon_url, transport, url, auth_type, oauth2_client_id,
			oauth2_client_secret, oauth2_client_secret_key_id, oauth2_auth_url, oauth2_token_url, oauth2_scopes, api_key_header, api_key_value,
			api_key_value_key_id, custom_headers, custom_headers_key_id, tool_allow_list, tool_deny_list, availability, enabled, model_intent,
			updated_at, updated_by, oauth2_discovered, oauth2_revocation_url, oauth2_resource, oauth2_basic) = (m.display_name, m.slug, m.description, m.icon_url, m.transport, m.url, m.auth_type, m.oauth2_client_id,
			m.oauth2_client_secret, m.oauth2_client_secret_key_id, m.oauth2_auth_url, m.oauth2_token_url, m.oauth2_scopes, m.api_key_header,
			m.api_key_value, m.api_key_value_key_id, m.custom_headers, m.custom_headers_key_id, m.tool_allow_list, m.tool_deny_list,
			m.availability, m.enabled, m.model_intent, m.updated_at, m.updated_by, m.oauth2_discovered, m.oauth2_revocation_url, m.oauth2_resource, m.oauth2_basic)
		 WHERE x.id = m.id RETURNING x.* INTO m;
		-- What users have signed in to is not sent to another server.
		IF m.auth_type <> before.auth_type OR coder.url_origin(m.url) IS DISTINCT FROM coder.url_origin(before.url)
			OR coder.url_origin(m.oauth2_token_url) IS DISTINCT FROM coder.url_origin(before.oauth2_token_url) THEN
			DELETE FROM coder.mcp_server_user_tokens t WHERE t.mcp_server_config_id = m.id;
		END IF;
		RETURN coder.reply(200, coder.mcp_server_json(m));
	END IF;
	body := coder.body(req, 'display_name', 'slug', 'transport', 'url', 'auth_type', 'availability');
	m := coder.mcp_server_new(body);
	IF coder.mcp_server_check(m, body) THEN
		-- What is wrong with it else is said before its server is asked.
		BEGIN
			INSERT INTO coder.mcp_server_configs SELECT m.*;
			RAISE SQLSTATE 'ZT001';
		EXCEPTION WHEN SQLSTATE 'ZT001' THEN
			RETURN coder.mcp_discover(m);
		END;
	END IF;
	INSERT INTO coder.mcp_server_configs SELECT m.* RETURNING * INTO m;
	RETURN coder.reply(201, coder.mcp_server_json(m));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, CASE WHEN one THEN 'MCP server config slug already exists.' ELSE 'MCP server config already exists.' END);
WHEN check_violation THEN
	GET STACKED DIAGNOSTICS broken = CONSTRAINT_NAME;
	PERFORM coder.raise(400, 'Invalid MCP server config.', format('It violates %s.', broken));
END
$$;

DELETE FROM coder.routes WHERE area = 'mcpserver';
INSERT INTO coder.routes (area, method, pattern, function, max_body)	-- a GET may refresh tokens
SELECT 'mcpserver', r.method, '/api/experimental/mcp/servers' || r.path, 'mcp_servers', 262144
  FROM (VALUES ('GET', ''), ('POST', ''), ('GET', '/{mcpServer}'), ('PATCH', '/{mcpServer}'), ('DELETE', '/{mcpServer}')) AS r (method, path);
