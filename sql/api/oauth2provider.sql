-- sql/api/oauth2provider.sql -- this server as an OAuth 2.0 provider
--
-- RFC 6749 (authorization code with RFC 7636 PKCE, refresh), RFC 7009 (revocation), RFC 7591 and 7592 (dynamic
-- registration and its management), RFC 8414 and 9728 (metadata), RFC 8707 (resource).  An access token is an
-- ordinary API key.  Tables: sql/schema/oauth2provider.sql.

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

-- An absolute URI without fragment (RFC 8707 section 2); no resource at all is fine.
CREATE OR REPLACE FUNCTION coder.oauth2_resource_ok(resource text)
RETURNS bool LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(resource, '') = '' OR resource ~* '^[a-z][a-z0-9+.-]*:[^#[:space:]]+$';
END
$$;

-- An address a code may be sent to: one of those that the application registered, to the letter.
CREATE OR REPLACE FUNCTION coder.oauth2_redirect_ok(a coder.oauth2_provider_apps, uri text)
RETURNS bool LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(uri, '') = '' OR uri = a.callback_url OR uri = ANY (a.redirect_uris);
END
$$;

-- Schemes that run something in a browser instead of going somewhere.
CREATE OR REPLACE FUNCTION coder.oauth2_scheme_dangerous(uri text)
RETURNS bool LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN lower(split_part(uri, ':', 1)) IN ('javascript', 'data', 'file', 'ftp', 'vbscript', 'blob', 'about', 'filesystem', 'view-source');
END
$$;

-- An address with parameters added to its query.
CREATE OR REPLACE FUNCTION coder.url_with(uri text, VARIADIC parameters text[])
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	added text[] := '{}';
BEGIN
	FOR i IN 1 .. cardinality(parameters) - 1 BY 2 LOOP
		IF coalesce(parameters[i + 1], '') <> '' THEN
			added := added || (parameters[i] || '=' || coder.url_encode(parameters[i + 1]));
		END IF;
	END LOOP;
	RETURN uri || CASE WHEN cardinality(added) = 0 THEN '' WHEN strpos(uri, '?') > 0 THEN '&' ELSE '?' END || array_to_string(added, '&');
END
$$;

CREATE TYPE coder.oauth2_authorization AS (app coder.oauth2_provider_apps, redirect_uri text, cancel text);

-- What an authorization request asks for, checked: RFC 6749 section 4.1.1 with PKCE.  Raises ZO400 or ZO401.
CREATE OR REPLACE FUNCTION coder.oauth2_authorize_params(req coder.request)
RETURNS coder.oauth2_authorization LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	known CONSTANT text[] := '{response_type,client_id,redirect_uri,state,scope,resource,code_challenge,code_challenge_method}';
	query CONSTANT jsonb := coalesce(req.query, '{}');
	answer coder.oauth2_authorization;
	a coder.oauth2_provider_apps;
	field text;
BEGIN
	IF coalesce(query->>'client_id', '') = '' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'Missing client_id parameter');
	END IF;
	SELECT x.* INTO a FROM coder.oauth2_provider_apps x WHERE x.id = coder.try_uuid(query->>'client_id');
	IF a.id IS NULL THEN
		PERFORM coder.oauth2_raise(401, 'invalid_client', 'The client credentials are invalid');
	END IF;
	FOR field IN SELECT k FROM jsonb_object_keys(query) k LOOP
		IF field LIKE '%[]' THEN
			PERFORM coder.oauth2_raise(400, 'invalid_request', format('Query param "%s" is given more than once', left(field, -2)));
		ELSIF NOT field = ANY (known) THEN
			PERFORM coder.oauth2_raise(400, 'invalid_request', format('"%s" is not a valid query param', field));
		END IF;
	END LOOP;
	IF NOT coder.oauth2_redirect_ok(a, query->>'redirect_uri') THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'The redirect_uri is not one that the application has registered');
	END IF;
	answer.app := a;
	answer.redirect_uri := coalesce(nullif(query->>'redirect_uri', ''), a.callback_url);
	IF coder.oauth2_scheme_dangerous(answer.redirect_uri) THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'The callback URL of the application has an invalid scheme');
	ELSIF coalesce(query->>'response_type', '') = '' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'Query param "response_type" is required and cannot be empty');
	ELSIF query->>'response_type' <> 'code' THEN
		PERFORM coder.oauth2_raise(400, 'unsupported_response_type', 'Only response_type=code is supported');
	ELSIF coalesce(query->>'code_challenge', '') !~ '^[A-Za-z0-9._~-]{43,128}$' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'Query param "code_challenge" is required: PKCE with S256 is mandatory');
	ELSIF coalesce(nullif(query->>'code_challenge_method', ''), 'S256') <> 'S256' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'Only the code_challenge_method S256 is supported');
	ELSIF NOT coder.oauth2_resource_ok(query->>'resource') THEN
		PERFORM coder.oauth2_raise(400, 'invalid_target', 'The resource parameter must be an absolute URI without fragment');
	END IF;
	answer.cancel := coder.url_with(answer.redirect_uri, 'error', 'access_denied',
		'error_description', 'The resource owner or authorization server denied the request', 'state', query->>'state');
	RETURN answer;
