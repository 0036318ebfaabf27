-- SPDX-License-Identifier: MIT
--
-- oauth2token.sql
--   The OAuth 2.0 provider's consent page, codes, tokens and revocation (RFC 6749, 7636, 7009, 8707).

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

DELETE FROM coder.routes WHERE area = 'oauth2token';
INSERT INTO coder.routes (area, method, pattern, function, auth, raw_body, read_only) VALUES
	('oauth2token', 'GET', '/oauth2/authorize', 'oauth2_authorize_page', 'optional', false, true),
	('oauth2token', 'POST', '/oauth2/authorize', 'oauth2_authorize', 'optional', true, false),
	('oauth2token', 'POST', '/oauth2/tokens', 'oauth2_tokens', 'none', true, false),
	('oauth2token', 'DELETE', '/oauth2/tokens', 'oauth2_tokens_delete', 'session', false, false),
	('oauth2token', 'POST', '/oauth2/revoke', 'oauth2_revoke', 'none', true, false);
