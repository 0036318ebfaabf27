-- sql/api/signin.sql -- signing in with another server's word: what OpenID Connect and GitHub have in common
--
-- Tables: sql/schema/user.sql (user_links), sql/schema/signin.sql.  Providers: oidc.sql, github.sql.

-- A setting that is a list, comma-separated; an empty array where there is none.
CREATE OR REPLACE FUNCTION coder.setting_list(name text)
RETURNS text[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT array_agg(btrim(p)) FROM unnest(string_to_array(coder.setting(name), ',')) p WHERE btrim(p) <> ''), '{}');
END
$$;

-- A URL as a path of this deployment: without scheme and host, never a way to another server or into the header.
CREATE OR REPLACE FUNCTION coder.local_path(url text)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	path text := regexp_replace(coalesce(url, ''), '^[A-Za-z][A-Za-z0-9+.-]*:', '');
BEGIN
	path := regexp_replace(path, '^//[^/?#\\]*', '');
	IF path = '' OR path !~ '^[\x21-\x7e]*$' OR path ~ '["<>\\^`{|}]' THEN
		RETURN '/';
	END IF;
	RETURN '/' || regexp_replace(path, '^/+', '');
END
$$;

-- A cookie of the request; NULL where it did not come.
CREATE OR REPLACE FUNCTION coder.request_cookie(req coder.request, name text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted CONSTANT text := CASE WHEN coder.setting_bool('host_prefix_cookie') THEN '__Host-' ELSE '' END || name || '=';
	pair text;
BEGIN
	FOREACH pair IN ARRAY coalesce(string_to_array(req.headers->>'cookie', ';'), '{}') LOOP
		IF starts_with(btrim(pair), wanted) THEN
			RETURN coder.url_decode(replace(substr(btrim(pair), length(wanted) + 1), '+', '%2B'));
		END IF;
	END LOOP;
	RETURN NULL;
END
$$;

-- A cookie of a sign-in under way: it goes with the browser's session.
CREATE OR REPLACE FUNCTION coder.oauth_cookie(name text, value text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN regexp_replace(coder.cookie(name, coder.url_encode(value), 1, CASE WHEN coder.setting('samesite_auth_cookie') = 'none'
		THEN 'none' ELSE 'lax' END), ' Max-Age=\d+;', '');
END
$$;

-- The cookies of a sign-in go.
CREATE OR REPLACE FUNCTION coder.oauth_cookies_clear()
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT string_agg(coder.cookie(c, '', 0), '')
		FROM unnest(ARRAY['oauth_state', 'oauth_redirect', 'oauth_pkce_verifier', 'oauth_nonce']) c);
END
$$;

-- 307 to a place, with more headers.
CREATE OR REPLACE FUNCTION coder.redirect(location text, headers text DEFAULT '')
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(307, '', format(E'Location: %s\r\nCache-Control: no-store\r\nContent-Type: text/html; charset=utf-8\r\n%s',
		regexp_replace(location, '[^\x21-\x7e]', '', 'g'), headers), NULL)::coder.response;
END
$$;

-- A page that says why a sign-in did not work, with a way back to the login page.
CREATE OR REPLACE FUNCTION coder.signin_page(status int4, title text, detail text)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(status, format('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>%1$s</title>'
		'<meta name="viewport" content="width=device-width, initial-scale=1"><style>body{font:16px/1.5 system-ui,sans-serif;'
		'max-width:34rem;margin:15vh auto;padding:0 1rem}</style></head><body><h1>%3$s - %1$s</h1><p>%2$s</p>'
		'<p><a href="/login">Back to login</a></p></body></html>', coder.html_escape(title), coder.html_escape(detail), status),
		E'Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nX-Frame-Options: DENY\r\n'
		'Content-Security-Policy: default-src ''none''; style-src ''unsafe-inline''; frame-ancestors ''none''\r\n', NULL)::coder.response;
END
$$;

-- What a provider sent back instead of a code: 400.
CREATE OR REPLACE FUNCTION coder.oauth_check_error(req coder.request)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	uri CONSTANT text := 'error_uri: ' || nullif(req.query->>'error_uri', '');
BEGIN
	IF coalesce(req.query->>'error', '') <> '' THEN
		PERFORM coder.raise(400, 'Encountered error in oidc process: ' || (req.query->>'error'),
			concat_ws(', ', nullif(req.query->>'error_description', ''), uri));
	END IF;
END
$$;

-- The first half of a sign-in: the browser goes to the provider and keeps state, redirect, and, where they are used, the
-- verifier of PKCE and the nonce in cookies.  url is the provider's, with the parameters that are its own.
CREATE OR REPLACE FUNCTION coder.oauth_begin(req coder.request, url text, pkce bool, nonce bool)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	state CONSTANT text := CASE WHEN req.query->>'oidc_merge_state' ~ '^convert-[0-9A-Za-z]{32}$' THEN req.query->>'oidc_merge_state'
		ELSE coder.random_key(32) END;
	verifier CONSTANT text := coder.random_key(43);
	number CONSTANT text := coder.random_key(32);
	redirect CONSTANT text := CASE WHEN coalesce(req.query->>'redirect', '') <> '' THEN coder.local_path(req.query->>'redirect') ELSE '' END;
	more jsonb := jsonb_build_object('state', state);
	cookies text := coder.oauth_cookie('oauth_state', state) || coder.oauth_cookie('oauth_redirect', redirect);
BEGIN
	IF pkce THEN
		more := more || jsonb_build_object('code_challenge_method', 'S256',
			'code_challenge', rtrim(translate(encode(coder.sha256(verifier), 'base64'), '+/', '-_'), '='));
		cookies := cookies || coder.oauth_cookie('oauth_pkce_verifier', verifier);
	END IF;
	IF nonce THEN
		more := more || jsonb_build_object('nonce', number);
		cookies := cookies || coder.oauth_cookie('oauth_nonce', number);
	END IF;
	RETURN coder.redirect(coder.url_with(url, more), cookies);
END
$$;

-- The second half begins: state and cookies belong together, or 400 and 401.  Answers the verifier of PKCE, NULL without.
CREATE OR REPLACE FUNCTION coder.oauth_check_state(req coder.request, pkce bool)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	given CONSTANT text := coalesce(req.query->>'state', '');
	kept CONSTANT text := coder.request_cookie(req, 'oauth_state');
	verifier CONSTANT text := coder.request_cookie(req, 'oauth_pkce_verifier');
BEGIN
	IF given = '' THEN
		PERFORM coder.raise(400, 'State must be provided.');
	ELSIF kept IS NULL THEN
		PERFORM coder.raise(401, 'Cookie "oauth_state" must be provided.');
	ELSIF kept <> given THEN
		PERFORM coder.raise(401, 'State mismatched.');
	ELSIF pkce AND coalesce(verifier, '') = '' THEN
		PERFORM coder.raise(400, 'PKCE challenge must be provided.');
	END IF;
	RETURN CASE WHEN pkce THEN verifier END;
END
$$;

-- The token in what a token endpoint answered (JSON, or a form as old servers send it); errors raise 500, or 400 where the
-- user has not finished at the provider.
CREATE OR REPLACE FUNCTION coder.oauth_token(result jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb := coder.try_json(result->>'body');
BEGIN
	IF body IS NULL AND result->'headers'->>'content-type' ~ '^(application/x-www-form-urlencoded|text/plain)' THEN
		body := coder.form_decode(left(result->>'body', 65536));
	END IF;
	IF jsonb_typeof(body) IS DISTINCT FROM 'object' THEN
		PERFORM coder.raise(500, 'Failed exchanging Oauth code.', coder.fetched_error(result));
	ELSIF body->>'error' = 'authorization_pending' THEN
		PERFORM coder.raise(400, 'Failed exchanging Oauth code.', 'authorization_pending');
	ELSIF coalesce(body->>'error', '') <> '' THEN
		PERFORM coder.raise(500, 'Failed exchanging Oauth code.', left(concat_ws(': ', body->>'error', body->>'error_description'), 1000));
	ELSIF (result->>'status')::int4 NOT BETWEEN 200 AND 299 OR jsonb_typeof(body->'access_token') IS DISTINCT FROM 'string' OR body->>'access_token' = '' THEN
		PERFORM coder.raise(500, 'Failed exchanging Oauth code.', CASE WHEN (result->>'status')::int4 BETWEEN 200 AND 299
			THEN 'the answer has no access token' ELSE coder.fetched_error(result) END);
	END IF;
	RETURN body;
END
$$;

-- When a token ends: year 1 where it does not say.
CREATE OR REPLACE FUNCTION coder.oauth_expiry(token jsonb)
RETURNS timestamptz LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF token->>'expires_in' ~ '^[0-9]{1,9}(\.[0-9]+)?$' AND (token->>'expires_in')::numeric > 0 THEN
		RETURN now() + make_interval(secs => (token->>'expires_in')::float8);
	END IF;
	RETURN '0001-01-01 00:00:00+00';
END
$$;

-- A user name of what a provider calls the user: itself, or its letters, digits and dashes before the last "@", or a random one.
CREATE OR REPLACE FUNCTION coder.username_from(value text)
RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name text := regexp_replace(coalesce(value, ''), '@[^@]*$', '');
BEGIN
	IF coder.name_ok(coalesce(value, '')) THEN
		RETURN value;
	END IF;
	name := regexp_replace(name, '[^A-Za-z0-9-]', '', 'g');
	RETURN CASE WHEN coder.name_ok(name) THEN name ELSE 'user-' || lower(coder.random_key(8)) END;
END
$$;

-- The name, or where somebody has it, one of ten others; 409 where those are taken too.
CREATE OR REPLACE FUNCTION coder.username_free(name text)
RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tried text := name;
BEGIN
	FOR i IN 1 .. 11 LOOP
		IF NOT EXISTS (SELECT 1 FROM coder.users u WHERE lower(u.username) = lower(tried) AND NOT u.deleted) THEN
			RETURN tried;
		END IF;
		tried := rtrim(left(name, 26), '-') || '-' || lower(coder.random_key(5));
	END LOOP;
	PERFORM coder.raise(409, format('The user name "%s" is taken.', name));
END
$$;

-- The user of an identity: by its linked id, else by one of its e-mail addresses; NULL where there is none.
CREATE OR REPLACE FUNCTION coder.oauth_find_user(kind coder.login_type, linked_id text, emails text[])
RETURNS coder.users LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users;
BEGIN
	SELECT x.* INTO u FROM coder.user_links l JOIN coder.users x ON x.id = l.user_id
	 WHERE l.login_type = kind AND l.linked_id = oauth_find_user.linked_id AND NOT x.deleted;
	IF u.id IS NULL THEN
		SELECT x.* INTO u FROM unnest(emails) WITH ORDINALITY e (email, n)
		  JOIN coder.users x ON lower(x.email) = lower(e.email) AND NOT x.deleted AND NOT x.is_system
		 WHERE e.email <> '' ORDER BY e.n LIMIT 1;
	END IF;
	RETURN u;
END
$$;

-- A new account for an identity, in the default organization; the first of a deployment owns it.
CREATE OR REPLACE FUNCTION coder.oauth_new_user(kind coder.login_type, who jsonb)
RETURNS coder.users LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users;
	org uuid;
BEGIN
	PERFORM coder.seed();
	PERFORM coder.lock('coder.first_user');
	SELECT o.id INTO org FROM coder.organizations o WHERE o.is_default;
	INSERT INTO coder.users (email, username, name, avatar_url, login_type, status, rbac_roles)
	VALUES (who->>'email', coder.username_free(who->>'username'), left(btrim(coalesce(who->>'name', '')), 128),
		coalesce(who->>'avatar_url', ''), kind, 'active', CASE WHEN coder.users_exist() THEN '{}' ELSE '{owner}'::text[] END)
	RETURNING * INTO u;
	INSERT INTO coder.organization_members (user_id, organization_id) VALUES (u.id, org);
	PERFORM coder.audit('register', 'user', u.id, org => org, actor => u.id);
	RETURN u;
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, 'User already exists.', 'The e-mail address is another account''s.');
END
$$;

-- What the provider says of the user: kept, but for an address that another account has.  Never the user name.
CREATE OR REPLACE FUNCTION coder.oauth_refresh_user(u coder.users, who jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	taken CONSTANT bool := EXISTS (SELECT 1 FROM coder.users x WHERE lower(x.email) = lower(who->>'email') AND x.id <> u.id AND NOT x.deleted);
	after coder.users := u;
BEGIN
	after.email := CASE WHEN taken THEN u.email ELSE who->>'email' END;
	after.name := left(coalesce(nullif(btrim(who->>'name'), ''), u.name), 128);
	after.avatar_url := coalesce(nullif(who->>'avatar_url', ''), u.avatar_url);
	IF after IS DISTINCT FROM u THEN
		UPDATE coder.users x SET email = after.email, name = after.name, avatar_url = after.avatar_url, updated_at = now() WHERE x.id = u.id;
	END IF;
END
$$;

-- The link of a user to an identity, with its newest tokens.  A provider that gives a refresh token only once does not
-- take it away.
CREATE OR REPLACE FUNCTION coder.oauth_link(uid uuid, kind coder.login_type, who jsonb, token jsonb, claims jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM coder.user_links l USING coder.users x
	 WHERE l.user_id = x.id AND x.deleted AND l.login_type = kind AND l.linked_id = who->>'linked_id';
	INSERT INTO coder.user_links AS l (user_id, login_type, linked_id, oauth_access_token, oauth_refresh_token, oauth_expiry, claims)
	VALUES (uid, kind, who->>'linked_id', token->>'access_token', coalesce(token->>'refresh_token', ''), coder.oauth_expiry(token), claims)
	ON CONFLICT (user_id, login_type) DO UPDATE SET linked_id = excluded.linked_id, oauth_access_token = excluded.oauth_access_token,
		oauth_refresh_token = coalesce(nullif(excluded.oauth_refresh_token, ''), l.oauth_refresh_token),
		oauth_expiry = excluded.oauth_expiry, claims = excluded.claims;
END
$$;

-- The end of a sign-in that another server has confirmed.
--   who: linked_id, email, emails (others that are confirmed too), username, name, avatar_url, allow_signups, and device,
--        where the answer is JSON for a page that polls
--   token: of the token endpoint; claims: what is kept of them; merged: those that organizations and groups follow
-- Pages with 403 where there is no account and none may be made, or where it is one of another login type.
CREATE OR REPLACE FUNCTION coder.oauth_login(req coder.request, kind coder.login_type, who jsonb, token jsonb, claims jsonb, merged jsonb)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users := coder.oauth_find_user(kind, who->>'linked_id',
		(who->>'email') || ARRAY(SELECT jsonb_array_elements_text(coalesce(who->'emails', '[]'))));
	state CONSTANT text := coalesce(req.query->>'state', '');
	redirect CONSTANT text := coder.local_path(coder.request_cookie(req, 'oauth_redirect'));
	bound text;
	refused coder.response;
	converted jsonb;
	key text;
	headers text;
BEGIN
	IF starts_with(state, 'convert-') THEN
		converted := coder.convert_verify(coder.request_cookie(req, 'coder_oauth_convert_jwt'), state, kind::text);
		IF u.id IS NOT NULL AND u.id::text <> converted->>'user_id' THEN
			RETURN coder.signin_page(403, 'Already in use', 'Another account signs in with this identity, or has its e-mail address.');
		END IF;
		SELECT x.* INTO u FROM coder.users x WHERE x.id = (converted->>'user_id')::uuid AND NOT x.deleted;
		IF u.id IS NULL THEN
			PERFORM coder.raise_not_found();
		END IF;
	END IF;
	SELECT l.linked_id INTO bound FROM coder.user_links l WHERE l.user_id = u.id AND l.login_type = kind AND l.linked_id <> '';
	IF u.id IS NULL AND NOT coalesce((who->>'allow_signups')::bool, false) AND coder.users_exist() THEN
		RETURN coder.signin_page(403, 'Signups are disabled', coalesce(nullif(coder.setting('oidc_signups_disabled_text'), ''),
			'Ask an administrator of this deployment for an account.'));
	ELSIF u.login_type <> kind AND converted IS NULL THEN
		refused := coder.signin_page(403, 'Incorrect login type', format('This account signs in with "%s", not with "%s".', u.login_type, kind));
	ELSIF u.status = 'suspended' THEN
		refused := coder.reply_message(401, 'Your account is suspended. Contact an admin to reactivate your account.');
	ELSIF bound IS NOT NULL AND bound <> who->>'linked_id' THEN
		refused := coder.signin_page(403, 'Account is linked to another identity',
			'The account with this e-mail address belongs to another identity of the provider. Ask an administrator to remove the old link.');
	END IF;
	IF refused.status IS NOT NULL THEN
		PERFORM coder.audit('login', 'api_key', u.id, actor => u.id);
		RETURN refused;
	END IF;
	IF converted IS NOT NULL THEN
		PERFORM coder.convert_finish(converted);
	END IF;
	IF u.id IS NULL THEN
		u := coder.oauth_new_user(kind, who);
	ELSE
		PERFORM coder.oauth_refresh_user(u, who);
	END IF;
	IF kind = 'github' THEN
		UPDATE coder.users x SET github_com_user_id = (who->>'linked_id')::bigint
		 WHERE x.id = u.id AND x.github_com_user_id IS DISTINCT FROM (who->>'linked_id')::bigint;
	END IF;
	PERFORM coder.oauth_link(u.id, kind, who, token, claims);
	IF kind = 'oidc' THEN
		PERFORM coder.idp_sync(u.id, merged);
	END IF;
	IF converted IS NOT NULL THEN
		PERFORM coder.audit('write', 'user', u.id, actor => u.id);
		RETURN coder.redirect(redirect, coder.session_cookie('') || coder.cookie('coder_oauth_convert_jwt', '', 0) || coder.oauth_cookies_clear());
	END IF;
	PERFORM coder.user_activated(u.id);
	key := coder.api_key_create(u.id, kind, coder.setting_seconds('session_duration', 86400), remote => req.remote);
	UPDATE coder.users x SET last_seen_at = now() WHERE x.id = u.id;
	PERFORM coder.audit('login', 'api_key', u.id, actor => u.id,
		additional => jsonb_build_object('key_id', split_part(key, '-', 1)));
	headers := coder.session_cookie(key) || coder.oauth_cookies_clear();
	IF coalesce((who->>'device')::bool, false) THEN
		RETURN ROW(200, coder.compact(jsonb_build_object('redirect_url', redirect)), headers, NULL)::coder.response;
	END IF;
	RETURN coder.redirect(redirect, headers);
END
$$;

-- When the token of the provider ends that stands behind a session of this kind: -infinity where the user is not linked any
-- more, infinity where it does not say.  Called by extension/subject.c when it reads a key.
CREATE OR REPLACE FUNCTION coder.upstream_expiry(uid uuid, kind coder.login_type)
RETURNS timestamptz LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	expires timestamptz;
BEGIN
	SELECT l.oauth_expiry INTO expires FROM coder.user_links l WHERE l.user_id = uid AND l.login_type = kind;
	RETURN CASE WHEN NOT FOUND THEN '-infinity' WHEN expires <= '0001-01-02' THEN 'infinity' ELSE expires END;
END
$$;

-- The session's token has ended: it is renewed at the provider, by whoever asks first; others go on meanwhile.  NULL: nothing to
-- be done.  ZC401 where it cannot be renewed.  Called by extension/handle.c before the route's function.
CREATE OR REPLACE FUNCTION coder.oauth_renew(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind CONSTANT coder.login_type := (SELECT k.login_type FROM coder.api_keys k WHERE k.id = coder.subject_token_id());
	discovery CONSTANT jsonb := (SELECT p.discovery FROM coder.oidc_providers p WHERE p.issuer = coder.setting('oidc_issuer_url'));
	l coder.user_links;
	form jsonb;
BEGIN
	IF (CASE kind WHEN 'oidc' THEN NOT coder.oidc_configured() OR discovery IS NULL WHEN 'github' THEN NOT coder.github_configured() ELSE true END) THEN
		RETURN NULL;
	END IF;
	SELECT x.* INTO l FROM coder.user_links x WHERE x.user_id = coder.subject_id() AND x.login_type = kind FOR UPDATE;
	IF l.oauth_expiry IS NULL OR l.oauth_expiry > now() OR l.oauth_expiry <= '0001-01-02' THEN
		RETURN NULL;
	ELSIF l.oauth_refresh_token = '' THEN
		PERFORM coder.raise(401, 'You are signed out or your session has expired. Please sign in again to continue.',
			format('%s session expired at "%s". Try signing in again.', CASE kind WHEN 'oidc' THEN 'OpenID Connect' ELSE 'GitHub' END, coder.ts(l.oauth_expiry)));
	END IF;
	UPDATE coder.user_links x SET oauth_expiry = now() + interval '15 seconds' WHERE x.user_id = l.user_id AND x.login_type = kind;
	form := jsonb_build_object('grant_type', 'refresh_token', 'refresh_token', coder.unseal(l.oauth_refresh_token, l.oauth_refresh_token_key_id));
	IF kind = 'oidc' THEN
		RETURN coder.fetch('oauth_renewed', to_jsonb(kind), coder.fetch_counted(coder.oidc_client_form(discovery, form), 'oidc-login', 'TokenSource'));
	END IF;
	RETURN coder.fetch('oauth_renewed', to_jsonb(kind), coder.fetch_counted(coder.oauth_client_form(coder.github_url('/login/oauth/access_token'), form,
		coder.github_client(), coalesce(coder.secret_setting('oauth2_github_client_secret'), ''), true), 'github-login', 'TokenSource'));
END
$$;

-- The provider has answered: new tokens are kept, and the request goes on.  ZC401 where it refuses.
CREATE OR REPLACE FUNCTION coder.oauth_renewed(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind CONSTANT coder.login_type := (coder.fetched(req)).state #>> '{}';
	result CONSTANT jsonb := (coder.fetched(req)).results->0;
	token CONSTANT jsonb := coder.try_json(result->>'body');
BEGIN
	IF coalesce((result->>'status')::int4 BETWEEN 200 AND 299, false) AND coalesce(token->>'access_token', '') <> '' THEN
		UPDATE coder.user_links l SET oauth_access_token = token->>'access_token', oauth_expiry = coder.oauth_expiry(token),
			oauth_refresh_token = coalesce(nullif(token->>'refresh_token', ''), coder.unseal(l.oauth_refresh_token, l.oauth_refresh_token_key_id))
		 WHERE l.user_id = coder.subject_id() AND l.login_type = kind;
		RETURN NULL;
	END IF;
	PERFORM coder.raise(401, 'You are signed out or your session has expired. Please sign in again to continue.',
		'The login provider did not renew the session: ' || left(coalesce(token->>'error', coder.fetched_error(result)), 200) || '. Try signing in again.');
END
$$;

-- GET /users/authmethods
CREATE OR REPLACE FUNCTION coder.auth_methods(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object(
		'password', jsonb_build_object('enabled', NOT coder.setting_bool('disable_password_auth')),
		'github', jsonb_build_object('enabled', coder.github_configured(), 'default_provider_configured', coder.github_default() IS NOT NULL),
		'oidc', jsonb_build_object('enabled', coder.oidc_configured(),
			'signInText', CASE WHEN coder.oidc_configured() THEN coalesce(nullif(coder.setting('oidc_sign_in_text'), ''), 'OpenID Connect') ELSE '' END,
			'iconUrl', CASE WHEN coder.oidc_configured() THEN coalesce(coder.setting('oidc_icon_url'), '') ELSE '' END))
		|| CASE WHEN coalesce(coder.setting('terms_of_service_url'), '') <> ''
			THEN jsonb_build_object('terms_of_service_url', coder.setting('terms_of_service_url')) ELSE '{}' END);
END
$$;

DELETE FROM coder.routes WHERE area = 'signin';
INSERT INTO coder.routes (area, method, pattern, function, auth, rate, pool, read_only) VALUES
	('signin', 'GET', '/api/v2/users/authmethods', 'auth_methods', 'none', 'api', 'fast', true),
	('signin', 'GET', '/api/v2/users/oidc/callback', 'oidc_callback', 'none', 'login', 'fast', false),
	('signin', 'GET', '/api/v2/users/oauth2/github/callback', 'github_callback', 'none', 'login', 'fast', false),
	('signin', 'GET', '/api/v2/users/oauth2/github/device', 'github_device', 'none', 'login', 'fast', false);