END
$$;

-- A page of our own, without scripts: text is HTML.
CREATE OR REPLACE FUNCTION coder.page(status int4, title text, html text)
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(status, format($html$<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>%1$s</title><style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 26rem; margin: 12vh auto; padding: 0 1rem }
h1 { font-size: 1.4rem } img { width: 3rem; height: 3rem } code { word-break: break-all }
form { display: flex; gap: .75rem; margin-top: 1.5rem }
button, a.button { font: inherit; padding: .5rem 1rem; border: 1px solid #888; border-radius: .4rem; text-decoration: none; color: inherit; background: none; cursor: pointer }
button.primary { background: #2563eb; border-color: #2563eb; color: #fff }
</style></head><body><main><h1>%1$s</h1>%2$s</main></body></html>
$html$, coder.html_escape(title), html),
		E'Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n'
		|| E'Content-Security-Policy: default-src ''none''; style-src ''unsafe-inline''; img-src * data:; frame-ancestors ''none''; base-uri ''none''\r\n',
		NULL)::coder.response;
END
$$;

-- 303 to the sign-in page, which comes back here.
CREATE OR REPLACE FUNCTION coder.redirect_to_login(req coder.request, message text)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here text := req.path;
	pairs text;
BEGIN
	SELECT string_agg(q.key || '=' || coder.url_encode(q.value), '&' ORDER BY q.key) INTO pairs
	  FROM jsonb_each_text(coalesce(req.query, '{}')) q WHERE q.key NOT LIKE '%[]';
	IF pairs IS NOT NULL THEN
		here := here || '?' || pairs;
	END IF;
	RETURN ROW(303, '', format(E'Location: %s\r\nContent-Type: text/html; charset=utf-8\r\n',
		coder.url_with('/login', 'message', message, 'redirect', here)), NULL)::coder.response;
END
$$;

-- GET /oauth2/authorize: asks the user.
CREATE OR REPLACE FUNCTION coder.oauth2_authorize_page(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wish coder.oauth2_authorization;
	me text;
BEGIN
	-- Nobody need sign in for a request that names no application.
	IF coder.subject_id() IS NULL AND coalesce(req.query->>'client_id', '') <> '' THEN
		RETURN coder.redirect_to_login(req, 'You are signed out. Sign in to continue.');
	END IF;
	BEGIN
		wish := coder.oauth2_authorize_params(req);
	EXCEPTION WHEN SQLSTATE 'ZO400' OR SQLSTATE 'ZO401' THEN
		DECLARE
			why text;
		BEGIN
			GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
			RETURN coder.page(400, 'This request cannot be authorized', format('<p>%s.</p><p><a href="/">Back to the workspaces</a></p>', coder.html_escape(why)));
		END;
	END;
	SELECT u.username INTO me FROM coder.users u WHERE u.id = coder.subject_id();
	RETURN coder.page(200, format('Let %s use your account?', (wish.app).name), format(
		'%s<p><strong>%s</strong> wants to act as <strong>%s</strong> on this server: it will be able to do everything that you can do.</p>'
		'<p>It will be called at <code>%s</code>.</p>'
		'<form method="post"><input type="hidden" name="csrf_token" value="%s"><button class="primary" type="submit">Allow</button>'
		'<a class="button" href="%s">Cancel</a></form>',
		CASE WHEN (wish.app).icon <> '' THEN format('<img alt="" src="%s">', coder.html_escape((wish.app).icon)) ELSE '' END,
		coder.html_escape((wish.app).name), coder.html_escape(me), coder.html_escape(wish.redirect_uri),
		coder.html_escape(coalesce(req.headers->>'x-csrf-token', '')), coder.html_escape(wish.cancel)));
END
$$;

-- POST /oauth2/authorize: the user agreed; the code goes to the application by way of the browser.
CREATE OR REPLACE FUNCTION coder.oauth2_authorize(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wish coder.oauth2_authorization;
	n record;
	why text;
BEGIN
	IF coder.subject_id() IS NULL THEN
		RETURN coder.redirect_to_login(req, 'You are signed out. Sign in to continue.');
	END IF;
	wish := coder.oauth2_authorize_params(req);
	SELECT * INTO n FROM coder.oauth2_secret();
	INSERT INTO coder.oauth2_provider_app_codes AS c (expires_at, secret_prefix, hashed_secret, user_id, app_id, resource_uri,
		code_challenge, redirect_uri, state_hash)
	VALUES (now() + interval '10 minutes', n.prefix, n.hash, coder.subject_id(), (wish.app).id, nullif(req.query->>'resource', ''),
		req.query->>'code_challenge', nullif(req.query->>'redirect_uri', ''), encode(coder.sha256(nullif(req.query->>'state', '')), 'hex'))
	ON CONFLICT (app_id, user_id) DO UPDATE SET id = gen_random_uuid(), created_at = now(), expires_at = excluded.expires_at,
		secret_prefix = excluded.secret_prefix, hashed_secret = excluded.hashed_secret, resource_uri = excluded.resource_uri,
		code_challenge = excluded.code_challenge, redirect_uri = excluded.redirect_uri, state_hash = excluded.state_hash;
	RETURN ROW(302, '', format(E'Location: %s\r\nCache-Control: no-store\r\n',
		coder.url_with(wish.redirect_uri, 'code', n.secret, 'state', req.query->>'state')), NULL)::coder.response;
EXCEPTION WHEN SQLSTATE 'ZO400' OR SQLSTATE 'ZO401' THEN
	GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	RETURN coder.oauth2_error(right(sqlstate, 3)::int4, sqlerrm, why);
END
$$;

-- The fields of a token or revocation request, with the client's credentials of the Authorization header (RFC 6749
-- section 2.3.1) as client_id and client_secret.
CREATE OR REPLACE FUNCTION coder.oauth2_form(req coder.request)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	form jsonb := coder.form_decode(coalesce(req.raw, ''));
	basic CONSTANT text := substring(req.headers->>'authorization' FROM '(?i)^basic +([A-Za-z0-9+/=]+)$');
	pair text;
	creds jsonb;
BEGIN
	IF EXISTS (SELECT FROM jsonb_object_keys(form) k WHERE k LIKE '%[]') THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'A parameter is given more than once');
	ELSIF basic IS NULL THEN
		RETURN form;
	END IF;
	BEGIN
		pair := convert_from(decode(basic, 'base64'), 'UTF8');
		creds := coder.form_decode(convert_to('client_id=' || split_part(pair, ':', 1) || '&client_secret='
			|| substr(pair, strpos(pair, ':') + 1), 'UTF8'));
	EXCEPTION WHEN invalid_parameter_value OR character_not_in_repertoire OR untranslatable_character OR SQLSTATE 'ZC400' THEN
		PERFORM coder.oauth2_raise(401, 'invalid_client', 'The client credentials are invalid');
	END;
	IF coalesce(nullif(form->>'client_id', ''), creds->>'client_id') <> creds->>'client_id'
		OR coalesce(nullif(form->>'client_secret', ''), creds->>'client_secret') <> creds->>'client_secret' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'Conflicting client credentials between Authorization header and request body');
	END IF;
	RETURN form || creds;
