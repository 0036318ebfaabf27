-- sql/api/github.sql -- signing in with GitHub, or a GitHub Enterprise server, by code or by device
--
-- The way: github_callback -> the browser goes to GitHub and comes back -> github_callback -> github_exchanged -> github_known
-- (-> github_teams) -> coder.oauth_login.  By device the page at /login/device shows a code (github_device), and polls the callback.
-- Settings are the reference's CODER_OAUTH2_GITHUB_*.

-- The client of GitHub's that is used where none is set up: by device, open to everyone, on deployments that began without users.
-- NULL: none, since CODER_OAUTH2_GITHUB_DEFAULT_CLIENT_ID names none, or another is set up.
CREATE OR REPLACE FUNCTION coder.github_default()
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(coder.setting('oauth2_github_client_id'), '') <> '' OR NOT coder.setting_bool('oauth2_github_default_provider_enable', true)
		OR coder.site_config('oauth2_github_default_eligible') IS DISTINCT FROM 'true' THEN
		RETURN NULL;
	END IF;
	RETURN nullif(coder.setting('oauth2_github_default_client_id'), '');
END
$$;

-- The client's id; NULL where there is none.
CREATE OR REPLACE FUNCTION coder.github_client()
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(nullif(coder.setting('oauth2_github_client_id'), ''), coder.github_default());
END
$$;

-- By a code to type?
CREATE OR REPLACE FUNCTION coder.github_by_device()
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.setting_bool('oauth2_github_device_flow') OR coder.github_default() IS NOT NULL;
END
$$;

-- Is it set up?
CREATE OR REPLACE FUNCTION coder.github_configured()
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.github_client() IS NOT NULL AND (coder.github_by_device() OR coalesce(coder.secret_setting('oauth2_github_client_secret'), '') <> '');
END
$$;

-- A URL of GitHub's pages, or of its API.
CREATE OR REPLACE FUNCTION coder.github_url(path text, api bool DEFAULT false)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	enterprise CONSTANT text := rtrim(coalesce(coder.setting('oauth2_github_enterprise_base_url'), ''), '/');
BEGIN
	RETURN CASE WHEN enterprise <> '' THEN enterprise || CASE WHEN api THEN '/api/v3' ELSE '' END
		WHEN api THEN 'https://api.github.com' ELSE 'https://github.com' END || path;
END
$$;

