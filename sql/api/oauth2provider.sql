-- sql/api/oauth2provider.sql -- this server as an OAuth 2.0 provider
--
-- Applications, their secrets, and the metadata of RFC 8414 and 9728.  The flows: oauth2token.sql; registration:
-- oauth2registration.sql.  An access token is an ordinary API key.  Tables: sql/schema/oauth2provider.sql.

-- A new secret, code or refresh token, and the parts of it that are kept.
CREATE OR REPLACE FUNCTION coder.oauth2_secret(OUT secret text, OUT prefix bytea, OUT hash bytea)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	head CONSTANT text := coder.random_key(10);
	tail CONSTANT text := coder.random_key(40);
BEGIN
	secret := format('coder_%s_%s', head, tail);
	prefix := convert_to(head, 'UTF8');
	hash := coder.sha256(tail);
END
$$;

-- The parts of a secret that a client sent; NULLs where it has not the form of one.
CREATE OR REPLACE FUNCTION coder.oauth2_secret_parts(secret text, OUT prefix bytea, OUT hash bytea)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts CONSTANT text[] := regexp_match(secret, '^coder_([A-Za-z0-9]{10})_([A-Za-z0-9]{40})$');
BEGIN
	prefix := convert_to(parts[1], 'UTF8');
	hash := coder.sha256(parts[2]);
END
$$;

-- Raises an error of RFC 6749 section 5.2, to be answered by coder.oauth2_error: SQLSTATE ZO<status>,
-- message the code, detail its description.
CREATE OR REPLACE FUNCTION coder.oauth2_raise(status int4, code text, description text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'ZO' || status, MESSAGE = code, DETAIL = description;
END
$$;

-- {"error": …, "error_description": …}
CREATE OR REPLACE FUNCTION coder.oauth2_error(status int4, code text, description text)
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(status, coder.compact(jsonb_build_object('error', code, 'error_description', description)),
		E'Content-Type: application/json; charset=utf-8\r\nCache-Control: no-store\r\n'
			|| CASE WHEN code = 'invalid_client' THEN E'WWW-Authenticate: Basic realm="coder"\r\n'
				WHEN code = 'invalid_token' THEN E'WWW-Authenticate: Bearer realm="coder", error="invalid_token"\r\n' ELSE '' END,
		NULL)::coder.response;
END
$$;

-- An address of this server.
CREATE OR REPLACE FUNCTION coder.own_url(path text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN rtrim(coalesce(coder.setting('access_url'), ''), '/') || path;
END
$$;

-- OAuth2ProviderApp
CREATE OR REPLACE FUNCTION coder.oauth2_app_json(a coder.oauth2_provider_apps)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('id', a.id, 'name', a.name, 'callback_url', a.callback_url, 'icon', a.icon,
		'endpoints', jsonb_build_object('authorization', coder.own_url('/oauth2/authorize'), 'token', coder.own_url('/oauth2/tokens'),
			'token_revoke', coder.own_url('/oauth2/revoke'), 'device_authorization', ''));
END
$$;

-- GET /.well-known/oauth-authorization-server: RFC 8414
CREATE OR REPLACE FUNCTION coder.oauth2_server_metadata(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object('issuer', coder.own_url(''), 'authorization_endpoint', coder.own_url('/oauth2/authorize'),
		'token_endpoint', coder.own_url('/oauth2/tokens'), 'registration_endpoint', coder.own_url('/oauth2/register'),
		'revocation_endpoint', coder.own_url('/oauth2/revoke'), 'response_types_supported', '["code"]'::jsonb,
		'grant_types_supported', '["authorization_code", "refresh_token"]'::jsonb, 'code_challenge_methods_supported', '["S256"]'::jsonb,
		'scopes_supported', to_jsonb(coder.external_scopes()),
		'token_endpoint_auth_methods_supported', '["client_secret_basic", "client_secret_post"]'::jsonb));
END
$$;

-- GET /.well-known/oauth-protected-resource: RFC 9728
CREATE OR REPLACE FUNCTION coder.oauth2_resource_metadata(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object('resource', coder.own_url(''), 'authorization_servers', jsonb_build_array(coder.own_url('')),
		'scopes_supported', to_jsonb(coder.external_scopes()), 'bearer_methods_supported', '["header", "query"]'::jsonb));
END
$$;

-- {app} of the management routes; 404 where there is none.
CREATE OR REPLACE FUNCTION coder.param_oauth2_app(req coder.request)
RETURNS coder.oauth2_provider_apps LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted CONSTANT uuid := coder.param_uuid(req, 'app');
	a coder.oauth2_provider_apps;
BEGIN
	SELECT x.* INTO a FROM coder.oauth2_provider_apps x WHERE x.id = wanted;
	IF a.id IS NULL OR NOT coder.can('read', 'oauth2_app') THEN
		PERFORM coder.raise(404, 'OAuth2 application not found.');
	END IF;
	RETURN a;
END
$$;

-- GET /oauth2-provider/apps; with user_id, those that this user has let in.
CREATE OR REPLACE FUNCTION coder.oauth2_apps_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted CONSTANT text := coalesce(req.query->>'user_id', '');
	uid CONSTANT uuid := coder.try_uuid(wanted);
BEGIN
	IF wanted <> '' AND uid IS NULL THEN
		PERFORM coder.raise(400, 'Invalid user UUID', format('queried user_id="%s"', wanted));
	ELSIF uid IS NULL THEN
		PERFORM coder.require_read('read', 'oauth2_app');
	ELSE
		PERFORM coder.require_read('read', 'oauth2_app_code_token', NULL, uid);
	END IF;
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.oauth2_app_json(a) ORDER BY a.name, a.id)
		FROM coder.oauth2_provider_apps a
		WHERE uid IS NULL OR EXISTS (SELECT FROM coder.oauth2_provider_app_tokens t
			JOIN coder.oauth2_provider_app_secrets s ON s.id = t.app_secret_id WHERE s.app_id = a.id AND t.user_id = uid)), '[]'));