END
$$;

-- The application that a form's client_id names, its credentials proven: the secret's id.  A public client has no secret
-- to prove; its own secret's row stands for it.
CREATE OR REPLACE FUNCTION coder.oauth2_client(form jsonb, OUT app coder.oauth2_provider_apps, OUT secret_id uuid)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	given record;
BEGIN
	SELECT x.* INTO app FROM coder.oauth2_provider_apps x WHERE x.id = coder.try_uuid(form->>'client_id');
	IF app.id IS NOT NULL AND app.client_type = 'public' AND coalesce(form->>'client_secret', '') = '' THEN
		SELECT s.id INTO secret_id FROM coder.oauth2_provider_app_secrets s WHERE s.app_id = app.id ORDER BY s.created_at LIMIT 1;
	ELSE
		SELECT * INTO given FROM coder.oauth2_secret_parts(form->>'client_secret');
		UPDATE coder.oauth2_provider_app_secrets s SET last_used_at = now()
		 WHERE s.secret_prefix = given.prefix AND s.hashed_secret = given.hash AND s.app_id = app.id
		   AND (app.client_secret_expires_at IS NULL OR app.client_secret_expires_at > now())
		RETURNING s.id INTO secret_id;
	END IF;
	IF secret_id IS NULL THEN
		PERFORM coder.oauth2_raise(401, 'invalid_client', 'The client credentials are invalid');
	END IF;
END
$$;

-- A new access token with its refresh token; those that the user gave the application before end.
CREATE OR REPLACE FUNCTION coder.oauth2_grant(uid uuid, app uuid, secret_id uuid, resource text, remote text)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	life CONSTANT bigint := coder.setting_seconds('session_duration', 86400);
	name CONSTANT text := format('%s_%s_oauth_session_token', uid, app);
	key text;
	n record;
