-- sql/api/mcpauth.sql -- users' tokens for MCP servers: OAuth 2 with PKCE, found by the server's metadata where nobody has set it
--
-- RFC 9728 and 8414 (metadata), 7591 (registration), 7636 (PKCE), 8707 (resource), 7009 (revocation).  An address that
-- metadata names is not trusted as one that an administrator gives: at another host than the MCP server's it is asked only
-- where it is on the public network.

-- ---- requests ----

-- The host of a URL, in lower case.
CREATE OR REPLACE FUNCTION coder.url_host(url text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN lower(substring(url FROM '^[A-Za-z]+://(\[[^]/?#]*\]|[^:/?#]*)'));
END
$$;

-- Scheme, host and port of a URL, in lower case; '' where it is none.
CREATE OR REPLACE FUNCTION coder.url_origin(url text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(lower(substring(url FROM '^[A-Za-z]+://[^/?#]*')), '');
END
$$;

-- May metadata of the MCP server at base name this URL?  No userinfo, nothing that parsers read differently, and no way
-- back from TLS to plain text.
CREATE OR REPLACE FUNCTION coder.mcp_url_ok(url text, base text)
RETURNS bool LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(length(url) <= 2048 AND url ~ '^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?([/?][!-~]*)?$' AND url !~ '[\\"<>^`{|}#]'
		AND (url ~ '^https://' OR base !~* '^https://'), false);
END
$$;

-- A request for what belongs to a server: to an address that its metadata names only as far as the head of this file says.
CREATE OR REPLACE FUNCTION coder.mcp_request(m coder.mcp_server_configs, request jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN request || jsonb_build_object('max_size', 262144,
		'public', m.oauth2_discovered AND coder.url_host(request->>'url') IS DISTINCT FROM coder.url_host(m.url));
END
$$;

-- The request to an endpoint of the authorization server: form, and who this server is there.
CREATE OR REPLACE FUNCTION coder.mcp_token_request(m coder.mcp_server_configs, url text, form jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	secret CONSTANT text := coder.unseal(m.oauth2_client_secret, m.oauth2_client_secret_key_id);
BEGIN
	IF m.oauth2_basic AND secret <> '' THEN
		RETURN coder.mcp_request(m, coder.fetch_form(url, form, jsonb_build_object('Authorization', 'Basic ' || translate(encode(convert_to(
			coder.url_encode(m.oauth2_client_id) || ':' || coder.url_encode(secret), 'UTF8'), 'base64'), E'\n', ''))));
	END IF;
	RETURN coder.mcp_request(m, coder.fetch_form(url, form || jsonb_build_object('client_id', m.oauth2_client_id, 'client_secret', nullif(secret, ''))));
END
$$;

-- Where the authorization server sends the browser back to.
CREATE OR REPLACE FUNCTION coder.mcp_callback(server uuid)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN format('/api/experimental/mcp/servers/%s/oauth2/callback', server);
END
$$;

-- ---- discovery, when a server is added ----

-- ZC400: what a server's metadata say is not enough.
CREATE OR REPLACE FUNCTION coder.mcp_discovery_failed(why text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.raise(400, 'OAuth2 auto-discovery failed. Give oauth2_client_id, oauth2_auth_url and oauth2_token_url, or use a server with'
		' protected resource metadata (RFC 9728) and dynamic client registration (RFC 7591).', why);
END
$$;

-- Asks a server, which is not stored yet, how one signs in there: itself, which refuses and may name its metadata, and the places
-- where they are by RFC 9728.  state: {"id", "docs": [the metadata so far, the best first]}.
CREATE OR REPLACE FUNCTION coder.mcp_discover(m coder.mcp_server_configs)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	origin CONSTANT text := substring(m.url FROM '^https?://[^/?#]+');
	path CONSTANT text := rtrim(coalesce(substring(m.url FROM '^https?://[^/?#]+(/[^?#]*)'), ''), '/');
	at CONSTANT text := origin || '/.well-known/oauth-protected-resource';
	probe CONSTANT jsonb := jsonb_build_object('method', CASE m.transport WHEN 'sse' THEN 'GET' ELSE 'POST' END, 'url', m.url, 'timeout_ms', 5000, 'headers',
		'{"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}'::jsonb);
BEGIN
	IF NOT coder.mcp_url_ok(m.url, m.url) THEN
		PERFORM coder.mcp_discovery_failed('the URL of the server is none of HTTP');
	END IF;
	m.oauth2_discovered := true;
	RETURN coder.fetch('mcp_discovered', jsonb_build_object('id', m.id, 'named', NULL),
		coder.mcp_request(m, CASE m.transport WHEN 'sse' THEN probe ELSE probe || jsonb_build_object('body',
			'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"coder","version":"1"}}}') END),
		coder.mcp_request(m, coder.fetch_get(at || path, timeout_ms => 5000)), coder.mcp_request(m, coder.fetch_get(at, timeout_ms => 5000)));
END
$$;

-- The server that is being added, as the request describes it; state: of the discovery.
CREATE OR REPLACE FUNCTION coder.mcp_discovering(req coder.request, state jsonb)
RETURNS coder.mcp_server_configs LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m coder.mcp_server_configs;
BEGIN
	PERFORM coder.chat_gate(), coder.require('update', 'deployment_config');
	m := coder.mcp_server_new(coder.body(req));
	m.id := (state->>'id')::uuid;
	m.oauth2_discovered := true;
	RETURN m;
END
$$;

-- Are these metadata of the server (RFC 9728 section 3.3)?
CREATE OR REPLACE FUNCTION coder.mcp_resource_ok(doc jsonb, url text)
RETURNS bool LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(jsonb_typeof(doc->'authorization_servers') = 'array' AND coder.mcp_url_ok(doc->'authorization_servers'->>0, url)
		AND (doc->>'resource' IS NULL OR lower(substring(doc->>'resource' FROM '^https?://[^/?#]+')) = lower(substring(url FROM '^https?://[^/?#]+'))), false);
END
$$;

-- What came of mcp_discover, and where the server names metadata of its own, of those; then the authorization server is asked.
CREATE OR REPLACE FUNCTION coder.mcp_discovered(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	state CONSTANT jsonb := (coder.fetched(req)).state;
	results CONSTANT jsonb := (coder.fetched(req)).results;
	m CONSTANT coder.mcp_server_configs := coder.mcp_discovering(req, state);
	named CONSTANT text := substring(results->0->'headers'->>'www-authenticate' FROM '(?i)resource_metadata="([^"]*)"');
	docs jsonb := coalesce(state->'docs', '[]');
	doc jsonb;
	issuer text;
	origin text;
	path text;
BEGIN
	docs := docs || coalesce((SELECT jsonb_agg(coder.fetched_object(r.v) ORDER BY r.n) FROM jsonb_array_elements(results) WITH ORDINALITY r (v, n)
		WHERE coder.mcp_resource_ok(coder.fetched_object(r.v), m.url)), '[]');
	IF state->>'named' IS NULL AND coder.mcp_url_ok(named, m.url) THEN
		RETURN coder.fetch('mcp_discovered', state || jsonb_build_object('named', named, 'docs', docs),
			coder.mcp_request(m, coder.fetch_get(named, timeout_ms => 5000)));
	END IF;
	doc := CASE WHEN state->>'named' IS NULL THEN docs->0 ELSE docs->-1 END;
	-- Servers of before RFC 9728 are their own authorization servers.
	issuer := coalesce(doc->'authorization_servers'->>0, substring(m.url FROM '^https?://[^/?#]+'));
	origin := substring(issuer FROM '^https?://[^/?#]+');
	path := rtrim(substr(issuer, length(origin) + 1), '/');
	RETURN coder.fetch('mcp_discovered_issuer', jsonb_build_object('id', m.id, 'issuer', issuer, 'scopes', doc->'scopes_supported', 'resource', doc->>'resource'),
		coder.mcp_request(m, coder.fetch_get(origin || '/.well-known/oauth-authorization-server' || path, timeout_ms => 5000)),
		coder.mcp_request(m, coder.fetch_get(origin || '/.well-known/openid-configuration' || path, timeout_ms => 5000)),
		coder.mcp_request(m, coder.fetch_get(origin || path || '/.well-known/openid-configuration', timeout_ms => 5000)));
END
$$;

-- The authorization server's metadata: this server registers there.
CREATE OR REPLACE FUNCTION coder.mcp_discovered_issuer(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	state CONSTANT jsonb := (coder.fetched(req)).state;
	results CONSTANT jsonb := (coder.fetched(req)).results;
	m CONSTANT coder.mcp_server_configs := coder.mcp_discovering(req, state);
	doc CONSTANT jsonb := (SELECT coder.fetched_object(r.v) FROM jsonb_array_elements(results) WITH ORDINALITY r (v, n)
		WHERE coder.fetched_object(r.v) IS NOT NULL ORDER BY r.n LIMIT 1);
	methods CONSTANT jsonb := doc->'token_endpoint_auth_methods_supported';
	auth CONSTANT text := CASE WHEN jsonb_typeof(methods) IS DISTINCT FROM 'array' OR methods ? 'none' THEN 'none'
		WHEN methods ? 'client_secret_post' THEN 'client_secret_post' ELSE 'client_secret_basic' END;
BEGIN
	IF doc IS NULL THEN
		PERFORM coder.mcp_discovery_failed(format('%s has no metadata of an authorization server: %s', state->>'issuer', coder.fetched_error(results->0)));
	ELSIF rtrim(coalesce(doc->>'issuer', ''), '/') <> rtrim(state->>'issuer', '/') THEN
		PERFORM coder.mcp_discovery_failed('the metadata are those of another authorization server');
	ELSIF NOT coder.mcp_url_ok(doc->>'authorization_endpoint', m.url) OR NOT coder.mcp_url_ok(doc->>'token_endpoint', m.url) THEN
		PERFORM coder.mcp_discovery_failed('the metadata name no usable authorization_endpoint and token_endpoint');
	ELSIF jsonb_typeof(doc->'code_challenge_methods_supported') = 'array' AND NOT doc->'code_challenge_methods_supported' ? 'S256' THEN
		PERFORM coder.mcp_discovery_failed('the authorization server does not support PKCE with S256');
	ELSIF NOT coder.mcp_url_ok(doc->>'registration_endpoint', m.url) THEN
		PERFORM coder.mcp_discovery_failed('the authorization server does not register clients');
	END IF;
	RETURN coder.fetch('mcp_registered', state || jsonb_build_object('auth', auth, 'doc', jsonb_build_object('authorization_endpoint', doc->'authorization_endpoint',
			'token_endpoint', doc->'token_endpoint', 'revocation_endpoint', doc->'revocation_endpoint', 'scopes', coalesce(state->'scopes', doc->'scopes_supported'))),
		coder.mcp_request(m, jsonb_build_object('method', 'POST', 'url', doc->>'registration_endpoint',
			'headers', '{"Accept": "application/json", "Content-Type": "application/json"}'::jsonb, 'body', jsonb_build_object('client_name', 'Coder',
			'redirect_uris', jsonb_build_array(rtrim(coder.setting('access_url'), '/') || coder.mcp_callback(m.id)), 'token_endpoint_auth_method', auth,
			'grant_types', '["authorization_code", "refresh_token"]'::jsonb, 'response_types', '["code"]'::jsonb)::text)));
END
$$;

-- This server is registered: the MCP server is stored.
CREATE OR REPLACE FUNCTION coder.mcp_registered(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	state CONSTANT jsonb := (coder.fetched(req)).state;
	result CONSTANT jsonb := (coder.fetched(req)).results->0;
	client CONSTANT jsonb := coder.fetched_object(result);
	doc CONSTANT jsonb := state->'doc';
	m coder.mcp_server_configs := coder.mcp_discovering(req, state);
BEGIN
	IF coalesce(client->>'client_id', '') !~ '^[!-~]+$' OR length(client->>'client_id') > 2048 THEN
		PERFORM coder.mcp_discovery_failed('the authorization server did not register this server: ' || CASE WHEN client IS NULL
			THEN coder.fetched_error(result) ELSE 'no client_id' END);
	END IF;
	m.oauth2_client_id := client->>'client_id';
	m.oauth2_client_secret := left(coalesce(client->>'client_secret', ''), 4096);
	m.oauth2_basic := coalesce(client->>'token_endpoint_auth_method', state->>'auth') = 'client_secret_basic';
	m.oauth2_auth_url := doc->>'authorization_endpoint';
	m.oauth2_token_url := doc->>'token_endpoint';
	m.oauth2_revocation_url := CASE WHEN coder.mcp_url_ok(doc->>'revocation_endpoint', m.url) THEN doc->>'revocation_endpoint' ELSE '' END;
	m.oauth2_resource := left(coalesce(state->>'resource', ''), 2048);
	IF m.oauth2_scopes IS NULL OR m.oauth2_scopes = '' THEN
		m.oauth2_scopes := CASE WHEN jsonb_typeof(doc->'scopes') = 'array' THEN left(coalesce((SELECT string_agg(s, ' ')
			FROM jsonb_array_elements_text(doc->'scopes') s WHERE s ~ '^[!-~]+$'), ''), 4096) ELSE '' END;
	END IF;
	INSERT INTO coder.mcp_server_configs SELECT m.* RETURNING * INTO m;
	RETURN coder.reply(201, coder.mcp_server_json(m));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, 'MCP server config already exists.');
WHEN check_violation THEN
	PERFORM coder.raise(400, 'Invalid MCP server config.');
END
$$;

-- ---- a user connects ----

-- {mcpServer} that users sign in to: ZC400, ZC404.
CREATE OR REPLACE FUNCTION coder.mcp_oauth_server(req coder.request)
RETURNS coder.mcp_server_configs LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m coder.mcp_server_configs;
BEGIN
	PERFORM coder.chat_gate();
	m := coder.mcp_server_named(req);
	IF NOT m.enabled THEN
		PERFORM coder.raise(400, 'MCP server is not enabled.');
	ELSIF m.auth_type <> 'oauth2' THEN
		PERFORM coder.raise(400, 'MCP server does not use OAuth2 authentication.');
	END IF;
	RETURN m;
END
$$;

-- A cookie for ten minutes that only the callback gets.  name: state or verifier; '' takes it away.
CREATE OR REPLACE FUNCTION coder.mcp_cookie(server uuid, name text, value text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	line CONSTANT text := coder.cookie(format('mcp_oauth2_%s_%s', name, server), value, 600, 'lax');
BEGIN
	-- A cookie of a host's own has no other path than "/".
	RETURN CASE WHEN line LIKE 'Set-Cookie: \_\_Host-%' THEN line ELSE replace(line, 'Path=/;', format('Path=%s;', coder.mcp_callback(server))) END;
END
$$;

-- GET /mcp/servers/{mcpServer}/oauth2/connect: the browser goes to the authorization server.
CREATE OR REPLACE FUNCTION coder.mcp_connect(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m CONSTANT coder.mcp_server_configs := coder.mcp_oauth_server(req);
	state CONSTANT text := coder.random_key(32);
	verifier CONSTANT text := coder.random_key(43);
BEGIN
	IF m.oauth2_auth_url !~* '^https?://' THEN
		PERFORM coder.raise(400, 'MCP server OAuth2 authorization URL is not configured.');
	END IF;
	RETURN coder.redirect(coder.url_with(m.oauth2_auth_url, jsonb_build_object('response_type', 'code', 'client_id', m.oauth2_client_id,
			'redirect_uri', rtrim(coder.setting('access_url'), '/') || coder.mcp_callback(m.id), 'state', state,
			'scope', nullif(array_to_string(regexp_split_to_array(btrim(m.oauth2_scopes), '\s+'), ' '), ''), 'resource', nullif(m.oauth2_resource, ''),
			'code_challenge_method', 'S256', 'code_challenge', coder.base64url(coder.sha256(verifier)))),
		coder.mcp_cookie(m.id, 'state', state) || coder.mcp_cookie(m.id, 'verifier', verifier));
END
$$;

-- The form that exchanges what a callback got.
CREATE OR REPLACE FUNCTION coder.mcp_code_form(m coder.mcp_server_configs, req coder.request)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('grant_type', 'authorization_code', 'code', req.query->>'code',
		'redirect_uri', rtrim(coder.setting('access_url'), '/') || coder.mcp_callback(m.id), 'resource', nullif(m.oauth2_resource, ''),
		'code_verifier', coder.request_cookie(req, 'mcp_oauth2_verifier_' || m.id));
END
$$;

-- GET /mcp/servers/{mcpServer}/oauth2/callback: the browser is back.
CREATE OR REPLACE FUNCTION coder.mcp_callback_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m CONSTANT coder.mcp_server_configs := coder.mcp_oauth_server(req);
	state CONSTANT text := coalesce(coder.request_cookie(req, 'mcp_oauth2_state_' || m.id), '');
BEGIN
	IF coalesce(req.query->>'error', '') <> '' THEN
		PERFORM coder.raise(400, 'OAuth2 provider returned an error.', left(coalesce(nullif(req.query->>'error_description', ''), req.query->>'error'), 500));
	ELSIF coalesce(req.query->>'code', '') = '' THEN
		PERFORM coder.raise(400, 'Missing authorization code.');
	ELSIF state = '' OR coder.sha256(state) <> coder.sha256(coalesce(req.query->>'state', '')) THEN
		PERFORM coder.raise(400, 'Invalid or missing OAuth2 state parameter.');
	END IF;
	RETURN coder.fetch('mcp_exchanged', '{}', coder.mcp_token_request(m, m.oauth2_token_url, coder.mcp_code_form(m, req)));
END
$$;

-- The tokens of a token endpoint's answer, NULL where there are none that can be used.
CREATE OR REPLACE FUNCTION coder.mcp_token(result jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	token jsonb := coder.fetched_object(result);
BEGIN
	IF token IS NULL AND (result->>'status')::int4 BETWEEN 200 AND 299 AND result->'headers'->>'content-type' ~* '^application/x-www-form-urlencoded' THEN
		token := coder.form_decode(left(result->>'body', 65536));
	END IF;
	-- They become headers: nothing but visible characters.
	IF coalesce(token->>'access_token', '') !~ '^[!-~]+$' OR coalesce(token->>'refresh_token', '') !~ '^[!-~]*$'
		OR length(token->>'access_token') > 65536 OR length(token->>'refresh_token') > 65536 OR coalesce(token->>'token_type', '') !~ '^[A-Za-z0-9._-]{0,64}$' THEN
		RETURN NULL;
	END IF;
	RETURN token;
END
$$;

-- When a token expires; NULL where it does not say.
CREATE OR REPLACE FUNCTION coder.mcp_expiry(token jsonb)
RETURNS timestamptz LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN nullif(coder.oauth_expiry(token), '0001-01-01 00:00:00+00');
END
$$;

-- The authorization server has answered the code: the user's tokens are kept.
CREATE OR REPLACE FUNCTION coder.mcp_exchanged(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m coder.mcp_server_configs := coder.mcp_oauth_server(req);
	state CONSTANT jsonb := (coder.fetched(req)).state;
	result CONSTANT jsonb := (coder.fetched(req)).results->0;
	token CONSTANT jsonb := coder.mcp_token(result);
	gone CONSTANT text := coder.mcp_cookie(m.id, 'state', '') || coder.mcp_cookie(m.id, 'verifier', '');
	answer coder.response;
BEGIN
	IF token IS NULL AND m.oauth2_client_secret <> '' AND NOT m.oauth2_basic AND NOT state ? 'basic' AND result->>'status' IN ('400', '401')
		AND coder.try_json(result->>'body')->>'error' = 'invalid_client' THEN
		-- Some take the client's secret in a header only.
		m.oauth2_basic := true;
		RETURN coder.fetch('mcp_exchanged', '{"basic": true}', coder.mcp_token_request(m, m.oauth2_token_url, coder.mcp_code_form(m, req)));
	ELSIF token IS NULL THEN
		answer := coder.reply(502, '{"message": "Failed to exchange authorization code for token.", "detail": "The authorization server gave no token for the code."}'::jsonb);
		answer.headers := gone;
		RETURN answer;
	ELSIF state ? 'basic' THEN
		UPDATE coder.mcp_server_configs x SET oauth2_basic = true WHERE x.id = m.id;
	END IF;
	INSERT INTO coder.mcp_server_user_tokens AS t (mcp_server_config_id, user_id, access_token, refresh_token, token_type, expiry)
	VALUES (m.id, coder.subject_id(), token->>'access_token', coalesce(token->>'refresh_token', ''), coalesce(nullif(token->>'token_type', ''), 'Bearer'),
		coder.mcp_expiry(token))
	ON CONFLICT (mcp_server_config_id, user_id) DO UPDATE SET access_token = excluded.access_token, access_token_key_id = excluded.access_token_key_id,
		refresh_token = excluded.refresh_token, refresh_token_key_id = excluded.refresh_token_key_id, token_type = excluded.token_type,
		expiry = excluded.expiry, updated_at = clock_timestamp(), refreshing_until = NULL;
	RETURN coder.mcp_connected_page(m.id, gone);
END
$$;

-- The page of the window in which the user signed in: it tells the page that opened it, and closes.
CREATE OR REPLACE FUNCTION coder.mcp_connected_page(server uuid, headers text)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	origin CONSTANT text := coalesce(substring(coder.setting('access_url') FROM '^https?://[^/?#]+'), '');
	script CONSTANT text := format('if(window.opener){window.opener.postMessage({type:"mcp-oauth2-complete",serverID:"%s"},%s);window.close()}',
		server, replace(to_json(origin)::text, '<', '\u003c'));
BEGIN
	RETURN ROW(200, format('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Connected</title></head>'
			'<body><p>You are connected. This window can be closed.</p><script>%s</script></body></html>', script),
		format(E'Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Frame-Options: DENY\r\n'
			'Content-Security-Policy: default-src ''none''; script-src ''sha256-%s''; frame-ancestors ''none''\r\n%s',
			encode(sha256(convert_to(script, 'UTF8')), 'base64'), headers), NULL)::coder.response;
END
$$;

-- DELETE /mcp/servers/{mcpServer}/oauth2/disconnect: the user's tokens go, and where the authorization server takes that, it is told.
CREATE OR REPLACE FUNCTION coder.mcp_disconnect(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted CONSTANT uuid := coder.try_uuid(req.params->>'mcpServer');
	m coder.mcp_server_configs;
	t coder.mcp_server_user_tokens;
	requests jsonb[];
BEGIN
	PERFORM coder.chat_gate();
	IF wanted IS NULL THEN
		PERFORM coder.raise(400, 'Invalid MCP server config ID.');
	END IF;
	DELETE FROM coder.mcp_server_user_tokens x WHERE x.mcp_server_config_id = wanted AND x.user_id = coder.subject_id() RETURNING x.* INTO t;
	SELECT x.* INTO m FROM coder.mcp_server_configs x WHERE x.id = wanted;
	IF t.id IS NULL OR m.oauth2_revocation_url = '' THEN
		RETURN coder.reply(204);
	END IF;
	requests := ARRAY(SELECT coder.mcp_token_request(m, m.oauth2_revocation_url, jsonb_build_object('token', k.value, 'token_type_hint', k.hint))
		FROM (VALUES (1, coder.unseal(t.refresh_token, t.refresh_token_key_id), 'refresh_token'),
			(2, coder.unseal(t.access_token, t.access_token_key_id), 'access_token')) k (n, value, hint) WHERE k.value <> '' ORDER BY k.n);
	RETURN coder.fetch('mcp_disconnected', 'null', VARIADIC requests);
END
$$;

-- Whatever the authorization server said: the tokens are gone here.
CREATE OR REPLACE FUNCTION coder.mcp_disconnected(req coder.request)
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(204);
END
$$;

-- ---- refreshing ----

-- A user's tokens for these servers (NULL: all) that have expired and can be refreshed: {"links": [[server, updated_at], ...], "requests": [...]} of
-- those that this caller is to refresh, and "busy": another one does so with others.  Who has taken one gives it back with
-- coder.mcp_refresh_done, or loses it after a quarter of a minute.
CREATE OR REPLACE FUNCTION coder.mcp_refresh_claim(uid uuid, servers uuid[])
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t coder.mcp_server_user_tokens;
	m coder.mcp_server_configs;
	links jsonb := '[]';
	requests jsonb := '[]';
	busy bool := false;
BEGIN
	IF NOT EXISTS (SELECT FROM coder.mcp_server_user_tokens x WHERE x.user_id = uid AND x.refresh_token <> '' AND x.expiry < clock_timestamp() + interval '20 seconds') THEN
		RETURN '{"links": [], "requests": [], "busy": false}';
	END IF;
	FOR t IN SELECT x.* FROM coder.mcp_server_user_tokens x WHERE x.user_id = uid AND (servers IS NULL OR x.mcp_server_config_id = ANY (servers))
			AND x.refresh_token <> '' AND x.expiry < clock_timestamp() + interval '20 seconds' ORDER BY x.mcp_server_config_id LIMIT 16 FOR UPDATE LOOP
		SELECT x.* INTO m FROM coder.mcp_server_configs x WHERE x.id = t.mcp_server_config_id AND x.enabled AND x.auth_type = 'oauth2' AND x.oauth2_token_url <> '';
		CONTINUE WHEN NOT FOUND;
		IF t.refreshing_until > clock_timestamp() THEN
			busy := true;
			CONTINUE;
		END IF;
		UPDATE coder.mcp_server_user_tokens x SET refreshing_until = clock_timestamp() + interval '15 seconds' WHERE x.id = t.id;
		links := links || jsonb_build_array(jsonb_build_array(m.id, t.updated_at));
		requests := requests || coder.mcp_token_request(m, m.oauth2_token_url, jsonb_build_object('grant_type', 'refresh_token',
			'refresh_token', coder.unseal(t.refresh_token, t.refresh_token_key_id), 'resource', nullif(m.oauth2_resource, '')));
	END LOOP;
	RETURN jsonb_build_object('links', links, 'requests', requests, 'busy', busy);
END
$$;

-- What came of them; the servers at which it has failed.  A refresh token that was refused is dropped, one that got no answer is kept.
CREATE OR REPLACE FUNCTION coder.mcp_refresh_done(uid uuid, links jsonb, results jsonb)
RETURNS uuid[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one record;
	token jsonb;
	refused bool;
	failed uuid[] := '{}';
BEGIN
	FOR one IN SELECT (l.v->>0)::uuid AS server, (l.v->>1)::timestamptz AS at, r.v AS result, (r.v->>'status')::int4 AS status
		  FROM jsonb_array_elements(links) WITH ORDINALITY l (v, n) JOIN jsonb_array_elements(results) WITH ORDINALITY r (v, n) USING (n) ORDER BY n LOOP
		token := coder.mcp_token(one.result);
		refused := token IS NULL AND one.status BETWEEN 400 AND 499 AND one.status NOT IN (408, 425, 429);
		IF token IS NULL THEN
			failed := failed || one.server;
		END IF;
		UPDATE coder.mcp_server_user_tokens x SET refreshing_until = NULL,
			access_token = coalesce(token->>'access_token', coder.unseal(x.access_token, x.access_token_key_id)), access_token_key_id = NULL,
			refresh_token = CASE WHEN refused THEN '' ELSE coalesce(nullif(token->>'refresh_token', ''), coder.unseal(x.refresh_token, x.refresh_token_key_id)) END,
			refresh_token_key_id = NULL,
			token_type = coalesce(nullif(token->>'token_type', ''), x.token_type),
			expiry = CASE WHEN token IS NULL THEN x.expiry ELSE coder.mcp_expiry(token) END,
			updated_at = CASE WHEN token IS NULL THEN x.updated_at ELSE clock_timestamp() END
		 WHERE x.mcp_server_config_id = one.server AND x.user_id = uid AND x.updated_at = one.at;
	END LOOP;
	RETURN failed;
END
$$;

-- What a runner must know to use a server (gateway/chat/mcp.c), with its secrets in plain text; JSON null where there is none or it is off.
CREATE OR REPLACE FUNCTION coder.chat_run_mcp_server(server uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m coder.mcp_server_configs;
BEGIN
	SELECT x.* INTO m FROM coder.mcp_server_configs x WHERE x.id = server AND x.enabled;
	IF NOT FOUND THEN
		RETURN 'null';
	END IF;
	RETURN jsonb_build_object('slug', m.slug, 'url', m.url, 'transport', m.transport, 'auth_type', m.auth_type, 'model_intent', m.model_intent,
		'allow', to_jsonb(m.tool_allow_list), 'deny', to_jsonb(m.tool_deny_list), 'headers', CASE m.auth_type
			WHEN 'api_key' THEN jsonb_build_object(m.api_key_header, coder.unseal(m.api_key_value, m.api_key_value_key_id))
			WHEN 'custom_headers' THEN coalesce(coder.try_json(coder.unseal(m.custom_headers, m.custom_headers_key_id)), '{}') ELSE '{}' END);
END
$$;

-- The Authorization of a user at servers with OAuth: {"tokens": {server: value}}, of those that are valid; with refresh also
-- {"links", "requests", "busy"} of coder.mcp_refresh_claim, and then no tokens while something is to be waited for.
CREATE OR REPLACE FUNCTION coder.chat_mcp_tokens(uid uuid, servers uuid[], refresh bool)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	claim CONSTANT jsonb := CASE WHEN refresh THEN coder.mcp_refresh_claim(uid, servers) ELSE '{}' END;
BEGIN
	RETURN claim || jsonb_build_object('tokens', (SELECT coalesce(jsonb_object_agg(t.mcp_server_config_id, CASE WHEN lower(t.token_type) IN ('', 'bearer')
			THEN 'Bearer' ELSE t.token_type END || ' ' || coder.unseal(t.access_token, t.access_token_key_id)), '{}')
		FROM coder.mcp_server_user_tokens t WHERE t.user_id = uid AND t.mcp_server_config_id = ANY (servers) AND (t.expiry IS NULL OR t.expiry > clock_timestamp())));
END
$$;

-- A GET of servers: the subject's tokens are refreshed first; where another request does so, it waits for that.  round: from 1.
CREATE OR REPLACE FUNCTION coder.mcp_servers_look(req coder.request, round int4)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one CONSTANT uuid := CASE WHEN req.params ? 'mcpServer' THEN (coder.param_mcp_server(req)).id END;
	claim CONSTANT jsonb := coder.mcp_refresh_claim(coder.subject_id(), CASE WHEN one IS NOT NULL THEN ARRAY[one] END);
BEGIN
	IF jsonb_array_length(claim->'requests') > 0 THEN
		RETURN coder.fetch('mcp_servers_refreshed', claim->'links', VARIADIC ARRAY(SELECT jsonb_array_elements(claim->'requests')));
	ELSIF (claim->>'busy')::bool AND round < 6 THEN
		RETURN coder.wait('mcp_servers_waited', to_jsonb(round), 150 * round);
	END IF;
	RETURN coder.mcp_servers_reply(req, '{}');
END
$$;

CREATE OR REPLACE FUNCTION coder.mcp_servers_refreshed(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.mcp_servers_reply(req, coder.mcp_refresh_done(coder.subject_id(), (coder.fetched(req)).state, (coder.fetched(req)).results));
END
$$;
COMMENT ON FUNCTION coder.mcp_servers_refreshed(coder.request) IS 'Goes on with mcp_servers_look: the authorization servers have answered.';

CREATE OR REPLACE FUNCTION coder.mcp_servers_waited(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.mcp_servers_look(req, ((coder.fetched(req)).state)::int4 + 1);
END
$$;
COMMENT ON FUNCTION coder.mcp_servers_waited(coder.request) IS 'Goes on with mcp_servers_look: another request refreshed the tokens meanwhile, or still does.';

DELETE FROM coder.routes WHERE area = 'mcpauth';
INSERT INTO coder.routes (area, method, pattern, function) VALUES
	('mcpauth', 'GET', '/api/experimental/mcp/servers/{mcpServer}/oauth2/connect', 'mcp_connect'),
	('mcpauth', 'GET', '/api/experimental/mcp/servers/{mcpServer}/oauth2/callback', 'mcp_callback_get'),
	('mcpauth', 'DELETE', '/api/experimental/mcp/servers/{mcpServer}/oauth2/disconnect', 'mcp_disconnect');