END
$$;

-- GET /oauth2-provider/apps/{app}
CREATE OR REPLACE FUNCTION coder.oauth2_app_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.oauth2_app_json(coder.param_oauth2_app(req)));
END
$$;

-- The body of a new or changed application; ZC400 with its broken rules.
CREATE OR REPLACE FUNCTION coder.oauth2_app_body(req coder.request)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.body(req);
	broken jsonb[] := '{}';
	field text;
BEGIN
	FOREACH field IN ARRAY ARRAY['name', 'callback_url', 'icon'] LOOP
		PERFORM coder.body_type(body, field, 'string');
		IF coalesce(body->>field, '') = '' THEN
			CONTINUE WHEN field = 'icon';
			broken := broken || coder.validation_tag(field, 'required', '');
		ELSIF field = 'name' AND NOT coder.name_ok(body->>'name') THEN
			broken := broken || coder.validation_tag(field, 'oauth2_app_name', body->>field);
		ELSIF field = 'callback_url' AND body->>field !~* '^https?://[^/?#[:space:]]+[^[:space:]]*$' THEN
			broken := broken || coder.validation_tag(field, 'http_url', body->>field);
		ELSIF field = 'icon' AND length(body->>field) > 256 THEN
			broken := broken || coder.validation_tag(field, 'max', body->>field);
		END IF;
	END LOOP;
	PERFORM coder.raise_validations(broken);
	RETURN body;
END
$$;

-- ZC409: an application's name is in use.
CREATE OR REPLACE FUNCTION coder.oauth2_name_taken(name text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.raise(409, format('An OAuth2 application with the name "%s" already exists.', name), NULL,
		jsonb_build_array(coder.validation('name', 'This value is already in use and should be unique.')));
END
$$;

-- POST /oauth2-provider/apps
CREATE OR REPLACE FUNCTION coder.oauth2_app_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.oauth2_app_body(req);
	a coder.oauth2_provider_apps;
BEGIN
	PERFORM coder.require('create', 'oauth2_app');
	INSERT INTO coder.oauth2_provider_apps (name, callback_url, icon, redirect_uris)
	VALUES (body->>'name', body->>'callback_url', coalesce(body->>'icon', ''), ARRAY[body->>'callback_url'])
	RETURNING * INTO a;
	RETURN coder.reply(201, coder.oauth2_app_json(a));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.oauth2_name_taken(body->>'name');
END
$$;

-- PUT /oauth2-provider/apps/{app}
CREATE OR REPLACE FUNCTION coder.oauth2_app_put(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a coder.oauth2_provider_apps := coder.param_oauth2_app(req);
	body CONSTANT jsonb := coder.oauth2_app_body(req);
BEGIN
	PERFORM coder.require('update', 'oauth2_app');
	UPDATE coder.oauth2_provider_apps x SET name = body->>'name', callback_url = body->>'callback_url', icon = coalesce(body->>'icon', ''),
		redirect_uris = CASE WHEN x.dynamically_registered THEN x.redirect_uris ELSE ARRAY[body->>'callback_url'] END, updated_at = now()
	 WHERE x.id = a.id RETURNING x.* INTO a;
	RETURN coder.reply(200, coder.oauth2_app_json(a));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.oauth2_name_taken(body->>'name');
END
$$;

-- DELETE /oauth2-provider/apps/{app}: its secrets and all tokens go with it.
CREATE OR REPLACE FUNCTION coder.oauth2_app_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a CONSTANT coder.oauth2_provider_apps := coder.param_oauth2_app(req);
BEGIN
	PERFORM coder.require('delete', 'oauth2_app');
	DELETE FROM coder.oauth2_provider_apps x WHERE x.id = a.id;
	RETURN coder.reply(204);
END
$$;

-- GET …/secrets: their last six characters.
CREATE OR REPLACE FUNCTION coder.oauth2_secrets_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a CONSTANT coder.oauth2_provider_apps := coder.param_oauth2_app(req);
BEGIN
	PERFORM coder.require_read('read', 'oauth2_app_secret');
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(jsonb_build_object('id', s.id, 'last_used_at', coder.ts(s.last_used_at),
			'client_secret_truncated', s.display_secret) ORDER BY s.created_at, s.id)
		FROM coder.oauth2_provider_app_secrets s WHERE s.app_id = a.id), '[]'));