BEGIN
	-- One at a time for a user, so that one token of an application stays.
	PERFORM 1 FROM coder.users u WHERE u.id = uid AND NOT u.deleted AND u.status <> 'suspended' FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM coder.oauth2_raise(400, 'invalid_grant', 'The user cannot sign in');
	END IF;
	DELETE FROM coder.api_keys k WHERE k.user_id = uid AND k.token_name = name AND k.login_type = 'oauth2_provider_app';
	key := coder.api_key_create(uid, 'oauth2_provider_app', life, name, remote => remote);
	SELECT * INTO n FROM coder.oauth2_secret();
	INSERT INTO coder.oauth2_provider_app_tokens (expires_at, hash_prefix, refresh_hash, app_secret_id, api_key_id, audience, user_id)
	VALUES (now() + make_interval(secs => coder.setting_seconds('refresh_duration', 2592000)), n.prefix, n.hash, secret_id,
		split_part(key, '-', 1), resource, uid);
	RETURN ROW(200, coder.compact(jsonb_build_object('access_token', key, 'token_type', 'Bearer', 'expires_in', life,
			'refresh_token', n.secret, 'expiry', coder.ts(now() + make_interval(secs => life)))),
		E'Content-Type: application/json; charset=utf-8\r\nCache-Control: no-store\r\nPragma: no-cache\r\n', NULL)::coder.response;
END
$$;

-- grant_type authorization_code: RFC 6749 section 4.1.3, RFC 7636 section 4.6.
CREATE OR REPLACE FUNCTION coder.oauth2_grant_code(form jsonb, remote text)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	client record;
	given record;
	c coder.oauth2_provider_app_codes;
BEGIN
	SELECT * INTO client FROM coder.oauth2_client(form);
	IF coalesce(form->>'code', '') = '' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'Missing required parameter: code');
	END IF;
	SELECT * INTO given FROM coder.oauth2_secret_parts(form->>'code');
	DELETE FROM coder.oauth2_provider_app_codes x
	 WHERE x.secret_prefix = given.prefix AND x.hashed_secret = given.hash AND x.app_id = (client.app).id
	RETURNING x.* INTO c;
	IF c.id IS NULL OR c.expires_at <= now() THEN
		PERFORM coder.oauth2_raise(400, 'invalid_grant', 'The authorization code is invalid or expired');
	ELSIF coalesce(form->>'code_verifier', '') !~ '^[A-Za-z0-9._~-]{43,128}$'
		OR translate(encode(coder.sha256(form->>'code_verifier'), 'base64'), '+/=', '-_') <> c.code_challenge THEN
		PERFORM coder.oauth2_raise(400, 'invalid_grant', 'The PKCE code verifier is invalid');
	ELSIF coalesce(form->>'redirect_uri', '') <> coalesce(c.redirect_uri, '')
		AND NOT (c.redirect_uri IS NULL AND form->>'redirect_uri' = (client.app).callback_url) THEN
		PERFORM coder.oauth2_raise(400, 'invalid_grant', 'The redirect_uri is not that of the authorization request');
	ELSIF coalesce(form->>'resource', '') <> '' AND form->>'resource' IS DISTINCT FROM c.resource_uri THEN
		PERFORM coder.oauth2_raise(400, 'invalid_target', 'The resource parameter is invalid');
	END IF;
	RETURN coder.oauth2_grant(c.user_id, c.app_id, client.secret_id, c.resource_uri, remote);
END
$$;

-- grant_type refresh_token: RFC 6749 section 6; the refresh token is good once.
CREATE OR REPLACE FUNCTION coder.oauth2_grant_refresh(form jsonb, remote text)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	client record;
	given record;
	t coder.oauth2_provider_app_tokens;
BEGIN
	IF coalesce(form->>'refresh_token', '') = '' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'Missing required parameter: refresh_token');
	END IF;
	SELECT * INTO client FROM coder.oauth2_client(form);
	SELECT * INTO given FROM coder.oauth2_secret_parts(form->>'refresh_token');
	DELETE FROM coder.oauth2_provider_app_tokens x USING coder.oauth2_provider_app_secrets s
	 WHERE x.hash_prefix = given.prefix AND x.refresh_hash = given.hash AND s.id = x.app_secret_id AND s.app_id = (client.app).id
	RETURNING x.* INTO t;
	IF t.id IS NULL OR t.expires_at <= now() THEN
		PERFORM coder.oauth2_raise(400, 'invalid_grant', 'The refresh token is invalid or expired');
	ELSIF coalesce(form->>'resource', '') <> '' AND form->>'resource' IS DISTINCT FROM t.audience THEN
		PERFORM coder.oauth2_raise(400, 'invalid_target', 'The resource parameter is invalid');
	END IF;
	RETURN coder.oauth2_grant(t.user_id, (client.app).id, client.secret_id, t.audience, remote);