-- A request to GitHub's API for the user of a token; source: what it is counted as.
CREATE OR REPLACE FUNCTION coder.github_get(token text, path text, source text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.fetch_counted(coder.fetch_get(coder.github_url(path, true), jsonb_build_object('Authorization', 'Bearer ' || token,
		'Accept', 'application/vnd.github+json')), 'github-login', source);
END
$$;

-- GET /users/oauth2/github/callback
CREATE OR REPLACE FUNCTION coder.github_callback(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	device CONSTANT bool := coder.github_by_device();
	id CONSTANT text := coder.github_client();
	back CONSTANT text := rtrim(coder.setting('access_url'), '/') || '/api/v2/users/oauth2/github/callback';
	code CONSTANT text := coalesce(req.query->>'code', '');
	verifier text;
BEGIN
	IF NOT coder.github_configured() THEN
		PERFORM coder.raise(400, 'The oauth2 method requested is not configured!');
	END IF;
	PERFORM coder.oauth_check_error(req);
	IF code = '' AND device THEN
		RETURN coder.oauth_begin(req, '/login/device', true, false);
	ELSIF code = '' THEN
		RETURN coder.oauth_begin(req, coder.url_with(coder.github_url('/login/oauth/authorize'), jsonb_build_object('response_type', 'code',
			'client_id', id, 'redirect_uri', back, 'scope', 'read:user read:org user:email')), true, false);
	END IF;
	verifier := coder.oauth_check_state(req, NOT device);
	RETURN coder.fetch('github_exchanged', 'null', coder.fetch_counted(coder.fetch_form(coder.github_url('/login/oauth/access_token'), CASE WHEN device
		THEN jsonb_build_object('client_id', id, 'device_code', code, 'grant_type', 'urn:ietf:params:oauth:grant-type:device_code')
		ELSE jsonb_build_object('client_id', id, 'client_secret', coder.secret_setting('oauth2_github_client_secret'), 'code', code,
			'redirect_uri', back, 'code_verifier', verifier, 'grant_type', 'authorization_code') END), 'github-login', 'Exchange'));
END
$$;

-- There is a token: who is it, and where a member?
CREATE OR REPLACE FUNCTION coder.github_exchanged(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.try_json((coder.fetched(req)).results->0->>'body');
	token jsonb;
BEGIN
	IF coder.github_by_device() AND body->>'error' IN ('slow_down', 'expired_token', 'access_denied') THEN
		PERFORM coder.raise(400, 'Failed exchanging Oauth code.', body->>'error');
	END IF;
	token := coder.oauth_token((coder.fetched(req)).results->0);
	RETURN coder.fetch('github_known', token, coder.github_get(token->>'access_token', '/user', 'GitAPIAuthUser'),
		coder.github_get(token->>'access_token', '/user/emails?per_page=100', 'GitAPIListEmails'),
		coder.github_get(token->>'access_token', '/user/memberships/orgs?state=active&per_page=100', 'GitAPIOrgMemberships'));
END
$$;

-- The body of a result that is an array; 500 for anything else.
CREATE OR REPLACE FUNCTION coder.github_array(result jsonb, message text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := CASE WHEN (result->>'status')::int4 = 200 THEN coder.try_json(result->>'body') END;
BEGIN
	IF jsonb_typeof(body) IS DISTINCT FROM 'array' THEN
		PERFORM coder.raise(500, message, coder.fetched_error(result));
	END IF;
	RETURN body;
END
$$;

-- The user may not sign in: back to the login page, which shows why; or JSON for a page that polls.
CREATE OR REPLACE FUNCTION coder.github_refuse(message text)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coder.github_by_device() THEN
		PERFORM coder.raise(401, message);
	END IF;
	RETURN coder.signin_page(401, 'Not allowed to sign in', message);
END
$$;

-- GitHub has told who it is: organizations, address, and then teams must be among those that may.
CREATE OR REPLACE FUNCTION coder.github_known(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	token CONSTANT jsonb := (coder.fetched(req)).state;
	results CONSTANT jsonb := (coder.fetched(req)).results;
	who jsonb := coder.fetched_object(results->0);
	emails jsonb;
	orgs text[];
	teams jsonb[];
BEGIN
	IF coalesce(who->>'id', '') !~ '^[1-9][0-9]{0,17}$' OR jsonb_typeof(who->'login') IS DISTINCT FROM 'string' OR who->>'login' !~ '^[A-Za-z0-9_-]{1,100}$' THEN
		PERFORM coder.raise(500, 'Internal error fetching authenticated Github user.', coder.fetched_error(results->0));
	END IF;
	emails := coder.github_array(results->1, 'Internal error fetching personal Github user.');
	emails := coalesce((SELECT jsonb_agg(e.v ORDER BY (e.v->>'primary' = 'true') DESC) FROM jsonb_array_elements(emails) e (v)
		WHERE e.v->>'verified' = 'true' AND coder.email_ok(coalesce(e.v->>'email', ''))), '[]');
	IF coalesce(emails->0->>'primary', '') <> 'true' THEN
		PERFORM coder.raise(400, 'Your primary email must be verified on GitHub!');
	END IF;
	who := jsonb_build_object('linked_id', who->>'id', 'email', emails->0->>'email', 'emails', jsonb_path_query_array(emails, '$[*].email'),
		'username', coder.username_from(replace(who->>'login', '_', '-')), 'login', who->>'login', 'name', coder.claim_text(who, 'name'),
		'avatar_url', coder.claim_text(who, 'avatar_url'), 'allow_signups', coder.setting_bool('oauth2_github_allow_signups'),
		'device', coder.github_by_device());
	IF coder.setting_bool('oauth2_github_allow_everyone') OR coder.github_default() IS NOT NULL THEN
		RETURN coder.oauth_login(req, 'github', who, token, '{}', '{}');
	END IF;
	SELECT array_agg(lower(m.v->'organization'->>'login')) INTO orgs
	  FROM jsonb_array_elements(coder.github_array(results->2, 'Internal error fetching authenticated Github user organizations.')) m (v)
	 WHERE m.v->>'state' = 'active';
	IF NOT coalesce(orgs && ARRAY(SELECT lower(o) FROM unnest(coder.setting_list('oauth2_github_allowed_orgs')) o), false) THEN
		RETURN coder.github_refuse('You aren''t a member of the authorized Github organizations!');
	ELSIF coder.setting_list('oauth2_github_allowed_teams') = '{}' THEN
		RETURN coder.oauth_login(req, 'github', who, token, '{}', '{}');
	END IF;
	teams := ARRAY(SELECT coder.github_get(token->>'access_token', format('/orgs/%s/teams/%s/memberships/%s',
			coder.url_encode(split_part(t, '/', 1)), coder.url_encode(split_part(t, '/', 2)), who->>'login'), 'GitAPITeamMemberships')
		FROM unnest(coder.setting_list('oauth2_github_allowed_teams')) t WHERE lower(split_part(t, '/', 1)) = ANY (orgs) LIMIT 16);
	IF teams = '{}' THEN
		RETURN coder.github_refuse('You aren''t a member of an authorized team!');
	END IF;
	RETURN coder.fetch('github_teams', jsonb_build_object('who', who, 'token', token), VARIADIC teams);
END
$$;

-- One membership of a team that may sign in is enough.
CREATE OR REPLACE FUNCTION coder.github_teams(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	state CONSTANT jsonb := (coder.fetched(req)).state;
BEGIN
	IF NOT EXISTS (SELECT 1 FROM jsonb_array_elements((coder.fetched(req)).results) r (v) WHERE coder.fetched_object(r.v)->>'state' = 'active') THEN
		RETURN coder.github_refuse('You aren''t a member of an authorized team!');
	END IF;
	RETURN coder.oauth_login(req, 'github', state->'who', state->'token', '{}', '{}');
END
$$;

-- GET /users/oauth2/github/device: a code for the user to type at GitHub.
CREATE OR REPLACE FUNCTION coder.github_device(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT coder.github_configured() THEN
		PERFORM coder.raise(400, 'Github OAuth2 is not enabled.');
	ELSIF NOT coder.github_by_device() THEN
		PERFORM coder.raise(400, 'Device flow is not enabled for Github OAuth2.');
	END IF;
	RETURN coder.fetch('device_offered', '{}', coder.fetch_counted(coder.fetch_form(coder.github_url('/login/device/code'), jsonb_build_object(
		'client_id', coder.github_client(), 'scope', 'read:user read:org user:email')), 'github-login', 'AuthorizeDevice'));
END
$$;

-- A provider has offered a code for a device: ExternalAuthDevice.
CREATE OR REPLACE FUNCTION coder.device_offered(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result CONSTANT jsonb := (coder.fetched(req)).results->0;
	body jsonb := coder.try_json(result->>'body');
BEGIN
	IF jsonb_typeof(body) IS DISTINCT FROM 'object' AND result->'headers'->>'content-type' ~ '^application/x-www-form-urlencoded' THEN
		body := coder.form_decode(left(result->>'body', 65536));
	END IF;
	IF jsonb_typeof(body) IS DISTINCT FROM 'object' OR coalesce(body->>'device_code', '') = '' OR coalesce(body->>'user_code', '') = '' THEN
		PERFORM coder.raise(500, 'Failed to authorize device.', coalesce(left(coalesce(body->>'error_description', body->>'error'), 1000),
			coder.fetched_error(result)));
	END IF;
	RETURN coder.reply(200, jsonb_build_object('device_code', body->>'device_code', 'user_code', body->>'user_code',
		'verification_uri', coalesce(body->>'verification_uri', body->>'verification_url', ''),
		'expires_in', CASE WHEN body->>'expires_in' ~ '^[0-9]{1,9}$' THEN (body->>'expires_in')::int4 ELSE 900 END,
		'interval', CASE WHEN body->>'interval' ~ '^[0-9]{1,6}$' THEN (body->>'interval')::int4 ELSE 5 END));
END
$$;