END
$$;

-- A new secret of an application, which is told once.
CREATE OR REPLACE FUNCTION coder.oauth2_secret_add(app uuid, OUT id uuid, OUT secret text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n record;
BEGIN
	SELECT * INTO n FROM coder.oauth2_secret();
	secret := n.secret;
	INSERT INTO coder.oauth2_provider_app_secrets AS s (hashed_secret, display_secret, app_id, secret_prefix)
	VALUES (n.hash, right(n.secret, 6), app, n.prefix) RETURNING s.id INTO oauth2_secret_add.id;
END
$$;

-- POST …/secrets
CREATE OR REPLACE FUNCTION coder.oauth2_secret_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a CONSTANT coder.oauth2_provider_apps := coder.param_oauth2_app(req);
	n record;
BEGIN
	PERFORM coder.require('create', 'oauth2_app_secret');
	SELECT * INTO n FROM coder.oauth2_secret_add(a.id);
	RETURN coder.reply(201, jsonb_build_object('id', n.id, 'client_secret_full', n.secret));
END
$$;

-- DELETE …/secrets/{secretID}: tokens that it gave go too.
CREATE OR REPLACE FUNCTION coder.oauth2_secret_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a CONSTANT coder.oauth2_provider_apps := coder.param_oauth2_app(req);
	wanted CONSTANT uuid := coder.param_uuid(req, 'secretID');
BEGIN
	PERFORM coder.require('delete', 'oauth2_app_secret');
	IF EXISTS (SELECT FROM coder.oauth2_provider_app_secrets s WHERE s.id = wanted AND s.app_id <> a.id) THEN
		PERFORM coder.raise(400, 'App ID does not match secret app ID.');
	END IF;
	DELETE FROM coder.oauth2_provider_app_secrets s WHERE s.id = wanted;
	IF NOT FOUND THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN coder.reply(204);
END
$$;

DELETE FROM coder.routes WHERE area = 'oauth2provider';
INSERT INTO coder.routes (area, method, pattern, function, auth, raw_body, read_only) VALUES
	('oauth2provider', 'GET', '/.well-known/oauth-authorization-server', 'oauth2_server_metadata', 'none', false, true),
	('oauth2provider', 'GET', '/.well-known/oauth-authorization-server/{rest...}', 'oauth2_server_metadata', 'none', false, true),
	('oauth2provider', 'GET', '/.well-known/oauth-protected-resource', 'oauth2_resource_metadata', 'none', false, true),
	('oauth2provider', 'GET', '/.well-known/oauth-protected-resource/{rest...}', 'oauth2_resource_metadata', 'none', false, true),
	('oauth2provider', 'GET', '/api/v2/oauth2-provider/apps', 'oauth2_apps_list', 'session', false, true),
	('oauth2provider', 'POST', '/api/v2/oauth2-provider/apps', 'oauth2_app_create', 'session', false, false),
	('oauth2provider', 'GET', '/api/v2/oauth2-provider/apps/{app}', 'oauth2_app_get', 'session', false, true),
	('oauth2provider', 'PUT', '/api/v2/oauth2-provider/apps/{app}', 'oauth2_app_put', 'session', false, false),
	('oauth2provider', 'DELETE', '/api/v2/oauth2-provider/apps/{app}', 'oauth2_app_delete', 'session', false, false),
	('oauth2provider', 'GET', '/api/v2/oauth2-provider/apps/{app}/secrets', 'oauth2_secrets_list', 'session', false, true),
	('oauth2provider', 'POST', '/api/v2/oauth2-provider/apps/{app}/secrets', 'oauth2_secret_create', 'session', false, false),
	('oauth2provider', 'DELETE', '/api/v2/oauth2-provider/apps/{app}/secrets/{secretID}', 'oauth2_secret_delete', 'session', false, false);