END
$$;

-- An address in the form in which two are compared (RFC 3986 section 6.2): no default port, no last slash.
CREATE OR REPLACE FUNCTION coder.url_normal(url text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts CONSTANT text[] := regexp_match(url, '^([A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)(.*)$');
BEGIN
	IF parts IS NULL THEN
		RETURN url;
	END IF;
	RETURN regexp_replace(lower(parts[1]), '^(http(?=://.*:80$)|https(?=://.*:443$))(.*):[0-9]+$', '\1\2') || rtrim(parts[2], '/');
END
$$;

-- Was the token of this key given for this server?  Those without a resource are good everywhere.
CREATE OR REPLACE FUNCTION coder.oauth2_audience_ok(key_id text)
RETURNS bool LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN NOT EXISTS (SELECT FROM coder.oauth2_provider_app_tokens t WHERE t.api_key_id = key_id AND t.audience <> ''
		AND coder.url_normal(t.audience) <> coder.url_normal(coder.setting('access_url')));
END
$$;

-- POST /oauth2/tokens
CREATE OR REPLACE FUNCTION coder.oauth2_tokens(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	known CONSTANT text[] := '{grant_type,client_id,client_secret,code,redirect_uri,refresh_token,code_verifier,resource,scope}';
	form jsonb;
	why text;
BEGIN
	form := coder.oauth2_form(req);
	IF coalesce(form->>'grant_type', '') NOT IN ('authorization_code', 'refresh_token') THEN
		PERFORM coder.oauth2_raise(400, 'unsupported_grant_type', 'The grant type is missing or unsupported');
	ELSIF EXISTS (SELECT FROM jsonb_object_keys(form) k WHERE NOT k = ANY (known)) THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'The request is missing required parameters or is otherwise malformed');
	ELSIF NOT coder.oauth2_resource_ok(form->>'resource') THEN
		PERFORM coder.oauth2_raise(400, 'invalid_target', 'The resource parameter is invalid');
	ELSIF form->>'grant_type' = 'refresh_token' THEN
		RETURN coder.oauth2_grant_refresh(form, req.remote);
	END IF;
	RETURN coder.oauth2_grant_code(form, req.remote);
EXCEPTION WHEN SQLSTATE 'ZO400' OR SQLSTATE 'ZO401' THEN
	GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	RETURN coder.oauth2_error(right(sqlstate, 3)::int4, sqlerrm, why);
END
$$;

-- DELETE /oauth2/tokens?client_id=: the caller lets the application in no longer.
CREATE OR REPLACE FUNCTION coder.oauth2_tokens_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	app CONSTANT uuid := coder.try_uuid(req.query->>'client_id');
BEGIN
	IF NOT EXISTS (SELECT FROM coder.oauth2_provider_apps a WHERE a.id = app) THEN
		RETURN coder.oauth2_error(401, 'invalid_client', 'The client credentials are invalid');
	END IF;
	PERFORM coder.require('delete', 'oauth2_app_code_token', NULL, coder.subject_id());
	DELETE FROM coder.oauth2_provider_app_codes c WHERE c.app_id = app AND c.user_id = coder.subject_id();
	DELETE FROM coder.oauth2_provider_app_tokens t USING coder.oauth2_provider_app_secrets s
	 WHERE s.id = t.app_secret_id AND s.app_id = app AND t.user_id = coder.subject_id();
	RETURN coder.reply(204);
END
$$;

-- POST /oauth2/revoke: RFC 7009; a token that is unknown or of another client is as good as revoked.
CREATE OR REPLACE FUNCTION coder.oauth2_revoke(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	form jsonb;
	client record;
	refresh record;
	key_id text;
	why text;
BEGIN
	form := coder.oauth2_form(req);
	IF coalesce(form->>'client_id', '') = '' THEN
		form := form || jsonb_build_object('client_id', coalesce(req.query->>'client_id', ''));
	END IF;
	IF form->>'client_id' = '' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'Missing client_id parameter');
	ELSIF coalesce(form->>'token', '') = '' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'Missing token parameter');
	END IF;
	SELECT x.id INTO client FROM coder.oauth2_provider_apps x WHERE x.id = coder.try_uuid(form->>'client_id');
	IF client.id IS NULL THEN
		PERFORM coder.oauth2_raise(401, 'invalid_client', 'The client credentials are invalid');
	ELSIF coalesce(form->>'client_secret', '') <> '' THEN
		PERFORM coder.oauth2_client(form);
	END IF;
	SELECT * INTO refresh FROM coder.oauth2_secret_parts(form->>'token');
	IF refresh.prefix IS NULL AND form->>'token' !~ '^[A-Za-z0-9]{10}-[A-Za-z0-9]{22}$' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_request', 'Invalid token format');
	END IF;
	SELECT k.id INTO key_id FROM coder.api_keys k
	 WHERE refresh.prefix IS NULL AND k.id = split_part(form->>'token', '-', 1)
	   AND k.hashed_secret = coder.sha256(split_part(form->>'token', '-', 2));
	DELETE FROM coder.oauth2_provider_app_tokens t USING coder.oauth2_provider_app_secrets s
	 WHERE s.id = t.app_secret_id AND s.app_id = client.id
	   AND (t.hash_prefix = refresh.prefix AND t.refresh_hash = refresh.hash OR t.api_key_id = key_id);
	RETURN coder.reply(200, ''::text);
EXCEPTION WHEN SQLSTATE 'ZO400' OR SQLSTATE 'ZO401' THEN
	GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	RETURN coder.oauth2_error(right(sqlstate, 3)::int4, sqlerrm, why);
END
$$;

-- A list of texts in a registration; def where it is absent.
CREATE OR REPLACE FUNCTION coder.oauth2_text_list(body jsonb, field text, def text[])
RETURNS text[] LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(jsonb_typeof(body->field), 'null') = 'null' OR body->field = '[]' THEN
		RETURN def;
	ELSIF jsonb_typeof(body->field) <> 'array' OR jsonb_array_length(body->field) > 64
		OR EXISTS (SELECT FROM jsonb_array_elements(body->field) e WHERE jsonb_typeof(e) <> 'string' OR length(e::text) > 2050) THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', format('%s must be a list of at most 64 short strings', field));
	END IF;
	RETURN ARRAY(SELECT jsonb_array_elements_text(body->field));
END
$$;

-- ZO400 unless a redirect URI may be registered: https, or http to this machine, or an application's own scheme.
CREATE OR REPLACE FUNCTION coder.oauth2_check_redirect(uri text, at int4, public_client bool)
RETURNS void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	scheme CONSTANT text := lower(substring(uri FROM '^([A-Za-z][A-Za-z0-9+.-]*):'));
	host CONSTANT text := lower(substring(uri FROM '^[A-Za-z]+://(?:[^@/?#]*@)?(\[[^]]*\]|[^/:?#]*)'));
	loopback CONSTANT bool := coalesce(host IN ('localhost', '127.0.0.1', '[::1]'), false);
	why text;
BEGIN
	why := CASE
		WHEN uri = '' THEN 'cannot be empty'
		WHEN scheme IS NULL THEN 'must have a scheme'
		WHEN scheme = 'urn' AND uri <> 'urn:ietf:wg:oauth:2.0:oob' THEN 'uses unsupported URN scheme'
		WHEN coder.oauth2_scheme_dangerous(uri) THEN format('uses dangerous scheme %s which is not allowed', scheme)
		WHEN strpos(uri, '#') > 0 THEN 'must not contain a fragment component'
		WHEN uri ~ '[[:space:][:cntrl:]]' THEN 'is not a valid URL'
		WHEN scheme IN ('http', 'https') AND coalesce(host, '') = '' THEN 'must have a host'
		WHEN scheme = 'http' AND NOT loopback AND public_client
			THEN 'public clients may only use http with loopback addresses (127.0.0.1, ::1, localhost)'
		WHEN scheme = 'http' AND NOT loopback THEN 'must use https scheme for non-localhost URLs'
		WHEN scheme NOT IN ('http', 'https', 'urn') AND public_client AND strpos(scheme, '.') = 0
			THEN format('custom scheme %s should use reverse domain notation (e.g. com.example.app)', scheme)
		END;
	IF why IS NOT NULL THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', format('invalid redirect_uris: redirect_uri at index %s %s', at, why));
	END IF;
END
$$;

-- What a registration asks for, checked (RFC 7591 section 2), as a row that is not yet stored.  Raises ZO400.
CREATE OR REPLACE FUNCTION coder.oauth2_registration(req coder.request)
RETURNS coder.oauth2_provider_apps LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := CASE WHEN jsonb_typeof(req.body) = 'object' THEN req.body END;
	a coder.oauth2_provider_apps;
	field text;
BEGIN
	IF body IS NULL THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', 'The request must be a JSON object');
	END IF;
	FOREACH field IN ARRAY '{client_name,client_uri,logo_uri,tos_uri,policy_uri,jwks_uri,software_id,software_version,scope,token_endpoint_auth_method}'::text[] LOOP
		IF coalesce(jsonb_typeof(body->field), 'null') NOT IN ('null', 'string') OR length(body->>field) > 2048 THEN
			PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', format('%s must be a string of at most 2048 characters', field));
		ELSIF field LIKE '%\_uri' AND coalesce(body->>field, '') <> '' AND body->>field !~* '^https?://[^/?#[:space:]]+[^[:space:]]*$' THEN
			PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', format('%s must be an absolute URL with http or https scheme', field));
		END IF;
	END LOOP;
	a.token_endpoint_auth_method := coalesce(nullif(body->>'token_endpoint_auth_method', ''), 'client_secret_basic');
	IF a.token_endpoint_auth_method NOT IN ('client_secret_basic', 'client_secret_post', 'none') THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', format('unsupported token endpoint auth method: %s', a.token_endpoint_auth_method));
	END IF;
	a.client_type := CASE a.token_endpoint_auth_method WHEN 'none' THEN 'public' ELSE 'confidential' END;
	a.redirect_uris := coder.oauth2_text_list(body, 'redirect_uris', '{}');
	IF cardinality(a.redirect_uris) = 0 THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', 'redirect_uris is required for authorization code flow');
	END IF;
	FOR i IN 1 .. cardinality(a.redirect_uris) LOOP
		PERFORM coder.oauth2_check_redirect(a.redirect_uris[i], i - 1, a.client_type = 'public');
	END LOOP;
	a.callback_url := a.redirect_uris[1];
	a.grant_types := coder.oauth2_text_list(body, 'grant_types', '{authorization_code,refresh_token}');
	IF NOT a.grant_types <@ '{authorization_code,refresh_token}' OR NOT 'authorization_code' = ANY (a.grant_types) THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', 'invalid grant_types: authorization_code is needed, and refresh_token is the only other supported');
	END IF;
	a.response_types := coder.oauth2_text_list(body, 'response_types', '{code}');
	IF a.response_types <> '{code}' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', 'invalid response_types: only code is supported');
	END IF;
	a.name := left(coalesce(nullif(trim(body->>'client_name'), ''), 'Dynamically Registered Client'), 64);
	a.scope := coalesce(body->>'scope', '');
	a.contacts := coder.oauth2_text_list(body, 'contacts', '{}');
	a.client_uri := nullif(body->>'client_uri', '');
	a.logo_uri := nullif(body->>'logo_uri', '');
	a.icon := CASE WHEN length(a.logo_uri) <= 256 THEN a.logo_uri ELSE '' END;
	a.tos_uri := nullif(body->>'tos_uri', '');
	a.policy_uri := nullif(body->>'policy_uri', '');
	a.jwks_uri := nullif(body->>'jwks_uri', '');
	a.jwks := nullif(body->'jwks', 'null');
	a.software_id := nullif(body->>'software_id', '');
	a.software_version := nullif(body->>'software_version', '');
	RETURN a;
END
$$;

-- OAuth2ClientConfiguration
CREATE OR REPLACE FUNCTION coder.oauth2_client_json(a coder.oauth2_provider_apps)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_strip_nulls(jsonb_build_object('client_id', a.id, 'client_id_issued_at', floor(extract(epoch FROM a.client_id_issued_at))::bigint,
		'client_secret_expires_at', coalesce(floor(extract(epoch FROM a.client_secret_expires_at))::bigint, 0),
		'redirect_uris', to_jsonb(a.redirect_uris), 'client_name', a.name, 'client_uri', a.client_uri, 'logo_uri', a.logo_uri,
		'tos_uri', a.tos_uri, 'policy_uri', a.policy_uri, 'jwks_uri', a.jwks_uri, 'jwks', a.jwks, 'software_id', a.software_id,
		'software_version', a.software_version, 'grant_types', to_jsonb(a.grant_types), 'response_types', to_jsonb(a.response_types),
		'token_endpoint_auth_method', a.token_endpoint_auth_method, 'scope', nullif(a.scope, ''),
		'contacts', nullif(to_jsonb(a.contacts), '[]'), 'registration_client_uri', a.registration_client_uri));
END
$$;

-- POST /oauth2/register: RFC 7591, open to all; what is registered can do nothing until a user agrees.
CREATE OR REPLACE FUNCTION coder.oauth2_register(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	token CONSTANT text := coder.random_key(40);
	a coder.oauth2_provider_apps;
	n record;
	why text;
BEGIN
	a := coder.oauth2_registration(req);
	INSERT INTO coder.oauth2_provider_apps (name, icon, callback_url, redirect_uris, client_type, dynamically_registered, grant_types,
		response_types, token_endpoint_auth_method, scope, contacts, client_uri, logo_uri, tos_uri, policy_uri, jwks_uri, jwks,
		software_id, software_version, registration_access_token)
	VALUES (a.name, coalesce(a.icon, ''), a.callback_url, a.redirect_uris, a.client_type, true, a.grant_types, a.response_types,
		a.token_endpoint_auth_method, a.scope, a.contacts, a.client_uri, a.logo_uri, a.tos_uri, a.policy_uri, a.jwks_uri, a.jwks,
		a.software_id, a.software_version, coder.sha256(token))
	RETURNING * INTO a;
	UPDATE coder.oauth2_provider_apps x SET registration_client_uri = coder.own_url('/oauth2/clients/' || x.id)
	 WHERE x.id = a.id RETURNING x.* INTO a;
	SELECT * INTO n FROM coder.oauth2_secret_add(a.id);
	RETURN coder.reply(201, coder.oauth2_client_json(a) || jsonb_build_object('client_secret', n.secret, 'registration_access_token', token));
EXCEPTION WHEN SQLSTATE 'ZO400' THEN
	GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	RETURN coder.oauth2_error(400, sqlerrm, why);
END
$$;

-- The registered client of a management request, proven by its registration access token.  Raises ZO401, ZO403.
CREATE OR REPLACE FUNCTION coder.oauth2_param_client(req coder.request)
RETURNS coder.oauth2_provider_apps LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	token CONSTANT text := substring(req.headers->>'authorization' FROM '(?i)^bearer +(.+)$');
	a coder.oauth2_provider_apps;
BEGIN
	SELECT x.* INTO a FROM coder.oauth2_provider_apps x WHERE x.id = coder.try_uuid(req.params->>'client_id');
	IF token IS NULL OR a.id IS NULL THEN
		PERFORM coder.oauth2_raise(401, 'invalid_token', 'The registration access token is missing or invalid');
	ELSIF NOT a.dynamically_registered THEN
		PERFORM coder.oauth2_raise(403, 'invalid_token', 'The client was not dynamically registered');
	ELSIF a.registration_access_token IS DISTINCT FROM coder.sha256(token) THEN
		PERFORM coder.oauth2_raise(401, 'invalid_token', 'The registration access token is missing or invalid');
	END IF;
	RETURN a;
END
$$;

-- GET, PUT and DELETE /oauth2/clients/{client_id}: RFC 7592
CREATE OR REPLACE FUNCTION coder.oauth2_client_manage(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a coder.oauth2_provider_apps;
	n coder.oauth2_provider_apps;
	why text;
BEGIN
	a := coder.oauth2_param_client(req);
	IF req.method = 'DELETE' THEN
		DELETE FROM coder.oauth2_provider_apps x WHERE x.id = a.id;
		RETURN coder.reply(204);
	ELSIF req.method = 'PUT' THEN
		n := coder.oauth2_registration(req);
		UPDATE coder.oauth2_provider_apps x SET name = n.name, icon = coalesce(n.icon, ''), callback_url = n.callback_url,
			redirect_uris = n.redirect_uris, client_type = n.client_type, grant_types = n.grant_types, response_types = n.response_types,
			token_endpoint_auth_method = n.token_endpoint_auth_method, scope = n.scope, contacts = n.contacts, client_uri = n.client_uri,
			logo_uri = n.logo_uri, tos_uri = n.tos_uri, policy_uri = n.policy_uri, jwks_uri = n.jwks_uri, jwks = n.jwks,
			software_id = n.software_id, software_version = n.software_version, updated_at = now()
		 WHERE x.id = a.id RETURNING x.* INTO a;
	END IF;
	RETURN coder.reply(200, coder.oauth2_client_json(a));
EXCEPTION WHEN SQLSTATE 'ZO400' OR SQLSTATE 'ZO401' OR SQLSTATE 'ZO403' THEN
	GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	RETURN coder.oauth2_error(right(sqlstate, 3)::int4, sqlerrm, why);
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
	('oauth2provider', 'DELETE', '/api/v2/oauth2-provider/apps/{app}/secrets/{secretID}', 'oauth2_secret_delete', 'session', false, false),
	('oauth2provider', 'GET', '/oauth2/authorize', 'oauth2_authorize_page', 'optional', false, true),
	('oauth2provider', 'POST', '/oauth2/authorize', 'oauth2_authorize', 'optional', true, false),
	('oauth2provider', 'POST', '/oauth2/tokens', 'oauth2_tokens', 'none', true, false),
	('oauth2provider', 'DELETE', '/oauth2/tokens', 'oauth2_tokens_delete', 'session', false, false),
	('oauth2provider', 'POST', '/oauth2/revoke', 'oauth2_revoke', 'none', true, false),
	('oauth2provider', 'POST', '/oauth2/register', 'oauth2_register', 'none', false, false),
	('oauth2provider', 'GET', '/oauth2/clients/{client_id}', 'oauth2_client_manage', 'none', false, false),
	('oauth2provider', 'PUT', '/oauth2/clients/{client_id}', 'oauth2_client_manage', 'none', false, false),
	('oauth2provider', 'DELETE', '/oauth2/clients/{client_id}', 'oauth2_client_manage', 'none', false, false);
